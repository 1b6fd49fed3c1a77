//! Standard output: buffered, and quiet where its reader has closed it.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use crate::failure::{Failure, Outcome};
use crate::terminal;

/// Where a command's results go: standard output, or a file.
pub(crate) struct Output {
    writer: BufWriter<Box<dyn Write>>,
    /// Whether a person looks at it.
    pub(crate) is_terminal: bool,
    /// Whether it takes colours.
    pub(crate) colours: bool,
    name: String,
}

/// How much is collected before it is written.
const BUFFER_BYTES: usize = 64 << 10;

impl Output {
    /// Standard output.
    pub(crate) fn stdout() -> Output {
        Output {
            writer: BufWriter::with_capacity(BUFFER_BYTES, Box::new(io::stdout())),
            is_terminal: io::stdout().is_terminal(),
            colours: terminal::stdout_colours(),
            name: "standard output".to_string(),
        }
    }

    /// A new file. It must not be there yet: what is there may be the only copy.
    pub(crate) fn create(path: &Path) -> Outcome<Output> {
        let file = File::options().write(true).create_new(true).open(path);
        let file = file.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => {
                let message = format!("{} is there already", path.display());
                Failure::new(crate::failure::exit::CONFLICT, message)
                    .cure("name another file, or remove it first")
            }
            _ => Failure::file(path, &e),
        })?;
        Ok(Output {
            writer: BufWriter::with_capacity(BUFFER_BYTES, Box::new(file)),
            is_terminal: false,
            colours: false,
            name: path.display().to_string(),
        })
    }

    /// Standard output, or the file that `--output` names.
    pub(crate) fn open(path: Option<&Path>) -> Outcome<Output> {
        path.map_or_else(|| Ok(Output::stdout()), Output::create)
    }

    /// Writes text.
    pub(crate) fn text(&mut self, text: &str) -> Outcome<()> {
        self.bytes(text.as_bytes())
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> Outcome<()> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.writer.write_all(bytes).map_err(|e| failure(&self.name, &e))
    }

    /// Hands everything to the system.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        self.writer.flush().map_err(|e| failure(&self.name, &e))
    }

    /// Wraps text in a style, such as `1` for bold, where colours are taken.
    pub(crate) fn styled(&self, style: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_string() }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// What a failed write means: a closed pipe is its reader's choice.
pub(crate) fn failure(name: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::failed(format!("{name}: {error}")),
    }
}

/// Says something on standard error beside the results. Nobody is left to tell where that fails.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Waits until standard output has no reader any more, on a thread of its own: a command that
/// follows a quiet stream would else never notice.
pub(crate) async fn closed() {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, poll};
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let stdout = io::stdout();
            loop {
                let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
                match poll(&mut watched, None) {
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                    Ok(_) => break,
                }
            }
            // The command may have ended meanwhile.
            let _ = tell.send(());
        });
        if told.await.is_ok() {
            return;
        }
    }
    std::future::pending().await
}
