//! The functions of SQL that are our own answer as SQLite's do, and soon.

mod sql_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kimberlite_engine::sql::{QueryLimits, prepare};
use kimberlite_wire::{DataClass, ErrorCode, Value};
use proptest::prelude::*;
use rusqlite::types;
use sql_support::{FakeCut, FakeTable, query, query_within, value};

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
    try_sqlite(sql, operands).unwrap()
}

/// The row of SQLite itself, or what it says.
fn try_sqlite(sql: &str, operands: &[Value]) -> Result<Vec<Value>, String> {
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
    let row = statement.query_row(rusqlite::params_from_iter(operands), |row| {
        (0..3)
            .map(|column| {
                Ok(match row.get::<_, types::Value>(column)? {
                    types::Value::Null => Value::Null,
                    types::Value::Integer(value) => Value::Int64(value),
                    types::Value::Text(value) => Value::String(value),
                    other => panic!("{other:?}"),
                })
            })
            .collect()
    });
    row.map_err(|error| error.to_string())
}

const COMPARISONS: [&str; 5] = [
    "unhex(?1, ?2)",
    "?1 LIKE ?2",
    "?1 GLOB ?2",
    "?1 LIKE ?2 ESCAPE ?3",
    // What is compared is afterwards what it was to SQLite's own.
    "typeof(x.a) || (x.a LIKE x.b) || (x.a GLOB x.b) || typeof(x.a) || typeof(x.b)",
];

/// Pieces of patterns and of what they match, so that they often do: letters in both cases, every
/// character that means something to either, the same character in several encodings, bytes of
/// characters, surrogates, and NUL.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let often = prop::sample::select(vec!["a", "A", "b", "%", "_", "*", "?"]);
    let sets = ["[", "]", "^", "-", "[ab]", "[^a]", "[]a]", "[^]b]", "[a-c]", "[a-", "[é-€]"];
    let rare =
        ["c", "4B", "\\", "é", "©", "€", "😀", "Z", "@", "`", "\u{fffd}", "\u{7f}", "\u{80}"];
    let broken: [&[u8]; 12] = [
        b"\0",
        b"\xc3",
        b"\xa9",
        b"\xe9",
        b"\x82\xac",
        b"\xff",
        b"\xc1\xa1",
        b"\xed\xa0\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfd\xbf\xbf\xbf\xbf\xbf\xbf\xbf",
        b"\xfe\x83\xa9",
        b"\xef\xbf\xbe",
    ];
    let bytes = |text: &str| text.as_bytes().to_vec();
    prop_oneof![
        12 => often.prop_map(bytes),
        3 => prop::sample::select(sets.to_vec()).prop_map(bytes),
        3 => prop::sample::select(rare.to_vec()).prop_map(bytes),
        2 => prop::sample::select(broken.to_vec()).prop_map(<[u8]>::to_vec),
    ]
}

