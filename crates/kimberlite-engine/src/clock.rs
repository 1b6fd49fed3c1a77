//! The time that commits are stamped with.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kimberlite_wire::{Error, ErrorCode};

use crate::sync::Mutex;
use crate::waiters::lock;

/// Where an engine takes the time from; tests bring their own.
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds since the Unix epoch by the wall clock, which may jump.
    fn wall_ns(&self) -> u64;

    /// Nanoseconds since some fixed moment, which never jump; time asleep counts where the system
    /// can tell.
    fn monotonic_ns(&self) -> u64;
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> u64 {
        // A clock before 1970 counts as 1970; one beyond 2554 stays at its end.
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    #[cfg(unix)]
    fn monotonic_ns(&self) -> u64 {
        use rustix::time::{ClockId, clock_gettime};
        // On Linux the plain monotonic clock stands still while the machine sleeps, which would
        // make waking up look like a jump of the wall clock.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let id = ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let id = ClockId::Monotonic;
        let now = clock_gettime(id);
        (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
    }

    #[cfg(not(unix))]
    fn monotonic_ns(&self) -> u64 {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How far the wall clock may run ahead of the monotonic one between two commits.
const MAX_JUMP_NS: u64 = 3_600 * 1_000_000_000;

/// The time of commits: the wall clock, but never behind the log, and not after a jump ahead, which
/// the log could never take back.
#[derive(Debug)]
pub(crate) struct CommitClock {
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

/// What the clocks said when they were last believed.
#[derive(Debug)]
struct Seen {
    wall_ns: u64,
    monotonic_ns: u64,
}

impl CommitClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> CommitClock {
        let seen = Seen { wall_ns: clock.wall_ns(), monotonic_ns: clock.monotonic_ns() };
        CommitClock { clock, seen: Mutex::new(seen) }
    }

    /// The time for an entry after one of `last_ns`. INTERNAL while the wall clock is not to be
    /// believed: until it is back, or [`CommitClock::confirm`].
    pub(crate) fn commit_ns(&self, last_ns: u64) -> Result<u64, Error> {
        let (wall_ns, monotonic_ns) = (self.clock.wall_ns(), self.clock.monotonic_ns());
        let mut seen = lock(&self.seen);
        let passed_ns = monotonic_ns.saturating_sub(seen.monotonic_ns);
        let ahead_ns = wall_ns.saturating_sub(seen.wall_ns.saturating_add(passed_ns));
        if ahead_ns > MAX_JUMP_NS {
            let ahead_s = ahead_ns / 1_000_000_000;
            let detail = format!(
                "the system clock jumped {ahead_s} s ahead while the database was open; nothing is \
                 written until it is set right, or an operator confirms it"
            );
            return Err(Error::new(ErrorCode::Internal, detail));
        }
        *seen = Seen { wall_ns, monotonic_ns };
        Ok(wall_ns.max(last_ns))
    }

    /// The newest time that a cut can be asked for, given the last entry's.
    pub(crate) fn now_ns(&self, last_ns: u64) -> u64 {
        self.clock.wall_ns().max(last_ns)
    }

    /// Believes the wall clock as it is.
    pub(crate) fn confirm(&self) {
        let seen = Seen { wall_ns: self.clock.wall_ns(), monotonic_ns: self.clock.monotonic_ns() };
        *lock(&self.seen) = seen;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Hands {
        wall_s: AtomicU64,
        monotonic_s: AtomicU64,
    }

    impl Clock for Hands {
        fn wall_ns(&self) -> u64 {
            self.wall_s.load(Ordering::SeqCst) * 1_000_000_000
        }

        fn monotonic_ns(&self) -> u64 {
            self.monotonic_s.load(Ordering::SeqCst) * 1_000_000_000
        }
    }

    fn set(hands: &Hands, wall_s: u64, monotonic_s: u64) {
        hands.wall_s.store(wall_s, Ordering::SeqCst);
        hands.monotonic_s.store(monotonic_s, Ordering::SeqCst);
    }

    const S: u64 = 1_000_000_000;

    /// A clock behind the log is taken as the log's time; one that goes on with the monotonic clock
    /// is believed however long it took.
    #[test]
    fn time_never_goes_back() {
        let hands = Arc::new(Hands::default());
        set(&hands, 1_000, 0);
        let clock = CommitClock::new(hands.clone());
        assert_eq!(clock.commit_ns(0), Ok(1_000 * S));
        assert_eq!(clock.commit_ns(2_000 * S), Ok(2_000 * S));
        set(&hands, 500, 10);
        assert_eq!(clock.commit_ns(2_000 * S), Ok(2_000 * S));
        set(&hands, 1_000_500, 1_000_010);
        assert_eq!(clock.commit_ns(2_000 * S), Ok(1_000_500 * S));
    }

    /// A jump ahead of more than an hour stops commits until the clock is back or confirmed.
    #[test]
    fn a_jump_ahead_stops_commits() {
        let hands = Arc::new(Hands::default());
        let clock = CommitClock::new(hands.clone());
        set(&hands, 3_600, 0);
        assert!(clock.commit_ns(0).is_ok());
        set(&hands, 7_300, 50);
        assert!(clock.commit_ns(0).is_err() == (7_300 - 3_600 - 50 > 3_600));
        set(&hands, 8_000, 60);
        let error = clock.commit_ns(0).unwrap_err();
        assert_eq!(error.code, ErrorCode::Internal);
        assert!(error.detail.contains("clock jumped"), "{error}");
        set(&hands, 3_700, 100);
        assert_eq!(clock.commit_ns(0), Ok(3_700 * S));
        set(&hands, 100_000, 101);
        assert!(clock.commit_ns(0).is_err());
        clock.confirm();
        assert_eq!(clock.commit_ns(0), Ok(100_000 * S));
    }
}
