//! Log lines from several threads while the callback is replaced by several others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use shuttle::thread;

use super::*;
use crate::schedules::explore;

/// What a callback works with, and what it found wrong: a panic must not leave a C function.
#[derive(Default)]
struct Host {
    lines: AtomicUsize,
    running: AtomicBool,
    gone: AtomicBool,
    wrong: AtomicBool,
    /// Taken away from within the call, once.
    leaves: Option<&'static Log>,
}

impl Host {
    fn sink(self: &Arc<Host>) -> Option<Sink> {
        Some(Sink { callback: note, user_data: Arc::as_ptr(self).cast_mut().cast() })
    }

    fn look(&self) {
        self.wrong.fetch_or(self.gone.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Its callback has been replaced: no call may be under way or follow.
    fn over(&self) {
        assert!(!self.running.load(Ordering::SeqCst), "a call is under way");
        self.gone.store(true, Ordering::SeqCst);
    }

    fn lines(&self) -> usize {
        assert!(!self.wrong.load(Ordering::SeqCst), "two calls at a time, or one after the end");
        self.lines.load(Ordering::SeqCst)
    }
}

unsafe extern "C" fn note(
    host: *mut c_void,
    _level: u32,
    _target: *const c_char,
    _target_len: usize,
    _message: *const c_char,
    _message_len: usize,
) {
    // SAFETY: each test keeps its host until the end.
    let host = unsafe { &*host.cast::<Host>() };
    host.look();
    host.wrong.fetch_or(host.running.swap(true, Ordering::SeqCst), Ordering::SeqCst);
    host.lines.fetch_add(1, Ordering::SeqCst);
    // Others get a chance to run, as they do while a callback works.
    thread::yield_now();
    if let Some(log) = host.leaves {
        let _ = log.replace(None, 0);
    }
    host.look();
    host.running.store(false, Ordering::SeqCst);
}

/// A log for one schedule: like the real one it is never freed.
fn log() -> &'static Log {
    Box::leak(Box::new(Log::new()))
}

fn says(log: &'static Log, lines: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..lines {
            let (target, message) = (String::new(), String::new());
            log.push(Line { level: LogLevel::Error, target, message });
        }
    })
}

/// While two threads log, one callback follows another: the first is over when the second is set,
/// the second when it is taken away, and the thread as well.
#[test]
fn a_replaced_callback_is_over() {
    explore(|| {
        let log = log();
        let (first, second) = (Arc::new(Host::default()), Arc::new(Host::default()));
        log.replace(first.sink(), 5).unwrap();
        let speakers = [says(log, 2), says(log, 1)];
        log.replace(second.sink(), 5).unwrap();
        first.over();
        speakers.into_iter().for_each(|speaker| speaker.join().unwrap());
        log.replace(None, 0).unwrap();
        second.over();
        assert!(log.state().thread.is_none());
        assert!(first.lines() + second.lines() <= 3);
    });
}

/// Every line reaches the callback that stays.
#[test]
fn no_line_is_forgotten() {
    explore(|| {
        let log = log();
        let host = Arc::new(Host::default());
        log.replace(host.sink(), 5).unwrap();
        let speakers = [says(log, 2), says(log, 1)];
        speakers.into_iter().for_each(|speaker| speaker.join().unwrap());
        let mut state = log.state();
        while !state.lines.is_empty() || state.calling.is_some() {
            state = log.returned.wait(state).unwrap();
        }
        drop(state);
        assert_eq!(host.lines(), 3);
        log.replace(None, 0).unwrap();
        host.over();
    });
}

/// One thread takes the callback away while another sets one: neither waits for the other's to be
/// taken away, and the log goes on with whichever came last.
#[test]
fn two_who_replace_do_not_wait_for_each_other() {
    explore(|| {
        let log = log();
        let (first, second) = (Arc::new(Host::default()), Arc::new(Host::default()));
        log.replace(first.sink(), 5).unwrap();
        let speaker = says(log, 1);
        let takes_away = thread::spawn(move || log.replace(None, 0).unwrap());
        log.replace(second.sink(), 5).unwrap();
        first.over();
        takes_away.join().unwrap();
        speaker.join().unwrap();
        let state = log.state();
        assert_eq!(state.sink.is_some(), state.thread.is_some());
        drop(state);
        log.replace(None, 0).unwrap();
        second.over();
        assert!(first.lines() + second.lines() <= 1);
    });
}

/// A callback may take itself away.
#[test]
fn a_callback_leaves_from_within() {
    explore(|| {
        let log = log();
        let host = Arc::new(Host { leaves: Some(log), ..Host::default() });
        log.replace(host.sink(), 5).unwrap();
        let speakers = [says(log, 2), says(log, 1)];
        speakers.into_iter().for_each(|speaker| speaker.join().unwrap());
        log.replace(None, 0).unwrap();
        host.over();
        assert!(host.lines() <= 1);
    });
}