fn compared(most: usize) -> impl Strategy<Value = Value> {
    let pieces = || prop::collection::vec(piece(), 0..most).prop_map(|pieces| pieces.concat());
    prop_oneof![
        6 => pieces().prop_map(Value::Bytes),
        6 => pieces().prop_map(|bytes| Value::String(String::from_utf8_lossy(&bytes).into())),
        1 => operand(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    /// Whatever is compared with whatever, escaped by whatever: the same answer or the same error.
    #[test]
    fn comparisons_answer_as_sqlite(a in compared(12), b in compared(8), c in compared(2)) {
        let (cut, operands) = (cut(), [a, b, c]);
        for call in COMPARISONS {
            for as_text in [false, true] {
                let sql = statement(call, as_text);
                let ours = query(&cut, &sql, &operands).map(|mut rows| rows.remove(0));
                let ours = ours.map_err(|error| error.detail);
                prop_assert_eq!(ours, try_sqlite(&sql, &operands), "{} of {:?}", sql, operands);
            }
        }
    }
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

/// A function has so many arguments, and one more is an error of the statement.
#[test]
fn arguments_are_bounded() {
    let of = |count: usize| format!("SELECT max({})", vec!["1"; count].join(","));
    assert_eq!(value(&cut(), &of(127)), Value::Int64(1));
    let error = query(&cut(), &of(128), &[]).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuerySyntax, "{error}");
    assert!(error.detail.contains("too many arguments"), "{error}");
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
    let error = refused("SELECT unhex('4b', ?1)", Value::String("-".repeat(4_097)));
    assert_eq!(error.code, ErrorCode::QueryExecution, "{error}");
    assert!(error.detail.contains("4097 bytes"), "{error}");
    let stray = Value::Bytes(b"\xc3\xa9\xa9\xa9\xa9".to_vec());
    let error = refused("SELECT trim('a', CAST(?1 AS TEXT))", stray);
    assert_eq!(error.code, ErrorCode::QueryExecution, "{error}");
    assert!(error.detail.contains("not UTF-8"), "{error}");
}

/// Patterns have a length; a wildcard may be the escape, and an escape before nothing is none.
#[test]
fn patterns_have_bounds() {
    let cut = cut();
    for (bytes, works) in [(1_000, true), (1_001, false)] {
        for call in ["LIKE", "GLOB"] {
            let pattern = Value::String("a".repeat(bytes));
            match query(&cut, &format!("SELECT ?1 {call} ?1"), &[pattern]) {
                Ok(rows) => assert!(works && rows[0] == [Value::Int64(1)], "{bytes} {call}"),
                Err(error) => {
                    assert!(!works && error.code == ErrorCode::QueryExecution, "{error}");
                    assert_eq!(error.detail, "LIKE or GLOB pattern too complex");
                }
            }
        }
    }
    for (comparison, wanted) in [
        ("'100%' LIKE '%%%' ESCAPE '%'", 0),
        ("'%' LIKE '%%' ESCAPE '%'", 1),
        ("'_a' LIKE '__%' ESCAPE '_'", 1),
        ("'ba' LIKE '__%' ESCAPE '_'", 0),
        ("'a' LIKE 'a\\' ESCAPE '\\'", 0),
        ("'É' LIKE 'é'", 0),
        ("'É' GLOB '[^é]'", 1),
    ] {
        let rows = query(&cut, &format!("SELECT {comparison}"), &[]).unwrap();
        assert_eq!(rows[0], [Value::Int64(wanted)], "{comparison}");
    }
}

/// Values that SQLite's own functions compare for minutes.
fn hostile() -> Vec<(&'static str, Vec<Value>)> {
    let many = |text: &str| Value::String(text.repeat((15 << 20) / text.len()));
    let nearly = Value::String(format!("%{}b", "a".repeat(990)));
    let set = Value::String(format!("*{}b", "[a-z]".repeat(190)));
    let accents = Value::String(format!("%{}b", "é".repeat(490)));
    vec![
        ("SELECT ?1 LIKE ?2", vec![many("a"), nearly.clone()]),
        ("SELECT ?1 LIKE ?2 ESCAPE '!'", vec![many("a"), nearly]),
        ("SELECT ?1 LIKE ?2", vec![many("é"), accents]),
        ("SELECT ?1 GLOB ?2", vec![many("a"), set]),
    ]
}

/// A single comparison ends with the query's time, and the thread is free for the next statement.
#[test]
fn comparisons_end_at_the_deadline() {
    let cut = cut();
    let limits = QueryLimits { timeout_ms: 300, ..QueryLimits::default() };
    for (sql, operands) in hostile() {
        let start = Instant::now();
        let error = query_within(&cut, sql, &operands, &limits).expect_err(sql);
        assert_eq!(error.code, ErrorCode::Timeout, "{sql}: {error}");
        assert!(start.elapsed() < Duration::from_millis(1_300), "{sql}: {:?}", start.elapsed());
        assert_eq!(value(&cut, "SELECT 'Kimberlite' LIKE '%ber%'"), Value::Int64(1));
    }
}

/// A single comparison ends when the caller wants it no more.
#[test]
fn comparisons_are_cancelled() {
    for (sql, operands) in hostile() {
        let statement = prepare(cut(), sql, &operands, &QueryLimits::default()).unwrap();
        let cancelled = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let running = scope.spawn(|| statement.run(&mut |_| true, &cancelled));
            std::thread::sleep(Duration::from_millis(50));
            cancelled.store(true, Ordering::Relaxed);
            running.join().expect("it does not panic")
        });
        assert_eq!(outcome.expect_err(sql).code, ErrorCode::Cancelled, "{sql}");
    }
}

