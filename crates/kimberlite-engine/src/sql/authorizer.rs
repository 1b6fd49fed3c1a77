//! What a statement may do: select, read tables, and call functions that reach nothing outside it.

use std::ffi::{CStr, c_char, c_int, c_void};

use kimberlite_wire::{Error, ErrorCode};
use rusqlite::ffi;

use super::state::QueryState;

/// The functions that a statement may call, sorted. Not among them: what loads code, reaches the
/// innards of full-text or R-tree tables, writes to a log, or tells about this library's build.
const FUNCTIONS: &[&str] = &[
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_insert",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_patch",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_array_insert",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_patch",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "median",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "percentile",
    "percentile_cont",
    "percentile_disc",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "randomblob",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "soundex",
    "sqlite_version",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "subtype",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unistr_quote",
    "unixepoch",
    "unlikely",
    "upper",
    "zeroblob",
];

/// Statements that are understood but not run here, told apart from misspelt ones.
const NOT_HERE: [&str; 20] = [
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "BEGIN",
    "COMMIT",
    "CREATE",
    "DELETE",
    "DETACH",
    "DROP",
    "END",
    "INSERT",
    "PRAGMA",
    "REINDEX",
    "RELEASE",
    "REPLACE",
    "ROLLBACK",
    "SAVEPOINT",
    "TRUNCATE",
    "UPDATE",
    "VACUUM",
];

/// The error of a statement that wants to do more than read.
pub(super) fn not_allowed(what: &str) -> Error {
    let detail = format!("{what} is not allowed: a query only reads; use one SELECT statement");
    Error::new(ErrorCode::QueryExecution, detail)
}

/// The error of a statement that begins with this word, if such statements are known and refused.
pub(super) fn refuse_statement(first_word: &str) -> Option<Error> {
    let known = NOT_HERE.iter().find(|known| known.eq_ignore_ascii_case(first_word))?;
    Some(not_allowed(known))
}

/// SQLite's question about one thing that a statement would do.
///
/// # Safety
/// `state` points to the query's state for as long as this is the connection's authorizer; the
/// names are C strings or null for the length of the call.
pub(super) unsafe extern "C" fn authorize(
    state: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _database: *const c_char,
    _trigger: *const c_char,
) -> c_int {
    // SAFETY: see above.
    let (state, first, second) =
        unsafe { (&*state.cast::<QueryState>(), text(first), text(second)) };
    let refusal = match action {
        ffi::SQLITE_SELECT => {
            state.note_select();
            None
        }
        ffi::SQLITE_RECURSIVE => None,
        ffi::SQLITE_READ => refuse_table(first),
        ffi::SQLITE_FUNCTION => refuse_function(second),
        action => Some(not_allowed(action_name(action))),
    };
    match refusal {
        None => ffi::SQLITE_OK,
        Some(error) => {
            state.fail(error);
            ffi::SQLITE_DENY
        }
    }
}

/// # Safety
/// `name` is null or a C string that lives as long as the result is used.
unsafe fn text<'a>(name: *const c_char) -> &'a [u8] {
    if name.is_null() {
        return b"";
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(name) }.to_bytes()
}

/// SQLite's own tables stay out of reach. Streams cannot have such names.
fn refuse_table(name: &[u8]) -> Option<Error> {
    let has_prefix = |prefix: &[u8]| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if has_prefix(b"sqlite_") || has_prefix(b"pragma_") {
        let name = String::from_utf8_lossy(name);
        let detail = format!("the table {name:?} cannot be read; `_streams` lists the streams");
        return Some(Error::new(ErrorCode::QueryExecution, detail));
    }
    None
}

fn refuse_function(name: &[u8]) -> Option<Error> {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    match FUNCTIONS.binary_search(&name.as_str()) {
        Ok(_) => None,
        Err(_) => {
            let detail = format!("the function {name:?} is not offered to queries");
            Some(Error::new(ErrorCode::QueryExecution, detail))
        }
    }
}

fn action_name(action: c_int) -> &'static str {
    match action {
        ffi::SQLITE_INSERT => "INSERT",
        ffi::SQLITE_UPDATE => "UPDATE",
        ffi::SQLITE_DELETE => "DELETE",
        ffi::SQLITE_PRAGMA => "PRAGMA",
        ffi::SQLITE_ATTACH => "ATTACH",
        ffi::SQLITE_DETACH => "DETACH",
        ffi::SQLITE_TRANSACTION | ffi::SQLITE_SAVEPOINT => "a transaction",
        _ => "this statement",
    }
}

#[cfg(test)]
mod tests {
    use super::{FUNCTIONS, NOT_HERE, refuse_function, refuse_table};

    /// The search relies on the list's order.
    #[test]
    fn lists_are_sorted() {
        assert!(FUNCTIONS.is_sorted());
        assert!(NOT_HERE.is_sorted());
    }

    /// Names are compared without case, and nothing slips by as a prefix.
    #[test]
    fn names_are_judged_without_case() {
        assert!(refuse_function(b"COUNT").is_none());
        assert!(refuse_function(b"Load_Extension").is_some());
        assert!(refuse_function(b"").is_some());
        assert!(refuse_table(b"SQLite_Schema").is_some());
        assert!(refuse_table(b"pragma_table_info").is_some());
        assert!(refuse_table(b"orders").is_none());
    }
}
