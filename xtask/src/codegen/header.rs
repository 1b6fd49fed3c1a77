//! The C header, from the sources of kimberlite-ffi by cbindgen, held against the contract.

use std::collections::BTreeMap;
use std::path::Path;

use crate::contract::Contract;

/// The sources in the order of the header.
const SOURCES: [&str; 22] = [
    "detail",
    "generated",
    "query",
    "library",
    "log",
    "options",
    "call",
    "queue",
    "completion",
    "client",
    "stream",
    "append",
    "page",
    "read_into",
    "read_result",
    "blocks",
    "query_result",
    "cursor",
    "reader",
    "subscription",
    "verification",
    "arrow",
];
/// Behind those: what the header names but nobody needs to read first.
const LAST_SOURCES: [&str; 2] = ["tenant", "operation"];

/// crates/kimberlite-ffi/kimberlite-ffi.h.
///
/// `constants` is the text of src/generated.rs, which on the disk may be that of an older contract.
pub fn emit(root: &Path, contract: &Contract, constants: &str) -> Result<String, String> {
    let folder = root.join("target/codegen");
    let generated = folder.join("generated.rs");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&generated, constants))
        .map_err(|e| format!("{}: {e}", generated.display()))?;
    let crate_dir = root.join("crates/kimberlite-ffi");
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml"))?;
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES.iter().chain(&LAST_SOURCES) {
        builder = builder.with_src(match *source {
            "generated" => generated.clone(),
            source => crate_dir.join("src").join(format!("{source}.rs")),
        });
    }
    let bindings = builder.generate().map_err(|e| format!("cbindgen: {e}"))?;
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    let header = String::from_utf8(bytes).map_err(|e| format!("cbindgen: {e}"))?;
    compare(&header, contract)?;
    Ok(header)
}

/// Fails where a function or a layout of the contract and of the header differ, or where one has
/// what the other lacks.
fn compare(header: &str, contract: &Contract) -> Result<(), String> {
    let code = without_comments(header);
    let mut declared: BTreeMap<String, String> = BTreeMap::new();
    for statement in code.split(';') {
        if let Some(signature) = function(statement) {
            declared.insert(name_of(&signature), signature);
        }
    }
    for wanted in &contract.functions {
        let signature = squeezed(&wanted.signature);
        match declared.remove(&wanted.name) {
            Some(found) if found == signature => {}
            Some(found) => {
                return Err(format!(
                    "{}: the header has\n  {found}\nand spec/api.toml\n  {signature}",
                    wanted.name
                ));
            }
            None => {
                return Err(format!("{}: in spec/api.toml, but not in the header", wanted.name));
            }
        }
    }
    if let Some(name) = declared.keys().next() {
        return Err(format!("{name}: in the header, but not in spec/api.toml"));
    }
    let flat = squeezed(&code);
    for layout in &contract.layouts {
        let end = format!("}} {};", layout.name);
        let body = flat.find(&end).and_then(|to| {
            let from = flat[..to].rfind("typedef ")?;
            Some(flat[from..to].split_once('{')?.1.trim().to_string())
        });
        let wanted: String =
            layout.fields.iter().map(|field| format!("{}; ", squeezed(field))).collect();
        match body {
            Some(body) if body == wanted.trim() => {}
            Some(body) => {
                return Err(format!(
                    "{}: the header has\n  {body}\nand spec/api.toml\n  {wanted}",
                    layout.name
                ));
            }
            None => {
                return Err(format!("{}: in spec/api.toml, but not in the header", layout.name));
            }
        }
    }
    Ok(())
}

/// The signature in a statement, squeezed, if it declares a function of ours.
fn function(statement: &str) -> Option<String> {
    let statement = squeezed(statement.rsplit(['{', '}']).next()?);
    let from = statement.find(|c: char| c.is_ascii_alphabetic())?;
    let statement = statement[from..].trim();
    let at = statement.find(" kmb_").or_else(|| statement.find("*kmb_"))?;
    let open = statement.find('(')?;
    (at < open && !statement.starts_with("typedef")).then(|| statement.to_string())
}

fn name_of(signature: &str) -> String {
    let from = signature.find("kmb_").unwrap_or(0);
    let to = signature.find('(').unwrap_or(signature.len());
    signature[from..to].to_string()
}

/// One space between words, none inside brackets.
fn squeezed(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace("( ", "(").replace(" )", ")")
}

fn without_comments(header: &str) -> String {
    let mut code = String::new();
    let mut rest = header;
    while let Some(from) = rest.find("/*") {
        code.push_str(&rest[..from]);
        rest = rest[from..].find("*/").map_or("", |to| &rest[from + to + 2..]);
    }
    code.push_str(rest);
    code.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}
