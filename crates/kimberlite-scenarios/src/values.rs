//! Values of the scenario file: integers, floats and bytes in their one JSON form.

use std::collections::HashMap;

use kimberlite_client::{Value, ValueRef};
use serde_json::{Map, Value as Json, json};

/// Integers beyond this stand as `{"int": "…"}`.
const SAFE_INTEGER: i128 = 1 << 53;

/// Fails on a key that nobody knows here.
pub fn only(map: &Map<String, Json>, known: &[&str]) -> Result<(), String> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("there is no key {key:?} beside {}", known.join(", "))),
        None => Ok(()),
    }
}

/// An integer's form.
pub fn integer(n: impl Into<i128>) -> Json {
    let n = n.into();
    match i64::try_from(n) {
        Ok(small) if n.abs() <= SAFE_INTEGER => small.into(),
        _ => json!({ "int": n.to_string() }),
    }
}

/// The integer that stands here, if one does.
pub fn as_integer(value: &Json) -> Option<i128> {
    match value {
        Json::Number(n) => n.as_i64().map(i128::from),
        Json::Object(map) if map.len() == 1 => map.get("int")?.as_str()?.parse().ok(),
        _ => None,
    }
}

/// Bytes' form.
pub fn hex(bytes: &[u8]) -> Json {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    json!({ "hex": text })
}

/// The bytes that stand here.
pub fn bytes(value: &Json) -> Result<Vec<u8>, String> {
    let digits = value["hex"].as_str().ok_or_else(|| format!("{value} is not bytes"))?;
    value.as_object().map_or(Ok(()), |map| only(map, &["hex", "times"]))?;
    let mut one = Vec::with_capacity(digits.len() / 2);
    for i in (0..digits.len()).step_by(2) {
        let pair = digits.get(i..i + 2).unwrap_or_default();
        one.push(u8::from_str_radix(pair, 16).map_err(|e| format!("{pair:?}: {e}"))?);
    }
    let times = value["times"].as_u64().map_or(1, |n| usize::try_from(n).unwrap_or(0));
    Ok(one.repeat(times))
}

/// The value with references replaced and repeated bytes written out.
pub fn resolve(value: &Json, saved: &HashMap<String, Json>) -> Result<Json, String> {
    match value {
        Json::String(text) if text.starts_with('$') => reference(text, saved),
        Json::Array(items) => {
            items.iter().map(|item| resolve(item, saved)).collect::<Result<_, _>>().map(Json::Array)
        }
        Json::Object(map) if map.contains_key("times") => Ok(hex(&bytes(value)?)),
        other => Ok(other.clone()),
    }
}

/// `$name`, `$name+1` or `$name-1`.
fn reference(text: &str, saved: &HashMap<String, Json>) -> Result<Json, String> {
    let body = &text[1..];
    let end = body.find(['+', '-']).unwrap_or(body.len());
    let (name, change) = body.split_at(end);
    let value = saved.get(name).ok_or_else(|| format!("nothing was saved as {name}"))?;
    if change.is_empty() {
        return Ok(value.clone());
    }
    let change: i128 = change.parse().map_err(|e| format!("{text}: {e}"))?;
    let number = as_integer(value).ok_or_else(|| format!("{name} is not a number"))?;
    Ok(integer(number + change))
}

/// An SQL parameter.
pub fn parameter(value: &Json) -> Result<Value, String> {
    if let Some(n) = as_integer(value) {
        return i64::try_from(n).map(Value::Int64).map_err(|e| format!("{n}: {e}"));
    }
    match value {
        Json::Null => Ok(Value::Null),
        Json::Bool(b) => Ok(Value::Bool(*b)),
        Json::String(text) => Ok(Value::String(text.clone())),
        Json::Object(map) if map.contains_key("float") => {
            only(map, &["float"])?;
            let float = value["float"].as_f64();
            float.map(Value::Float64).ok_or_else(|| format!("{value} is no float"))
        }
        _ => bytes(value).map(Value::Bytes),
    }
}

/// A result's cell.
pub fn cell(value: ValueRef<'_>) -> Json {
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Int64(n) => integer(n),
        ValueRef::Float64(float) => json!({ "float": float }),
        ValueRef::String(text) => text.into(),
        ValueRef::Bytes(bytes) => hex(bytes),
        ValueRef::Bool(b) => b.into(),
    }
}

/// Whether two values are the same; floats by value, so that 2 and 2.0 do not differ in JSON.
pub fn same(expected: &Json, actual: &Json) -> bool {
    match (expected, actual) {
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) if a.contains_key("float") => {
            let float = |map: &Map<String, Json>| map.get("float")?.as_f64();
            float(a).is_some() && float(a) == float(b)
        }
        _ => expected == actual,
    }
}

/// A value as a message shows it.
pub fn shown(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}
