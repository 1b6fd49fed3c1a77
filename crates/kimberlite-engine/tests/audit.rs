//! What `_audit` holds, and that health data is read only when it does.

mod support;

use kimberlite_engine::{Engine, EngineOptions, Storage};
use kimberlite_log::{Fault, FaultyDisk};
use kimberlite_wire::*;
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::Duration;
use support::*;

fn named<'a>(records: &'a [Json], event: &str) -> Vec<&'a Json> {
    records.iter().filter(|record| record["event"] == event).collect()
}

fn phi(writer: &Caller, name: &str) -> u64 {
    let stream = writer.create_stream(name, DataClass::Phi).unwrap().stream_id;
    writer.append(stream, &[b"one", b"two", b"three"]).unwrap();
    stream
}

/// A read of health data is on record, with who, what and how far; repeats within the window add
/// no record; other principals and streams have their own.
#[test]
fn reads_of_health_data_are_recorded() {
    let engine = memory();
    let writer = writer(&engine);
    let admin = caller(&engine, "ann", 1, Role::Admin);
    let (stream, other) = (phi(&writer, "Vitals"), phi(&writer, "notes"));
    assert!(admin.audited().is_empty());
    for _ in 0..5 {
        writer.read_all(stream, 1).unwrap();
    }
    let records = admin.audited();
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!(record["event"], "access_started");
    assert_eq!(record["principal"], "writer");
    assert_eq!(record["operation"], "read");
    assert_eq!((&record["stream"], &record["data_class"]), (&"Vitals".into(), &"PHI".into()));
    assert_eq!(record["stream_id"], stream);
    assert_eq!((&record["from_offset"], &record["end_offset"]), (&1.into(), &3.into()));

    caller(&engine, "bob", 1, Role::Reader).read_all(stream, 0).unwrap();
    writer.read_all(other, 0).unwrap();
    assert_eq!(named(&admin.audited(), "access_started").len(), 3);
}

/// A read that goes beyond the offsets on record is put there before it is answered; what lies
/// within them, be they of one record or of several, is not put there again.
#[test]
fn what_goes_beyond_is_recorded() {
    let engine = memory();
    let writer = writer(&engine);
    let admin = caller(&engine, "ann", 1, Role::Admin);
    let stream = phi(&writer, "vitals");
    writer.append(stream, &[b"four", b"five", b"six"]).unwrap();
    let ranges = || -> Vec<(Json, Json)> {
        let records = admin.audited();
        let started = named(&records, "access_started").into_iter();
        started.map(|r| (r["from_offset"].clone(), r["end_offset"].clone())).collect()
    };
    let read = |from_offset, max_events| {
        let request =
            ReadRequest { stream_id: stream, from_offset, max_events, ..Default::default() };
        writer.read(request).unwrap();
    };
    let mut expected: Vec<(Json, Json)> = Vec::new();
    let steps = [
        ((4, 1), Some((4, 5))),
        ((4, 1), None),
        ((1, 1), Some((1, 2))),
        ((1, 2), Some((1, 3))),
        ((3, 1), Some((3, 4))),
        // Three records together cover this.
        ((1, 4), None),
        ((0, 6), Some((0, 6))),
        ((0, 99), None),
    ];
    for ((from, max_events), recorded) in steps {
        read(from, max_events);
        expected.extend(recorded.map(|(from, end)| (from.into(), end.into())));
        assert_eq!(ranges(), expected, "after {max_events} from {from}");
    }
    writer.append(stream, &[b"seven"]).unwrap();
    read(5, 9);
    expected.push((5.into(), 7.into()));
    assert_eq!(ranges(), expected);
    // A subscription may go on for ever, and what it may give is on record afterwards.
    writer.subscribe(stream, 2).unwrap();
    expected.push((2.into(), Json::Null));
    writer.append(stream, &[b"eight"]).unwrap();
    read(6, 9);
    assert_eq!(ranges(), expected);
}

