//! What is done for complete segments beside the commits: their footers, what joins these, and
//! states. A step at a time, with pauses, on the thread that prepares segments; where a disk has no
//! such thread, at once.
//!
//! Nothing that fails here fails the log: what is missing is made later, or when it is needed.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kimberlite_wire::Error;

use crate::backlog::Backlog;
use crate::footer::NodeId;
use crate::format::SEGMENT_HEADER_BYTES;
use crate::index::{STEP_BYTES, Shared};
use crate::names;
use crate::publish::{Breathe, publish};
use crate::state_file::{self, StateHeader, StateMachine};

/// While segments wait, a state that is not small beside them is written after so many of them.
const STATE_EVERY: u64 = 8;
/// A state is small where the segment is so many times as large.
const SMALL_STATE: u64 = 4;
/// How long writing the state of the end may take.
const LONGEST_LAST: Duration = Duration::from_secs(1);
/// So many states are kept: the newest, and one for the case that it is damaged.
const KEPT_STATES: usize = 2;

/// The database that a log is kept for.
pub trait Database: Send + Sync {
    /// A machine that has applied nothing.
    fn machine(&self) -> Box<dyn StateMachine + Send>;

    /// The blocks of segments up to this one are found by the index from now on.
    fn covered(&self, segment: u64);
}

pub(crate) struct Keeper {
    index: Arc<Shared>,
    database: Arc<dyn Database>,
    backlog: Backlog,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    /// Footers that were missing when the log was opened.
    missing: Vec<u64>,
    /// What a state is made of; kept only while there is more to apply to it.
    machine: Option<Applied>,
    /// The index of the newest state that is written.
    last_state: u64,
    /// How large the last one was that this wrote.
    state_bytes: u64,
    /// How many segments there were when something failed: it is tried again after the next.
    failed_at: Option<u64>,
}

/// A machine and how far it is.
struct Applied {
    machine: Box<dyn StateMachine + Send>,
    index: u64,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    pub(crate) fn new(
        index: Arc<Shared>,
        database: Arc<dyn Database>,
        missing: Vec<u64>,
        last_state: u64,
        segment_bytes: u64,
    ) -> Keeper {
        let work = Work { missing, last_state, ..Work::default() };
        let backlog = Backlog::new(segment_bytes);
        let keeper = Keeper { index, database, backlog, work: Mutex::new(work) };
        keeper.count();
        keeper
    }

    /// Counts what waits, after a segment was completed.
    pub(crate) fn count(&self) {
        self.backlog.count(|| self.index.uncovered_bytes());
    }

    /// Whether so much waits that nothing should pause.
    pub(crate) fn is_pressed(&self) -> bool {
        self.backlog.presses()
    }

