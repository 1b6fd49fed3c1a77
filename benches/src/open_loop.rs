//! An open loop: calls begin by a fixed schedule, whatever became of those before, and a latency
//! counts from when its call was due. So a stall is paid by every call that it delays, as by the
//! users of a real system, not by the one call that a closed loop would have waiting.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, Stream};

use crate::Failure;
use crate::stats::Latencies;

/// What came of a schedule.
pub struct Outcome {
    /// From when a call was due until its answer.
    pub latencies: Latencies,
    /// Answers a second, from the first call to the last answer.
    pub answered_per_second: f64,
}

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

/// Makes `rate` calls a second for so many seconds, and waits for all answers.
pub fn run<F, E>(rate: f64, seconds: f64, mut call: impl FnMut() -> F) -> Result<Outcome, Failure>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Failure>,
{
    punctual()?;
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    let count = (rate * seconds) as u32;
    let interval = Duration::from_secs_f64(1.0 / rate);
    let mut under_way = FuturesUnordered::new();
    let mut latencies = Vec::with_capacity(count as usize);
    let mut begun = 0;
    let start = Instant::now();
    while latencies.len() < count as usize {
        let now = Instant::now();
        while begun < count && start + interval * begun <= now {
            let due = start + interval * begun;
            begun += 1;
            let call = call();
            under_way.push(async move { call.await.map(|()| due.elapsed()) });
        }
        unpark.woken.store(false, Ordering::Release);
        // Each poll lets new calls begin and takes what was answered.
        while let Poll::Ready(Some(answer)) = Pin::new(&mut under_way).poll_next(&mut context) {
            latencies.push(answer.map_err(Into::into)?);
            if begun < count && start + interval * begun <= Instant::now() {
                break;
            }
        }
        if begun == count {
            if latencies.len() < count as usize && !unpark.woken.load(Ordering::Acquire) {
                thread::park();
            }
            continue;
        }
        let due = start + interval * begun;
        let rest = due.saturating_duration_since(Instant::now());
        if !rest.is_zero() && !unpark.woken.load(Ordering::Acquire) {
            thread::park_timeout(rest);
        }
    }
    let answered_per_second = f64::from(count) / start.elapsed().as_secs_f64();
    Ok(Outcome { latencies: latencies.into(), answered_per_second })
}

/// Linux wakes a thread up to 50 µs late to save power, which would be counted as latency.
#[cfg(target_os = "linux")]
fn punctual() -> Result<(), Failure> {
    Ok(rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?)
}

/// Other systems have no such setting.
#[cfg(not(target_os = "linux"))]
fn punctual() -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One call that stalls the thread makes those after it late, and their latencies say so.
    #[test]
    fn a_stall_is_paid_by_all_that_it_delays() {
        let mut first = true;
        let outcome = run(1000.0, 0.2, || {
            if std::mem::take(&mut first) {
                thread::sleep(Duration::from_millis(100));
            }
            std::future::ready(Ok::<(), Failure>(()))
        });
        let latencies = outcome.unwrap().latencies;
        // Half of the calls were due during the stall; a closed loop would have told of one.
        assert!(latencies.micros(75.0) > 20_000.0);
    }

    /// A call that fails ends the run with its error.
    #[test]
    fn fails_with_the_call() {
        let failed = run(1000.0, 0.01, || std::future::ready(Err::<(), Failure>("no".into())));
        assert_eq!(failed.err().unwrap().to_string(), "no");
    }
}
