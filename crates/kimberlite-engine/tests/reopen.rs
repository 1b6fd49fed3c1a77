//! Closing, reopening, crashes and damage.

mod support;

use std::sync::Arc;
use std::time::Duration;

use kimberlite_engine::{Engine, EngineOptions, Storage};
use kimberlite_log::{Disk, Fault, FaultyDisk, Tear};
use kimberlite_wire::*;
use support::*;

fn on(disk: &FaultyDisk) -> EngineOptions {
    EngineOptions { storage: Storage::Disk(Arc::new(disk.clone())), ..small() }
}

/// Everything is there again after reopening a folder: tenants, streams, events, chains, positions
/// and the identity of the database.
#[test]
fn reopening_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        || EngineOptions { segment_bytes: 1 << 20, ..EngineOptions::folder(folder.path()) };
    let engine = open(options());
    let root_caller = root(&engine);
    root_caller.create_tenant(5).unwrap();
    root_caller.delete_tenant(5).unwrap();
    let writer_caller = writer(&engine);
    let streams: Vec<u64> = (0..20).map(|n| writer_caller.stream(&format!("s{n}"))).collect();
    for round in 0..30u32 {
        for stream in &streams {
            let data = round.to_le_bytes().repeat(500);
            writer_caller.append(*stream, &[&data, b"small"]).unwrap();
        }
    }
    let before: Vec<StreamInfo> = writer_caller.list(0, 0).unwrap().streams;
    let (log_id, position) = (engine.log_id(), engine.position());
    engine.close();
    drop((root_caller, writer_caller, engine));

    let engine = Engine::open(options()).unwrap();
    assert_eq!((engine.log_id(), engine.position()), (log_id, position));
    assert!(engine.tenant_exists(1) && !engine.tenant_exists(5));
    let ours = writer(&engine);
    assert_eq!(ours.list(0, 0).unwrap().streams, before);
    for stream in &streams {
        let data = ours.data(*stream);
        assert_eq!(data.len(), 60);
        assert_eq!(data[58], 29u32.to_le_bytes().repeat(500));
        assert!(ours.verify(*stream).unwrap().valid);
    }
    let done = ours.append_with(streams[0], 60, &events(["more"]), NO_KEY).unwrap();
    assert!(done.position > position);
    assert!(ours.stream("new") > *streams.last().unwrap());
    assert_eq!(code(root(&engine).create_tenant(5)), ErrorCode::InvalidArgument);
}

/// A folder belongs to one engine at a time, and is free again once that is closed.
#[test]
fn a_folder_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(EngineOptions::folder(folder.path()));
    let second = Engine::open(EngineOptions::folder(folder.path()));
    assert_eq!(code(second.map(|_| ())), ErrorCode::Storage);
    engine.close();
    Engine::open(EngineOptions::folder(folder.path())).unwrap();
}

/// Dropping the last engine closes it, even while an answer is still held.
#[test]
fn dropping_closes() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(EngineOptions::folder(folder.path()));
    let writer = writer(&engine);
    let stream = writer.stream("events");
    writer.append(stream, &[b"x"]).unwrap();
    let mut subscription = writer.subscribe(stream, 0).unwrap();
    drop((engine, writer));
    let ended = next_chunk(&mut *subscription, 1000).unwrap().unwrap_err();
    assert_eq!(ended.code, ErrorCode::Closed);
    Engine::open(EngineOptions::folder(folder.path())).unwrap();
}

/// Closing finishes the appends that were accepted; every later call is CLOSED; closing again does
/// nothing.
#[test]
fn closing_finishes_what_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(EngineOptions::folder(folder.path()));
    let ours = writer(&engine);
    let stream = ours.stream("events");
    let pending: Vec<_> =
        (0..500).map(|number| ours.start_append(stream, number, &events(["x"]), NO_KEY)).collect();
    engine.close();
    engine.close();
    for done in pending {
        block_on(done).unwrap();
    }
    assert_eq!(code(ours.append(stream, &[b"y"])), ErrorCode::Closed);
    assert_eq!(code(ours.read_all(stream, 0)), ErrorCode::Closed);
    assert_eq!(code(ours.query("SELECT 1")), ErrorCode::Closed);
    assert_eq!(code(ours.create_stream("new", DataClass::Phi)), ErrorCode::Closed);
    assert_eq!(code(ours.list(0, 0)), ErrorCode::Closed);
    let engine = Engine::open(EngineOptions::folder(folder.path())).unwrap();
    assert_eq!(writer(&engine).data(stream).len(), 500);
}

