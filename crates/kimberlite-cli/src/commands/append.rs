//! `kimberlite append`: events from arguments, files or standard input.

use std::path::PathBuf;

use clap::ValueEnum;
use kimberlite::core::ExpectedOffset;
use kimberlite::{CallOptions, Client, DataClass, Error, ErrorCode, EventBatch, StreamId, limit};
use tokio::sync::mpsc;

use crate::connect::{Connection, Database, has_name, stream};
use crate::failure::{Failure, Outcome};
use crate::input::{self, Chunk, InputFormat, Source};
use crate::output::{Output, note};
use crate::signals::Signals;

/// Bytes in one append: well below the limit, so that a deadline fits a slow disk.
const APPEND_BYTES: usize = 4 << 20;

/// Appends events
///
/// They are taken from the arguments, from files, or from standard input. Each append is all or
/// nothing and durable when it is reported.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite append visits '{\"patient\": 7}' '{\"patient\": 9}'
  tail -f app.log | kimberlite append logs --create non-phi
  kimberlite append scans --format binary --file scan.png
  kimberlite append orders --expected-offset 41 '{\"order\": 17}'")]
pub(crate) struct Args {
    /// The stream's name
    stream: String,

    /// Events; without any, and without --file, they come from standard input
    #[arg(value_name = "EVENT", allow_negative_numbers = true, conflicts_with_all = ["file", "format"])]
    events: Vec<String>,

    /// A file with events; may be repeated; - is standard input
    #[arg(short = 'F', long, value_name = "FILE")]
    file: Vec<PathBuf>,

    /// What in the input is an event
    #[arg(short, long, value_enum, default_value_t = InputFormat::Lines)]
    format: InputFormat,

    /// Appends only where the first event lands at this offset; further batches follow it
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(u64).range(..u64::MAX))]
    expected_offset: Option<u64>,

    /// Makes the stream with this data class where it is not there
    #[arg(long, value_enum, value_name = "CLASS")]
    create: Option<Class>,

    /// At most so many events in one append
    #[arg(long, value_name = "COUNT", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..=limit::BATCH_EVENTS))]
    batch: u64,

    /// Does not say what was appended
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    connection: Connection,
}

/// A data class on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Class {
    /// Protected health information: every read and query is audited
    #[value(alias = "PHI")]
    Phi,
    /// Data without health information
    #[value(alias = "NonPHI", alias = "nonphi")]
    NonPhi,
    /// Health data from which identities were removed
    #[value(alias = "Deidentified")]
    Deidentified,
}

impl From<Class> for DataClass {
    fn from(class: Class) -> DataClass {
        match class {
            Class::Phi => DataClass::Phi,
            Class::NonPhi => DataClass::NonPhi,
            Class::Deidentified => DataClass::Deidentified,
        }
    }
}

/// Appends everything and says what became of it.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    let database = if args.create.is_some() { Database::MayBeNew } else { Database::MustExist };
    let work = async |client: Client| append(args, &client, signals).await;
    args.connection.with_client(database, signals, work).await
}

async fn append(args: &Args, client: &Client, signals: &Signals) -> Outcome<()> {
    let stream = open_stream(client, &args.stream, args.create).await?;
    let max_events = usize::try_from(args.batch).unwrap_or(usize::MAX);
    let mut batches = Batches { chunks: chunks(args)?, held: None, max_events };
    let mut appender = Appender::new(client, stream, args.expected_offset);
    let result = loop {
        // Between appends a signal ends it at once; within one, its answer is awaited first, so
        // that what is reported is what happened.
        match signals.or(batches.next()).await {
            Ok(None) => break Ok(()),
            Ok(Some(batch)) => {
                if let Err(failure) = appender.append(&batch.events).await {
                    break Err(failure);
                }
            }
            Err(failure) => break Err(failure),
        }
    };
    report(args, &appender, result)
}

/// What was appended is told on standard output; on standard error where it is not all.
fn report(args: &Args, appender: &Appender<'_>, result: Outcome<()>) -> Outcome<()> {
    let text = appender.summary();
    match result {
        Ok(()) if args.quiet => Ok(()),
        Ok(()) => {
            let mut out = Output::stdout();
            let told = out.line(&text).and_then(|()| out.flush());
            // Whoever takes it for a failed append would append once more.
            told.map_err(|e| e.during(format!("{text}, which could not be told")))
        }
        Err(failure) => {
            if appender.appended > 0 {
                note(&format!("before that: {text}"));
            }
            Err(failure)
        }
    }
}

/// The stream, made where that is asked for.
pub(crate) async fn open_stream(
    client: &Client,
    name: &str,
    create: Option<Class>,
) -> Outcome<StreamId> {
    has_name(name)?;
    match create {
        Some(class) => Ok(client.create_stream(name, class.into()).await?),
        None => Ok(StreamId(stream(client, name).await?.stream_id)),
    }
}

