//! Subscriptions: everything, then live, without loss, at the reader's pace.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use kimberlite_wire::*;
use support::*;

/// What is there comes first, what comes later follows, in order and without gaps, from any offset.
#[test]
fn history_then_live() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    for number in 0..10u8 {
        writer.append(stream, &[&[number]]).unwrap();
    }
    let mut all = writer.subscribe(stream, 0).unwrap();
    let mut late = writer.subscribe(stream, 7).unwrap();
    let mut live = writer.subscribe(stream, 10).unwrap();
    assert_eq!(take(&mut *all, 10).len(), 10);
    assert_eq!(take(&mut *late, 3)[0].offset, 7);
    assert!(is_pending(&mut *all) && is_pending(&mut *live));
    writer.append(stream, &[b"new"]).unwrap();
    for subscription in [&mut all, &mut late, &mut live] {
        let events = take(&mut **subscription, 1);
        assert_eq!((events[0].offset, &events[0].data[..]), (10, &b"new"[..]));
    }
    let beyond = writer.subscribe(stream, 12).map(|_| ()).unwrap_err();
    assert_eq!((beyond.code, beyond.value), (ErrorCode::OffsetOutOfRange, 11));
}

/// Many subscriptions over many streams see every event once while many threads append.
#[test]
fn nothing_is_lost_under_load() {
    const EVENTS: usize = 1000;
    let engine = memory();
    let main = writer(&engine);
    let streams: Vec<u64> = (0..3).map(|n| main.stream(&format!("s{n}"))).collect();
    std::thread::scope(|scope| {
        for number in 0..9 {
            let (writer, stream) = (writer(&engine), streams[number % 3]);
            scope.spawn(move || {
                let mut subscription = writer.subscribe(stream, 0).unwrap();
                let events = take(&mut *subscription, EVENTS);
                assert_eq!(events.len(), EVENTS);
                assert!(events.iter().map(|event| event.offset).eq(0..EVENTS as u64));
            });
        }
        for number in 0..6 {
            let (writer, stream) = (writer(&engine), streams[number % 3]);
            scope.spawn(move || {
                for _ in 0..EVENTS / 2 {
                    writer.append(stream, &[b"x"]).unwrap();
                }
            });
        }
    });
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Counter>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A pending subscription is woken by an append to its stream and by no other, so that it need not
/// be asked again and again.
#[test]
fn only_news_wakes() {
    let engine = memory();
    let writer = writer(&engine);
    let (stream, other) = (writer.stream("events"), writer.stream("other"));
    let mut subscription = writer.subscribe(stream, 0).unwrap();
    let counter = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = Waker::from(counter.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(subscription.poll_chunk(&mut cx, 1000).is_pending());
    writer.append(other, &[b"x"]).unwrap();
    writer.append(other, &[b"x"]).unwrap();
    assert_eq!(counter.0.load(Ordering::SeqCst), 0);
    assert!(subscription.poll_chunk(&mut cx, 1000).is_pending());
    writer.append(stream, &[b"x"]).unwrap();
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    assert!(matches!(subscription.poll_chunk(&mut cx, 1000), Poll::Ready(Some(Ok(_)))));
}

/// Chunks are as small as they are asked to be, also within a block, and live blocks follow where
/// the last one was cut.
#[test]
fn chunks_are_as_small_as_wanted() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    writer.append(stream, &[&[1; 1000]]).unwrap();
    let mut subscription = writer.subscribe(stream, 0).unwrap();
    let mut bytes = Vec::new();
    while bytes.len() < 1000 {
        bytes.extend(next_chunk(&mut *subscription, 100).unwrap().unwrap());
    }
    writer.append(stream, &[&[2; 1000]]).unwrap();
    while !is_pending_after(&mut bytes, &mut *subscription) {}
    let events = parse(&bytes);
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].data, [2; 1000]);
}

fn is_pending_after(
    bytes: &mut Vec<u8>,
    stream: &mut dyn kimberlite_engine::PayloadStream,
) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    match stream.poll_chunk(&mut cx, 77) {
        Poll::Ready(chunk) => {
            bytes.extend(chunk.unwrap().unwrap());
            false
        }
        Poll::Pending => true,
    }
}

/// Closing the engine ends a subscription with an error, at once, whether it waits or not.
#[test]
fn closing_ends_subscriptions() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    writer.append(stream, &[b"x"]).unwrap();
    let mut waiting = writer.subscribe(stream, 1).unwrap();
    let mut busy = writer.subscribe(stream, 0).unwrap();
    let waiter = std::thread::spawn(move || next_chunk(&mut *waiting, 1000));
    std::thread::sleep(Duration::from_millis(20));
    let started = Instant::now();
    engine.close();
    assert_eq!(waiter.join().unwrap().unwrap().unwrap_err().code, ErrorCode::Closed);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(next_chunk(&mut *busy, 1000).unwrap().unwrap_err().code, ErrorCode::Closed);
    assert!(next_chunk(&mut *busy, 1000).is_none());
}
