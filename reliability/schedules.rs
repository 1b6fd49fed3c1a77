//! Runs a test under many schedules of its threads: part of the tests of those crates whose threads
//! meet by hand, when they are built with `--cfg shuttle`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// So many schedules of each kind, unless KIMBERLITE_ROUNDS tells another number.
const SCHEDULES: u64 = 10_000;
/// How often a schedule of the second kind lets another thread overtake.
const OVERTAKES: usize = 3;
/// What a thread of a test has room for: opening a database takes more than shuttle's default.
const STACK_BYTES: usize = 1 << 20;

/// Tests share what is global in a crate, which schedules do not protect from other tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Tells how many schedules there were until one failed.
struct Count(Arc<AtomicU64>);

impl Drop for Count {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("schedule {} failed", self.0.load(Ordering::Relaxed));
        }
    }
}

/// Runs `test` with threads that go on in random order, then with threads of random importance. A
/// thread that waits for ever fails it. KIMBERLITE_SEED runs other schedules, or the same again.
pub(crate) fn explore(test: impl Fn() + Send + Sync + 'static) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let schedules = number("KIMBERLITE_ROUNDS").unwrap_or(SCHEDULES) as usize;
    let seed = number("KIMBERLITE_SEED").unwrap_or(1);
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true;
    let count = Count(Arc::default());
    let test = Arc::new(test);
    let counted = || {
        let (test, count) = (Arc::clone(&test), Arc::clone(&count.0));
        move || {
            count.fetch_add(1, Ordering::Relaxed);
            test();
        }
    };
    Runner::new(RandomScheduler::new_from_seed(seed, schedules), config.clone()).run(counted());
    Runner::new(PctScheduler::new_from_seed(seed, OVERTAKES, schedules), config).run(counted());
}
