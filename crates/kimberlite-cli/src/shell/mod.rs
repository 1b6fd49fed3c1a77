//! The SQL shell: lines with history and completion, statements over several lines.

mod helper;
mod history;
mod words;

use std::time::Instant;

use clap::ValueEnum;
use kimberlite::{At, Client, StreamId};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};
use tokio::runtime::Runtime;

use crate::commands::query::{Args, Style, statement_rows};
use crate::connect::{Database, stream};
use crate::failure::{Failure, Outcome, Signal};
use crate::output::Output;
use crate::rows::RowFormat;
use crate::signals::{Mode, Signals};
use crate::{escape, sql, terminal, time};

use self::helper::Helper;

const PROMPT: &str = "kimberlite> ";
const HISTORY_LINES: usize = 10_000;

const HELP: &str = "\
A statement ends with ; and may take several lines. Tab completes, arrow keys walk through what was
typed before, Ctrl-R searches it. Ctrl-C drops what is typed or stops what runs; Ctrl-D ends.

  .streams              the streams
  .schema STREAM        a stream's columns and what is in it
  .at position NUMBER   shows the data as of a position
  .at time TIME         shows the data as of a time: RFC 3339 or Unix seconds
  .at now               shows the newest data again
  .format FORMAT        table, json, ndjson or csv
  .timing               tells how long statements take, or no more
  .help                 this
  .quit                 ends
";

type Lines = Editor<Helper, FileHistory>;

/// Runs the shell until the person at the keyboard ends it.
pub(crate) fn run(args: &Args, runtime: &Runtime, signals: &Signals) -> Outcome<()> {
    if args.style().format == RowFormat::Arrow {
        return Err(Failure::usage("--format arrow needs a statement"));
    }
    let work = async |client: Client| {
        let shell = Shell { client, style: args.style(), timing: false };
        shell.run(signals).await
    };
    runtime.block_on(args.connection.with_client(Database::MustExist, signals, work))
}

struct Shell {
    client: Client,
    style: Style,
    timing: bool,
}

/// What a line asks of the shell.
enum Step {
    Next,
    End,
}

impl Shell {
    async fn run(mut self, signals: &Signals) -> Outcome<()> {
        terminal::save();
        let mut lines = self.editor()?;
        let history = history::open(&mut lines);
        let mut out = Output::stdout();
        out.line("Statements end with ; and .help tells more. Ctrl-D ends.")?;
        out.flush()?;
        signals.set_mode(Mode::Shell);
        loop {
            // Ctrl-C is a key while the editor waits and a signal once it gives the terminal back:
            // listening starts before, so that none of the time between a line and its work is deaf.
            let stopped = signals.next();
            // While the editor waits, this thread waits with it: nothing else is to be done here.
            let line = match lines.readline(PROMPT) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(e) => return Err(Failure::failed(format!("the terminal: {e}"))),
            };
            if line.trim().is_empty() {
                continue;
            }
            history.add(&mut lines, &line);
            match self.line(&line, &mut out, stopped).await {
                Ok(Step::Next) => {}
                Ok(Step::End) => break,
                Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
                Err(failure) => crate::tell(&failure),
            }
            out.flush()?;
        }
        signals.set_mode(Mode::Command);
        Ok(())
    }

    fn editor(&self) -> Outcome<Lines> {
        let colours = terminal::stdout_colours();
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .color_mode(if colours { ColorMode::Enabled } else { ColorMode::Disabled })
            .history_ignore_space(true)
            .max_history_size(HISTORY_LINES)
            .map_err(|e| Failure::failed(format!("the history: {e}")))?
            .build();
        let mut lines = Lines::with_config(config)
            .map_err(|e| Failure::failed(format!("the terminal: {e}")))?;
        lines.set_helper(Some(Helper::new(&self.client)));
        Ok(lines)
    }

    /// Runs a line until its work is done or `stopped` comes.
    async fn line(
        &mut self,
        line: &str,
        out: &mut Output,
        stopped: impl Future<Output = Signal>,
    ) -> Outcome<Step> {
        let words: Vec<&str> = line.trim().trim_end_matches(';').split_whitespace().collect();
        if matches!(words.as_slice(), [".quit" | ".exit" | "quit" | "exit" | "\\q"]) {
            return Ok(Step::End);
        }
        let work = async {
            if line.trim_start().starts_with('.') {
                self.command(&words, out).await
            } else {
                self.statements(line, out).await
            }
        };
        tokio::select! {
            outcome = work => outcome?,
            _ = stopped => return Err(Failure::failed("stopped")),
        }
        Ok(Step::Next)
    }

    async fn statements(&self, text: &str, out: &mut Output) -> Outcome<()> {
        for statement in sql::split(text) {
            let start = Instant::now();
            statement_rows(&self.client, statement, &self.style, out).await?;
            if self.timing {
                let ms = start.elapsed().as_secs_f64() * 1e3;
                out.line(&out.styled("2", &format!("({ms:.1} ms)")))?;
            }
        }
        Ok(())
    }

    async fn command(&mut self, words: &[&str], out: &mut Output) -> Outcome<()> {
        match words {
            [".help"] => out.text(HELP),
            [".streams"] => {
                let sql = "SELECT * FROM _streams";
                statement_rows(&self.client, sql, &self.style, out).await
            }
            [".schema", name] => self.schema(name.trim_matches('"'), out).await,
            [".format", name] => {
                let format = RowFormat::from_str(name, true).ok();
                let format = format.filter(|format| *format != RowFormat::Arrow);
                self.style.format = format.ok_or_else(|| {
                    Failure::usage(format!("{name:?} is no format here"))
                        .cure("use table, json, ndjson or csv")
                })?;
                Ok(())
            }
            [".timing"] => {
                self.timing = !self.timing;
                out.line(if self.timing { "timing is on" } else { "timing is off" })
            }
            [".at", rest @ ..] => self.at(rest),
            _ => Err(Failure::usage(format!("{:?} is no command here", words.join(" ")))
                .cure(".help lists them")),
        }
    }

    fn at(&mut self, words: &[&str]) -> Outcome<()> {
        let wrong = || {
            Failure::usage("that is no moment")
                .cure("use .at now, .at position NUMBER or .at time TIME")
        };
        self.style.at = match words {
            ["now"] => At::Now,
            ["position", number] => At::Position(number.parse().map_err(|_| wrong())?),
            ["time", rest @ ..] if !rest.is_empty() => {
                At::TimestampNs(time::parse(&rest.join(" ")).map_err(Failure::usage)?)
            }
            _ => return Err(wrong()),
        };
        Ok(())
    }

    async fn schema(&self, name: &str, out: &mut Output) -> Outcome<()> {
        let info = stream(&self.client, name).await?;
        let info = self.client.stream_info(StreamId(info.stream_id)).await?;
        out.text(&format!(
            "{}: {} events\n\
             \x20 id            INTEGER  the offset\n\
             \x20 timestamp     INTEGER  Unix seconds\n\
             \x20 data          BLOB\n\
             \x20 timestamp_ns  INTEGER  hidden; nanoseconds\n\
             \x20 text          TEXT     hidden; the data where it is UTF-8\n",
            escape::text(&info.name),
            info.next_offset,
        ))
    }
}
