//! `kimberlite verify`: whether stored data is what was written.

use kimberlite::{Client, StreamId};

use super::streams::hex;
use crate::connect::{Connection, Database, stream};
use crate::escape;
use crate::failure::{Failure, Outcome, exit};
use crate::output::{Output, note};
use crate::signals::Signals;

/// Verifies the hash chains of streams
///
/// The exit code is 0 where every block of every stream fits, 7 where one does not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite verify
  kimberlite verify visits --local")]
pub(crate) struct Args {
    /// The streams' names; where none is given all of the tenant's
    stream: Vec<String>,

    /// Reads every block and walks the chain here, without trusting the server
    #[arg(long)]
    local: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Verifies, tells about each stream and, where one is bad, fails at the end.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    let work = async |client: Client| signals.or(verify(args, &client)).await;
    args.connection.with_client(Database::MustExist, signals, work).await
}

async fn verify(args: &Args, client: &Client) -> Outcome<()> {
    let mut streams = Vec::new();
    for name in &args.stream {
        streams.push(stream(client, name).await?);
    }
    if args.stream.is_empty() {
        streams = client.list_streams().await?;
        if streams.is_empty() {
            note("there are no streams");
        }
    }
    let mut out = Output::stdout();
    let mut bad = 0;
    for info in &streams {
        let id = StreamId(info.stream_id);
        let found = match args.local {
            true => client.verify_locally(id).await?,
            false => client.verify(id).await?,
        };
        let name = escape::text(&info.name);
        if found.valid {
            let head = hex(&found.head);
            out.line(&format!("ok   {name}: {} events, head {head}", found.count))?;
        } else {
            bad += 1;
            let offset = found.first_bad_offset;
            out.line(&format!("BAD  {name}: the block at offset {offset} does not fit"))?;
        }
        out.flush()?;
    }
    if bad == 0 {
        return Ok(());
    }
    let message = format!("{bad} of {} streams are not what was written", streams.len());
    Err(Failure::new(exit::NOT_VERIFIED, message)
        .cure("restore them from a backup; events before the named offsets are proven"))
}
