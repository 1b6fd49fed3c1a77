//! A statement's parameters, columns and rows.

use std::ffi::{CStr, c_char, c_int};
use std::slice;

use kimberlite_wire::rows::RowBatchBuilder;
use kimberlite_wire::{Column, Error, Value};
use rusqlite::ffi;

use super::connection::Statement;

const UTF8: u8 = 1;

/// Binds every parameter; INVALID_ARGUMENT where their number or kind does not fit.
pub(super) fn bind(statement: &Statement, params: &[Value]) -> Result<(), Error> {
    let pointer = statement.as_ptr();
    // SAFETY: the statement is valid.
    let wanted = unsafe { ffi::sqlite3_bind_parameter_count(pointer) };
    for number in 1..=wanted {
        // SAFETY: the statement is valid; the name is null or a C string of the statement's.
        let name = unsafe { text(ffi::sqlite3_bind_parameter_name(pointer, number)) };
        if name.as_ref().is_some_and(|name| !name.starts_with('?')) {
            let name = name.unwrap_or_default();
            let detail = format!("the parameter {name} has a name; use ? or ?1, ?2 and so on");
            return Err(Error::invalid(detail));
        }
    }
    if usize::try_from(wanted).ok() != Some(params.len()) {
        let given = params.len();
        let detail = format!("params holds {given} values; the statement takes {wanted}");
        return Err(Error::invalid(detail));
    }
    for (number, value) in (1..).zip(params) {
        bind_one(statement, number, value)?;
    }
    Ok(())
}

fn bind_one(statement: &Statement, number: c_int, value: &Value) -> Result<(), Error> {
    let pointer = statement.as_ptr();
    // SAFETY: the statement is valid and not running; TRANSIENT copies texts and blobs before the
    // call returns, and the pointer of an empty one is not null.
    let code = unsafe {
        match value {
            Value::Null => ffi::sqlite3_bind_null(pointer, number),
            Value::Int64(value) => ffi::sqlite3_bind_int64(pointer, number, *value),
            Value::Bool(value) => ffi::sqlite3_bind_int64(pointer, number, i64::from(*value)),
            Value::Float64(value) => ffi::sqlite3_bind_double(pointer, number, *value),
            Value::String(value) => ffi::sqlite3_bind_text64(
                pointer,
                number,
                value.as_ptr().cast(),
                value.len() as u64,
                ffi::SQLITE_TRANSIENT(),
                UTF8,
            ),
            Value::Bytes(value) => ffi::sqlite3_bind_blob64(
                pointer,
                number,
                value.as_ptr().cast(),
                value.len() as u64,
                ffi::SQLITE_TRANSIENT(),
            ),
        }
    };
    match code {
        ffi::SQLITE_OK => Ok(()),
        ffi::SQLITE_TOOBIG => {
            let bytes = match value {
                Value::String(value) => value.len(),
                Value::Bytes(value) => value.len(),
                _ => 0,
            };
            let what = format!("the size of parameter {number} in bytes");
            Err(Error::limit(&what, bytes as u64, super::connection::VALUE_BYTES))
        }
        code => Err(Error::invalid(format!("parameter {number} was refused with code {code}"))),
    }
}

/// The result's columns.
pub(super) fn columns(statement: &Statement) -> Vec<Column> {
    let pointer = statement.as_ptr();
    // SAFETY: the statement is valid.
    let count = unsafe { ffi::sqlite3_column_count(pointer) };
    (0..count)
        .map(|column| {
            // SAFETY: the statement is valid and has the column; both are null or C strings that
            // stay until the next call about the column.
            let (name, declared) = unsafe {
                let name = text(ffi::sqlite3_column_name(pointer, column));
                (name, text(ffi::sqlite3_column_decltype(pointer, column)))
            };
            Column { name: name.unwrap_or_default(), declared_type: declared.unwrap_or_default() }
        })
        .collect()
}

/// # Safety
/// `pointer` is null or a C string that stays valid for the length of the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: see above.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// Goes to the next row: SQLITE_ROW, SQLITE_DONE or an error.
pub(super) fn step(statement: &Statement) -> c_int {
    // SAFETY: the statement is valid.
    unsafe { ffi::sqlite3_step(statement.as_ptr()) }
}

/// Adds the current row, which `step` has just reached, to a batch. False where a value could not
/// be had for lack of memory.
pub(super) fn push_row(
    statement: &Statement,
    columns: usize,
    batch: &mut RowBatchBuilder,
    batch_bytes: u64,
) -> bool {
    let pointer = statement.as_ptr();
    for column in 0..c_int::try_from(columns).unwrap_or(0) {
        // SAFETY: the statement stands on a row that has the column.
        match unsafe { ffi::sqlite3_column_type(pointer, column) } {
            ffi::SQLITE_INTEGER => {
                // SAFETY: as above.
                batch.push_i64(unsafe { ffi::sqlite3_column_int64(pointer, column) });
            }
            ffi::SQLITE_FLOAT => {
                // SAFETY: as above.
                batch.push_f64(unsafe { ffi::sqlite3_column_double(pointer, column) });
            }
            ffi::SQLITE_TEXT => {
                // SAFETY: as above; the pointer is asked for before the length.
                let bytes = unsafe {
                    let start = ffi::sqlite3_column_text(pointer, column);
                    bytes_of(statement, column, start)
                };
                let Some(bytes) = bytes else { return false };
                // A cast can make text of bytes that are not UTF-8; they come out as bytes.
                match std::str::from_utf8(bytes) {
                    Ok(text) => batch.push_str(text),
                    Err(_) => batch.push_bytes(bytes),
                }
            }
            ffi::SQLITE_BLOB => {
                // SAFETY: as above; the pointer is asked for before the length.
                let bytes = unsafe {
                    let start = ffi::sqlite3_column_blob(pointer, column).cast();
                    bytes_of(statement, column, start)
                };
                let Some(bytes) = bytes else { return false };
                batch.push_bytes(bytes);
            }
            _ => batch.push_null(),
        }
        if batch.byte_len() as u64 > batch_bytes {
            return false;
        }
    }
    batch.finish_row();
    true
}

/// A column's bytes, until the next call on the statement; `None` where memory ran out.
///
/// # Safety
/// `start` is what SQLite just gave for the column of the current row.
unsafe fn bytes_of(statement: &Statement, column: c_int, start: *const u8) -> Option<&[u8]> {
    // SAFETY: the statement stands on a row that has the column.
    let length = unsafe { ffi::sqlite3_column_bytes(statement.as_ptr(), column) };
    let length = usize::try_from(length).ok()?;
    match (start.is_null(), length) {
        // An empty blob has no pointer.
        (true, 0) => Some(&[]),
        (true, _) => None,
        // SAFETY: SQLite holds this many bytes there until the next call on the statement.
        (false, _) => Some(unsafe { slice::from_raw_parts(start, length) }),
    }
}
