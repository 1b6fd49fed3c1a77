//! The applied state, and how an entry of the log changes it: the same at recovery as while the
//! database runs.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError};

use kimberlite_log::{EntryKind, LogIndex, RequestRow, Sequence};
use kimberlite_wire::block::BLOCK_HEADER_BYTES;
use kimberlite_wire::{Error, ErrorCode};

use crate::catalogue::Catalogue;
use crate::command::Command;
use crate::producers::Producers;
use crate::runs::Timeline;
use crate::stream::{Stream, StreamIdentity, header_at};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, RwLock, RwLockReadGuard};
use crate::waiters::{Waiters, lock};

/// What every thread may look at.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) catalogue: RwLock<Catalogue>,
    /// The times of the newest entries.
    pub(crate) timeline: RwLock<Timeline>,
    /// By segment, the streams that keep in memory where their blocks in it lie.
    pub(crate) in_memory: Mutex<BTreeMap<u64, Vec<Arc<Stream>>>>,
    position: AtomicU64,
    /// Woken when the position has grown, and when the engine closes.
    pub(crate) waiters: Waiters,
    closed: AtomicBool,
    /// Why it closed, where nobody asked for that.
    failure: OnceLock<Error>,
}

impl Applied {
    pub(crate) fn new() -> Applied {
        Applied {
            catalogue: RwLock::default(),
            timeline: RwLock::default(),
            in_memory: Mutex::default(),
            position: AtomicU64::new(0),
            waiters: Waiters::default(),
            closed: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// The tenants and streams, to look at briefly.
    pub(crate) fn catalogue(&self) -> RwLockReadGuard<'_, Catalogue> {
        // Only applying writes, and a panic there stops the engine for good.
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest applied position. Everything up to it is visible; of what lies beyond it, parts
    /// may be.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::SeqCst)
    }

    /// The newest position whose timestamp is at most `timestamp_ns`.
    pub(crate) fn position_at(&self, index: &LogIndex, timestamp_ns: u64) -> Result<u64, Error> {
        let applied = self.position();
        let known = self.timeline().position_at(timestamp_ns);
        let position = match known {
            Some(position) => position,
            None => index.position_at(timestamp_ns)?,
        };
        Ok(applied.min(position))
    }

    /// The timestamp of the newest applied entry.
    pub(crate) fn last_timestamp_ns(&self) -> u64 {
        self.timeline().last_ns()
    }

    pub(crate) fn timeline(&self) -> RwLockReadGuard<'_, Timeline> {
        self.timeline.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what the log's index tells from now on.
    pub(crate) fn forget_places(&self, upto_segment: u64) {
        let streams = {
            let mut in_memory = lock(&self.in_memory);
            let later = in_memory.split_off(&(upto_segment + 1));
            std::mem::replace(&mut *in_memory, later)
        };
        streams.values().flatten().for_each(|stream| stream.forget_places(upto_segment));
        let mut timeline = self.timeline.write().unwrap_or_else(PoisonError::into_inner);
        let gone = timeline.forget(upto_segment);
        drop(timeline);
        drop(gone);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends every wait and subscription.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.waiters.wake_all();
        // Not in the loop's head, which would hold the catalogue throughout: whoever waits to change
        // it in between would stop the loop from looking again, and be stopped by it.
        let tenant_ids = self.catalogue().tenant_ids();
        for tenant_id in tenant_ids {
            let catalogue = self.catalogue();
            if let Some(tenant) = catalogue.tenant(tenant_id) {
                tenant.streams_after(0).for_each(|stream| stream.waiters.wake_all());
            }
        }
    }

    /// Ends everything as [`Applied::close`] does, because of a defect that every call is told of.
    pub(crate) fn fail(&self, error: Error) {
        self.failure.get_or_init(|| error);
        self.close();
    }

    /// CLOSED once the engine closes, or the defect that ended it.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.is_closed() { Err(self.end()) } else { Ok(()) }
    }

    /// Why there is nothing more: the defect that ended the engine, or else CLOSED.
    pub(crate) fn end(&self) -> Error {
        self.failure.get().cloned().unwrap_or_else(closed)
    }

