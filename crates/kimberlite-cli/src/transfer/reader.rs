//! Reads a file's events one by one, and knows where in the file each lies.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{FileFormat, MAX_LINE_BYTES, raw};
use crate::failure::{Failure, Outcome};
use crate::input::next_line_within;

/// Reads events from a file or a pipe.
pub(crate) struct EventReader {
    input: Counted<Box<dyn BufRead>>,
    format: FileFormat,
    name: String,
    /// Where the last event begins.
    pub(crate) last_start: u64,
    /// Where it ends. What could not be read lies behind it.
    pub(crate) last_end: u64,
    /// Where it ends without the line end and other space behind it.
    pub(crate) last_text_end: u64,
    /// The offset that the next record of the raw format must have.
    raw_offset: u64,
    /// The events that were read.
    events: u64,
    /// The raw format's end mark came.
    ended: bool,
}

/// One line of NDJSON. Other fields, such as the offset, are passed over.
#[derive(Deserialize)]
struct Line {
    data: Option<String>,
    data_base64: Option<String>,
}

impl EventReader {
    /// Reads standard input.
    pub(crate) fn stdin(format: FileFormat) -> Outcome<EventReader> {
        let input: Box<dyn BufRead> = Box::new(BufReader::new(io::stdin()));
        EventReader::begin(input, format, "standard input".to_string())
    }

    /// Reads a file from its beginning.
    pub(crate) fn file(path: &Path, format: FileFormat) -> Outcome<EventReader> {
        let file = File::open(path).map_err(|e| Failure::file(path, &e))?;
        if file.metadata().is_ok_and(|about| about.is_dir()) {
            return Err(Failure::usage(format!("{} is a folder; name a file", path.display())));
        }
        let input: Box<dyn BufRead> = Box::new(BufReader::with_capacity(1 << 20, file));
        EventReader::begin(input, format, path.display().to_string())
    }

    /// Reads a file from a record on that begins at a byte, `events` events into the file.
    pub(crate) fn file_at(
        path: &Path,
        format: FileFormat,
        position: u64,
        events: u64,
    ) -> Outcome<EventReader> {
        let mut reader = EventReader::file(path, format)?;
        let mut file = File::open(path).map_err(|e| Failure::file(path, &e))?;
        let length = file.metadata().map_err(|e| Failure::file(path, &e))?.len();
        if position > length {
            return Err(Failure::usage(format!(
                "{} has {length} bytes, but {position} of it were imported",
                path.display()
            )));
        }
        file.seek(SeekFrom::Start(position)).map_err(|e| Failure::file(path, &e))?;
        reader.input.inner = Box::new(BufReader::with_capacity(1 << 20, file));
        reader.input.position = position;
        reader.last_end = position;
        reader.raw_offset += events;
        reader.events = events;
        Ok(reader)
    }

    fn begin(input: Box<dyn BufRead>, format: FileFormat, name: String) -> Outcome<EventReader> {
        let input = Counted { inner: input, position: 0 };
        let mut reader = EventReader {
            input,
            format,
            name,
            last_start: 0,
            last_end: 0,
            last_text_end: 0,
            raw_offset: 0,
            events: 0,
            ended: false,
        };
        if format == FileFormat::Raw {
            let first = raw::read_header(&mut reader.input, &reader.name)?;
            reader.raw_offset = first.ok_or_else(|| cut_short(&reader.name, 0))?;
        }
        reader.last_end = reader.input.position;
        Ok(reader)
    }

    /// The next event's data; none at the end.
    pub(crate) fn next(&mut self) -> Outcome<Option<Vec<u8>>> {
        let event = match self.format {
            FileFormat::Ndjson => self.next_line()?,
            FileFormat::Raw => self.next_record()?,
        };
        self.events += u64::from(event.is_some());
        Ok(event)
    }

    fn next_record(&mut self) -> Outcome<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let start = self.input.position;
        match raw::read_next(&mut self.input, self.raw_offset, &self.name)? {
            raw::Next::Event { data, .. } => {
                self.raw_offset += 1;
                self.took(start, self.input.position);
                Ok(Some(data))
            }
            raw::Next::End => {
                self.ended = true;
                Ok(None)
            }
            raw::Next::Cut => Err(cut_short(&self.name, self.events)),
        }
    }

    fn next_line(&mut self) -> Outcome<Option<Vec<u8>>> {
        loop {
            let start = self.input.position;
            let name = || format!("{}, at byte {start}", self.name);
            let line = next_line_within(&mut self.input, MAX_LINE_BYTES, &name)?;
            let Some(line) = line else { return Ok(None) };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let data = data_of(&line).map_err(|what| {
                Failure::usage(format!("{}: the line {what}", name()))
                    .cure("each line is an object with data, or with data_base64")
            })?;
            self.took(start, start + line.trim_ascii_end().len() as u64);
            return Ok(Some(data));
        }
    }

    /// Notes where the event that was read lies.
    fn took(&mut self, start: u64, text_end: u64) {
        self.last_start = start;
        self.last_text_end = text_end;
        self.last_end = self.input.position;
    }
}

/// The event of a line, or what is wrong with it, without repeating what it holds.
fn data_of(line: &[u8]) -> Result<Vec<u8>, String> {
    let parsed: Line = serde_json::from_slice(line)
        .map_err(|e| format!("is not such an object (column {})", e.column()))?;
    match (parsed.data, parsed.data_base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|_| "has a data_base64 that is not base64".to_string())
        }
        (Some(_), Some(_)) => Err("has both data and data_base64".to_string()),
        (None, None) => Err("has neither data nor data_base64".to_string()),
    }
}

fn cut_short(name: &str, events: u64) -> Failure {
    Failure::usage(format!("{name} was cut short after {events} events: it has no end mark"))
        .cure("finish it by `kimberlite export --resume`, then import it with the same command")
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
        self.inner.consume(count);
    }
}
