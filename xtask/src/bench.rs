//! `cargo xtask bench`: builds releases and runs the experiments of kimberlite-bench one by one.

mod page;
mod peers;
mod programs;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;

use crate::process::{cargo, command, lines, quiet, run, shown, target};
use programs::Programs;

/// No experiment takes nearly as long; one that hangs must not keep the others from being run.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// What can be measured, in the order in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Experiment {
    /// Device, server and embedded database at the usual pieces of work.
    Base,
    /// Latencies against load, in an open loop.
    Load,
    /// Throughput against clients, 1 to 256.
    Clients,
    /// Latency and throughput against the size of an event, 16 bytes to 1 MiB.
    Sizes,
    /// What the number of streams costs, 1 to 100,000.
    Streams,
    /// Kinds of SQL statements.
    Sql,
    /// What SDKs add to the Rust client; the library's size and cold start.
    Sdks,
    /// Starts, memory and cold reads against the size of the log; writes 20 GB.
    Logs,
    /// All of them.
    All,
}

const EACH: [Experiment; 8] = [
    Experiment::Base,
    Experiment::Load,
    Experiment::Clients,
    Experiment::Sizes,
    Experiment::Streams,
    Experiment::Sql,
    Experiment::Sdks,
    Experiment::Logs,
];

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// The flags of the command line.
#[derive(clap::Args)]
pub struct Options {
    /// What to measure; everything where nothing is named.
    experiments: Vec<Experiment>,
    /// Rounds; medians of them are told.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Puts what comes of each experiment into docs/BENCHMARKS.md and its plots into docs/benchmarks.
    #[arg(long)]
    write: bool,
    /// Where to make a folder to measure in; the disk is what counts.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Measures PostgreSQL, NATS JetStream, etcd and SQLite beside it, round by round.
    #[arg(long)]
    peers: bool,
    /// Less of everything: to see that it works, not to quote.
    #[arg(long, conflicts_with = "write")]
    quick: bool,
    /// Measures what SDKs add, the library's size and its cold start, and fails only where a figure
    /// is above what is promised at the very most.
    #[arg(long, conflicts_with_all = ["write", "experiments"])]
    check: bool,
}

impl Options {
    /// The experiments to run, each once.
    fn chosen(&self) -> Vec<Experiment> {
        let all = self.experiments.is_empty() || self.experiments.contains(&Experiment::All);
        EACH.into_iter()
            .filter(|one| match self.check {
                true => *one == Experiment::Sdks,
                false => all || self.experiments.contains(one),
            })
            .collect()
    }
}

/// Builds, measures, prints; with `--write` also into the page. Every experiment is run, whatever
/// became of those before; what failed is named in the end.
pub fn run_all(root: &Path, options: &Options) -> Result<(), String> {
    println!("building releases (the first time takes minutes)");
    let mut build = cargo(root, ["build", "--release"]);
    for package in ["kimberlite-ffi", "kimberlite-server", "kimberlite-bench"] {
        build.args(["--package", package]);
    }
    run(&mut build)?;
    let own = |folder: &PathBuf| folder.join("kimberlite-bench");
    let folder = options.folder.as_ref().map_or_else(|| target(root).join("bench"), own);
    // It is one of our own; old databases would make the servers start with what earlier runs left.
    let _ = std::fs::remove_dir_all(&folder);
    let out = folder.join("out");
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let mut failed = Vec::new();
    let peers = options.peers.then(|| peers::build(root)).transpose().unwrap_or_else(|error| {
        failed.push(format!("peers: {error}"));
        None
    });
    for experiment in options.chosen() {
        let bench = Bench { root, options, folder: &folder, out: &out, peers: peers.as_deref() };
        if let Err(error) = bench.run(experiment) {
            eprintln!("error: {experiment}: {error}");
            failed.push(format!("{experiment}: {error}"));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// What the experiments share.
struct Bench<'a> {
    root: &'a Path,
    options: &'a Options,
    folder: &'a Path,
    out: &'a Path,
    peers: Option<&'a Path>,
}

impl Bench<'_> {
    fn run(&self, experiment: Experiment) -> Result<(), String> {
        println!("--- {experiment}");
        let mut bench = self.command(experiment);
        if experiment == Experiment::Sdks {
            Programs::build(self.root, self.folder)?.give(&mut bench);
        }
        let well = lines(&mut bench, LIMIT, |line| println!("{line}"))?;
        let page = self.out.join(format!("{experiment}.md"));
        let text = std::fs::read_to_string(&page).unwrap_or_default();
        println!("\n{text}");
        if !well {
            return Err(format!("{} failed", shown(&bench)));
        }
        if self.options.write {
            page::write(self.root, self.out, experiment, &text)
        } else {
            Ok(())
        }
    }

    fn command(&self, experiment: Experiment) -> Command {
        let built = target(self.root).join("release");
        let mut bench = command(built.join("kimberlite-bench"), [experiment.to_string()]);
        bench.arg("--folder").arg(self.folder).arg("--out").arg(self.out);
        bench.arg("--built").arg(&built).args(["--made-by", &self.made_by(experiment)]);
        bench.args(["--rounds", &self.options.rounds.to_string()]);
        for (given, flag) in [(self.options.quick, "--quick"), (self.options.check, "--check")] {
            if given {
                bench.arg(flag);
            }
        }
        if let Some(program) = self.peers {
            bench.arg("--peers").arg(program).env("PATH", peers::path(self.root));
        }
        bench
    }

    /// The command, the sources and the machine that the figures come from.
    fn made_by(&self, experiment: Experiment) -> String {
        let peers = if self.peers.is_some() { " --peers" } else { "" };
        let told = |program: &str, words: &[&str]| {
            let mut asked = command(program, words);
            quiet(asked.current_dir(self.root)).unwrap_or_default().trim().to_string()
        };
        let commit = told("git", &["rev-parse", "--short", "HEAD"]);
        // The page itself changes with every experiment that was written into it.
        let words = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"];
        let changed = told("git", &words);
        let changed = if changed.is_empty() { "" } else { " and changes" };
        let date = told("date", &["-u", "+%F"]);
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or_else(String::new, |(_, name)| format!(" of {name}"));
        let cores = std::thread::available_parallelism().map_or(0, |count| count.get());
        format!(
            "`cargo xtask bench {experiment}{peers}` at {commit}{changed}, {date}, {cores} \
             cores{model}"
        )
    }
}
