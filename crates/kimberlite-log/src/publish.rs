//! Writes a file that is there whole or not at all.

use std::io;
use std::ops::ControlFlow;

use crate::disk::Disk;
use crate::names;

/// How much is written and synced at a time: what a commit may have to wait for.
const STEP_BYTES: usize = 256 << 10;

/// Called between steps of work beside the commits: it may pause, and tells whether to go on.
pub(crate) type Breathe<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

/// Writes a file under another name, makes it durable, and only then gives it its own, in the place
/// of the one that had it. `false` where it was told to stop.
pub(crate) fn publish(
    disk: &dyn Disk,
    name: &str,
    bytes: &[u8],
    breathe: Breathe<'_>,
) -> io::Result<bool> {
    let unfinished = names::unfinished(name);
    let written = write(disk, &unfinished, bytes, breathe);
    if !matches!(written, Ok(true)) {
        // What is left of it is removed when the log is opened again, at the latest.
        let _ = disk.remove(&unfinished);
        return written;
    }
    disk.rename(&unfinished, name)?;
    disk.sync_names()?;
    Ok(true)
}

fn write(disk: &dyn Disk, name: &str, bytes: &[u8], breathe: Breathe<'_>) -> io::Result<bool> {
    let file = disk.create(name)?;
    let mut at = 0;
    for step in bytes.chunks(STEP_BYTES) {
        if at > 0 && breathe().is_break() {
            return Ok(false);
        }
        file.write_at(at, step)?;
        file.sync_data()?;
        at += step.len() as u64;
    }
    Ok(true)
}
