//! Renders scenarios into the plain JSON that runners read: one form for every value, addresses,
//! tenants and tokens filled in, so that a runner knows nothing about doors.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};
use serde_yaml_ng::{Mapping, Value as Yaml};

use super::file::{Door, Scenario, Step};
use super::language::{Kind, Role};

/// Tenants that one rendered scenario may use; its own are multiples of this apart.
pub const TENANTS_EACH: u64 = 100;

/// Integers beyond this do not survive a JSON reader that holds numbers as floats.
const SAFE_INTEGER: i128 = 1 << 53;

/// The tenants that the rendered scenario at this index finds on a server.
pub fn tenants_of(index: u64) -> [u64; 2] {
    [base(index) + 1, base(index) + 2]
}

fn base(index: u64) -> u64 {
    (index + 1) * TENANTS_EACH
}

/// Where the server stands and which token belongs to which name.
pub struct ServerPlace {
    pub address: String,
    pub tokens: HashMap<String, String>,
}

/// One rendered scenario's place in the list.
pub struct Entry<'a> {
    pub scenario: &'a Scenario,
    pub door: Door,
    /// From 0; gives it tenants of its own.
    pub index: u64,
}

impl Entry<'_> {
    fn tenant(&self, number: u64) -> u64 {
        // 0 stays 0: that it is no tenant is what a scenario shows with it.
        if number == 0 { 0 } else { base(self.index) + number }
    }

    /// The entry's JSON. `server` is needed for that door only.
    pub fn render(&self, server: Option<&ServerPlace>) -> Result<Json, String> {
        let renderer = Renderer { entry: self, server };
        let mut steps =
            vec![json!({ "connect": renderer.connect(vec![("client".into(), "main".into())])? })];
        for (i, step) in self.scenario.steps.iter().enumerate() {
            let rendered = renderer.step(step).map_err(|e| {
                format!("scenario {}, step {} (setup included): {e}", self.scenario.name, i + 1)
            })?;
            steps.push(rendered);
        }
        Ok(json!({ "name": self.scenario.name, "door": self.door.name(), "steps": steps }))
    }
}

struct Renderer<'a> {
    entry: &'a Entry<'a>,
    server: Option<&'a ServerPlace>,
}

