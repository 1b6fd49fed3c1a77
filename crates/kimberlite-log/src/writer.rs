//! The one that appends.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode};

use crate::LogOptions;
use crate::disk::DiskLock;
use crate::entry::{EntryDraft, EntryPlace};
use crate::errors::storage;
use crate::facts::SegmentFacts;
use crate::files::SegmentFiles;
use crate::format::{
    FRAME_BYTES, GroupFrame, LogIdentity, SEAL_BYTES, SEGMENT_HEADER_BYTES, Seal, SegmentHeader,
};
use crate::group::{self, GroupBuffer, GroupContext, Layout};
use crate::index::LogIndex;
use crate::keeper::Keeper;
use crate::recover::Recovered;
use crate::segment::Segment;
use crate::sequence::Sequence;
use crate::space::{Space, Trouble};
use crate::state_file::{StateHeader, StateMachine};

/// A log that stands alone has one term.
const TERM: u64 = 1;

/// Appends to the log. There is one for an open log; the thread that owns it commits. Dropping it
/// lets the folder go as a crash would, without harm; [`LogWriter::close`] does so in good order.
#[derive(Debug)]
pub struct LogWriter {
    identity: LogIdentity,
    next_index: u64,
    last_timestamp_ns: u64,
    /// Where the sequencer stands.
    sequence: Sequence,
    active: Segment,
    index: LogIndex,
    keeper: Option<Arc<Keeper>>,
    /// Whether the present end of the log is proven: nothing was written after an empty frame.
    proven: bool,
    buffer: GroupBuffer,
    failed: Option<Error>,
    last_sync: Duration,
    space: Space,
    /// Declared after the space, whose thread must end before the folder is let go.
    _lock: Box<dyn DiskLock>,
}

impl LogWriter {
    pub(crate) fn new(
        files: Arc<SegmentFiles>,
        options: LogOptions,
        lock: Box<dyn DiskLock>,
        recovered: Recovered,
    ) -> LogWriter {
        let Recovered { identity, next_index, last_timestamp_ns, active, proven, .. } = recovered;
        let (next, spare, reserve) = (recovered.next, recovered.spare, recovered.reserve);
        let keeper = recovered.keeper;
        let mut space = Space::new(files, options, &active, next, spare, reserve, keeper.clone());
        if keeper.as_ref().is_some_and(|keeper| keeper.is_due()) {
            space.keep();
        }
        if let Err(Trouble::Full(e) | Trouble::Final(e)) = space.ensure_reserve() {
            // Opening is for reading too. The next commit tries again and reports it.
            tracing::warn!(error = %e, "the log is opened without its reserve");
        }
        LogWriter {
            identity,
            next_index,
            last_timestamp_ns,
            sequence: recovered.sequence,
            active,
            index: recovered.index,
            keeper,
            proven,
            buffer: GroupBuffer::default(),
            failed: None,
            last_sync: Duration::ZERO,
            space,
            _lock: lock,
        }
    }

    /// The log's id, drawn when it was made.
    pub fn log_id(&self) -> [u8; 16] {
        self.identity.log_id
    }

    /// The index that the next entry will get; the first is 1.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// The timestamp of the last entry, in nanoseconds; 0 where there is none.
    pub fn last_timestamp_ns(&self) -> u64 {
        self.last_timestamp_ns
    }

    /// Why the log takes nothing more until it is opened again, if a write or sync has failed.
    pub fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// How many bytes the present segment still has room for.
    pub fn room(&self) -> u64 {
        self.active.room()
    }

    /// How long the last group's sync took.
    pub fn last_sync(&self) -> Duration {
        self.last_sync
    }

    /// Writes the entries as one group and makes them durable before it returns their places, in
    /// order: one write and one sync, and one more of each where a segment ends in between.
    ///
    /// STORAGE where the disk fails; this is final, [`LogWriter::failure`] tells it from then on,
    /// and entries of this group may or may not be there when the log is opened again. STORAGE,
    /// too, where the disk is full; then nothing was written, and a later call may succeed.
    pub fn commit(&mut self, entries: &[EntryDraft]) -> Result<Vec<EntryPlace>, Error> {
        self.commit_group(entries, false)
    }

    /// The same for audit and control entries, which may also use the reserved space when the disk
    /// is full.
    pub fn commit_reserved(&mut self, entries: &[EntryDraft]) -> Result<Vec<EntryPlace>, Error> {
        self.commit_group(entries, true)
    }

    /// Writes the empty frame that proves the last group, and lets the folder go. Fails where the
    /// log has failed before, with that error.
    pub fn close(self) -> Result<(), Error> {
        self.close_with_state(None)
    }

