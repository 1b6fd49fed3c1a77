//! How a disk's errors become the errors that callers see.

use std::io;

use kimberlite_wire::{Error, ErrorCode};

/// Whether there is no room, rather than a disk that fails.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// STORAGE: what was tried and what the system said.
pub(crate) fn storage(what: impl std::fmt::Display, error: &io::Error) -> Error {
    Error::new(ErrorCode::Storage, format!("cannot {what}: {error}"))
}

/// STORAGE: no room; nothing was written.
pub(crate) fn full(what: impl std::fmt::Display, error: &io::Error) -> Error {
    let detail = format!(
        "cannot {what}: {error}; nothing of this group was written, everything acknowledged \
         stays, and appending goes on once there is space"
    );
    Error::new(ErrorCode::Storage, detail)
}

/// CORRUPTION at a byte of a segment; the value is the byte.
pub(crate) fn corrupt(segment: u64, position: u64, why: impl std::fmt::Display) -> Error {
    let file = crate::names::segment(segment);
    let detail = format!(
        "segment {segment} (file {file}) is damaged at byte {position}: {why}; restore this file \
         from another member or a backup"
    );
    Error::new(ErrorCode::Corruption, detail).with_value(position)
}
