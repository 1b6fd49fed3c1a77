//! Every operation and every error is met by a test where the contract says so.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value as Yaml;

use crate::contract::{Contract, pascal};
use crate::scenario::file;

/// Fails where a proof is missing; prints proofs that wait for a cluster.
pub fn check(root: &Path, contract: &Contract) -> Result<(), String> {
    let scenarios = file::load(&root.join(crate::scenario::FILE))?;
    let mut shown = HashSet::new();
    let mut expected = HashSet::new();
    for step in scenarios.iter().flat_map(|scenario| &scenario.steps) {
        shown.insert(step.shape.shows.to_string());
        let error = step.keys.iter().find(|(key, _)| key == "expected_error");
        expected.extend(error.and_then(|(_, value)| Yaml::as_str(value)).map(String::from));
    }
    let c_tests = texts(&root.join("crates/kimberlite-ffi/tests"), &["c", "h"]);
    let rust_tests = rust_tests(root);
    let mut missing = Vec::new();
    for operation in contract.operations.iter().filter(|o| !shown.contains(&o.name)) {
        missing.push(format!("operation {}: no scenario shows it", operation.name));
    }
    for error in &contract.errors {
        let proven = match error.proof.as_str() {
            "scenario" => expected.contains(&error.name),
            "c" => {
                let name = if error.number == 0 {
                    "KMB_OK".into()
                } else {
                    format!("KMB_ERR_{}", error.name)
                };
                c_tests.iter().any(|text| mentions(text, &name))
            }
            "fault" => {
                let name = format!("ErrorCode::{}", pascal(&error.name));
                rust_tests.iter().any(|text| mentions(text, &name))
            }
            _ => {
                println!("pending: the proof of {} in a cluster", error.name);
                true
            }
        };
        if !proven {
            missing
                .push(format!("error {}: no test of kind {:?} meets it", error.name, error.proof));
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("proofs are missing:\n  {}", missing.join("\n  ")))
    }
}

/// Whether the text names it, and not merely something longer.
fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let next = text.get(at + name.len()..).and_then(|rest| rest.chars().next());
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The tests of all crates: files below tests/, test modules, and what follows `#[cfg(test)]`.
fn rust_tests(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(&root.join("crates"), &["rs"]) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let in_tests = path.components().any(|part| {
            let part = part.as_os_str();
            part == "tests" || part == "tests.rs"
        });
        if in_tests {
            found.push(text);
        } else if let Some((_, tests)) = text.split_once("#[cfg(test)]") {
            found.push(tests.to_string());
        }
    }
    found
}

fn texts(folder: &Path, extensions: &[&str]) -> Vec<String> {
    files(folder, extensions).iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted))
            {
                found.push(path);
            }
        }
    }
    found
}
