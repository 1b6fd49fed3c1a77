//! The command line of `kimberlite-server`.

mod args;
mod logging;
mod run;
mod token;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use kimberlite_server::{Purpose, ServerConfig, TEMPLATE};
use kimberlite_wire::Error;

use args::{Args, Command};

/// Runs the command that the arguments name. Errors go to standard error, with exit code 1.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        _ if args.print_config => print(TEMPLATE),
        Some(Command::Config { check: None }) => print(TEMPLATE),
        Some(Command::Config { check: Some(file) }) => check(file),
        Some(Command::Token(args)) => token::make(args),
        None => run::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kimberlite-server: {}", error.detail);
            ExitCode::FAILURE
        }
    }
}

/// Tells everything that is wrong with a file, or that nothing is.
fn check(file: &Path) -> Result<(), Error> {
    let level = |config: &mut ServerConfig| logging::check(&config.log).err().into_iter().collect();
    ServerConfig::assemble(Some(file), Purpose::Check, level)?;
    print("The configuration is valid.\n")
}

/// Writes to standard output, which may have been closed: that is the reader's choice.
fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}
