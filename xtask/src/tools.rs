//! Cargo's subcommands that are not part of it, built once and kept below target/tools.

use std::path::{Path, PathBuf};

use crate::process::{cargo, command, quiet, run, target};

/// The program of exactly this version, installed where it is not there; `settings` are the
/// environment that it is built with.
pub fn installed(
    root: &Path,
    name: &str,
    version: &str,
    settings: &[(&str, &str)],
) -> Result<PathBuf, String> {
    let folder = target(root).join("tools");
    let program = folder.join("bin").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let word = name.trim_start_matches("cargo-");
    let found = quiet(&mut command(&program, [word, "--version"])).unwrap_or_default();
    if found.split_whitespace().nth(1) == Some(version) {
        return Ok(program);
    }
    println!("installing {name} {version} below {}", folder.display());
    let mut install = cargo(root, ["install", name, "--locked", "--force", "--quiet"]);
    install.args(["--version", version, "--root"]).arg(&folder);
    run(install.envs(settings.iter().copied()))?;
    Ok(program)
}
