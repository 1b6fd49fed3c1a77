//! Judges requests in their order and makes the entries that the log is to hold: offsets, times,
//! chain hashes, and what is refused.
//!
//! A group is judged on the applied state and on what its own requests have decided before. Nothing
//! of it counts until the log holds it.

use kimberlite_log::{EntryDraft, EntryKind, RequestRow};
pub(crate) use kimberlite_wire::constant::ANY_OFFSET;
use kimberlite_wire::{AppendResponse, Error, ErrorCode, EventBatch, Response, limit};

use crate::catalogue::{Catalogue, stream_not_found, tenant_not_found};
use crate::command::Command;
use crate::job::{AppendWork, Done, Events, Job, Work};
use crate::producers::{Outcome, Producers};
use crate::staged::{BlockSink, Staged, StagedStream, StagedTenant};
use crate::state::Machine;
use crate::sync::RwLockReadGuard;

/// A group that has reached this many bytes of blocks takes no more requests.
const GROUP_BYTES: usize = 8 << 20;
/// A group that has reached this many requests takes no more.
const GROUP_REQUESTS: usize = 65_536;
/// Where the next entries go: what the sequencer carries from group to group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// The index of the next entry.
    pub(crate) next_index: u64,
    /// The epoch, or none where the next group must begin one.
    pub(crate) epoch: Option<u64>,
    /// The number of the last entry within the epoch.
    pub(crate) ordinal: u64,
    /// The time of the group's entries.
    pub(crate) timestamp_ns: u64,
}

/// A group under way.
pub(crate) struct Group<'a> {
    pub(super) catalogue: RwLockReadGuard<'a, Catalogue>,
    pub(super) producers: &'a Producers,
    pub(super) streams_per_tenant: u64,
    pub(super) staged: Staged,
    cursor: Cursor,
    drafts: Vec<EntryDraft>,
    rows: Vec<RequestRow>,
    /// The streams of the append entry under way, in the order of their first request.
    listed: Vec<u64>,
    sink: BlockSink,
    bytes: usize,
    requests: usize,
}

impl<'a> Group<'a> {
    /// Starts a group. `spare` is an empty buffer to write blocks into.
    pub(crate) fn new(machine: &'a Machine, cursor: Cursor, spare: Vec<u8>) -> Group<'a> {
        let catalogue = machine.applied.catalogue();
        let staged = Staged {
            last_stream_id: catalogue.last_stream_id(),
            last_producer_id: machine.producers.last_id(),
            ..Staged::default()
        };
        Group {
            catalogue,
            producers: &machine.producers,
            streams_per_tenant: machine.streams_per_tenant,
            staged,
            cursor,
            drafts: Vec::new(),
            rows: Vec::new(),
            listed: Vec::new(),
            sink: BlockSink::new(spare, cursor.timestamp_ns),
            bytes: 0,
            requests: 0,
        }
    }

    /// Whether it holds as much as one write should.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= GROUP_BYTES || self.requests >= GROUP_REQUESTS
    }

    /// The entries to commit, and where the ones after them go.
    pub(crate) fn finish(mut self) -> (Vec<EntryDraft>, Cursor) {
        self.end_append_entry();
        (self.drafts, self.cursor)
    }

    /// Judges a request. What it answers is true once the group's entries are durable.
    pub(crate) fn judge(&mut self, job: &Job) -> Result<Done, Error> {
        self.requests += 1;
        match &job.work {
            Work::Append(append) => self.append(append).map(Done::Response),
            Work::CreateStream { session, name, data_class } => {
                self.create_stream(session.tenant_id(), name, *data_class).map(Done::Response)
            }
            Work::OpenProducer { session } => self.open_producer(session).map(Done::Response),
            Work::CreateTenant { session, tenant_id } => {
                self.create_tenant(session.as_deref(), *tenant_id).map(Done::Response)
            }
            Work::DeleteTenant { session, tenant_id } => {
                self.delete_tenant(session, *tenant_id).map(Done::Response)
            }
            Work::Audit { tenant_id, events } => {
                self.audit(*tenant_id, events)?;
                Ok(Done::Nothing)
            }
            Work::PassTime { timestamp_ns } => {
                self.pass_time(*timestamp_ns);
                Ok(Done::Nothing)
            }
            Work::ExpireProducers => {
                self.expire_idle();
                Ok(Done::Nothing)
            }
        }
    }

