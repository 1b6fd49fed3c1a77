//! `json_patch` and `jsonb_patch`, where they are soon done.
//!
//! SQLite's own look through an object for every key of the patch and move what stands behind each
//! that changes, within one step of its machine, which nothing interrupts. Here a call that could
//! take long is refused; any other is SQLite's own, asked for on a connection beside the query's,
//! where it has its name still.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use kimberlite_wire::Error;
use memchr::memchr_iter;
use rusqlite::ffi;

use super::connection::VALUE_BYTES;
use super::functions::{Call, Named, Outcome, answer};

/// The most that the number of a patch's keys times the bytes of both documents may be: some tenths
/// of a second.
const PATCH_WORK: u64 = 1 << 28;

/// The mark of SQLite's that a text is JSON.
const JSON: u32 = b'J' as u32;

/// The low half of the first byte of an object in SQLite's binary JSON.
const BINARY_OBJECT: u8 = 0x0c;

/// Bytes that a key and its value have at least in binary JSON.
const BINARY_ENTRY_BYTES: u64 = 2;

pub(super) const FUNCTIONS: [Named; 2] =
    [(c"json_patch", 2, json_patch), (c"jsonb_patch", 2, jsonb_patch)];

unsafe extern "C" fn json_patch(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes the arguments.
    unsafe { answer(context, count, values, |call| patch(call, 0)) }
}

unsafe extern "C" fn jsonb_patch(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes the arguments.
    unsafe { answer(context, count, values, |call| patch(call, 1)) }
}

fn patch(call: &Call<'_>, statement: usize) -> Outcome {
    let document = |number| match call.kind(number) {
        ffi::SQLITE_BLOB => Some(call.blob(number)),
        ffi::SQLITE_TEXT => call.text(number),
        _ => Some(b"".as_slice()),
    };
    let (Some(target), Some(patch)) = (document(0), document(1)) else { return Outcome::NoMemory };
    let work = keys(patch).saturating_mul((target.len() + patch.len()) as u64);
    if work > PATCH_WORK {
        let what = "the number of a JSON patch's keys times the bytes of both documents";
        return Outcome::Failed(Error::limit(what, work, PATCH_WORK));
    }
    // SAFETY: SQLite calls back on the query's connection.
    unsafe {
        match Patcher::of(call) {
            Some(patcher) => patcher.answer(call, statement),
            None => Outcome::NoMemory,
        }
    }
}

/// No fewer keys than the document has, whichever JSON it is: a binary object begins like no other
/// text with a colon in it, and in a text every key has one.
fn keys(document: &[u8]) -> u64 {
    match document.first() {
        Some(first) if first & 0x0f == BINARY_OBJECT => document.len() as u64 / BINARY_ENTRY_BYTES,
        _ => memchr_iter(b':', document).count() as u64,
    }
}

const SOURCES: [&CStr; 2] = [c"SELECT json_patch(?1, ?2)", c"SELECT jsonb_patch(?1, ?2)"];

/// Where a query's connection keeps its patcher.
const NAME: &CStr = c"kimberlite-patcher";

/// A connection whose functions are SQLite's own, for as long as the query's that it belongs to.
struct Patcher {
    db: *mut ffi::sqlite3,
    statements: [*mut ffi::sqlite3_stmt; SOURCES.len()],
}

impl Patcher {
    /// That of the call's query, which is made when it is first asked for; `None` where memory ran
    /// out.
    ///
    /// # Safety
    /// SQLite calls back on the query's connection.
    unsafe fn of<'a>(call: &'a Call<'_>) -> Option<&'a Patcher> {
        // SAFETY: the connection is open, and what it keeps below the name are patchers, which are
        // dropped with it or at once where it cannot keep them.
        unsafe {
            let db = ffi::sqlite3_context_db_handle(call.context);
            let kept = ffi::sqlite3_get_clientdata(db, NAME.as_ptr()).cast::<Patcher>();
            if let Some(patcher) = kept.as_ref() {
                return Some(patcher);
            }
            let patcher = Box::into_raw(Box::new(Patcher::open()?));
            let drop = Some(drop_patcher as unsafe extern "C" fn(*mut c_void));
            let code = ffi::sqlite3_set_clientdata(db, NAME.as_ptr(), patcher.cast(), drop);
            if code == ffi::SQLITE_OK { patcher.as_ref() } else { None }
        }
    }

    fn open() -> Option<Patcher> {
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_MEMORY | ffi::SQLITE_OPEN_NOMUTEX;
        let mut patcher = Patcher { db: ptr::null_mut(), statements: [ptr::null_mut(); 2] };
        // SAFETY: the texts are C strings, and SQLite writes what it opened and compiled or null.
        unsafe {
            let memory = c":memory:".as_ptr();
            let code = ffi::sqlite3_open_v2(memory, &mut patcher.db, flags, c"memdb".as_ptr());
            if code != ffi::SQLITE_OK {
                return None;
            }
            let most = c_int::try_from(VALUE_BYTES).unwrap_or(c_int::MAX);
            ffi::sqlite3_limit(patcher.db, ffi::SQLITE_LIMIT_LENGTH, most);
            for (source, statement) in SOURCES.iter().zip(&mut patcher.statements) {
                let (source, none) = (source.as_ptr(), ptr::null_mut());
                let code = ffi::sqlite3_prepare_v3(patcher.db, source, -1, 0, statement, none);
                if code != ffi::SQLITE_OK {
                    return None;
                }
            }
        }
        Some(patcher)
    }

    /// # Safety
    /// SQLite calls back on the connection that the patcher belongs to.
    unsafe fn answer(&self, call: &Call<'_>, statement: usize) -> Outcome {
        let (context, statement) = (call.context, self.statements[statement]);
        // SAFETY: the statement has two parameters and one column, and is used by this thread
        // alone; the values live until the call returns, and SQLite copies what it answers with.
        unsafe {
            let mut code = ffi::SQLITE_OK;
            for (place, value) in (1..).zip(call.values) {
                if code == ffi::SQLITE_OK {
                    code = ffi::sqlite3_bind_value(statement, place, *value);
                }
            }
            if code == ffi::SQLITE_OK {
                code = ffi::sqlite3_step(statement);
            }
            match code & 0xff {
                ffi::SQLITE_ROW => {
                    let value = ffi::sqlite3_column_value(statement, 0);
                    let is_text = ffi::sqlite3_column_type(statement, 0) == ffi::SQLITE_TEXT;
                    ffi::sqlite3_result_value(context, value);
                    if is_text {
                        ffi::sqlite3_result_subtype(context, JSON);
                    }
                }
                ffi::SQLITE_NOMEM => ffi::sqlite3_result_error_nomem(context),
                ffi::SQLITE_TOOBIG => ffi::sqlite3_result_error_toobig(context),
                _ => ffi::sqlite3_result_error(context, ffi::sqlite3_errmsg(self.db), -1),
            }
            ffi::sqlite3_reset(statement);
            ffi::sqlite3_clear_bindings(statement);
        }
        Outcome::Given
    }
}

impl Drop for Patcher {
    fn drop(&mut self) {
        // SAFETY: the statements and their connection are open or null.
        unsafe {
            for statement in self.statements {
                ffi::sqlite3_finalize(statement);
            }
            ffi::sqlite3_close(self.db);
        }
    }
}

unsafe extern "C" fn drop_patcher(patcher: *mut c_void) {
    // SAFETY: it is the box that `of` gave away, and SQLite drops it once.
    drop(unsafe { Box::from_raw(patcher.cast::<Patcher>()) });
}
