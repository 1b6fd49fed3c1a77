//! Goes through the scenarios, compares results with expectations, and counts.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value as Json};

use crate::steps::World;
use crate::values::{as_integer, only, resolve, same, shown};

/// What happened at one door.
#[derive(Default)]
struct Counts {
    executed: u64,
    steps: u64,
    checks: u64,
    failed: u64,
}

/// Runs every scenario of the file; false if one failed. An error where it is no such file.
pub fn run(file: &Json) -> Result<bool, String> {
    let top = file.as_object().ok_or("the file is no object")?;
    only(top, &["scenarios"])?;
    let entries = file["scenarios"].as_array().ok_or("scenarios is no list")?;
    let mut doors: BTreeMap<String, Counts> = BTreeMap::new();
    for entry in entries {
        let door = entry["door"].as_str().unwrap_or("unknown");
        let name = entry["name"].as_str().unwrap_or("unnamed");
        let counts = doors.entry(door.to_string()).or_default();
        counts.executed += 1;
        if let Err(error) = run_one(entry, counts) {
            counts.failed += 1;
            println!("FAIL {door} {name}: {error}");
        }
    }
    for (door, c) in &doors {
        println!(
            "scenarios {door}: {} executed, {} steps, {} checks, {} failed",
            c.executed, c.steps, c.checks, c.failed
        );
    }
    Ok(!doors.is_empty() && doors.values().all(|c| c.failed == 0))
}

fn run_one(entry: &Json, counts: &mut Counts) -> Result<(), String> {
    let mut world = World::default();
    let mut saved = HashMap::new();
    let keys = entry.as_object().ok_or("it is no object")?;
    only(keys, &["name", "door", "steps"])?;
    let mut result = Ok(());
    for (i, step) in entry["steps"].as_array().ok_or("steps is no list")?.iter().enumerate() {
        counts.steps += 1;
        let mut operations = step.as_object().into_iter().flatten();
        result = match (operations.next(), operations.next()) {
            (Some((operation, keys)), None) => {
                run_step(&mut world, &mut saved, operation, keys, counts)
                    .map_err(|e| format!("step {} {operation}: {e}", i + 1))
            }
            _ => Err(format!("step {}: it is not one operation", i + 1)),
        };
        if result.is_err() {
            break;
        }
    }
    world.close();
    result
}

fn run_step(
    world: &mut World,
    saved: &mut HashMap<String, Json>,
    operation: &str,
    keys: &Json,
    counts: &mut Counts,
) -> Result<(), String> {
    let mut arguments = Map::new();
    for (key, value) in keys.as_object().into_iter().flatten() {
        arguments.insert(key.clone(), resolve(value, saved)?);
    }
    let arguments = Json::Object(arguments);
    let result = world.call(operation, &arguments)?;
    match (result.get("error"), arguments.get("expected_error")) {
        (Some(error), None) => {
            let detail = result.get("error_detail").and_then(Json::as_str).unwrap_or_default();
            return Err(format!("failed with {}: {detail}", shown(error)));
        }
        (None, Some(expected)) => {
            counts.checks += 1;
            return Err(format!("succeeded; expected_error is {}", shown(expected)));
        }
        _ => {}
    }
    for (key, expected) in arguments.as_object().into_iter().flatten() {
        // The one argument whose name begins like an expectation.
        if key.starts_with("expected_") && key != "expected_offset" {
            counts.checks += 1;
            check(key, expected, &result)?;
        }
    }
    for (key, name) in arguments.as_object().into_iter().flatten() {
        if let Some(field) = key.strip_prefix("save_") {
            let value = result.get(field).ok_or_else(|| format!("there is no {field} to save"))?;
            saved.insert(name.as_str().unwrap_or_default().to_string(), value.clone());
        }
    }
    Ok(())
}

fn check(key: &str, expected: &Json, result: &Map<String, Json>) -> Result<(), String> {
    let field = key.trim_start_matches("expected_");
    let (field, holds): (&str, fn(&Json, &Json) -> bool) =
        if let Some(field) = field.strip_suffix("_contains") {
            (field, contains)
        } else if let Some(field) = field.strip_suffix("_at_least") {
            (field, at_least)
        } else {
            (field, same)
        };
    match result.get(field) {
        Some(actual) if holds(expected, actual) => Ok(()),
        Some(actual) => Err(format!("{key} is {}, but it is {}", shown(expected), shown(actual))),
        None => Err(format!("{key}: the result has no {field}")),
    }
}

fn contains(expected: &Json, actual: &Json) -> bool {
    match (expected, actual) {
        (Json::String(part), Json::String(text)) => text.contains(part.as_str()),
        (item, Json::Array(items)) => items.iter().any(|other| same(item, other)),
        _ => false,
    }
}

fn at_least(expected: &Json, actual: &Json) -> bool {
    match (as_integer(expected), as_integer(actual)) {
        (Some(expected), Some(actual)) => actual >= expected,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A key that the runner does not know fails it, at every level.
    #[test]
    fn refuses_unknown_keys() {
        assert!(run(&json!({"scenarios": [], "more": 1})).is_err());
        assert!(run(&json!({"scenario": []})).is_err());
        let connect = json!({"connect": {"client": "main", "addresses": ["memory:"], "tenant": 1,
            "token": "", "options": {}}});
        let create = json!({"create_stream": {"name": "s", "data_class": "PHI"}});
        let passes = |entry: Json| run(&json!({ "scenarios": [entry] }));
        let entry = |step: Json| json!({"name": "a", "door": "embedded", "steps": [connect.clone(), create.clone(), step]});
        let good = json!({"append": {"stream": "s", "events": [{"hex": "61", "times": 2}]}});
        assert_eq!(passes(entry(good.clone())), Ok(true));
        let mut more = entry(good);
        more["setup"] = json!([]);
        assert_eq!(passes(more), Ok(false));
        for step in [
            json!({"append": {"stream": "s", "events": [{"hex": "61"}]}, "read": {"stream": "s"}}),
            json!({"append": {"stream": "s", "events": [{"hex": "61"}], "event": 1}}),
            json!({"append": {"stream": "s", "events": [{"hex": "61", "time": 2}]}}),
            json!({"query": {"sql": "SELECT ?", "params": [{"int": "1", "hex": "61"}]}}),
            json!({"query": {"sql": "SELECT ?", "params": [{"float": 1.0, "x": 1}]}}),
            json!({"verify": {"stream": "s", "expected_counts": 0}}),
            json!({"verify": {"stream": "s", "save_heads": "h"}}),
            json!({"verify": {"stream": "$id"}}),
            json!({"create_stream": {"name": "t", "data_class": "NonPHi"}}),
        ] {
            assert_eq!(passes(entry(step.clone())), Ok(false), "{step}");
        }
    }
}
