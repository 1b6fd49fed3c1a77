//! A queue between threads that post, poll, watch, call back and close.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kimberlite_wire::CompletionKind;
use shuttle::thread::{self, JoinHandle};

use super::*;
use crate::completion::Outcome;
use crate::schedules::explore;

const FOR_EVER: u64 = u64::MAX;

fn queue(with_fd: bool) -> Arc<Queue> {
    Arc::new(Queue::new(with_fd.then(|| WakeFd::new().unwrap())))
}

fn completion(tag: u64) -> Completion {
    Completion::new(tag, tag, CompletionKind::Append, Ok(Outcome::none()))
}

/// Two threads that post two completions each, with the tags from 0 to 3.
fn posters(queue: &Arc<Queue>) -> Vec<JoinHandle<()>> {
    let post = |first: u64| {
        let queue = queue.clone();
        move || [first, first + 1].into_iter().for_each(|tag| queue.post(completion(tag)))
    };
    [0, 2].map(|first| thread::spawn(post(first))).into()
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Takes what is there without waiting.
fn take(queue: &Queue, max: usize) -> Vec<u64> {
    let mut out = Vec::new();
    match queue.poll(&mut out, max, 0) {
        Ok(()) => out.into_iter().map(|completion| completion.into_raw().tag).collect(),
        Err(error) => {
            assert_eq!(error.code, ErrorCode::Closed);
            Vec::new()
        }
    }
}

fn is_readable(fd: i32) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor is told, and one is there.
    (unsafe { libc::poll(&raw mut asked, 1, 0) }) == 1
}

/// Whoever looks at a queue's descriptor finds it readable exactly while there is something.
#[test]
fn the_descriptor_tells_what_is_there() {
    explore(|| {
        let queue = queue(true);
        let threads = posters(&queue);
        let seen = queue.clone();
        let watcher = thread::spawn(move || {
            for _ in 0..4 {
                let state = seen.state();
                let fd = state.fd.as_ref().unwrap().number();
                assert_eq!(is_readable(fd), !state.completions.is_empty());
            }
        });
        let mut taken = 0;
        while taken < 4 {
            let mut out = Vec::new();
            queue.poll(&mut out, 3, FOR_EVER).unwrap();
            taken += out.len();
        }
        join(threads);
        watcher.join().unwrap();
        assert!(!is_readable(queue.state().fd.as_ref().unwrap().number()));
    });
}

/// Four threads that wait for one completion each all get one: none sleeps while there is any.
#[test]
fn nobody_sleeps_while_there_is_something() {
    explore(|| {
        let queue = queue(false);
        let pollers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let mut out = Vec::new();
                    queue.poll(&mut out, 1, FOR_EVER).unwrap();
                    assert_eq!(out.len(), 1);
                })
            })
            .collect();
        join(posters(&queue));
        join(pollers);
        assert!(queue.state().completions.is_empty());
    });
}

/// Two threads that wait for completions take each of them once, and a close ends both.
#[test]
fn every_completion_is_taken_once() {
    explore(|| {
        let queue = queue(false);
        let taken = Arc::new([const { AtomicUsize::new(0) }; 4]);
        let pollers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, taken) = (queue.clone(), taken.clone());
                thread::spawn(move || {
                    loop {
                        let mut out = Vec::new();
                        if let Err(error) = queue.poll(&mut out, 1, FOR_EVER) {
                            return assert_eq!(error.code, ErrorCode::Closed);
                        }
                        for completion in out {
                            let tag = completion.into_raw().tag as usize;
                            taken[tag].fetch_add(1, Ordering::SeqCst);
                        }
                        if taken.iter().all(|count| count.load(Ordering::SeqCst) > 0) {
                            queue.close();
                        }
                    }
                })
            })
            .collect();
        join(posters(&queue));
        join(pollers);
        assert!(taken.iter().all(|count| count.load(Ordering::SeqCst) == 1));
    });
}

