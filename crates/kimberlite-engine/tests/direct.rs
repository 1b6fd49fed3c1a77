//! Small appends that are committed by the thread that asks for them.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use kimberlite_engine::{EngineOptions, blocking};
use support::*;

/// Where a thread says that it may be blocked, an append that nothing waits with is durable before
/// it is first asked for, while one of a thread that said nothing never is: another commits it.
#[test]
fn a_thread_that_may_block_commits_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(EngineOptions::folder(folder.path()));
    let writer = writer(&engine);
    let stream = writer.stream("direct");
    let batch = events(["event"]);
    let start = || writer.start_append(stream, ANY, &batch, NO_KEY);
    // The commit thread may be about to sleep still, after the append before.
    let direct = (0..1_000).any(|_| {
        let mut append = pin!(blocking(start));
        let ready = append.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if !ready {
            block_on(append).unwrap();
        }
        ready
    });
    assert!(direct, "no append was committed by the thread that asked");
    block_on(start()).unwrap();
    let told = writer.info(stream).unwrap().next_offset;
    assert_eq!(writer.data(stream).len() as u64, told);
}

/// Threads that may all be blocked do not commit one after the other: they share groups.
#[test]
fn threads_that_may_block_share_groups() {
    const THREADS: u64 = 8;
    const APPENDS: u64 = 50;
    let folder = tempfile::tempdir().unwrap();
    let engine = open(EngineOptions::folder(folder.path()));
    let writer = writer(&engine);
    let stream = writer.stream("shared");
    let groups = || engine.commit_stats().groups.load(Ordering::Relaxed);
    let before = groups();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..APPENDS {
                    blocking(|| writer.append(stream, &[b"event"])).unwrap();
                }
            });
        }
    });
    assert_eq!(writer.data(stream).len() as u64, THREADS * APPENDS);
    let made = groups() - before;
    assert!(made < THREADS * APPENDS, "{made} groups");
}
