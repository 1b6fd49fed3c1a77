//! The log on real folders and in memory: what is committed comes back, in place and in order.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Kept, append, bare, command, open_log};
use kimberlite_log::{Disk, EntryKind, FsDisk, LogOptions, MemoryDisk};
use kimberlite_wire::{Error, ErrorCode};

const SMALL: LogOptions = LogOptions { segment_bytes: 16 << 10, reserve_bytes: 0 };

/// Every kind of entry comes back after a close, across many segments and groups of many sizes, and
/// the reader finds each at its place.
fn round_trip(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(), Error> {
    let mut expected: Vec<Kept> = Vec::new();
    let mut ordinal = 0;
    let mut log_id = None;
    for round in 0..4 {
        let mut log = open_log(Arc::clone(&disk), options)?;
        let entries: Vec<_> = log.entries.iter().map(|(kept, _)| kept.clone()).collect();
        assert_eq!(entries, expected, "round {round}");
        assert_eq!(*log_id.get_or_insert(log.writer.log_id()), log.writer.log_id());
        for group in 1..40 {
            let mut drafts = vec![bare(EntryKind::Begin, ordinal)];
            for number in 0..group % 7 {
                ordinal += 1;
                drafts.push(append(ordinal, (group * 97 * (number + 1)) % 9000));
                drafts.push(command(ordinal, (group * 13) % 50));
            }
            drafts.push(bare(EntryKind::Time, ordinal));
            let places = log.writer.commit(&drafts)?;
            assert_eq!(places.len(), drafts.len());
            expected.extend(drafts.iter().map(Kept::from));
            assert_eq!(log.writer.next_index(), expected.len() as u64 + 1);
            assert_eq!(log.writer.last_timestamp_ns(), ordinal);
            for (place, draft) in places.iter().zip(&drafts) {
                let mut bytes = vec![0; place.entry_len as usize];
                log.reader.read_at(place.segment, place.position, &mut bytes)?;
                assert!(bytes.starts_with(b"KMBE"));
                assert!(bytes.ends_with(&draft.blocks) && bytes.ends_with(&draft.command));
            }
        }
        if round % 2 == 0 {
            log.writer.close()?;
        }
    }
    Ok(())
}

#[test]
fn what_is_committed_comes_back_in_memory() -> Result<(), Error> {
    round_trip(Arc::new(MemoryDisk::new()), SMALL)?;
    round_trip(Arc::new(MemoryDisk::new()), LogOptions::default())
}

#[test]
fn what_is_committed_comes_back_from_a_folder() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    round_trip(Arc::new(FsDisk::new(folder.path().join("a/b/c"))), SMALL)?;
    round_trip(Arc::new(FsDisk::new(folder.path().join("large"))), LogOptions::default())
}
