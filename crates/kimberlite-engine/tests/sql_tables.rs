//! What SQL sees of streams: columns, names, order, JSON, joins, and how little it reads for it.

mod sql_support;

use std::sync::Arc;

use kimberlite_engine::sql::{Cut, QueryLimits, prepare};
use kimberlite_wire::{DataClass, ErrorCode, Value};
use sql_support::{FakeCut, FakeTable, integers, query, rows, value};

fn text(value: &str) -> Value {
    Value::String(value.to_string())
}

fn cut() -> Arc<FakeCut> {
    FakeCut::of(vec![
        FakeTable::numbered("orders", DataClass::NonPhi, 1000),
        FakeTable::numbered("Patienten-Größe", DataClass::Phi, 30),
        FakeTable::new("empty", DataClass::Deidentified, &[]),
    ])
}

/// `SELECT *` gives the three plain columns with their types; the hidden ones are there by name.
#[test]
fn columns_and_types() {
    let cut = cut();
    let prepared = prepare(
        Arc::clone(&cut) as Arc<dyn Cut>,
        "SELECT *, text AS t, timestamp_ns, 1 + 1 FROM orders",
        &[],
        &QueryLimits::default(),
    )
    .expect("it compiles");
    let columns: Vec<(&str, &str)> = prepared
        .columns()
        .iter()
        .map(|column| (column.name.as_str(), column.declared_type.as_str()))
        .collect();
    assert_eq!(
        columns,
        [
            ("id", "INTEGER"),
            ("timestamp", "INTEGER"),
            ("data", "BLOB"),
            ("t", "TEXT"),
            ("timestamp_ns", "INTEGER"),
            ("1 + 1", ""),
        ]
    );
    let row = &rows(&cut, "SELECT *, text, timestamp_ns, rowid FROM orders WHERE id = 25")[0];
    let data = r#"{"n":25,"kind":"k1"}"#;
    assert_eq!(
        row,
        &[
            Value::Int64(25),
            Value::Int64(1000),
            Value::Bytes(data.as_bytes().to_vec()),
            text(data),
            Value::Int64(1_000_200_000_000),
            Value::Int64(25),
        ]
    );
}

/// Names fold ASCII case, may be quoted and hold any letters, and `main.` may stand before them.
#[test]
fn names() {
    let cut = cut();
    for sql in [
        "SELECT count(*) FROM \"PATIENTEN-Größe\"",
        "SELECT count(*) FROM [patienten-Größe]",
        "SELECT count(*) FROM main.`Patienten-Größe`",
        "SELECT count(id) FROM \"Patienten-Größe\" AS x",
    ] {
        assert_eq!(value(&cut, sql), Value::Int64(30), "{sql}");
    }
}

/// A dot is part of a quoted name and stands after a database's name in a bare one.
#[test]
fn names_with_a_dot() {
    let streams = [("main.orders", 12), ("orders", 5), ("shop.orders", 7)];
    let tables =
        streams.map(|(name, events)| FakeTable::numbered(name, DataClass::NonPhi, events)).into();
    let cut = FakeCut::of(tables);
    for (sql, events) in [
        ("SELECT count(*) FROM \"main.orders\"", 12),
        ("SELECT count(*) FROM MAIN.orders", 5),
        ("SELECT count(*) FROM main.\"main.orders\"", 12),
        ("SELECT count(*) FROM \"shop.orders\"", 7),
    ] {
        assert_eq!(value(&cut, sql), Value::Int64(events), "{sql}");
    }
    let error = query(&cut, "SELECT count(*) FROM shop.orders", &[]).expect_err("no database");
    assert_eq!((error.code, error.value), (ErrorCode::QuerySyntax, 26), "{error}");
    let prepared = prepare(
        Arc::clone(&cut) as Arc<dyn Cut>,
        "SELECT count(*) FROM main.orders",
        &[],
        &QueryLimits::default(),
    );
    let prepared = prepared.expect("it compiles");
    let reads: Vec<&str> = prepared.tables().iter().map(|read| read.name.as_str()).collect();
    assert_eq!(reads, ["orders"]);
}

/// A name that a built-in module of SQLite has is a stream's name here.
#[test]
fn streams_may_be_called_like_modules_of_sqlite() {
    for name in ["dbstat", "rtree", "fts5", "fts3tokenize"] {
        let cut = FakeCut::of(vec![FakeTable::numbered(name, DataClass::NonPhi, 12)]);
        assert_eq!(value(&cut, &format!("SELECT count(*) FROM {name}")), Value::Int64(12));
    }
}

/// Text that is not UTF-8 is NULL in `text` and comes out as bytes where a cast makes it text.
#[test]
fn data_that_is_not_text() {
    let events = vec![vec![0xff, 0xfe], Vec::new(), b"plain".to_vec()];
    let cut = FakeCut::of(vec![FakeTable::new("raw", DataClass::NonPhi, &[(5, events)])]);
    let found = rows(&cut, "SELECT text, CAST(data AS TEXT), data, length(data) FROM raw");
    let empty = Value::Bytes(Vec::new());
    let odd = Value::Bytes(vec![0xff, 0xfe]);
    assert_eq!(found[0], [Value::Null, odd.clone(), odd, Value::Int64(2)]);
    assert_eq!(found[1], [text(""), text(""), empty, Value::Int64(0)]);
    assert_eq!(found[2][0], text("plain"));
}

