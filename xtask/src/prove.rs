//! `cargo xtask prove`: real servers and networks are broken under load, and what clients were told
//! is held against what is there. docs/RELIABILITY.md tells what came of long runs.

mod threads;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Subcommand;

use crate::process::{command, output, run, target};
use crate::{python, sdk};

/// What is proven.
#[derive(Subcommand)]
pub enum Proof {
    /// kill -9 of the server in the middle of mixed load, then a check of everything.
    Kill {
        /// How many kills.
        #[arg(long, default_value_t = 200)]
        rounds: u64,
        /// What is random follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The same with every fault: kills, restarts, cut and silent networks, a server that stands still.
    Storm {
        /// How long.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// How many rounds at most.
        #[arg(long)]
        rounds: Option<u64>,
        /// What is random follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Programs in every language make calls and connects without end: memory, files and threads may
    /// not grow.
    Leaks {
        /// How many calls each makes at each door.
        #[arg(long, default_value_t = 100_000)]
        calls: u64,
        /// How many connects each makes at each door.
        #[arg(long, default_value_t = 1_000)]
        connects: u64,
        /// What resident memory may grow by after warm-up, in KiB.
        #[arg(long, default_value_t = 2_048)]
        more_kib: u64,
    },
    /// Threads that meet by hand, under many schedules of who goes on: shuttle chooses them.
    Schedules {
        /// How many schedules of each of two kinds each test runs under.
        #[arg(long, default_value_t = 10_000)]
        rounds: u64,
        /// The schedules follow from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Tests of clients, servers, SQL and the C ABI under the thread sanitizer; needs nightly.
    Threads,
    /// Clients in Rust, C and Python on one stream under faults; porcupine judges what they were told.
    History {
        /// How many calls each of six clients makes.
        #[arg(long, default_value_t = 2_000)]
        calls: u64,
        /// What is random follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Builds what it needs and runs it.
pub fn run_proof(root: &Path, proof: &Proof) -> Result<(), String> {
    match proof {
        Proof::Kill { rounds, seed } => {
            storm(root, &["--faults", "kill", "--rounds", &rounds.to_string()], *seed)
        }
        Proof::Storm { minutes, rounds, seed } => {
            let minutes = minutes.to_string();
            let rounds = rounds.map(|rounds| rounds.to_string());
            let faults = "kill,restart,cut,cut-inside,swallow,pause";
            let mut arguments =
                vec!["--faults", faults, "--minutes", &minutes, "--load-ms", "1000"];
            if let Some(rounds) = &rounds {
                arguments.extend(["--rounds", rounds]);
            }
            storm(root, &arguments, *seed)
        }
        Proof::Leaks { calls, connects, more_kib } => leaks(root, *calls, *connects, *more_kib),
        Proof::Schedules { rounds, seed } => threads::schedules(root, *rounds, *seed),
        Proof::Threads => threads::sanitize(root),
        Proof::History { calls, seed } => history(root, *calls, *seed),
    }
}

/// What of it belongs to the tests: enough of each to notice that something broke.
pub fn test(root: &Path) -> Result<(), String> {
    run_proof(root, &Proof::Schedules { rounds: 10_000, seed: 1 })?;
    run_proof(root, &Proof::Kill { rounds: 20, seed: 11 })?;
    run_proof(root, &Proof::Storm { minutes: 10, rounds: Some(12), seed: 12 })?;
    run(go(root).args(["vet", "./..."]))?;
    run(go(root).args(["test", "./..."]))?;
    run_proof(root, &Proof::History { calls: 300, seed: 13 })?;
    run_proof(root, &Proof::Leaks { calls: 2_000, connects: 60, more_kib: 8_192 })
}

fn storm(root: &Path, arguments: &[&str], seed: u64) -> Result<(), String> {
    let program = build(root)?;
    let server = sdk::build_server(root)?;
    let folder = fresh(root, "storm")?;
    let mut storm = command(program, ["storm", "--server"]);
    storm.arg(server).arg("--folder").arg(&folder).args(["--seed", &seed.to_string()]);
    run(storm.args(arguments))
}

/// The programs of the leak test: each language is a row, its name and its command.
fn callers(root: &Path, rust: &Path) -> Result<Vec<(&'static str, String)>, String> {
    let source = root.join("reliability/clients/leaks.c");
    let c = sdk::compile_c(root, &[source], "leaks", &[])?;
    let python = python::command(root)?.get_program().to_string_lossy().into_owned();
    let script = root.join("reliability/clients/leaks.py");
    Ok(vec![
        ("rust", format!("{} caller", rust.display())),
        ("c", c.display().to_string()),
        ("python", format!("{python} {}", script.display())),
        ("python-asyncio", format!("{python} {} --asyncio", script.display())),
    ])
}

fn leaks(root: &Path, calls: u64, connects: u64, more_kib: u64) -> Result<(), String> {
    python::install_tools(root)?;
    let program = build(root)?;
    let server = sdk::build_server(root)?;
    let folder = fresh(root, "leaks")?;
    let mut leaks = Command::new(&program);
    leaks.envs(python::command(root)?.get_envs().filter_map(|(name, value)| Some((name, value?))));
    leaks.arg("leaks").arg("--server").arg(server).arg("--folder").arg(&folder);
    leaks.args(["--calls", &calls.to_string(), "--connects", &connects.to_string()]);
    leaks.args(["--more-kib", &more_kib.to_string()]);
    for (name, command) in callers(root, &program)? {
        leaks.args(["--client", &format!("{name}={command}")]);
    }
    run(&mut leaks)
}

fn history(root: &Path, calls: u64, seed: u64) -> Result<(), String> {
    python::install_tools(root)?;
    let program = build(root)?;
    let server = sdk::build_server(root)?;
    let source = root.join("reliability/clients/history.c");
    let c = sdk::compile_c(root, &[source], "history", &[])?;
    let python = python::command(root)?;
    let script = root.join("reliability/clients/history.py");
    let python_client = format!("{} {}", python.get_program().to_string_lossy(), script.display());
    let rust_client = format!("{} client", program.display());
    let folder = fresh(root, "history")?;

    let mut history = Command::new(&program);
    for (name, value) in python.get_envs() {
        history.env(name, value.unwrap_or_default());
    }
    history.arg("history").arg("--server").arg(server).arg("--folder").arg(&folder);
    history.args(["--calls", &calls.to_string(), "--seed", &seed.to_string()]);
    for client in [rust_client, c.display().to_string(), python_client] {
        history.args(["--client", &client, "--client", &client]);
    }
    run(&mut history)?;
    let files = (0..6).map(|number| folder.join(format!("client-{number}.jsonl")));
    let mut check = go(root);
    check.args(["run", "."]).args(files);
    let (well, told) = output(&mut check)?;
    print!("{told}");
    if well { Ok(()) } else { Err(format!("seed {seed}: the history is not linearizable")) }
}

/// Go, in the folder of the judge.
fn go(root: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(root.join("reliability/history"));
    go
}

fn build(root: &Path) -> Result<PathBuf, String> {
    sdk::build_program(root, "kimberlite-reliability")
}

/// An empty folder below the target folder: an earlier run's data would be checked as this one's.
fn fresh(root: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = target(root).join("prove").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}
