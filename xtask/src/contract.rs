//! The contract, spec/api.toml, as the emitters see it.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use crate::c_types;

/// The whole contract.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    pub protocol: Protocol,
    #[serde(rename = "operation")]
    pub operations: Vec<Operation>,
    #[serde(rename = "struct")]
    pub structs: Vec<Struct>,
    #[serde(rename = "enum")]
    pub enums: Vec<Enum>,
    #[serde(rename = "error")]
    pub errors: Vec<ErrorSpec>,
    #[serde(rename = "constant")]
    pub constants: Vec<Constant>,
    #[serde(rename = "limit")]
    pub limits: Vec<Limit>,
    #[serde(rename = "option")]
    pub options: Vec<ClientOption>,
    /// The functions of the C ABI.
    #[serde(rename = "function", default)]
    pub functions: Vec<Function>,
    /// The structs of the C ABI whose layout is frozen.
    #[serde(rename = "layout", default)]
    pub layouts: Vec<Layout>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    pub name: String,
    pub since: String,
    /// The C declaration; [`crate::c_types::signature`] reads it.
    pub signature: String,
    pub doc: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    pub name: String,
    pub since: String,
    /// Bytes on a 64-bit machine.
    pub size: u64,
    /// Whether it is a union: its fields share their place.
    #[serde(default)]
    pub union: bool,
    /// The C fields, in order; [`crate::c_types::placed`] reads them.
    pub fields: Vec<String>,
    pub doc: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    pub version: u16,
    pub minimum_version: u16,
    pub default_port: u16,
    pub abi_version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    pub name: String,
    pub number: u16,
    pub since: String,
    pub role: String,
    pub sent_twice: String,
    pub doc: String,
    pub request: Vec<Field>,
    pub response: Vec<Field>,
    #[serde(default)]
    pub request_payload: Option<String>,
    #[serde(default)]
    pub response_payload: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Struct {
    pub name: String,
    pub doc: String,
    pub fields: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub doc: String,
    /// The version of the protocol that brought it.
    #[serde(default = "first_version")]
    pub since: u16,
}

fn first_version() -> u16 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enum {
    pub name: String,
    pub doc: String,
    /// Whether SDKs show it; the others exist only on the wire.
    pub public: bool,
    /// What its constants are called in the C ABI; none where C never sees it.
    #[serde(default)]
    pub c_prefix: Option<String>,
    /// The C type of those.
    #[serde(default)]
    pub c_type: Option<String>,
    pub values: Vec<EnumValue>,
}

/// A number that two sides must agree on and that is no enum, error, limit or option.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    pub name: String,
    pub part: Part,
    /// u8, u32, u64, size or KmbParamType.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(deserialize_with = "number")]
    pub value: u64,
    pub since: String,
    pub doc: String,
}

/// Who needs a constant.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Every SDK.
    Abi,
    /// Only who speaks the protocol.
    Protocol,
}

