//! A program that answers each line of its standard input with a line of figures, so that it can be
//! measured in turn with others.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{Failure, stats};

/// A running program; dropping it closes its input, which ends it.
pub struct Coprocess {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Coprocess {
    /// Starts a program; its arguments are separated by single spaces.
    pub fn start(program: &str) -> Result<Coprocess, Failure> {
        Coprocess::start_with(program, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(program: &str, environment: &[(&str, &str)]) -> Result<Coprocess, Failure> {
        let mut words = program.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs(environment.iter().copied());
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("no standard output")?;
        Ok(Coprocess { name: program.into(), child, input, output: BufReader::new(output) })
    }

    /// The figures that answer one line.
    pub fn ask(&mut self, line: &str) -> Result<Vec<f64>, Failure> {
        if let Some(input) = &mut self.input {
            writeln!(input, "{line}")
                .and_then(|()| input.flush())
                .map_err(|e| format!("{}: {line}: {e}", self.name))?;
        }
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        let figures = answer.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>();
        match figures {
            Ok(figures) if !figures.is_empty() => Ok(figures),
            _ => Err(format!("{}: {line} was answered by {answer:?}", self.name).into()),
        }
    }

    /// The first figure that answers one line.
    pub fn figure(&mut self, line: &str) -> Result<f64, Failure> {
        Ok(self.ask(line)?.first().copied().unwrap_or(0.0))
    }

    /// Its memory that no file backs, in bytes.
    pub fn anonymous_bytes(&self) -> Result<f64, Failure> {
        stats::anonymous_bytes(self.child.id())
    }
}

impl Drop for Coprocess {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends by itself when its input does; a failed wait leaves nothing to do.
        let _ = self.child.wait();
    }
}