    /// Shows everything up to a position and wakes those who wait for it.
    fn publish(&self, position: u64) {
        // Sequentially consistent, as is looking at it: whoever registers a waker and then sees the
        // old position is seen here in turn.
        self.position.store(position, Ordering::SeqCst);
        self.waiters.wake_all();
    }
}

/// The error of a call that comes too late.
pub(crate) fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the database is closed; open it again")
}

/// An entry to apply, from the log or just committed.
pub(crate) struct Entry<'a, R> {
    pub(crate) kind: EntryKind,
    pub(crate) index: u64,
    pub(crate) epoch: u64,
    pub(crate) ordinal: u64,
    pub(crate) timestamp_ns: u64,
    pub(crate) rows: R,
    pub(crate) command: &'a [u8],
    pub(crate) blocks: &'a [u8],
    pub(crate) segment: u64,
    /// The byte of the segment's file at which the first block begins.
    pub(crate) blocks_start: u64,
}

/// What applies entries: owned by the commit thread, and by recovery before that.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) applied: Arc<Applied>,
    pub(crate) producers: Producers,
    pub(crate) sequence: Sequence,
    /// How many streams a tenant may have beside its audit stream. It binds new streams only: what
    /// the log holds is applied whatever the bound is now.
    pub(crate) streams_per_tenant: u64,
    /// The streams that got blocks since they were last woken.
    touched: Vec<Arc<Stream>>,
}

impl Machine {
    pub(crate) fn new(applied: Arc<Applied>) -> Machine {
        Machine {
            applied,
            producers: Producers::default(),
            sequence: Sequence::default(),
            streams_per_tenant: u64::MAX,
            touched: Vec::new(),
        }
    }

