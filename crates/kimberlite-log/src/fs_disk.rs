//! A folder of the file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, DiskLock, Preparing};
#[cfg(unix)]
use crate::held::Held;
use crate::names;

/// A folder of the file system. It and its files are made accessible to their owner alone; every
/// descriptor is closed in programs that this one starts.
#[derive(Clone, Debug)]
pub struct FsDisk {
    folder: PathBuf,
}

#[derive(Debug)]
struct FsFile {
    file: File,
}

/// Locks belong to the open file, not to the process, so that two logs in one process conflict.
#[derive(Debug)]
struct FsLock {
    file: File,
    #[cfg(unix)]
    held: Option<Held>,
}

impl FsDisk {
    /// The disk of a folder, which is made when the log is opened; so are the folders above it.
    pub fn new(folder: impl Into<PathBuf>) -> FsDisk {
        FsDisk { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the folder and those above it where they are missing, for their owner alone, and makes
    /// their names durable from the top down.
    pub fn make_folder(&self) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut at = self.folder.as_path();
        while !at.as_os_str().is_empty() && !at.exists() {
            missing.push(at);
            match at.parent() {
                Some(parent) => at = parent,
                None => break,
            }
        }
        for folder in missing.into_iter().rev() {
            match make_private_folder(folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
            sync_folder(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }
}

impl Disk for FsDisk {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        // The folder is what the caller named, so that an error names it too.
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.folder.display()));
        self.make_folder().map_err(named)?;
        let mut options = private_options();
        let options = options.create(true).truncate(false);
        let file = options.open(self.path(names::LOCK)).map_err(named)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(FsLock {
                #[cfg(unix)]
                held: Some(Held::new(file.as_raw_fd())),
                file,
            })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // The log's own names are ASCII, so that a name which is not UTF-8 is none of them.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = private_options().open(self.path(name))?;
        Ok(Arc::new(FsFile { file }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = private_options().create(true).truncate(true).open(self.path(name))?;
        Ok(Arc::new(FsFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_folder(&self.folder)
    }

    fn preparing(&self) -> Preparing {
        Preparing::Background
    }
}

impl DiskLock for FsLock {}

impl Drop for FsLock {
    fn drop(&mut self) {
        // The number may be another file's right after this.
        #[cfg(unix)]
        drop(self.held.take());
        // Unlocking, and not only closing, lets go even where a forked child holds a copy of the
        // descriptor. A failure leaves what closing does by itself.
        let _ = self.file.unlock();
    }
}

impl DiskFile for FsFile {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match read_some(&self.file, position + done as u64, &mut buffer[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match write_some(&self.file, position + done as u64, &bytes[done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn write_parts_at(&self, position: u64, parts: &[&[u8]]) -> io::Result<()> {
        /// The most parts that the system takes in one call.
        const MOST_PARTS: usize = 1024;
        let mut slices: Vec<io::IoSlice<'_>> = parts.iter().map(|p| io::IoSlice::new(p)).collect();
        let mut rest = &mut slices[..];
        let mut at = position;
        while !rest.is_empty() {
            let few = rest.len().min(MOST_PARTS);
            match rustix::io::pwritev(&self.file, &rest[..few], at) {
                Ok(0) if rest[..few].iter().any(|part| !part.is_empty()) => {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                Ok(count) => {
                    at += count as u64;
                    io::IoSlice::advance_slices(&mut rest, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        allocate(&self.file, len)
    }
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Elsewhere a folder inherits who may enter it.
#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Other systems make names durable with the files, and cannot open a folder for syncing.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn read_some(file: &File, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(unix)]
fn write_some(file: &File, position: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, position)
}

#[cfg(windows)]
fn read_some(file: &File, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}

#[cfg(windows)]
fn write_some(file: &File, position: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, position)
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        other => Ok(other?),
    }
}

/// NTFS takes the room for what a file is long; it is not sparse unless asked to be.
#[cfg(windows)]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", windows)))]
fn allocate(_file: &File, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many parts, more than the system takes in one call and some of them empty, arrive as one
    /// run of bytes at their position.
    #[test]
    fn parts_are_written_one_after_the_other() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let disk = FsDisk::new(folder.path());
        let file = disk.create("file")?;
        let bytes: Vec<u8> = (0..50_000u32).map(|i| (i % 251) as u8).collect();
        let mut parts: Vec<&[u8]> = bytes.chunks(17).collect();
        parts.insert(0, &[]);
        parts.insert(1500, &[]);
        parts.push(&[]);
        file.write_parts_at(1000, &parts)?;
        let mut read = vec![1; 60_000];
        assert_eq!(file.read_at(0, &mut read)?, 51_000);
        assert!(read[..1000].iter().all(|byte| *byte == 0));
        assert_eq!(&read[1000..51_000], &bytes[..]);
        file.write_parts_at(0, &[&[], &[]])
    }
}