    /// The same, and writes the state of a machine that has applied every entry, so that the next
    /// start has nothing to read. That this succeeds is not needed, so that it comes last and is
    /// left out where it takes more than a second.
    pub fn close_with_state(mut self, machine: Option<&dyn StateMachine>) -> Result<(), Error> {
        // What matters comes first: the work that is stopped may be in the middle of a long step.
        self.prove_end()?;
        self.space.stop();
        if let (Some(keeper), Some(machine)) = (&self.keeper, machine) {
            let header = self.last_state();
            let body = machine.encode(header.covered + 1);
            if let Err(error) = keeper.write_last(&header, &body) {
                tracing::warn!(%error, "the next start reads more of the log than it had to");
            }
        }
        Ok(())
    }

    /// Proves where the log ends. All that a close does after that may be left undone.
    pub fn prove_end(&mut self) -> Result<(), Error> {
        match &self.failed {
            Some(e) => Err(e.clone()),
            None => self.prove(),
        }
    }

    /// What a state of this moment says about the log.
    fn last_state(&self) -> StateHeader {
        let Segment { number, sealed, .. } = self.active;
        let (segment, position) = if sealed {
            (number + 1, SEGMENT_HEADER_BYTES)
        } else {
            (number, self.active.next_frame())
        };
        StateHeader {
            identity: self.identity,
            index: self.next_index - 1,
            last_timestamp_ns: self.last_timestamp_ns,
            sequence: self.sequence,
            segment,
            position,
            covered: self.index.covered(),
            sealed: self.index.shared.all_facts(segment - 1),
        }
    }

    fn commit_group(
        &mut self,
        entries: &[EntryDraft],
        may_reserve: bool,
    ) -> Result<Vec<EntryPlace>, Error> {
        if let Some(e) = &self.failed {
            return Err(e.clone());
        }
        let lens = group::check(entries, self.last_timestamp_ns)?;
        if let Some(keeper) = &self.keeper {
            keeper.wait(self.active.end);
        }
        let layouts = match self.make_room(&lens, may_reserve) {
            Ok(layouts) => layouts,
            Err(Trouble::Full(e)) => return Err(e),
            Err(Trouble::Final(e)) => return Err(self.fail(e)),
        };
        let mut places = Vec::with_capacity(entries.len());
        for (number, layout) in layouts.iter().enumerate() {
            if number > 0 {
                self.roll()?;
            }
            if !layout.entries().is_empty() {
                self.write_layout(entries, layout, &mut places)?;
            }
        }
        self.space.pace(&self.active);
        if layouts.len() > 1 {
            self.space.keep();
        }
        Ok(places)
    }