    fn append(&mut self, append: &AppendWork) -> Result<Response, Error> {
        let tenant_id = append.session.tenant_id();
        self.check_tenant(tenant_id)?;
        let stream = self.stream(append.stream_id);
        let next_offset = match stream {
            Some(stream) if stream.tenant_id == tenant_id && !stream.is_audit => stream.next_offset,
            _ => return Err(stream_not_found(tenant_id, append.stream_id)),
        };
        if append.producer_id != 0
            && let Some(outcome) = self.repeated(append)?
        {
            return Ok(outcome.response());
        }
        if append.expected_offset != ANY_OFFSET && append.expected_offset != next_offset {
            return Err(offset_mismatch(append, next_offset));
        }
        if next_offset.checked_add(u64::from(append.count)).is_none() {
            return Err(Error::limit("the stream's length", next_offset, u64::MAX));
        }
        if append.producer_id != 0 {
            self.make_room_for_outcome(append)?;
        }
        let outcome = Outcome {
            stream_id: append.stream_id,
            first_offset: next_offset,
            position: self.entry_index(),
            timestamp_ns: self.cursor.timestamp_ns,
            count: append.count,
            digest: append.digest,
        };
        if append.producer_id != 0 {
            self.remember(append, outcome);
        }
        self.take_events(append.stream_id, &append.events);
        self.bytes += append.payload_len();
        Ok(outcome.response())
    }

    /// The outcome of the same append, where it was made before. An error says why there can be no
    /// such append.
    fn repeated(&self, append: &AppendWork) -> Result<Option<Outcome>, Error> {
        let id = append.producer_id;
        let staged = self.staged.producers.get(&id);
        let opened = staged.and_then(|producer| producer.opened.as_ref());
        let known = self.producers.get(id).filter(|_| !self.staged.expired.contains(&id));
        let (tenant_id, principal) = match (opened, known) {
            (Some((tenant_id, principal)), _) => (*tenant_id, principal.as_str()),
            (None, Some(known)) => (known.tenant_id, known.principal.as_str()),
            (None, None) => return Err(producer_expired(id)),
        };
        if tenant_id != append.session.tenant_id() {
            return Err(producer_expired(id));
        }
        if principal != append.session.principal() {
            let detail = format!("producer_id {id} was opened by another principal");
            return Err(Error::new(ErrorCode::PermissionDenied, detail));
        }
        let acked_below = staged
            .map_or(0, |producer| producer.acked_below)
            .max(known.map_or(0, |producer| producer.acked_below));
        let outcome = staged.and_then(|producer| producer.outcomes.get(&append.sequence));
        let outcome = outcome.or_else(|| known?.outcome(append.sequence)).copied();
        check_sequence(append, acked_below, outcome.as_ref())?;
        Ok(outcome)
    }

    fn remember(&mut self, append: &AppendWork, outcome: Outcome) {
        self.rows.push(RequestRow {
            producer_id: append.producer_id,
            sequence: append.sequence,
            acked_below: append.acked_below,
            tenant_id: append.session.tenant_id(),
            stream_id: append.stream_id,
            first_offset: outcome.first_offset,
            count: append.count,
            digest: append.digest,
        });
        let producer = self.staged.producers.entry(append.producer_id).or_default();
        producer.acked_below = producer.acked_below.max(append.acked_below);
        producer.outcomes.insert(append.sequence, outcome);
        self.staged.outcomes += 1;
    }

    /// A stream's end as of now, where the stream exists.
    fn stream(&mut self, stream_id: u64) -> Option<&mut StagedStream> {
        use std::collections::hash_map::Entry;
        match self.staged.streams.entry(stream_id) {
            Entry::Occupied(staged) => Some(staged.into_mut()),
            Entry::Vacant(room) => {
                let stream = self.catalogue.stream(stream_id)?;
                let tenant_id = stream.identity.tenant_id;
                let staged =
                    StagedStream::new(tenant_id, stream_id, stream.is_audit(), stream.head());
                Some(room.insert(staged))
            }
        }
    }

    /// Adds events to the entry under way.
    fn take_events(&mut self, stream_id: u64, events: &Events) {
        // The caller found the stream, which staged it.
        let Some(stream) = self.staged.streams.get_mut(&stream_id) else { return };
        if !std::mem::replace(&mut stream.listed, true) {
            self.listed.push(stream_id);
        }
        match events {
            Events::Small(batch) => stream.push_small(batch, &mut self.sink),
            Events::Bodies(bodies) => {
                for body in bodies {
                    stream.push_body(&body.events, body.content, &mut self.sink);
                }
            }
        }
    }

    /// TENANT_NOT_FOUND unless the tenant exists.
    pub(super) fn check_tenant(&self, tenant_id: u64) -> Result<(), Error> {
        match self.staged.tenants.get(&tenant_id) {
            Some(StagedTenant::Created { .. }) => Ok(()),
            Some(StagedTenant::Deleted { .. }) => Err(tenant_not_found(tenant_id)),
            None => self.catalogue.live(tenant_id).map(|_| ()),
        }
    }

    /// Records events in a tenant's audit stream. TENANT_NOT_FOUND where there is no such tenant.
    pub(super) fn audit(&mut self, tenant_id: u64, events: &EventBatch) -> Result<(), Error> {
        let stream_id = match self.staged.tenants.get(&tenant_id) {
            Some(StagedTenant::Created { audit_stream_id, .. }) => *audit_stream_id,
            Some(StagedTenant::Deleted { .. }) => return Err(tenant_not_found(tenant_id)),
            None => self.catalogue.live(tenant_id)?.audit.identity.stream_id,
        };
        self.entry_index();
        if self.stream(stream_id).is_some() {
            self.take_events(stream_id, &Events::Small(events.clone()));
        }
        self.bytes += events.payload().len();
        Ok(())
    }

