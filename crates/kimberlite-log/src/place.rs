//! Where blocks lie, and how a list of such places is stored: as differences, eleven bytes or so for
//! each.

use kimberlite_wire::block::block_len;

/// Where one block lies; 40 bytes in memory for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// The offset of its first event.
    pub first_offset: u64,
    /// When it was committed, in nanoseconds.
    pub timestamp_ns: u64,
    /// The index of its entry: the position at which it becomes visible.
    pub index: u64,
    /// The segment that holds it.
    pub segment: u32,
    /// The byte of the segment's file at which it begins.
    pub start: u32,
    /// The length of its body, in bytes.
    pub body_len: u32,
    /// How many events it has.
    pub count: u32,
}

const _: () = assert!(size_of::<BlockPlace>() == 40);

impl BlockPlace {
    /// How many bytes the block takes.
    #[allow(clippy::len_without_is_empty, reason = "a block has a header at least")]
    pub fn len(&self) -> usize {
        block_len(self.body_len as usize)
    }

    /// The offset after its last event.
    pub fn end_offset(&self) -> u64 {
        self.first_offset.saturating_add(u64::from(self.count))
    }

    /// How many bytes its events have.
    pub fn data_bytes(&self) -> u64 {
        u64::from(self.body_len).saturating_sub(4 * u64::from(self.count))
    }
}

/// Appends a number in groups of seven bits, the lowest first.
pub(crate) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes such a number off the front; `None` where there is none.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Appends the places of blocks of one stream and one segment, in order.
pub fn encode_places(places: impl IntoIterator<Item = BlockPlace>, out: &mut Vec<u8>) {
    let (mut next_offset, mut timestamp_ns, mut index, mut start) = (0u64, 0u64, 0u64, 0u64);
    for place in places {
        put_varint(place.first_offset.wrapping_sub(next_offset), out);
        put_varint(place.timestamp_ns.wrapping_sub(timestamp_ns), out);
        put_varint(place.index.wrapping_sub(index), out);
        put_varint(u64::from(place.start).wrapping_sub(start), out);
        put_varint(u64::from(place.count), out);
        put_varint(u64::from(place.body_len), out);
        next_offset = place.end_offset();
        (timestamp_ns, index) = (place.timestamp_ns, place.index);
        start = u64::from(place.start) + place.len() as u64;
    }
}

/// The places of a list; `None` where the bytes are none.
pub fn decode_places(segment: u32, mut bytes: &[u8]) -> Option<Vec<BlockPlace>> {
    // A place takes six bytes at least.
    let mut places = Vec::with_capacity(bytes.len() / 6);
    let (mut next_offset, mut timestamp_ns, mut index, mut start) = (0u64, 0u64, 0u64, 0u64);
    while !bytes.is_empty() {
        let from = &mut bytes;
        let first_offset = next_offset.wrapping_add(take_varint(from)?);
        timestamp_ns = timestamp_ns.wrapping_add(take_varint(from)?);
        index = index.wrapping_add(take_varint(from)?);
        let place = BlockPlace {
            first_offset,
            timestamp_ns,
            index,
            segment,
            start: u32::try_from(start.wrapping_add(take_varint(from)?)).ok()?,
            count: u32::try_from(take_varint(from)?).ok()?,
            body_len: u32::try_from(take_varint(from)?).ok()?,
        };
        next_offset = place.end_offset();
        start = u64::from(place.start) + place.len() as u64;
        places.push(place);
    }
    Some(places)
}

/// Appends the timestamps of entries, in order.
pub fn encode_times(times: impl IntoIterator<Item = u64>, out: &mut Vec<u8>) {
    let mut last = 0u64;
    for time in times {
        put_varint(time.wrapping_sub(last), out);
        last = time;
    }
}

/// The timestamps of a list; `None` where the bytes are none.
pub fn decode_times(mut bytes: &[u8]) -> Option<Vec<u64>> {
    let mut times = Vec::with_capacity(bytes.len() / 2);
    let mut last = 0u64;
    while !bytes.is_empty() {
        last = last.wrapping_add(take_varint(&mut bytes)?);
        times.push(last);
    }
    Some(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places and times of any size come back, and a cut list is a shorter one or none, never a
    /// panic.
    #[test]
    fn lists_come_back() {
        let numbers = [0, 1, 127, 128, 1 << 20, u64::from(u32::MAX), 1 << 63, u64::MAX];
        let places: Vec<BlockPlace> = (0..100u64)
            .map(|n| BlockPlace {
                first_offset: numbers[n as usize % 8],
                timestamp_ns: numbers[n as usize * 3 % 8],
                index: numbers[n as usize * 5 % 8],
                segment: 7,
                start: numbers[n as usize * 7 % 6] as u32,
                body_len: numbers[n as usize % 5] as u32,
                count: numbers[n as usize % 6] as u32,
            })
            .collect();
        let mut bytes = Vec::new();
        encode_places(places.iter().copied(), &mut bytes);
        assert_eq!(decode_places(7, &bytes).as_ref(), Some(&places));
        for end in 0..bytes.len() {
            let cut = decode_places(7, &bytes[..end]);
            assert!(cut.is_none_or(|cut| places.starts_with(&cut)), "cut at {end}");
        }
        let mut bytes = Vec::new();
        encode_times(numbers, &mut bytes);
        assert_eq!(decode_times(&bytes).as_deref(), Some(&numbers[..]));
        assert_eq!(take_varint(&mut &[0xff; 10][..]), None);
    }
}