    /// Decides which entries go into which segment, and sees to it that all of these are there and
    /// large enough. The first layout is for the active segment and may be empty.
    fn make_room(&mut self, lens: &[u32], may_reserve: bool) -> Result<Vec<Layout>, Trouble> {
        if !may_reserve {
            self.space.ensure_reserve()?;
        }
        let mut layouts = Vec::with_capacity(1);
        let mut done = 0;
        while done < lens.len() {
            let segment = match layouts.len().checked_sub(1) {
                None => &mut self.active,
                Some(place) => {
                    if self.space.next_mut(place).is_none() {
                        let least = Segment::size_for(Layout::least_bytes(lens[done]));
                        self.space.attach(least, may_reserve)?;
                    }
                    // It was there or has just been added; if not, the loop adds one more.
                    let Some(segment) = self.space.next_mut(place) else { continue };
                    segment
                }
            };
            let layout = Layout::new(lens, done..lens.len(), segment.room());
            let upto = segment.next_frame() + layout.bytes() + SEAL_BYTES;
            match if layout.bytes() == 0 { Ok(()) } else { Space::grow(segment, upto) } {
                Ok(()) => {
                    done = layout.entries().end.max(done);
                    layouts.push(layout);
                }
                // The segment counts as smaller now, so that the same entries are laid out anew.
                Err(Trouble::Full(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(layouts)
    }

    /// Writes the frames of a layout to the active segment, with its header if it has none yet.
    fn write_layout(
        &mut self,
        entries: &[EntryDraft],
        layout: &Layout,
        places: &mut Vec<EntryPlace>,
    ) -> Result<(), Error> {
        let position = self.active.next_frame();
        let first_index = self.next_index;
        let context = GroupContext {
            segment: self.active.number,
            salt: self.identity.salt,
            position,
            durable_upto: self.active.end,
            term: TERM,
            first_index,
        };
        let header = self.header_if_new();
        self.buffer.start(header.as_ref().map_or(&[], |header| &header[..]));
        self.buffer.add(entries, layout, &context, places);
        let at = if header.is_some() { 0 } else { position };
        let written = write_and_sync(&self.active, at, &self.buffer.parts(entries));
        self.last_sync = match written {
            Ok(sync) => sync,
            Err(e) => {
                let what = format_args!("store a group at {at} of segment {}", context.segment);
                return Err(self.fail(e.told(what)));
            }
        };
        self.active.end = position + layout.bytes();
        self.proven = false;
        let written = layout.entries();
        for (entry, index) in entries[written.clone()].iter().zip(first_index..) {
            self.sequence.admit(entry.kind, index, entry.epoch, entry.ordinal);
        }
        self.next_index += written.len() as u64;
        self.last_timestamp_ns = entries[written.end - 1].timestamp_ns;
        Ok(())
    }

    /// The header, where the active segment has none yet.
    fn header_if_new(&mut self) -> Option<[u8; 64]> {
        (self.active.end == 0).then(|| {
            self.active.first_index = self.next_index;
            SegmentHeader {
                identity: self.identity,
                segment: self.active.number,
                first_index: self.next_index,
            }
            .encode()
        })
    }

    /// Seals the active segment and goes on with the next, which is there.
    fn roll(&mut self) -> Result<(), Error> {
        if !self.active.sealed {
            self.seal()?;
        }
        match self.space.pop_next() {
            Some(next) => {
                self.active = next;
                Ok(())
            }
            None => {
                let e = Error::new(ErrorCode::Internal, "the log has no segment to go on with");
                Err(self.fail(e))
            }
        }
    }

    /// Writes the seal, durably: nothing of the next segment is written before.
    fn seal(&mut self) -> Result<(), Error> {
        let position = self.active.next_frame();
        let header = self.header_if_new();
        let seal = Seal {
            segment: self.active.number,
            first_index: self.active.first_index,
            last_index: self.next_index - 1,
            last_timestamp_ns: self.last_timestamp_ns,
            next_segment: self.space.next_number(),
        };
        let seal = seal.encode(self.active.end, self.identity.salt);
        let (at, parts): (u64, Vec<&[u8]>) = match &header {
            Some(header) => (0, vec![header, &seal]),
            None => (position, vec![&seal]),
        };
        if let Err(e) = write_and_sync(&self.active, at, &parts) {
            let what = format_args!("seal segment {}", self.active.number);
            return Err(self.fail(e.told(what)));
        }
        self.active.end = position + SEAL_BYTES;
        self.active.sealed = true;
        self.index.shared.add_sealed(SegmentFacts {
            first_index: self.active.first_index,
            last_index: self.next_index - 1,
            last_timestamp_ns: self.last_timestamp_ns,
            end: self.active.end,
            sequence: self.sequence,
        });
        if let Some(keeper) = &self.keeper {
            keeper.count();
        }
        Ok(())
    }

    /// Proves the last group by an empty frame, or by the seal where there is no room for one.
    fn prove(&mut self) -> Result<(), Error> {
        if self.proven || self.active.sealed || self.active.end == 0 {
            return Ok(());
        }
        if self.active.room() < FRAME_BYTES || self.active.zeroed < self.active.end + FRAME_BYTES {
            return self.seal();
        }
        let frame = GroupFrame {
            segment: self.active.number,
            durable_upto: self.active.end,
            committed: self.next_index - 1,
            length: 0,
            salt: self.identity.salt,
        };
        write_and_sync(&self.active, self.active.end, &[&frame.encode()])
            .map_err(|e| e.told("store the frame of a clean shutdown"))?;
        self.active.end += FRAME_BYTES;
        self.proven = true;
        Ok(())
    }

    /// Remembers that the log takes nothing more, and has the error say so.
    fn fail(&mut self, mut e: Error) -> Error {
        e.detail += "; the database takes no more changes until the server, or the program that \
                     holds the database, is restarted";
        tracing::error!(error = %e, "the log has failed and must be opened again");
        self.failed = Some(e.clone());
        e
    }
}

/// A write that did not become durable: the step that failed, and what the system said.
struct StepFailed {
    step: &'static str,
    error: io::Error,
}

impl StepFailed {
    /// STORAGE: what was tried, the step and the cause.
    fn told(&self, what: impl std::fmt::Display) -> Error {
        storage(format_args!("{what}: the {} failed", self.step), &self.error)
    }
}

/// Makes the parts durable at a position, and tells how long the sync took.
fn write_and_sync(
    segment: &Segment,
    position: u64,
    parts: &[&[u8]],
) -> Result<Duration, StepFailed> {
    let written = match parts {
        [whole] => segment.file.write_at(position, whole),
        parts => segment.file.write_parts_at(position, parts),
    };
    written.map_err(|error| StepFailed { step: "write", error })?;
    let started = Instant::now();
    let synced = segment.file.sync_data();
    synced.map_err(|error| StepFailed { step: "sync (fdatasync)", error })?;
    Ok(started.elapsed())
}
