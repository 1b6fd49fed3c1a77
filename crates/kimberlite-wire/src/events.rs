//! A batch of events, packed: the payload of an append and the body of a block, which are the same
//! bytes: `u32 ends[count]`, then the events' data one after the other.

use std::ops::Range;

use bytes::Bytes;

use crate::error::Error;
use crate::generated::limit;

/// Events packed in the protocol's layout: for each one where its data ends, then all data.
#[derive(Clone, Copy, Debug)]
pub struct PackedEvents<'a> {
    ends: &'a [u8],
    data: &'a [u8],
}

impl<'a> PackedEvents<'a> {
    /// Splits packed bytes and checks that the ends never fall, stay within `max_event_bytes` of
    /// each other and meet the data's end. One pass over the ends, nothing is allocated.
    pub fn parse(
        bytes: &'a [u8],
        count: u32,
        max_event_bytes: u32,
    ) -> Result<PackedEvents<'a>, PackedError> {
        let packed = PackedEvents::split(bytes, count).ok_or(PackedError::Short)?;
        let mut start = 0;
        for (index, end) in packed.ends().enumerate() {
            if end.checked_sub(start).is_none_or(|len| len > max_event_bytes) {
                return Err(PackedError::event(index, start, end, max_event_bytes));
            }
            start = end;
        }
        if start as usize != packed.data.len() {
            return Err(PackedError::Length { last_end: start, data_len: packed.data.len() });
        }
        Ok(packed)
    }

    /// Splits packed bytes that were checked before.
    pub(crate) fn split(bytes: &'a [u8], count: u32) -> Option<PackedEvents<'a>> {
        let (ends, data) = bytes.split_at_checked((count as usize).checked_mul(4)?)?;
        Some(PackedEvents { ends, data })
    }

    /// How many events there are.
    pub const fn count(&self) -> u32 {
        // There are at most u32::MAX of them: the count came as a u32.
        (self.ends.len() / 4) as u32
    }

    /// All data, event after event.
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Where in the data each event ends.
    pub fn ends(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.ends.as_chunks().0.iter().map(|end| u32::from_le_bytes(*end))
    }

    /// Where in the data an event ends; 0 before the first one.
    fn end_of(&self, index: usize) -> usize {
        u32::from_le_bytes(self.ends.as_chunks().0[index]) as usize
    }

    /// One event's data, counted from 0; `None` where there is no such event.
    pub fn event(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.ends.len() / 4 {
            return None;
        }
        let start = if index == 0 { 0 } else { self.end_of(index - 1) };
        self.data.get(start..self.end_of(index))
    }

    /// The events' data in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let data = self.data;
        let mut start = 0;
        self.ends().map(move |end| {
            let event = &data[start..end as usize];
            start = end as usize;
            event
        })
    }
}

/// Why packed bytes are not events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedError {
    /// There are fewer bytes than the ends alone take.
    Short,
    /// An event ends before it starts.
    Falling {
        /// Which event, from 0.
        index: usize,
    },
    /// An event is longer than allowed.
    TooLong {
        /// Which event, from 0.
        index: usize,
        /// Its length in bytes.
        len: u32,
        /// The most that is allowed.
        bound: u32,
    },
    /// The last end is not the data's end.
    Length {
        /// Where the last event says that it ends.
        last_end: u32,
        /// How much data there is, in bytes.
        data_len: usize,
    },
}

impl PackedError {
    fn event(index: usize, start: u32, end: u32, bound: u32) -> PackedError {
        match end.checked_sub(start) {
            None => PackedError::Falling { index },
            Some(len) => PackedError::TooLong { index, len, bound },
        }
    }
}

impl std::fmt::Display for PackedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PackedError::Short => write!(f, "there are fewer bytes than the ends of events take"),
            PackedError::Falling { index } => write!(f, "event {index} ends before it starts"),
            PackedError::TooLong { index, len, bound } => {
                write!(f, "event {index} has {len} bytes; at most {bound} are allowed")
            }
            PackedError::Length { last_end, data_len } => {
                write!(f, "the last event ends at {last_end} in {data_len} bytes of data")
            }
        }
    }
}

/// The events of one append, packed and within the limits. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    count: u32,
    crc: u32,
    payload: Bytes,
}

