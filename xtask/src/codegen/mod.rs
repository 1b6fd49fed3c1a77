//! `cargo xtask codegen`: writes from the contract what stands in each language, fills the generated
//! parts of the documentation, and with `--check` proves that nothing drifted and nothing that was
//! promised was broken.
//!
//! An emitter is a function from the contract to the text of one file; a further language is one
//! more row in [`EMITTERS`]. CONTRIBUTING.md says what such a file holds.

mod c_layouts;
mod docs;
mod ffi;
mod frozen;
mod header;
mod proofs;
mod python;
mod python_abi;
mod python_stub;
mod regions;
mod rust;
mod sdk_page;
pub mod symbols;

use std::path::Path;
use std::process::{Command, Stdio};

use crate::contract::Contract;
use crate::{process, scenario, sdk};

/// A generated file: its path below the repository and its text.
pub struct Output {
    pub path: String,
    pub text: String,
}

/// What writes one file: its path, and its text from the contract.
type Emitter = (&'static str, fn(&Contract) -> Result<String, String>);

const EMITTERS: [Emitter; 7] = [
    ("crates/kimberlite-wire/src/generated.rs", |c| rustfmt(&rust::emit(c))),
    ("crates/kimberlite-ffi/src/generated.rs", |c| rustfmt(&ffi::emit(c))),
    ("crates/kimberlite-ffi/tests/c/layouts.h", c_layouts::emit),
    ("sdks/python/src/kimberlite/_generated.py", |c| Ok(python::emit(c))),
    ("sdks/python/src/kimberlite/_abi.py", python_abi::emit),
    ("sdks/python/src/kimberlite/_native.pyi", python_stub::emit),
    ("test-fixtures/scenarios.schema.json", |c| Ok(scenario::schema::emit(c))),
];

fn outputs(root: &Path, contract: &Contract) -> Result<Vec<Output>, String> {
    let output = |path: &str, text: String| Output { path: path.into(), text };
    let mut outputs = Vec::new();
    for (path, emit) in EMITTERS {
        outputs.push(output(path, emit(contract).map_err(|e| format!("{path}: {e}"))?));
    }
    let header = header::emit(root, contract, &rustfmt(&ffi::emit(contract))?)?;
    outputs.push(output("crates/kimberlite-ffi/kimberlite-ffi.h", header));
    outputs.extend(docs::pages(contract).into_iter().map(|(path, text)| output(path, text)));
    for page in regions::pages(root) {
        let name = page.strip_prefix(root).unwrap_or(&page).display().to_string();
        let old = std::fs::read_to_string(&page).map_err(|e| format!("{name}: {e}"))?;
        let text = regions::fill(root, contract, &old).map_err(|e| format!("{name}: {e}"))?;
        // A page without such parts stays as its author left it, to the last byte.
        if text.trim_end() != old.trim_end() {
            outputs.push(Output { path: name, text });
        }
    }
    Ok(outputs)
}

/// Writes every generated file.
pub fn write(root: &Path) -> Result<(), String> {
    let contract = Contract::load(root)?;
    for output in outputs(root, &contract)? {
        let path = root.join(&output.path);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == output.text) {
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        std::fs::write(&path, &output.text).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("wrote {}", output.path);
    }
    Ok(())
}

/// Fails where a file drifted, where a promise of spec/abi is broken, where the built library
/// exports something else than the contract lists, and where a proof is missing.
pub fn check(root: &Path) -> Result<(), String> {
    let contract = Contract::load(root)?;
    let mut wrong: Vec<String> = Vec::new();
    let drifted: Vec<String> = outputs(root, &contract)?
        .into_iter()
        .filter(|o| !std::fs::read_to_string(root.join(&o.path)).is_ok_and(|old| old == o.text))
        .map(|output| output.path)
        .collect();
    if !drifted.is_empty() {
        let names = drifted.join(", ");
        wrong.push(format!("drifted from the contract: {names}; run `cargo xtask codegen`"));
    }
    wrong.extend(frozen::check(root, &contract).err());
    wrong.extend(proofs::check(root, &contract).err());
    let folder = process::target(root).join(sdk::PROFILE);
    if folder.join(sdk::library_name()).exists() {
        wrong.extend(symbols::check(&contract, &folder).err());
    } else {
        println!("the C library is not built: its exported symbols were not looked at");
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Writes what the workspace's version promises into spec/abi.
pub fn freeze(root: &Path) -> Result<(), String> {
    let contract = Contract::load(root)?;
    let mut version = env!("CARGO_PKG_VERSION").split('.');
    let major = version.next().unwrap_or("0");
    let minor = version.next().unwrap_or("0");
    frozen::freeze(root, &contract, &format!("{major}.{minor}"))
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
