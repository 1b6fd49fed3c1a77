//! Databases in this process: sharing, closing, and what only they have.

mod common;

use std::time::{Duration, Instant};

use common::{NONE, events, expected, memory, stream, texts};
use kimberlite_client::{
    CallOptions, Config, DataClass, ErrorCode, EventBatch, ExpectedOffset, blocking::Client,
};

fn folder_client(folder: &std::path::Path) -> Client {
    let address = format!("embedded:{}", folder.display());
    Client::connect(Config::new([address])).expect("the folder opens")
}

/// What a folder's client appended is there for the next one, also when the first one was closed or
/// dropped just before.
#[test]
fn a_folder_keeps_its_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a").join("b");
    for round in 0..4 {
        let client = folder_client(&path);
        let stream = client.create_stream("s", DataClass::NonPhi, &NONE).expect("a stream");
        let batch = events(round * 10..round * 10 + 10);
        let appended =
            client.append(stream, ExpectedOffset::Exact(round * 10), batch, &NONE).expect("done");
        assert_eq!(appended.first_offset, round * 10);
        if round % 2 == 0 {
            client.close(5_000).expect("it closes");
        }
    }
    let client = folder_client(&path);
    let stream = client.stream_by_name("S", &NONE).expect("names fold").stream_id.into();
    let page = client.read(stream, 0, 100, 0, &NONE).expect("a page");
    assert_eq!(texts(&page), expected(0..40));
}

/// Two clients of a folder, written in two ways, share one engine, which lives until both are gone;
/// so do clients of a named memory, while those of a private one see nothing of each other.
#[test]
fn clients_share_an_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = folder_client(folder.path());
    let second = folder_client(&folder.path().join("."));
    let stream = first.create_stream("s", DataClass::NonPhi, &NONE).expect("a stream");
    first.append(stream, ExpectedOffset::Any, events(0..3), &NONE).expect("done");
    first.close(5_000).expect("it closes");
    assert_eq!(first.list_streams(&NONE).expect_err("closed").code, ErrorCode::Closed);
    assert_eq!(second.read(stream, 0, 9, 0, &NONE).expect("a page").count(), 3);

    let one = Client::connect(Config::new(["memory:shared"])).expect("opens");
    let two = Client::connect(Config::new(["memory:shared"])).expect("opens");
    assert_eq!(one.log_id(), two.log_id());
    one.create_stream("t", DataClass::NonPhi, &NONE).expect("a stream");
    assert_eq!(two.list_streams(&NONE).expect("a list").len(), 1);
    one.close(5_000).expect("it closes");
    two.close(5_000).expect("it closes");
    let three = Client::connect(Config::new(["memory:shared"])).expect("opens");
    assert!(three.list_streams(&NONE).expect("a list").is_empty());
    assert_ne!(memory().log_id(), memory().log_id());
}

/// A folder that cannot be one is refused with its name.
#[test]
fn a_file_is_no_folder() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let address = format!("embedded:{}", file.path().display());
    let error = Client::connect(Config::new([address])).expect_err("no folder");
    assert_eq!(error.code, ErrorCode::Storage);
    assert!(error.detail.contains(&file.path().display().to_string()), "{error}");
}

/// The opener is admin of every tenant, and connecting as a tenant makes it; tenants see nothing of
/// each other.
#[test]
fn tenants_are_made_and_kept_apart() {
    let one = Client::connect(Config::new(["memory:tenants"])).expect("opens");
    let two = Client::connect(Config::new(["memory:tenants"]).tenant(2)).expect("opens");
    let stream = one.create_stream("s", DataClass::Phi, &NONE).expect("a stream");
    one.append(stream, ExpectedOffset::Any, events(0..3), &NONE).expect("done");
    let error = two.read(stream, 0, 9, 0, &NONE).expect_err("another tenant's");
    assert_eq!(error.code, ErrorCode::StreamNotFound);
    assert!(one.create_tenant(7, &NONE).expect("admin"));
    assert!(!one.create_tenant(7, &NONE).expect("admin"));
    assert_eq!(two.list_tenants(&NONE).expect("admin"), [1, 2, 7]);
    two.delete_tenant(7, &NONE).expect("admin");
    assert_eq!(one.list_tenants(&NONE).expect("admin"), [1, 2]);
}

/// Closing ends a waiting subscription at once, with CLOSED.
#[test]
fn close_ends_a_waiting_subscription() {
    let client = memory();
    let stream = client.create_stream("s", DataClass::NonPhi, &NONE).expect("a stream");
    let subscription = client.subscribe(stream, 0, &NONE).expect("subscribes");
    let closer = client.clone();
    let waiting = std::thread::spawn(move || {
        let started = Instant::now();
        let error = subscription.next(None).expect_err("closed");
        (error.code, started.elapsed())
    });
    std::thread::sleep(Duration::from_millis(100));
    closer.close(5_000).expect("it closes");
    let (code, waited) = waiting.join().expect("no panic");
    assert_eq!(code, ErrorCode::Closed);
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    closer.close(5_000).expect("a second close is fine");
}

/// A read of a position that is not there yet waits until its deadline, not longer, and says so.
#[test]
fn a_deadline_fires() {
    let client = memory();
    let stream = client.create_stream("s", DataClass::NonPhi, &NONE).expect("a stream");
    let options = CallOptions { timeout_ms: Some(80), min_position: u64::MAX / 2, stale: false };
    let started = Instant::now();
    let error = client.read(stream, 0, 1, 0, &options).expect_err("not there");
    assert_eq!(error.code, ErrorCode::Timeout);
    assert!(started.elapsed() >= Duration::from_millis(75), "{:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// Where a block is damaged, everything before it can be read, the read that begins at it says so,
/// and both ways to verify find the same.
#[test]
fn damage_hides_nothing_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("embedded:{}", folder.path().display());
    let client = Client::connect(Config::new([address])).expect("the folder opens");
    let s = stream(&client, "damaged");
    for n in 0..20u64 {
        let text = format!("event-{n:03}-{}", "x".repeat(1000));
        let batch = EventBatch::from_events([text]).expect("fits");
        client.append(s, ExpectedOffset::Any, batch, &NONE).expect("done");
    }
    let damaged = std::fs::read_dir(folder.path()).expect("files").any(|file| {
        let path = file.expect("a file").path();
        let mut bytes = std::fs::read(&path).unwrap_or_default();
        let at = bytes.windows(10).position(|window| window == b"event-015-");
        at.is_some_and(|at| {
            bytes[at + 20] = b'Y';
            std::fs::write(&path, bytes).is_ok()
        })
    });
    assert!(damaged);
    assert_eq!(client.read(s, 0, 1000, 0, &NONE).expect("what is intact").count(), 15);
    let blocks = client.read_blocks(s, 3, 1000, 0, &NONE).expect("what is intact");
    assert_eq!(blocks.iter().count(), 12);
    let e = client.read(s, 15, 1000, 0, &NONE).expect_err("damaged");
    assert_eq!((e.code, e.value), (ErrorCode::Corruption, 15));
    let mut walked = 0;
    let failed = client.pages(s, 0, 4).find_map(|page| match page {
        Ok(page) => {
            walked += page.count();
            None
        }
        Err(e) => Some(e.code),
    });
    assert_eq!((walked, failed), (15, Some(ErrorCode::Corruption)));
    let theirs = client.verify(s, &NONE).expect("it walks");
    let ours = client.verify_locally(s, &NONE).expect("it walks");
    assert_eq!((theirs.valid, theirs.count, theirs.first_bad_offset), (false, 15, 15));
    assert_eq!(ours, theirs);
}
