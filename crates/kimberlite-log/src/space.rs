//! Room for what will be written: segments ahead of the writer, and the reserve.
//!
//! All of this happens before a group is written, so that running out of space is known while
//! nothing is half done.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use kimberlite_wire::Error;

use crate::LogOptions;
use crate::disk::{DiskFile, Preparing};
use crate::errors::{full, is_full, storage};
use crate::files::SegmentFiles;
use crate::keeper::Keeper;
use crate::names;
use crate::prepare::{Preparer, Spare, create_spare, zero_fill};
use crate::segment::Segment;

/// The first segment of a log: quick to make, and enough for a small database.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// Each segment may be so many times larger than the one before, up to the full size.
const GROWTH: u64 = 4;
/// How much is filled at once where the thread has fallen behind.
const GROW_BYTES: u64 = 8 << 20;

/// Why there is no room.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The disk is full; nothing has happened, and trying again later is fine.
    Full(Error),
    /// The disk failed; the log takes nothing more until it is opened again.
    Final(Error),
}

#[derive(Debug)]
pub(crate) struct Space {
    files: Arc<SegmentFiles>,
    options: LogOptions,
    preparing: Preparing,
    preparer: Preparer,
    /// What the preparer was last asked for.
    asked: u64,
    /// Segments that have their names already and hold nothing yet, in order.
    next: VecDeque<Segment>,
    last_number: u64,
    last_size: u64,
    reserve: Option<Arc<dyn DiskFile>>,
}

/// How large the segment after one of this size becomes.
fn size_after(options: &LogOptions, size: u64) -> u64 {
    options.segment_bytes.min((size.saturating_mul(GROWTH)).max(FIRST_SEGMENT_BYTES))
}

/// How large the first segment is.
pub(crate) fn first_size(options: &LogOptions) -> u64 {
    options.segment_bytes.min(FIRST_SEGMENT_BYTES)
}

fn trouble(what: impl std::fmt::Display, error: &io::Error) -> Trouble {
    if is_full(error) {
        Trouble::Full(full(what, error))
    } else {
        Trouble::Final(storage(what, error))
    }
}

impl Space {
    /// Takes over what recovery found: segments named but empty, a spare, the reserve.
    pub(crate) fn new(
        files: Arc<SegmentFiles>,
        options: LogOptions,
        active: &Segment,
        next: VecDeque<Segment>,
        spare: Option<Arc<dyn DiskFile>>,
        reserve: Option<Arc<dyn DiskFile>>,
        keeper: Option<Arc<Keeper>>,
    ) -> Space {
        let preparing = files.disk().preparing();
        let newest = next.back().unwrap_or(active);
        let (last_number, last_size) = (newest.number, newest.size);
        // A spare holds zeroes as far as it goes: it is renamed before anything else is written.
        let spare = spare.and_then(|file| {
            let zeroed = file.len().ok()?;
            Some(Spare { file, size: size_after(&options, last_size).max(zeroed), zeroed })
        });
        let background = preparing == Preparing::Background;
        let preparer = Preparer::new(Arc::clone(&files), background, spare, keeper);
        let asked = 0;
        Space { files, options, preparing, preparer, asked, next, last_number, last_size, reserve }
    }

    /// The segment of this place in the queue of those to come.
    pub(crate) fn next_mut(&mut self, place: usize) -> Option<&mut Segment> {
        self.next.get_mut(place)
    }

    /// Takes the segment that is to be written to after the present one.
    pub(crate) fn pop_next(&mut self) -> Option<Segment> {
        self.asked = 0;
        self.next.pop_front()
    }

    /// Tells how far the present segment is written, so that the next one is filled in time: it is
    /// full by the time that this one is half full.
    pub(crate) fn pace(&mut self, active: &Segment) {
        if self.preparing != Preparing::Background || !self.next.is_empty() {
            return;
        }
        let size = size_after(&self.options, active.size);
        let used = active.end as f64 / active.size as f64;
        let target = if used < 0.125 { 0 } else { (size as f64 * used * 2.0) as u64 };
        if target >= self.asked + (256 << 10) || (target >= size && self.asked < size) {
            self.asked = target;
            self.preparer.pace(target, size);
        }
    }

    /// Adds a segment of at least this size to the queue. Where the disk is full and `may_reserve`
    /// is set, the reserve becomes that segment.
    pub(crate) fn attach(&mut self, least: u64, may_reserve: bool) -> Result<(), Trouble> {
        match self.attach_spare(least) {
            Err(Trouble::Full(e)) if may_reserve => self.attach_reserve(least, e),
            other => other,
        }
    }

