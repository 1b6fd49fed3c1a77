//! Exactly once: repeats of an append get its first answer, and what is no repeat is refused.

mod support;

use kimberlite_engine::{Engine, EngineOptions};
use kimberlite_wire::*;
use support::*;

/// A repeat gets the first answer, word for word, and nothing is appended again; whatever it
/// expects of the offset by then.
#[test]
fn repeats_get_the_first_answer() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let producer = writer.open_producer().unwrap();
    let batch = events(["a", "b"]);
    let first = writer.append_with(stream, 0, &batch, key(producer, 1, 1)).unwrap();
    let second = writer.append_with(stream, 2, &events(["c"]), key(producer, 2, 1)).unwrap();
    for expected in [0, ANY, 99] {
        let repeat = writer.append_with(stream, expected, &batch, key(producer, 1, 1)).unwrap();
        assert_eq!(repeat, first);
    }
    assert_eq!(writer.append_with(stream, 2, &events(["c"]), key(producer, 2, 2)).unwrap(), second);
    assert_eq!(writer.data(stream), [b"a", b"b", b"c"]);
}

/// A repeat within the same group as the first is one, too.
#[test]
fn repeats_in_flight_are_found() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let producer = writer.open_producer().unwrap();
    let mut pending = Vec::new();
    for sequence in 1..=100 {
        let batch = events([format!("event {sequence}")]);
        for _ in 0..3 {
            pending.push(writer.start_append(stream, ANY, &batch, key(producer, sequence, 1)));
        }
    }
    let done: Vec<_> = pending.into_iter().map(|done| block_on(done).unwrap().body).collect();
    for repeats in done.chunks(3) {
        assert!(repeats.iter().all(|response| *response == repeats[0]));
    }
    assert_eq!(writer.info(stream).unwrap().next_offset, 100);
}

/// The same number for other events, another count or another stream is a mistake of the caller.
#[test]
fn numbers_are_not_used_twice() {
    let engine = memory();
    let writer = writer(&engine);
    let (stream, other) = (writer.stream("events"), writer.stream("other"));
    let producer = writer.open_producer().unwrap();
    writer.append_with(stream, ANY, &events(["a"]), key(producer, 1, 1)).unwrap();
    for (stream, list) in [(stream, vec!["b"]), (stream, vec!["a", ""]), (other, vec!["a"])] {
        let result = writer.append_with(stream, ANY, &events(&list), key(producer, 1, 1));
        assert_eq!(code(result), ErrorCode::InvalidArgument);
    }
}

/// Refusals are not remembered: the same number may be tried again.
#[test]
fn refusals_are_not_remembered() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let producer = writer.open_producer().unwrap();
    let batch = events(["a"]);
    let refused = writer.append_with(stream, 5, &batch, key(producer, 1, 1));
    assert_eq!(code(refused), ErrorCode::OffsetMismatch);
    let missing = writer.append_with(stream + 9, ANY, &batch, key(producer, 1, 1));
    assert_eq!(code(missing), ErrorCode::StreamNotFound);
    writer.append_with(stream, 0, &events(["b"]), key(producer, 1, 1)).unwrap();
}

/// The window of a producer: numbers below what it knows are refused, as are those too far ahead
/// and those that make no sense.
#[test]
fn the_window_is_kept() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let producer = writer.open_producer().unwrap();
    let append = |sequence, acked_below| {
        let batch = events([format!("{sequence}")]);
        writer.append_with(stream, ANY, &batch, key(producer, sequence, acked_below))
    };
    append(1, 1).unwrap();
    append(5, 4).unwrap();
    assert_eq!(code(append(3, 1)), ErrorCode::InvalidArgument);
    append(4, 4).unwrap();
    append(4, 2).unwrap();
    assert_eq!(code(append(0, 0)), ErrorCode::InvalidArgument);
    assert_eq!(code(append(7, 8)), ErrorCode::InvalidArgument);
    let far = append(4 + limit::OUTSTANDING_APPENDS, 4).unwrap_err();
    assert_eq!((far.code, far.value), (ErrorCode::LimitExceeded, limit::OUTSTANDING_APPENDS));
    append(3 + limit::OUTSTANDING_APPENDS, 4).unwrap();
}

