//! Breaks real servers and networks under load, and checks that nothing was lost or doubled.
//! `cargo xtask prove` builds what it needs and runs it; docs/RELIABILITY.md tells what came of it.

mod caller;
mod history;
mod leaks;
mod ledger;
mod memory;
mod proxy;
mod random;
mod server;
mod storm;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use caller::{Calls, Plant};
use history::{History, Recorder};
use leaks::Leaks;
use storm::{Fault, Storm};

/// Breaks real servers and networks under load, and checks that nothing was lost or doubled.
#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Rounds of mixed load with a fault in the middle of each, and a check of everything after it.
    Storm {
        /// The program `kimberlite-server`.
        #[arg(long)]
        server: PathBuf,
        /// An empty folder for its data.
        #[arg(long)]
        folder: PathBuf,
        /// What is random follows from it, but for what threads and the machine do.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The faults, of which each round has one.
        #[arg(long, value_delimiter = ',', default_value = "kill")]
        faults: Vec<Fault>,
        /// How many rounds; as many as --minutes allows where it is left out.
        #[arg(long)]
        rounds: Option<u64>,
        /// When to stop in any case.
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// The longest load before a fault, in milliseconds.
        #[arg(long, default_value_t = 400)]
        load_ms: u64,
    },
    /// Clients append to and read one stream under faults, and write down what they were told.
    History {
        /// The program `kimberlite-server`.
        #[arg(long)]
        server: PathBuf,
        /// An empty folder for its data and the clients' files.
        #[arg(long)]
        folder: PathBuf,
        /// What the clients and the faults choose follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// A client's command; may stand several times.
        #[arg(long = "client", required = true)]
        clients: Vec<String>,
        /// How many calls each makes.
        #[arg(long, default_value_t = 300)]
        calls: u64,
    },
    /// Programs make calls and connects without end, and may not hold more and more.
    Leaks {
        /// The program `kimberlite-server`; without it there is only the embedded database.
        #[arg(long)]
        server: Option<PathBuf>,
        /// An empty folder for data.
        #[arg(long)]
        folder: PathBuf,
        /// A language and its program's command, as NAME=COMMAND; may stand several times.
        #[arg(long = "client", required = true)]
        clients: Vec<String>,
        /// How many calls each makes.
        #[arg(long, default_value_t = 100_000)]
        calls: u64,
        /// How many connects each makes.
        #[arg(long, default_value_t = 1_000)]
        connects: u64,
        /// What resident memory may grow by, in KiB.
        #[arg(long, default_value_t = 2_048)]
        more_kib: u64,
    },
    /// The Rust program of the leak test.
    Caller {
        /// Loses something on purpose.
        #[arg(long)]
        plant: Option<Plant>,
        place: String,
        wrong_place: String,
        token: String,
        calls: u64,
        connects: u64,
    },
    /// The Rust client of a history.
    Client {
        address: String,
        token: String,
        stream: String,
        number: u64,
        calls: u64,
        seed: u64,
        out: PathBuf,
    },
}

fn run(what: What) -> Result<String, String> {
    match what {
        What::Storm { server, folder, seed, faults, rounds, minutes, load_ms } => {
            let duration = Duration::from_secs(minutes * 60);
            storm::run(&Storm { program: server, folder, seed, faults, rounds, duration, load_ms })
        }
        What::History { server, folder, seed, clients, calls } => {
            history::run(&History { program: server, folder, seed, clients, calls })
                .map(|files| format!("{} histories", files.len()))
        }
        What::Leaks { server: program, folder, clients, calls, connects, more_kib } => {
            leaks::run(&Leaks { program, folder, clients, calls, connects, more_kib })
        }
        What::Caller { plant, place, wrong_place, token, calls, connects } => {
            caller::run(&Calls { place, wrong_place, token, calls, connects, plant })
                .map(|()| String::new())
        }
        What::Client { address, token: _, stream, number, calls, seed, out } => {
            history::record(&Recorder { address, stream, number, calls, seed, out })
                .map(|()| format!("client {number}: {calls} calls"))
        }
    }
}

fn main() -> ExitCode {
    match run(Command::parse().what) {
        Ok(told) => {
            if !told.is_empty() {
                println!("{told}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
