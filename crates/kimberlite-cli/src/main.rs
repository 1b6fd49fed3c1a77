//! The command `kimberlite`: a server to develop against, a SQL shell, and every job that a
//! database of events needs from a terminal or a script.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod connect;
mod escape;
mod events;
mod failure;
mod histogram;
mod input;
mod output;
mod progress;
mod rows;
mod shell;
mod signals;
mod sql;
mod terminal;
mod time;
mod transfer;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;

use crate::args::Arguments;
use crate::failure::{Failure, Outcome};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// Help, the version, or what is wrong with the arguments. A closed pipe is its reader's choice.
fn explain(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::exit::USAGE))
}

fn run(arguments: Arguments) -> Outcome<()> {
    start_log(&arguments)?;
    let signals = signals::Signals::listen()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("the command cannot be run: {e}")))?;
    commands::run(arguments.command, &runtime, &signals)
}

/// The library's own log lines, on standard error, where `-v` asks for them: without it the error
/// that ends the command is the one word about it. A server to develop against tells its errors.
fn start_log(arguments: &Arguments) -> Outcome<()> {
    let is_server = matches!(arguments.command, args::Command::Dev(_));
    let level = match arguments.verbose {
        0 if is_server => LevelFilter::ERROR,
        0 => LevelFilter::OFF,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init()
        .map_err(|e| Failure::failed(format!("log lines cannot be written: {e}")))
}

/// Says on standard error what went wrong. Nobody is left to tell where that fails.
pub(crate) fn tell(failure: &Failure) {
    let Failure::Told { message, cure, .. } = failure else { return };
    let (red, plain) =
        if terminal::stderr_colours() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // A server's words and a file's name could hold escape sequences too.
    let mut text = format!("{red}kimberlite:{plain} {}\n", escape::lines(message));
    if let Some(cure) = cure {
        text += &format!("  {}\n", escape::lines(cure));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}
