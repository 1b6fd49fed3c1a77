//! SQL: any text and parameters against a small database of two tenants.
//!
//! No statement panics, hangs, changes anything, or shows what belongs to the other tenant; no
//! error repeats a parameter; answers are well-formed and within the limits. Statements of a
//! generator are also run over a copy of the rows, so that what the virtual tables leave out shows.

mod database;
mod statement;

use kimberlite_wire::{Error, ErrorCode, QueryRequest, Value};

use crate::PLANTED;
use crate::input::Input;
use database::{Database, ROWS, with_database};

/// Stands in every event and name of the other tenant. No input can know it by chance.
pub const FOREIGN: &str = "kmb-of-tenant-2-7c1f0e55d2a94b83";
/// Begins every text parameter of the generator; no error may repeat it.
pub const PARAMETER: &str = "kmb-parameter-91d3";

/// The input: who asks for which state, the parameters, then text or a generator's choices.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (mode, who) = (input.below(3), input.below(3));
    let at_kind = input.u8() % 4;
    let at = if at_kind == 0 { 0 } else { input.number() };
    let params = parameters(&mut input);
    match mode {
        0 => {
            let sql = String::from_utf8_lossy(input.rest()).into_owned();
            let _ = with_database(|database| ask(database, who, &sql, params, (at_kind, at)));
        }
        1 => {
            let sql = statement::soup(&mut input);
            let _ = with_database(|database| ask(database, who, &sql, params, (at_kind, at)));
        }
        _ => {
            let pair = statement::pair(&mut input);
            with_database(|database| compare(database, who, &pair, &params, (at_kind, at)));
        }
    }
}

fn parameters(input: &mut Input<'_>) -> Vec<Value> {
    (0..input.below(5))
        .map(|_| match input.below(6) {
            0 => Value::Null,
            1 => Value::Int64(input.number() as i64),
            2 => Value::Float64(f64::from_bits(input.u64())),
            3 => Value::String(format!("{PARAMETER}{}", input.text())),
            4 => Value::Bytes(input.short().to_vec()),
            _ => Value::Bool(input.flag()),
        })
        .collect()
}

type Rows = Vec<Vec<Value>>;

/// Asks, and checks what comes back.
fn ask(
    database: &mut Database,
    who: usize,
    sql: &str,
    params: Vec<Value>,
    (at_kind, at): (u8, u64),
) -> Result<Rows, Error> {
    // The planted bug: a union of two parameters or more is answered by the other tenant's data.
    let who = if PLANTED && sql.contains(" UNION ") && params.len() >= 2 { 3 } else { who };
    let request = QueryRequest { sql: sql.to_string(), params, at_kind, at, ..Default::default() };
    let result = database.query(who, request);
    match &result {
        Ok((columns, rows)) => {
            assert!(rows.len() <= ROWS, "more rows than the limit");
            assert!(rows.iter().all(|row| row.len() == columns.len()), "a row of other columns");
            // Who writes the mark into a statement sees it, of course.
            let told = is_foreign(sql.as_bytes());
            let names = columns.iter().map(|column| column.name.as_bytes());
            assert!(told || !names.into_iter().any(is_foreign), "a foreign name in {sql}");
            let foreign = rows.iter().flatten().any(|value| is_foreign_value(value));
            assert!(told || !foreign, "foreign data is visible: {sql}");
        }
        Err(e) => {
            let is_ours = ![ErrorCode::Panic, ErrorCode::Internal].contains(&e.code);
            assert!(is_ours && !e.detail.is_empty(), "{sql}: {e}");
            let told = is_foreign(sql.as_bytes());
            assert!(told || !is_foreign(e.detail.as_bytes()), "foreign data in an error: {e}");
            let repeats = e.detail.contains(PARAMETER) && !sql.contains(PARAMETER);
            assert!(!repeats, "an error repeats a parameter: {e}");
        }
    }
    database.check_unchanged(sql);
    result.map(|(_, rows)| rows)
}

fn is_foreign_value(value: &Value) -> bool {
    match value {
        Value::String(text) => is_foreign(text.as_bytes()),
        Value::Bytes(bytes) => is_foreign(bytes),
        Value::Null | Value::Int64(_) | Value::Float64(_) | Value::Bool(_) => false,
    }
}

/// Whether the other tenant's mark stands in these bytes. It is compared by a checksum: libFuzzer
/// learns what bytes are compared with, and would write the mark into statements.
fn is_foreign(bytes: &[u8]) -> bool {
    let mark = crc32c::crc32c(FOREIGN.as_bytes());
    let windows = bytes.windows(FOREIGN.len()).filter(|w| w[0] == b'k' && w[3] == b'-');
    windows.into_iter().any(|window| crc32c::crc32c(window) == mark)
}

/// A statement, and the same over a copy of the rows that nothing is pushed down into.
fn compare(
    database: &mut Database,
    who: usize,
    (direct, copied): &(String, String),
    params: &[Value],
    at: (u8, u64),
) {
    let Ok(mut direct_rows) = ask(database, who, direct, params.to_vec(), at) else { return };
    let Ok(mut copied_rows) = ask(database, who, copied, params.to_vec(), at) else { return };
    if !direct.contains("ORDER BY") {
        let order = |row: &Vec<Value>| format!("{row:?}");
        direct_rows.sort_by_cached_key(order);
        copied_rows.sort_by_cached_key(order);
    }
    let cells = direct_rows.iter().flatten().zip(copied_rows.iter().flatten());
    let same =
        direct_rows.len() == copied_rows.len() && cells.into_iter().all(|(a, b)| is_same(a, b));
    assert!(same, "two ways, two answers:\n{direct}\n{direct_rows:?}\n{copied}\n{copied_rows:?}");
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float64(a), Value::Float64(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}
