//! Kimberlite's log: the append-only file set that is the database.
//!
//! A log is a folder of segments. A segment is a header and then groups; a group is a frame and the
//! entries that were written and synced together; an entry holds the blocks of events and the
//! requests that they came from, or one decision of the state machine. Everything else a database
//! knows can be rebuilt by visiting the entries in order.
//!
//! - [`open`] takes the folder for itself, recovers, and visits every committed entry;
//!   [`open_database`] starts with the newest state and visits what comes after it.
//! - [`LogWriter::commit`] makes a group durable with one write and one sync.
//! - [`LogReader`] reads the bytes of entries from any thread, [`LogIndex`] tells where blocks lie.
//! - [`Disk`] is what a log needs of a disk: [`FsDisk`], [`MemoryDisk`], and with the feature
//!   `test-disk` the simulated one that tears and fails.
//!
//! # What is promised
//!
//! - What `commit` returned is there after a crash at any moment, however the disk ordered its
//!   writes; of a group that did not return, whole entries are there or nothing is.
//! - Damage to what is proven to have been durable is reported as CORRUPTION with segment and byte,
//!   and never cut off. A segment that is missing or too short is damage where anything proves that
//!   it was there: a state, a footer, a seal, or a later segment.
//! - A write or sync that fails is final until the log is opened again; a full disk is not.
//!
//! # Files
//!
//! `segment-<number>`, `spare` (the next segment while it is filled with zeroes), `reserve` (room
//! for audit and control entries on a full disk) and `lock`. Beside them, made from the segments
//! and made anew where one is missing or no good: `state-<index>`, what was applied up to an entry,
//! and `footer-<level>-<number>`, where the blocks of a segment lie, or which of sixteen footers of
//! the level below tell of a stream.

mod backlog;
mod bytes_io;
mod disk;
mod entry;
mod errors;
mod facts;
#[cfg(any(test, feature = "test-disk"))]
mod faulty_disk;
mod files;
mod footer;
mod format;
mod fs_disk;
mod group;
#[cfg(unix)]
mod held;
mod index;
mod keeper;
mod memory_disk;
mod names;
mod place;
mod prepare;
mod publish;
mod reader;
mod recover;
mod resume;
mod scan;
mod segment;
mod sequence;
mod space;
mod state_file;
mod writer;

use std::io;
use std::sync::Arc;

use kimberlite_wire::{Error, ErrorCode};

pub use disk::{Disk, DiskFile, DiskLock, Preparing};
pub use entry::{
    ENTRY_HEADER_BYTES, EntryDraft, EntryHeader, EntryKind, EntryPlace, EntryView,
    REQUEST_ROW_BYTES, RequestRow,
};
#[cfg(any(test, feature = "test-disk"))]
pub use faulty_disk::{Fault, FaultyDisk, Tear};
pub use fs_disk::FsDisk;
#[cfg(unix)]
pub use held::held_locks;
pub use index::{LogIndex, PlacePage};
pub use keeper::Database;
pub use memory_disk::MemoryDisk;
pub use place::{BlockPlace, decode_places, decode_times, encode_places, encode_times};
pub use reader::LogReader;
pub use sequence::Sequence;
pub use state_file::StateMachine;
pub use writer::LogWriter;

use files::SegmentFiles;
use recover::Opening;

/// No segment is smaller.
const LEAST_SEGMENT_BYTES: u64 = 4096;

/// How a log lays out its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How large a segment file becomes, in bytes; 4096 at least, 64 MiB by default. The first
    /// ones of a new log are smaller, and an entry that is larger gets a segment as large as it.
    pub segment_bytes: u64,
    /// How many bytes stay reserved for audit and control entries on a full disk; 16 MiB by
    /// default, 0 for none.
    pub reserve_bytes: u64,
    /// How much memory the parts of the index that were used last may take, in bytes; 16 MiB by
    /// default.
    pub index_cache_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_bytes: 64 << 20, reserve_bytes: 16 << 20, index_cache_bytes: 16 << 20 }
    }
}

/// Opens the log of a folder, or makes one where there is none. Recovery visits every committed
/// entry in order, from the first; an error that `visit` returns ends it and is returned.
///
/// STORAGE where the disk fails or another log holds the folder, CORRUPTION where what was durable
/// is damaged or missing, VERSION_MISMATCH where a newer version has written here.
pub fn open(
    disk: Arc<dyn Disk>,
    options: LogOptions,
    visit: &mut dyn FnMut(&EntryView<'_>, EntryPlace) -> Result<(), Error>,
) -> Result<(LogWriter, LogReader), Error> {
    open_for(disk, options, Opening { machine: &mut Visitor(visit), database: None })
}

/// The same for a database that has states: its machine becomes the newest state that can be used,
/// and then applies what comes after it. While the log is open, states are written for complete
/// segments by machines of the database's that see the same entries.
pub fn open_database(
    disk: Arc<dyn Disk>,
    options: LogOptions,
    machine: &mut dyn StateMachine,
    database: Arc<dyn Database>,
) -> Result<(LogWriter, LogReader), Error> {
    open_for(disk, options, Opening { machine, database: Some(database) })
}

fn open_for(
    disk: Arc<dyn Disk>,
    options: LogOptions,
    opening: Opening<'_>,
) -> Result<(LogWriter, LogReader), Error> {
    if options.segment_bytes < LEAST_SEGMENT_BYTES {
        return Err(Error::invalid(format!(
            "segment_bytes is {}; it must be at least {LEAST_SEGMENT_BYTES}",
            options.segment_bytes
        )));
    }
    // There may be no folder yet; whether it can be used shows in the next step.
    let before = disk.list().unwrap_or_default();
    let lock = disk.lock().map_err(|e| lock_error(&e))?;
    let files = Arc::new(SegmentFiles::new(disk));
    let recovered = recover::recover(&files, &options, &before, opening)?;
    let reader = LogReader::new(Arc::clone(&files), recovered.index.clone());
    Ok((LogWriter::new(files, options, lock, recovered), reader))
}

/// A machine that keeps nothing.
struct Visitor<'a>(&'a mut dyn FnMut(&EntryView<'_>, EntryPlace) -> Result<(), Error>);

impl StateMachine for Visitor<'_> {
    fn restore(&mut self, _state: &[u8]) -> Result<(), Error> {
        Err(Error::new(ErrorCode::Internal, "there is no state to go on from"))
    }

    fn apply(&mut self, entry: &EntryView<'_>, place: EntryPlace) -> Result<(), Error> {
        (self.0)(entry, place)
    }

    fn encode(&self, _first_segment: u64) -> Vec<u8> {
        Vec::new()
    }

    fn forget_places(&mut self, _upto_segment: u64) {}
}

fn lock_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        let detail = "another database has this folder open, in this process or another one; \
                      close it, or use another folder";
        return Error::new(ErrorCode::Storage, detail);
    }
    errors::storage("lock the log's folder", error)
}
