//! One query's SQLite connection: in memory, read-only, bounded.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kimberlite_wire::{Error, ErrorCode, limit};
use rusqlite::ffi;

use super::authorizer::authorize;
use super::functions;
use super::module::{self, Table};
use super::state::QueryState;

/// Bytes of the largest string or blob that a query may make or return.
pub(super) const VALUE_BYTES: u64 = 16 << 20;

/// Bytes of the longest pattern of `LIKE` or `GLOB`.
pub(super) const PATTERN_BYTES: u64 = 1_000;

/// Steps of SQLite between two looks at the clock and the cancellation: instructions of its machine
/// while a statement runs.
pub(super) const RUN_STEPS: c_int = 200;
/// The same while it compiles, where one step may weigh many orders of a join.
pub(super) const COMPILE_STEPS: c_int = 5;

/// The most arguments of a function. Each path of a JSON function and each value of `max` is looked
/// for or compared within one step, which nothing interrupts.
const FUNCTION_ARGUMENTS: u64 = 127;

const LIMITS: [(c_int, u64); 11] = [
    (ffi::SQLITE_LIMIT_LENGTH, VALUE_BYTES),
    (ffi::SQLITE_LIMIT_SQL_LENGTH, limit::SQL_BYTES + 1),
    (ffi::SQLITE_LIMIT_COLUMN, 2_000),
    (ffi::SQLITE_LIMIT_EXPR_DEPTH, 400),
    (ffi::SQLITE_LIMIT_PARSER_DEPTH, 1_000),
    (ffi::SQLITE_LIMIT_COMPOUND_SELECT, 500),
    (ffi::SQLITE_LIMIT_ATTACHED, 0),
    (ffi::SQLITE_LIMIT_FUNCTION_ARG, FUNCTION_ARGUMENTS),
    (ffi::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES),
    (ffi::SQLITE_LIMIT_VARIABLE_NUMBER, limit::QUERY_PARAMS),
    (ffi::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// A connection. It may move between threads, which use it one at a time.
pub(super) struct Connection {
    db: NonNull<ffi::sqlite3>,
    // The connection's callbacks point to the state, so that it must live as long.
    state: Arc<QueryState>,
}

// SAFETY: SQLite is compiled thread-safe, and a connection without a mutex of its own may be used
// by any one thread at a time, which owning it guarantees. The state is Send and Sync.
unsafe impl Send for Connection {}

impl Connection {
    /// Opens a connection for a query.
    pub(super) fn open(state: Arc<QueryState>) -> Result<Connection, Error> {
        let mut db = ptr::null_mut();
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_MEMORY | ffi::SQLITE_OPEN_NOMUTEX;
        // SAFETY: the names are C strings, and SQLite writes the connection or null.
        let code = unsafe {
            ffi::sqlite3_open_v2(c":memory:".as_ptr(), &mut db, flags, MEMORY_FILES.as_ptr())
        };
        let Some(db) = NonNull::new(db) else {
            return Err(not_started(&state, code));
        };
        let connection = Connection { db, state };
        if code != ffi::SQLITE_OK {
            return Err(not_started(&connection.state, code));
        }
        match connection.configure() {
            ffi::SQLITE_OK => Ok(connection),
            code => Err(not_started(&connection.state, code)),
        }
    }

    fn configure(&self) -> c_int {
        let db = self.db.as_ptr();
        // SAFETY: the connection is open and used by this thread alone; every argument has the type
        // that its function or option asks for; the state outlives the connection.
        unsafe {
            // The modules that SQLite brings along would shadow streams of the same name.
            ffi::sqlite3_drop_modules(db, ptr::null_mut());
            for (number, value) in LIMITS {
                ffi::sqlite3_limit(db, number, c_int::try_from(value).unwrap_or(c_int::MAX));
            }
            let off: c_int = 0;
            let on: c_int = 1;
            let ignored = ptr::null_mut::<c_int>();
            ffi::sqlite3_db_config(db, ffi::SQLITE_DBCONFIG_DEFENSIVE, on, ignored);
            ffi::sqlite3_db_config(db, ffi::SQLITE_DBCONFIG_TRUSTED_SCHEMA, off, ignored);
            // A misspelt column in double quotes is an error and not a string.
            ffi::sqlite3_db_config(db, ffi::SQLITE_DBCONFIG_DQS_DML, off, ignored);
            let state = Arc::as_ptr(&self.state).cast_mut().cast::<c_void>();
            ffi::sqlite3_set_authorizer(db, Some(authorize), state);
            functions::register(db, &self.state)
        }
    }

    /// Registers a table under a name.
    pub(super) fn register<T: Table>(&self, name: &str, table: T) -> Result<(), Error> {
        // A name comes from SQLite and holds no NUL.
        let name = CString::new(name).map_err(|_| not_started(&self.state, ffi::SQLITE_MISUSE))?;
        // SAFETY: the connection is open and used by this thread alone.
        let code = unsafe { module::register(self.db.as_ptr(), &name, table) };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(not_started(&self.state, code)) }
    }

    /// Looks at the clock and at `cancelled` every so many steps while `work` runs.
    pub(super) fn watched<R>(
        &self,
        cancelled: &AtomicBool,
        steps: c_int,
        work: impl FnOnce() -> R,
    ) -> R {
        let state = Arc::as_ptr(&self.state).cast_mut().cast::<c_void>();
        let flag = ptr::from_ref(cancelled).cast_mut();
        self.state.cancelled.store(flag, Ordering::Relaxed);
        // SAFETY: the connection is open and used by this thread alone, and the state outlives it.
        unsafe {
            ffi::sqlite3_progress_handler(self.db.as_ptr(), steps, Some(progress), state);
        }
        // The flag is lent until the guard has taken the handler away, panics included.
        let _guard = Unwatch(self);
        work()
    }

    /// Compiles the first statement; also tells where it ends.
    pub(super) fn compile(&self, sql: &CStr) -> Result<(Statement, usize), Failure> {
        let mut statement = ptr::null_mut();
        let mut tail = ptr::null();
        let length = c_int::try_from(sql.count_bytes() + 1).unwrap_or(c_int::MAX);
        // SAFETY: the connection is open, the text is a C string of this length with its NUL.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                self.db.as_ptr(),
                sql.as_ptr(),
                length,
                0,
                &mut statement,
                &mut tail,
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(self.failure(code));
        }
        // SAFETY: the tail points into the text or just behind it.
        let end = unsafe { tail.offset_from(sql.as_ptr()) };
        Ok((Statement(statement), usize::try_from(end).unwrap_or(0)))
    }

    /// What SQLite says about the last call, which gave `code`.
    pub(super) fn failure(&self, code: c_int) -> Failure {
        let db = self.db.as_ptr();
        // SAFETY: the connection is open; the message is a C string until the next call.
        let (message, offset) = unsafe {
            let message = CStr::from_ptr(ffi::sqlite3_errmsg(db)).to_string_lossy().into_owned();
            (message, ffi::sqlite3_error_offset(db))
        };
        Failure { code, message, offset }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the connection is open, and its statements went before it.
        unsafe { ffi::sqlite3_close(self.db.as_ptr()) };
    }
}

