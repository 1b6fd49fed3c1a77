//! `kimberlite export`: a stream's events into a file, across interruptions.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use kimberlite::{Client, Event, StreamId};

use super::read::{Pages, checked_range};
use crate::connect::{Connection, Database, stream};
use crate::events::push_json;
use crate::failure::{Failure, Outcome, exit};
use crate::output::{self, Output};
use crate::progress;
use crate::signals::Signals;
use crate::transfer::{FileFormat, MAX_LINE_BYTES, raw};

/// How much of the file is looked at in one step when its last line is searched.
const STEP_BYTES: u64 = 64 << 10;

/// Exports events to a file
///
/// It takes what the stream holds now. With --resume a file that an interrupted export left is
/// finished: from its last whole event on, after a look at whether that event is the stream's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite export visits --output visits.ndjson
  kimberlite export visits --output visits.ndjson --resume
  kimberlite export visits --format raw | zstd >visits.raw.zst")]
pub(crate) struct Args {
    /// The stream's name
    stream: String,

    /// The file; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// How events lie in the file
    #[arg(short, long, value_enum, default_value_t = FileFormat::Ndjson)]
    format: FileFormat,

    /// Goes on with the file where it is there
    #[arg(long, requires = "output")]
    resume: bool,

    /// The offset of the first event
    #[arg(long, allow_negative_numbers = true, value_name = "OFFSET", default_value_t = 0)]
    from: u64,

    /// The offset to stop before
    #[arg(long, allow_negative_numbers = true, value_name = "OFFSET")]
    to: Option<u64>,

    #[command(flatten)]
    connection: Connection,
}

/// Exports what is not in the file yet.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    let work = async |client: Client| export(args, &client, signals).await;
    args.connection.with_client(Database::MustExist, signals, work).await
}

async fn export(args: &Args, client: &Client, signals: &Signals) -> Outcome<()> {
    let info = signals.or(stream(client, &args.stream)).await?;
    let range = checked_range(args.from, args.to, info.next_offset, "--from")?;
    let id = StreamId(info.stream_id);
    // As everywhere, `-` is standard output.
    let output = args.output.as_ref().filter(|path| path.as_os_str() != "-");
    let Some(path) = output else {
        let mut target = Target::Stdout(Output::stdout());
        signals.or(copy(args, client, id, range.clone(), range.start, &mut target)).await?;
        return Ok(());
    };
    let (file, from) = match reopen(args, path)? {
        Some(file) => signals.or(found(args, client, id, file, path, &range)).await?,
        None => (new_file(path)?, range.start),
    };
    let mut target = Target::File(std::io::BufWriter::with_capacity(1 << 20, file), path.clone());
    let copied = copy(args, client, id, range.clone(), from, &mut target);
    let done = signals.or(copied).await;
    let flushed = target.finish();
    if let Err(failure) = done {
        return Err(failure.go_on("--resume goes on from there"));
    }
    flushed?;
    let mut out = Output::stdout();
    let count = range.end.saturating_sub(range.start);
    out.line(&format!("exported: {count} events, {} of them now", range.end.saturating_sub(from)))?;
    out.flush()
}

/// The file to go on with, if it is there.
fn reopen(args: &Args, path: &Path) -> Outcome<Option<File>> {
    if !args.resume {
        return Ok(None);
    }
    match File::options().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::file(path, &e)),
    }
}

fn new_file(path: &Path) -> Outcome<File> {
    File::options().write(true).create_new(true).open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(exit::CONFLICT, format!("{} is there already", path.display()))
                .cure("--resume goes on with it; else name another file")
        }
        _ => Failure::file(path, &e),
    })
}

