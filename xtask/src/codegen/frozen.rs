//! What versions have promised: spec/abi/VERSION lists each number, field, function and layout
//! that was released, and the contract must still hold every one of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::contract::{Contract, Field};

/// Facts of the contract that must never change: what it is about, and how it is.
pub fn facts(contract: &Contract) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut fact = |about: String, is: String| {
        facts.insert(about, is);
    };
    for o in &contract.operations {
        fact(format!("operation {}", o.number), o.name.clone());
        fields(&mut fact, &format!("{}.request", o.name), &o.request);
        fields(&mut fact, &format!("{}.response", o.name), &o.response);
    }
    for s in &contract.structs {
        fields(&mut fact, &s.name, &s.fields);
    }
    for e in &contract.enums {
        for v in &e.values {
            fact(format!("enum {} {}", e.name, v.number), v.name.clone());
        }
        if let (Some(prefix), Some(kind)) = (&e.c_prefix, &e.c_type) {
            fact(format!("enum {} in C", e.name), format!("{prefix}* {kind}"));
        }
    }
    for c in &contract.constants {
        fact(format!("constant {}", c.name), format!("{} {} {:?}", c.kind, c.value, c.part));
    }
    fact("protocol default_port".into(), contract.protocol.default_port.to_string());
    for e in &contract.errors {
        fact(format!("error {}", e.number), format!("{} retryable={}", e.name, e.retryable));
    }
    for o in &contract.options {
        fact(format!("option {}", o.name), o.kind.clone());
    }
    for f in &contract.functions {
        fact(format!("function {}", f.name), f.signature.clone());
    }
    for l in &contract.layouts {
        fact(format!("layout {}", l.name), format!("{} bytes: {}", l.size, l.fields.join("; ")));
    }
    facts
}

/// Fields are numbered: a message only ever gains some at its end.
fn fields(fact: &mut impl FnMut(String, String), message: &str, fields: &[Field]) {
    for (i, f) in fields.iter().enumerate() {
        fact(format!("field {message} {}", i + 1), format!("{} {}", f.name, f.kind));
    }
}

/// The text of a baseline.
pub fn baseline(facts: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "# What this version promised; `cargo xtask codegen --check` holds every later contract against it.\n",
    );
    for (about, is) in facts {
        let _ = writeln!(text, "{about} = {is}");
    }
    text
}

/// What the contract broke of a baseline.
pub fn broken(version: &str, baseline: &str, facts: &BTreeMap<String, String>) -> Vec<String> {
    let mut broken = Vec::new();
    for line in baseline.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let Some((about, was)) = line.split_once(" = ") else {
            broken.push(format!("spec/abi/{version}: cannot read {line:?}"));
            continue;
        };
        match facts.get(about) {
            Some(is) if is == was => {}
            Some(is) => broken.push(format!("{about} was {was:?} in {version} and is {is:?} now")),
            None => broken.push(format!("{about} was {was:?} in {version} and is gone")),
        }
    }
    broken
}

/// Holds the contract against every baseline below spec/abi.
pub fn check(root: &Path, contract: &Contract) -> Result<(), String> {
    let folder = root.join("spec/abi");
    let facts = facts(contract);
    let mut all = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let version =
            path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        all.extend(broken(&version, &text, &facts));
        seen += 1;
    }
    if seen == 0 {
        return Err(format!(
            "{} holds no baseline; `cargo xtask codegen --freeze` writes one",
            folder.display()
        ));
    }
    if all.is_empty() {
        return Ok(());
    }
    Err(format!(
        "a released number, field or function was changed, reused or removed:\n  {}",
        all.join("\n  ")
    ))
}

