//! Which entries count: those of the current sequencer, one after the other.

use crate::entry::{EntryHeader, EntryKind};

/// Where a sequencer's entries stand. An entry of a sequencer that was deposed, or one after a gap,
/// is void: its sequencer judged it on a state that never came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The index of the entry that began the epoch; 0 before the first.
    pub epoch: u64,
    /// The number of the last entry that counted within the epoch.
    pub ordinal: u64,
}

impl Sequence {
    /// Passes an entry; tells whether it counts. For an entry as it is written.
    pub fn admit(&mut self, kind: EntryKind, index: u64, epoch: u64, ordinal: u64) -> bool {
        match kind {
            EntryKind::Begin => {
                (self.epoch, self.ordinal) = (index, 0);
                true
            }
            EntryKind::Blank | EntryKind::Membership => true,
            EntryKind::Append | EntryKind::Command | EntryKind::Time => {
                let counts = epoch == self.epoch && Some(ordinal) == self.ordinal.checked_add(1);
                self.ordinal += u64::from(counts);
                counts
            }
        }
    }

    pub(crate) fn admit_header(&mut self, header: &EntryHeader) -> bool {
        self.admit(header.kind, header.index, header.epoch, header.ordinal)
    }
}
