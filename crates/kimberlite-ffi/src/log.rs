//! Log lines: from wherever they arise, through a bounded queue, to the caller's function on a
//! thread of its own.

use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use kimberlite_wire::{Error, ErrorCode, LogLevel};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::boundary::boundary;
use crate::detail::{KmbDetail, KmbError};

/// Called for each log line; NULL for none. It runs on a thread of the library that does nothing
/// else, one call at a time; lines that come while a thousand wait are counted and dropped.
///
/// level: `KMB_LOG_LEVEL_*`. target, message: UTF-8 of target_len and message_len bytes without a
/// NUL, valid during the call. No line holds a token, event data or a parameter's value.
pub type KmbLogCallback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: u32,
        target: *const c_char,
        target_len: usize,
        message: *const c_char,
        message_len: usize,
    ),
>;

/// At most this many lines wait for the callback.
const WAITING_LINES: usize = 1_000;

#[derive(Clone, Copy)]
struct Sink {
    callback: unsafe extern "C" fn(*mut c_void, u32, *const c_char, usize, *const c_char, usize),
    user_data: *mut c_void,
}

// SAFETY: the caller of kmb_log_set_callback promises that the callback may run on the log's thread.
unsafe impl Send for Sink {}

struct Line {
    level: LogLevel,
    target: String,
    message: String,
}

struct Log {
    sink: Option<Sink>,
    lines: VecDeque<Line>,
    /// The thread, while there is one.
    thread: Option<ThreadId>,
    /// Whether the thread is inside the callback.
    calling: bool,
}

static LOG: Mutex<Log> =
    Mutex::new(Log { sink: None, lines: VecDeque::new(), thread: None, calling: false });
static ARRIVED: Condvar = Condvar::new();
static RETURNED: Condvar = Condvar::new();
/// The highest level that is wanted; 0 for none.
static MAX_LEVEL: AtomicU8 = AtomicU8::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

fn log() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// Takes what the crates below say, for the whole process.
struct Collector;

impl Subscriber for Collector {
    fn register_callsite(&self, _metadata: &'static Metadata<'static>) -> Interest {
        // The level can change at any time, so that each line asks.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(*metadata.level()).number() <= MAX_LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut message = Message::default();
        event.record(&mut message);
        let Message { mut text, fields } = message;
        text.push_str(&fields);
        let target = metadata.target().to_string();
        push(Line { level: number(*metadata.level()), target, message: text });
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// A line's text, and its fields behind it.
#[derive(Default)]
struct Message {
    text: String,
    fields: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

fn push(line: Line) {
    let mut log = log();
    if log.sink.is_none() {
        return;
    }
    if log.lines.len() >= WAITING_LINES {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    log.lines.push_back(line);
    drop(log);
    ARRIVED.notify_one();
}

/// The log's thread: hands lines out until there is no callback any more.
fn run() {
    let mut state = log();
    while let Some(sink) = state.sink {
        let Some(line) = state.lines.pop_front() else {
            state = ARRIVED.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.calling = true;
        drop(state);
        hand_out(sink, &line);
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let message = format!("{dropped} log lines were dropped: the callback is too slow");
            let target = "kimberlite_ffi::log".to_string();
            hand_out(sink, &Line { level: LogLevel::Warn, target, message });
        }
        state = log();
        state.calling = false;
        RETURNED.notify_all();
    }
    state.thread = None;
    RETURNED.notify_all();
}

fn hand_out(sink: Sink, line: &Line) {
    let (target, message) = (&line.target, &line.message);
    // SAFETY: kmb_log_set_callback's caller keeps both valid until the callback is replaced, which
    // waits for this call.
    unsafe {
        (sink.callback)(
            sink.user_data,
            u32::from(line.level.number()),
            target.as_ptr().cast(),
            target.len(),
            message.as_ptr().cast(),
            message.len(),
        );
    }
}

/// Replaces the callback and waits until the last call of the one before has returned, except on the
/// log's own thread.
fn replace(sink: Option<Sink>, max_level: u8) -> Result<(), Error> {
    MAX_LEVEL.store(if sink.is_some() { max_level } else { 0 }, Ordering::Relaxed);
    let mut state = log();
    state.sink = sink;
    if sink.is_none() {
        state.lines.clear();
    }
    ARRIVED.notify_all();
    let own = state.thread == Some(thread::current().id());
    while !own && (state.calling || (sink.is_none() && state.thread.is_some())) {
        state = RETURNED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    if sink.is_some() && state.thread.is_none() {
        let builder = thread::Builder::new().name("kimberlite-log".to_string());
        match builder.spawn(run) {
            Ok(handle) => state.thread = Some(handle.thread().id()),
            Err(e) => {
                state.sink = None;
                let detail = format!("the log's thread could not be started: {e}");
                return Err(Error::new(ErrorCode::Overloaded, detail));
            }
        }
    }
    Ok(())
}

/// Ends the callback.
pub(crate) fn stop() {
    let _ = replace(None, 0);
}

fn collect() -> Result<(), Error> {
    static COLLECTING: OnceLock<bool> = OnceLock::new();
    match COLLECTING.get_or_init(|| tracing::subscriber::set_global_default(Collector).is_ok()) {
        true => Ok(()),
        false => Err(Error::invalid("the program has a log subscriber of its own")),
    }
}

/// Has the library's log lines handed to a function, on a thread named `kimberlite-log`. NULL ends
/// it. Returns after the last call of a callback that this one replaces, except from within it.
///
/// user_data: passed on; must stay valid until the callback is replaced. max_level: the least
/// important KMB_LOG_LEVEL_* that is wanted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_log_set_callback(
    callback: KmbLogCallback,
    user_data: *mut c_void,
    max_level: u32,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    let sink = callback.map(|callback| Sink { callback, user_data });
    boundary!(detail_out, {
        let level = u8::try_from(max_level).ok().and_then(LogLevel::from_number);
        let Some(level) = level.or(sink.is_none().then_some(LogLevel::Error)) else {
            let detail = format!("max_level is {max_level}, which is no KMB_LOG_LEVEL_*");
            return Err(Error::invalid(detail));
        };
        if sink.is_some() {
            crate::library::start();
            collect()?;
        }
        replace(sink, level.number())
    })
}