/// The events of the arguments as one chunk each, or what the reading thread finds.
fn chunks(args: &Args) -> Outcome<mpsc::Receiver<Outcome<Chunk>>> {
    if args.events.is_empty() {
        let sources = args.file.iter().map(|path| match path.to_str() {
            Some("-") => Source::Stdin,
            _ => Source::File(path.clone()),
        });
        let sources = if args.file.is_empty() { vec![Source::Stdin] } else { sources.collect() };
        return input::start(sources, args.format, usize::try_from(args.batch).unwrap_or(1));
    }
    let (sender, receiver) = mpsc::channel(args.events.len());
    for event in &args.events {
        let mut chunk = Chunk::default();
        chunk.push(event.clone().into_bytes());
        // The channel has room for all of them.
        let _ = sender.try_send(Ok(chunk));
    }
    Ok(receiver)
}

/// What the input gives, put together as far as one append takes it.
struct Batches {
    chunks: mpsc::Receiver<Outcome<Chunk>>,
    /// What came after the last batch and did not fit into it.
    held: Option<Outcome<Chunk>>,
    max_events: usize,
}

impl Batches {
    /// Waits for events and takes as many more as are there; none at the input's end. Events that
    /// came before a failure come before it here too.
    async fn next(&mut self) -> Outcome<Option<Chunk>> {
        let first = match self.held.take() {
            Some(held) => Some(held),
            None => self.chunks.recv().await,
        };
        let Some(first) = first else { return Ok(None) };
        let mut batch = first?;
        while batch.bytes < APPEND_BYTES {
            match self.chunks.try_recv() {
                Ok(Ok(more)) if batch.events.len() + more.events.len() <= self.max_events => {
                    batch.append(more);
                }
                Ok(other) => {
                    self.held = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(Some(batch))
    }
}

/// Appends batch after batch, each exactly once.
pub(crate) struct Appender<'a> {
    client: &'a Client,
    stream: StreamId,
    /// Where the next batch must land, if that matters.
    pub(crate) expected: Option<u64>,
    /// How many events were appended.
    pub(crate) appended: u64,
    first_offset: u64,
    next_offset: u64,
    position: u64,
}

impl<'a> Appender<'a> {
    pub(crate) fn new(client: &'a Client, stream: StreamId, expected: Option<u64>) -> Appender<'a> {
        Appender {
            client,
            stream,
            expected,
            appended: 0,
            first_offset: 0,
            next_offset: 0,
            position: 0,
        }
    }

    /// Appends one batch. Where its deadline passes, it is settled with its key once more.
    pub(crate) async fn append(&mut self, events: &[Vec<u8>]) -> Outcome<()> {
        let batch = EventBatch::from_events(events)?;
        let count = u64::from(batch.count());
        let expected = self.expected.map_or(ExpectedOffset::Any, ExpectedOffset::Exact);
        let (core, options) = (self.client.as_core(), CallOptions::default());
        let mut result = core.append(self.stream, expected, batch.clone(), &options).await;
        if let Some(key) = result.as_ref().err().and_then(|e| e.outcome_unknown) {
            let settled = core.append_with_key(key, self.stream, expected, batch, &options).await;
            // Where that fails too, the outcome is as unknown as it was.
            result = settled.or(result);
        }
        let done = result.map_err(|e| self.explain(e))?;
        if self.appended == 0 {
            self.first_offset = done.first_offset;
        }
        self.appended += count;
        self.next_offset = done.first_offset + count;
        self.position = done.position;
        self.expected = self.expected.map(|_| self.next_offset);
        Ok(())
    }

    fn explain(&self, error: Error) -> Failure {
        let mismatch = error.code == ErrorCode::OffsetMismatch;
        let unknown = error.outcome_unknown.is_some();
        let actual = error.value;
        let failure = Failure::from(error);
        if unknown {
            return failure
                .during("whether the last batch was appended is not known")
                .cure("read the stream's end to see");
        }
        if mismatch {
            return failure.cure(format!(
                "read what was appended meanwhile, then use --expected-offset {actual}"
            ));
        }
        failure
    }

    /// What was appended, for a person and for scripts.
    pub(crate) fn summary(&self) -> String {
        match self.appended {
            0 => "appended nothing".to_string(),
            1 => format!(
                "appended 1 event at offset {}, position {}",
                self.first_offset, self.position
            ),
            count => format!(
                "appended {count} events, offsets {} to {}, position {}",
                self.first_offset,
                self.next_offset - 1,
                self.position
            ),
        }
    }
}
