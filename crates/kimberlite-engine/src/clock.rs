//! The time that commits are stamped with.

use std::fmt::Debug;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where an engine takes the time from; tests bring their own.
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds since the Unix epoch by the wall clock, which may jump.
    fn wall_ns(&self) -> u64;

    /// Nanoseconds since some fixed moment, which never jump; time asleep counts where the system
    /// can tell.
    fn monotonic_ns(&self) -> u64;
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// The clocks of the operating system.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn wall_ns(&self) -> u64 {
        // A clock before 1970 counts as 1970; one beyond 2554 stays at its end.
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
