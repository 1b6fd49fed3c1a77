//! How far an import got, in a file beside the imported one.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome, exit};

/// How far an import got. What the stream holds decides: this only tells where to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The database.
    pub(crate) log_id: String,
    /// The tenant.
    pub(crate) tenant_id: u64,
    /// The stream.
    pub(crate) stream_id: u64,
    /// The stream's offset of the file's first event.
    pub(crate) base_offset: u64,
    /// Events that are in the stream for certain.
    pub(crate) events: u64,
    /// Where the file's next event begins.
    pub(crate) position: u64,
    /// Where the last of those events begins.
    pub(crate) last_start: u64,
    /// The whole file is in the stream.
    pub(crate) finished: bool,
}

/// Makes a file's name durable: without it an import would be taken for one that never began.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

impl Progress {
    /// Where the progress of importing a file is kept.
    pub(crate) fn path_for(file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(".progress");
        PathBuf::from(name)
    }

    /// What an earlier run left; none where there was none.
    pub(crate) fn load(path: &Path) -> Outcome<Option<Progress>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::file(path, &e)),
        };
        serde_json::from_str(&text).map(Some).map_err(|e| {
            let message = format!("{}: it tells no progress: {e}", path.display());
            Failure::usage(message).cure("name another file by --progress")
        })
    }

    /// Writes it beside and renames it, so that a kill leaves the old or the new one.
    pub(crate) fn save(&self, path: &Path) -> Outcome<()> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let write = || {
            let mut file = File::create(&partial)?;
            serde_json::to_writer(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&partial, path)?;
            sync_folder_of(path)
        };
        write().map_err(|e| Failure::file(path, &e))
    }

    /// A conflict where it is that of another import.
    pub(crate) fn check(
        &self,
        log_id: &str,
        tenant_id: u64,
        stream_id: u64,
        path: &Path,
    ) -> Outcome<()> {
        let what = if self.log_id != log_id {
            "database"
        } else if self.tenant_id != tenant_id {
            "tenant"
        } else if self.stream_id != stream_id {
            "stream"
        } else {
            return Ok(());
        };
        let message = format!("{} tells of an import into another {what}", path.display());
        Err(Failure::new(exit::CONFLICT, message)
            .cure("name another file by --progress, or remove it"))
    }
}
