//! The C programs of crates/kimberlite-ffi/tests/c: the header and the symbols, the tests plain,
//! under Valgrind and with AddressSanitizer, and forced panics.

use std::path::Path;
use std::process::Command;

use crate::process::run;

/// Runs every mode of tests/c/run.sh; one whose tool is not installed says so. A development build
/// keeps its debug assertions.
pub fn run_every(root: &Path) -> Result<(), String> {
    run(Command::new(root.join("crates/kimberlite-ffi/tests/c/run.sh")).arg("dev"))
}