/// A producer that has said nothing about what it knows has the whole window, counted from 1; a
/// number at the end of all numbers is refused like any that is too far ahead, and does no harm.
#[test]
fn the_window_begins_at_one() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let producer = writer.open_producer().unwrap();
    let append = |sequence, acked_below| {
        writer.append_with(stream, ANY, &events(["x"]), key(producer, sequence, acked_below))
    };
    for acked_below in [0, 1] {
        for sequence in [limit::OUTSTANDING_APPENDS + 1, u64::MAX - 1, u64::MAX] {
            let far = append(sequence, acked_below).unwrap_err();
            assert_eq!(far.code, ErrorCode::LimitExceeded, "{far}");
            assert_eq!(far.value, limit::OUTSTANDING_APPENDS);
        }
        append(limit::OUTSTANDING_APPENDS, acked_below).unwrap();
    }
    append(u64::MAX, u64::MAX).unwrap();
    append(u64::MAX, u64::MAX).unwrap();
    assert_eq!(writer.info(stream).unwrap().next_offset, 2);
}

/// A producer works for the tenant and the principal that opened it; an unknown one has expired.
#[test]
fn producers_are_bound() {
    let engine = memory();
    let ann = caller(&engine, "ann", 1, Role::Writer);
    let bob = caller(&engine, "bob", 1, Role::Writer);
    let elsewhere = caller(&engine, "ann", 2, Role::Writer);
    let stream = ann.stream("events");
    let their_stream = elsewhere.stream("events");
    let producer = ann.open_producer().unwrap();
    assert_ne!(bob.open_producer().unwrap(), producer);
    let batch = events(["a"]);
    let key = key(producer, 1, 1);
    assert_eq!(code(bob.append_with(stream, ANY, &batch, key)), ErrorCode::PermissionDenied);
    let foreign = elsewhere.append_with(their_stream, ANY, &batch, key);
    assert_eq!(code(foreign), ErrorCode::ProducerExpired);
    ann.append_with(stream, ANY, &batch, key).unwrap();
    let unknown = ann.append_with(stream, ANY, &batch, support::key(producer + 50, 1, 1));
    assert_eq!(code(unknown), ErrorCode::ProducerExpired);
}

/// Outcomes outlive the engine: a repeat after reopening gets the first answer, and the numbers of
/// producers go on.
#[test]
fn repeats_are_found_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        || EngineOptions { segment_bytes: 1 << 20, ..EngineOptions::folder(folder.path()) };
    let engine = open(options());
    let ours = writer(&engine);
    let stream = ours.stream("events");
    let producer = ours.open_producer().unwrap();
    let first: Vec<AppendResponse> = (1..=20u64)
        .map(|sequence| {
            let batch = events([format!("event {sequence}")]);
            ours.append_with(stream, ANY, &batch, key(producer, sequence, 1)).unwrap()
        })
        .collect();
    engine.close();

    for _ in 0..2 {
        let engine = Engine::open(options()).unwrap();
        let ours = writer(&engine);
        for (sequence, first) in (1..).zip(&first) {
            let batch = events([format!("event {sequence}")]);
            let repeat = ours.append_with(stream, ANY, &batch, key(producer, sequence, 1));
            assert_eq!(repeat.unwrap(), *first);
        }
        assert_eq!(ours.info(stream).unwrap().next_offset, 20);
        assert!(ours.open_producer().unwrap() > producer);
        engine.close();
    }
}

/// The log remembers so many outcomes and no more; what producers know is forgotten, and makes
/// room.
#[test]
fn outcomes_are_bounded() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let batch = events(["x"]);
    let window = limit::OUTSTANDING_APPENDS;
    let producers: Vec<u64> =
        (0..limit::REMEMBERED_OUTCOMES / window).map(|_| writer.open_producer().unwrap()).collect();
    for producer in &producers {
        let pending: Vec<_> = (1..=window)
            .map(|sequence| writer.start_append(stream, ANY, &batch, key(*producer, sequence, 1)))
            .collect();
        pending.into_iter().for_each(|done| drop(block_on(done).unwrap()));
    }
    let full = writer.open_producer().unwrap();
    let refused = writer.append_with(stream, ANY, &batch, key(full, 1, 1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(refused.is_retryable() && refused.retry_after_ms > 0);
    // Repeats are still answered, and appends without a producer still taken.
    writer.append_with(stream, ANY, &batch, key(producers[0], 5, 1)).unwrap();
    writer.append_with(stream, ANY, &batch, NO_KEY).unwrap();
    // A producer that says what it knows makes room for itself first, then for others.
    let last = writer.append_with(stream, ANY, &batch, key(producers[0], window + 1, window + 1));
    last.unwrap();
    writer.append_with(stream, ANY, &batch, key(full, 1, 1)).unwrap();
}
