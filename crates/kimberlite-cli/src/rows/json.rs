//! Rows as JSON objects.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kimberlite::{Column, QueryResult, ValueRef};

use super::{RowWriter, unique_names};
use crate::events::json_string;
use crate::failure::Outcome;
use crate::output::Output;

pub(super) struct Json {
    /// The columns' names with their quotes and colons.
    keys: Vec<String>,
    /// One object a line, without the array around them.
    lines: bool,
    first: bool,
}

impl Json {
    pub(super) fn new(columns: &[Column], lines: bool) -> Json {
        let names = unique_names(columns);
        let keys = names.iter().map(|name| format!("{}:", json_string(name))).collect();
        Json { keys, lines, first: true }
    }
}

impl RowWriter for Json {
    fn rows(&mut self, out: &mut Output, rows: &QueryResult) -> Outcome<()> {
        let mut line = String::new();
        for row in rows.rows() {
            line.clear();
            if !self.lines {
                line.push_str(if self.first { "[\n  " } else { ",\n  " });
            }
            self.first = false;
            line.push('{');
            for (index, key) in self.keys.iter().enumerate() {
                if index > 0 {
                    line.push(',');
                }
                line.push_str(key);
                push_value(&mut line, row.value(index)?);
            }
            line.push('}');
            if self.lines {
                line.push('\n');
            }
            out.text(&line)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Output) -> Outcome<()> {
        match (self.lines, self.first) {
            (true, _) => Ok(()),
            (false, true) => out.line("[]"),
            (false, false) => out.line("\n]"),
        }
    }
}

/// Bytes that are UTF-8 are a string; others an object with base64, which no string can be taken
/// for.
fn push_value(line: &mut String, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => line.push_str("null"),
        ValueRef::Int64(v) => line.push_str(&v.to_string()),
        // JSON knows neither infinities nor NaN.
        ValueRef::Float64(v) if !v.is_finite() => line.push_str("null"),
        ValueRef::Float64(v) => line.push_str(&format!("{v:?}")),
        ValueRef::Bool(v) => line.push_str(if v { "true" } else { "false" }),
        ValueRef::String(v) => line.push_str(&json_string(v)),
        ValueRef::Bytes(v) => match std::str::from_utf8(v) {
            Ok(text) => line.push_str(&json_string(text)),
            Err(_) => {
                line.push_str("{\"base64\":\"");
                STANDARD.encode_string(v, line);
                line.push_str("\"}");
            }
        },
    }
}