/// Subscriptions and verifications are on record, too; reads of nothing and reads of other classes
/// are not.
#[test]
fn what_is_recorded_and_what_is_not() {
    let engine = memory();
    let writer = writer(&engine);
    let admin = caller(&engine, "ann", 1, Role::Admin);
    for (name, class) in [("a", DataClass::NonPhi), ("b", DataClass::Deidentified)] {
        let stream = writer.create_stream(name, class).unwrap().stream_id;
        writer.append(stream, &[b"x"]).unwrap();
        writer.read_all(stream, 0).unwrap();
        writer.verify(stream).unwrap();
        writer.subscribe(stream, 0).unwrap();
    }
    let empty = writer.create_stream("empty", DataClass::Phi).unwrap().stream_id;
    writer.read_all(empty, 0).unwrap();
    writer.query("SELECT count(*) FROM a, b").unwrap();
    writer.query("SELECT * FROM _streams").unwrap();
    assert!(admin.audited().is_empty());

    let (first, second) = (phi(&writer, "first"), phi(&writer, "second"));
    writer.subscribe(first, 2).unwrap();
    writer.verify(second).unwrap();
    let records = admin.audited();
    let operations: Vec<&Json> = records.iter().map(|record| &record["operation"]).collect();
    assert_eq!(operations, ["subscribe", "verify"]);
    assert_eq!(records[0]["from_offset"], 2);
}

/// A statement that reads health data is on record with its text and streams, without the values
/// of its parameters; once for each window and for each set of parameters.
#[test]
fn statements_are_recorded() {
    let engine = memory();
    let writer = writer(&engine);
    let admin = caller(&engine, "ann", 1, Role::Admin);
    phi(&writer, "vitals");
    writer.stream("plain");
    let sql = "SELECT count(*) FROM plain, vitals WHERE vitals.text = ?";
    for secret in ["one", "three", "one", "three"] {
        let params = vec![Value::String(secret.to_string())];
        let request = QueryRequest { sql: sql.to_string(), params, ..Default::default() };
        drain(writer.call(Request::Query(request)).unwrap().payload.unwrap(), 1000).unwrap();
    }
    let records = admin.audited();
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0]["event"], &records[0]["sql"]), (&"query_started".into(), &sql.into()));
    assert_eq!(records[0]["sql_sha256"], records[1]["sql_sha256"]);
    assert_ne!(records[0]["params_sha256"], records[1]["params_sha256"]);
    assert_eq!(records[0]["params_sha256"].as_str().unwrap().len(), 64);
    let streams = records[0]["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 2);
    assert!(streams.contains(&serde_json::json!({"stream": "vitals", "data_class": "PHI"})));
    assert!(records.iter().all(|record| !record.to_string().contains("three")));
    // Looking at the audit is not audited itself.
    assert_eq!(admin.audited().len(), 2);
}

/// When the window ends, what its record came to cover is written; one that covered no more than
/// it said is not mentioned again.
#[test]
fn windows_end_with_what_they_covered() {
    let engine = open(EngineOptions { audit_window_ms: 1_000, ..small() });
    let writer = writer(&engine);
    let admin = caller(&engine, "ann", 1, Role::Admin);
    let (stream, once) = (phi(&writer, "vitals"), phi(&writer, "once"));
    writer.read_all(once, 0).unwrap();
    for from in [2, 0] {
        writer.read_all(stream, from).unwrap();
    }
    for _ in 0..3 {
        writer.query("SELECT count(*) FROM vitals").unwrap();
    }
    std::thread::sleep(Duration::from_millis(1_500));
    let records = admin.audited();
    let ended = named(&records, "access_ended");
    assert_eq!(ended.len(), 1, "{records:?}");
    assert_eq!((&ended[0]["calls"], &ended[0]["events"]), (&2.into(), &4.into()));
    assert_eq!((&ended[0]["first_offset"], &ended[0]["end_offset"]), (&0.into(), &3.into()));
    assert_eq!((&ended[0]["stream"], &ended[0]["window_ms"]), (&"vitals".into(), &1_000.into()));
    let queries = named(&records, "query_ended");
    assert_eq!((queries.len(), &queries[0]["calls"]), (1, &3.into()));
    assert_eq!(queries[0]["sql_sha256"], named(&records, "query_started")[0]["sql_sha256"]);
    // The next read opens a new window.
    writer.read_all(stream, 0).unwrap();
    let started = admin.audited();
    let vitals = named(&started, "access_started").into_iter().filter(|r| r["stream"] == "vitals");
    // Two of the first window, whose second read went beyond the first, and one of this.
    assert_eq!(vitals.count(), 3);
}