impl Renderer<'_> {
    fn step(&self, step: &Step) -> Result<Json, String> {
        let keys = if step.shape.name == "connect" {
            self.connect(step.keys.clone())?
        } else {
            self.keys(step, &step.keys)?
        };
        Ok(json!({ step.shape.name: keys }))
    }

    fn keys(&self, step: &Step, keys: &[(String, Yaml)]) -> Result<Json, String> {
        let mut out = Map::new();
        for (key, value) in keys {
            let role = step.shape.role(key).ok_or_else(|| format!("there is no key {key:?}"))?;
            let kind = match role {
                Role::Argument(kind) | Role::Equal(kind) | Role::Contains(kind) => kind,
                Role::AtLeast => Kind::Number,
                Role::Save => Kind::Text,
            };
            let value =
                self.value(kind, value).map_err(|e| format!("{}.{key}: {e}", step.shape.name))?;
            out.insert(key.clone(), value);
        }
        Ok(Json::Object(out))
    }

    /// A connect step with every default filled in.
    fn connect(&self, mut keys: Vec<(String, Yaml)>) -> Result<Json, String> {
        let shape = super::language::Shape::find("connect").ok_or("the language lost connect")?;
        if !keys.iter().any(|(key, _)| key == "client") {
            return Err("connect needs `client`, the name of the new client".into());
        }
        let defaults = [
            ("tenant", Yaml::from(1)),
            ("token", Yaml::from("admin")),
            ("addresses", Yaml::Sequence(vec![Yaml::from(self.address()?)])),
            ("options", Yaml::Mapping(Default::default())),
        ];
        for (name, value) in defaults {
            if !keys.iter().any(|(key, _)| key == name) {
                keys.push((name.into(), value));
            }
        }
        self.keys(&Step { shape, keys: Vec::new() }, &keys)
    }

    fn address(&self) -> Result<String, String> {
        match self.entry.door {
            Door::Embedded => {
                Ok(format!("memory:{}_{}", self.entry.scenario.name, self.entry.index))
            }
            Door::Server => self
                .server
                .map(|place| place.address.clone())
                .ok_or_else(|| "a server is needed".to_string()),
        }
    }

    fn value(&self, kind: Kind, value: &Yaml) -> Result<Json, String> {
        if value.as_str().is_some_and(|text| text.starts_with('$')) || value.is_null() {
            return plain(value);
        }
        match kind {
            Kind::Text => Ok(Json::String(text(value)?)),
            Kind::Token => {
                let name = text(value)?;
                let token = self.server.and_then(|place| place.tokens.get(&name)).cloned();
                let embedded = self.entry.door == Door::Embedded;
                Ok(Json::String(if embedded { String::new() } else { token.unwrap_or(name) }))
            }
            Kind::Tenant => {
                let number = value.as_u64().filter(|n| *n < TENANTS_EACH);
                let number = number.ok_or("a tenant is a number from 0 to 99")?;
                Ok(self.entry.tenant(number).into())
            }
            Kind::Number if !value.is_number() => Err("it must be a number or a reference".into()),
            Kind::Bool if !value.is_bool() => Err("it must be true or false".into()),
            Kind::DataClass | Kind::Stream if !value.is_number() && !value.is_string() => {
                Err("it must be a name or a number".into())
            }
            Kind::Number | Kind::Bool | Kind::DataClass | Kind::Stream => plain(value),
            Kind::Data => data(value),
            Kind::Value => sql_value(value),
            Kind::Options => match value {
                Yaml::Mapping(options) => options
                    .iter()
                    .map(|(name, value)| Ok((text(name)?, plain(value)?)))
                    .collect::<Result<Map<String, Json>, String>>()
                    .map(Json::Object),
                _ => Err("it must be a map of options".into()),
            },
            Kind::List(inner) => self.list(*inner, value),
        }
    }

    fn list(&self, inner: Kind, value: &Yaml) -> Result<Json, String> {
        let items = value.as_sequence().ok_or("it must be a list")?;
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let copies =
                item.as_mapping().and_then(|m| m.get("copies")).filter(|_| inner == Kind::Data);
            let Some(copies) = copies else {
                out.push(self.value(inner, item)?);
                continue;
            };
            item.as_mapping().map_or(Ok(()), |map| only(map, &["copies", "of"]))?;
            let copies = copies.as_u64().filter(|n| *n <= 1_000_000);
            let copies = copies.ok_or("copies is a number up to 1000000")?;
            let of = item.as_mapping().and_then(|m| m.get("of")).ok_or("copies needs `of`")?;
            let one = self.value(inner, of)?;
            out.extend(std::iter::repeat_n(one, usize::try_from(copies).unwrap_or(0)));
        }
        Ok(Json::Array(out))
    }
}

/// A value as it stands: numbers, texts, truth values, null.
fn plain(value: &Yaml) -> Result<Json, String> {
    match value {
        Yaml::Null => Ok(Json::Null),
        Yaml::Bool(b) => Ok((*b).into()),
        Yaml::String(s) => Ok(s.clone().into()),
        Yaml::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), _, _) => Ok(integer(n.into())),
            (_, Some(n), _) => Ok(integer(n.into())),
            (_, _, Some(f)) if f.is_finite() => Ok(json!({ "float": f })),
            _ => Err(format!("{n} has no form in JSON")),
        },
        _ => Err("it must be a text, a number, a truth value or null".into()),
    }
}

fn integer(n: i128) -> Json {
    if (-SAFE_INTEGER..=SAFE_INTEGER).contains(&n) {
        // The range fits an i64.
        Json::from(n as i64)
    } else {
        json!({ "int": n.to_string() })
    }
}

/// A text, written out where it repeats.
fn text(value: &Yaml) -> Result<String, String> {
    if let Some((repeat, times)) = repeated(value)? {
        return Ok(repeat.repeat(times));
    }
    value.as_str().map(str::to_string).ok_or_else(|| "it must be a text".into())
}

fn repeated(value: &Yaml) -> Result<Option<(&str, usize)>, String> {
    let Some(map) = value.as_mapping().filter(|map| map.contains_key("repeat")) else {
        return Ok(None);
    };
    only(map, &["repeat", "times"])?;
    let repeat = map.get("repeat").and_then(Yaml::as_str).ok_or("repeat needs a text")?;
    let times = map.get("times").and_then(Yaml::as_u64).filter(|n| *n <= 100_000_000);
    let times = times.ok_or("repeat needs `times`, a number up to 100000000")?;
    Ok(Some((repeat, usize::try_from(times).unwrap_or(0))))
}