    /// Applies one entry. It becomes visible with [`Machine::publish`]. An error means that the log
    /// holds what no sequencer writes: CORRUPTION, or VERSION_MISMATCH.
    pub(crate) fn apply<R>(&mut self, entry: Entry<'_, R>) -> Result<(), Error>
    where
        R: Iterator<Item = RequestRow>,
    {
        let index = entry.index;
        self.push_time(&entry)?;
        if !self.sequence.admit(entry.kind, index, entry.epoch, entry.ordinal) {
            tracing::warn!(index, epoch = entry.epoch, ordinal = entry.ordinal, "a void entry");
            return Ok(());
        }
        match entry.kind {
            EntryKind::Command => self.apply_command(entry.command, index, entry.timestamp_ns),
            EntryKind::Append => self.apply_append(entry),
            _ => Ok(()),
        }
    }

    /// Nobody waits yet for what was applied so far.
    pub(crate) fn forget_touched(&mut self) {
        self.touched.clear();
    }

    /// Shows what was applied up to a position, and wakes whoever waits for it.
    pub(crate) fn publish(&mut self, position: u64) {
        self.applied.publish(position);
        self.touched.drain(..).for_each(|stream| stream.waiters.wake_all());
    }

    fn push_time<R>(&mut self, entry: &Entry<'_, R>) -> Result<(), Error> {
        let mut timeline = self.applied.timeline.write().unwrap_or_else(PoisonError::into_inner);
        let (index, expected) = (entry.index, timeline.last_index() + 1);
        if index != expected || timeline.last_ns() > entry.timestamp_ns {
            let detail = format!("entry {index} comes where {expected} must, or before its time");
            return Err(Error::new(ErrorCode::Corruption, detail));
        }
        timeline.push(index, entry.timestamp_ns, entry.segment);
        Ok(())
    }

    fn apply_append<R>(&mut self, entry: Entry<'_, R>) -> Result<(), Error>
    where
        R: Iterator<Item = RequestRow>,
    {
        for row in entry.rows.filter(|row| row.producer_id != 0) {
            self.producers.record(&row, entry.index, entry.timestamp_ns);
        }
        let catalogue = self.applied.catalogue();
        let mut at = 0;
        while entry.blocks.len() - at >= BLOCK_HEADER_BYTES {
            let header = header_at(&entry.blocks[at..])?;
            let stream = catalogue.stream(header.stream_id).ok_or_else(|| {
                let detail = format!("entry {} appends to no stream", entry.index);
                Error::new(ErrorCode::Corruption, detail)
            })?;
            let start = entry.blocks_start + at as u64;
            if stream.add(&header, entry.index, entry.segment, start)? {
                let mut in_memory = lock(&self.applied.in_memory);
                in_memory.entry(entry.segment).or_default().push(stream.clone());
            }
            if !self.touched.last().is_some_and(|last| Arc::ptr_eq(last, stream)) {
                self.touched.push(stream.clone());
            }
            at = (at + header.block_len()).min(entry.blocks.len());
        }
        Ok(())
    }

    fn apply_command(&mut self, body: &[u8], index: u64, timestamp_ns: u64) -> Result<(), Error> {
        let command = Command::decode(body)?;
        let mut catalogue = self.applied.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        match command {
            Command::CreateTenant { tenant_id, audit_stream_id } => {
                catalogue.create_tenant(tenant_id, audit_stream_id, timestamp_ns, index);
            }
            Command::DeleteTenant { tenant_id } => {
                catalogue.delete_tenant(tenant_id, index);
                self.producers.delete_tenant(tenant_id);
            }
            Command::CreateStream { tenant_id, stream_id, name, data_class } => {
                catalogue.create_stream(StreamIdentity {
                    stream_id,
                    tenant_id,
                    name,
                    data_class,
                    created_ns: timestamp_ns,
                    created_at: index,
                })?;
            }
            Command::OpenProducer { producer_id, tenant_id, principal } => {
                self.producers.open(producer_id, tenant_id, principal, timestamp_ns);
            }
            Command::ExpireProducers { producer_ids } => self.producers.expire(&producer_ids),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(
        kind: EntryKind,
        index: u64,
        epoch: u64,
        ordinal: u64,
        command: &[u8],
    ) -> Entry<'_, std::vec::IntoIter<RequestRow>> {
        Entry {
            kind,
            index,
            epoch,
            ordinal,
            timestamp_ns: index,
            rows: Vec::new().into_iter(),
            command,
            blocks: &[],
            segment: 1,
            blocks_start: 0,
        }
    }

    /// Entries of a sequencer that was deposed, and those after a gap, change nothing.
    #[test]
    fn void_entries_change_nothing() {
        let mut machine = Machine::new(Arc::new(Applied::new()));
        let tenant = |id| Command::CreateTenant { tenant_id: id, audit_stream_id: id }.encode();
        let steps = [
            (EntryKind::Begin, 1, 1, 0, 0),
            (EntryKind::Command, 2, 1, 1, 10),
            (EntryKind::Command, 3, 1, 3, 11),
            (EntryKind::Blank, 4, 0, 0, 0),
            (EntryKind::Command, 5, 1, 2, 12),
            (EntryKind::Begin, 6, 6, 0, 0),
            (EntryKind::Command, 7, 1, 3, 13),
            (EntryKind::Command, 8, 6, 1, 14),
        ];
        for (kind, index, epoch, ordinal, tenant_id) in steps {
            machine.apply(entry(kind, index, epoch, ordinal, &tenant(tenant_id))).unwrap();
        }
        machine.publish(8);
        assert_eq!(machine.applied.catalogue().tenant_ids(), [10, 12, 14]);
        let at = machine.applied.timeline().position_at(6);
        assert_eq!((machine.applied.position(), at), (8, Some(6)));
    }

    /// An entry out of its place, or before its time, is damage.
    #[test]
    fn entries_come_in_order() {
        let mut machine = Machine::new(Arc::new(Applied::new()));
        machine.apply(entry(EntryKind::Begin, 1, 1, 0, &[])).unwrap();
        let skipped = machine.apply(entry(EntryKind::Time, 3, 1, 1, &[])).unwrap_err();
        assert_eq!(skipped.code, ErrorCode::Corruption);
        let early = Entry { timestamp_ns: 0, ..entry(EntryKind::Time, 2, 1, 1, &[]) };
        assert_eq!(machine.apply(early).unwrap_err().code, ErrorCode::Corruption);
    }
}