/// A number, or `2^N - 1`, which TOML cannot say for 64 bits.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    use serde::de::Error;
    match toml::Value::deserialize(deserializer)? {
        toml::Value::Integer(value) => {
            u64::try_from(value).map_err(|_| D::Error::custom(format!("{value} is negative")))
        }
        toml::Value::String(text) => text
            .strip_prefix("2^")
            .and_then(|rest| rest.strip_suffix(" - 1"))
            .and_then(|bits| bits.parse::<u32>().ok())
            .filter(|bits| (1..=64).contains(bits))
            .map(|bits| u64::MAX >> (64 - bits))
            .ok_or_else(|| {
                D::Error::custom(format!("{text:?} is neither a number nor \"2^N - 1\""))
            }),
        other => Err(D::Error::custom(format!("{other} is no number"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnumValue {
    pub name: String,
    pub number: u32,
    pub doc: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorSpec {
    pub name: String,
    pub number: u32,
    pub retryable: bool,
    pub proof: String,
    pub message: String,
    pub remedy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub name: String,
    pub value: u64,
    pub doc: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientOption {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub default: toml::Value,
    #[serde(default)]
    pub minimum: Option<u64>,
    #[serde(default)]
    pub maximum: Option<u64>,
    #[serde(default)]
    pub unit: Option<String>,
    pub doc: String,
}

impl Contract {
    /// Reads and checks spec/api.toml below `root`.
    pub fn load(root: &Path) -> Result<Contract, String> {
        let path = root.join("spec/api.toml");
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Contract::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Parses and checks a contract's text.
    pub fn parse(text: &str) -> Result<Contract, String> {
        let contract: Contract = toml::from_str(text).map_err(|e| e.to_string())?;
        contract.check()?;
        Ok(contract)
    }

    fn check(&self) -> Result<(), String> {
        unique("operation number", self.operations.iter().map(|o| o.number.to_string()))?;
        unique("operation name", self.operations.iter().map(|o| o.name.clone()))?;
        unique("error number", self.errors.iter().map(|e| e.number.to_string()))?;
        unique("error name", self.errors.iter().map(|e| e.name.clone()))?;
        unique("constant", self.constants.iter().map(|c| c.name.clone()))?;
        unique("limit", self.limits.iter().map(|l| l.name.clone()))?;
        unique("option", self.options.iter().map(|o| o.name.clone()))?;
        for e in &self.enums {
            unique(
                &format!("number in {}", e.name),
                e.values.iter().map(|v| v.number.to_string()),
            )?;
        }
        self.check_c()?;
        for error in &self.errors {
            if !["scenario", "c", "fault", "cluster"].contains(&error.proof.as_str()) {
                return Err(format!("error {}: unknown proof {:?}", error.name, error.proof));
            }
        }
        for operation in &self.operations {
            if !["read", "same", "producer", "no"].contains(&operation.sent_twice.as_str()) {
                return Err(format!(
                    "operation {}: unknown sent_twice {:?}",
                    operation.name, operation.sent_twice
                ));
            }
            for field in operation.request.iter().chain(&operation.response) {
                self.check_type(&field.kind)
                    .map_err(|e| format!("{}.{}: {e}", operation.name, field.name))?;
            }
        }
        for s in &self.structs {
            for field in &s.fields {
                self.check_type(&field.kind)
                    .map_err(|e| format!("{}.{}: {e}", s.name, field.name))?;
            }
        }
        Ok(())
    }

    /// Every constant has a type that holds it, and everything of the C ABI can be read.
    fn check_c(&self) -> Result<(), String> {
        for constant in &self.constants {
            let largest = match constant.kind.as_str() {
                "u8" => u64::from(u8::MAX),
                "u32" | "KmbParamType" => u64::from(u32::MAX),
                "u64" => u64::MAX,
                // A size_t has 32 bits on small machines.
                "size" => u64::from(u32::MAX),
                other => return Err(format!("constant {}: unknown type {other:?}", constant.name)),
            };
            if constant.value > largest {
                return Err(format!(
                    "constant {}: {} is more than a {} holds",
                    constant.name, constant.value, constant.kind
                ));
            }
        }
        for e in &self.enums {
            if e.c_prefix.is_some() != e.c_type.is_some() {
                return Err(format!("enum {}: c_prefix and c_type belong together", e.name));
            }
        }
        for function in &self.functions {
            c_types::signature(function)?;
        }
        for layout in &self.layouts {
            let size = c_types::placed(self, layout)?.size;
            if size != layout.size {
                return Err(format!(
                    "layout {}: its fields take {size} bytes; size says {}",
                    layout.name, layout.size
                ));
            }
        }
        Ok(())
    }

    fn check_type(&self, kind: &str) -> Result<(), String> {
        const PLAIN: [&str; 12] = [
            "u8", "u16", "u32", "u64", "i64", "f64", "bool", "string", "bytes", "hash", "id16",
            "value",
        ];
        let inner = kind.strip_prefix("list<").and_then(|k| k.strip_suffix('>')).unwrap_or(kind);
        if PLAIN.contains(&inner) || self.structs.iter().any(|s| s.name == inner) {
            Ok(())
        } else {
            Err(format!("unknown type {kind:?}"))
        }
    }
}

fn unique(what: &str, items: impl Iterator<Item = String>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for item in items {
        if !seen.insert(item.clone()) {
            return Err(format!("{what} {item} stands twice"));
        }
    }
    Ok(())
}

/// `stream_id` or `STREAM_NOT_FOUND` as `StreamId` or `StreamNotFound`.
pub fn pascal(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let lower = word.to_lowercase();
            let mut letters = lower.chars();
            letters
                .next()
                .map(|c| c.to_uppercase().collect::<String>() + letters.as_str())
                .unwrap_or_default()
        })
        .collect()
}

/// `NonPHI` or `Int64` as `NON_PHI` or `INT64`.
pub fn screaming(name: &str) -> String {
    let mut out = String::new();
    let mut previous_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && previous_lower {
            out.push('_');
        }
        previous_lower = c.is_lowercase();
        out.extend(c.to_uppercase());
    }
    out
}
