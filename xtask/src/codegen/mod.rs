//! `cargo xtask codegen`: writes from the contract what stands in each language.
//!
//! An emitter is a function from the contract to the text of one file; a further language is one
//! more row in [`outputs`].

mod python;
mod python_abi;
mod rust;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::contract::Contract;

/// A generated file: its path below the repository and its text.
pub struct Output {
    pub path: &'static str,
    pub text: String,
}

fn outputs(contract: &Contract) -> Result<Vec<Output>, String> {
    Ok(vec![
        Output {
            path: "crates/kimberlite-wire/src/generated.rs",
            text: rustfmt(&rust::emit(contract))?,
        },
        Output { path: "sdks/python/src/kimberlite/_generated.py", text: python::emit(contract) },
        Output { path: "sdks/python/src/kimberlite/_abi.py", text: python_abi::emit(contract)? },
    ])
}

/// Writes every generated file, or with `check` reports those that differ.
pub fn run(root: &Path, check: bool) -> Result<(), String> {
    let contract = Contract::load(root)?;
    let mut drifted: Vec<PathBuf> = Vec::new();
    for output in outputs(&contract)? {
        let path = root.join(output.path);
        if std::fs::read_to_string(&path).ok().as_deref() == Some(output.text.as_str()) {
            continue;
        }
        if check {
            drifted.push(path);
        } else {
            std::fs::write(&path, &output.text).map_err(|e| format!("{}: {e}", path.display()))?;
            println!("wrote {}", output.path);
        }
    }
    if drifted.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = drifted.iter().map(|p| p.display().to_string()).collect();
    Err(format!("differs from spec/api.toml: {}; run `cargo xtask codegen`", names.join(", ")))
}

/// Formats Rust text as the repository does, so that a formatter never makes a drift.
fn rustfmt(text: &str) -> Result<String, String> {
    use std::io::Write;
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "max_width=100,use_small_heuristics=Max"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("rustfmt: {e}; install it with `rustup component add rustfmt`"))?;
    let mut stdin = child.stdin.take().ok_or("rustfmt: no standard input")?;
    stdin.write_all(text.as_bytes()).map_err(|e| format!("rustfmt: {e}"))?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|e| format!("rustfmt: {e}"))?;
    if !output.status.success() {
        return Err("rustfmt refused the generated text".into());
    }
    String::from_utf8(output.stdout).map_err(|e| format!("rustfmt: {e}"))
}
