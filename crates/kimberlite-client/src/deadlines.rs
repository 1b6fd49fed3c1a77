//! Timers for any executor, cheap where they rarely fire.
//!
//! Nearly every call ends long before its deadline, so arming and disarming touch one ordered map;
//! the thread behind it is woken only where a deadline is earlier than the one that it waits for.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use kimberlite_wire::Error;
use tokio::sync::Notify;

use crate::{process, runtime};

type Key = (Instant, u64);

#[derive(Default)]
struct Table {
    wakers: BTreeMap<Key, Waker>,
    next_id: u64,
    /// When the task looks at the table next, at the latest.
    armed: Option<Instant>,
    started: bool,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);
static EARLIER: Notify = Notify::const_new();

fn table() -> std::sync::MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A moment that a future may wait for beside something else.
#[derive(Debug)]
pub(crate) struct Timer {
    at: Instant,
    key: Option<Key>,
}

impl Timer {
    /// A timer for a moment; it takes no room in the table before it is polled.
    pub(crate) const fn at(at: Instant) -> Timer {
        Timer { at, key: None }
    }

    pub(crate) fn after(duration: Duration) -> Timer {
        let now = Instant::now();
        // A duration beyond the clock's range is as good as a century.
        Timer::at(now.checked_add(duration).unwrap_or(now + Duration::from_secs(3_155_760_000)))
    }

    /// Ready once the moment has come. Fails where the runtime cannot be started.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if Instant::now() >= self.at {
            return Poll::Ready(Ok(()));
        }
        let mut table = table();
        if !table.started {
            let handle = match runtime::handle() {
                Ok(handle) => handle,
                Err(e) => return Poll::Ready(Err(e)),
            };
            table.started = true;
            handle.spawn(run());
        }
        let key = *self.key.get_or_insert_with(|| {
            table.next_id += 1;
            (self.at, table.next_id)
        });
        match table.wakers.get_mut(&key) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                table.wakers.insert(key, context.waker().clone());
            }
        }
        if table.armed.is_none_or(|armed| self.at < armed) {
            table.armed = Some(self.at);
            EARLIER.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.key
            && !process::is_forked()
        {
            let waker = table().wakers.remove(&key);
            // A waker's own destructor runs outside the lock.
            drop(waker);
        }
    }
}

/// Sleeps under any executor.
pub(crate) async fn sleep(duration: Duration) -> Result<(), Error> {
    let mut timer = Timer::after(duration);
    std::future::poll_fn(|context| timer.poll(context)).await
}

async fn run() {
    loop {
        let now = Instant::now();
        let (due, next) = {
            let mut table = table();
            let later = table.wakers.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut table.wakers, later);
            table.armed = table.wakers.first_key_value().map(|(key, _)| key.0);
            (due, table.armed)
        };
        due.into_values().for_each(Waker::wake);
        match next {
            Some(at) => {
                let _ = tokio::time::timeout_at(at.into(), EARLIER.notified()).await;
            }
            None => EARLIER.notified().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    /// Timers fire in order of their moments, whatever the order in which they were armed.
    #[test]
    fn fires_an_earlier_timer_first() {
        let started = Instant::now();
        let late = std::thread::spawn(|| block_on(sleep(Duration::from_millis(300))));
        std::thread::sleep(Duration::from_millis(20));
        assert!(block_on(sleep(Duration::from_millis(30))).is_ok());
        assert!(started.elapsed() < Duration::from_millis(250));
        assert!(late.join().is_ok());
        assert!(started.elapsed() >= Duration::from_millis(300));
    }
}
