//! What the parts of one query share: its cut, its bounds, and the first thing that went wrong.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode, StreamInfo};

use super::memory::{self, Account};
use super::{Cut, QueryLimits};

/// The pause that a query is advised to make for which others left no memory.
const RETRY_AFTER_MS: u32 = 200;

/// Shared by a query's connection, tables and cursors, all of which one thread at a time uses.
pub(super) struct QueryState {
    /// The view that the query reads.
    pub(super) cut: Arc<dyn Cut>,
    /// What it may hold in memory.
    pub(super) account: Account,
    /// Whether SQLite charges the account itself; else the process is measured now and then.
    charged: bool,
    process_bytes_before: i64,
    deadline: Option<Instant>,
    timeout_ms: u64,
    /// Whether the caller wants no more, while the connection works; null while it does not.
    pub(super) cancelled: AtomicPtr<AtomicBool>,
    failure: Mutex<Option<Error>>,
    selects: AtomicBool,
    streams: OnceLock<Result<Arc<Vec<StreamInfo>>, Error>>,
}

impl QueryState {
    /// The state of a query that starts now.
    pub(super) fn new(cut: Arc<dyn Cut>, limits: &QueryLimits) -> QueryState {
        let charged = memory::install();
        QueryState {
            cut,
            account: Account::new(limits.memory_bytes, limits.shared.clone()),
            charged,
            process_bytes_before: if charged { 0 } else { memory::used_by_process() },
            // A time-out too long to be added to a clock is none.
            deadline: Instant::now().checked_add(Duration::from_millis(limits.timeout_ms)),
            timeout_ms: limits.timeout_ms,
            cancelled: AtomicPtr::new(ptr::null_mut()),
            failure: Mutex::new(None),
            selects: AtomicBool::new(false),
            streams: OnceLock::new(),
        }
    }

    /// Notes an error that a callback met, unless one is noted already. The error comes out of the
    /// call into SQLite that led to the callback.
    pub(super) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    /// Takes the error that a callback noted.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the query may go on; notes why where not.
    pub(super) fn may_go_on(&self, cancelled: &AtomicBool) -> bool {
        if cancelled.load(Ordering::Relaxed) {
            self.fail(Error::new(ErrorCode::Cancelled, "the query was cancelled while it ran"));
            return false;
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.fail(self.timeout());
            return false;
        }
        if !self.charged {
            let used = memory::used_by_process() - self.process_bytes_before;
            if used > i64::try_from(self.account.limit_bytes()).unwrap_or(i64::MAX) {
                self.account.set_exceeded();
                self.fail(self.memory_exceeded());
                return false;
            }
        }
        true
    }

    fn timeout(&self) -> Error {
        let detail = format!(
            "the query ran longer than its {} ms; narrow its range of id or timestamp, or allow \
             it more time",
            self.timeout_ms
        );
        Error::new(ErrorCode::Timeout, detail)
    }

    /// The error of a query that needs more memory than it may have.
    pub(super) fn memory_exceeded(&self) -> Error {
        if let Some((bytes, option)) = self.account.refused_by() {
            let detail = format!(
                "queries hold the {bytes} bytes of memory that they may hold together \
                 ({option}); try again when others have ended"
            );
            let mut error = Error::new(ErrorCode::Overloaded, detail).with_value(bytes);
            error.retry_after_ms = RETRY_AFTER_MS;
            return error;
        }
        let bytes = self.account.limit_bytes();
        let detail = format!(
            "the query needs more than the {bytes} bytes of memory that one may have (memory_bytes \
             below [query] in a server's configuration); sort or group fewer rows"
        );
        Error::new(ErrorCode::LimitExceeded, detail).with_value(bytes)
    }

    /// Notes that the statement selects something.
    pub(super) fn note_select(&self) {
        self.selects.store(true, Ordering::Relaxed);
    }

    /// Whether the statement selects anything.
    pub(super) fn selects(&self) -> bool {
        self.selects.load(Ordering::Relaxed)
    }

    /// The rows of `_streams`, made once per query.
    pub(super) fn streams(&self) -> Result<Arc<Vec<StreamInfo>>, Error> {
        self.streams.get_or_init(|| self.cut.streams().map(Arc::new)).clone()
    }
}
