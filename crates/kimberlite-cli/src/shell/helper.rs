//! Completion, and where a line ends, for the line editor.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use kimberlite::{CallOptions, Client, blocking};
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Result};

use super::words;
use crate::sql;

/// How long Tab waits for the streams' names.
const NAMES_TIMEOUT_MS: u64 = 1_000;
/// How long the names are taken as they are.
const NAMES_AGE: Duration = Duration::from_secs(3);

/// What the editor asks.
pub(super) struct Helper {
    client: blocking::Client,
    names: RefCell<Names>,
}

struct Names {
    asked: Option<Instant>,
    names: Vec<String>,
}

impl Helper {
    pub(super) fn new(client: &Client) -> Helper {
        let options = CallOptions::timeout_ms(NAMES_TIMEOUT_MS);
        let client = blocking::Client::from(client.with_options(options));
        Helper { client, names: RefCell::new(Names { asked: None, names: Vec::new() }) }
    }

    /// The streams' names; those of before where they do not come in time.
    fn names(&self) -> Vec<String> {
        let mut known = self.names.borrow_mut();
        if known.asked.is_none_or(|asked| asked.elapsed() > NAMES_AGE) {
            known.asked = Some(Instant::now());
            if let Ok(streams) = self.client.list_streams() {
                known.names = streams.into_iter().map(|stream| stream.name).collect();
            }
        }
        known.names.clone()
    }
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let before = line.get(..at).unwrap_or(line);
        let start = words::start(before);
        let found = words::candidates(before, &before[start..], &self.names());
        let pairs = found.into_iter().map(|word| Pair { display: word.clone(), replacement: word });
        Ok((start, pairs.collect()))
    }
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let line = context.input().trim();
        let command = line.starts_with(['.', '\\']) || matches!(line, "quit" | "exit");
        Ok(if command || sql::is_complete(line) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Highlighter for Helper {}

impl Hinter for Helper {
    type Hint = String;
}

impl rustyline::Helper for Helper {}
