//! The subcommands.

pub(crate) mod append;
pub(crate) mod dev;
pub(crate) mod query;
pub(crate) mod read;

use tokio::runtime::Runtime;

use crate::args::Command;
use crate::failure::Outcome;
use crate::signals::Signals;

/// Runs a subcommand to its end.
pub(crate) fn run(command: Command, runtime: &Runtime, signals: &Signals) -> Outcome<()> {
    match command {
        Command::Dev(args) => runtime.block_on(dev::run(&args, signals)),
        Command::Append(args) => runtime.block_on(append::run(&args, signals)),
        Command::Read(args) => runtime.block_on(read::run(&args, signals)),
        Command::Query(args) => runtime.block_on(query::run(&args, signals)),
    }
}