/// JSON functions and operators read `data`, which is a blob of JSON text.
#[test]
fn json() {
    let cut = cut();
    let sql = "SELECT data ->> '$.n', json_extract(data, '$.kind'), data -> 'kind' FROM orders \
        WHERE data ->> 'n' = 77";
    assert_eq!(rows(&cut, sql), [[Value::Int64(77), text("k2"), text("\"k2\"")]]);
    let sql = "SELECT count(*) FROM orders, json_each(orders.data) WHERE key = 'n' AND value < 5";
    assert_eq!(value(&cut, sql), Value::Int64(5));
    // Texts of six and eight bytes are those that look most like SQLite's binary JSON.
    let events: Vec<Vec<u8>> = [r#"{"a":12}"#, "[1,22]", r#"{"a":1}"#, r#"{"abcdefg":1}"#]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    let cut = FakeCut::of(vec![FakeTable::new("j", DataClass::NonPhi, &[(5, events)])]);
    assert_eq!(integers(&cut, "SELECT data ->> '$.a' FROM j WHERE id IN (0, 2)"), [12, 1]);
    assert_eq!(value(&cut, "SELECT data ->> '$[1]' FROM j WHERE id = 1"), Value::Int64(22));
    assert_eq!(value(&cut, "SELECT data ->> 'abcdefg' FROM j WHERE id = 3"), Value::Int64(1));
    assert_eq!(value(&cut, "SELECT count(*) FROM j WHERE json_valid(data)"), Value::Int64(4));
    // A document that is but a number of four digits could be binary JSON; `text` leaves no doubt.
    let events = vec![b"3456".to_vec(), b"51.5".to_vec(), b"not JSON".to_vec()];
    let cut = FakeCut::of(vec![FakeTable::new("n", DataClass::NonPhi, &[(5, events)])]);
    let found = rows(&cut, "SELECT text ->> '$' FROM n WHERE json_valid(text)");
    assert_eq!(found, [[Value::Int64(3456)], [Value::Float64(51.5)]]);
    let error = query(&cut, "SELECT data ->> '$' FROM n WHERE id = 2", &[]).expect_err("no JSON");
    assert_eq!(error.code, ErrorCode::QueryExecution);
    assert!(error.detail.contains("malformed JSON"), "{error}");
}

/// Streams join, group and bucket by time as tables do.
#[test]
fn joins_and_groups() {
    let cut = cut();
    let sql = "SELECT count(*) FROM orders o JOIN \"Patienten-Größe\" p ON p.id = o.id";
    assert_eq!(value(&cut, sql), Value::Int64(30));
    let sql = "SELECT timestamp / 5 * 5 AS bucket, count(*) FROM orders GROUP BY bucket";
    let found = rows(&cut, sql);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], [Value::Int64(1000), Value::Int64(500)]);
    let sql = "SELECT data ->> 'kind' AS k, count(*), max(id) FROM orders GROUP BY k ORDER BY k";
    assert_eq!(rows(&cut, sql)[0], [text("k0"), Value::Int64(334), Value::Int64(999)]);
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4) \
        SELECT sum(o.id) FROM n JOIN orders o ON o.id = n.i * 100";
    assert_eq!(value(&cut, sql), Value::Int64(1000));
    assert_eq!(value(&cut, "SELECT count(*) FROM empty"), Value::Int64(0));
    assert_eq!(value(&cut, "SELECT max(id) FROM empty"), Value::Null);
}

/// Both directions, with and without a range, by each of the keys.
#[test]
fn order() {
    let cut = cut();
    assert_eq!(integers(&cut, "SELECT id FROM orders ORDER BY id DESC LIMIT 3"), [999, 998, 997]);
    assert_eq!(
        integers(&cut, "SELECT id FROM orders WHERE id < 500 ORDER BY id DESC LIMIT 2 OFFSET 1"),
        [498, 497]
    );
    for key in ["id", "rowid", "timestamp, id", "timestamp_ns, timestamp, id", "timestamp, rowid"] {
        let ascending = integers(&cut, &format!("SELECT id FROM orders ORDER BY {key}"));
        assert!(ascending.iter().copied().eq(0..1000), "{key}");
        let descending = key.replace(',', " DESC,") + " DESC";
        let sql = format!("SELECT id, data FROM orders ORDER BY {descending}");
        assert!(integers(&cut, &sql).iter().copied().eq((0..1000).rev()), "{descending}");
    }
    let mixed = "SELECT id FROM orders WHERE id < 20 ORDER BY timestamp_ns DESC, id LIMIT 2";
    assert_eq!(integers(&cut, mixed), [10, 11]);
    let by_data = "SELECT id FROM orders WHERE id < 3 ORDER BY data DESC";
    assert_eq!(integers(&cut, by_data), [2, 1, 0]);
}

