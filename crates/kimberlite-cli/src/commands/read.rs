//! `kimberlite read`: a range of events.

use kimberlite::{CallOptions, Client, StreamId, limit};

use crate::connect::{Connection, Database, stream};
use crate::events::{EventFormat, EventWriter};
use crate::failure::{Failure, Outcome, exit};
use crate::output::Output;
use crate::signals::Signals;

/// Events in one page: as many as an append takes.
const PAGE_EVENTS: u64 = limit::BATCH_EVENTS;
/// Bytes in one page, unless its one event is larger.
const PAGE_BYTES: u64 = 1 << 20;

/// Reads events
///
/// Reads from an offset on, to the end that the stream has now. `kimberlite tail -f` goes on from
/// there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite read visits --from 100 --limit 10
  kimberlite read visits --format ndjson | jq .data
  kimberlite read scans --from 7 --limit 1 --format raw >scan.png")]
pub(crate) struct Args {
    /// The stream's name
    stream: String,

    /// The offset of the first event
    #[arg(long, allow_negative_numbers = true, value_name = "OFFSET", default_value_t = 0)]
    from: u64,

    /// The offset to stop before
    #[arg(long, allow_negative_numbers = true, value_name = "OFFSET")]
    to: Option<u64>,

    /// At most so many events
    #[arg(short, long, value_name = "COUNT")]
    limit: Option<u64>,

    /// How events are written
    #[arg(short, long, value_enum, default_value_t = EventFormat::Text)]
    format: EventFormat,

    /// Lets control characters in the data through to the terminal
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Reads and writes out.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    let work = async |client: Client| signals.or(read(args, &client)).await;
    args.connection.with_client(Database::MustExist, signals, work).await
}

async fn read(args: &Args, client: &Client) -> Outcome<()> {
    let info = stream(client, &args.stream).await?;
    let range = checked_range(args.from, args.to, info.next_offset, "--from")?;
    let end =
        args.limit.map_or(range.end, |limit| range.end.min(range.start.saturating_add(limit)));
    let mut out = Output::stdout();
    let mut writer = EventWriter::new(args.format, args.raw);
    let mut pages = Pages::new(client, StreamId(info.stream_id), range.start..end);
    while let Some(page) = pages.next().await? {
        for event in page.events() {
            writer.event(&mut out, &event)?;
        }
    }
    writer.finish(&mut out)
}

/// The offsets from `from` up to `to` or the stream's end. Not found where the stream ends before.
pub(crate) fn checked_range(
    from: u64,
    to: Option<u64>,
    next_offset: u64,
    option: &str,
) -> Outcome<std::ops::Range<u64>> {
    if from > next_offset {
        let message = format!("{option} is {from}; the stream's next offset is {next_offset}");
        return Err(Failure::new(exit::NOT_FOUND, message)
            .cure(format!("use an offset from 0 to {next_offset}")));
    }
    let end = to.unwrap_or(next_offset);
    if end < from {
        return Err(Failure::usage(format!(
            "--to is {end}; it must not lie before {option}, {from}"
        )));
    }
    Ok(from..end.min(next_offset))
}

/// A range of a stream, page by page, each small enough to hold many times.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    stream: StreamId,
    range: std::ops::Range<u64>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(
        client: &'a Client,
        stream: StreamId,
        range: std::ops::Range<u64>,
    ) -> Pages<'a> {
        Pages { client, stream, range }
    }

    /// The next page; none at the range's end.
    pub(crate) async fn next(&mut self) -> Outcome<Option<kimberlite::Page>> {
        let wanted = self.range.end.saturating_sub(self.range.start).min(PAGE_EVENTS);
        if wanted == 0 {
            return Ok(None);
        }
        let (core, from) = (self.client.as_core(), self.range.start);
        let options = CallOptions::default();
        let page = core.read(self.stream, from, wanted, PAGE_BYTES, &options).await?;
        self.range.start = page.next_offset();
        Ok((!page.is_empty()).then_some(page))
    }
}
