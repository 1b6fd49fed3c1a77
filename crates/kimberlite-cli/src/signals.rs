//! Signals: the first ends the command in order, a second at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::failure::{Failure, Outcome, Signal, exit};

/// How long a command may take to end in order after a signal.
const GRACE: Duration = Duration::from_secs(10);
/// A second signal this soon after the first is the same request: who stops a process and then
/// its group sends two.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// Tells that a signal has come. Clones tell the same.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    come: watch::Receiver<Option<Signal>>,
    mode: Arc<AtomicU8>,
}

/// What a signal does.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// It ends the command: in order, and at once where that takes too long.
    Command,
    /// The shell waits for a line, or runs a statement: Ctrl-C ends only that.
    Shell,
}

impl Signals {
    /// Listens from now on, on a thread of its own: the command's thread may wait for a disk or
    /// a pipe while a signal comes.
    pub(crate) fn listen() -> Outcome<Signals> {
        let (tell, come) = watch::channel(None);
        let mode = Arc::new(AtomicU8::new(Mode::Command as u8));
        let signals = Signals { come, mode: mode.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::failed(format!("signals cannot be waited for: {e}")))?;
        std::thread::Builder::new()
            .name("kimberlite-signals".to_string())
            .spawn(move || runtime.block_on(watch_signals(&tell, &mode)))
            .map_err(|e| Failure::failed(format!("no thread for signals: {e}")))?;
        Ok(signals)
    }

    /// Waits for a signal.
    pub(crate) async fn wait(&self) -> Signal {
        let mut come = self.come.clone();
        loop {
            if let Some(signal) = *come.borrow_and_update() {
                return signal;
            }
            if come.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for a signal that comes after this call, even before the future is first polled,
    /// whatever came before.
    pub(crate) fn next(&self) -> impl Future<Output = Signal> + use<> {
        let mut come = self.come.clone();
        come.mark_unchanged();
        async move {
            while come.changed().await.is_ok() {
                if let Some(signal) = *come.borrow_and_update() {
                    return signal;
                }
            }
            std::future::pending().await
        }
    }

    /// The signal that came, if one did.
    pub(crate) fn come(&self) -> Option<Signal> {
        *self.come.borrow()
    }

    /// Ends what is awaited where a signal comes first.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        tokio::select! {
            outcome = work => outcome,
            signal = self.wait() => Err(Failure::Signal(signal)),
        }
    }

    /// Says what a signal does from now on.
    pub(crate) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }
}

async fn watch_signals(tell: &watch::Sender<Option<Signal>>, mode: &AtomicU8) {
    let Ok(mut source) = Source::new() else { return };
    let mut first: Option<Instant> = None;
    loop {
        let left = first.map(|at| GRACE.saturating_sub(at.elapsed()));
        let signal = match left {
            None => source.next().await,
            Some(left) => match tokio::time::timeout(left, source.next()).await {
                Ok(signal) => signal,
                Err(_) => end_now(tell.borrow().unwrap_or(Signal::Terminate)),
            },
        };
        let shell = mode.load(Ordering::SeqCst) == Mode::Shell as u8;
        if shell && signal == Signal::Interrupt {
            // The statement that runs, if one does, ends; the shell takes the mark back.
            tell.send_replace(Some(signal));
            continue;
        }
        if shell {
            // The shell's thread waits for keys and would not hear of it.
            end_now(signal);
        }
        match first {
            Some(at) if at.elapsed() >= SAME_REQUEST => end_now(signal),
            Some(_) => {}
            None => {
                first = Some(Instant::now());
                tell.send_replace(Some(signal));
            }
        }
    }
}

/// Ends the process. The terminal is given back as it was found: the line editor may hold it.
fn end_now(signal: Signal) -> ! {
    crate::terminal::restore();
    std::process::exit(i32::from(exit::SIGNAL + signal.number()))
}

#[cfg(unix)]
type Listener = Option<tokio::signal::unix::Signal>;

#[cfg(unix)]
struct Source {
    hangup: Listener,
    interrupt: Listener,
    terminate: Listener,
}

/// SIGXFSZ, on every system and processor that is built for.
#[cfg(unix)]
const FILE_TOO_LARGE: i32 = 25;

#[cfg(unix)]
impl Source {
    fn new() -> std::io::Result<Source> {
        use tokio::signal::unix::{SignalKind, signal};
        // A limit on the size of files is an error of the write that reaches it; by itself the
        // system would end the command without a word. The handler stays when nobody listens.
        drop(signal(SignalKind::from_raw(FILE_TOO_LARGE)));
        let ignored = ignored_signals();
        let listen = |kind: SignalKind| {
            // What nohup or a shell's background told us to ignore stays ignored.
            if ignored >> (kind.as_raw_value() - 1) & 1 == 1 {
                return Ok(None);
            }
            signal(kind).map(Some)
        };
        Ok(Source {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            () = heard(&mut self.hangup) => Signal::Hangup,
            () = heard(&mut self.interrupt) => Signal::Interrupt,
            () = heard(&mut self.terminate) => Signal::Terminate,
        }
    }
}

#[cfg(unix)]
async fn heard(listener: &mut Listener) {
    match listener {
        Some(listener) => {
            if listener.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

/// The signals that are ignored, a bit each from signal 1 on; none where the system does not tell.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(unix))]
struct Source;

#[cfg(not(unix))]
impl Source {
    fn new() -> std::io::Result<Source> {
        Ok(Source)
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }
}
