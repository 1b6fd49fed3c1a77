//! The names of the files in a log's folder. Every other name is left alone.

/// Held while the log is open.
pub(crate) const LOCK: &str = "lock";
/// The next segment while it is filled with zeroes. Never holds an entry.
pub(crate) const SPARE: &str = "spare";
/// Room kept for audit and control entries when the disk is full. Never holds an entry.
pub(crate) const RESERVE: &str = "reserve";
/// Ends the name of a file that is not whole yet.
const UNFINISHED: &str = ".unfinished";

/// The file of a segment.
pub(crate) fn segment(number: u64) -> String {
    format!("segment-{number:020}")
}

/// The number of the segment that a file of this name holds.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("segment-")?.parse().ok()?;
    (segment(number) == name).then_some(number)
}

/// The file of a state: what was applied up to this index.
pub(crate) fn state(index: u64) -> String {
    format!("state-{index:020}")
}

/// The index of the state that a file of this name holds.
pub(crate) fn state_index(name: &str) -> Option<u64> {
    let index = name.strip_prefix("state-")?.parse().ok()?;
    (state(index) == name).then_some(index)
}

/// The file of a footer.
pub(crate) fn footer(level: u8, number: u64) -> String {
    format!("footer-{level}-{number:020}")
}

/// The level and number of the footer that a file of this name holds.
pub(crate) fn footer_number(name: &str) -> Option<(u8, u64)> {
    let (level, number) = name.strip_prefix("footer-")?.split_once('-')?;
    let (level, number) = (level.parse().ok()?, number.parse().ok()?);
    (footer(level, number) == name).then_some((level, number))
}

/// The name of a file until it is whole.
pub(crate) fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED}")
}

/// Whether this is what is left of a file that was never finished.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED)
        .is_some_and(|name| state_index(name).is_some() || footer_number(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names come back as numbers and sort as them; look-alikes are left alone.
    #[test]
    fn names_and_numbers() {
        assert_eq!(segment_number(&segment(17)), Some(17));
        assert_eq!(segment_number(&segment(u64::MAX)), Some(u64::MAX));
        assert_eq!(state_index(&state(9)), Some(9));
        assert_eq!(footer_number(&footer(2, 9)), Some((2, 9)));
        assert!(segment(9) < segment(10) && state(9) < state(10));
        assert!(is_unfinished(&unfinished(&state(1))) && !is_unfinished("mine.unfinished"));
        for other in ["segment-", "segment-1", "segment-+0000000000000000001", "state-1", "lock"] {
            assert_eq!(segment_number(other), None, "{other}");
            assert_eq!(state_index(other), None, "{other}");
            assert_eq!(footer_number(other), None, "{other}");
        }
    }
}
