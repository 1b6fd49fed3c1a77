//! `kimberlite verify`: whether stored data is what was written.

use kimberlite::{Client, ErrorCode, StreamId, StreamInfo};

use super::streams::hex;
use crate::connect::{AUDIT_STREAM, Connection, Database, stream};
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
    /// The streams' names; where none is given all of the tenant's, and _audit where the database
    /// lets the caller verify it
    stream: Vec<String>,

    /// Reads every block and walks the chain here, without trusting the server; but for _audit,
    /// whose blocks are not handed out
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
        streams.push(match name.as_str() {
            AUDIT_STREAM => client.stream_by_name(name).await.map_err(no_audit)?,
            name => stream(client, name).await?,
        });
    }
    if args.stream.is_empty() {
        streams = client.list_streams().await?;
        if streams.is_empty() {
            note("there are no streams");
        }
        streams.extend(audit(client, &streams).await?);
    }
    let mut out = Output::stdout();
    let mut bad = 0;
    for info in &streams {
        let id = StreamId(info.stream_id);
        let found = match args.local && info.name != AUDIT_STREAM {
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

/// The tenant's audit stream, where the caller may verify it and it is not among the streams.
async fn audit(client: &Client, streams: &[StreamInfo]) -> Outcome<Option<StreamInfo>> {
    if streams.iter().any(|info| info.name == AUDIT_STREAM) {
        return Ok(None);
    }
    match client.stream_by_name(AUDIT_STREAM).await {
        Ok(info) => Ok(Some(info)),
        Err(e) if is_withheld(e.code) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether `_audit` is not for this caller: only an admin is told of it.
fn is_withheld(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::StreamNotFound | ErrorCode::PermissionDenied)
}

fn no_audit(error: kimberlite::Error) -> Failure {
    let is_withheld = is_withheld(error.code);
    let failure = Failure::from(error);
    match is_withheld {
        true => failure.cure(format!("only an admin may verify {AUDIT_STREAM}")),
        false => failure,
    }
}
