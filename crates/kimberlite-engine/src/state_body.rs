//! The engine's part of a state: everything that applying the log up to an entry has come to.
//!
//! A version, the members of a cluster (none yet), where the sequencer stands, the catalogue with
//! every stream's end and hash, where blocks lie that no footer tells of, the times of entries that
//! none tells of, and the producers with the outcomes of their appends. Windows of the audit are not
//! part of it: they end when the database closes, and what a crash loses of them is only how often
//! and how much was read under records that are there.
//!
//! Everything is in order of its ids, so that the same log makes the same bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use kimberlite_log::{
    BlockPlace, EntryPlace, EntryView, Sequence, StateMachine, decode_places, decode_times,
    encode_places, encode_times,
};
use kimberlite_wire::codec::{DecodeError, Field, Reader};
use kimberlite_wire::{DataClass, Error, ErrorCode};

use crate::catalogue::{Catalogue, TenantState};
use crate::producers::{Outcome, Producers};
use crate::runs::{Runs, Timeline};
use crate::state::{Applied, Entry, Machine};
use crate::stream::{Blocks, Stream, StreamIdentity};
use crate::waiters::lock;

const VERSION: u16 = 1;

/// A state, decoded.
pub(crate) struct Decoded {
    sequence: Sequence,
    timeline: Timeline,
    catalogue: Catalogue,
    producers: Producers,
}

impl StateMachine for Machine {
    fn restore(&mut self, state: &[u8]) -> Result<(), Error> {
        let decoded = decode(state).map_err(|e| {
            let detail = format!("a state of the database cannot be read: {e}");
            Error::new(ErrorCode::Corruption, detail)
        })?;
        self.become_restored(decoded);
        Ok(())
    }

    fn apply(&mut self, entry: &EntryView<'_>, place: EntryPlace) -> Result<(), Error> {
        let header = entry.header();
        Machine::apply(
            self,
            Entry {
                kind: header.kind,
                index: header.index,
                epoch: header.epoch,
                ordinal: header.ordinal,
                timestamp_ns: header.timestamp_ns,
                rows: entry.rows(),
                command: entry.command(),
                blocks: entry.blocks(),
                segment: place.segment,
                blocks_start: place.position + entry.blocks_position() as u64,
            },
        )?;
        self.forget_touched();
        Ok(())
    }

    fn encode(&self, first_segment: u64) -> Vec<u8> {
        let mut out = Vec::new();
        VERSION.put(&mut out);
        // The members of a cluster.
        0u64.put(&mut out);
        self.sequence.epoch.put(&mut out);
        self.sequence.ordinal.put(&mut out);
        encode_timeline(&self.applied.timeline(), first_segment, &mut out);
        encode_catalogue(&self.applied.catalogue(), first_segment, &mut out);
        self.producers.encode(&mut out);
        out
    }

    fn forget_places(&mut self, upto_segment: u64) {
        self.applied.forget_places(upto_segment);
    }
}

impl Machine {
    fn become_restored(&mut self, decoded: Decoded) {
        let Decoded { sequence, timeline, catalogue, producers } = decoded;
        let applied: &Applied = &self.applied;
        {
            let mut in_memory = lock(&applied.in_memory);
            in_memory.clear();
            for stream in catalogue.streams() {
                let blocks = stream.blocks();
                for (segment, _) in blocks.runs.segments_from(0) {
                    in_memory.entry(u64::from(segment)).or_default().push(stream.clone());
                }
            }
        }
        *applied.catalogue.write().unwrap_or_else(PoisonError::into_inner) = catalogue;
        *applied.timeline.write().unwrap_or_else(PoisonError::into_inner) = timeline;
        self.producers = producers;
        self.sequence = sequence;
    }
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    (count as u64).put(out);
}

