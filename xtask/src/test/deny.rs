//! Dependencies: cargo-deny finds licences, sources and bans to be as deny.toml wants them.
//!
//! Advisories are left to the hosted workflow: they need a database from the network, and would make
//! a test fail that passed before.

use std::path::Path;

use crate::process::{command, run};
use crate::tools;

const CARGO_DENY: &str = "0.20.2";

/// Built without optimisation: that takes 80 s of one core's time, and a check still only one.
const QUICKLY_BUILT: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// Checks what each lock file holds.
pub fn check(root: &Path) -> Result<(), String> {
    let tool = tools::installed(root, "cargo-deny", CARGO_DENY, &QUICKLY_BUILT)?;
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        println!("{manifest}:");
        let mut deny = command(&tool, ["--locked", "--config", "deny.toml"]);
        // Warnings, such as of two versions of one crate, are many and change nothing.
        deny.args(["--log-level", "error", "--manifest-path", manifest]);
        run(deny.args(["check", "licenses", "bans", "sources"]).current_dir(root))?;
    }
    Ok(())
}