impl EventBatch {
    /// Packs events; their data is copied once. INVALID_ARGUMENT where there are none,
    /// LIMIT_EXCEEDED where an event, their number or their sum is too large.
    pub fn from_events<I>(events: I) -> Result<EventBatch, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut events = events.into_iter();
        // One more than allowed is enough to see that there are too many.
        let taken: Vec<I::Item> = events.by_ref().take(limit::BATCH_EVENTS as usize + 1).collect();
        let mut payload = Vec::new();
        let lens = taken.iter().map(|event| event.as_ref().len() as u64);
        let data_bytes = put_ends(&mut payload, lens)?;
        payload.reserve_exact(data_bytes);
        taken.iter().for_each(|event| payload.extend_from_slice(event.as_ref()));
        Ok(EventBatch::checked(taken.len(), payload))
    }

    /// Takes events that lie one after the other in `data`, with these lengths. INVALID_ARGUMENT
    /// where there are none or the lengths do not add up to the data's, LIMIT_EXCEEDED as in
    /// [`EventBatch::from_events`].
    pub fn from_packed(data: &[u8], lens: &[u32]) -> Result<EventBatch, Error> {
        let sum: u64 = lens.iter().map(|len| u64::from(*len)).sum();
        if sum != data.len() as u64 {
            let detail = format!("lens add up to {sum} bytes, but data has {}", data.len());
            return Err(Error::invalid(detail));
        }
        let mut payload = Vec::new();
        put_ends(&mut payload, lens.iter().map(|len| u64::from(*len)))?;
        payload.extend_from_slice(data);
        Ok(EventBatch::checked(lens.len(), payload))
    }

    fn checked(count: usize, payload: Vec<u8>) -> EventBatch {
        let crc = crc32c::crc32c(&payload);
        // The count was checked against BATCH_EVENTS.
        EventBatch { count: count as u32, crc, payload: Bytes::from(payload) }
    }

    /// Takes the payload of an append as it came. PROTOCOL where the checksum or the ends do not
    /// fit, INVALID_ARGUMENT for no events, LIMIT_EXCEEDED for too many or too large ones.
    pub fn from_wire(count: u32, payload: Bytes, payload_crc: u32) -> Result<EventBatch, Error> {
        check_count(u64::from(count))?;
        let max_payload = limit::BATCH_BYTES + 4 * u64::from(count);
        if payload.len() as u64 > max_payload {
            let what = "the length of append's payload in bytes";
            return Err(Error::limit(what, payload.len() as u64, max_payload));
        }
        PackedEvents::parse(&payload, count, limit::EVENT_BYTES as u32).map_err(|e| match e {
            PackedError::TooLong { index, len, .. } => event_too_long(index, u64::from(len)),
            e => Error::protocol(format!("payload of append: {e}")),
        })?;
        let crc = crc32c::crc32c(&payload);
        if crc != payload_crc {
            let detail = "payload of append: its CRC-32C is not payload_crc; it was damaged";
            return Err(Error::protocol(detail));
        }
        Ok(EventBatch { count, crc, payload })
    }

    /// How many events it holds; at least one.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The packed bytes: the payload of an append, and the body of an unencrypted block.
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// CRC-32C of the payload: the append's digest, by which a repeat is recognised.
    pub const fn crc(&self) -> u32 {
        self.crc
    }

    /// Bytes of event data.
    pub fn data_bytes(&self) -> usize {
        self.payload.len() - 4 * self.count as usize
    }

    /// The events, to look into.
    pub fn packed(&self) -> PackedEvents<'_> {
        let (ends, data) = self.payload.split_at(4 * self.count as usize);
        PackedEvents { ends, data }
    }

    /// One event's data, counted from 0; `None` where there is no such event.
    pub fn event(&self, index: usize) -> Option<&[u8]> {
        self.packed().event(index)
    }

    /// The events' data in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.packed().iter()
    }

    /// A batch of some of its events. INVALID_ARGUMENT where the range is empty or not within the
    /// count. The whole range is free; any other is copied.
    pub fn slice(&self, range: Range<u32>) -> Result<EventBatch, Error> {
        if range.start >= range.end || range.end > self.count {
            let Range { start, end } = range;
            let count = self.count;
            let detail = format!("range is {start}..{end}; it must hold some of 0..{count}");
            return Err(Error::invalid(detail));
        }
        if range == (0..self.count) {
            return Ok(self.clone());
        }
        let packed = self.packed();
        let (first, end) = (range.start as usize, range.end as usize);
        let base = if first == 0 { 0 } else { packed.end_of(first - 1) };
        let data = &packed.data[base..packed.end_of(end - 1)];
        let mut payload = Vec::with_capacity(4 * (end - first) + data.len());
        for ends in packed.ends.as_chunks().0[first..end].iter() {
            let end = u32::from_le_bytes(*ends) - base as u32;
            payload.extend_from_slice(&end.to_le_bytes());
        }
        payload.extend_from_slice(data);
        Ok(EventBatch::checked(end - first, payload))
    }
}

/// Appends where each event ends, checks the limits, and tells the sum of the lengths.
fn put_ends<I>(payload: &mut Vec<u8>, lens: I) -> Result<usize, Error>
where
    I: ExactSizeIterator<Item = u64>,
{
    check_count(lens.len() as u64)?;
    payload.reserve_exact(4 * lens.len());
    let mut end = 0;
    for (index, len) in lens.enumerate() {
        if len > limit::EVENT_BYTES {
            return Err(event_too_long(index, len));
        }
        end += len;
        if end > limit::BATCH_BYTES {
            let what = format!("the sum of the events' lengths up to index {index}, in bytes,");
            return Err(Error::limit(&what, end, limit::BATCH_BYTES));
        }
        payload.extend_from_slice(&(end as u32).to_le_bytes());
    }
    Ok(end as usize)
}

fn check_count(count: u64) -> Result<(), Error> {
    match count {
        0 => Err(Error::invalid("events holds none; append at least one")),
        1..=limit::BATCH_EVENTS => Ok(()),
        _ => Err(Error::limit("the number of events", count, limit::BATCH_EVENTS)),
    }
}

fn event_too_long(index: usize, len: u64) -> Error {
    Error::limit(&format!("event {index}'s length in bytes"), len, limit::EVENT_BYTES)
}
