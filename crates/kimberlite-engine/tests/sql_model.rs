//! Whatever a condition says, a stream answers as an ordinary SQLite table of the same rows does.

mod sql_support;

use std::sync::Arc;

use kimberlite_wire::{DataClass, Value};
use proptest::prelude::*;
use rusqlite::types;
use sql_support::{FakeCut, FakeTable, query};

/// Streams of few and of many blocks, with equal timestamps, gaps and whole seconds.
fn stream() -> impl Strategy<Value = Vec<(u64, Vec<Vec<u8>>)>> {
    let step = prop_oneof![
        Just(0u64),
        Just(1),
        Just(999_999_999),
        Just(1_000_000_000),
        0u64..3_000_000_000,
    ];
    let events = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 1..5);
    prop::collection::vec((step, events), 0..12).prop_map(|blocks| {
        let mut now = 5_000_000_000;
        blocks
            .into_iter()
            .map(|(step, events)| {
                now += step;
                (now, events)
            })
            .collect()
    })
}

/// Values near the stream's ids, seconds and nanoseconds, far from them, and of every type.
fn operand() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (-3i64..40).prop_map(Value::Int64),
        2 => (4_999_999_998i64..20_000_000_002).prop_map(Value::Int64),
        2 => (-80i64..160).prop_map(|quarters| Value::Float64(quarters as f64 / 4.0)),
        1 => prop_oneof![
            Just(i64::MIN),
            Just(i64::MAX),
            Just(i64::MAX / 1_000_000_000),
            Just(i64::MAX / 1_000_000_000 + 1)
        ].prop_map(Value::Int64),
        1 => prop_oneof![
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(f64::NAN),
            Just(9.3e18),
            Just(-9.3e18),
            Just(1e300)
        ].prop_map(Value::Float64),
        1 => prop_oneof![
            Just("7"), Just(" 7 "), Just("7.5"), Just("7e0"), Just("abc"), Just(""), Just("7x"),
            Just("-1"), Just("9"), Just("0x7"), Just("99999999999999999999"),
        ].prop_map(|text| Value::String(text.to_string())),
        1 => Just(Value::Bytes(b"7".to_vec())),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
    ]
}

/// A value as it stands in a statement; `None` for what has no literal.
fn literal(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "NULL".to_string(),
        Value::Int64(value) => value.to_string(),
        Value::Float64(value) if value.is_finite() => format!("{value:?}"),
        Value::String(value) => format!("'{value}'"),
        Value::Bytes(value) => {
            let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{digits}'")
        }
        Value::Float64(_) | Value::Bool(_) => return None,
    })
}

#[derive(Clone, Debug)]
struct Condition {
    key: &'static str,
    operator: &'static str,
    operand: Value,
    second: Value,
    inline: bool,
}

fn condition() -> impl Strategy<Value = Condition> {
    let key = prop::sample::select(vec!["id", "rowid", "timestamp", "timestamp_ns", "t.id", "+id"]);
    let operators =
        vec!["=", "==", "<", "<=", ">", ">=", "<>", "BETWEEN", "IN", "IS", "IS NOT", "LIKE"];
    let operator = prop::sample::select(operators);
    (key, operator, operand(), operand(), any::<bool>()).prop_map(
        |(key, operator, operand, second, inline)| Condition {
            key,
            operator,
            operand,
            second,
            inline,
        },
    )
}

impl Condition {
    fn sql(&self, params: &mut Vec<Value>) -> String {
        let mut place = |value: &Value| match literal(value).filter(|_| self.inline) {
            Some(text) => text,
            None => {
                params.push(value.clone());
                format!("?{}", params.len())
            }
        };
        let first = place(&self.operand);
        match self.operator {
            "BETWEEN" => format!("{} BETWEEN {first} AND {}", self.key, place(&self.second)),
            "IN" => format!("{} IN ({first}, {})", self.key, place(&self.second)),
            operator => format!("{} {operator} {first}", self.key),
        }
    }
}

/// The same rows in an ordinary table.
fn native(blocks: &[(u64, Vec<Vec<u8>>)]) -> rusqlite::Connection {
    let db = rusqlite::Connection::open_in_memory().expect("SQLite opens");
    let create = "CREATE TABLE t(id INTEGER, timestamp INTEGER, data BLOB, timestamp_ns INTEGER)";
    db.execute_batch(create).expect("the table is made");
    let mut id = 0i64;
    for (timestamp_ns, events) in blocks {
        for event in events {
            let ns = timestamp_ns.cast_signed();
            db.execute(
                "INSERT INTO t(rowid, id, timestamp, data, timestamp_ns) \
                    VALUES (?1, ?1, ?2, ?3, ?4)",
                (id, ns / 1_000_000_000, event, ns),
            )
            .expect("the row goes in");
            id += 1;
        }
    }
    db
}

