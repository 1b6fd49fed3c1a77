//! Finds events in the blocks of a stream, and reads no more blocks than it must.

use std::sync::Arc;

use bytes::Bytes;
use kimberlite_wire::block::{BLOCK_HEADER_BYTES, BlockView};
use kimberlite_wire::{Error, ErrorCode};

use super::EventTable;
use super::state::QueryState;

/// A walk starts with a small read and doubles it, so that a LIMIT reads little and a long scan
/// reads in few steps.
const FIRST_LOAD_BYTES: usize = 32 << 10;
const LARGEST_LOAD_BYTES: usize = 256 << 10;

/// Where one block lies in the buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    first_id: u64,
    end_id: u64,
    timestamp_ns: u64,
    /// Of the u32 ends of its events.
    ends_at: usize,
    /// Of the events' bytes, which start after the ends.
    data_at: usize,
}

/// A window of loaded and checked blocks over a stream.
pub(super) struct BlockReader {
    table: Arc<dyn EventTable>,
    state: Arc<QueryState>,
    buffer: Bytes,
    places: Vec<Place>,
    /// The block of the last event, copied out of `places`; its range is empty before the first.
    current: Place,
    charged_bytes: usize,
    next_load_bytes: usize,
    backwards: bool,
}

impl BlockReader {
    /// A reader that has loaded nothing.
    pub(super) fn new(table: Arc<dyn EventTable>, state: Arc<QueryState>) -> BlockReader {
        BlockReader {
            table,
            state,
            buffer: Bytes::new(),
            places: Vec::new(),
            current: Place::default(),
            charged_bytes: 0,
            next_load_bytes: FIRST_LOAD_BYTES,
            backwards: false,
        }
    }

    /// The stream.
    pub(super) fn table(&self) -> &dyn EventTable {
        &*self.table
    }

    /// The query.
    pub(super) fn state(&self) -> &QueryState {
        &self.state
    }

    /// Starts a walk over `events` events; what is loaded stays.
    pub(super) fn start(&mut self, events: u64, backwards: bool) {
        self.backwards = backwards;
        // A point look-up wants one block only.
        self.next_load_bytes = if events <= 1 { 1 } else { FIRST_LOAD_BYTES };
    }

    /// When the event was committed.
    pub(super) fn timestamp_ns(&mut self, id: u64) -> Result<u64, Error> {
        self.seek(id)?;
        Ok(self.current.timestamp_ns)
    }

    /// The event's bytes.
    pub(super) fn data(&mut self, id: u64) -> Result<&[u8], Error> {
        self.seek(id)?;
        let index = usize::try_from(id - self.current.first_id).unwrap_or(usize::MAX);
        let start = match index {
            0 => Some(0),
            _ => self.end_of(index - 1),
        };
        let end = self.end_of(index);
        let data = start.zip(end).and_then(|(start, end)| {
            let at = self.current.data_at;
            self.buffer.get(at.checked_add(start)?..at.checked_add(end)?)
        });
        data.ok_or_else(|| corrupt(self.table.name(), id, "an event ends outside its block"))
    }

    fn end_of(&self, index: usize) -> Option<usize> {
        let at = self.current.ends_at.checked_add(index.checked_mul(4)?)?;
        let bytes = self.buffer.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    }

    fn seek(&mut self, id: u64) -> Result<(), Error> {
        if self.current.first_id <= id && id < self.current.end_id {
            return Ok(());
        }
        if self.find(id) {
            return Ok(());
        }
        self.load(id)?;
        if self.find(id) {
            return Ok(());
        }
        Err(corrupt(self.table.name(), id, "the block read does not hold the event"))
    }

    /// Makes the loaded block with the event the current one, where there is one.
    fn find(&mut self, id: u64) -> bool {
        let after = self.places.partition_point(|place| place.first_id <= id);
        let place = after.checked_sub(1).and_then(|at| self.places.get(at));
        match place {
            Some(place) if id < place.end_id => {
                self.current = *place;
                true
            }
            _ => false,
        }
    }

    fn load(&mut self, id: u64) -> Result<(), Error> {
        // What was loaded before is let go first, so that the query holds one buffer a cursor.
        self.current = Place::default();
        self.buffer = Bytes::new();
        self.places.clear();
        self.state.account.release(std::mem::take(&mut self.charged_bytes));
        let (buffer, blocks) = self.table.load(id, self.next_load_bytes, self.backwards)?;
        if !self.state.account.charge(buffer.len()) {
            return Err(self.state.memory_exceeded());
        }
        self.charged_bytes = buffer.len();
        self.buffer = buffer;
        if self.next_load_bytes >= FIRST_LOAD_BYTES {
            self.next_load_bytes = (self.next_load_bytes * 2).min(LARGEST_LOAD_BYTES);
        }
        self.places.reserve(blocks);
        self.index(id)
    }

    /// Checks the loaded blocks and notes where they are.
    fn index(&mut self, id: u64) -> Result<(), Error> {
        let mut at = 0;
        while at < self.buffer.len() {
            let parsed = BlockView::parse(&self.buffer[at..]);
            let (view, consumed) = match parsed {
                Ok(Some(parsed)) => parsed,
                Ok(None) => return Err(corrupt(self.table.name(), id, "the block is cut short")),
                Err(error) => {
                    return Err(corrupt(self.table.name(), id, &error.to_string()));
                }
            };
            let header = &view.header;
            let ends_at = at + BLOCK_HEADER_BYTES;
            let ends_bytes = usize::try_from(header.count).unwrap_or(usize::MAX).saturating_mul(4);
            let place = Place {
                first_id: header.first_offset,
                end_id: header.first_offset.saturating_add(u64::from(header.count)),
                timestamp_ns: header.timestamp_ns,
                ends_at,
                data_at: ends_at.saturating_add(ends_bytes),
            };
            if self.places.last().is_some_and(|last| last.end_id != place.first_id) {
                return Err(corrupt(self.table.name(), id, "its blocks do not follow each other"));
            }
            self.places.push(place);
            at += consumed.max(1);
        }
        Ok(())
    }
}

impl Drop for BlockReader {
    fn drop(&mut self) {
        self.state.account.release(self.charged_bytes);
    }
}

fn corrupt(stream: &str, id: u64, what: &str) -> Error {
    let detail = format!("stream {stream:?}, at or near offset {id}: {what}");
    Error::new(ErrorCode::Corruption, detail).with_value(id)
}
