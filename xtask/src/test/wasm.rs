//! Shows that the protocol compiles to WebAssembly: by rustup's target where it is installed, else
//! by Debian's rustc-web, which builds the standard library from its sources.

use std::path::Path;

use crate::process::{cargo, command, quiet, run, target};

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// Whether either way is there.
pub fn is_ready() -> bool {
    has_target() || (Path::new(DEBIAN_CARGO).exists() && has_sources())
}

fn has_target() -> bool {
    let installed = quiet(&mut command("rustup", ["target", "list", "--installed"]));
    installed.is_ok_and(|list| list.lines().any(|line| line == TARGET))
}

fn has_sources() -> bool {
    Path::new("/usr/lib/rustlib/src/rust/library/std").exists()
}

/// Checks kimberlite-wire for WebAssembly.
pub fn check(root: &Path) -> Result<(), String> {
    let arguments = ["check", "--locked", "--package", "kimberlite-wire", "--target", TARGET];
    if has_target() {
        return run(&mut cargo(root, arguments));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut debian = command(DEBIAN_CARGO, arguments);
    debian
        .current_dir(root)
        .arg("-Zbuild-std=std,panic_unwind")
        // Its rustc must come before rustup's, which would read rust-toolchain.toml.
        .env("PATH", format!("/usr/bin:{path}"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC")
        .env_remove("CARGO")
        // Another compiler's artifacts would be thrown away at every change between the two.
        .env("CARGO_TARGET_DIR", target(root).join("wasm"));
    run(&mut debian)
}