/// What the file's last whole event is, checked against the stream; the file is cut behind it.
async fn found(
    args: &Args,
    client: &Client,
    stream: StreamId,
    mut file: File,
    path: &Path,
    range: &std::ops::Range<u64>,
) -> Outcome<(File, u64)> {
    let last = match args.format {
        FileFormat::Ndjson => last_line(&mut file, path)?,
        FileFormat::Raw => last_record(&mut file, path, range.start)?,
    };
    let from = match &last.event {
        None => range.start,
        Some((offset, _)) => offset + 1,
    };
    if let Some((offset, bytes)) = &last.event {
        if args.format == FileFormat::Ndjson {
            check_first(&mut file, path, range.start)?;
        }
        let page = match range.contains(offset) {
            true => Pages::new(client, stream, *offset..offset + 1).next().await?,
            false => None,
        };
        let mut wanted = Vec::new();
        if let Some(event) = page.as_ref().and_then(|page| page.events().next()) {
            push(args.format, &mut wanted, &event);
        }
        if wanted != *bytes {
            let message = format!(
                "{}: its last event, offset {offset}, is not this stream's within the range",
                path.display()
            );
            return Err(Failure::new(exit::CONFLICT, message)
                .cure("check the stream, --from, --to and --format, or name another file"));
        }
    }
    let cut = file.set_len(last.end).and_then(|()| file.seek(SeekFrom::Start(last.end)));
    cut.map_err(|e| Failure::file(path, &e))?;
    Ok((file, from))
}

/// The last whole event in a file.
struct Last {
    /// Its offset and its bytes in the file.
    event: Option<(u64, Vec<u8>)>,
    /// Where it ends.
    end: u64,
}

/// Looks from the end backwards for the last line that has its end.
fn last_line(file: &mut File, path: &Path) -> Outcome<Last> {
    let failed = |e: std::io::Error| Failure::file(path, &e);
    let length = file.metadata().map_err(failed)?.len();
    let (mut start, mut tail) = (length, Vec::new());
    loop {
        let ends: Vec<usize> =
            (0..tail.len()).rev().filter(|at| tail[*at] == b'\n').take(2).collect();
        let whole_file = start == 0;
        let line = match (ends.as_slice(), whole_file) {
            ([end, before], _) => Some((before + 1, *end)),
            ([end], true) => Some((0, *end)),
            ([], true) if begins_a_line(&tail) => return Ok(Last { event: None, end: 0 }),
            ([], true) => return Err(not_an_export(path)),
            _ => None,
        };
        if let Some((begin, end)) = line {
            let bytes = tail[begin..=end].to_vec();
            let offset = offset_of(&bytes).filter(|_| begins_a_line(&tail[end + 1..]));
            let offset = offset.ok_or_else(|| not_an_export(path))?;
            return Ok(Last { event: Some((offset, bytes)), end: start + end as u64 + 1 });
        }
        if tail.len() as u64 > 2 * MAX_LINE_BYTES {
            return Err(not_an_export(path));
        }
        // Doubled, so that a long line is not read over and over.
        let step = (tail.len() as u64).max(STEP_BYTES).min(start);
        start -= step;
        let mut bytes = vec![0; usize::try_from(step).unwrap_or(0)];
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        file.read_exact(&mut bytes).map_err(failed)?;
        bytes.extend_from_slice(&tail);
        tail = bytes;
    }
}

/// How each line of an export begins.
const LINE_BEGINS: &[u8] = b"{\"offset\":";

/// Whether a line of an export may have been cut to this: nothing else may be thrown away.
fn begins_a_line(bytes: &[u8]) -> bool {
    bytes.iter().zip(LINE_BEGINS).all(|(byte, expected)| byte == expected)
}

