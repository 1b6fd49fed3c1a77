//! The functions of SQL that are our own, as SQLite calls them.

use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use kimberlite_wire::{Error, ErrorCode};
use rusqlite::ffi;

use super::characters::{character_set, unhex_to};
use super::connection::{PATTERN_BYTES, may_go_on};
use super::patch;
use super::scan::{Replacement, SET_BYTES, TrimSet, byte_position, character_position};
use super::state::QueryState;
use super::wildcards::Wildcards;

type Function =
    unsafe extern "C" fn(*mut ffi::sqlite3_context, c_int, *mut *mut ffi::sqlite3_value);

/// A function's name, how many arguments it takes, and itself.
pub(super) type Named = (&'static CStr, c_int, Function);

const FUNCTIONS: [Named; 12] = [
    (c"like", 2, like),
    (c"like", 3, like),
    (c"glob", 2, glob),
    (c"unhex", 2, unhex),
    (c"instr", 2, instr),
    (c"replace", 3, replace),
    (c"trim", 1, trim::<true, true>),
    (c"trim", 2, trim::<true, true>),
    (c"ltrim", 1, trim::<true, false>),
    (c"ltrim", 2, trim::<true, false>),
    (c"rtrim", 1, trim::<false, true>),
    (c"rtrim", 2, trim::<false, true>),
];

/// Registers them in place of SQLite's.
///
/// # Safety
/// The connection is open, this thread alone uses it, and the state outlives it.
pub(super) unsafe fn register(db: *mut ffi::sqlite3, state: &QueryState) -> c_int {
    let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
    let state = ptr::from_ref(state).cast_mut().cast::<c_void>();
    let of_json = flags | ffi::SQLITE_RESULT_SUBTYPE;
    let ours = FUNCTIONS.iter().map(|named| (named, flags));
    let all = ours.chain(patch::FUNCTIONS.iter().map(|named| (named, of_json)));
    for (&(name, arguments, function), flags) in all {
        // SAFETY: see above; the name is a C string, and the function takes what SQLite passes.
        let code = unsafe {
            let name = name.as_ptr();
            let function = Some(function);
            ffi::sqlite3_create_function_v2(
                db, name, arguments, flags, state, function, None, None, None,
            )
        };
        if code != ffi::SQLITE_OK {
            return code;
        }
    }
    ffi::SQLITE_OK
}

/// What a call answers.
pub(super) enum Outcome {
    Null,
    Integer(usize),
    /// SQLite has the answer already.
    Given,
    NoMemory,
    Failed(Error),
    /// The query may not go on; why is noted.
    Stopped,
}

impl Outcome {
    /// QUERY_EXECUTION, and why.
    fn refused(why: &str) -> Outcome {
        Outcome::Failed(Error::new(ErrorCode::QueryExecution, why))
    }
}

/// The values of a call, which stay as they are until it answers.
pub(super) struct Call<'a> {
    pub(super) context: *mut ffi::sqlite3_context,
    pub(super) values: &'a [*mut ffi::sqlite3_value],
}

impl<'a> Call<'a> {
    pub(super) fn kind(&self, number: usize) -> c_int {
        // SAFETY: SQLite passes valid values.
        unsafe { ffi::sqlite3_value_type(self.values[number]) }
    }

    /// A value's bytes as a text; `None` for NULL, or where memory ran out.
    pub(super) fn text(&self, number: usize) -> Option<&'a [u8]> {
        let value = self.values[number];
        // SAFETY: the value is valid, the pointer is asked for before the length, and no other
        // conversion of the value follows.
        unsafe { bytes_of(ffi::sqlite3_value_text(value), value) }
    }

    /// A blob's bytes; an empty one has no pointer.
    pub(super) fn blob(&self, number: usize) -> &'a [u8] {
        let value = self.values[number];
        // SAFETY: as above.
        unsafe { bytes_of(ffi::sqlite3_value_blob(value).cast(), value) }.unwrap_or(&[])
    }

    /// What the query's parts share.
    fn state(&self) -> &QueryState {
        // SAFETY: the functions were registered with the state, which outlives the connection.
        unsafe { &*ffi::sqlite3_user_data(self.context).cast::<QueryState>() }
    }

    /// Answers with a copy of a text.
    fn give(&self, text: &[u8]) -> Outcome {
        // SAFETY: SQLite copies the bytes before the call returns.
        unsafe {
            let (start, length) = (text.as_ptr().cast(), text.len() as u64);
            let transient = ffi::SQLITE_TRANSIENT();
            ffi::sqlite3_result_text64(self.context, start, length, transient, UTF8);
        }
        Outcome::Given
    }
}

