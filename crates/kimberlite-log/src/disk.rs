//! What the log asks of a disk: files in one folder, and nothing else.
//!
//! The trait is small so that tests can stand in for it and tear, lose, fail and fill at will.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A folder of files.
pub trait Disk: Send + Sync + Debug {
    /// Takes the folder for this log alone, until the guard is dropped. Fails with `WouldBlock`
    /// where another log holds it, in this process or in another.
    fn lock(&self) -> io::Result<Box<dyn DiskLock>>;

    /// The names of the files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file; one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, which may be open, in the place of one that has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names durable: what was created, renamed and removed before stays so.
    fn sync_names(&self) -> io::Result<()>;

    /// How segments are filled with zeroes before they are written to.
    fn preparing(&self) -> Preparing;
}

/// How segments are filled with zeroes before they are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparing {
    /// Not at all, nor is room reserved: for memory, which has nothing to gain.
    None,
    /// Only when the writer needs the room: for tests that count what a log does.
    Foreground,
    /// Ahead of the writer, by a thread of the log's own.
    Background,
}

/// Holds a folder's lock; dropping it lets go.
pub trait DiskLock: Send + Sync + Debug {}

/// An open file. Every method may be called from any thread; the log never writes the same bytes
/// from two threads at once.
#[allow(clippy::len_without_is_empty, reason = "the log never asks whether a file is empty")]
pub trait DiskFile: Send + Sync + Debug {
    /// Reads at a position until the buffer is full or the file ends; returns how much was read.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at a position; the file grows as needed.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes all parts, one after the other, at a position; in one call to the system where that
    /// is possible.
    fn write_parts_at(&self, position: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut at = position;
        for part in parts {
            self.write_at(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Makes everything written before durable, and the length with it.
    fn sync_data(&self) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Makes the file `len` bytes long and takes the room for it, so that writing into it later
    /// cannot run out of space. What is added reads as zero. `Unsupported` where a file system
    /// has no such thing.
    fn allocate(&self, len: u64) -> io::Result<()>;
}
