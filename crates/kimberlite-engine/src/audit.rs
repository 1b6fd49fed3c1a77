//! Sees to it that reads of health data are on record before the first byte leaves.
//!
//! One durable record stands for what a principal reads again of a range of a stream's offsets, or
//! for repeats of one statement with the same parameters, for the length of a window. Whatever goes
//! beyond the ranges on record is put there first. What the window came to cover in all is written
//! when it ends; only that, how often and how much, is lost in a crash.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kimberlite_wire::block::{Hash, content_hash};
use kimberlite_wire::codec::Field;
use kimberlite_wire::{DataClass, Error, ErrorCode, EventBatch, Value};
use tokio::sync::watch;

use crate::audit_record::{self, Access, Statement, Totals};
use crate::job::{Job, Reply, Work};
use crate::queue::Queue;
use crate::session::Session;
use crate::sync::Mutex;
use crate::waiters::lock;

/// How many start records a window remembers. Of one that it has forgotten, a repeat is put on
/// record again.
const MAX_RECORDS: usize = 64;

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
    Statement { sql_sha256: Hash, params_sha256: Hash },
}

/// A start record: written, or on its way.
#[derive(Clone, Debug)]
struct Record {
    id: u64,
    /// The offsets that it says may be read; none for a statement.
    offsets: Range<u64>,
    /// What became of it.
    written: watch::Receiver<Option<Result<(), Error>>>,
}

/// A window, as those who are let in under it see it.
#[derive(Debug)]
struct Entered {
    id: u64,
    ends: Instant,
    /// What must be durable first.
    records: Vec<Record>,
}

#[derive(Debug)]
struct Window {
    id: u64,
    ends: Instant,
    records: VecDeque<Record>,
    /// The stream's name; empty for a statement.
    stream: String,
    totals: Totals,
    /// What the first start record says about the offsets.
    started: Totals,
}

impl Window {
    /// The records that together cover these offsets, if they do.
    fn covering(&self, offsets: &Range<u64>) -> Option<Vec<Record>> {
        let mut found = Vec::new();
        let mut next = offsets.start;
        loop {
            let touching = self.records.iter().filter(|record| record.offsets.start <= next);
            let farthest = touching.max_by_key(|record| record.offsets.end)?;
            found.push(farthest.clone());
            if farthest.offsets.end >= offsets.end {
                return Some(found);
            }
            if farthest.offsets.end <= next {
                return None;
            }
            next = farthest.offsets.end;
        }
    }

    fn remember(&mut self, record: Record) {
        self.records.push_back(record);
        if self.records.len() > MAX_RECORDS {
            self.records.pop_front();
        }
    }

    fn is_on_record(&self) -> bool {
        self.records.iter().any(|record| matches!(*record.written.borrow(), Some(Ok(()))))
    }
}

impl Windows {
    /// The window that is open, if one is.
    fn current(&mut self, key: &Key) -> Option<&mut Window> {
        self.open.get_mut(key).filter(|window| Instant::now() < window.ends)
    }

    /// Counts a call under the window that is open, if one is whose records cover these offsets.
    fn join(&mut self, key: &Key, offsets: &Range<u64>) -> Option<Entered> {
        let window = self.current(key)?;
        let records = window.covering(offsets)?;
        window.totals.calls += 1;
        Some(Entered { id: window.id, ends: window.ends, records })
    }