/// Calls `take` as often as a count says.
fn take_each(
    reader: &mut Reader<'_>,
    mut take: impl FnMut(&mut Reader<'_>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    // Each takes a byte at least, so that a wrong count ends with the bytes.
    (0..u64::take(reader)?).try_for_each(|_| take(reader))
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn decode(state: &[u8]) -> Result<Decoded, DecodeError> {
    let reader = &mut Reader::new(state);
    if u16::take(reader)? != VERSION {
        return Err(DecodeError::new("is of another version"));
    }
    reader.take_bytes()?;
    let sequence = Sequence { epoch: u64::take(reader)?, ordinal: u64::take(reader)? };
    let timeline = decode_timeline(reader)?;
    let catalogue = decode_catalogue(reader)?;
    let producers = Producers::decode(reader)?;
    if !reader.is_empty() {
        return Err(DecodeError::new("goes on after its end"));
    }
    Ok(Decoded { sequence, timeline, catalogue, producers })
}

fn encode_timeline(timeline: &Timeline, first_segment: u64, out: &mut Vec<u8>) {
    timeline.last_index().put(out);
    timeline.last_ns().put(out);
    put_count(timeline.segments_from(first_segment).count(), out);
    for (segment, first_index, times) in timeline.segments_from(first_segment) {
        segment.put(out);
        first_index.put(out);
        let mut bytes = Vec::new();
        encode_times(times.iter_from(0), &mut bytes);
        put_bytes(&bytes, out);
    }
}

fn decode_timeline(reader: &mut Reader<'_>) -> Result<Timeline, DecodeError> {
    let mut timeline = Timeline::after(u64::take(reader)?, u64::take(reader)?);
    take_each(reader, |reader| {
        let (segment, first_index) = (u64::take(reader)?, u64::take(reader)?);
        let times = decode_times(reader.take_bytes()?);
        let times = times.ok_or(DecodeError::new("has times that are none"))?;
        let entries = (first_index..).zip(times);
        entries.for_each(|(index, time)| timeline.restore(index, time, segment));
        Ok(())
    })?;
    Ok(timeline)
}

fn encode_catalogue(catalogue: &Catalogue, first_segment: u64, out: &mut Vec<u8>) {
    catalogue.last_stream_id().put(out);
    put_count(catalogue.states().count(), out);
    for (tenant_id, state) in catalogue.states() {
        tenant_id.put(out);
        match state {
            TenantState::Live(tenant) => {
                0u8.put(out);
                tenant.created_at.put(out);
                tenant.audit.identity.stream_id.put(out);
            }
            TenantState::Deleted { position } => {
                1u8.put(out);
                position.put(out);
                0u64.put(out);
            }
        }
    }
    let mut streams: Vec<&Arc<Stream>> = catalogue.streams().collect();
    streams.sort_unstable_by_key(|stream| stream.identity.stream_id);
    put_count(streams.len(), out);
    streams.into_iter().for_each(|stream| encode_stream(stream, first_segment, out));
}

fn encode_stream(stream: &Stream, first_segment: u64, out: &mut Vec<u8>) {
    let identity = &stream.identity;
    identity.stream_id.put(out);
    identity.tenant_id.put(out);
    identity.name.put(out);
    identity.data_class.number().put(out);
    identity.created_ns.put(out);
    identity.created_at.put(out);
    let blocks = stream.blocks();
    let words =
        [blocks.next_offset, blocks.data_bytes, blocks.last_timestamp_ns, blocks.last_index];
    words.into_iter().for_each(|word| word.put(out));
    blocks.head.put(out);
    put_count(blocks.runs.segments_from(first_segment).count(), out);
    for (segment, places) in blocks.runs.segments_from(first_segment) {
        segment.put(out);
        let mut bytes = Vec::new();
        encode_places(places.iter_from(0), &mut bytes);
        put_bytes(&bytes, out);
    }
}

fn decode_catalogue(reader: &mut Reader<'_>) -> Result<Catalogue, DecodeError> {
    let last_stream_id = u64::take(reader)?;
    let mut tenants = Vec::new();
    take_each(reader, |reader| {
        let (tenant_id, kind) = (u64::take(reader)?, u8::take(reader)?);
        tenants.push((tenant_id, kind, u64::take(reader)?, u64::take(reader)?));
        Ok(())
    })?;
    let mut streams = Vec::new();
    take_each(reader, |reader| {
        streams.push(Arc::new(decode_stream(reader)?));
        Ok(())
    })?;
    let by_id: HashMap<u64, &Arc<Stream>> =
        streams.iter().map(|stream| (stream.identity.stream_id, stream)).collect();
    let mut catalogue = Catalogue::default();
    for (tenant_id, kind, position, audit_stream_id) in tenants {
        if kind == 1 {
            catalogue.delete_tenant(tenant_id, position);
            continue;
        }
        let audit =
            by_id.get(&audit_stream_id).ok_or(DecodeError::new("lacks a tenant's audit stream"))?;
        catalogue.restore_tenant(tenant_id, position, audit);
    }
    for stream in &streams {
        if !stream.is_audit() && !catalogue.restore_stream(stream) {
            return Err(DecodeError::new("has a stream of no tenant"));
        }
    }
    catalogue.restore_last_stream_id(last_stream_id);
    Ok(catalogue)
}

fn decode_stream(reader: &mut Reader<'_>) -> Result<Stream, DecodeError> {
    let identity = StreamIdentity {
        stream_id: u64::take(reader)?,
        tenant_id: u64::take(reader)?,
        name: String::take(reader)?,
        data_class: DataClass::from_number(u8::take(reader)?)
            .ok_or(DecodeError::new("has an unknown data class"))?,
        created_ns: u64::take(reader)?,
        created_at: u64::take(reader)?,
    };
    let mut blocks = Blocks {
        runs: Runs::default(),
        next_offset: u64::take(reader)?,
        data_bytes: u64::take(reader)?,
        last_timestamp_ns: u64::take(reader)?,
        last_index: u64::take(reader)?,
        head: <[u8; 32]>::take(reader)?,
    };
    take_each(reader, |reader| {
        let segment = u32::take(reader)?;
        let places: Option<Vec<BlockPlace>> = decode_places(segment, reader.take_bytes()?);
        let places = places.ok_or(DecodeError::new("has places of blocks that are none"))?;
        for place in places {
            blocks.runs.push(place);
        }
        Ok(())
    })?;
    Ok(Stream::with_blocks(identity, blocks))
}

impl Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        let words = [self.stream_id, self.first_offset, self.position, self.timestamp_ns];
        words.into_iter().for_each(|word| word.put(out));
        self.count.put(out);
        self.digest.put(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Outcome, DecodeError> {
        Ok(Outcome {
            stream_id: u64::take(reader)?,
            first_offset: u64::take(reader)?,
            position: u64::take(reader)?,
            timestamp_ns: u64::take(reader)?,
            count: u32::take(reader)?,
            digest: u32::take(reader)?,
        })
    }
}

impl Producers {
    fn encode(&self, out: &mut Vec<u8>) {
        self.last_id().put(out);
        let producers = self.sorted();
        put_count(producers.len(), out);
        for (id, producer) in producers {
            id.put(out);
            producer.tenant_id.put(out);
            producer.principal.put(out);
            producer.acked_below.put(out);
            producer.last_used_ns.put(out);
            put_count(producer.all_outcomes().len(), out);
            for (sequence, outcome) in producer.all_outcomes() {
                sequence.put(out);
                outcome.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Producers, DecodeError> {
        let mut producers = Producers::after(u64::take(reader)?);
        take_each(reader, |reader| {
            let (id, tenant_id) = (u64::take(reader)?, u64::take(reader)?);
            let principal = String::take(reader)?;
            let (acked_below, last_used_ns) = (u64::take(reader)?, u64::take(reader)?);
            let mut outcomes = VecDeque::new();
            take_each(reader, |reader| {
                outcomes.push_back((u64::take(reader)?, Outcome::decode(reader)?));
                Ok(())
            })?;
            producers.restore(id, tenant_id, principal, (acked_below, last_used_ns), outcomes);
            Ok(())
        })?;
        Ok(producers)
    }
}
