//! Where results go: standard output, quiet where its reader has closed it, or a new file, which
//! gets its name once it is whole.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

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
    /// Declared behind the writer, so that the file is closed before it is removed.
    partial: Option<Partial>,
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
            partial: None,
        }
    }

    /// A new file. It must not be there yet: what is there may be the only copy. Until it is
    /// finished it has another name beside, and goes where it is not finished.
    fn create(path: &Path) -> Outcome<Output> {
        let (partial, file) = Partial::create(path)?;
        Ok(Output {
            writer: BufWriter::with_capacity(BUFFER_BYTES, Box::new(file)),
            is_terminal: false,
            colours: false,
            name: path.display().to_string(),
            partial: Some(partial),
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

    /// Ends the results: a new file gets its name.
    pub(crate) fn finish(mut self) -> Outcome<()> {
        Output::flush(&mut self)?;
        self.partial.take().map_or(Ok(()), Partial::finish)
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

/// A file that is being written, beside the one that it is to become.
struct Partial {
    path: PathBuf,
    beside: PathBuf,
}

impl Partial {
    fn create(path: &Path) -> Outcome<(Partial, File)> {
        if path.symlink_metadata().is_ok() {
            return Err(there_already(path));
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.partial", std::process::id()));
        let beside = PathBuf::from(beside);
        let create = || File::options().write(true).create_new(true).open(&beside);
        let file = match create() {
            // A process that had this one's number was killed.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&beside).and_then(|()| create())
            }
            other => other,
        };
        let file = file.map_err(|e| Failure::file(path, &e))?;
        Ok((Partial { path: path.to_path_buf(), beside }, file))
    }

    /// Gives the file its name. Nothing that came there meanwhile is written over: a link, unlike
    /// a new name, refuses that. Not every file system has links.
    fn finish(self) -> Outcome<()> {
        match std::fs::hard_link(&self.beside, &self.path) {
            // The other name goes with `self`.
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(there_already(&self.path));
            }
            Err(_) if self.path.symlink_metadata().is_ok() => {
                return Err(there_already(&self.path));
            }
            Err(_) => {}
        }
        std::fs::rename(&self.beside, &self.path).map_err(|e| Failure::file(&self.path, &e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename it is not there any more.
        let _ = std::fs::remove_file(&self.beside);
    }
}

fn there_already(path: &Path) -> Failure {
    Failure::new(crate::failure::exit::CONFLICT, format!("{} is there already", path.display()))
        .cure("name another file, or remove it first")
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