/// Writes the baseline of the workspace's version, `major.minor`. One that exists may only grow.
pub fn freeze(root: &Path, contract: &Contract, version: &str) -> Result<(), String> {
    let path = root.join("spec/abi").join(version);
    let facts = facts(contract);
    if let Ok(text) = std::fs::read_to_string(&path) {
        let broken = broken(version, &text, &facts);
        if !broken.is_empty() {
            return Err(format!(
                "{} would not only grow:\n  {}",
                path.display(),
                broken.join("\n  ")
            ));
        }
    }
    std::fs::write(&path, baseline(&facts)).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract() -> Contract {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Contract::load(root).unwrap()
    }

    fn broken_by(change: impl FnOnce(&mut Contract)) -> Vec<String> {
        let baseline = baseline(&facts(&contract()));
        let mut changed = contract();
        change(&mut changed);
        broken("0.1", &baseline, &facts(&changed))
    }

    /// The contract itself, and one that only gains things, keep every promise.
    #[test]
    fn growing_is_allowed() {
        assert_eq!(broken_by(|_| ()), Vec::<String>::new());
        let grown = broken_by(|c| {
            let mut error = c.errors.remove(0);
            c.errors.insert(0, contract().errors.remove(0));
            error.number = 4_000_000;
            error.name = "ANOTHER".into();
            c.errors.push(error);
            let extra =
                Field { name: "more".into(), kind: "u64".into(), doc: String::new(), since: 2 };
            c.operations[2].request.push(extra);
        });
        assert_eq!(grown, Vec::<String>::new());
    }

    /// Changing a number, reusing one, and removing an error, a field or a function are each refused.
    #[test]
    fn changes_are_refused() {
        let changed = broken_by(|c| c.errors[4].number = 99);
        assert!(changed.iter().any(|b| b.contains("error 4") && b.contains("gone")), "{changed:?}");
        let reused = broken_by(|c| c.errors[4].name = "SOMETHING_ELSE".into());
        assert!(reused.iter().any(|b| b.contains("SOMETHING_ELSE")), "{reused:?}");
        let removed = broken_by(|c| {
            c.errors.remove(4);
        });
        assert_eq!(removed.len(), 1, "{removed:?}");
        let field = broken_by(|c| {
            c.operations[2].request.remove(0);
        });
        assert!(!field.is_empty());
        let inserted = broken_by(|c| {
            let extra =
                Field { name: "first".into(), kind: "u64".into(), doc: String::new(), since: 2 };
            c.operations[2].request.insert(0, extra);
        });
        assert!(!inserted.is_empty());
        let operation = broken_by(|c| c.operations[2].number = 1000);
        assert!(operation.iter().any(|b| b.contains("operation 3")), "{operation:?}");
        let function = broken_by(|c| {
            c.functions.pop();
        });
        assert_eq!(function.len(), 1, "{function:?}");
        let layout = broken_by(|c| c.layouts[0].size += 8);
        assert_eq!(layout.len(), 1, "{layout:?}");
        let retryable = broken_by(|c| c.errors[3].retryable = !c.errors[3].retryable);
        assert_eq!(retryable.len(), 1, "{retryable:?}");
        let option = broken_by(|c| c.options[0].name = "other".into());
        assert_eq!(option.len(), 1, "{option:?}");
    }

    /// A constant keeps its number, its type and its place in the C ABI, an enum its C names.
    #[test]
    fn changed_constants_are_refused() {
        for i in 0..contract().constants.len() {
            let number = broken_by(|c| c.constants[i].value ^= 1);
            assert!(number.len() == 1 && number[0].starts_with("constant "), "{number:?}");
        }
        let kind = broken_by(|c| c.constants[0].kind = "u32".into());
        assert_eq!(kind.len(), 1, "{kind:?}");
        let hidden = broken_by(|c| c.constants[0].part = crate::contract::Part::Protocol);
        assert_eq!(hidden.len(), 1, "{hidden:?}");
        let removed = broken_by(|c| {
            c.constants.remove(0);
        });
        assert_eq!(removed.len(), 1, "{removed:?}");
        let renamed = broken_by(|c| c.enums[0].c_prefix = Some("KMB_OTHER_".into()));
        assert_eq!(renamed.len(), 1, "{renamed:?}");
        let port = broken_by(|c| c.protocol.default_port += 1);
        assert_eq!(port.len(), 1, "{port:?}");
    }

    /// The baseline that is committed holds every constant, and every enum's names in C, so that none
    /// of the changes above passes `cargo xtask codegen --check`.
    #[test]
    fn constants_are_in_the_committed_baseline() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = std::fs::read_to_string(root.join("spec/abi/0.1")).unwrap();
        let is_constant = |about: &str| about.starts_with("constant ") || about.ends_with(" in C");
        for (about, is) in facts(&contract()).iter().filter(|(about, _)| is_constant(about)) {
            let line = format!("{about} = {is}");
            assert!(text.lines().any(|l| l == line), "{line}: run `cargo xtask codegen --freeze`");
        }
    }
}
