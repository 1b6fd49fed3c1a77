//! The face that Rust programs see: typed numbers, parameters, rows and structs.

use kimberlite::{
    At, CallOptions, DataClass, Error, ErrorCode, FromRow, Offset, Row, Value, testing,
};

#[derive(Debug, PartialEq)]
struct Visit {
    id: u64,
    text: String,
    extra: Option<f64>,
}

impl FromRow for Visit {
    fn from_row(row: &Row<'_>) -> Result<Visit, Error> {
        Ok(Visit { id: row.get("id")?, text: row.get("text")?, extra: row.get("extra")? })
    }
}

/// Appends tell typed offsets, and a wrong expectation names the actual one.
#[test]
fn offsets_are_typed() -> Result<(), Error> {
    let client = testing::database()?;
    let stream = client.create_stream("s", DataClass::NonPhi)?;
    let done = client.append(stream, ["a", "b"])?;
    assert_eq!((done.first_offset, done.next_offset), (Offset::START, Offset(2)));
    let done = client.append_at(stream, done.next_offset, [b"c"])?;
    assert_eq!(done.first_offset, Offset(2));
    let e = client.append_at(stream, Offset(1), ["d"]).expect_err("taken");
    assert_eq!((e.code, e.value), (ErrorCode::OffsetMismatch, 3));
    let page = client.read(stream, Offset(1), 10)?;
    let seen: Vec<_> = page.events().map(|event| (event.offset, event.data)).collect();
    assert_eq!(seen, [(1, &b"b"[..]), (2, &b"c"[..])]);
    let pages: Result<Vec<_>, _> = client.pages(stream, Offset::START, 2).collect();
    assert_eq!(pages?.len(), 2);
    Ok(())
}

/// Parameters of every type go in, rows come out as tuples and structs, and what does not fit is
/// named.
#[test]
fn rows_become_structs() -> Result<(), Error> {
    let client = testing::database()?;
    let stream = client.create_stream("visits", DataClass::NonPhi)?;
    let done = client.append(stream, ["x", "y"])?;
    client.append(stream, ["z"])?;
    let sql = "SELECT id, text, CASE id WHEN 1 THEN ?1 END AS extra FROM visits WHERE id < ?2";
    let visits: Vec<Visit> = client.query_as(sql, (2.5, 2))?;
    let visit = |id, text: &str, extra| Visit { id, text: text.to_string(), extra };
    assert_eq!(visits, [visit(0, "x", None), visit(1, "y", Some(2.5))]);

    let sql = "SELECT ?1, ?2, ?3, ?4, ?5";
    let params = ("text", vec![1u8, 2], true, None::<i64>, Value::Int64(7));
    type Cells = (String, Vec<u8>, bool, Option<i64>, u64);
    let rows: Vec<Cells> = client.query_as(sql, params)?;
    assert_eq!(rows, [("text".to_string(), vec![1, 2], true, None, 7)]);

    let e = client.query_as::<(i64,)>("SELECT 'x'", ()).expect_err("text");
    assert_eq!(e.code, ErrorCode::InvalidArgument);
    let e = client.query_as::<(i64,)>("SELECT 1, 2", ()).expect_err("two columns");
    assert!(e.detail.contains('2'), "{e}");
    let count = client.query_at("SELECT count(*) FROM visits", (), At::Position(done.position))?;
    assert_eq!(count.rows_as::<(i64,)>()?, [(2,)]);
    let rows: usize = client
        .query_cursor("SELECT * FROM visits", ())?
        .map(|batch| batch.map(|batch| batch.row_count()))
        .sum::<Result<usize, Error>>()?;
    assert_eq!(rows, 3);
    Ok(())
}

/// Options apply to every call of the client that they were given to, and to no other.
#[test]
fn options_stay_with_their_client() -> Result<(), Error> {
    let client = testing::database()?;
    let stream = client.create_stream("s", DataClass::NonPhi)?;
    let hasty = client.with_options(CallOptions {
        timeout_ms: Some(20),
        min_position: u64::MAX / 2,
        stale: false,
    });
    let e = hasty.read(stream, Offset::START, 1).expect_err("no such position yet");
    assert_eq!(e.code, ErrorCode::Timeout);
    assert!(client.read(stream, Offset::START, 1)?.is_empty());
    client.close()?;
    assert_eq!(hasty.list_streams().expect_err("closed").code, ErrorCode::Closed);
    Ok(())
}