fn native_rows(db: &rusqlite::Connection, sql: &str, params: &[Value]) -> Vec<Vec<Value>> {
    let params = params.iter().map(|value| match value {
        Value::Null => types::Value::Null,
        Value::Int64(value) => types::Value::Integer(*value),
        Value::Bool(value) => types::Value::Integer(i64::from(*value)),
        Value::Float64(value) => types::Value::Real(*value),
        Value::String(value) => types::Value::Text(value.clone()),
        Value::Bytes(value) => types::Value::Blob(value.clone()),
    });
    let mut statement = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let columns = statement.column_count();
    let mut rows = statement.query(rusqlite::params_from_iter(params)).expect("it runs");
    let mut found = Vec::new();
    while let Some(row) = rows.next().expect("it goes on") {
        let cell = |column| match row.get_unwrap::<_, types::Value>(column) {
            types::Value::Null => Value::Null,
            types::Value::Integer(value) => Value::Int64(value),
            types::Value::Real(value) => Value::Float64(value),
            types::Value::Text(value) => Value::String(value),
            types::Value::Blob(value) => Value::Bytes(value),
        };
        found.push((0..columns).map(cell).collect());
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Conditions of every operator and type of operand, joined by AND and OR, in every order.
    #[test]
    fn conditions_mean_what_they_mean_to_sqlite(
        blocks in stream(),
        conditions in prop::collection::vec(condition(), 0..5),
        or in prop::bool::weighted(0.2),
        order in prop::sample::select(vec![
            "id", "id DESC", "timestamp, id", "timestamp DESC, rowid DESC", "timestamp DESC, id",
            "data, id", "timestamp_ns, id LIMIT 3", "id DESC LIMIT 4 OFFSET 1",
        ]),
    ) {
        let cut = FakeCut::of(vec![FakeTable::new("t", DataClass::NonPhi, &blocks)]);
        let db = native(&blocks);
        let mut params = Vec::new();
        let parts: Vec<String> = conditions.iter().map(|c| c.sql(&mut params)).collect();
        let filter = match parts.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", parts.join(if or { " OR " } else { " AND " })),
        };
        for sql in [
            format!("SELECT id, timestamp, data, timestamp_ns FROM t{filter} ORDER BY {order}"),
            format!("SELECT COUNT(*) FROM t{filter}"),
            format!("SELECT count(*) AS n FROM t{filter};"),
            format!("SELECT count(*), min(id), max(timestamp), total(length(data)) FROM t{filter}"),
            format!("SELECT timestamp / 2, count(*) FROM t{filter} GROUP BY 1 ORDER BY 1 DESC"),
            format!("SELECT DISTINCT timestamp FROM t{filter} ORDER BY timestamp"),
        ] {
            let expected = native_rows(&db, &sql, &params);
            let found = query(&cut, &sql, &params);
            prop_assert_eq!(found, Ok(expected), "{} with {:?}", sql, params);
        }
    }

    /// Two streams joined by their keys.
    #[test]
    fn joins_mean_what_they_mean_to_sqlite(
        blocks in stream(),
        on in prop::sample::select(vec![
            "a.id = b.id", "a.id = b.id + 1", "a.timestamp = b.timestamp AND a.id < b.id",
            "a.timestamp_ns > b.timestamp_ns", "a.id = length(b.data)", "a.id <= b.data",
        ]),
        join in prop::sample::select(vec!["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]),
        narrowed in condition(),
    ) {
        let cut = FakeCut::of(vec![FakeTable::new("t", DataClass::NonPhi, &blocks)]);
        let db = native(&blocks);
        let mut params = Vec::new();
        let filter = narrowed.sql(&mut params).replacen("t.id", "id", 1);
        let filter = filter.replacen("+id", "id", 1);
        let sql = format!(
            "SELECT a.id, b.id, b.data FROM t a {join} t b ON {on} WHERE a.{filter} ORDER BY 1, 2"
        );
        let expected = native_rows(&db, &sql, &params);
        prop_assert_eq!(query(&cut, &sql, &params), Ok(expected), "{} with {:?}", sql, params);
    }
}

/// Where there are no blocks, there is nothing to count.
#[test]
fn an_empty_stream_counts_nothing() {
    let cut: Arc<FakeCut> = FakeCut::of(vec![FakeTable::new("t", DataClass::NonPhi, &[])]);
    assert_eq!(query(&cut, "SELECT COUNT(*) FROM t", &[]), Ok(vec![vec![Value::Int64(0)]]));
}