    /// Waits until the writer may go on in a segment that holds so many bytes.
    pub(crate) fn wait(&self, active: u64) {
        self.backlog.wait(active);
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        // Whatever a panic left half done is begun anew.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is something to do. Never waits for who does it.
    pub(crate) fn is_due(&self) -> bool {
        let Ok(work) = self.work.try_lock() else { return false };
        let sealed = self.index.sealed();
        if work.failed_at == Some(sealed) {
            return false;
        }
        self.index.covered() < sealed || !work.missing.is_empty() || self.index.unmerged().is_some()
    }

    /// Does everything that is due, or as much as it may.
    pub(crate) fn run(&self, breathe: Breathe<'_>) {
        let mut work = self.work();
        self.backlog.set_stalled(false);
        let sealed = self.index.sealed();
        let mut stopped = false;
        let done = self.run_all(&mut work, &mut || {
            let flow = breathe();
            stopped |= flow.is_break();
            flow
        });
        match done {
            Ok(true) => work.machine = None,
            Ok(false) if stopped => {}
            // A file could not be written, which was told.
            Ok(false) => work.failed_at = Some(sealed),
            Err(error) => {
                tracing::warn!(%error, "the index and state of the log's segments are made later");
                work.failed_at = Some(sealed);
                work.machine = None;
            }
        }
        if work.failed_at.is_some() {
            self.backlog.set_stalled(true);
        }
    }

    /// `false` where it was told to stop.
    fn run_all(&self, work: &mut Work, breathe: Breathe<'_>) -> Result<bool, Error> {
        loop {
            let next = self.index.covered() + 1;
            if next <= self.index.sealed() {
                if !self.keep_segment(work, next, breathe)? {
                    return Ok(false);
                }
            } else if let Some(node) = self.index.unmerged() {
                if !self.join(node, breathe)? {
                    return Ok(false);
                }
            } else if let Some(segment) = work.missing.pop() {
                let node = NodeId::segment(segment);
                if !self.index.has_root(node) {
                    self.index.repair_child(node)?;
                }
            } else {
                return Ok(true);
            }
            if breathe().is_break() {
                return Ok(false);
            }
        }
    }

    /// Makes a segment's footer and applies its entries.
    fn keep_segment(
        &self,
        work: &mut Work,
        segment: u64,
        breathe: Breathe<'_>,
    ) -> Result<bool, Error> {
        if !self.prepare_machine(work, segment, breathe)? {
            return Ok(false);
        }
        let node = NodeId::segment(segment);
        let mut applied = work.machine.take();
        let mut step = || {
            self.backlog.step(STEP_BYTES);
            breathe()
        };
        let built = self.index.build(segment, &mut step, &mut |view, place| match &mut applied {
            Some(applied) => applied.apply(view, place),
            None => Ok(()),
        });
        // Where it was told to stop, the machine is in the middle of the segment and goes on there.
        work.machine = applied;
        let Some(bytes) = built? else { return Ok(false) };
        if !self.index.whole(node) && !self.index.write_footer(node, &bytes, breathe) {
            return Ok(false);
        }
        self.index.cover(segment);
        self.database.covered(segment);
        self.count();
        let more = segment < self.index.sealed();
        match &mut work.machine {
            Some(applied) => {
                applied.machine.forget_places(segment);
                let end = self.index.facts(segment).map_or(0, |facts| facts.end);
                let small = work.state_bytes < end / SMALL_STATE;
                let skipped = more && !small && !segment.is_multiple_of(STATE_EVERY);
                Ok(skipped || self.write_state(work, segment, breathe)?)
            }
            None => Ok(true),
        }
    }

    /// Sees to it that the machine has applied everything up to the middle of the segment at least.
    fn prepare_machine(
        &self,
        work: &mut Work,
        segment: u64,
        breathe: Breathe<'_>,
    ) -> Result<bool, Error> {
        let upto = self.index.facts(segment).map_or(0, |facts| facts.last_index);
        if upto <= work.last_state && work.machine.is_none() {
            // A later state is written already.
            return Ok(true);
        }
        let applied = work.machine.get_or_insert_with(|| self.newest_machine(upto));
        for earlier in 1..segment {
            let last = self.index.facts(earlier).map_or(0, |facts| facts.last_index);
            if last <= applied.index {
                continue;
            }
            // Only where states were lost or taken away while the log was open.
            let walked =
                self.index.walk(earlier, breathe, &mut |view, place| applied.apply(view, place))?;
            if !walked {
                return Ok(false);
            }
            applied.machine.forget_places(earlier);
        }
        Ok(true)
    }

    fn newest_machine(&self, upto: u64) -> Applied {
        let disk = self.index.files.disk();
        let mut indexes = states(&disk.list().unwrap_or_default());
        indexes.retain(|index| *index <= upto);
        for index in indexes.into_iter().rev() {
            let Some(bytes) = state_file::read(disk, index) else { continue };
            let Some((header, body)) = StateHeader::decode(&bytes) else { continue };
            let mut machine = self.database.machine();
            if header.identity == self.index.identity
                && header.index == index
                && machine.restore(body).is_ok()
            {
                return Applied { machine, index };
            }
        }
        Applied { machine: self.database.machine(), index: 0 }
    }

    /// Writes the state at the end of a segment.
    fn write_state(
        &self,
        work: &mut Work,
        segment: u64,
        breathe: Breathe<'_>,
    ) -> Result<bool, Error> {
        let (Some(applied), Some(facts)) = (&work.machine, self.index.facts(segment)) else {
            return Ok(true);
        };
        if facts.last_index <= work.last_state {
            return Ok(true);
        }
        let body = applied.machine.encode(segment + 1);
        let header = StateHeader {
            identity: self.index.identity,
            index: facts.last_index,
            last_timestamp_ns: facts.last_timestamp_ns,
            sequence: facts.sequence,
            segment: segment + 1,
            position: SEGMENT_HEADER_BYTES,
            covered: segment,
            sealed: self.index.all_facts(segment),
        };
        let written = self.write(&header, &body, breathe);
        work.state_bytes = body.len() as u64;
        if matches!(written, Ok(true)) {
            work.last_state = header.index;
        }
        written
    }

    fn write(
        &self,
        header: &StateHeader,
        body: &[u8],
        breathe: Breathe<'_>,
    ) -> Result<bool, Error> {
        let disk = self.index.files.disk();
        let bytes = header.encode(body);
        let written = publish(disk, &header.name(), &bytes, breathe);
        let whole = written
            .map_err(|e| crate::errors::storage(format_args!("write {}", header.name()), &e))?;
        if whole {
            self.remove_old_states();
        }
        Ok(whole)
    }

    /// Writes a state of the moment, whoever made it, where that does not take long. For an end in
    /// good order, which it must not hold up: the next start reads what is missing from the log.
    pub(crate) fn write_last(&self, header: &StateHeader, body: &[u8]) -> Result<(), Error> {
        if self.work().last_state >= header.index {
            return Ok(());
        }
        let until = Instant::now() + LONGEST_LAST;
        let whole = self.write(header, body, &mut || match Instant::now() < until {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })?;
        if !whole {
            tracing::warn!("the disk was too slow for the last state; the next start takes longer");
        }
        Ok(())
    }

    fn remove_old_states(&self) {
        let disk = self.index.files.disk();
        let indexes = states(&disk.list().unwrap_or_default());
        let old = indexes.len().saturating_sub(KEPT_STATES);
        for index in &indexes[..old] {
            // What stays is removed the next time.
            let _ = disk.remove(&names::state(*index));
        }
    }

    /// Joins footers to one of the next level.
    fn join(&self, node: NodeId, breathe: Breathe<'_>) -> Result<bool, Error> {
        let joined = match self.index.join(node) {
            Err(child) => {
                self.index.repair_child(child)?;
                self.index.join(node)
            }
            joined => joined,
        };
        // One that is no good again was a joined one itself, which comes first now, or could not
        // be written.
        let Ok(Some(bytes)) = joined else { return Ok(self.index.unmerged() != Some(node)) };
        let written = self.index.write_footer(node, &bytes, breathe);
        if written {
            self.index.add_merged(node);
        }
        Ok(written)
    }
}

impl Applied {
    fn apply(
        &mut self,
        view: &crate::entry::EntryView<'_>,
        place: crate::entry::EntryPlace,
    ) -> Result<(), Error> {
        if place.index <= self.index {
            return Ok(());
        }
        self.machine.apply(view, place)?;
        self.index = place.index;
        Ok(())
    }
}

/// The indexes of the states among these files, in order.
pub(crate) fn states(listed: &[String]) -> Vec<u64> {
    let mut indexes: Vec<u64> = listed.iter().filter_map(|n| names::state_index(n)).collect();
    indexes.sort_unstable();
    indexes
}
