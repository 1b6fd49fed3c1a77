//! The contract, spec/api.toml, as the emitters see it.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

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
    /// The C declaration.
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
    /// The C fields, in order.
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enum {
    pub name: String,
    pub doc: String,
    /// Whether SDKs show it; the others exist only on the wire.
    pub public: bool,
    #[serde(default)]
    pub c_name: Option<String>,
    #[serde(default)]
    pub c_prefix: Option<String>,
    pub values: Vec<EnumValue>,
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
        unique("limit", self.limits.iter().map(|l| l.name.clone()))?;
        unique("option", self.options.iter().map(|o| o.name.clone()))?;
        for e in &self.enums {
            unique(
                &format!("number in {}", e.name),
                e.values.iter().map(|v| v.number.to_string()),
            )?;
        }
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