/// Closing while callers are at work: each call is done or CLOSED, and what was acknowledged is
/// there afterwards.
#[test]
fn closing_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(EngineOptions::folder(folder.path()));
    let stream = writer(&engine).stream("events");
    let acknowledged: u64 = std::thread::scope(|scope| {
        let work = || {
            let ours = writer(&engine);
            let mut done = 0;
            loop {
                match ours.append(stream, &[b"x"]) {
                    Ok(_) => done += 1,
                    Err(error) => {
                        assert_eq!(error.code, ErrorCode::Closed);
                        return done;
                    }
                }
                let queried = ours.query("SELECT count(*) FROM events");
                assert!(queried.is_ok() || code(queried) == ErrorCode::Closed);
            }
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(Duration::from_millis(100));
        engine.close();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let engine = Engine::open(EngineOptions::folder(folder.path())).unwrap();
    assert_eq!(writer(&engine).info(stream).unwrap().next_offset, acknowledged);
}

/// A power cut at any write: what was acknowledged is there, at its place; of the rest all or
/// nothing; and a repeat under the same key settles it.
#[test]
fn power_cuts_lose_nothing_acknowledged() {
    for cut in (0..40).step_by(4) {
        for tear in [Tear::Lose, Tear::Keep, Tear::Random] {
            let disk = FaultyDisk::new(cut);
            let engine = open(on(&disk));
            let ours = writer(&engine);
            let stream = ours.stream("events");
            let producer = ours.open_producer().unwrap();
            disk.fail_at(disk.operations() + cut, Fault::Crash);
            let batch = |number: u64| events([format!("event {number}"), "!".to_string()]);
            let mut acknowledged = 0;
            let unknown = loop {
                let sequence = acknowledged + 1;
                let key = key(producer, sequence, 1);
                match ours.append_with(stream, ANY, &batch(acknowledged), key) {
                    Ok(done) => assert_eq!(done.first_offset, 2 * acknowledged),
                    Err(error) => break error,
                }
                acknowledged += 1;
                assert!(acknowledged < 1000, "the power stays");
            };
            assert_eq!(unknown.code, ErrorCode::Storage);
            drop((ours, engine));

            let disk = disk.power_cycle(tear);
            let engine = Engine::open(on(&disk)).unwrap();
            let ours = writer(&engine);
            let found = ours.info(stream).unwrap().next_offset;
            let all = 2 * (acknowledged + 1);
            assert!(found == 2 * acknowledged || found == all, "{found}, cut {cut} {tear:?}");
            let key = key(producer, acknowledged + 1, 1);
            let settled = ours.append_with(stream, ANY, &batch(acknowledged), key).unwrap();
            assert_eq!(settled.first_offset, 2 * acknowledged);
            assert_eq!(ours.info(stream).unwrap().next_offset, all);
            assert!(ours.verify(stream).unwrap().valid);
        }
    }
}

/// A failed write stops the log, not the reading; the failed append may be settled after reopening.
#[test]
fn a_failed_write_is_final() {
    let disk = FaultyDisk::new(3);
    let engine = open(on(&disk));
    let ours = writer(&engine);
    let stream = ours.stream("events");
    let producer = ours.open_producer().unwrap();
    ours.append(stream, &[b"x"]).unwrap();
    disk.fail_at(disk.operations(), Fault::Error);
    let batch = events(["y"]);
    let failed = ours.append_with(stream, 1, &batch, key(producer, 1, 1)).unwrap_err();
    assert_eq!(failed.code, ErrorCode::Storage);
    assert!(!failed.no_effect);
    assert_eq!(failed.outcome_unknown, Some(AppendKey { producer_id: producer, sequence: 1 }));
    let later = ours.append(stream, &[b"z"]).unwrap_err();
    assert_eq!((later.code, later.outcome_unknown), (ErrorCode::Storage, None));
    assert!(later.no_effect);
    assert_eq!(ours.data(stream), [b"x"]);
    drop((ours, engine));

    let engine = Engine::open(on(&disk.restart())).unwrap();
    let ours = writer(&engine);
    let settled = ours.append_with(stream, ANY, &batch, key(producer, 1, 1)).unwrap();
    assert_eq!(settled.first_offset, 1);
    assert_eq!(ours.data(stream), [b"x", b"y"]);
}

/// Verification finds a damaged block and names its first offset, and goes no further.
#[test]
fn verification_finds_damage() {
    let disk = FaultyDisk::new(4);
    let engine = open(on(&disk));
    let ours = writer(&engine);
    let stream = ours.stream("events");
    for number in 0..50u8 {
        ours.append(stream, &[&[number; 600]]).unwrap();
    }
    let before = ours.verify(stream).unwrap();
    assert!(before.valid);
    // Where the data of event 20 lies, one bit is turned.
    let needle = [20u8; 600];
    let names = disk.list().unwrap();
    let flipped = names.iter().any(|name| flip_in(&disk, name, &needle));
    assert!(flipped, "the event's bytes were not found on the disk");
    let after = ours.verify(stream).unwrap();
    assert_eq!((after.valid, after.first_bad_offset, after.count), (false, 20, 20));
}

fn flip_in(disk: &FaultyDisk, name: &str, needle: &[u8]) -> bool {
    let Some(content) = disk.content(name) else { return false };
    let found = content.windows(needle.len()).position(|window| window == needle);
    found.is_some_and(|at| disk.flip(name, at as u64 + 5, 1))
}

/// A change whose time is over before it is begun is not begun.
#[test]
fn late_changes_are_not_begun() {
    let engine = memory();
    let ours = writer(&engine);
    let stream = ours.stream("events");
    let batch = events(["x"]);
    let request = AppendRequest {
        stream_id: stream,
        expected_offset: ANY,
        count: 1,
        payload_crc: batch.crc(),
        ..Default::default()
    };
    let late = engine.handle(
        &ours.session,
        Request::Append(request),
        batch.payload().clone(),
        Some(Duration::ZERO),
    );
    assert_eq!(code(block_on(late)), ErrorCode::Timeout);
    assert_eq!(ours.info(stream).unwrap().next_offset, 0);
}

/// Options out of bounds are refused with the bounds.
#[test]
fn options_are_checked() {
    for segment_bytes in [0, 1 << 40] {
        let options = EngineOptions { segment_bytes, ..EngineOptions::default() };
        let error = Engine::open(options).map(|_| ()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.detail.contains("segment_bytes"));
    }
}