const UTF8: u8 = 1;

/// # Safety
/// SQLite has just given `start` for the value, which lives as long as the bytes are used.
unsafe fn bytes_of<'a>(start: *const u8, value: *mut ffi::sqlite3_value) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: see above.
    unsafe {
        let length = ffi::sqlite3_value_bytes(value);
        Some(slice::from_raw_parts(start, usize::try_from(length).unwrap_or(0)))
    }
}

/// Calls a body and passes its answer on; a panic becomes an error.
///
/// # Safety
/// SQLite passes the arguments to a function of this module.
pub(super) unsafe fn answer(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
    body: impl FnOnce(&Call<'_>) -> Outcome,
) {
    // SAFETY: SQLite passes as many values as it says, and every function takes at least one.
    let values = unsafe { slice::from_raw_parts(values, usize::try_from(count).unwrap_or(0)) };
    let call = Call { context, values };
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&call)))
        .unwrap_or_else(|_panic| Outcome::refused("a function of SQL panicked"));
    // SAFETY: the context is that of this call, and its function was registered with the state.
    unsafe {
        match outcome {
            Outcome::Null => ffi::sqlite3_result_null(context),
            Outcome::Integer(value) => ffi::sqlite3_result_int64(context, value as i64),
            Outcome::Given => {}
            Outcome::NoMemory => ffi::sqlite3_result_error_nomem(context),
            Outcome::Failed(error) => {
                call.state().fail(error);
                ffi::sqlite3_result_error_code(context, ffi::SQLITE_ERROR);
            }
            Outcome::Stopped => ffi::sqlite3_result_error_code(context, ffi::SQLITE_INTERRUPT),
        }
    }
}

/// Answers whether the second value matches the first, in SQLite's order of errors.
fn matches(call: &Call<'_>, mut wildcards: Wildcards) -> Outcome {
    let pattern = call.text(0);
    if pattern.is_some_and(|pattern| pattern.len() as u64 > PATTERN_BYTES) {
        return Outcome::refused("LIKE or GLOB pattern too complex");
    }
    if call.values.len() == 3 {
        let Some(escape) = call.text(2) else { return missing(call, 3) };
        let Some(escaped) = wildcards.escaped_by(escape) else {
            return Outcome::refused("ESCAPE expression must be a single character");
        };
        wildcards = escaped;
    }
    let (Some(pattern), Some(text)) = (pattern, call.text(1)) else { return missing(call, 2) };
    // SAFETY: SQLite has called this function.
    let mut go_on = || unsafe { may_go_on(call.state()) };
    match wildcards.matches(pattern, text, &mut go_on) {
        Some(matches) => Outcome::Integer(usize::from(matches)),
        None => Outcome::Stopped,
    }
}

unsafe extern "C" fn like(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes the arguments.
    unsafe { answer(context, count, values, |call| matches(call, Wildcards::LIKE)) }
}

unsafe extern "C" fn glob(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes the arguments.
    unsafe { answer(context, count, values, |call| matches(call, Wildcards::GLOB)) }
}

unsafe extern "C" fn unhex(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    let body = |call: &Call<'_>| {
        let (Some(text), Some(ignored)) = (call.text(0), call.text(1)) else {
            return missing(call, 2);
        };
        if ignored.len() > SET_BYTES {
            let bytes = ignored.len();
            let why =
                format!("unhex is to ignore {bytes} bytes of characters; {SET_BYTES} are the most");
            return Outcome::refused(&why);
        }
        let ignored = character_set(ignored);
        // SAFETY: memory that SQLite gives, which is the query's, is the result's alone; SQLite
        // frees it.
        unsafe {
            let room = text.len() / 2 + 1;
            let start = ffi::sqlite3_malloc64(room as u64).cast::<u8>();
            if start.is_null() {
                return Outcome::NoMemory;
            }
            ptr::write_bytes(start, 0, room);
            match unhex_to(text, &ignored, slice::from_raw_parts_mut(start, room)) {
                Some(bytes) => {
                    let free = Some(ffi::sqlite3_free as unsafe extern "C" fn(*mut c_void));
                    ffi::sqlite3_result_blob64(call.context, start.cast(), bytes as u64, free);
                    Outcome::Given
                }
                None => {
                    ffi::sqlite3_free(start.cast());
                    Outcome::Null
                }
            }
        }
    };
    // SAFETY: SQLite passes the arguments.
    unsafe { answer(context, count, values, body) }
}

