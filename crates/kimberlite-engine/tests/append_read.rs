//! Appending and reading: offsets, times, pages, blocks, and what is refused.

mod support;

use bytes::Bytes;
use kimberlite_wire::block::{BlockView, ChainVerifier, genesis};
use kimberlite_wire::*;
use support::*;

fn page(stream_id: u64, from_offset: u64, max_events: u64, max_bytes: u64) -> ReadRequest {
    ReadRequest { stream_id, from_offset, max_events, max_bytes, ..Default::default() }
}

/// Appends get consecutive offsets, growing positions and times that never decrease, and are read
/// back as they were.
#[test]
fn what_was_appended_is_read() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let first = writer.append(stream, &[b"a", b"", b"ccc"]).unwrap();
    let second = writer.append(stream, &[b"d"]).unwrap();
    assert_eq!((first.first_offset, first.count), (0, 3));
    assert_eq!((second.first_offset, second.count), (3, 1));
    assert!(second.position > first.position && second.timestamp_ns >= first.timestamp_ns);
    assert!(engine.position() >= second.position);
    let all = writer.read_all(stream, 0).unwrap();
    assert_eq!(all.iter().map(|e| e.offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(all.iter().map(|e| &e.data[..]).collect::<Vec<_>>(), [&b"a"[..], b"", b"ccc", b"d"]);
    assert_eq!(all[3].timestamp_ns, second.timestamp_ns);
    let info = writer.info(stream).unwrap();
    assert_eq!((info.next_offset, info.data_bytes, info.name.as_str()), (4, 5, "events"));
    assert_eq!(info.last_timestamp_ns, second.timestamp_ns);
}

/// expected_offset is the next offset or any; another is a mismatch that names the next offset and
/// changes nothing.
#[test]
fn expected_offsets_are_judged() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let batch = events(["x"]);
    for offset in 0..3 {
        let done = writer.append_with(stream, offset, &batch, NO_KEY).unwrap();
        assert_eq!(done.first_offset, offset);
    }
    for wrong in [0, 2, 4, u64::MAX - 1] {
        let error = writer.append_with(stream, wrong, &batch, NO_KEY).unwrap_err();
        assert_eq!((error.code, error.value), (ErrorCode::OffsetMismatch, 3));
    }
    assert_eq!(writer.info(stream).unwrap().next_offset, 3);
}

/// What is wrong with an append itself: no events, a damaged payload, an unknown stream.
#[test]
fn bad_appends_are_refused() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let batch = events(["x"]);
    let mut request = AppendRequest {
        stream_id: stream,
        expected_offset: ANY,
        count: 0,
        payload_crc: 0,
        ..Default::default()
    };
    let empty = block_on(writer.start(Request::Append(request.clone()), Bytes::new()));
    assert_eq!(code(empty), ErrorCode::InvalidArgument);
    request.count = 1;
    let damaged = block_on(writer.start(Request::Append(request), batch.payload().clone()));
    assert_eq!(code(damaged), ErrorCode::Protocol);
    let unknown = writer.append(stream + 1, &[b"x"]);
    assert_eq!(code(unknown), ErrorCode::StreamNotFound);
}

/// A read ends after the events or bytes that were asked for, in whole blocks, never without one;
/// at the end it is empty, and beyond it names the next offset.
#[test]
fn reads_are_bounded() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    for number in 0..100u8 {
        writer.append(stream, &[&[number; 50], &[number; 50]]).unwrap();
    }
    let offsets = |request| {
        let (body, events) = writer.read(request).unwrap();
        assert_eq!(body.next_offset, 200);
        (events.first().map(|e| e.offset), events.len())
    };
    assert_eq!(offsets(page(stream, 0, 1, 0)), (Some(0), 2));
    assert_eq!(offsets(page(stream, 1, 1, 0)), (Some(0), 2));
    assert_eq!(offsets(page(stream, 1, 2, 0)), (Some(0), 4));
    assert_eq!(offsets(page(stream, 20, 10, 0)), (Some(20), 10));
    assert_eq!(offsets(page(stream, 20, u64::MAX, 250)), (Some(20), 6));
    assert_eq!(offsets(page(stream, 20, u64::MAX, 1)), (Some(20), 2));
    assert_eq!(offsets(page(stream, 150, u64::MAX, 0)), (Some(150), 50));
    assert_eq!(offsets(page(stream, 200, 1, 0)), (None, 0));
    let beyond = writer.read(page(stream, 201, 1, 0)).unwrap_err();
    assert_eq!((beyond.code, beyond.value), (ErrorCode::OffsetOutOfRange, 200));
    assert_eq!(code(writer.read(page(stream, 0, 0, 0))), ErrorCode::InvalidArgument);
}

