//! The log on real folders and in memory: what is committed comes back, in place and in order.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Kept, append, bare, command, open_log};
use kimberlite_log::{Disk, EntryKind, FsDisk, LogOptions, MemoryDisk};
use kimberlite_wire::{Error, ErrorCode};

const SMALL: LogOptions =
    LogOptions { segment_bytes: 16 << 10, reserve_bytes: 0, index_cache_bytes: 1 << 20 };

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

/// A second opening of the same folder fails while the first is open, in this process too, and
/// succeeds once that was closed or dropped.
#[test]
fn two_openings_of_a_folder_conflict() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("data");
    let memory = MemoryDisk::new();
    let open = |in_memory: bool| match in_memory {
        true => open_log(Arc::new(memory.clone()), SMALL),
        false => open_log(Arc::new(FsDisk::new(&path)), SMALL),
    };
    for in_memory in [false, true] {
        let first = open(in_memory)?;
        let Err(e) = open(in_memory) else { panic!("the folder was opened twice") };
        assert_eq!(e.code, ErrorCode::Storage);
        assert!(e.detail.contains("another database has this folder open"), "{e}");
        first.writer.close()?;
        let second = open(in_memory)?;
        drop(second.writer);
        open(in_memory)?.writer.close()?;
        // A reader that is left over does not hold the folder.
        second.reader.read_at(1, 0, &mut [0; 4])?;
    }
    Ok(())
}

/// Folders and files belong to their owner alone, and no descriptor reaches programs that this one
/// starts.
#[cfg(target_os = "linux")]
#[test]
fn files_are_private() -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().expect("a folder for the test");
    let folder = outer.path().join("data");
    let mut log = open_log(Arc::new(FsDisk::new(&folder)), LogOptions::default())?;
    log.writer.commit(&[append(1, 100)])?;
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).map(|found| found.permissions().mode() & 0o777).ok()
    };
    assert_eq!(mode(&folder), Some(0o700));
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder is there").flatten() {
        assert_eq!(mode(&entry.path()), Some(0o600), "{:?}", entry.path());
        seen += 1;
    }
    assert_eq!(seen, 3, "lock, reserve and one segment");
    let mut descriptors = 0;
    for entry in std::fs::read_dir("/proc/self/fd").expect("Linux has it").flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if !target.starts_with(&folder) {
            continue;
        }
        let info = std::path::Path::new("/proc/self/fdinfo").join(entry.file_name());
        let info = std::fs::read_to_string(info).expect("the descriptor is open");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0");
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap_or(0);
        assert_ne!(flags & 0o2_000_000, 0, "{target:?} stays open in child programs");
        descriptors += 1;
    }
    assert_eq!(descriptors, 3);
    Ok(())
}

/// A new log is opened in milliseconds and takes one small segment; only one that is written to
/// prepares more, by its thread, in step with the writer.
#[test]
fn new_logs_are_quick_and_small() -> Result<(), Error> {
    let outer = tempfile::tempdir().expect("a folder for the test");
    let folder = outer.path().join("data");
    let len = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |found| found.len());
    let start = Instant::now();
    let mut log = open_log(Arc::new(FsDisk::new(&folder)), LogOptions::default())?;
    log.writer.commit(&[append(1, 100)])?;
    let took = start.elapsed();
    println!("a new log took its first entry after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(len("segment-00000000000000000001"), 1 << 20);
    assert_eq!(len("spare"), 0, "a small log prepares nothing");

    for ordinal in 2..8 {
        log.writer.commit(&[append(ordinal, 100_000)])?;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while len("spare") < 4 << 20 {
        assert!(Instant::now() < deadline, "the next segment is {} bytes", len("spare"));
        std::thread::sleep(Duration::from_millis(5));
    }
    for ordinal in 8..40 {
        log.writer.commit(&[append(ordinal, 200_000)])?;
    }
    assert_eq!(len("segment-00000000000000000002"), 4 << 20);
    log.writer.close()?;
    let log = open_log(Arc::new(FsDisk::new(&folder)), LogOptions::default())?;
    assert_eq!(log.entries.len(), 39);
    Ok(())
}
