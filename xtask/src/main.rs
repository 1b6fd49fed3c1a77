//! `cargo xtask`: the commands that build, test and explain Kimberlite.

mod bench;
mod c_tests;
mod c_types;
mod codegen;
mod contract;
mod fuzz;
mod package;
mod process;
mod prove;
mod python;
mod quickstart;
mod scenario;
mod sdk;
mod server;
mod test;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and explains Kimberlite")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the generated files from spec/api.toml.
    Codegen {
        /// Writes nothing; fails where a file drifted, a promise is broken or a proof is missing.
        #[arg(long)]
        check: bool,
        /// Writes what this version promises into spec/abi.
        #[arg(long, conflicts_with = "check")]
        freeze: bool,
    },
    /// Sets everything up and runs one program in Rust, C and Python, embedded and over TLS.
    Quickstart,
    /// Sets up what the tests need and runs them; without a part, all of them.
    Test {
        /// The parts to run, in this order.
        parts: Vec<test::Part>,
        /// Scenarios to run instead of test-fixtures/scenarios.yaml.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Makes each expectation false once; every runner must notice.
        #[arg(long)]
        mutate: bool,
        /// Runs the scenarios of this SDK only; may stand several times.
        #[arg(long = "sdk")]
        sdks: Vec<sdk::Sdk>,
    },
    /// Makes the packages that users install, below target/packages.
    Package {
        /// Which; all where none is named.
        packages: Vec<package::Package>,
        /// The build profile.
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Measures experiment by experiment; building the releases takes minutes the first time.
    Bench(bench::Options),
    /// Breaks real servers and networks under load, and checks that nothing was lost or doubled.
    Prove {
        #[command(subcommand)]
        proof: prove::Proof,
    },
    /// Feeds decoders, state machines and doors with what nobody would write; needs nightly.
    Fuzz(fuzz::Options),
    /// Builds the reference of the Rust crates.
    Docs,
    /// Renders scenarios for a runner that is called by hand; the embedded door only.
    Scenarios {
        /// The JSON file to write.
        out: PathBuf,
        /// The scenarios; test-fixtures/scenarios.yaml where none are named.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Writes the mutants instead.
        #[arg(long)]
        mutate: bool,
    },
}

fn main() -> ExitCode {
    let root = root();
    let result = match Arguments::parse().command {
        Command::Codegen { check: true, .. } => codegen::check(&root),
        Command::Codegen { freeze: true, .. } => codegen::freeze(&root),
        Command::Codegen { .. } => codegen::write(&root),
        Command::Quickstart => quickstart::run_programs(&root),
        Command::Test { parts, file, mutate, sdks } => {
            test::run(&root, &test::Options { parts, file, mutate, sdks })
        }
        Command::Package { packages, profile } => {
            package::make(&root, &packages, &profile).map(|_| ())
        }
        Command::Bench(options) => bench::run_all(&root, &options),
        Command::Prove { proof } => prove::run_proof(&root, &proof),
        Command::Fuzz(options) => fuzz::run_all(&root, &options),
        Command::Docs => test::docs(&root),
        Command::Scenarios { out, file, mutate } => {
            scenario::render_to(&root, file.as_deref(), &out, mutate)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's folder: the parent of xtask's.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
