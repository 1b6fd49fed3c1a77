//! `kimberlite query`: statements, or the shell.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use kimberlite::{At, CallOptions, Client, ErrorCode, Value, limit};

use crate::connect::{Connection, Database};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::rows::{self, RowFormat};
use crate::signals::Signals;
use crate::{sql, time};

/// Runs SQL, or a SQL shell where no statement is given
///
/// Every stream is a table with id (the offset), timestamp (Unix seconds) and data, and the hidden
/// columns timestamp_ns and text (data as text). _streams lists the streams. Statements only read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite query \"SELECT id, data ->> '$.reason' AS reason FROM visits\"
  kimberlite query 'SELECT count(*) FROM visits WHERE timestamp > ?' --param 1767225600
  kimberlite query 'SELECT * FROM visits' --at-time 2026-03-01T00:00:00Z --format csv
  kimberlite query 'SELECT id, text FROM visits' --format arrow --output visits.arrow
  kimberlite query <report.sql")]
pub(crate) struct Args {
    /// The statement; without it, statements come from standard input, or from the shell
    #[arg(value_name = "SQL")]
    statement: Option<String>,

    /// A value for the statement's next ?; digits such as 7, -1.50 and .5 are numbers, everything
    /// else is text, also 007, +1 and 1e3. int:, float:, text:, bool:, base64: before it, and null alone, say the type
    #[arg(short, long, value_name = "VALUE", value_parser = parameter,
          allow_negative_numbers = true)]
    param: Vec<Value>,

    /// Shows the data as of a position, which appends and queries tell
    #[arg(long, value_name = "POSITION", conflicts_with = "at_time")]
    at_position: Option<u64>,

    /// Shows the data as of a time: RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at_time: Option<u64>,

    /// How rows are written
    #[arg(short, long, value_enum, default_value_t = RowFormat::Table)]
    format: RowFormat,

    /// Writes into this file, which must not be there yet, and is there once it is whole
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Lets control characters in the data through to the terminal
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// How a statement is run and its rows are written.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    pub(crate) at: At,
    pub(crate) format: RowFormat,
    pub(crate) raw: bool,
    pub(crate) params: Vec<Value>,
}

impl Args {
    /// Whether a person is to type the statements.
    pub(crate) fn is_shell(&self) -> bool {
        self.statement.is_none() && io::stdin().is_terminal()
    }

    /// What the options say about statements.
    pub(crate) fn style(&self) -> Style {
        let at = match (self.at_position, self.at_time) {
            (Some(position), _) => At::Position(position),
            (None, Some(timestamp_ns)) => At::TimestampNs(timestamp_ns),
            (None, None) => At::Now,
        };
        Style { at, format: self.format, raw: self.raw, params: self.param.clone() }
    }
}

/// Runs the statement of the arguments, or those of standard input.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    if args.format == RowFormat::Arrow && args.output.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage("--format arrow is not for a terminal")
            .cure("add --output FILE, or send it to a program"));
    }
    let text = match &args.statement {
        Some(text) => text.clone(),
        None => script()?,
    };
    let statements = sql::split(&text);
    if statements.is_empty() {
        return Err(Failure::usage("there is no statement").cure("see kimberlite query --help"));
    }
    if statements.len() > 1 && args.format == RowFormat::Arrow {
        return Err(Failure::usage(
            "--format arrow takes one statement; an Arrow file has one table",
        ));
    }
    let style = args.style();
    let work = async |client: Client| {
        let mut out = Output::open(args.output.as_deref())?;
        for statement in statements {
            signals.or(statement_rows(&client, statement, &style, &mut out)).await?;
        }
        out.finish()
    };
    args.connection.with_client(Database::MustExist, signals, work).await
}

/// Statements from standard input, as many bytes as one may have.
fn script() -> Outcome<String> {
    let mut text = String::new();
    io::stdin()
        .take(limit::SQL_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|e| Failure::usage(format!("standard input: {e}")))?;
    if text.len() as u64 > limit::SQL_BYTES {
        let bound = limit::SQL_BYTES;
        return Err(Failure::usage(format!("standard input: it is larger than {bound} bytes")));
    }
    Ok(text)
}

/// Runs one statement and writes its rows as they come.
pub(crate) async fn statement_rows(
    client: &Client,
    statement: &str,
    style: &Style,
    out: &mut Output,
) -> Outcome<()> {
    let (core, options) = (client.as_core(), CallOptions::default());
    let cursor = core.query_cursor(statement, &style.params, style.at, &options).await;
    let explained = |e| explain(e, statement, style.at);
    let mut cursor = cursor.map_err(explained)?;
    let mut writer = rows::writer(style.format, style.raw, cursor.columns());
    while let Some(batch) = cursor.next_batch().await.map_err(explained)? {
        writer.rows(out, &batch)?;
    }
    writer.finish(out)
}

