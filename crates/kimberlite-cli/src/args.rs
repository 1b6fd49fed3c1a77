//! The arguments: one subcommand for each job.

use clap::{Parser, Subcommand};

use crate::commands::{
    append, bench, dev, export, import, pages, query, read, streams, tail, verify,
};

/// Kimberlite, a database of events that never change.
#[derive(Debug, Parser)]
#[command(name = "kimberlite", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Says more on standard error; up to three times
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Told at the end of the help and the manual page.
const EXIT_CODES: &str = "Exit codes:
    0  done                               5  unavailable or too slow; try again
    1  failed                             6  conflict: something else is there already
    2  bad arguments, statement or input  7  not verified: stored data is damaged
    3  not found                          8  the outcome of an append is unknown
    4  refused: token or its rights     130  ended by Ctrl-C (143 by SIGTERM)";

/// What the command does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dev(dev::Args),
    Append(append::Args),
    Read(read::Args),
    Tail(tail::Args),
    Query(query::Args),
    Streams(streams::Args),
    Verify(verify::Args),
    Import(import::Args),
    Export(export::Args),
    Bench(bench::Args),
    Completions(pages::Completions),
    Man(pages::Man),
}
