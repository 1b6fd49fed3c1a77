//! Sees to it that reads of health data are on record before the first byte leaves.
//!
//! One durable record stands for what a principal reads of a stream, or runs of one statement, for
//! the length of a window. What the window came to cover is written when it ends; only that is lost
//! in a crash.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kimberlite_wire::block::Hash;
use kimberlite_wire::{DataClass, Error, ErrorCode, EventBatch};
use tokio::sync::watch;

use crate::audit_record::{self, Access, Totals};
use crate::job::{Job, Reply, Work};
use crate::queue::Queue;
use crate::session::Session;
use crate::waiters::lock;

/// The windows that are open.
#[derive(Debug)]
pub(crate) struct Audit {
    queue: Arc<Queue>,
    window: Duration,
    windows: Mutex<Windows>,
}

#[derive(Debug, Default)]
struct Windows {
    open: HashMap<Key, Window>,
    /// Every window in the order of its end, those that were replaced since among them.
    order: VecDeque<(Instant, u64, Key)>,
    last_id: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant_id: u64,
    principal: String,
    subject: Subject,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Stream(u64),
    Statement(Hash),
}

/// A window, as those who are let in under it see it.
#[derive(Clone, Debug)]
struct Entered {
    id: u64,
    ends: Instant,
    /// What became of its record.
    written: watch::Receiver<Option<Result<(), Error>>>,
}

#[derive(Debug)]
struct Window {
    entered: Entered,
    /// The stream's name; empty for a statement.
    stream: String,
    totals: Totals,
    /// What the start record says about the offsets.
    started: Totals,
}

impl Windows {
    /// Counts a call under the window that is open, if one is.
    fn join(&mut self, key: &Key) -> Option<Entered> {
        let window = self.open.get_mut(key).filter(|w| Instant::now() < w.entered.ends)?;
        window.totals.calls += 1;
        Some(window.entered.clone())
    }

    fn is_open(&self, key: &Key, id: u64) -> bool {
        self.open.get(key).is_some_and(|window| window.entered.id == id)
    }
}

/// The right to read under an open window.
#[derive(Debug)]
pub(crate) struct Ticket {
    audit: Arc<Audit>,
    key: Key,
    id: u64,
    ends: Instant,
}

impl Ticket {
    /// Whether the window is still open. Where it is not, another ticket is needed to read on.
    pub(crate) fn is_current(&self) -> bool {
        Instant::now() < self.ends
    }

    /// Adds to what the window covers.
    pub(crate) fn add(&self, first_offset: u64, end_offset: u64) {
        if end_offset <= first_offset {
            return;
        }
        let mut windows = lock(&self.audit.windows);
        let open = windows.open.get_mut(&self.key);
        if let Some(window) = open.filter(|window| window.entered.id == self.id) {
            let totals = &mut window.totals;
            if totals.events == 0 {
                totals.first_offset = first_offset;
            }
            totals.first_offset = totals.first_offset.min(first_offset);
            totals.end_offset = totals.end_offset.max(end_offset);
            totals.events += end_offset - first_offset;
        }
    }
}

impl Audit {
    pub(crate) fn new(queue: &Arc<Queue>, window_ms: u64) -> Audit {
        let window = Duration::from_millis(window_ms);
        Audit { queue: queue.clone(), window, windows: Mutex::default() }
    }

    /// Lets a principal read a stream of health data once that is on record. The error of the log
    /// where it cannot be.
    pub(crate) async fn access(
        self: &Arc<Audit>,
        session: &Session,
        access: &Access<'_>,
    ) -> Result<Ticket, Error> {
        let key = Key {
            tenant_id: session.tenant_id(),
            principal: session.principal().to_string(),
            subject: Subject::Stream(access.stream_id),
        };
        let make = || audit_record::access_started(session.principal(), access);
        // The record tells of the events of one call whose end is known, and of no others.
        let end_offset = access.end_offset.unwrap_or(access.from_offset);
        let started = Totals {
            calls: 1,
            events: end_offset.saturating_sub(access.from_offset),
            first_offset: access.from_offset,
            end_offset,
        };
        self.enter(key, access.stream, started, make).await
    }

    /// Lets a principal run a statement that reads these streams, once that is on record.
    pub(crate) async fn statement(
        self: &Arc<Audit>,
        session: &Session,
        sql: &str,
        streams: &[(&str, DataClass)],
        position: u64,
    ) -> Result<Ticket, Error> {
        let hash = kimberlite_wire::block::content_hash(sql.as_bytes());
        let key = Key {
            tenant_id: session.tenant_id(),
            principal: session.principal().to_string(),
            subject: Subject::Statement(hash),
        };
        let make = || {
            let streams = streams.iter().copied();
            audit_record::query_started(session.principal(), (sql, &hash), streams, position)
        };
        let started = Totals { calls: 1, events: 0, first_offset: 0, end_offset: 0 };
        self.enter(key, "", started, make).await
    }

