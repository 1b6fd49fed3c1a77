//! The tests of the C ABI, which are C programs: plain, under Valgrind, with sanitizers.

use std::path::Path;

use crate::process::{command, run};
use crate::sdk::{self, build_library, build_server};

/// What compiles and runs them.
const SCRIPT: &str = "crates/kimberlite-ffi/tests/c/run.sh";

/// Runs them against the library and the server that the other parts use too.
pub fn run_every(root: &Path) -> Result<(), String> {
    build_library(root)?;
    let server = build_server(root)?;
    let mut script = command("sh", [SCRIPT, sdk::PROFILE]);
    run(script.current_dir(root).env("KIMBERLITE_SERVER", server))
}
