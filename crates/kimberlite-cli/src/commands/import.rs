//! `kimberlite import`: a file's events into a stream, once, however often it is interrupted.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use kimberlite::{Client, StreamId, limit};

use super::append::{Appender, Class, open_stream};
use super::read::Pages;
use super::streams::hex;
use crate::connect::{Connection, Database};
use crate::failure::{Failure, Outcome, exit};
use crate::output::Output;
use crate::progress;
use crate::signals::Signals;
use crate::transfer::FileFormat;
use crate::transfer::progress_file::Progress;
use crate::transfer::reader::EventReader;

/// Bytes in one append.
const APPEND_BYTES: usize = 4 << 20;
/// How often the progress is written down. What happens between is found in the stream.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Imports events from a file
///
/// The same command again goes on after an interruption: nothing is imported twice, nothing left
/// out. Nobody else may append to the stream meanwhile; where somebody does, it stops. How far it
/// got stands in FILE.progress, which stays, so that a finished import is not repeated and only what
/// was added to the file since is imported.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite import visits visits.ndjson --create phi
  kimberlite import visits visits.raw --format raw
  zcat visits.ndjson.gz | kimberlite import visits -")]
pub(crate) struct Args {
    /// The stream's name
    stream: String,

    /// The file; - is standard input, which cannot be resumed
    file: PathBuf,

    /// How events lie in the file
    #[arg(short, long, value_enum, default_value_t = FileFormat::Ndjson)]
    format: FileFormat,

    /// Makes the stream with this data class where it is not there
    #[arg(long, value_enum, value_name = "CLASS")]
    create: Option<Class>,

    /// Keeps the progress in this file instead of FILE.progress
    #[arg(long, value_name = "FILE")]
    progress: Option<PathBuf>,

    /// At most so many events in one append
    #[arg(long, value_name = "COUNT", default_value_t = 5_000,
          value_parser = clap::value_parser!(u64).range(1..=limit::BATCH_EVENTS))]
    batch: u64,

    #[command(flatten)]
    connection: Connection,
}

/// Imports what is not there yet.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    if args.file.to_str() == Some("-") && args.progress.is_some() {
        return Err(Failure::usage("--progress is for files; standard input cannot be resumed"));
    }
    let database = if args.create.is_some() { Database::MayBeNew } else { Database::MustExist };
    let work = async |client: Client| import(args, &client, signals).await;
    args.connection.with_client(database, signals, work).await
}

async fn import(args: &Args, client: &Client, signals: &Signals) -> Outcome<()> {
    let from_stdin = args.file.to_str() == Some("-");
    let mut import = if from_stdin {
        let reader = EventReader::stdin(args.format)?;
        let stream = open_stream(client, &args.stream, args.create).await?;
        let base = client.stream_info(stream).await?.next_offset;
        Import::new(args, client, stream, reader, None, progress_at(client, args, stream, base)?)
    } else {
        // The file comes first: where it is missing no stream is made.
        let reader = EventReader::file(&args.file, args.format)?;
        let stream = open_stream(client, &args.stream, args.create).await?;
        let path = args.progress.clone().unwrap_or_else(|| Progress::path_for(&args.file));
        signals.or(resume(args, client, stream, reader, path)).await?
    };
    if import.progress.finished {
        return import.report("was imported before");
    }
    let result = import.run(signals).await;
    import.bar.finish();
    let saved = import.save();
    if let Err(failure) = result {
        saved?;
        return Err(match import.path {
            Some(_) => failure.go_on("the same command again goes on from there"),
            None => failure,
        });
    }
    let is_old = import.events_before == Some(import.progress.events);
    import.report(if is_old { "was imported before" } else { "imported" })
}

fn progress_at(client: &Client, args: &Args, stream: StreamId, base: u64) -> Outcome<Progress> {
    Ok(Progress {
        log_id: hex(&client.log_id()),
        tenant_id: args.connection.tenant()?,
        stream_id: stream.0,
        base_offset: base,
        events: 0,
        position: 0,
        last_start: 0,
        finished: false,
    })
}

/// Finds out how far earlier runs got: by their progress file, and by what the stream holds beyond.
async fn resume<'a>(
    args: &Args,
    client: &'a Client,
    stream: StreamId,
    reader: EventReader,
    path: PathBuf,
) -> Outcome<Import<'a>> {
    let next_offset = client.stream_info(stream).await?.next_offset;
    let Some(progress) = Progress::load(&path)? else {
        let mut progress = progress_at(client, args, stream, next_offset)?;
        progress.position = reader.last_end;
        progress.save(&path)?;
        return Ok(Import::new(args, client, stream, reader, Some(path), progress));
    };
    let log_id = hex(&client.log_id());
    progress.check(&log_id, args.connection.tenant()?, stream.0, &path)?;
    let reader = continued(args, client, stream, &progress, next_offset, &path).await?;
    let mut import = Import::new(args, client, stream, reader, Some(path), progress);
    if import.progress.finished {
        // The file may have grown since.
        import.progress.finished = false;
        import.events_before = Some(import.progress.events);
    }
    import.recognise(next_offset).await?;
    Ok(import)
}