/// What a callback works with, and what it found wrong: a panic must not leave a C function.
struct Host {
    queue: Arc<Queue>,
    taken: AtomicUsize,
    running: AtomicBool,
    gone: AtomicBool,
    wrong: AtomicBool,
}

impl Host {
    fn new(queue: &Arc<Queue>) -> Box<Host> {
        Box::new(Host {
            queue: queue.clone(),
            taken: AtomicUsize::new(0),
            running: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            wrong: AtomicBool::new(false),
        })
    }

    fn wake(&self) -> Wake {
        Wake { callback: drain, user_data: std::ptr::from_ref(self).cast_mut().cast() }
    }

    fn look(&self) {
        self.wrong.fetch_or(self.gone.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn taken(&self) -> usize {
        assert!(!self.wrong.load(Ordering::SeqCst), "two calls at a time, or one after the end");
        self.taken.load(Ordering::SeqCst)
    }
}

/// Takes all completions one by one, and looks whether it may run.
unsafe extern "C" fn drain(host: *mut c_void) {
    // SAFETY: each test keeps its host until the end.
    let host = unsafe { &*host.cast::<Host>() };
    host.look();
    host.wrong.fetch_or(host.running.swap(true, Ordering::SeqCst), Ordering::SeqCst);
    loop {
        let taken = take(&host.queue, 1).len();
        host.taken.fetch_add(taken, Ordering::SeqCst);
        host.look();
        if taken == 0 {
            break;
        }
    }
    host.running.store(false, Ordering::SeqCst);
}

/// A callback runs once at a time and is told of everything, though it never looks by itself.
#[test]
fn a_callback_is_told_of_everything() {
    explore(|| {
        let queue = queue(false);
        let host = Host::new(&queue);
        let early = thread::spawn({
            let queue = queue.clone();
            move || queue.post(completion(4))
        });
        queue.set_callback(Some(host.wake())).unwrap();
        join(posters(&queue));
        early.join().unwrap();
        assert_eq!(host.taken(), 5);
        queue.close();
    });
}

/// Once a callback was replaced or taken away, it does not run any more, nor is a call of it under
/// way; the next one is told of what waits.
#[test]
fn a_replaced_callback_is_over() {
    explore(|| {
        let queue = queue(false);
        let (first, second) = (Host::new(&queue), Host::new(&queue));
        queue.set_callback(Some(first.wake())).unwrap();
        let threads = posters(&queue);
        queue.set_callback(Some(second.wake())).unwrap();
        first.gone.store(true, Ordering::SeqCst);
        join(threads);
        assert_eq!(first.taken() + second.taken(), 4);
        queue.set_callback(None).unwrap();
        second.gone.store(true, Ordering::SeqCst);
        queue.post(completion(4));
        assert_eq!((first.taken() + second.taken(), take(&queue, 9)), (4, vec![4]));
    });
}

/// A close in the middle of posts, of a callback, of a wait and of another close: after it nothing
/// runs and nothing is there, and everybody goes on.
#[test]
fn a_close_ends_everything() {
    explore(|| {
        let queue = queue(true);
        let host = Host::new(&queue);
        queue.set_callback(Some(host.wake())).unwrap();
        let mut threads = posters(&queue);
        let waits = queue.clone();
        threads.push(thread::spawn(move || {
            let mut out = Vec::new();
            while waits.poll(&mut out, 1, FOR_EVER).is_ok() {}
        }));
        let closes = queue.clone();
        threads.push(thread::spawn(move || closes.close()));
        queue.close();
        // The first close may still wait for a call that is under way.
        threads.pop().unwrap().join().unwrap();
        host.gone.store(true, Ordering::SeqCst);
        join(threads);
        queue.post(completion(9));
        assert!(host.taken() <= 4 && take(&queue, 9).is_empty());
        assert!(queue.set_callback(Some(host.wake())).is_err());
    });
}
