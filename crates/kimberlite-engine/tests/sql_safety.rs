//! What SQL may not do, how it is stopped, and what its errors say.

mod sql_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kimberlite_engine::sql::{Cut, Prepared, QueryLimits, prepare};
use kimberlite_wire::{DataClass, Error, ErrorCode, Value};
use sql_support::{FakeCut, FakeTable, Trouble, query, query_within, rows, rows_of, value};

fn cut() -> Arc<FakeCut> {
    FakeCut::of(vec![FakeTable::numbered("orders", DataClass::NonPhi, 1000)])
}

fn prepared(cut: &Arc<FakeCut>, sql: &str) -> Prepared {
    prepare(Arc::clone(cut) as Arc<dyn Cut>, sql, &[], &QueryLimits::default())
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn error(sql: &str) -> Error {
    match query(&cut(), sql, &[]) {
        Ok(rows) => panic!("{sql} gave {} rows", rows.len()),
        Err(error) => error,
    }
}

/// What is not understood, and names that the cut does not have, are told with their place.
#[test]
fn syntax_errors_have_a_position() {
    for (sql, at) in [
        ("SELEC 1", 0),
        ("SELECT * FORM orders", 9),
        ("SELECT nothing FROM orders", 7),
        ("SELECT \"nothing\" FROM orders", 7),
        ("SELECT id FROM orders WHERE missing > 1", 28),
        ("SELECT * FROM orders, absent", 22),
        ("SELECT * FROM main.absent", 19),
        ("SELECT nope(id) FROM orders", 7),
        ("SELECT 'open", 7),
        ("SELECT 1; SELECT 2", 10),
        ("SELECT 1; -- fine\n garbage", 19),
        ("SELECT id FROM orders /* text */ ;; x", 36),
        ("SELECT 1 \0", 9),
    ] {
        let error = error(sql);
        assert_eq!(error.code, ErrorCode::QuerySyntax, "{sql}: {error}");
        assert_eq!(error.value, at, "{sql}: {error}");
        assert!(error.detail.contains(&format!("byte {at}")), "{sql}: {error}");
    }
    for sql in ["", "  ", ";", " -- only this", "/* and this */"] {
        let error = error(sql);
        assert_eq!(error.code, ErrorCode::QuerySyntax, "{sql:?}: {error}");
        assert!(error.detail.contains("empty"), "{sql:?}: {error}");
    }
    let trailing = "SELECT count(*) FROM orders ; ; -- done\n /* really */ ;";
    assert_eq!(value(&cut(), trailing), Value::Int64(1000));
}

/// Whatever would change, attach, configure, load or reach a file is refused in every dress.
#[test]
fn only_reading_is_allowed() {
    for sql in [
        "INSERT INTO orders VALUES (1, 2, 3)",
        "UPDATE orders SET id = 1",
        "DELETE FROM orders",
        "REPLACE INTO orders(id) VALUES (1)",
        "WITH x AS (SELECT 1) INSERT INTO orders SELECT * FROM x",
        "WITH x AS (SELECT 1) DELETE FROM orders",
        "CREATE TABLE t(a)",
        "CREATE TEMP TABLE t AS SELECT * FROM orders",
        "CREATE VIRTUAL TABLE t USING fts5(a)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON orders BEGIN SELECT 1; END",
        "DROP TABLE orders",
        "ALTER TABLE orders RENAME TO x",
        "ATTACH '/tmp/kimberlite-test.db' AS x",
        "attach ':memory:' as x",
        "DETACH main",
        "PRAGMA temp_store=FILE",
        "/* a comment first */ PRAGMA database_list",
        "EXPLAIN PRAGMA writable_schema=ON",
        "SELECT * FROM pragma_database_list",
        "SELECT count(*) FROM pragma_function_list",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM main.SQLITE_MASTER",
        "VACUUM",
        "VACUUM INTO '/tmp/kimberlite-test.db'",
        "EXPLAIN VACUUM",
        "EXPLAIN SELECT * FROM orders",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE a",
        "ANALYZE",
        "REINDEX",
        "SELECT sqlite_compileoption_get(1)",
    ] {
        let error = error(sql);
        assert_eq!(error.code, ErrorCode::QueryExecution, "{sql}: {error}");
        assert!(!error.detail.contains("result code"), "{sql}: {error}");
    }
    // Refused where SQLite was built with them, unknown where it was not.
    for sql in [
        "SELECT load_extension('/tmp/x.so')",
        "SELECT fts3_tokenizer('simple')",
        "SELECT fts5('x')",
        "SELECT rtreecheck('x')",
    ] {
        let error = error(sql);
        let codes = [ErrorCode::QueryExecution, ErrorCode::QuerySyntax];
        assert!(codes.contains(&error.code), "{sql}: {error}");
    }
    for sql in
        ["SELECT readfile('/etc/passwd')", "SELECT writefile('/tmp/x', 'y')", "SELECT edit('x')"]
    {
        assert_eq!(error(sql).code, ErrorCode::QuerySyntax, "{sql}");
    }
    for sql in
        ["SELECT * FROM dbstat", "SELECT * FROM fts3tokenize('simple')", "SELECT * FROM fts5vocab"]
    {
        assert_eq!(error(sql).code, ErrorCode::QuerySyntax, "{sql}");
    }
    assert!(!std::path::Path::new("/tmp/kimberlite-test.db").exists());
}

/// Plans may be looked at, and constant statements run.
#[test]
fn harmless_statements_run() {
    let cut = cut();
    assert!(!rows(&cut, "EXPLAIN QUERY PLAN SELECT * FROM orders WHERE id = 5").is_empty());
    assert_eq!(rows(&cut, "VALUES (1), (2)").len(), 2);
    assert_eq!(value(&cut, "SELECT upper('a') || sqlite_version() LIKE 'A3.%'"), Value::Int64(1));
}

/// Parameters must fit in number and kind, and never show in an error.
#[test]
fn parameters() {
    let cut = cut();
    let sql = "SELECT ?, ?2, typeof(?3), ?4, ?5, typeof(?6)";
    let params = [
        Value::Int64(-5),
        Value::String(String::new()),
        Value::Bytes(Vec::new()),
        Value::Bool(true),
        Value::Float64(0.5),
        Value::Null,
    ];
    let found = query(&cut, sql, &params).expect("they fit");
    assert_eq!(
        found[0],
        [
            Value::Int64(-5),
            Value::String(String::new()),
            Value::String("blob".to_string()),
            Value::Int64(1),
            Value::Float64(0.5),
            Value::String("null".to_string()),
        ]
    );
    for (sql, params) in [("SELECT ?, ?", 1), ("SELECT 1", 1), ("SELECT ?3", 1)] {
        let error = query(&cut, sql, &vec![Value::Null; params]).expect_err("they do not fit");
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{sql}");
        assert!(error.detail.contains(&format!("params holds {params} values")), "{sql}: {error}");
    }
    for sql in ["SELECT :name", "SELECT @name", "SELECT $name"] {
        let error = query(&cut, sql, &[Value::Null]).expect_err("names are not taken");
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{sql}");
        assert!(error.detail.contains("name"), "{sql}: {error}");
    }
    let secret = Value::String("secret-value".to_string());
    for sql in [
        "SELECT json_extract('{}', ?)",
        "SELECT json(?)",
        "SELECT 'a' LIKE 'b' ESCAPE ?",
        "SELECT json_set('{}', ?, 1)",
        "SELECT abs(-9223372036854775807 - 1), ?",
        "SELECT unistr('\\' || ?)",
    ] {
        let error = query(&cut, sql, std::slice::from_ref(&secret)).expect_err("it fails");
        assert_eq!(error.code, ErrorCode::QueryExecution, "{sql}: {error}");
        assert!(!error.to_string().contains("secret"), "{sql}: {error}");
    }
}

/// Work without end is stopped by the clock, soon and with the reason.
#[test]
fn time_is_bounded() {
    let endless = [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "SELECT count(*) FROM orders a, orders b, orders c, orders d WHERE a.data < d.data",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
            SELECT count(*) FROM n WHERE json_valid('[' || hex(zeroblob(1000000)) || i)",
        "SELECT count(*) FROM orders a, orders b WHERE hex(randomblob(1000000)) = 'x'",
    ];
    for sql in endless {
        let limits = QueryLimits { timeout_ms: 50, ..QueryLimits::default() };
        let start = Instant::now();
        let error = query_within(&cut(), sql, &[], &limits).expect_err("it never ends by itself");
        assert_eq!(error.code, ErrorCode::Timeout, "{sql}: {error}");
        assert!(error.detail.contains("50 ms"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{sql}: {:?}", start.elapsed());
    }
    let none = QueryLimits { timeout_ms: 0, ..QueryLimits::default() };
    let error = query_within(&cut(), "SELECT COUNT(*) FROM orders", &[], &none);
    assert_eq!(error.expect_err("there is no time").code, ErrorCode::Timeout);
}

/// Compiling is stopped by the clock, too: here of three hundred large joins.
#[test]
fn compiling_is_bounded_in_time() {
    let tables: Vec<String> = (0..30).map(|number| format!("orders t{number}")).collect();
    let wanted = |number| format!("(t{}.id={number} OR t{}.id<9)", number % 30, number * 7 % 30);
    let wanted: Vec<String> = (0..100).map(wanted).collect();
    let join = format!("(SELECT 1 FROM {} WHERE {})", tables.join(","), wanted.join(" AND "));
    let sql = format!("SELECT {}", vec![join; 300].join(","));
    let limits = QueryLimits { timeout_ms: 50, ..QueryLimits::default() };
    let start = Instant::now();
    let error = query_within(&cut(), &sql, &[], &limits).expect_err("it takes longer");
    assert_eq!(error.code, ErrorCode::Timeout, "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Another thread's word ends a query that is running.
#[test]
fn cancelling() {
    let cut = cut();
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let statement = prepared(&cut, endless);
    let cancelled = AtomicBool::new(false);
    let start = Instant::now();
    let outcome = std::thread::scope(|scope| {
        // The statement also moves to another thread than the one that compiled it.
        let running = scope.spawn(|| statement.run(&mut |_| true, &cancelled));
        std::thread::sleep(Duration::from_millis(50));
        cancelled.store(true, Ordering::Relaxed);
        running.join().expect("it does not panic")
    });
    assert_eq!(outcome.expect_err("it was cancelled").code, ErrorCode::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Memory is bounded in values, in sorting, in grouping and in the rows handed on.
#[test]
fn memory_is_bounded() {
    let limits = QueryLimits { memory_bytes: 8 << 20, ..QueryLimits::default() };
    for sql in [
        "SELECT length(zeroblob(12000000) || 'x')",
        "SELECT hex(randomblob(6000000))",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
            SELECT i, randomblob(1000) FROM n ORDER BY 2",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
            SELECT DISTINCT hex(randomblob(1000)) FROM n WHERE i < 1000000 GROUP BY 1",
        "SELECT group_concat(hex(a.data)) FROM orders a, orders b",
        "SELECT json_group_array(hex(a.data)) FROM orders a, orders b",
        "SELECT zeroblob(3000000), zeroblob(3000000), zeroblob(3000000), zeroblob(3000000)",
        "SELECT printf('%.*c', 16000000, 'x')",
    ] {
        let start = Instant::now();
        let error = query_within(&cut(), sql, &[], &limits).expect_err("it needs more");
        assert_eq!(error.code, ErrorCode::LimitExceeded, "{sql}: {error}");
        assert_eq!(error.value, 8 << 20, "{sql}: {error}");
        assert!(error.detail.contains("memory_bytes below [query]"), "{sql}: {error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{sql}: {:?}", start.elapsed());
    }
    // The next query on this thread starts from nothing.
    assert_eq!(value(&cut(), "SELECT length(hex(zeroblob(1000000)))"), Value::Int64(2_000_000));
    let error = error("SELECT zeroblob(100000000)");
    assert_eq!(error.code, ErrorCode::LimitExceeded);
    assert_eq!(error.value, 16 << 20);
}

/// Rows are bounded; a sink that wants no more just ends the query; batches are moderate.
#[test]
fn rows_are_bounded() {
    let cut = cut();
    let limits = QueryLimits { rows: 999, ..QueryLimits::default() };
    let error = query_within(&cut, "SELECT id FROM orders", &[], &limits).expect_err("1000 rows");
    assert_eq!((error.code, error.value), (ErrorCode::LimitExceeded, 999));
    assert!(error.detail.contains("rows below [query]"), "{error}");
    let none = QueryLimits { rows: 0, ..QueryLimits::default() };
    let error = query_within(&cut, "SELECT COUNT(*) FROM orders", &[], &none);
    assert_eq!(error.expect_err("no row is allowed").code, ErrorCode::LimitExceeded);
    assert_eq!(
        query_within(&cut, "SELECT id FROM orders LIMIT 999", &[], &limits).map(|r| r.len()),
        Ok(999)
    );

    let sql = "SELECT a.id, a.data FROM orders a, orders b LIMIT 20000";
    let mut batches = Vec::new();
    let mut sink = |batch| {
        batches.push(batch);
        batches.len() < 3
    };
    prepared(&cut, sql).run(&mut sink, &AtomicBool::new(false)).expect("stopping is no error");
    assert_eq!(batches.len(), 3);
    for batch in &batches {
        assert!((60_000..140_000).contains(&batch.len()), "{} bytes", batch.len());
        assert!(!rows_of(batch).is_empty());
    }
}

/// Deep and wide statements end in an error or an answer, never in a crash.
#[test]
fn monstrous_statements() {
    let cut = cut();
    let nested =
        |depth: usize| format!("{}SELECT 1{}", "SELECT * FROM (".repeat(depth), ")".repeat(depth));
    let subqueries = |depth: usize| format!("{}1{}", "SELECT (".repeat(depth), ")".repeat(depth));
    let parentheses = |depth: usize| format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
    for depth in [10, 100, 1_000, 10_000, 100_000] {
        for sql in [
            nested(depth.min(50_000)),
            subqueries(depth),
            parentheses(depth),
            format!("SELECT -{}1", "~".repeat(depth)),
            format!("SELECT {}", vec!["1"; depth].join("+")),
            format!("SELECT {}", vec!["1"; depth].join(" AND ")),
            format!("SELECT {}", vec!["1"; depth].join(",")),
            format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(depth.min(50_000))),
            format!("SELECT coalesce({})", vec!["NULL"; depth].join(",")),
            format!("SELECT 1 FROM {}", vec!["orders"; depth.min(100)].join(",")),
            format!("SELECT 1 WHERE 1 IN ({})", vec!["1"; depth].join(",")),
            format!("SELECT CASE {} END", "WHEN 0 THEN 1 ".repeat(depth.min(50_000))),
        ] {
            let limits = QueryLimits { timeout_ms: 2_000, ..QueryLimits::default() };
            if let Err(error) = query_within(&cut, &sql, &[], &limits) {
                assert!(error.detail.len() < 1_000, "{} bytes of detail", error.detail.len());
            }
        }
    }
    let error = error(&format!("SELECT '{}'", "x".repeat(2 << 20)));
    assert_eq!((error.code, error.value), (ErrorCode::LimitExceeded, 1 << 20));
    let names: Vec<String> = (0..300).map(|number| format!("s{number}")).collect();
    let many = names.iter().map(|name| FakeTable::new(name, DataClass::NonPhi, &[])).collect();
    let sql: Vec<String> = names.iter().map(|name| format!("SELECT id FROM {name}")).collect();
    let error = query(&FakeCut::of(many), &sql.join(" UNION ALL "), &[]).expect_err("too many");
    assert_eq!(error.code, ErrorCode::LimitExceeded, "{error}");
}

/// A damaged block, a failing disk and a defect while reading are errors of the query alone.
#[test]
fn trouble_while_reading() {
    for (flip, sql) in [(20, "SELECT data FROM t"), (140, "SELECT max(timestamp) FROM t")] {
        let mut table = FakeTable::numbered("t", DataClass::NonPhi, 100);
        table.blocks[9].0[flip] ^= 1;
        let error = query(&FakeCut::of(vec![table]), sql, &[]).expect_err("it is damaged");
        assert_eq!(error.code, ErrorCode::Corruption, "{sql}: {error}");
        assert!(error.detail.contains("\"t\""), "{error}");
    }
    let mut swapped = FakeTable::numbered("t", DataClass::NonPhi, 100);
    swapped.blocks.swap(3, 4);
    let error = query(&FakeCut::of(vec![swapped]), "SELECT data FROM t", &[]);
    assert_eq!(error.expect_err("blocks are out of order").code, ErrorCode::Corruption);
    let mut short = FakeTable::numbered("t", DataClass::NonPhi, 100);
    short.blocks[9].0.truncate(200);
    let error = query(&FakeCut::of(vec![short]), "SELECT data FROM t", &[]);
    assert_eq!(error.expect_err("the last block is short").code, ErrorCode::Corruption);
    for (trouble, code) in
        [(Trouble::Fails, ErrorCode::Storage), (Trouble::Panics, ErrorCode::Panic)]
    {
        let mut table = FakeTable::numbered("t", DataClass::NonPhi, 100);
        table.trouble = trouble;
        let cut = FakeCut::of(vec![table]);
        let error = query(&cut, "SELECT data FROM t WHERE id > 3", &[]).expect_err("it fails");
        assert_eq!(error.code, code, "{error}");
        assert_eq!(value(&cut, "SELECT count(*) FROM t"), Value::Int64(100));
    }
}