/// A reader behind what was imported, after a look at whether the file and the stream still are
/// those of the progress.
async fn continued(
    args: &Args,
    client: &Client,
    stream: StreamId,
    progress: &Progress,
    next_offset: u64,
    path: &Path,
) -> Outcome<EventReader> {
    let done = progress.base_offset + progress.events;
    let other = |what: &str| {
        Failure::new(exit::CONFLICT, what).cure(format!(
            "import it elsewhere, or remove {} to import it here once more",
            path.display()
        ))
    };
    if next_offset < done {
        return Err(other(&format!(
            "the stream ends at offset {next_offset}, but {done} were there: it is not the same"
        )));
    }
    if progress.events == 0 {
        return EventReader::file_at(&args.file, args.format, progress.position, 0);
    }
    let before = progress.events - 1;
    let mut reader = EventReader::file_at(&args.file, args.format, progress.last_start, before)?;
    // What cannot be read there is not what was read before.
    let last = reader.next().unwrap_or_default();
    let page = Pages::new(client, stream, done - 1..done).next().await?;
    let same = page.is_some_and(|page| last.is_some() && page.event(0) == last.as_deref());
    // A line that was the file's last may have got its end since.
    let ends = reader.last_text_end..=reader.last_end;
    if same && ends.contains(&progress.position) {
        return Ok(reader);
    }
    Err(other(&format!("{} is not the file that was imported so far", args.file.display())))
}

struct Import<'a> {
    reader: EventReader,
    appender: Appender<'a>,
    client: &'a Client,
    stream: StreamId,
    batch: usize,
    progress: Progress,
    /// What an earlier run took for the whole file.
    events_before: Option<u64>,
    /// Where the progress is kept; none for standard input.
    path: Option<PathBuf>,
    saved: Instant,
    bar: ProgressBar,
}

impl<'a> Import<'a> {
    fn new(
        args: &Args,
        client: &'a Client,
        stream: StreamId,
        reader: EventReader,
        path: Option<PathBuf>,
        progress: Progress,
    ) -> Import<'a> {
        let expected = progress.base_offset + progress.events;
        let total = std::fs::metadata(&args.file).map_or(0, |about| about.len());
        let bar = progress::bar(total, true);
        bar.set_message("import");
        Import {
            reader,
            appender: Appender::new(client, stream, Some(expected)),
            client,
            stream,
            batch: usize::try_from(args.batch).unwrap_or(usize::MAX),
            progress,
            events_before: None,
            path,
            saved: Instant::now(),
            bar,
        }
    }

    /// Steps over what an earlier run appended and did not come to write down. A conflict where
    /// it is not the file's: somebody else appended.
    async fn recognise(&mut self, next_offset: u64) -> Outcome<()> {
        let from = self.progress.base_offset + self.progress.events;
        let mut pages = Pages::new(self.client, self.stream, from..next_offset);
        while let Some(page) = pages.next().await? {
            for event in page.events() {
                let wanted = self.reader.next()?;
                if wanted.is_none() {
                    // All of the file is there; what follows came after it.
                    self.progress.finished = true;
                    return self.save();
                }
                if wanted.as_deref() != Some(event.data) {
                    let message = format!(
                        "somebody else appended to the stream: its event at offset {} is not \
                         the file's next",
                        event.offset
                    );
                    return Err(Failure::new(exit::CONFLICT, message)
                        .cure("import into a stream that nobody else appends to"));
                }
                self.advance(1);
            }
        }
        self.appender.expected = Some(next_offset);
        Ok(())
    }

    fn advance(&mut self, events: u64) {
        self.progress.events += events;
        self.progress.position = self.reader.last_end;
        self.progress.last_start = self.reader.last_start;
        self.bar.set_position(self.progress.position);
    }

    /// Appends until the file's end. A signal is heard between appends.
    async fn run(&mut self, signals: &Signals) -> Outcome<()> {
        loop {
            if let Some(signal) = signals.come() {
                return Err(Failure::Signal(signal));
            }
            let (events, end) = self.read_batch()?;
            if !events.is_empty() {
                self.appender.append(&events).await.map_err(conflict)?;
                self.advance(events.len() as u64);
            }
            end?;
            if events.is_empty() {
                self.progress.finished = true;
                return Ok(());
            }
            if self.saved.elapsed() >= SAVE_INTERVAL {
                self.save()?;
            }
        }
    }

    /// The next events, and what ended them before the batch was full.
    fn read_batch(&mut self) -> Outcome<(Vec<Vec<u8>>, Outcome<()>)> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < self.batch && bytes < APPEND_BYTES {
            match self.reader.next() {
                Ok(Some(event)) => {
                    bytes += event.len();
                    events.push(event);
                }
                Ok(None) => break,
                // Reading on after it would leave a hole, so that what came before is the last.
                Err(failure) => return Ok((events, Err(failure))),
            }
        }
        Ok((events, Ok(())))
    }

    fn save(&mut self) -> Outcome<()> {
        self.saved = Instant::now();
        self.path.as_ref().map_or(Ok(()), |path| self.progress.save(path))
    }

    fn report(&self, what: &str) -> Outcome<()> {
        let (count, base) = (self.progress.events, self.progress.base_offset);
        let mut out = Output::stdout();
        match count {
            0 => out.line(&format!("{what}: 0 events"))?,
            count => {
                let last = base + count - 1;
                out.line(&format!("{what}: {count} events, offsets {base} to {last}"))?;
            }
        }
        out.flush()
    }
}

/// An unexpected offset is somebody else's append.
fn conflict(failure: Failure) -> Failure {
    if failure.code() != exit::CONFLICT {
        return failure;
    }
    failure
        .during("somebody else appended to the stream")
        .cure("import into a stream that nobody else appends to")
}
