//! SQLite's errors as Kimberlite's.
//!
//! What SQLite says while it compiles is made of the statement's text alone and is passed on. What
//! it says while it runs may quote a value, which could be event data or a parameter, so that only
//! known sentences are passed on.

use std::ffi::c_int;

use kimberlite_wire::{Error, ErrorCode};
use rusqlite::ffi;

use super::authorizer::not_allowed;
use super::state::QueryState;
use super::token::find_name;

/// The most of SQLite's message that an error carries: it may quote long names.
const MESSAGE_BYTES: usize = 400;

/// Sentences that SQLite says while it runs and that hold no values.
const SAFE_MESSAGES: [&str; 16] = [
    "malformed JSON",
    "JSON cannot hold BLOB values",
    "JSON path error",
    "bad JSON path",
    "json_object() labels must be TEXT",
    "json_object() requires an even number of arguments",
    "integer overflow",
    "string or blob too big",
    "LIKE or GLOB pattern too complex",
    "ESCAPE expression must be a single character",
    "frame starting offset must be a non-negative integer",
    "frame ending offset must be a non-negative integer",
    "argument of ntile must be a positive integer",
    "second argument to nth_value must be a positive integer",
    "datatype mismatch",
    "recursion limit",
];

/// QUERY_SYNTAX at a byte of the statement.
pub(super) fn syntax(message: &str, at: usize) -> Error {
    let detail = format!("{} (at byte {at} of the statement)", shorten(message));
    Error::new(ErrorCode::QuerySyntax, detail).with_value(at as u64)
}

/// The error of a statement that does not compile. `offset` is where SQLite sees it, or negative.
pub(super) fn compile(
    state: &QueryState,
    sql: &str,
    code: c_int,
    message: &str,
    offset: c_int,
) -> Error {
    if let Some(error) = common(state, code) {
        return error;
    }
    if message.ends_with("may not be modified") {
        return not_allowed("a change");
    }
    // SQLite does not tell where a missing table is named.
    let named = message.split_once(": ").map(|(_, name)| name);
    let unqualified = named.and_then(|name| name.split_once('.')).map(|(_, name)| name);
    let place = usize::try_from(offset)
        .ok()
        .or_else(|| find_name(sql, named?))
        .or_else(|| find_name(sql, unqualified?));
    match place {
        Some(at) => syntax(message, at),
        None => Error::new(ErrorCode::QuerySyntax, shorten(message)),
    }
}

/// The error of a statement that fails while it runs.
pub(super) fn run(state: &QueryState, code: c_int, message: &str, value_bytes: u64) -> Error {
    if let Some(error) = common(state, code) {
        return error;
    }
    if code & 0xff == ffi::SQLITE_TOOBIG {
        let detail = format!("a value would be larger than {value_bytes} bytes");
        return Error::new(ErrorCode::LimitExceeded, detail).with_value(value_bytes);
    }
    let known = SAFE_MESSAGES.iter().find(|known| message.starts_with(*known));
    let detail = match known {
        Some(known) => (*known).to_string(),
        None => format!("SQLite stopped it with result code {code}"),
    };
    Error::new(ErrorCode::QueryExecution, detail)
}

/// What means the same at any time: an error that a callback noted, or no memory.
fn common(state: &QueryState, code: c_int) -> Option<Error> {
    let noted = state.take_failure();
    if noted.is_some() {
        return noted;
    }
    // A temporary file in memory that may not grow is a full disk to SQLite.
    if code & 0xff == ffi::SQLITE_FULL {
        return Some(state.memory_exceeded());
    }
    if code & 0xff != ffi::SQLITE_NOMEM {
        return None;
    }
    if state.account.exceeded() {
        return Some(state.memory_exceeded());
    }
    Some(Error::new(ErrorCode::QueryExecution, "the process has no memory left for the query"))
}

fn shorten(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES {
        return message.to_string();
    }
    let end = (0..=MESSAGE_BYTES).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &message[..end])
}
