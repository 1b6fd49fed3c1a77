//! A folder that lives in memory and ends with the last clone.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::disk::{Disk, DiskFile, DiskLock, Preparing};

/// Large enough that a read of 256 KiB touches two, small enough that a tiny database stays tiny.
const CHUNK_BYTES: usize = 256 << 10;

/// A folder in memory. Clones are the same folder; it ends with the last of them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    folder: Arc<Folder>,
}

#[derive(Debug, Default)]
struct Folder {
    locked: AtomicBool,
    files: Mutex<HashMap<String, Arc<MemoryFile>>>,
}

/// Chunks have a lock each, so that readers of old data never wait for the writer.
#[derive(Debug, Default)]
struct MemoryFile {
    content: RwLock<Content>,
}

#[derive(Debug, Default)]
struct Content {
    len: u64,
    chunks: Vec<Arc<RwLock<Vec<u8>>>>,
}

#[derive(Debug)]
struct MemoryLock {
    folder: Arc<Folder>,
}

impl MemoryDisk {
    /// An empty folder.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    fn files<T>(&self, work: impl FnOnce(&mut HashMap<String, Arc<MemoryFile>>) -> T) -> T {
        // A panic elsewhere cannot leave the map half changed: every change is one call.
        work(&mut self.folder.files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Disk for MemoryDisk {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        if self.folder.locked.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { folder: Arc::clone(&self.folder) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files(|files| files.keys().cloned().collect()))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files(|files| files.get(name).map(Arc::clone));
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::new(MemoryFile::default());
        self.files(|files| files.insert(name.to_owned(), Arc::clone(&file)));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files(|files| {
            let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            files.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files(|files| files.remove(name)).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn preparing(&self) -> Preparing {
        Preparing::None
    }
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.folder.locked.store(false, Ordering::Release);
    }
}

impl MemoryFile {
    /// The pieces of chunks that `len` bytes from `position` fall into: chunk and range in it.
    fn pieces(position: u64, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut at = position;
        let mut left = len;
        std::iter::from_fn(move || {
            let start = (at % CHUNK_BYTES as u64) as usize;
            let count = left.min(CHUNK_BYTES - start);
            let chunk = (at / CHUNK_BYTES as u64) as usize;
            at += count as u64;
            left -= count;
            (count > 0).then_some((chunk, start, count))
        })
    }

    fn chunk(&self, number: usize) -> Option<Arc<RwLock<Vec<u8>>>> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        content.chunks.get(number).map(Arc::clone)
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.len()?;
        let readable = len.saturating_sub(position).min(buffer.len() as u64) as usize;
        let mut rest = &mut buffer[..readable];
        for (number, start, count) in MemoryFile::pieces(position, readable) {
            let (out, after) = rest.split_at_mut(count);
            rest = after;
            let chunk = self.chunk(number);
            let bytes = chunk.as_ref().map(|c| c.read().unwrap_or_else(PoisonError::into_inner));
            // What was never written reads as zero.
            let bytes = bytes.as_deref().map_or(&[][..], |b| b.get(start..).unwrap_or(&[]));
            let there = bytes.len().min(count);
            out[..there].copy_from_slice(&bytes[..there]);
            out[there..].fill(0);
        }
        Ok(readable)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let end = position + bytes.len() as u64;
        let mut rest = bytes;
        for (number, start, count) in MemoryFile::pieces(position, bytes.len()) {
            let (piece, after) = rest.split_at(count);
            rest = after;
            let chunk = match self.chunk(number) {
                Some(chunk) => chunk,
                None => {
                    let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
                    content.chunks.resize_with(number + 1, Arc::default);
                    Arc::clone(&content.chunks[number])
                }
            };
            let mut chunk = chunk.write().unwrap_or_else(PoisonError::into_inner);
            if chunk.len() < start + count {
                // The chunk grows by doubling, so that a tiny database takes little.
                chunk.resize(start, 0);
                chunk.extend_from_slice(piece);
            } else {
                chunk[start..start + count].copy_from_slice(piece);
            }
        }
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.len = content.len.max(end);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.len = content.len.max(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memory file behaves as a flat array of bytes under writes, reads and growth that cross its
    /// chunks.
    #[test]
    fn files_are_flat_arrays() -> io::Result<()> {
        let disk = MemoryDisk::new();
        let file = disk.create("file")?;
        let mut model: Vec<u8> = Vec::new();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for step in 0..300 {
            let position = random(900_000) as usize;
            let len = random(300_000) as usize;
            match random(8) {
                0 => {
                    model.resize(model.len().max(position), 0);
                    file.allocate(position as u64)?;
                }
                1..4 => {
                    let bytes = vec![step as u8 + 1; len];
                    model.resize(model.len().max(position + len), 0);
                    model[position..position + len].copy_from_slice(&bytes);
                    file.write_at(position as u64, &bytes)?;
                }
                _ => {
                    let mut buffer = vec![0xaa; len];
                    let count = file.read_at(position as u64, &mut buffer)?;
                    let from = position.min(model.len());
                    let upto = (position + len).min(model.len());
                    assert_eq!(&buffer[..count], &model[from..upto], "step {step}");
                }
            }
            assert_eq!(file.len()?, model.len() as u64);
        }
        Ok(())
    }
}
