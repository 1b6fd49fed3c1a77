//! Events as a person or a program wants to see them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use kimberlite::Event;

use crate::escape;
use crate::failure::Outcome;
use crate::output::Output;
use crate::time;

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventFormat {
    /// Offset, time and data, with tabs between; control characters are shown by their codes
    Text,
    /// One JSON array of objects
    Json,
    /// One JSON object a line: offset, timestamp, and data or (where it is not UTF-8) data_base64
    Ndjson,
    /// The data of each event and a line end
    Lines,
    /// The data alone, byte for byte, with nothing between
    Raw,
}

/// Writes events in a format.
pub(crate) struct EventWriter {
    format: EventFormat,
    /// Control characters go to a terminal too.
    raw: bool,
    count: u64,
    /// Reused for every event.
    line: String,
}

impl EventWriter {
    pub(crate) fn new(format: EventFormat, raw: bool) -> EventWriter {
        EventWriter { format, raw, count: 0, line: String::new() }
    }

    /// Writes one event.
    pub(crate) fn event(&mut self, out: &mut Output, event: &Event<'_>) -> Outcome<()> {
        let first = self.count == 0;
        self.count += 1;
        self.line.clear();
        match self.format {
            EventFormat::Text => self.text(out, event),
            EventFormat::Ndjson => {
                push_json(&mut self.line, event);
                out.line(&self.line)
            }
            EventFormat::Json => {
                self.line.push_str(if first { "[\n  " } else { ",\n  " });
                push_json(&mut self.line, event);
                out.text(&self.line)
            }
            EventFormat::Lines if out.is_terminal && !self.raw => {
                escape::push_bytes(&mut self.line, event.data);
                out.line(&self.line)
            }
            EventFormat::Lines => {
                out.bytes(event.data)?;
                out.bytes(b"\n")
            }
            EventFormat::Raw => out.bytes(event.data),
        }
    }

    fn text(&mut self, out: &mut Output, event: &Event<'_>) -> Outcome<()> {
        let head = format!("{}\t{}", event.offset, time::short(event.timestamp_ns));
        self.line = out.styled("2", &head);
        self.line.push('\t');
        if self.raw {
            out.text(&self.line)?;
            out.bytes(event.data)?;
            return out.bytes(b"\n");
        }
        escape::push_bytes(&mut self.line, event.data);
        out.line(&self.line)
    }

    /// Ends what was begun.
    pub(crate) fn finish(&mut self, out: &mut Output) -> Outcome<()> {
        if self.format == EventFormat::Json {
            out.line(if self.count == 0 { "[]" } else { "\n]" })?;
        }
        out.flush()
    }
}

/// Appends an event as a JSON object on one line. Reading it back gives the same bytes.
pub(crate) fn push_json(line: &mut String, event: &Event<'_>) {
    line.push_str(&format!(
        "{{\"offset\":{},\"timestamp\":\"{}\",",
        event.offset,
        time::rfc3339(event.timestamp_ns)
    ));
    match std::str::from_utf8(event.data) {
        Ok(text) => {
            line.push_str("\"data\":");
            line.push_str(&json_string(text));
        }
        Err(_) => {
            line.push_str("\"data_base64\":\"");
            STANDARD.encode_string(event.data, line);
            line.push('"');
        }
    }
    line.push('}');
}

/// Text as JSON, safe for a terminal.
pub(crate) fn json_string(text: &str) -> String {
    escape::json(&serde_json::Value::from(text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events are written as the fixture has them, byte for byte: the Python SDK is held to it
    /// too, so that either may go on with a file of the other.
    #[test]
    fn writes_lines_as_every_exporter() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test-fixtures/events.ndjson");
        let fixture = std::fs::read_to_string(path).expect("the fixture");
        let mut lines = 0;
        for line in fixture.lines() {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let timestamp = value["timestamp"].as_str().expect("a time");
            let data = match value["data"].as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => {
                    let text = value["data_base64"].as_str().expect("data");
                    STANDARD.decode(text).expect("base64")
                }
            };
            let event = Event {
                offset: value["offset"].as_u64().expect("an offset"),
                timestamp_ns: time::parse(timestamp).expect("a time"),
                data: &data,
            };
            let mut written = String::new();
            push_json(&mut written, &event);
            assert_eq!(written, line);
            lines += 1;
        }
        assert_eq!(lines, 6);
    }
}
