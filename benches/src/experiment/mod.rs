//! What can be measured, one experiment a file.

mod base;
mod clients;
mod load;
mod logs;
mod sdks;
mod sizes;
mod sql;
mod streams;

use std::fmt;

use crate::Failure;
use crate::lab::Lab;
use crate::report::Report;

/// The experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Experiment {
    /// Device, server and embedded database at the usual pieces of work, beside peers.
    Base,
    /// Latencies against load, in an open loop.
    Load,
    /// Throughput against clients, each with one append under way.
    Clients,
    /// Throughput and latency against the size of an event.
    Sizes,
    /// What the number of streams costs.
    Streams,
    /// Kinds of SQL statements.
    Sql,
    /// What SDKs add to the Rust client; the library's size and cold start.
    Sdks,
    /// Starts, memory and cold reads against the size of the log.
    Logs,
}

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Experiment::Base => "base",
            Experiment::Load => "load",
            Experiment::Clients => "clients",
            Experiment::Sizes => "sizes",
            Experiment::Streams => "streams",
            Experiment::Sql => "sql",
            Experiment::Sdks => "sdks",
            Experiment::Logs => "logs",
        })
    }
}

impl Experiment {
    /// Measures.
    pub fn run(self, lab: &Lab) -> Result<Report, Failure> {
        match self {
            Experiment::Base => base::run(lab),
            Experiment::Load => load::run(lab),
            Experiment::Clients => clients::run(lab),
            Experiment::Sizes => sizes::run(lab),
            Experiment::Streams => streams::run(lab),
            Experiment::Sql => sql::run(lab),
            Experiment::Sdks => sdks::run(lab),
            Experiment::Logs => logs::run(lab),
        }
    }
}
