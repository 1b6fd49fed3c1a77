//! `kimberlite verify`: whether stored data is what was written.

use kimberlite::{
    CallOptions, Client, ErrorCode, StreamId, StreamInfo, genesis_of, limit, verify_blocks,
};

use super::streams::hex;
use crate::connect::{Connection, Database, stream};
use crate::escape;
use crate::failure::{Failure, Outcome, exit};
use crate::output::Output;
use crate::signals::Signals;

/// Bytes of one read when this side walks the chain.
const READ_BYTES: u64 = 4 << 20;

/// Verifies the hash chains of streams
///
/// The exit code is 0 where every block of every stream fits, 7 where one does not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite verify
  kimberlite verify visits --local")]
pub(crate) struct Args {
    /// The streams' names; all of the tenant's where none is given
    stream: Vec<String>,

    /// Reads every block and walks the chain here, without trusting the server
    #[arg(long)]
    local: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Verifies, tells about each stream and, where one is bad, fails at the end.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    let tenant_id = args.connection.tenant()?;
    let work = async |client: Client| signals.or(verify(args, &client, tenant_id)).await;
    args.connection.with_client(Database::MustExist, signals, work).await
}

async fn verify(args: &Args, client: &Client, tenant_id: u64) -> Outcome<()> {
    let mut streams = Vec::new();
    for name in &args.stream {
        streams.push(stream(client, name).await?);
    }
    if args.stream.is_empty() {
        streams = client.list_streams().await?;
    }
    let mut out = Output::stdout();
    let mut bad = 0;
    for info in &streams {
        let found = if args.local {
            local(client, tenant_id, info).await?
        } else {
            remote(client, info).await?
        };
        let name = escape::text(&info.name);
        match found {
            Found::Fits { count, head } => {
                out.line(&format!("ok   {name}: {count} events, head {head}"))?;
            }
            Found::Misfit { offset } => {
                bad += 1;
                out.line(&format!("BAD  {name}: the block at offset {offset} does not fit"))?;
            }
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

enum Found {
    Fits { count: u64, head: String },
    Misfit { offset: u64 },
}

/// The server walks the chain.
async fn remote(client: &Client, info: &StreamInfo) -> Outcome<Found> {
    let found = client.verify(StreamId(info.stream_id)).await?;
    Ok(if found.valid {
        Found::Fits { count: found.count, head: hex(&found.head) }
    } else {
        Found::Misfit { offset: found.first_bad_offset }
    })
}

/// This side walks the chain, from the genesis that the stream's name and class give, and compares
/// the head with the one that was told before.
async fn local(client: &Client, tenant_id: u64, info: &StreamInfo) -> Outcome<Found> {
    let mut proven = genesis_of(tenant_id, info)?;
    let (core, options) = (client.as_core(), CallOptions::default());
    let id = StreamId(info.stream_id);
    while proven.next_offset < info.next_offset {
        let from = proven.next_offset;
        let blocks = core.read_blocks(id, from, limit::BATCH_EVENTS, READ_BYTES, &options).await;
        let checked = blocks.and_then(|blocks| verify_blocks(proven, blocks.bytes()));
        proven = match checked {
            Ok(next) if next.next_offset == from => return Ok(Found::Misfit { offset: from }),
            Ok(next) => next,
            Err(e) if e.code == ErrorCode::Corruption => {
                return Ok(Found::Misfit { offset: from.max(e.value) });
            }
            Err(e) => return Err(e.into()),
        };
    }
    if proven.next_offset == info.next_offset && proven.head != info.head {
        return Ok(Found::Misfit { offset: proven.next_offset.saturating_sub(1) });
    }
    Ok(Found::Fits { count: proven.next_offset, head: hex(&proven.head) })
}