/// A conflict where the file begins with another event than the range: it would stay incomplete.
fn check_first(file: &mut File, path: &Path, first: u64) -> Outcome<()> {
    /// The beginning of a line with the longest offset.
    const HEAD_BYTES: u64 = 40;
    let failed = |e: std::io::Error| Failure::file(path, &e);
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Read::take(&mut *file, HEAD_BYTES).read_to_end(&mut head).map_err(failed)?;
    let digits = head.strip_prefix(LINE_BEGINS).ok_or_else(|| not_an_export(path))?;
    let digits: String =
        digits.iter().map(|b| char::from(*b)).take_while(char::is_ascii_digit).collect();
    if digits.parse() == Ok(first) {
        return Ok(());
    }
    let message = format!(
        "{}: it begins with the event of offset {digits}, and the range with {first}",
        path.display()
    );
    Err(Failure::new(exit::CONFLICT, message).cure("give the --from that it was made with"))
}

fn offset_of(line: &[u8]) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    value.get("offset")?.as_u64()
}

fn not_an_export(path: &Path) -> Failure {
    Failure::usage(format!("{}: its last line is not one of an export", path.display()))
        .cure("name another file, or the --format that it has")
}

/// Walks over the records up to the last whole one.
fn last_record(file: &mut File, path: &Path, from: u64) -> Outcome<Last> {
    let name = path.display().to_string();
    let mut input = BufReader::with_capacity(1 << 20, file);
    let Some(first) = raw::read_header(&mut input, &name)? else {
        return Ok(Last { event: None, end: 0 });
    };
    if first != from {
        let message = format!("{name} begins at offset {first}, but --from is {from}");
        return Err(Failure::new(exit::CONFLICT, message).cure(format!("use --from {first}")));
    }
    // Without an event the header is written anew.
    let mut last = Last { event: None, end: 0 };
    let (mut expected, mut end) = (first, raw::HEADER_BYTES);
    while let raw::Next::Event { offset, timestamp_ns, data } =
        raw::read_next(&mut input, expected, &name)?
    {
        end += raw::RECORD_BYTES + data.len() as u64;
        last.end = end;
        let mut bytes = Vec::with_capacity(data.len() + 32);
        raw::push_event(&mut bytes, &Event { offset, timestamp_ns, data: &data });
        last.event = Some((offset, bytes));
        expected += 1;
    }
    Ok(last)
}

/// Appends an event as it stands in a file.
fn push(format: FileFormat, out: &mut Vec<u8>, event: &Event<'_>) {
    match format {
        FileFormat::Raw => raw::push_event(out, event),
        FileFormat::Ndjson => {
            let mut line = String::new();
            push_json(&mut line, event);
            line.push('\n');
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// Where the events go.
enum Target {
    Stdout(Output),
    File(std::io::BufWriter<File>, PathBuf),
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        match self {
            Target::Stdout(out) => out.bytes(bytes),
            Target::File(file, path) => {
                file.write_all(bytes).map_err(|e| output::failure(&path.display().to_string(), &e))
            }
        }
    }

    /// Everything is on the disk then.
    fn finish(&mut self) -> Outcome<()> {
        match self {
            Target::Stdout(out) => out.flush(),
            Target::File(file, path) => file
                .flush()
                .and_then(|()| file.get_ref().sync_all())
                .map_err(|e| Failure::file(path, &e)),
        }
    }
}

async fn copy(
    args: &Args,
    client: &Client,
    stream: StreamId,
    range: std::ops::Range<u64>,
    from: u64,
    target: &mut Target,
) -> Outcome<()> {
    let bar = progress::bar(range.end - range.start, false);
    bar.set_message("export");
    bar.set_position(from - range.start);
    let is_raw = args.format == FileFormat::Raw;
    if is_raw && from == range.start {
        target.write(&raw::header(range.start))?;
    }
    let mut pages = Pages::new(client, stream, from..range.end);
    let mut bytes = Vec::new();
    while let Some(page) = pages.next().await? {
        for event in page.events() {
            bytes.clear();
            push(args.format, &mut bytes, &event);
            target.write(&bytes)?;
        }
        bar.set_position(page.next_offset() - range.start);
    }
    if is_raw {
        bytes.clear();
        raw::push_end(&mut bytes, range.end);
        target.write(&bytes)?;
    }
    bar.finish();
    target.finish()
}
