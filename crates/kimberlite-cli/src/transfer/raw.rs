//! The raw format: a header, a record for each event, and an end mark; little-endian.
//!
//! Header: `KMBRAW01`, then the first event's offset as u64. Record: length of the data as u32,
//! CRC-32C of all that follows as u32, offset as u64, timestamp in ns as u64, data. End mark: a
//! record without data whose length is 2^32 - 1, whose offset is the one after the last event's
//! and whose timestamp is 0. A file without it was cut short.

use std::io::{self, Read};

use kimberlite::{Event, limit};

use crate::failure::{Failure, Outcome, exit};

pub(crate) const MAGIC: &[u8; 8] = b"KMBRAW01";
/// Bytes before the first record.
pub(crate) const HEADER_BYTES: u64 = 16;
/// Bytes of a record before its data.
pub(crate) const RECORD_BYTES: u64 = 24;
const END: u32 = u32::MAX;

/// The header of a file whose first event has this offset.
pub(crate) fn header(from_offset: u64) -> [u8; HEADER_BYTES as usize] {
    let mut out = [0; HEADER_BYTES as usize];
    out[..8].copy_from_slice(MAGIC);
    out[8..].copy_from_slice(&from_offset.to_le_bytes());
    out
}

/// Appends an event's record.
pub(crate) fn push_event(out: &mut Vec<u8>, event: &Event<'_>) {
    // An event is far below 4 GiB: the limit is 8 MiB.
    push(out, event.data.len() as u32, event.offset, event.timestamp_ns, event.data);
}

/// Appends the end mark.
pub(crate) fn push_end(out: &mut Vec<u8>, next_offset: u64) {
    push(out, END, next_offset, 0, &[]);
}

fn push(out: &mut Vec<u8>, length: u32, offset: u64, timestamp_ns: u64, data: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&timestamp_ns.to_le_bytes());
    out.extend_from_slice(data);
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// An event's record.
    Event {
        /// Its offset where it was exported.
        offset: u64,
        /// Its time there.
        timestamp_ns: u64,
        /// Its data.
        data: Vec<u8>,
    },
    /// The end mark.
    End,
    /// The file ends here, in the middle of a record or before the end mark.
    Cut,
}

/// Reads the header: the first event's offset; none where the file ends within it.
pub(crate) fn read_header(input: &mut impl Read, name: &str) -> Outcome<Option<u64>> {
    let mut bytes = Vec::new();
    let read = input.take(HEADER_BYTES).read_to_end(&mut bytes);
    read.map_err(|e| Failure::failed(format!("{name}: {e}")))?;
    let (magic, offset) = bytes.split_at(bytes.len().min(8));
    if !MAGIC.starts_with(magic) {
        return Err(Failure::usage(format!("{name} is not in the raw format"))
            .cure("use --format ndjson where it holds JSON lines"));
    }
    Ok((offset.len() == 8).then(|| u64_of(offset)))
}

/// Reads what comes next, at offset `expected`.
pub(crate) fn read_next(input: &mut impl Read, expected: u64, name: &str) -> Outcome<Next> {
    let mut head = [0; RECORD_BYTES as usize];
    if !fill(input, &mut head, name)? {
        return Ok(Next::Cut);
    }
    let (offset, timestamp_ns) = (u64_of(&head[8..16]), u64_of(&head[16..]));
    let (length, crc) = (u32_of(&head[..4]), u32_of(&head[4..8]));
    let is_end = length == END;
    let bytes = if is_end { 0 } else { u64::from(length) };
    let damaged = |what: &str| {
        Failure::new(exit::NOT_VERIFIED, format!("{name}: the record of offset {expected} {what}"))
            .cure("the file is damaged; export it again")
    };
    if bytes > limit::EVENT_BYTES {
        return Err(damaged("has an impossible length"));
    }
    // At most 8 MiB by the check above.
    let mut data = vec![0; bytes as usize];
    if !fill(input, &mut data, name)? {
        return Ok(Next::Cut);
    }
    if crc32c::crc32c_append(crc32c::crc32c(&head[8..]), &data) != crc {
        return Err(damaged("does not have its checksum"));
    }
    if offset != expected {
        return Err(damaged(&format!("says it is that of offset {offset}")));
    }
    Ok(if is_end { Next::End } else { Next::Event { offset, timestamp_ns, data } })
}

/// Fills the buffer; false where the file ends before.
fn fill(input: &mut impl Read, buffer: &mut [u8], name: &str) -> Outcome<bool> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(Failure::failed(format!("{name}: {e}"))),
    }
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut out = header(5).to_vec();
        push_event(&mut out, &Event { offset: 5, timestamp_ns: 7, data: b"abc" });
        push_event(&mut out, &Event { offset: 6, timestamp_ns: 8, data: b"" });
        push_end(&mut out, 7);
        out
    }

    fn read(bytes: &[u8]) -> Outcome<(usize, Next)> {
        let input = &mut &bytes[..];
        let Some(mut offset) = read_header(input, "f")? else { return Ok((0, Next::Cut)) };
        let mut events = 0;
        loop {
            match read_next(input, offset, "f")? {
                Next::Event { .. } => (offset, events) = (offset + 1, events + 1),
                end => return Ok((events, end)),
            }
        }
    }

    /// A file reads back; cut anywhere, it is known to be cut; with any bit changed it is refused,
    /// or cut where the change made a length larger.
    #[test]
    fn notices_cuts_and_damage() {
        let whole = file();
        assert_eq!(read(&whole).ok(), Some((2, Next::End)));
        for cut in 0..whole.len() {
            assert!(matches!(read(&whole[..cut]), Ok((_, Next::Cut))), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(read(&bytes), Ok((_, Next::End))), "bit {bit}");
        }
    }
}