/// Large batches become several blocks, which follow each other in the chain; an event that is
/// larger than a block's bound has one of its own; all is read back however small the chunks are.
#[test]
fn large_batches_become_several_blocks() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let mut list: Vec<Vec<u8>> = (0..5000u32).map(|i| i.to_le_bytes().repeat(50)).collect();
    list.insert(77, vec![9; 1 << 20]);
    writer.append_with(stream, 0, &events(&list), NO_KEY).unwrap();
    writer.append(stream, &[b"after"]).unwrap();
    list.push(b"after".to_vec());
    assert_eq!(writer.data(stream), list);

    let request = page(stream, 0, u64::MAX, 0);
    for max_bytes in [1000, 70_001, 1 << 22] {
        let answer = writer.call(Request::Read(request.clone())).unwrap();
        let bytes = drain(answer.payload.unwrap(), max_bytes).unwrap();
        let mut rest = &bytes[..];
        let start = genesis(1, stream, "events", DataClass::NonPhi);
        let mut chain = ChainVerifier::new(start, 0);
        let mut blocks = 0;
        while let Some((block, len)) = BlockView::parse(rest).ok().flatten() {
            chain.check(&block).unwrap();
            rest = &rest[len..];
            blocks += 1;
        }
        assert!(rest.is_empty() && blocks >= 6, "{blocks} blocks");
        assert_eq!(*chain.head(), writer.info(stream).unwrap().head);
    }
}

/// Small appends that are in flight together share blocks, and large ones between them keep their
/// place.
#[test]
fn appends_in_flight_keep_their_order() {
    let engine = memory();
    let writer = writer(&engine);
    let (a, b) = (writer.stream("a"), writer.stream("b"));
    let mut pending = Vec::new();
    let mut expected = (Vec::new(), Vec::new());
    for number in 0..500u32 {
        let large = number % 50 == 7;
        let data = number.to_le_bytes().repeat(if large { 10_000 } else { 10 });
        let stream = if number % 3 == 0 { b } else { a };
        pending.push(writer.start_append(stream, ANY, &events([&data]), NO_KEY));
        let list = if stream == a { &mut expected.0 } else { &mut expected.1 };
        list.push(data);
    }
    for done in pending {
        block_on(done).unwrap();
    }
    assert_eq!(writer.data(a), expected.0);
    assert_eq!(writer.data(b), expected.1);
    for stream in [a, b] {
        assert!(writer.verify(stream).unwrap().valid);
    }
}

/// Many threads append to a few streams; every append is contiguous, and everything is there once.
#[test]
fn many_threads_append() {
    let engine = memory();
    let main = writer(&engine);
    let streams = [main.stream("a"), main.stream("b"), main.stream("c")];
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let writer = writer(&engine);
            scope.spawn(move || {
                for number in 0..200u32 {
                    let stream = streams[(thread + number) as usize % 3];
                    let tag = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                    let batch = events(vec![tag; 1 + (number as usize % 4)]);
                    let done = writer.append_with(stream, ANY, &batch, NO_KEY).unwrap();
                    assert_eq!(done.count, batch.count());
                }
            });
        }
    });
    let mut seen = std::collections::HashMap::new();
    for stream in streams {
        let data = main.data(stream);
        let verified = main.verify(stream).unwrap();
        assert_eq!((verified.valid, verified.count), (true, data.len() as u64));
        for run in data.chunk_by(|a, b| a == b) {
            assert!(seen.insert(run[0].clone(), run.len()).is_none(), "an append was torn apart");
        }
    }
    assert_eq!(seen.len(), 1600);
    for (tag, count) in seen {
        let number = u32::from_le_bytes(tag[4..].try_into().unwrap()) as usize;
        assert_eq!(count, 1 + number % 4);
    }
}