/// Fails on a key that a value of this form does not have.
fn only(map: &Mapping, known: &[&str]) -> Result<(), String> {
    let mut names = map.keys().map(|key| key.as_str().unwrap_or("a key that is no text"));
    match names.find(|name| !known.contains(name)) {
        Some(name) => Err(format!("there is no key {name:?} beside {}", known.join(" and "))),
        None => Ok(()),
    }
}

fn data(value: &Yaml) -> Result<Json, String> {
    if let Some((repeat, times)) = repeated(value)? {
        return Ok(json!({ "hex": hex(repeat.as_bytes()), "times": times }));
    }
    if let Some((map, digits)) = value.as_mapping().and_then(|map| Some((map, map.get("hex")?))) {
        only(map, &["hex"])?;
        let digits = digits.as_str().ok_or("hex needs a text in quotes")?;
        let fits =
            digits.len() % 2 == 0 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        return if fits {
            Ok(json!({ "hex": digits }))
        } else {
            Err(format!("{digits:?} is not an even number of hexadecimal digits in lower case"))
        };
    }
    let text = value.as_str().ok_or("data is a text, {hex: …} or {repeat: …, times: …}")?;
    Ok(json!({ "hex": hex(text.as_bytes()) }))
}

fn sql_value(value: &Yaml) -> Result<Json, String> {
    match value {
        Yaml::Mapping(map) if map.contains_key("repeat") => Ok(Json::String(text(value)?)),
        Yaml::Mapping(_) => data(value),
        _ => plain(value),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file::parse;

    fn rendered(steps: &str) -> Result<Json, String> {
        let scenarios = parse(&format!("scenarios:\n  - name: s\n    steps: [{steps}]\n"))?;
        Entry { scenario: &scenarios[0], door: Door::Embedded, index: 2 }.render(None)
    }

    /// Every value reaches the runners in one form, whatever the YAML looked like.
    #[test]
    fn one_form_for_every_value() {
        let entry = rendered(
            r#"{append: {stream: s, events: [ab, "", {hex: "00ff"}, {repeat: x, times: 9}, {copies: 2, of: c}]}},
               {query: {sql: {repeat: " ", times: 3}, params: [1, -9007199254740993, 1.0, t, {hex: "00"}, null, true]}},
               {create_tenant: {tenant: 5}}, {create_tenant: {tenant: 0}}"#,
        )
        .unwrap();
        let steps = &entry["steps"];
        assert_eq!(
            steps[0]["connect"],
            json!({"client": "main", "tenant": 301, "token": "", "addresses": ["memory:s_2"], "options": {}})
        );
        assert_eq!(
            steps[1]["append"]["events"],
            json!([{"hex": "6162"}, {"hex": ""}, {"hex": "00ff"}, {"hex": "78", "times": 9}, {"hex": "63"}, {"hex": "63"}])
        );
        assert_eq!(
            steps[2]["query"],
            json!({"sql": "   ", "params": [1, {"int": "-9007199254740993"}, {"float": 1.0}, "t", {"hex": "00"}, null, true]})
        );
        assert_eq!(steps[3]["create_tenant"]["tenant"], 305);
        assert_eq!(steps[4]["create_tenant"]["tenant"], 0);
    }

    /// Values of the wrong kind are named with their key.
    #[test]
    fn names_values_of_the_wrong_kind() {
        for (steps, wanted) in [
            ("{append: {stream: s, events: x}}", "append.events"),
            ("{append: {stream: s, events: [{hex: \"0\"}]}}", "hexadecimal"),
            ("{read: {stream: s, max_events: many}}", "read.max_events"),
            ("{connect: {tenant: 1}}", "client"),
            ("{connect: {client: c, tenant: 100}}", "0 to 99"),
            ("{append: {stream: s, events: [{hex: \"00\", time: 2}]}}", "\"time\""),
            ("{append: {stream: s, events: [{repeat: x, times: 2, of: 3}]}}", "\"of\""),
            ("{append: {stream: s, events: [{copies: 2, of: x, times: 3}]}}", "\"times\""),
        ] {
            let error = rendered(steps).err().unwrap_or_default();
            assert!(error.contains(wanted), "{steps:?} gave {error:?}");
        }
    }
}