    async fn enter(
        self: &Arc<Audit>,
        key: Key,
        stream: &str,
        started: Totals,
        make: impl FnOnce() -> Result<EventBatch, Error>,
    ) -> Result<Ticket, Error> {
        // Taken apart from the match, which would hold the lock to its end.
        let joined = lock(&self.windows).join(&key);
        let entered = match joined {
            Some(open) => open,
            None => self.open(&key, stream, started, make()?).map_err(refusal)?,
        };
        let Entered { id, ends, mut written } = entered;
        let outcome = match written.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => Some(Err(self.not_queued())),
        };
        match outcome {
            Some(Err(error)) => {
                self.forget(&key, id);
                Err(refusal(error))
            }
            _ => Ok(Ticket { audit: self.clone(), key, id, ends }),
        }
    }

    /// Opens a window and asks for its record, unless another thread was faster.
    fn open(
        &self,
        key: &Key,
        stream: &str,
        started: Totals,
        events: EventBatch,
    ) -> Result<Entered, Error> {
        let (tell, written) = watch::channel(None);
        let mut windows = lock(&self.windows);
        if let Some(open) = windows.join(key) {
            return Ok(open);
        }
        windows.last_id += 1;
        let entered = Entered { id: windows.last_id, ends: Instant::now() + self.window, written };
        let window = Window {
            entered: entered.clone(),
            stream: stream.to_string(),
            totals: Totals { events: 0, ..started },
            started,
        };
        let replaced = windows.open.insert(key.clone(), window);
        windows.order.push_back((entered.ends, entered.id, key.clone()));
        drop(windows);
        let ending = replaced.and_then(|window| self.ending(key, &window));
        let work = Work::Audit { tenant_id: key.tenant_id, events };
        let record = Job { work, reply: Reply::Waiting(tell), deadline: None };
        for job in ending.into_iter().chain([record]) {
            self.queue.push(job).inspect_err(|_| self.forget(key, entered.id))?;
        }
        Ok(entered)
    }

    /// The error of those who waited for a record that was never queued.
    fn not_queued(&self) -> Error {
        let overloaded = || Error::new(ErrorCode::Overloaded, "too much waits to be committed");
        self.queue.end().unwrap_or_else(overloaded)
    }

    fn forget(&self, key: &Key, id: u64) {
        let mut windows = lock(&self.windows);
        if windows.is_open(key, id) {
            windows.open.remove(key);
        }
    }

    /// When the next window ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        lock(&self.windows).order.front().map(|(ends, _, _)| *ends)
    }

    /// Ends the windows whose time has come, or all of them; tells what to write about them.
    pub(crate) fn end(&self, all: bool) -> Vec<Job> {
        let now = Instant::now();
        let mut ended = Vec::new();
        let mut windows = lock(&self.windows);
        while windows.order.front().is_some_and(|(ends, _, _)| all || *ends <= now) {
            let Some((_, id, key)) = windows.order.pop_front() else { break };
            if windows.is_open(&key, id) {
                let window = windows.open.remove(&key);
                ended.extend(window.and_then(|window| self.ending(&key, &window)));
            }
        }
        ended
    }

    /// The closing record, where there is more to tell than the start record told.
    fn ending(&self, key: &Key, window: &Window) -> Option<Job> {
        let totals = &window.totals;
        let told = totals.calls == 1 && totals.events <= window.started.events;
        if told || !matches!(*window.entered.written.borrow(), Some(Ok(()))) {
            return None;
        }
        let window_ms = self.window.as_millis() as u64;
        let record = match &key.subject {
            Subject::Stream(id) => {
                audit_record::access_ended(&key.principal, *id, &window.stream, totals, window_ms)
            }
            Subject::Statement(hash) => {
                audit_record::query_ended(&key.principal, hash, totals.calls, window_ms)
            }
        };
        // A record that cannot be made says nothing that the start record has not said.
        let work = Work::Audit { tenant_id: key.tenant_id, events: record.ok()? };
        Some(Job { work, reply: Reply::None, deadline: None })
    }
}

fn refusal(error: Error) -> Error {
    match error.code {
        ErrorCode::Closed | ErrorCode::TenantNotFound => error,
        _ => {
            let detail = format!(
                "the audit record of this access could not be written, so that no PHI is read: {}",
                error.detail
            );
            Error { detail, ..error }
        }
    }
}
