//! Reads and validates a file of scenarios.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde_yaml_ng::{Mapping, Value};

use super::language::Shape;

/// A door: how a scenario reaches a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    Embedded,
    Server,
}

impl Door {
    pub const fn name(self) -> &'static str {
        match self {
            Door::Embedded => "embedded",
            Door::Server => "server",
        }
    }
}

/// A step: one operation with its keys, each of which the language knows.
pub struct Step {
    pub shape: &'static Shape,
    pub keys: Vec<(String, Value)>,
}

/// A scenario; setup and steps are one list.
pub struct Scenario {
    pub name: String,
    pub doors: Vec<Door>,
    pub steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    scenarios: Vec<RawScenario>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    name: String,
    /// For readers only.
    #[serde(default)]
    #[serde(rename = "doc")]
    _doc: Option<String>,
    #[serde(default = "both")]
    doors: Vec<Door>,
    #[serde(default)]
    setup: Vec<Mapping>,
    steps: Vec<Mapping>,
}

fn both() -> Vec<Door> {
    vec![Door::Embedded, Door::Server]
}

/// Reads a file. The error names the scenario, the step and the key.
pub fn load(path: &Path) -> Result<Vec<Scenario>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Parses the text of a file.
pub fn parse(text: &str) -> Result<Vec<Scenario>, String> {
    let file: RawFile = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    let mut names = HashSet::new();
    let mut scenarios = Vec::new();
    for raw in file.scenarios {
        let name = raw.name;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(fits) {
            return Err(format!("scenario {name:?}: names are letters, digits and _"));
        }
        if !names.insert(name.clone()) {
            return Err(format!("scenario {name}: the name stands twice"));
        }
        if raw.doors.is_empty() || raw.steps.is_empty() {
            return Err(format!("scenario {name}: it needs at least one door and one step"));
        }
        let steps: Result<Vec<Step>, String> = raw
            .setup
            .into_iter()
            .chain(raw.steps)
            .enumerate()
            .map(|(i, step)| {
                parse_step(step)
                    .map_err(|e| format!("scenario {name}, step {} (setup included): {e}", i + 1))
            })
            .collect();
        scenarios.push(Scenario { steps: steps?, name, doors: raw.doors });
    }
    if scenarios.is_empty() {
        return Err("there is no scenario".into());
    }
    Ok(scenarios)
}

fn parse_step(step: Mapping) -> Result<Step, String> {
    let mut entries = step.into_iter();
    let (Some((operation, keys)), None) = (entries.next(), entries.next()) else {
        return Err("a step is a map with one key, the operation".into());
    };
    let operation = operation.as_str().ok_or("the operation's name is not a text")?.to_string();
    let shape =
        Shape::find(&operation).ok_or_else(|| format!("there is no operation {operation:?}"))?;
    let keys = match keys {
        Value::Mapping(keys) => keys,
        Value::Null => Mapping::new(),
        _ => return Err(format!("{operation}: its value must be a map")),
    };
    let mut parsed = Vec::new();
    for (key, value) in keys {
        let key = key.as_str().ok_or_else(|| format!("{operation}: a key is not a text"))?;
        if shape.role(key).is_none() {
            return Err(format!("{operation}: there is no key {key:?}"));
        }
        parsed.push((key.to_string(), value));
    }
    Ok(Step { shape, keys: parsed })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape that users are promised is accepted as it stands.
    #[test]
    fn accepts_the_promised_shape() {
        let text = r#"
scenarios:
  - name: basic_append_read
    setup: [{create_stream: {name: test, data_class: NonPHI}}]
    steps: [{append: {stream: test, events: [event1, event2]}}, {read: {stream: test, from_offset: 0, expected_count: 2}}]
  - name: query_with_params
    setup: [{create_stream: {name: events, data_class: PHI}}, {append: {stream: events, events: [a, b, c]}}]
    steps: [{query: {sql: "SELECT COUNT(*) FROM events", expected_rows: 1}}]
"#;
        let scenarios = parse(text).unwrap();
        assert_eq!(scenarios.len(), 2);
        assert_eq!(scenarios[0].doors, [Door::Embedded, Door::Server]);
        assert_eq!(scenarios[1].steps.len(), 3);
    }

    /// A mistake is named with its scenario, step and key.
    #[test]
    fn names_mistakes() {
        let cases = [
            ("steps: [{apend: {}}]", "no operation \"apend\""),
            ("steps: [{append: {steam: x}}]", "no key \"steam\""),
            ("steps: [{append: {expected_rows: 1}}]", "no key \"expected_rows\""),
            ("steps: [{append: {}, read: {}}]", "one key"),
            ("steps: [{close: {}}, {read: 5}]", "step 2"),
            ("steps: []", "at least one"),
            ("doors: [window]\n    steps: [{close: {}}]", "window"),
            ("steps: [{read: {expected_count: 3, expected_count: 2}}]", "line 3"),
            ("steps: [{close: {}, close: {}}]", "line 3"),
            ("steps: [{close: {}}]\n    steps: [{close: {}}]", "duplicate field `steps`"),
            ("steps: [{append: {events: [{hex: \"00\", hex: \"01\"}]}}]", "line 3"),
            ("stepz: [{close: {}}]", "stepz"),
        ];
        for (text, wanted) in cases {
            let text = format!("scenarios:\n  - name: s\n    {text}\n");
            let error = parse(&text).err().unwrap_or_default();
            assert!(error.contains(wanted), "{text:?} gave {error:?}");
        }
    }
}