/// A read may demand a position: it waits for one that comes, and times out for one that does not.
#[test]
fn reads_wait_for_a_position() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let done = writer.append(stream, &[b"x"]).unwrap();
    let mut request = page(stream, 0, 10, 0);
    request.min_position = done.position;
    assert_eq!(writer.read(request.clone()).unwrap().1.len(), 1);

    request.min_position = done.position + 3;
    let waiting = writer.start(Request::Read(request.clone()), Bytes::new());
    let waiter = std::thread::spawn(move || block_on(waiting).map(|answer| answer.body));
    for _ in 0..3 {
        writer.append(stream, &[b"y"]).unwrap();
    }
    let Response::Read(body) = waiter.join().unwrap().unwrap() else { panic!("a read") };
    assert!(body.position >= request.min_position);

    request.min_position = u64::MAX;
    let timeout = std::time::Duration::from_millis(30);
    let started = std::time::Instant::now();
    let late = engine.handle(&writer.session, Request::Read(request), Bytes::new(), Some(timeout));
    assert_eq!(code(block_on(late)), ErrorCode::Timeout);
    assert!(started.elapsed() >= timeout);
}

/// Verification gives the count and the head that the stream has.
#[test]
fn verification_agrees() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let empty = writer.verify(stream).unwrap();
    assert_eq!((empty.valid, empty.count), (true, 0));
    assert_eq!(empty.head, genesis(1, stream, "events", DataClass::NonPhi));
    for _ in 0..10 {
        writer.append(stream, &[&[1; 100_000], &[2; 3]]).unwrap();
    }
    let verified = writer.verify(stream).unwrap();
    let info = writer.info(stream).unwrap();
    assert_eq!((verified.valid, verified.count, verified.first_bad_offset), (true, 20, u64::MAX));
    assert_eq!(verified.head, info.head);
}

/// Many threads append to a database in memory, where whoever finds nothing before it commits by
/// itself: every append is there once, in an order that each thread's own fits into, across
/// segments, and what is closed meanwhile is either there or was refused.
#[test]
fn threads_share_a_database_in_memory() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let append = |thread: usize, number: usize| {
        // Larger ones are left to the commit thread, as are those that need a new segment.
        let bytes = if number % 10 == 9 { 40_000 } else { 100 };
        let mut data = vec![0u8; bytes];
        data[0] = thread as u8;
        data[1..5].copy_from_slice(&(number as u32).to_le_bytes());
        writer.append(stream, &[&data]).map(|appended| appended.first_offset)
    };
    let rounds = 300;
    let offsets: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let append = &append;
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                scope.spawn(move || {
                    (0..rounds).map(|number| append(thread, number).unwrap()).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let stored = writer.data(stream);
    assert_eq!(stored.len(), 4 * rounds);
    for (thread, offsets) in offsets.iter().enumerate() {
        assert!(offsets.is_sorted(), "thread {thread}");
        for (number, offset) in offsets.iter().enumerate() {
            let data = &stored[*offset as usize];
            let told = u32::from_le_bytes([data[1], data[2], data[3], data[4]]);
            assert_eq!((data[0] as usize, told as usize), (thread, number));
        }
    }
    let (refused, done) = std::thread::scope(|scope| {
        let append = &append;
        let late = scope.spawn(move || {
            (0..).map(|number| append(9, number)).find_map(Result::err).map(|error| error.code)
        });
        while writer.engine.position() < 4 * rounds as u64 + 50 {
            std::thread::yield_now();
        }
        let done = std::time::Instant::now();
        engine.close();
        (late.join().unwrap(), done.elapsed())
    });
    assert_eq!(refused, Some(ErrorCode::Closed));
    assert!(done < PATIENCE, "{done:?}");
}
