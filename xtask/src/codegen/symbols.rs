//! The built library exports what the contract lists, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use crate::contract::Contract;
use crate::process;
use crate::sdk;

/// Compares the exported symbols of the library in `folder` with the contract's functions.
pub fn check(contract: &Contract, folder: &Path) -> Result<(), String> {
    let library = folder.join(sdk::library_name());
    let arguments: &[&str] =
        if cfg!(target_os = "macos") { &["-gU"] } else { &["--dynamic", "--defined-only"] };
    let text = process::quiet(process::command("nm", arguments).arg(&library))?;
    let found: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(|name| if cfg!(target_os = "macos") { name.trim_start_matches('_') } else { name })
        .collect();
    let listed: BTreeSet<&str> = contract.functions.iter().map(|f| f.name.as_str()).collect();
    let foreign: Vec<&str> = found.difference(&listed).copied().collect();
    let missing: Vec<&str> = listed.difference(&found).copied().collect();
    if foreign.is_empty() && missing.is_empty() {
        println!("{}: exports the {} functions of the contract", library.display(), listed.len());
        return Ok(());
    }
    Err(format!(
        "{}: exports beyond spec/api.toml: {foreign:?}; listed there but not exported: {missing:?}",
        library.display()
    ))
}