unsafe extern "C" fn instr(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    let body = |call: &Call<'_>| {
        let (haystack, needle) = (call.kind(0), call.kind(1));
        if haystack == ffi::SQLITE_NULL || needle == ffi::SQLITE_NULL {
            return Outcome::Null;
        }
        if haystack == ffi::SQLITE_BLOB && needle == ffi::SQLITE_BLOB {
            return Outcome::Integer(byte_position(call.blob(0), call.blob(1)));
        }
        // A blob beside a text is one; asking for its text would change its type for who comes next.
        let text = |number, kind| match kind {
            ffi::SQLITE_BLOB => Some(call.blob(number)),
            _ => call.text(number),
        };
        match (text(0, haystack), text(1, needle)) {
            (Some(haystack), Some(needle)) => {
                Outcome::Integer(character_position(haystack, needle))
            }
            _ => Outcome::NoMemory,
        }
    };
    // SAFETY: SQLite passes the arguments.
    unsafe { answer(context, count, values, body) }
}

unsafe extern "C" fn replace(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    let body = |call: &Call<'_>| {
        let (Some(text), Some(pattern)) = (call.text(0), call.text(1)) else {
            return missing(call, 2);
        };
        // To SQLite a text that begins with NUL is an empty pattern.
        if pattern.first().is_none_or(|first| *first == 0) {
            return call.give(text);
        }
        match call.text(2) {
            Some(by) => put(call, &Replacement::new(text, pattern, by)),
            None => missing(call, 3),
        }
    };
    // SAFETY: SQLite passes the arguments.
    unsafe { answer(context, count, values, body) }
}

/// Answers with a replacement's result, in memory of SQLite's, which is the query's.
fn put(call: &Call<'_>, replacement: &Replacement<'_>) -> Outcome {
    let bytes = replacement.bytes;
    // SAFETY: the context is that of this call, and its connection is open. Memory that SQLite
    // gives is the result's alone, and SQLite frees it.
    unsafe {
        let db = ffi::sqlite3_context_db_handle(call.context);
        let most = ffi::sqlite3_limit(db, ffi::SQLITE_LIMIT_LENGTH, -1);
        if usize::try_from(most).is_ok_and(|most| bytes > most) {
            ffi::sqlite3_result_error_toobig(call.context);
            return Outcome::Given;
        }
        let start = ffi::sqlite3_malloc64(bytes as u64 + 1).cast::<u8>();
        if start.is_null() {
            return Outcome::NoMemory;
        }
        ptr::write_bytes(start, 0, bytes + 1);
        replacement.write(slice::from_raw_parts_mut(start, bytes));
        let free = Some(ffi::sqlite3_free as unsafe extern "C" fn(*mut c_void));
        ffi::sqlite3_result_text64(call.context, start.cast(), bytes as u64, free, UTF8);
    }
    Outcome::Given
}

/// The answer where one of the first values could not be had as a text: it is NULL, or memory ran
/// out.
fn missing(call: &Call<'_>, values: usize) -> Outcome {
    let is_null = (0..values).any(|number| call.kind(number) == ffi::SQLITE_NULL);
    if is_null { Outcome::Null } else { Outcome::NoMemory }
}

unsafe extern "C" fn trim<const START: bool, const END: bool>(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    let body = |call: &Call<'_>| {
        let Some(mut text) = call.text(0) else { return missing(call, 1) };
        let characters = match call.values.len() {
            1 => b" ".as_slice(),
            _ => match call.text(1) {
                Some(characters) => characters,
                None => return missing(call, 2),
            },
        };
        if characters.len() > SET_BYTES {
            let bytes = characters.len();
            let why = format!(
                "trim is to take {bytes} bytes of characters away; {SET_BYTES} are the most"
            );
            return Outcome::refused(&why);
        }
        let Some(set) = TrimSet::new(characters) else {
            let why = "the characters that trim is to take away are not UTF-8";
            return Outcome::refused(why);
        };
        if START {
            text = set.trim_start(text);
        }
        if END {
            text = set.trim_end(text);
        }
        call.give(text)
    };
    // SAFETY: SQLite passes the arguments.
    unsafe { answer(context, count, values, body) }
}