/// A subscription that outlives its window is put on record again before it goes on.
#[test]
fn long_subscriptions_are_recorded_again() {
    let engine = open(EngineOptions { audit_window_ms: 1_000, ..small() });
    let writer = writer(&engine);
    let admin = caller(&engine, "ann", 1, Role::Admin);
    let stream = phi(&writer, "vitals");
    let mut subscription = writer.subscribe(stream, 0).unwrap();
    assert_eq!(take(&mut *subscription, 3).len(), 3);
    std::thread::sleep(Duration::from_millis(1_300));
    writer.append(stream, &[b"four", b"five"]).unwrap();
    assert_eq!(take(&mut *subscription, 2).len(), 2);
    std::thread::sleep(Duration::from_millis(1_300));
    let records = admin.audited();
    let started: Vec<&Json> =
        named(&records, "access_started").iter().map(|record| &record["from_offset"]).collect();
    assert_eq!(started, [0, 3]);
    let ended: Vec<&Json> =
        named(&records, "access_ended").iter().map(|record| &record["events"]).collect();
    assert_eq!(ended, [3, 2]);
}

/// A window that ends at once lets every chunk through on a record of its own, and asks for no
/// more records than that.
#[test]
fn the_shortest_windows_let_subscriptions_through() {
    for audit_window_ms in [0, 1] {
        let engine = open(EngineOptions { audit_window_ms, ..small() });
        let writer = writer(&engine);
        let admin = caller(&engine, "ann", 1, Role::Admin);
        let stream = phi(&writer, "vitals");
        let mut subscription = writer.subscribe(stream, 0).unwrap();
        assert_eq!(take(&mut *subscription, 3).len(), 3);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(2));
            writer.append(stream, &[b"more"]).unwrap();
            assert_eq!(take(&mut *subscription, 1).len(), 1);
        }
        assert_eq!(writer.data(stream).len(), 8);
        let records = admin.audited();
        let started = named(&records, "access_started").len();
        assert!((6..=8).contains(&started), "{audit_window_ms} ms: {started} records");
    }
}

/// Closing the engine writes what open windows covered.
#[test]
fn closing_ends_windows() {
    let folder = tempfile::tempdir().unwrap();
    let engine =
        open(EngineOptions { segment_bytes: 1 << 20, ..EngineOptions::folder(folder.path()) });
    let caller_one = writer(&engine);
    let stream = phi(&caller_one, "vitals");
    caller_one.read_all(stream, 0).unwrap();
    caller_one.read_all(stream, 1).unwrap();
    engine.close();
    drop((caller_one, engine));
    let engine = Engine::open(EngineOptions::folder(folder.path())).unwrap();
    let admin = caller(&engine, "ann", 1, Role::Admin);
    let records = admin.audited();
    assert_eq!(named(&records, "access_ended")[0]["events"], 5);
}

