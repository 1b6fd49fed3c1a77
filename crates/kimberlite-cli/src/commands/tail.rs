//! `kimberlite tail`: the end of a stream, and what comes.

use kimberlite::{Client, Offset, StreamId};

use super::read::Pages;
use crate::connect::{Connection, Database, stream};
use crate::events::{EventFormat, EventWriter};
use crate::failure::{Failure, Outcome};
use crate::output::{self, Output};
use crate::signals::Signals;

/// Shows the last events of a stream
///
/// With -f it goes on with every event as it is committed, across lost connections, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite tail visits
  kimberlite tail -f visits -n 0 --format ndjson | jq .")]
pub(crate) struct Args {
    /// The stream's name
    stream: String,

    /// Shows every event that comes, until Ctrl-C
    #[arg(short = 'f', long)]
    follow: bool,

    /// How many of the last events to show first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    lines: u64,

    /// How events are written
    #[arg(long, value_enum, default_value_t = EventFormat::Text)]
    format: EventFormat,

    /// Lets control characters in the data through to the terminal
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Shows the end, and follows.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    if args.follow && args.format == EventFormat::Json {
        return Err(
            Failure::usage("--format json has an end, and -f has none").cure("use --format ndjson")
        );
    }
    let work = async |client: Client| signals.or(tail(args, &client)).await;
    args.connection.with_client(Database::MustExist, signals, work).await
}

async fn tail(args: &Args, client: &Client) -> Outcome<()> {
    let info = stream(client, &args.stream).await?;
    let id = StreamId(info.stream_id);
    let first = info.next_offset.saturating_sub(args.lines);
    let mut out = Output::stdout();
    let mut writer = EventWriter::new(args.format, args.raw);
    if !args.follow {
        let mut pages = Pages::new(client, id, first..info.next_offset);
        while let Some(page) = pages.next().await? {
            for event in page.events() {
                writer.event(&mut out, &event)?;
            }
        }
        return writer.finish(&mut out);
    }
    let subscription = client.subscribe(id, Offset(first)).await?;
    let follow = async {
        loop {
            let Some(page) = subscription.next(None).await? else { continue };
            for event in page.events() {
                writer.event(&mut out, &event)?;
            }
            out.flush()?;
        }
    };
    tokio::select! {
        outcome = follow => outcome,
        () = output::closed() => Err(Failure::OutputClosed),
    }
}
