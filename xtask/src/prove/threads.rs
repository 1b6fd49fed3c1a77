//! Threads: those that meet by hand under many schedules, and all others under the thread sanitizer.

use std::path::Path;
use std::process::Command;

use crate::process::{cargo, command, output, quiet, run, target};

/// The crates whose threads meet by hand.
const BY_HAND: [&str; 3] = ["kimberlite-engine", "kimberlite-client", "kimberlite-ffi"];

/// The tests that run under the thread sanitizer, by package: whose threads work together, in this
/// process or over sockets, and whose own times allow for ten times the work.
const SANITIZED: [(&str, &[&str]); 5] = [
    ("kimberlite-log", &["--test", "log"]),
    (
        "kimberlite-engine",
        &["--test", "append_read", "--test", "subscribe", "--test", "query_threads"],
    ),
    ("kimberlite-server", &["--lib", "--test", "operations", "--test", "admin"]),
    (
        "kimberlite-client",
        &["--lib", "--test", "embedded", "--test", "operations", "--test", "threads"],
    ),
    ("kimberlite-ffi", &["--lib", "--test", "threads"]),
];

/// What each run tells: the options of the sanitizer. Threads that serve the whole process are not
/// joined at its end.
const SANITIZER_OPTIONS: &str = "history_size=7 report_thread_leaks=0 suppressions=";

/// Runs every test of schedules, each under so many of each kind.
pub fn schedules(root: &Path, rounds: u64, seed: u64) -> Result<(), String> {
    let mut tests = cargo(root, ["test", "--locked", "--lib"]);
    for package in BY_HAND {
        tests.args(["--package", package]);
    }
    tests.args(["--no-fail-fast", "schedules::"]);
    // A folder of its own: the flag makes Cargo build everything once more. With some optimisation,
    // because what runs a hundred thousand times is worth it.
    tests.env("RUSTFLAGS", "--cfg shuttle").env("CARGO_TARGET_DIR", target(root).join("shuttle"));
    tests.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").env("CARGO_PROFILE_DEV_DEBUG", "false");
    tests.env("KIMBERLITE_ROUNDS", rounds.to_string()).env("KIMBERLITE_SEED", seed.to_string());
    let (well, told) = output(tests.env("RUST_BACKTRACE", "0"))?;
    print!("{told}");
    if !well {
        return Err(format!("seed {seed}: threads can meet in a way that is wrong; see above"));
    }
    // A flag that did not arrive would leave nothing to run, and that is no proof.
    let ran = told.lines().filter(|line| line.ends_with(" ... ok")).count();
    match BY_HAND.len() * 3 <= ran {
        true => Ok(()),
        false => Err(format!("only {ran} tests of schedules ran")),
    }
}

/// Runs tests under the thread sanitizer, with a standard library that is built for it.
pub fn sanitize(root: &Path) -> Result<(), String> {
    let toolchain = std::env::var("KIMBERLITE_NIGHTLY").unwrap_or_else(|_| "nightly".to_string());
    let about = quiet(&mut command("rustup", ["run", &toolchain, "rustc", "-vV"]))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| "rustc -vV does not name its host".to_string())?;
    quiet(&mut command("rustup", ["component", "add", "rust-src", "--toolchain", &toolchain]))?;
    let suppressions = root.join("reliability/sanitizer.supp");
    for (package, tests) in SANITIZED {
        println!("--- {package} {}", tests.join(" "));
        let mut sanitized = Command::new("cargo");
        sanitized.current_dir(root).args(["test", "--locked", "-Zbuild-std", "--target", host]);
        sanitized.args(["--package", package]).args(tests);
        sanitized.args(["--", "--test-threads", "2"]);
        // Cargo's own variables name the stable toolchain that runs this program.
        sanitized.env("RUSTUP_TOOLCHAIN", &toolchain).env_remove("CARGO").env_remove("RUSTC");
        sanitized.env("RUSTFLAGS", "-Zsanitizer=thread");
        sanitized.env("CARGO_TARGET_DIR", target(root).join("threads"));
        let options = format!("{SANITIZER_OPTIONS}{}", suppressions.display());
        run(sanitized.env("TSAN_OPTIONS", options))?;
    }
    Ok(())
}
