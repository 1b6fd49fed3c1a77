//! Log lines: from wherever they arise, through a bounded queue, to the caller's function on a
//! thread of its own.

use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::fmt::Write as _;
use std::sync::{OnceLock, PoisonError};

use kimberlite_wire::{Error, ErrorCode, LogLevel};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::boundary::boundary;
use crate::detail::{KmbDetail, KmbError};
use crate::sync::{
    AtomicU8, AtomicU64, Builder, Condvar, Mutex, MutexGuard, Ordering, ThreadId, current,
};

#[cfg(all(test, shuttle))]
#[path = "log_schedules.rs"]
mod schedules;

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

/// The lines between those who log and the callback.
struct Log {
    state: Mutex<State>,
    arrived: Condvar,
    /// A call has returned, or the thread has ended.
    returned: Condvar,
    /// The highest level that is wanted; 0 for none.
    max_level: AtomicU8,
    dropped: AtomicU64,
}

struct State {
    sink: Option<Sink>,
    /// How often the sink was replaced.
    replaced: u64,
    lines: VecDeque<Line>,
    /// The thread, while there is one.
    thread: Option<ThreadId>,
    /// While the thread is inside a callback: after how many replacements it was the sink.
    calling: Option<u64>,
}

static LOG: Log = Log::new();

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
        number(*metadata.level()).number() <= LOG.max_level.load(Ordering::Relaxed)
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
        LOG.push(Line { level: number(*metadata.level()), target, message: text });
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

impl Log {
    const fn new() -> Log {
        let (sink, thread, calling) = (None, None, None);
        let state = State { sink, replaced: 0, lines: VecDeque::new(), thread, calling };
        Log {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            returned: Condvar::new(),
            max_level: AtomicU8::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Line) {
        let mut state = self.state();
        if state.sink.is_none() {
            return;
        }
        if state.lines.len() >= WAITING_LINES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.lines.push_back(line);
        drop(state);
        self.arrived.notify_one();
    }

    /// The log's thread: hands lines out until there is no callback any more.
    fn run(&self) {
        let mut state = self.state();
        while let Some(sink) = state.sink {
            let Some(line) = state.lines.pop_front() else {
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.calling = Some(state.replaced);
            drop(state);
            hand_out(sink, &line);
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let message = format!("{dropped} log lines were dropped: the callback is too slow");
                let target = "kimberlite_ffi::log".to_string();
                hand_out(sink, &Line { level: LogLevel::Warn, target, message });
            }
            state = self.state();
            state.calling = None;
            self.returned.notify_all();
        }
        state.thread = None;
        self.returned.notify_all();
    }

    /// Replaces the callback and waits until the last call of those before has returned, and for the
    /// end of the thread where there is none any more; on the log's own thread it does not wait.
    fn replace(&'static self, sink: Option<Sink>, max_level: u8) -> Result<(), Error> {
        let mut state = self.state();
        self.max_level.store(if sink.is_some() { max_level } else { 0 }, Ordering::Relaxed);
        state.sink = sink;
        state.replaced += 1;
        let mine = state.replaced;
        if sink.is_none() {
            state.lines.clear();
        }
        self.arrived.notify_all();
        self.returned.notify_all();
        let own = state.thread == Some(current().id());
        // Whoever replaces this one in turn may keep the thread, and it may be in their call.
        while !own
            && (state.calling.is_some_and(|of| of < mine)
                || (sink.is_none() && state.thread.is_some() && state.replaced == mine))
        {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.sink.is_some() && state.thread.is_none() {
            let builder = Builder::new().name("kimberlite-log".to_string());
            match builder.spawn(|| self.run()) {
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

/// Ends the callback.
pub(crate) fn stop() {
    let _ = LOG.replace(None, 0);
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
        LOG.replace(sink, level.number())
    })
}
