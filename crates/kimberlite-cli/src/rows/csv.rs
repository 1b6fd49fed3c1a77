//! Rows as comma-separated values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kimberlite::{Column, QueryResult, ValueRef};

use super::RowWriter;
use crate::escape;
use crate::failure::Outcome;
use crate::output::Output;

pub(super) struct Csv {
    names: Vec<String>,
    begun: bool,
    raw: bool,
}

impl Csv {
    pub(super) fn new(columns: &[Column], raw: bool) -> Csv {
        let names = columns.iter().map(|column| column.name.clone()).collect();
        Csv { names, begun: false, raw }
    }

    fn begin(&mut self, out: &mut Output) -> Outcome<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let mut line = String::new();
        for (index, name) in self.names.iter().enumerate() {
            push_field(&mut line, name, index);
        }
        self.write(out, &line)
    }

    /// What a program reads is exact; on a terminal control characters are shown by their codes.
    fn write(&self, out: &mut Output, line: &str) -> Outcome<()> {
        let safe = out.is_terminal && !self.raw;
        if safe {
            out.text(&escape::lines(line))?
        } else {
            out.text(line)?
        }
        out.text(if safe { "\n" } else { "\r\n" })
    }
}

impl RowWriter for Csv {
    fn rows(&mut self, out: &mut Output, rows: &QueryResult) -> Outcome<()> {
        self.begin(out)?;
        let mut line = String::new();
        for row in rows.rows() {
            line.clear();
            for index in 0..row.len() {
                match row.value(index)? {
                    ValueRef::Null => push_separator(&mut line, index),
                    ValueRef::Int64(v) => push_field(&mut line, &v.to_string(), index),
                    ValueRef::Float64(v) => push_field(&mut line, &format!("{v:?}"), index),
                    ValueRef::Bool(v) => push_field(&mut line, &v.to_string(), index),
                    ValueRef::String(v) => push_field(&mut line, v, index),
                    ValueRef::Bytes(v) => match std::str::from_utf8(v) {
                        Ok(text) => push_field(&mut line, text, index),
                        Err(_) => {
                            let text = format!("base64:{}", STANDARD.encode(v));
                            push_field(&mut line, &text, index);
                        }
                    },
                }
            }
            self.write(out, &line)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Output) -> Outcome<()> {
        self.begin(out)
    }
}

fn push_separator(line: &mut String, index: usize) {
    if index > 0 {
        line.push(',');
    }
}

/// An empty text is quoted: without quotes it would be NULL.
fn push_field(line: &mut String, text: &str, index: usize) {
    push_separator(line, index);
    let plain = !text.is_empty() && !text.contains([',', '"', '\n', '\r']);
    if plain && text.trim().len() == text.len() {
        line.push_str(text);
    } else {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    }
}