/// Only what a query needs is read: nothing to count or to look at ids, one block for an event, the
/// tail for the newest events, and a range's blocks for a range.
#[test]
fn little_is_read() {
    let cut = FakeCut::of(vec![FakeTable::numbered("orders", DataClass::NonPhi, 100_000)]);
    let mut before = 0;
    let mut blocks = |sql: &str| {
        query(&cut, sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let after = cut.tables[0].loaded_blocks();
        std::mem::replace(&mut before, after).abs_diff(after)
    };
    for sql in [
        "SELECT count(*) FROM orders",
        "SELECT COUNT(*) FROM orders WHERE timestamp >= 1100 AND timestamp < 1200",
        "SELECT count(*), max(id), min(id), sum(id) FROM orders",
        "SELECT count(*) + 0 FROM orders WHERE timestamp BETWEEN 1100 AND 1200",
        "SELECT id FROM orders WHERE timestamp = 1500",
        "SELECT max(id) FROM orders WHERE timestamp_ns < 1200000000000",
        "SELECT data FROM orders WHERE id > 100000",
        "SELECT id FROM orders LIMIT 5 OFFSET 70000",
        "SELECT data FROM orders WHERE id = NULL",
    ] {
        assert_eq!(blocks(sql), 0, "{sql}");
    }
    assert_eq!(blocks("SELECT data FROM orders WHERE id = 77777"), 1);
    assert_eq!(blocks("SELECT data, timestamp FROM orders WHERE id IN (5, 7, 99999)"), 2);
    let tail = blocks("SELECT * FROM orders ORDER BY id DESC LIMIT 10");
    assert!((1..=100).contains(&tail), "{tail} of 10,000 blocks");
    let newest = blocks("SELECT max(timestamp) FROM orders");
    assert!((1..=100).contains(&newest), "{newest} of 10,000 blocks");
    let range = blocks("SELECT data FROM orders WHERE timestamp = 1500");
    assert!((10..=110).contains(&range), "{range} of 10,000 blocks");
    assert_eq!(blocks("SELECT sum(length(data)) FROM orders"), 10_000);
}

/// `_streams` lists the streams with their classes; `_audit` is there for those who may see it.
#[test]
fn catalogue_and_audit() {
    let plain = cut();
    let sql = "SELECT id, name, data_class, next_offset, created, last_timestamp FROM _STREAMS \
        ORDER BY id";
    let found = rows(&plain, sql);
    assert_eq!(found.len(), 3);
    assert_eq!(
        found[0],
        [
            Value::Int64(1),
            text("orders"),
            text("NonPHI"),
            Value::Int64(1000),
            Value::Int64(900),
            Value::Int64(1009),
        ]
    );
    assert_eq!(found[2][5], Value::Null);
    assert_eq!(rows(&plain, "SELECT * FROM _streams")[0].len(), 8);
    assert_eq!(value(&plain, "SELECT COUNT(*) FROM _streams"), Value::Int64(3));
    let error = query(&plain, "SELECT * FROM _audit", &[]).expect_err("it is withheld");
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    assert!(error.detail.contains("Admin"), "{error}");
    let audit = Arc::new(FakeTable::numbered("_audit", DataClass::NonPhi, 4));
    let admin = Arc::new(FakeCut { tables: Vec::new(), audit: Some(audit) });
    assert_eq!(value(&admin, "SELECT count(*) FROM _audit"), Value::Int64(4));
}

/// The streams that a statement reads are known before it runs, however deep they are named.
#[test]
fn tables_are_known_before_running() {
    let cut = cut();
    let reads = |sql: &str| -> Vec<(String, DataClass)> {
        prepare(Arc::clone(&cut) as Arc<dyn Cut>, sql, &[], &QueryLimits::default())
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .tables()
            .iter()
            .map(|read| (read.name.clone(), read.data_class))
            .collect()
    };
    let phi = ("Patienten-Größe".to_string(), DataClass::Phi);
    assert_eq!(reads("SELECT 1"), []);
    assert_eq!(reads("SELECT count(*) FROM \"PATIENTEN-Größe\""), std::slice::from_ref(&phi));
    for sql in [
        "SELECT EXISTS(SELECT 1 FROM \"Patienten-Größe\")",
        "WITH a AS (SELECT * FROM \"Patienten-Größe\") SELECT count(*) FROM a",
        "SELECT 1 UNION ALL SELECT id FROM \"Patienten-Größe\"",
    ] {
        assert_eq!(reads(sql), std::slice::from_ref(&phi), "{sql}");
    }
    let both = reads("SELECT (SELECT max(id) FROM main.\"Patienten-Größe\") FROM orders, ORDERS o");
    assert_eq!(both.len(), 2);
    assert!(both.contains(&phi));
    assert_eq!(cut.tables[1].loaded_blocks(), 0, "compiling reads nothing");
}