/// The name of SQLite's file system in memory. What a query sorts or materializes beyond a page
/// cache goes to its temporary files: packed, charged to the query, and never to a disk.
const MEMORY_FILES: &CStr = c"memdb";

fn not_started(state: &QueryState, code: c_int) -> Error {
    if state.account.exceeded() {
        return state.memory_exceeded();
    }
    Error::new(ErrorCode::Internal, format!("SQLite did not start: result code {code}"))
}

/// What SQLite says about a call that failed.
pub(super) struct Failure {
    /// The result code.
    pub(super) code: c_int,
    /// Its message.
    pub(super) message: String,
    /// The byte of the statement, or negative.
    pub(super) offset: c_int,
}

struct Unwatch<'a>(&'a Connection);

impl Drop for Unwatch<'_> {
    fn drop(&mut self) {
        let Connection { db, state } = self.0;
        // SAFETY: the connection is open and used by this thread alone.
        unsafe { ffi::sqlite3_progress_handler(db.as_ptr(), 0, None, ptr::null_mut()) };
        state.cancelled.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

/// Whether the query may go on; notes why where not. What takes long within one step of SQLite asks
/// now and then and gives up where it may not.
///
/// # Safety
/// SQLite has called this thread back on the query's connection.
pub(super) unsafe fn may_go_on(state: &QueryState) -> bool {
    let cancelled = state.cancelled.load(Ordering::Relaxed);
    // SAFETY: it is null, or what `watched`, which is below on this thread's stack, has been lent.
    let cancelled = unsafe { cancelled.as_ref() };
    state.may_go_on(cancelled.unwrap_or(&AtomicBool::new(false)))
}

unsafe extern "C" fn progress(state: *mut c_void) -> c_int {
    // SAFETY: `watched` set the pointer to the state, and SQLite calls back. Nothing below panics.
    unsafe { c_int::from(!may_go_on(&*state.cast::<QueryState>())) }
}

/// A compiled statement, or null where the text held none. It must go before its connection.
pub(super) struct Statement(*mut ffi::sqlite3_stmt);

// SAFETY: as for the connection, beside which it is kept.
unsafe impl Send for Statement {}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the statement is null or not finalized yet.
        unsafe { ffi::sqlite3_finalize(self.0) };
    }
}

impl Statement {
    /// The pointer, for the functions that take one.
    pub(super) fn as_ptr(&self) -> *mut ffi::sqlite3_stmt {
        self.0
    }

    /// Whether the text held no statement.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_null()
    }

    /// Whether it changes nothing, as far as SQLite knows, gives columns, and is no plain EXPLAIN,
    /// whose answer holds addresses in memory; EXPLAIN QUERY PLAN is harmless.
    pub(super) fn only_reads(&self) -> bool {
        // SAFETY: the statement is not null and not finalized.
        unsafe {
            ffi::sqlite3_stmt_readonly(self.0) != 0
                && ffi::sqlite3_column_count(self.0) > 0
                && ffi::sqlite3_stmt_isexplain(self.0) != 1
        }
    }
}
