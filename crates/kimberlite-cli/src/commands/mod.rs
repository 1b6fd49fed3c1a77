//! The subcommands.

pub(crate) mod append;
pub(crate) mod bench;
pub(crate) mod dev;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod pages;
pub(crate) mod query;
pub(crate) mod read;
pub(crate) mod streams;
pub(crate) mod tail;
pub(crate) mod verify;

use tokio::runtime::Runtime;

use crate::args::Command;
use crate::failure::Outcome;
use crate::shell;
use crate::signals::Signals;

/// Runs a subcommand to its end.
pub(crate) fn run(command: Command, runtime: &Runtime, signals: &Signals) -> Outcome<()> {
    match command {
        Command::Dev(args) => runtime.block_on(dev::run(&args, signals)),
        Command::Append(args) => runtime.block_on(append::run(&args, signals)),
        Command::Read(args) => runtime.block_on(read::run(&args, signals)),
        Command::Tail(args) => runtime.block_on(tail::run(&args, signals)),
        Command::Query(args) if args.is_shell() => shell::run(&args, runtime, signals),
        Command::Query(args) => runtime.block_on(query::run(&args, signals)),
        Command::Streams(args) => runtime.block_on(streams::run(&args, signals)),
        Command::Verify(args) => runtime.block_on(verify::run(&args, signals)),
        Command::Import(args) => runtime.block_on(import::run(&args, signals)),
        Command::Export(args) => runtime.block_on(export::run(&args, signals)),
        Command::Bench(args) => runtime.block_on(bench::run(&args, signals)),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    }
}
