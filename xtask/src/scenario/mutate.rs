//! Makes expectations false, one at a time: a runner that checks fails every such mutant.

use serde_json::{Map, Value as Json, json};

use super::language::{Role, Shape};

/// Larger than any position, time or offset that a scenario meets.
const HUGE: &str = "9223372036854775807";

/// The places of a rendered entry's expectations: step and key.
pub fn expectations(entry: &Json) -> Vec<(usize, String)> {
    let mut places = Vec::new();
    for (i, step) in entry["steps"].as_array().into_iter().flatten().enumerate() {
        for (operation, keys) in step.as_object().into_iter().flatten() {
            let Some(shape) = Shape::find(operation) else { continue };
            for key in keys.as_object().into_iter().flat_map(Map::keys) {
                let role = shape.role(key);
                if matches!(role, Some(Role::Equal(_) | Role::Contains(_) | Role::AtLeast)) {
                    places.push((i, key.clone()));
                }
            }
        }
    }
    places
}

/// A copy of the entry in which this one expectation is false, named after the place.
pub fn mutant(entry: &Json, place: &(usize, String)) -> Option<Json> {
    let (step, key) = place;
    let mut copy = entry.clone();
    let keys = copy["steps"][*step].as_object_mut()?;
    let (operation, keys) = keys.iter_mut().next()?;
    let (operation, shape) = (operation.clone(), Shape::find(operation)?);
    let value = keys.get_mut(key)?;
    *value = match shape.role(key)? {
        Role::AtLeast => json!({ "int": HUGE }),
        Role::Contains(_) if value.is_string() => json!("\u{1}never in a text"),
        Role::Contains(_) => json!({ "int": HUGE }),
        _ if key == "expected_error" => {
            json!(if value == "INTERNAL" { "UNKNOWN" } else { "INTERNAL" })
        }
        _ => falsified(value),
    };
    let name = entry["name"].as_str()?;
    copy["name"] = json!(format!("{name}@{}.{operation}.{key}", step + 1));
    Some(copy)
}

/// A place where a key may be misspelt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Beside the entry's name, door and steps.
    Entry,
    /// Beside the operation of this step.
    Step(usize),
    /// Among the arguments of this step, of this operation.
    Arguments(usize, String),
    /// Inside a value of this step: the argument, the index in its list, the value's first key.
    Value(usize, String, usize, String),
}

impl Place {
    /// The same for places of which a runner treats one like the other.
    pub fn kind(&self) -> String {
        match self {
            Place::Entry => "scenario".into(),
            Place::Step(_) => "step".into(),
            Place::Arguments(_, operation) => operation.clone(),
            Place::Value(_, _, _, form) => format!("value {form}"),
        }
    }
}

/// The places of a rendered entry where a key could stand that nobody knows.
pub fn keys(entry: &Json) -> Vec<Place> {
    let mut places = vec![Place::Entry];
    for (i, step) in entry["steps"].as_array().into_iter().flatten().enumerate() {
        places.push(Place::Step(i));
        for (operation, keys) in step.as_object().into_iter().flatten() {
            places.push(Place::Arguments(i, operation.clone()));
            for (key, value) in keys.as_object().into_iter().flatten() {
                // What a step expects is compared as it stands, so that no runner looks into it.
                let items = value.as_array().filter(|_| ["events", "params"].contains(&&**key));
                for (at, item) in items.into_iter().flatten().enumerate() {
                    let form = item.as_object().and_then(|form| form.keys().next());
                    places.extend(form.map(|form| Place::Value(i, key.clone(), at, form.clone())));
                }
            }
        }
    }
    places
}

/// A copy of the entry with a key there that nobody knows, named after the place.
pub fn misspelt(entry: &Json, place: &Place) -> Option<Json> {
    let mut copy = entry.clone();
    let object = match place {
        Place::Entry => &mut copy,
        Place::Step(step) => &mut copy["steps"][*step],
        Place::Arguments(step, operation) => &mut copy["steps"][*step][operation],
        Place::Value(step, key, at, _) => {
            let (_, keys) = copy["steps"][*step].as_object_mut()?.iter_mut().next()?;
            &mut keys[key][*at]
        }
    };
    object.as_object_mut()?.insert("zz_misspelt".into(), json!({}));
    let name = entry["name"].as_str()?;
    copy["name"] = json!(format!("{name}@misspelt.{}", place.kind().replace(' ', "_")));
    Some(copy)
}

/// Another value of the same type; of a list, the last element is falsified.
fn falsified(value: &Json) -> Json {
    match value {
        Json::Null => json!(7),
        Json::Bool(b) => json!(!b),
        Json::Number(n) => json!(n.as_i64().unwrap_or(0) + 1),
        // What a reference stands for is known only while the scenario runs; it is never null.
        Json::String(s) if s.starts_with('$') => Json::Null,
        Json::String(s) => json!(format!("{s}-mutant")),
        Json::Array(items) => match items.split_last() {
            None => json!([0]),
            Some((last, first)) => {
                let mut items = first.to_vec();
                items.push(falsified(last));
                Json::Array(items)
            }
        },
        Json::Object(map) if map.contains_key("hex") => {
            let digits = map.get("hex").and_then(Json::as_str).unwrap_or_default();
            json!({ "hex": format!("{digits}00") })
        }
        Json::Object(map) if map.contains_key("float") => {
            json!({ "float": map.get("float").and_then(Json::as_f64).map_or(1.0, |f| -f - 1.0) })
        }
        Json::Object(_) => json!(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that nobody knows is put at every level, one at a time.
    #[test]
    fn misspells_at_every_level() {
        let entry = json!({"name": "s", "door": "embedded", "steps": [
            {"append": {"stream": "s", "events": [{"hex": "61"}, {"hex": "62", "times": 3}]}},
            {"query": {"params": [1, {"float": 1.5}], "expected_values": [[{"float": 1.5}]]}}]});
        let places = keys(&entry);
        let kinds: Vec<String> = places.iter().map(Place::kind).collect();
        assert_eq!(
            kinds,
            [
                "scenario",
                "step",
                "append",
                "value hex",
                "value hex",
                "step",
                "query",
                "value float"
            ]
        );
        for place in &places {
            let mutant = misspelt(&entry, place).unwrap().to_string();
            assert_eq!(mutant.matches("zz_misspelt").count(), 1, "{mutant}");
        }
    }

    /// Each expectation yields one mutant that differs from the entry just there and in its name.
    #[test]
    fn one_mutant_for_each_expectation() {
        let entry = json!({"name": "s", "door": "embedded", "steps": [
            {"append": {"stream": "s", "expected_offset": 1, "expected_error": "CLOSED",
                        "expected_error_detail_contains": "x"}},
            {"read": {"expected_count": 2, "expected_events": [{"hex": "61"}, {"hex": "62"}]}},
            {"query": {"expected_values": [[1], ["$x"]], "expected_position_at_least": "$p",
                       "save_position": "q"}}]});
        let places = expectations(&entry);
        assert_eq!(places.len(), 6);
        for place in &places {
            let mutant = mutant(&entry, place).unwrap();
            assert_ne!(mutant["name"], entry["name"]);
            for (i, step) in entry["steps"].as_array().unwrap().iter().enumerate() {
                assert_eq!(mutant["steps"][i] != *step, i == place.0, "{mutant}");
            }
        }
        let read = mutant(&entry, &(1, "expected_events".into())).unwrap();
        assert_eq!(
            read["steps"][1]["read"]["expected_events"],
            json!([{"hex": "61"}, {"hex": "6200"}])
        );
    }
}