const PATCHES: [&str; 4] = [
    "json_patch(?1, ?2)",
    // The result is JSON to the function around it, also where it was sorted in between.
    "json_array(json_patch(?1, ?2), ?3 IS NULL)",
    "json(jsonb_patch(?1, ?2))",
    "(SELECT json_array(p) FROM (SELECT json_patch(?1, ?2) AS p UNION ALL SELECT '1' ORDER BY 1) LIMIT 1)",
];

/// A document: objects in each other, with the same few keys in every way to write them, other
/// values, and now and then nothing that is JSON.
fn document() -> impl Strategy<Value = String> {
    let leaf =
        prop::sample::select(vec!["null", "1", "\"x\"", "[1,{\"a\":2}]", "0x1F", "'y'", "+"]);
    let leaf = prop_oneof![20 => leaf.prop_map(str::to_string), 1 => Just(String::new())];
    let key = prop::sample::select(vec!["\"a\"", "\"b\"", "c", "'a'", "\"\\u0061\"", "\"é:\""]);
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop::collection::vec((key.clone(), inner), 0..5).prop_map(|entries| {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("{{{}}}", entries.join(", "))
        })
    })
}

fn patched() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => document().prop_map(Value::String),
        3 => document().prop_map(|text| Value::Bytes(text.into_bytes())),
        1 => operand(),
    ]
}

/// What SQLite says that errors may repeat; else they hide what it says, which may be a value.
fn repeated(sql: &str, operands: &[Value]) -> Result<Vec<Value>, bool> {
    try_sqlite(sql, operands).map_err(|error| error.starts_with("malformed JSON"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Documents of text, of bytes and of SQLite's binary JSON, and what is none.
    #[test]
    fn patches_answer_as_sqlite(a in patched(), b in patched(), binary in any::<bool>()) {
        let (cut, operands) = (cut(), [a, b, Value::Null]);
        for call in PATCHES {
            let call = match binary {
                true => call.replace("?1", "jsonb(?1)").replace("?2", "jsonb(?2)"),
                false => call.to_string(),
            };
            let sql = statement(&call, false);
            let ours = query(&cut, &sql, &operands).map(|mut rows| rows.remove(0));
            let ours = ours.map_err(|error| error.detail == "malformed JSON");
            prop_assert_eq!(ours, repeated(&sql, &operands), "{} of {:?}", sql, operands);
        }
    }
}

/// A patch of many keys for a large document is refused before SQLite's own begins, whichever JSON
/// it is; a large patch of a small document and a small one of a large document are not.
#[test]
fn patches_are_bounded() {
    let cut = cut();
    let keys = |count: usize, letter: &str| {
        let keys: Vec<String> = (0..count).map(|key| format!("\"{letter}{key}\":1")).collect();
        format!("{{{}}}", keys.join(","))
    };
    for (sql, target, patch, works) in [
        ("json_patch(?1, ?2)", 30_000, 30_000, false),
        ("jsonb_patch(?1, ?2)", 30_000, 30_000, false),
        ("json_patch(?1, jsonb(?2))", 30_000, 30_000, false),
        ("json_patch(jsonb(?1), jsonb(?2))", 300_000, 300, false),
        ("json_patch(?1, ?2)", 30_000, 300, true),
        ("json_patch(?1, ?2)", 30, 3_000, true),
        ("json_patch(jsonb(?1), ?2)", 300_000, 10, true),
    ] {
        let operands = [keys(target, "a"), keys(patch, "b")].map(Value::String);
        let sql = format!("SELECT length({sql}) > 9");
        match query(&cut, &sql, &operands) {
            Ok(rows) => assert!(works && rows[0] == [Value::Int64(1)], "{sql} {target} {patch}"),
            Err(error) => {
                assert!(!works, "{sql} {target} {patch}: {error}");
                assert_eq!((error.code, error.value), (ErrorCode::LimitExceeded, 1 << 28));
                assert!(error.detail.contains("JSON patch"), "{error}");
            }
        }
    }
}