    /// The index of the entry under way, which begins an epoch first where that is due.
    pub(super) fn entry_index(&mut self) -> u64 {
        if self.cursor.epoch.is_none() {
            let index = self.cursor.next_index;
            self.cursor.epoch = Some(index);
            self.cursor.ordinal = 0;
            self.push_draft(EntryKind::Begin, Vec::new());
        }
        self.cursor.next_index
    }

    /// The time of the group's entries.
    pub(super) fn timestamp_ns(&self) -> u64 {
        self.cursor.timestamp_ns
    }

    /// Adds an entry that holds a command; returns its index.
    pub(super) fn push_command(&mut self, command: &Command) -> u64 {
        self.end_append_entry();
        let index = self.entry_index();
        self.cursor.ordinal += 1;
        self.push_draft(EntryKind::Command, command.encode());
        index
    }

    fn pass_time(&mut self, timestamp_ns: u64) {
        // The group's time may be past it already, but entries of that time may not come.
        self.end_append_entry();
        self.entry_index();
        let past = self.cursor.timestamp_ns.max(timestamp_ns.saturating_add(1));
        self.cursor.timestamp_ns = past;
        self.sink.timestamp_ns = past;
        self.cursor.ordinal += 1;
        self.push_draft(EntryKind::Time, Vec::new());
    }

    fn end_append_entry(&mut self) {
        if self.listed.is_empty() {
            return;
        }
        for stream_id in self.listed.drain(..) {
            if let Some(stream) = self.staged.streams.get_mut(&stream_id) {
                stream.flush(&mut self.sink);
                stream.listed = false;
            }
        }
        self.cursor.ordinal += 1;
        self.push_draft(EntryKind::Append, Vec::new());
    }

    fn push_draft(&mut self, kind: EntryKind, command: Vec<u8>) {
        let is_append = kind == EntryKind::Append;
        let (mut rows, mut blocks, mut block_count) = (Vec::new(), Vec::new(), 0);
        if is_append {
            rows = std::mem::take(&mut self.rows);
            blocks = std::mem::take(&mut self.sink.blocks);
            block_count = std::mem::take(&mut self.sink.block_count);
        }
        self.drafts.push(EntryDraft {
            kind,
            // Every entry comes after one that began the epoch.
            epoch: self.cursor.epoch.unwrap_or(self.cursor.next_index),
            ordinal: self.cursor.ordinal,
            timestamp_ns: self.cursor.timestamp_ns,
            rows,
            command,
            blocks,
            block_count,
        });
        self.cursor.next_index += 1;
    }
}

impl Outcome {
    fn response(&self) -> Response {
        Response::Append(AppendResponse {
            first_offset: self.first_offset,
            count: self.count,
            timestamp_ns: self.timestamp_ns,
            position: self.position,
        })
    }
}

/// Whether the producer may use this sequence number, given what became of it before.
fn check_sequence(
    append: &AppendWork,
    acked_below: u64,
    outcome: Option<&Outcome>,
) -> Result<(), Error> {
    let sequence = append.sequence;
    if sequence < acked_below {
        let detail = format!(
            "sequence {sequence} is below {acked_below}, up to which the producer has said that \
             it knows every outcome"
        );
        return Err(Error::invalid(detail));
    }
    // Numbers begin at 1, so that a producer which knows nothing yet has its whole window, too.
    let first = acked_below.max(append.acked_below).max(1);
    let outstanding = sequence.saturating_sub(first).saturating_add(1);
    if outstanding > limit::OUTSTANDING_APPENDS {
        let what = format!("the number of outstanding appends from {first} to {sequence}");
        return Err(Error::limit(&what, outstanding, limit::OUTSTANDING_APPENDS));
    }
    let is_same = |outcome: &Outcome| {
        let was = (outcome.stream_id, outcome.count, outcome.digest);
        was == (append.stream_id, append.count, append.digest)
    };
    if outcome.is_some_and(|outcome| !is_same(outcome)) {
        let detail = format!(
            "sequence {sequence} was used for an append of other events; \
             use another number for a new append"
        );
        return Err(Error::invalid(detail));
    }
    Ok(())
}

fn producer_expired(producer_id: u64) -> Error {
    let detail = format!("producer_id {producer_id} is not known, or no longer; open a new one");
    Error::new(ErrorCode::ProducerExpired, detail)
}

fn offset_mismatch(append: &AppendWork, next_offset: u64) -> Error {
    let detail = format!(
        "expected_offset is {}, but the next offset of stream {} is {next_offset}",
        append.expected_offset, append.stream_id
    );
    Error::new(ErrorCode::OffsetMismatch, detail).with_value(next_offset)
}
