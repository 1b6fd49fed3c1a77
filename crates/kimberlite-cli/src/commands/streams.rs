//! `kimberlite streams`: what streams there are.

use clap::{Subcommand, ValueEnum};
use kimberlite::{Client, DataClass, StreamInfo};

use super::append::Class;
use crate::connect::{Connection, Database, stream};
use crate::escape;
use crate::events::json_string;
use crate::failure::Outcome;
use crate::output::Output;
use crate::signals::Signals;
use crate::time;

/// Lists, makes and describes streams
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the tenant's streams
    List {
        /// How they are written
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        format: Format,
        #[command(flatten)]
        connection: Connection,
    },
    /// Makes a stream; one that is there with the same data class is left as it is
    Create {
        /// Its name
        stream: String,
        /// Its data class, which never changes
        #[arg(short, long, value_enum)]
        class: Class,
        #[command(flatten)]
        connection: Connection,
    },
    /// Tells everything about a stream
    Info {
        /// Its name
        stream: String,
        /// How it is written
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        format: Format,
        #[command(flatten)]
        connection: Connection,
    },
}

/// How streams are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Ndjson,
}

/// Does what is asked.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    match &args.action {
        Action::List { format, connection } => {
            let work = async |client: Client| {
                let streams = signals.or(async { Ok(client.list_streams().await?) }).await?;
                list(&streams, *format)
            };
            connection.with_client(Database::MustExist, signals, work).await
        }
        Action::Create { stream, class, connection } => {
            let work = async |client: Client| {
                let make = async { Ok(client.create_stream(stream, (*class).into()).await?) };
                let id = signals.or(make).await?;
                let mut out = Output::stdout();
                out.line(&format!("stream {} is there, with id {id}", escape::text(stream)))?;
                out.flush()
            };
            connection.with_client(Database::MayBeNew, signals, work).await
        }
        Action::Info { stream: name, format, connection } => {
            let work = async |client: Client| {
                let info = signals.or(stream(&client, name)).await?;
                let mut out = Output::stdout();
                match format {
                    Format::Text => out.text(&about(&info))?,
                    Format::Ndjson => out.line(&json(&info))?,
                }
                out.flush()
            };
            connection.with_client(Database::MustExist, signals, work).await
        }
    }
}

fn list(streams: &[StreamInfo], format: Format) -> Outcome<()> {
    let mut out = Output::stdout();
    if format == Format::Ndjson {
        streams.iter().try_for_each(|info| out.line(&json(info)))?;
        return out.flush();
    }
    let head = format!("{:>6}  {:>12}  {:>14}  {:<12}  name", "id", "events", "bytes", "class");
    out.line(&out.styled("1", &head))?;
    for info in streams {
        let (id, events, bytes) = (info.stream_id, info.next_offset, info.data_bytes);
        let (class, name) = (class_name(info), escape::text(&info.name));
        out.line(&format!("{id:>6}  {events:>12}  {bytes:>14}  {class:<12}  {name}"))?;
    }
    out.flush()
}

fn about(info: &StreamInfo) -> String {
    let last = match info.last_timestamp_ns {
        0 => "-".to_string(),
        last => time::rfc3339(last),
    };
    format!(
        "name      {}\nid        {}\nclass     {}\nevents    {}\nbytes     {}\n\
         created   {}\nlast      {last}\nhead      {}\n",
        escape::text(&info.name),
        info.stream_id,
        class_name(info),
        info.next_offset,
        info.data_bytes,
        time::rfc3339(info.created_ns),
        hex(&info.head),
    )
}

fn json(info: &StreamInfo) -> String {
    let last = match info.last_timestamp_ns {
        0 => "null".to_string(),
        last => format!("\"{}\"", time::rfc3339(last)),
    };
    format!(
        "{{\"id\":{},\"name\":{},\"class\":\"{}\",\"next_offset\":{},\"data_bytes\":{},\
         \"created\":\"{}\",\"last\":{last},\"head\":\"{}\"}}",
        info.stream_id,
        json_string(&info.name),
        class_name(info),
        info.next_offset,
        info.data_bytes,
        time::rfc3339(info.created_ns),
        hex(&info.head),
    )
}

/// The class's name; its number where a later version made it.
pub(crate) fn class_name(info: &StreamInfo) -> String {
    let class = DataClass::from_number(info.data_class);
    class.map_or_else(|| info.data_class.to_string(), |class| class.name().to_string())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