    fn is_open(&self, key: &Key, id: u64) -> bool {
        self.open.get(key).is_some_and(|window| window.id == id)
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
        if let Some(window) = open.filter(|window| window.id == self.id) {
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
        // Without an end, the record says that everything from there on may be read.
        let offsets = access.from_offset..access.end_offset.unwrap_or(u64::MAX);
        self.enter(key, access.stream, (offsets, started), make).await
    }

    /// Lets a principal run a statement that reads these streams, once that is on record.
    pub(crate) async fn statement(
        self: &Arc<Audit>,
        session: &Session,
        (sql, params): (&str, &[Value]),
        streams: &[(&str, DataClass)],
        position: u64,
    ) -> Result<Ticket, Error> {
        let mut bytes = Vec::new();
        params.iter().for_each(|value| value.put(&mut bytes));
        let (sql_sha256, params_sha256) = (content_hash(sql.as_bytes()), content_hash(&bytes));
        let key = Key {
            tenant_id: session.tenant_id(),
            principal: session.principal().to_string(),
            subject: Subject::Statement { sql_sha256, params_sha256 },
        };
        let make = || {
            let streams = streams.iter().copied();
            let statement = Statement { sql_sha256: &sql_sha256, params_sha256: &params_sha256 };
            audit_record::query_started(session.principal(), sql, statement, streams, position)
        };
        let started = Totals { calls: 1, events: 0, first_offset: 0, end_offset: 0 };
        self.enter(key, "", (0..0, started), make).await
    }

    async fn enter(
        self: &Arc<Audit>,
        key: Key,
        stream: &str,
        (offsets, started): (Range<u64>, Totals),
        make: impl FnOnce() -> Result<EventBatch, Error>,
    ) -> Result<Ticket, Error> {
        // Taken apart from the match, which would hold the lock to its end.
        let joined = lock(&self.windows).join(&key, &offsets);
        let entered = match joined {
            Some(open) => open,
            None => self.open(&key, stream, (offsets, started), make()?).map_err(refusal)?,
        };
        let Entered { id, ends, records } = entered;
        for Record { id: record_id, mut written, .. } in records {
            let outcome = match written.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => Some(Err(self.not_queued())),
            };
            if let Some(Err(error)) = outcome {
                self.forget(&key, id, record_id);
                return Err(refusal(error));
            }
        }
        Ok(Ticket { audit: self.clone(), key, id, ends })
    }

    /// Asks for a record, in the window that is open or else a new one, unless another thread was
    /// faster.
    fn open(
        &self,
        key: &Key,
        stream: &str,
        (offsets, started): (Range<u64>, Totals),
        events: EventBatch,
    ) -> Result<Entered, Error> {
        let (tell, written) = watch::channel(None);
        let mut windows = lock(&self.windows);
        if let Some(open) = windows.join(key, &offsets) {
            return Ok(open);
        }
        windows.last_id += 1;
        let record = Record { id: windows.last_id, offsets, written };
        let mut entered = Entered { id: record.id, ends: Instant::now(), records: Vec::new() };
        let mut replaced = None;
        if let Some(window) = windows.current(key) {
            (entered.id, entered.ends) = (window.id, window.ends);
            window.totals.calls += 1;
            window.remember(record.clone());
        } else {
            entered.ends += self.window;
            let window = Window {
                id: entered.id,
                ends: entered.ends,
                records: VecDeque::from([record.clone()]),
                stream: stream.to_string(),
                totals: Totals { events: 0, ..started },
                started,
            };
            replaced = windows.open.insert(key.clone(), window);
            windows.order.push_back((entered.ends, entered.id, key.clone()));
        }
        drop(windows);
        let ending = replaced.and_then(|window| self.ending(key, &window));
        let work = Work::Audit { tenant_id: key.tenant_id, events };
        let job = Job { work, reply: Reply::Waiting(tell), deadline: None };
        for job in ending.into_iter().chain([job]) {
            self.queue.push(job).inspect_err(|_| self.forget(key, entered.id, record.id))?;
        }
        entered.records.push(record);
        Ok(entered)
    }

    /// The error of those who waited for a record that was never queued.
    fn not_queued(&self) -> Error {
        let overloaded = || Error::new(ErrorCode::Overloaded, "too much waits to be committed");
        self.queue.end().unwrap_or_else(overloaded)
    }

    /// Forgets a record that was not written, and the window where it has no other.
    fn forget(&self, key: &Key, id: u64, record_id: u64) {
        let mut windows = lock(&self.windows);
        let Some(window) = windows.open.get_mut(key).filter(|window| window.id == id) else {
            return;
        };
        window.records.retain(|record| record.id != record_id);
        if window.records.is_empty() {
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
        if told || !window.is_on_record() {
            return None;
        }
        let window_ms = self.window.as_millis() as u64;
        let record = match &key.subject {
            Subject::Stream(id) => {
                audit_record::access_ended(&key.principal, *id, &window.stream, totals, window_ms)
            }
            Subject::Statement { sql_sha256, params_sha256 } => {
                let statement = Statement { sql_sha256, params_sha256 };
                audit_record::query_ended(&key.principal, statement, totals.calls, window_ms)
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