/// A syntax error shows its place in the statement.
fn explain(error: kimberlite::Error, statement: &str, moment: At) -> Failure {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    if error.code == ErrorCode::InvalidArgument
        && matches!(moment, At::TimestampNs(ns) if u128::from(ns) > now)
    {
        return Failure::from(error)
            .cure("that moment is still to come; leave it out to see the data as it is now");
    }
    let at = usize::try_from(error.value).unwrap_or(usize::MAX);
    let is_syntax = error.code == ErrorCode::QuerySyntax;
    let failure = Failure::from(error);
    match place(statement, at) {
        Some(place) if is_syntax => failure.cure(place),
        _ => failure,
    }
}

/// The statement's line that holds a byte, and a mark below that byte.
fn place(statement: &str, at: usize) -> Option<String> {
    let before = statement.get(..at)?;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = statement[start..].lines().next()?;
    let indent = before[start..].chars().map(|c| if c == '\t' { '\t' } else { ' ' });
    Some(format!("{line}\n  {}^", indent.collect::<String>()))
}

/// A parameter, by its prefix or by its look.
pub(crate) fn parameter(text: &str) -> Result<Value, String> {
    let wrong = |what: &str| format!("{text:?} is not {what}");
    if let Some(rest) = text.strip_prefix("text:") {
        return Ok(Value::String(rest.to_string()));
    }
    if let Some(rest) = text.strip_prefix("int:") {
        return rest.parse().map(Value::Int64).map_err(|_| wrong("a whole number of 64 bits"));
    }
    if let Some(rest) = text.strip_prefix("float:") {
        return rest.parse().map(Value::Float64).map_err(|_| wrong("a number"));
    }
    if let Some(rest) = text.strip_prefix("bool:") {
        return rest.parse().map(Value::Bool).map_err(|_| wrong("bool:true or bool:false"));
    }
    if let Some(rest) = text.strip_prefix("base64:") {
        use base64::Engine;
        let decoded = base64::engine::general_purpose::STANDARD.decode(rest);
        return decoded.map(Value::Bytes).map_err(|_| wrong("base64"));
    }
    if text == "null" {
        return Ok(Value::Null);
    }
    match (is_number(text), text.parse::<i64>(), text.parse::<f64>()) {
        (true, Ok(number), _) => Ok(Value::Int64(number)),
        // As in SQL, a whole number beyond 64 bits is a decimal one.
        (true, _, Ok(number)) if number.is_finite() => Ok(Value::Float64(number)),
        _ => Ok(Value::String(text.to_string())),
    }
}

/// Whether a text is digits, with a minus before and a point within or before them where wanted.
/// What begins with a needless zero, such as 007, is rather somebody's key.
fn is_number(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let size = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match size.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (size, None),
    };
    let has_needless_zero = whole.len() > 1 && whole.starts_with('0');
    let is_whole = digits(whole) && !has_needless_zero;
    match fraction {
        Some(fraction) => is_whole && digits(fraction) && !fraction.is_empty(),
        None => is_whole && !whole.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parameter's type comes from its prefix, or from its look where nothing else has it.
    #[test]
    fn parameters_have_types() {
        let string = |text: &str| Ok(Value::String(text.to_string()));
        assert_eq!(parameter("7"), Ok(Value::Int64(7)));
        assert_eq!(parameter("-1.5"), Ok(Value::Float64(-1.5)));
        let decimals = [("1.50", 1.5), ("1.0", 1.0), ("-0.50", -0.5), (".5", 0.5), ("2.5", 2.5)];
        for (text, number) in decimals {
            assert_eq!(parameter(text), Ok(Value::Float64(number)), "{text}");
        }
        assert_eq!(parameter("9223372036854775807"), Ok(Value::Int64(i64::MAX)));
        assert_eq!(
            parameter("9223372036854775809"),
            Ok(Value::Float64(9_223_372_036_854_775_809.0))
        );
        for text in ["007", "00.5", "inf", "nan", "+1", "1e3", "1.", ".", "-", "", "1.2.3", "1,5"] {
            assert_eq!(parameter(text), string(text), "{text}");
        }
        assert_eq!(parameter("text:7"), string("7"));
        assert_eq!(parameter("int:-7"), Ok(Value::Int64(-7)));
        assert_eq!(parameter("bool:true"), Ok(Value::Bool(true)));
        assert_eq!(parameter("base64:AP8="), Ok(Value::Bytes(vec![0, 255])));
        assert_eq!(parameter("null"), Ok(Value::Null));
        assert!(parameter("int:x").is_err() && parameter("bool:1").is_err());
    }

    /// The mark stands below the byte, in the line that holds it.
    #[test]
    fn shows_the_place() {
        assert_eq!(place("SELECT\n é x", 11).as_deref(), Some(" é x\n     ^"));
        assert_eq!(place("SELECT", 99), None);
    }
}
