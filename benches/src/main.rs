//! `kimberlite-bench`: one experiment with Kimberlite on this machine, beside what the machine and
//! other databases do.
//!
//! `cargo xtask bench` builds everything and runs this for each experiment; see docs/BENCHMARKS.md.

mod coprocess;
mod device;
mod experiment;
mod figures;
mod lab;
mod open_loop;
mod peers;
mod plot;
mod report;
mod server;
mod sqlite;
mod stats;
mod sweep;
mod table;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use lab::Lab;

/// Whatever stops an experiment.
pub type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Arguments {
    /// What to measure.
    experiment: experiment::Experiment,
    /// A folder on the disk that is measured.
    #[arg(long)]
    folder: PathBuf,
    /// The folder that the report goes to: `EXPERIMENT.md` and its plots.
    #[arg(long)]
    out: PathBuf,
    /// The folder of the built programs, kimberlite-server among them.
    #[arg(long)]
    built: PathBuf,
    /// Rounds; each does every piece of work once, and medians of the rounds are told.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Less of everything: to see that it works.
    #[arg(long)]
    quick: bool,
    /// Fails where a figure is above its ceiling.
    #[arg(long)]
    check: bool,
    /// The program `peers`, which measures other databases at the same work.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// The command and the sources that the report names.
    #[arg(long, default_value = "kimberlite-bench")]
    made_by: String,
    /// `NAME=PROGRAM`: the work of an SDK; see src/bin/throughput.rs for what it answers to.
    #[arg(long)]
    sdk: Vec<String>,
    /// `NAME=PROGRAM`: an empty program of the same runtime, whose memory is not the SDK's.
    #[arg(long)]
    empty: Vec<String>,
    /// A program that prints the microseconds of one cold start; the address is put behind it.
    #[arg(long)]
    cold_start: Option<String>,
    /// The certificate and its key for the server of the cold start, in PEM.
    #[arg(long, num_args = 2)]
    tls: Vec<PathBuf>,
    /// The stripped library, whose size is told.
    #[arg(long)]
    library: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let experiment = arguments.experiment;
    let lab = Lab::new(arguments);
    match experiment.run(&lab).and_then(|report| report.finish(&lab, experiment)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {experiment}: {error}");
            ExitCode::FAILURE
        }
    }
}
