//! The functions of SQL that are our own answer as SQLite's do, and soon.

mod sql_support;

use std::sync::Arc;

use kimberlite_wire::{DataClass, ErrorCode, Value};
use proptest::prelude::*;
use rusqlite::types;
use sql_support::{FakeCut, FakeTable, query};

const CALLS: [&str; 9] = [
    "instr(?1, ?2)",
    "replace(?1, ?2, ?3)",
    "trim(?1)",
    "ltrim(?1)",
    "rtrim(?1)",
    "trim(?1, ?2)",
    "ltrim(?1, ?2)",
    "rtrim(?1, ?2)",
    // What a function is given is afterwards what it was.
    "typeof(?1) || (instr(x.a, x.b) + 0) || typeof(x.a) || typeof(x.b)",
];

fn cut() -> Arc<FakeCut> {
    FakeCut::of(vec![FakeTable::numbered("orders", DataClass::NonPhi, 1)])
}

/// Few different characters of one to four bytes, bytes of them without the rest, and NUL, so that
/// values meet often in whole and in part.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => Just("a".as_bytes()),
        3 => Just("b".as_bytes()),
        3 => Just(" ".as_bytes()),
        2 => Just("é".as_bytes()),
        1 => Just("è".as_bytes()),
        2 => Just("€".as_bytes()),
        2 => Just("😀".as_bytes()),
        1 => Just(b"\0".as_slice()),
        1 => Just(b"\xc3".as_slice()),
        2 => Just(b"\xa9".as_slice()),
        1 => Just(b"\x82\xac".as_slice()),
        1 => Just(b"\xff".as_slice()),
    ];
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

fn operand() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => bytes().prop_map(Value::Bytes),
        4 => bytes().prop_map(|bytes| Value::String(String::from_utf8_lossy(&bytes).into())),
        1 => Just(Value::Null),
        1 => (-12i64..112).prop_map(Value::Int64),
        1 => (-9i64..9).prop_map(|quarters| Value::Float64(quarters as f64 / 4.0)),
    ]
}

/// A call's type and bytes, of the operands as they are and as texts.
fn statement(call: &str, as_text: bool) -> String {
    let of = |place: &str| match as_text {
        true => format!("CAST({place} AS TEXT)"),
        false => place.to_string(),
    };
    let call = ["?1", "?2", "?3"]
        .iter()
        .fold(call.to_string(), |call, place| call.replace(place, &of(place)));
    let (a, b) = (of("?1"), of("?2"));
    format!(
        "SELECT typeof(r), hex(r), ?3 IS NULL FROM (SELECT {call} AS r FROM (SELECT {a} AS a, {b} AS b) x)"
    )
}

fn goes_on(operand: &Value) -> bool {
    let Value::Bytes(bytes) = operand else { return false };
    bytes.windows(4).any(|four| four.iter().all(|byte| byte & 0xc0 == 0x80))
}

fn sqlite(sql: &str, operands: &[Value]) -> Vec<Value> {
    let plain = rusqlite::Connection::open_in_memory().unwrap();
    let operands = operands.iter().map(|operand| match operand {
        Value::Null => types::Value::Null,
        Value::Int64(value) => types::Value::Integer(*value),
        Value::Bool(value) => types::Value::Integer(i64::from(*value)),
        Value::Float64(value) => types::Value::Real(*value),
        Value::String(value) => types::Value::Text(value.clone()),
        Value::Bytes(value) => types::Value::Blob(value.clone()),
    });
    let mut statement = plain.prepare(sql).unwrap();
    let used = statement.parameter_count();
    let operands: Vec<types::Value> = operands.take(used).collect();
    statement
        .query_row(rusqlite::params_from_iter(operands), |row| {
            (0..3)
                .map(|column| {
                    Ok(match row.get::<_, types::Value>(column)? {
                        types::Value::Integer(value) => Value::Int64(value),
                        types::Value::Text(value) => Value::String(value),
                        other => panic!("{other:?}"),
                    })
                })
                .collect()
        })
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Texts, blobs, numbers and NULL, empty ones, with NUL in them, and of no UTF-8.
    #[test]
    fn they_answer_as_sqlite(a in operand(), b in operand(), c in operand()) {
        let (cut, operands) = (cut(), [a, b, c]);
        for call in CALLS {
            for as_text in [false, true] {
                let sql = statement(call, as_text);
                let ours = match query(&cut, &sql, &operands) {
                    // Only what no UTF-8 has is refused: four bytes that go on with a character.
                    Err(error) if error.detail.contains("not UTF-8") => {
                        prop_assert!(goes_on(&operands[1]), "{} of {:?}", sql, operands);
                        continue;
                    }
                    ours => ours.unwrap(),
                };
                prop_assert_eq!(&ours[0], &sqlite(&sql, &operands), "{} of {:?}", sql, operands);
            }
        }
    }
}

/// Values that SQLite's own functions compare for minutes, in one step that no deadline ends.
#[test]
fn megabytes_are_soon_done() {
    let cut = cut();
    let many = |text: &str| Value::String(text.repeat((4 << 20) / text.len()));
    let nearly = Value::String(format!("{}b", "a".repeat(2 << 20)));
    let characters = Value::String(format!("{}a", "b".repeat(4_000)));
    for (sql, operands, wanted) in [
        ("SELECT instr(?1, ?2)", vec![many("a"), nearly.clone()], 0),
        ("SELECT instr(CAST(?1 AS BLOB), CAST(?2 AS BLOB))", vec![many("a"), nearly.clone()], 0),
        ("SELECT length(replace(?1, ?2, 'x'))", vec![many("a"), nearly], 4 << 20),
        ("SELECT length(replace(?1, 'ab', 'abc'))", vec![many("ab")], 6 << 20),
        ("SELECT length(trim(?1, ?2))", vec![many("a"), characters.clone()], 0),
        ("SELECT length(rtrim(?1, ?2))", vec![many("a"), characters.clone()], 0),
        ("SELECT length(ltrim(?1, ?2))", vec![many("a"), characters], 0),
    ] {
        let rows = query(&cut, sql, &operands).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(rows[0], [Value::Int64(wanted)], "{sql}");
    }
}

/// What would be too long, or takes too many characters, is refused.
#[test]
fn they_have_bounds() {
    let cut = cut();
    let refused = |sql: &str, operand: Value| query(&cut, sql, &[operand]).unwrap_err();
    let long = Value::String("a".repeat(9 << 20));
    let error = refused("SELECT replace(?1, 'a', 'aa')", long);
    assert_eq!(error.code, ErrorCode::LimitExceeded, "{error}");
    let error = refused("SELECT trim('a', ?1)", Value::String("a".repeat(4_097)));
    assert_eq!(error.code, ErrorCode::QueryExecution, "{error}");
    assert!(error.detail.contains("4097 bytes"), "{error}");
    let stray = Value::Bytes(b"\xc3\xa9\xa9\xa9\xa9".to_vec());
    let error = refused("SELECT trim('a', CAST(?1 AS TEXT))", stray);
    assert_eq!(error.code, ErrorCode::QueryExecution, "{error}");
    assert!(error.detail.contains("not UTF-8"), "{error}");
}
