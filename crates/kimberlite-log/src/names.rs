//! The names of the files in a log's folder.
//!
//! `state-<index>` is reserved for the checkpoints that a later version writes at each seal; this
//! version leaves such files, and every other name that it does not know, alone.

/// Held while the log is open.
pub(crate) const LOCK: &str = "lock";
/// The next segment while it is filled with zeroes. Never holds an entry.
pub(crate) const SPARE: &str = "spare";
/// Room kept for audit and control entries when the disk is full. Never holds an entry.
pub(crate) const RESERVE: &str = "reserve";

/// The file of a segment.
pub(crate) fn segment(number: u64) -> String {
    format!("segment-{number:020}")
}

/// The number of the segment that a file of this name holds.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("segment-")?.parse().ok()?;
    (segment(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names come back as numbers and sort as them; look-alikes are left alone.
    #[test]
    fn names_and_numbers() {
        assert_eq!(segment_number(&segment(17)), Some(17));
        assert_eq!(segment_number(&segment(u64::MAX)), Some(u64::MAX));
        assert!(segment(9) < segment(10));
        for other in ["segment-", "segment-1", "segment-+0000000000000000001", "state-1", "lock"] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }
}