/// Administrative acts are on record where they were done and where they were done from.
#[test]
fn acts_are_recorded() {
    let engine = memory();
    let root = root(&engine);
    root.create_tenant(9).unwrap();
    root.create_tenant(9).unwrap();
    let nine = caller(&engine, "ann", 9, Role::Admin);
    let records = nine.audited();
    assert_eq!(records.len(), 1);
    assert_eq!(
        (&records[0]["event"], &records[0]["principal"]),
        (&"tenant_created".into(), &"root".into())
    );
    root.delete_tenant(9).unwrap();
    let records = root.audited();
    let acts: Vec<(&Json, &Json)> =
        records.iter().map(|record| (&record["event"], &record["tenant_id"])).collect();
    assert_eq!(
        acts,
        [(&"tenant_created".into(), &9.into()), (&"tenant_deleted".into(), &9.into())]
    );
    assert!(caller(&engine, "eve", 2, Role::Admin).audited().is_empty());
}

/// Where the record cannot be written, health data is refused by every way of reading it, and
/// everything else is still read.
#[test]
fn without_a_record_no_health_data() {
    let disk = FaultyDisk::new(1);
    let engine = open(EngineOptions { storage: Storage::Disk(Arc::new(disk.clone())), ..small() });
    let writer = writer(&engine);
    let stream = phi(&writer, "vitals");
    let plain = writer.stream("plain");
    writer.append(plain, &[b"x"]).unwrap();
    let mut subscription = writer.subscribe(plain, 0).unwrap();
    // The next thing that the disk is asked to write fails, and with it the log.
    disk.fail_at(disk.operations(), Fault::Error);
    assert_eq!(code(writer.append(plain, &[b"y"])), ErrorCode::Storage);

    let refused = writer.read_all(stream, 0).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Storage);
    assert!(refused.detail.contains("audit"), "{refused}");
    assert_eq!(code(writer.verify(stream)), ErrorCode::Storage);
    assert_eq!(code(writer.subscribe(stream, 0).map(|_| ())), ErrorCode::Storage);
    assert_eq!(code(writer.query("SELECT * FROM vitals")), ErrorCode::Storage);
    assert_eq!(writer.data(plain), [b"x"]);
    assert_eq!(take(&mut *subscription, 1).len(), 1);
    assert_eq!(writer.count("SELECT count(*) FROM plain"), 1);
    assert!(writer.verify(plain).unwrap().valid);
}

/// On a full disk appends are refused, but audited reads go on, from what the log keeps back for
/// them.
#[test]
fn a_full_disk_is_still_audited() {
    let disk = FaultyDisk::new(2);
    let engine = open(EngineOptions { storage: Storage::Disk(Arc::new(disk.clone())), ..small() });
    let writer = writer(&engine);
    let admin = caller(&engine, "ann", 1, Role::Admin);
    let stream = phi(&writer, "vitals");
    disk.set_capacity(Some(disk.used()));
    let mut appended = 3;
    let batch = events(vec![[7; 1000]; 200]);
    let full = loop {
        match writer.append_with(stream, ANY, &batch, NO_KEY) {
            Ok(_) => appended += 200,
            Err(error) => break error,
        }
        assert!(appended < 1_000_000, "the disk does not fill");
    };
    assert_eq!((full.code, full.no_effect), (ErrorCode::Storage, true));
    let mut request = ReadRequest { stream_id: stream, max_events: 1, ..Default::default() };
    for number in 0..20 {
        let reader = caller(&engine, &format!("reader {number}"), 1, Role::Reader);
        assert_eq!(reader.read(request.clone()).unwrap().1.len(), 3);
    }
    assert_eq!(named(&admin.audited(), "access_started").len(), 20);
    // A time can be passed, and what is refused leaves no trace.
    request.from_offset = appended;
    let (body, _) = writer.read(request).unwrap();
    assert_eq!(body.next_offset, appended);
    disk.set_capacity(None);
    let done = writer.append_with(stream, appended, &batch, NO_KEY).unwrap();
    assert_eq!(done.first_offset, appended);
    assert!(writer.verify(stream).unwrap().valid);
}
