//! Numbers that must not be taken for one another.

use std::fmt;

/// A place in a stream: 0 is its first event's, and there are no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub u64);

impl Offset {
    /// The first event's.
    pub const START: Offset = Offset(0);
}

impl From<u64> for Offset {
    fn from(offset: u64) -> Offset {
        Offset(offset)
    }
}

impl From<Offset> for u64 {
    fn from(offset: Offset) -> u64 {
        offset.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where the first event landed; the others follow without gaps.
    pub first_offset: Offset,
    /// Where the next append will land, unless another one comes between.
    pub next_offset: Offset,
    /// The commit time, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// The position of the append: what a later read may ask to see, see
    /// [`CallOptions`](crate::CallOptions).
    pub position: u64,
}

impl From<kimberlite_client::Appended> for Appended {
    fn from(appended: kimberlite_client::Appended) -> Appended {
        Appended {
            first_offset: Offset(appended.first_offset),
            next_offset: Offset(appended.first_offset.saturating_add(appended.count.into())),
            timestamp_ns: appended.timestamp_ns,
            position: appended.position,
        }
    }
}