    fn attach_spare(&mut self, least: u64) -> Result<(), Trouble> {
        let what = "prepare the next segment";
        let size = size_after(&self.options, self.last_size).max(least);
        let disk = self.files.disk();
        let mut spare = match self.preparer.take() {
            Some(spare) => Spare { size: spare.size.max(least), ..spare },
            None => create_spare(disk, size).map_err(|e| trouble(what, &e))?,
        };
        if self.preparing == Preparing::None {
            spare.zeroed = u64::MAX;
        } else if spare.zeroed < least {
            match fill(&*spare.file, spare.zeroed, least, spare.size) {
                Ok(zeroed) => spare.zeroed = zeroed,
                Err(e) => {
                    self.preparer.put_back(spare);
                    return Err(trouble(what, &e));
                }
            }
        }
        let size = spare.size;
        self.name_segment(names::SPARE, spare.file, size, spare.zeroed)
    }

    fn attach_reserve(&mut self, least: u64, why: Error) -> Result<(), Trouble> {
        match self.reserve.take_if(|_| self.options.reserve_bytes >= least) {
            Some(file) => {
                tracing::warn!("the disk is full: audit and control entries use the reserve");
                let size = self.options.reserve_bytes;
                self.name_segment(names::RESERVE, file, size, size)
            }
            None => Err(Trouble::Full(why)),
        }
    }

    /// Gives a prepared file its name as a segment, durably: from then on it may hold entries.
    fn name_segment(
        &mut self,
        name: &str,
        file: Arc<dyn DiskFile>,
        size: u64,
        zeroed: u64,
    ) -> Result<(), Trouble> {
        let number = self.last_number + 1;
        let disk = self.files.disk();
        let named = disk.rename(name, &names::segment(number)).and_then(|()| disk.sync_names());
        named.map_err(|e| Trouble::Final(storage(format_args!("name segment {number}"), &e)))?;
        self.files.keep(number, &file);
        self.last_number = number;
        self.last_size = size;
        let (end, first_index, sealed) = (0, 0, false);
        self.next.push_back(Segment { number, file, size, zeroed, end, first_index, sealed });
        Ok(())
    }

    /// Fills a segment up to `upto` at least. Where there is no space for that it counts as no
    /// larger than it is filled now.
    pub(crate) fn grow(segment: &mut Segment, upto: u64) -> Result<(), Trouble> {
        if segment.zeroed >= upto {
            return Ok(());
        }
        match fill(&*segment.file, segment.zeroed, upto, segment.size) {
            Ok(zeroed) => segment.zeroed = zeroed,
            Err(e) => {
                let trouble = trouble(format_args!("grow segment {}", segment.number), &e);
                if matches!(trouble, Trouble::Full(_)) {
                    segment.size = segment.zeroed;
                }
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// Sees to it that the reserve is there, so that others may use the rest of the space.
    pub(crate) fn ensure_reserve(&mut self) -> Result<(), Trouble> {
        let len = self.options.reserve_bytes;
        if self.reserve.is_some() || len == 0 || self.preparing == Preparing::None {
            return Ok(());
        }
        let disk = self.files.disk();
        let made = disk.create(names::RESERVE).and_then(|file| {
            match file.allocate(len) {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => zero_fill(&*file, 0, len),
                other => other,
            }
            .map(|()| file)
        });
        match made {
            Ok(file) => {
                self.reserve = Some(file);
                Ok(())
            }
            Err(e) => {
                // What it took already goes back; if not, the next attempt empties it.
                let _ = disk.remove(names::RESERVE);
                Err(trouble("reserve space for audit and control entries", &e))
            }
        }
    }

    /// Sees to it that what complete segments need is done.
    pub(crate) fn keep(&mut self) {
        self.preparer.keep();
    }

    /// The number of the segment that comes after the present one, where it is there.
    pub(crate) fn next_number(&self) -> u64 {
        self.next.front().map_or(0, |segment| segment.number)
    }

    /// Ends the preparing thread.
    pub(crate) fn stop(&mut self) {
        self.preparer.stop();
    }
}

/// Fills from `from` up to `least`, and some way further towards `size` where there is space; tells
/// how far. Zeroes and not mere room even for large groups: taking the room alone measured no
/// faster with groups of 8 MiB, and much slower with those of 1 MiB.
fn fill(file: &dyn DiskFile, from: u64, least: u64, size: u64) -> io::Result<u64> {
    let generous = least.max(size.min(from + GROW_BYTES));
    match zero_fill(file, from, generous) {
        Ok(()) => Ok(generous),
        Err(e) if is_full(&e) && least < generous => zero_fill(file, from, least).map(|()| least),
        Err(e) => Err(e),
    }
}
