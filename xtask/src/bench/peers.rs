//! The other databases that `cargo xtask bench --peers` measures: where they come from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{command, exists, run, target};

/// The version of nats-server that is built where none is installed.
const NATS: &str = "github.com/nats-io/nats-server/v2@v2.15.2";

/// Installs what is missing and builds the program that measures; returns its path.
pub fn build(root: &Path) -> Result<PathBuf, String> {
    if !exists("go") {
        return Err("the peers are measured by a Go program: install Go 1.26 or newer".into());
    }
    let has_postgres = exists("initdb") || Path::new("/usr/lib/postgresql").is_dir();
    if !(has_postgres && exists("etcd")) {
        if !exists("apt-get") {
            return Err("install PostgreSQL and etcd: they are measured too".into());
        }
        run(&mut command(
            "apt-get",
            ["install", "--yes", "--quiet=2", "postgresql", "etcd-server"],
        ))?;
    }
    let tools = tools(root);
    std::fs::create_dir_all(&tools).map_err(|e| format!("{}: {e}", tools.display()))?;
    if !exists("nats-server") && !tools.join("nats-server").is_file() {
        run(Command::new("go").args(["install", NATS]).env("GOBIN", &tools))?;
    }
    let program = tools.join("peers");
    let mut build = command("go", ["build", "-o"]);
    run(build.arg(&program).arg(".").current_dir(root.join("benches/peers")))?;
    Ok(program)
}

/// The search path with what was built here.
pub fn path(root: &Path) -> OsString {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(tools(root)).chain(std::env::split_paths(&old));
    std::env::join_paths(all).unwrap_or(old)
}

fn tools(root: &Path) -> PathBuf {
    target(root).join("tools")
}
