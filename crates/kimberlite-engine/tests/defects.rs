//! A defect in the commit thread ends the engine at once, for whoever waits and for all who come.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kimberlite_engine::{Clock, EngineOptions};
use kimberlite_wire::*;
use support::*;

/// A clock with a defect that the test sets loose.
#[derive(Debug, Default)]
struct Broken(AtomicBool);

impl Clock for Broken {
    fn wall_ns(&self) -> u64 {
        assert!(!self.0.load(Ordering::SeqCst), "the clock has a defect");
        1_000
    }

    fn monotonic_ns(&self) -> u64 {
        1_000
    }
}

/// After a panic in the commit thread, every call says so soon, none waits for its deadline, and
/// the engine still closes.
#[test]
fn a_dead_commit_thread_answers() {
    let clock = Arc::new(Broken::default());
    let engine = open(EngineOptions { clock: clock.clone(), ..small() });
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let vitals = writer.create_stream("vitals", DataClass::Phi).unwrap().stream_id;
    let producer = writer.open_producer().unwrap();
    writer.append(stream, &[b"x"]).unwrap();
    writer.append(vitals, &[b"x"]).unwrap();
    let mut subscription = writer.subscribe(stream, 1).unwrap();
    let waiting = std::thread::spawn(move || next_chunk(&mut *subscription, 1000));

    let started = Instant::now();
    clock.0.store(true, Ordering::SeqCst);
    let batch = events(["x"]);
    let pending: Vec<_> = (1..=10)
        .map(|sequence| writer.start_append(stream, ANY, &batch, key(producer, sequence, 1)))
        .collect();
    for done in pending {
        let error = block_on(done).map(|_| ()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Panic, "{error}");
    }
    for _ in 0..3 {
        let error = writer.append(stream, &[b"y"]).unwrap_err();
        assert_eq!(error.code, ErrorCode::Panic, "{error}");
        assert!(error.detail.contains("the clock has a defect"), "{error}");
        assert_eq!(code(writer.create_stream("more", DataClass::NonPhi)), ErrorCode::Panic);
        assert_eq!(code(writer.read_all(vitals, 0)), ErrorCode::Panic);
        assert_eq!(code(writer.query("SELECT count(*) FROM events")), ErrorCode::Panic);
        assert_eq!(code(writer.verify(stream)), ErrorCode::Panic);
        assert_eq!(code(writer.subscribe(stream, 0).map(|_| ())), ErrorCode::Panic);
    }
    let ended = waiting.join().unwrap().unwrap().unwrap_err();
    assert_eq!(ended.code, ErrorCode::Panic, "{ended}");
    engine.close();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
