//! What a scenario's values must fit beside their keys: the contract's names, and what earlier steps
//! saved.

use std::collections::HashSet;

use serde_yaml_ng::Value;

use super::file::{Scenario, Step};
use super::language::{Kind, Role};
use crate::contract::Contract;

/// The names of the contract that a scenario may use.
pub struct Names {
    data_classes: Vec<String>,
    errors: Vec<String>,
}

impl Names {
    pub fn of(contract: &Contract) -> Names {
        let classes = contract.enums.iter().filter(|e| e.name == "DataClass");
        let errors = contract.errors.iter().filter(|e| e.number != 0);
        Names {
            data_classes: classes.flat_map(|e| e.values.iter()).map(|v| v.name.clone()).collect(),
            errors: errors.map(|e| e.name.clone()).collect(),
        }
    }

    /// Fails on the first name that is not the contract's, and on the first reference to what no
    /// earlier step saved.
    pub fn check(&self, scenarios: &[Scenario]) -> Result<(), String> {
        for scenario in scenarios {
            let mut saved = HashSet::new();
            for (i, step) in scenario.steps.iter().enumerate() {
                self.step(step, &saved).map_err(|e| {
                    let operation = step.shape.name;
                    format!(
                        "scenario {}, step {} (setup included), {operation}.{e}",
                        scenario.name,
                        i + 1
                    )
                })?;
                let saves = step.keys.iter().filter(|(key, _)| is_save(step, key));
                saved.extend(saves.filter_map(|(_, name)| name.as_str()));
            }
        }
        Ok(())
    }

    fn step(&self, step: &Step, saved: &HashSet<&str>) -> Result<(), String> {
        for (key, value) in &step.keys {
            let wrong = if is_save(step, key) {
                (!value.as_str().is_some_and(is_name))
                    .then(|| "it must be a name: letters, digits and _".to_string())
            } else if key == "expected_error" {
                unknown("error", value, &self.errors)
            } else if key == "expected_data_class"
                || step.shape.role(key) == Some(Role::Argument(Kind::DataClass))
            {
                unknown("data class", value, &self.data_classes)
            } else {
                None
            };
            match wrong {
                Some(wrong) => return Err(format!("{key}: {wrong}")),
                None if is_save(step, key) => {}
                None => references(value, saved).map_err(|e| format!("{key}: {e}"))?,
            }
        }
        Ok(())
    }
}

fn is_save(step: &Step, key: &str) -> bool {
    step.shape.role(key) == Some(Role::Save)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What to say of a name that is none of those; numbers and references are not looked at.
fn unknown(what: &str, value: &Value, known: &[String]) -> Option<String> {
    let name = value.as_str().filter(|name| !name.starts_with('$'))?;
    (!known.iter().any(|other| other == name))
        .then(|| format!("there is no {what} {name:?}; there are {}", known.join(", ")))
}

fn references(value: &Value, saved: &HashSet<&str>) -> Result<(), String> {
    match value {
        Value::Sequence(items) => items.iter().try_for_each(|item| references(item, saved)),
        Value::String(text) => {
            let Some(reference) = text.strip_prefix('$') else { return Ok(()) };
            let end = reference.find(['+', '-']).unwrap_or(reference.len());
            let (name, change) = reference.split_at(end);
            if !is_name(name) || (!change.is_empty() && change.parse::<i64>().is_err()) {
                return Err(format!("{text:?} is no reference: write $name, $name+1 or $name-1"));
            }
            if !saved.contains(name) {
                return Err(format!("no earlier step saved {name:?} for {text:?}"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file::parse;

    fn checked(steps: &str) -> String {
        let names = Names {
            data_classes: ["PHI", "NonPHI"].map(String::from).to_vec(),
            errors: vec!["CLOSED".into()],
        };
        let scenarios = parse(&format!("scenarios:\n  - name: s\n    steps: [{steps}]\n"));
        scenarios.and_then(|scenarios| names.check(&scenarios)).err().unwrap_or_default()
    }

    /// A misspelt data class, error or reference is named with its scenario, step and key.
    #[test]
    fn names_what_is_misspelt() {
        for (steps, wanted) in [
            ("{create_stream: {name: a, data_class: NonPHi}}", "no data class \"NonPHi\""),
            ("{stream_info: {expected_data_class: phi}}", "PHI, NonPHI"),
            ("{close: {expected_error: CLOSE}}", "no error \"CLOSE\""),
            ("{verify: {stream: $id}}", "step 1 (setup included), verify.stream: no earlier"),
            ("{query: {sql: x, params: [1, $p+1], save_position: p}}", "\"$p+1\""),
            ("{query: {sql: x, save_position: p}}, {read: {min_position: $P}}", "step 2"),
            ("{query: {sql: x, save_position: p}}, {read: {min_position: $p+x}}", "$name+1"),
            ("{query: {sql: x, save_position: p p}}", "save_position"),
        ] {
            let error = checked(steps);
            assert!(error.starts_with("scenario s, step ") && error.contains(wanted), "{error:?}");
        }
    }

    /// What is right passes: names, numbers, and what an earlier step saved.
    #[test]
    fn takes_what_is_right() {
        let steps = "{create_stream: {name: a, data_class: PHI, save_stream_id: id}}, \
            {create_stream: {name: a, data_class: 9}}, {verify: {stream: $id+1, expected_error: CLOSED}}";
        assert_eq!(checked(steps), "");
    }
}
