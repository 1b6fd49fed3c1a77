//! Events from files and standard input: read on a thread of its own and handed over in bounded
//! chunks, so that the memory they take does not depend on how many there are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kimberlite::limit;
use tokio::sync::mpsc;

use crate::failure::{Failure, Outcome};
use crate::output::note;

/// A chunk is handed over at this size at the latest.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait for their append.
const CHUNKS_AHEAD: usize = 4;

/// What in the input is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// Each line that is not empty, without its line end; a line of spaces is an event
    Lines,
    /// Each line, which must be one JSON value; empty lines and lines of spaces are passed over
    Ndjson,
    /// Each file, or standard input, as a whole
    Binary,
}

/// Where events come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Source::Stdin => "standard input".to_string(),
            Source::File(path) => path.display().to_string(),
        }
    }

    fn open(&self) -> Outcome<Opened> {
        Ok(match self {
            Source::Stdin => Opened { input: Box::new(io::stdin()), may_pause: true },
            Source::File(path) => {
                let file = File::open(path).map_err(|e| Failure::file(path, &e))?;
                let may_pause = !is_regular(&file, path)?;
                Opened { input: Box::new(file), may_pause }
            }
        })
    }
}

/// Whether a file has all its bytes now, unlike a pipe. A folder is refused.
fn is_regular(file: &File, path: &Path) -> Outcome<bool> {
    let about = file.metadata().map_err(|e| Failure::file(path, &e))?;
    if about.is_dir() {
        return Err(Failure::usage(format!("{} is a folder; name a file", path.display())));
    }
    Ok(about.is_file())
}

struct Opened {
    input: Box<dyn Read>,
    /// The next read may wait for somebody: what is there must be handed over first.
    may_pause: bool,
}

/// Some events, in order.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// The events.
    pub(crate) events: Vec<Vec<u8>>,
    /// The bytes of all of them.
    pub(crate) bytes: usize,
}

impl Chunk {
    pub(crate) fn push(&mut self, event: Vec<u8>) {
        self.bytes += event.len();
        self.events.push(event);
    }

    pub(crate) fn append(&mut self, mut other: Chunk) {
        self.bytes += other.bytes;
        self.events.append(&mut other.events);
    }
}

/// Starts reading. The channel ends with the input, or with an error.
pub(crate) fn start(
    sources: Vec<Source>,
    format: InputFormat,
    chunk_events: usize,
) -> Outcome<mpsc::Receiver<Outcome<Chunk>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    if sources.iter().any(|source| matches!(source, Source::Stdin)) && io::stdin().is_terminal() {
        note("events from the terminal, one a line; Ctrl-D ends");
    }
    let read = move || {
        let mut reader = Reader { sender, chunk: Chunk::default(), chunk_events };
        let result = sources.iter().try_for_each(|source| reader.source(source, format));
        let result = result.and_then(|()| reader.hand_over());
        if let Err(failure) = result {
            // Nobody waits any more where the append has failed.
            let _ = reader.sender.blocking_send(Err(failure));
        }
    };
    let thread = std::thread::Builder::new().name("kimberlite-input".to_string());
    thread.spawn(read).map_err(|e| Failure::failed(format!("no thread for the input: {e}")))?;
    Ok(receiver)
}

struct Reader {
    sender: mpsc::Sender<Outcome<Chunk>>,
    chunk: Chunk,
    chunk_events: usize,
}

impl Reader {
    fn source(&mut self, source: &Source, format: InputFormat) -> Outcome<()> {
        let opened = source.open()?;
        match format {
            InputFormat::Binary => self.whole(opened, &source.name()),
            InputFormat::Lines | InputFormat::Ndjson => self.lines(opened, source, format),
        }
    }

    fn whole(&mut self, opened: Opened, name: &str) -> Outcome<()> {
        let mut event = Vec::new();
        let mut bounded = opened.input.take(limit::EVENT_BYTES + 1);
        bounded.read_to_end(&mut event).map_err(|e| Failure::failed(format!("{name}: {e}")))?;
        if event.len() as u64 > limit::EVENT_BYTES {
            return Err(too_large(name, "it"));
        }
        self.push(event)
    }

    fn lines(&mut self, opened: Opened, source: &Source, format: InputFormat) -> Outcome<()> {
        let mut input = BufReader::with_capacity(CHUNK_BYTES, opened.input);
        let mut number = 0u64;
        loop {
            if opened.may_pause && input.buffer().is_empty() {
                self.hand_over()?;
            }
            number += 1;
            let name = || format!("{}, line {number}", source.name());
            let line = next_line(&mut input, &name)?;
            let Some(line) = line else { return Ok(()) };
            let is_json = format == InputFormat::Ndjson;
            if line.is_empty() || is_json && line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if is_json {
                check_json(&line, &name)?;
            }
            self.push(line)?;
        }
    }

    fn push(&mut self, event: Vec<u8>) -> Outcome<()> {
        self.chunk.push(event);
        if self.chunk.events.len() >= self.chunk_events || self.chunk.bytes >= CHUNK_BYTES {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Waits where the appends are behind. Ends where they have failed.
    fn hand_over(&mut self) -> Outcome<()> {
        if self.chunk.events.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.sender.blocking_send(Ok(chunk)).map_err(|_| Failure::failed("the append has ended"))
    }
}

/// A line without its end; none at the input's end.
pub(crate) fn next_line(
    input: &mut impl BufRead,
    name: &dyn Fn() -> String,
) -> Outcome<Option<Vec<u8>>> {
    next_line_within(input, limit::EVENT_BYTES, name)
}

/// A line of at most so many bytes.
pub(crate) fn next_line_within(
    input: &mut impl BufRead,
    max_bytes: u64,
    name: &dyn Fn() -> String,
) -> Outcome<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // Two bytes more than an event has: for the line end.
    let mut bounded = input.by_ref().take(max_bytes + 2);
    bounded
        .read_until(b'\n', &mut line)
        .map_err(|e| Failure::failed(format!("{}: {e}", name())))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() as u64 > max_bytes {
        let message = format!("{}: the line is longer than {max_bytes} bytes", name());
        return Err(Failure::usage(message));
    }
    Ok(Some(line))
}

fn too_large(name: &str, what: &str) -> Failure {
    let bound = limit::EVENT_BYTES;
    Failure::usage(format!("{name}: {what} is larger than an event may be, {bound} bytes"))
}

/// Refuses a line that is not one JSON value, without repeating what it holds.
fn check_json(line: &[u8], name: &dyn Fn() -> String) -> Outcome<()> {
    serde_json::from_slice::<serde::de::IgnoredAny>(line).map(|_| ()).map_err(|e| {
        let place = e.column();
        Failure::usage(format!("{}: it is not one JSON value (column {place})", name()))
    })
}
