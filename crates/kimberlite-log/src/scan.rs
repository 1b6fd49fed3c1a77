//! Reads a segment from its start: frames, entries, the seal, up to where it ends or is bad.

use std::sync::Arc;

use kimberlite_wire::{Error, ErrorCode};

use crate::disk::DiskFile;
use crate::entry::{EntryFault, EntryPlace, EntryView};
use crate::errors::{corrupt, storage};
use crate::format::{
    FRAME_BYTES, FRAME_MAGIC, GroupFrame, LogIdentity, SEGMENT_HEADER_BYTES, Seal,
};
use crate::sequence::Sequence;

/// How much is read at a time, unless a frame is longer.
const READ_BYTES: usize = 1 << 20;

/// Called for every entry in order.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&EntryView<'_>, EntryPlace) -> Result<(), Error>;

/// A part of a file in memory.
#[derive(Debug)]
pub(crate) struct Window {
    segment: u64,
    file: Arc<dyn DiskFile>,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(crate) fn new(segment: u64, file: Arc<dyn DiskFile>) -> Result<Window, Error> {
        let len = file
            .len()
            .map_err(|e| storage(format_args!("tell the length of segment {segment}"), &e))?;
        Ok(Window { segment, file, len, start: 0, bytes: Vec::new() })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// These bytes of the file; `None` where it ends before.
    pub(crate) fn bytes(&mut self, position: u64, count: u64) -> Result<Option<&[u8]>, Error> {
        let end = position.saturating_add(count);
        if end > self.len {
            return Ok(None);
        }
        if position < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = (self.len - position).min(count.max(READ_BYTES as u64));
            self.bytes.resize(wanted as usize, 0);
            self.start = position;
            let read = self.file.read_at(position, &mut self.bytes).map_err(|e| {
                storage(format_args!("read segment {} at {position}", self.segment), &e)
            })?;
            self.bytes.truncate(read);
        }
        let from = (position - self.start) as usize;
        // Shorter only where the file has lost its end since its length was read.
        Ok(self.bytes.get(from..from + count as usize))
    }
}

/// How a segment ends.
#[derive(Debug)]
pub(crate) struct SegmentEnd {
    /// Where the next frame would begin, or the bad one does.
    pub end: u64,
    /// Up to where the last good frame proves the segment durable.
    pub durable_upto: u64,
    pub sealed: bool,
    /// The segment that was there already when this one was sealed; 0 for none.
    pub next_segment: u64,
    /// The last good frame is an empty one, of a clean shutdown.
    pub proven: bool,
    /// What is bad at `end`; `None` where there are zeroes or nothing.
    pub fault: Option<&'static str>,
}

/// What a frame turned out to be.
enum Found {
    Frame(GroupFrame),
    Nothing,
    Bad(&'static str),
}

/// Goes through segments in order.
pub(crate) struct Scanner<'a> {
    pub identity: LogIdentity,
    pub next_index: u64,
    pub last_timestamp_ns: u64,
    /// Where the sequencer stands.
    pub sequence: Sequence,
    pub visit: Visit<'a>,
}

impl Scanner<'_> {
    /// Visits the entries of a segment. Entries are visited once their whole frame is found good.
    pub(crate) fn segment(
        &mut self,
        segment: u64,
        file: &Arc<dyn DiskFile>,
    ) -> Result<SegmentEnd, Error> {
        self.segment_from(segment, file, SEGMENT_HEADER_BYTES)
    }

    /// The same from a frame in the middle, up to which the segment is known to be durable.
    pub(crate) fn segment_from(
        &mut self,
        segment: u64,
        file: &Arc<dyn DiskFile>,
        position: u64,
    ) -> Result<SegmentEnd, Error> {
        let mut window = Window::new(segment, Arc::clone(file))?;
        let from_start = position <= SEGMENT_HEADER_BYTES;
        let mut end = SegmentEnd {
            end: position,
            durable_upto: if from_start { 0 } else { position },
            sealed: false,
            next_segment: 0,
            proven: !from_start,
            fault: None,
        };
        while !end.sealed {
            let frame = match self.frame(&mut window, end.end)? {
                Found::Frame(frame) => frame,
                Found::Nothing => break,
                Found::Bad(why) => {
                    end.fault = Some(why);
                    break;
                }
            };
            let content_at = end.end + FRAME_BYTES;
            let length = u64::from(frame.length);
            let Some(content) = window.bytes(content_at, length)? else {
                end.fault = Some("a group is longer than its file");
                break;
            };
            match self.content(segment, content_at, content)? {
                Ok(seal) => {
                    end.sealed = seal.is_some();
                    end.next_segment = seal.map_or(0, |seal| seal.next_segment);
                }
                Err(why) => {
                    end.fault = Some(why);
                    break;
                }
            }
            end.proven = length == 0;
            end.durable_upto = frame.durable_upto;
            end.end = content_at + length;
        }
        Ok(end)
    }

    fn frame(&self, window: &mut Window, position: u64) -> Result<Found, Error> {
        let segment = window.segment;
        let left = window.len().saturating_sub(position).min(FRAME_BYTES);
        let Some(bytes) = window.bytes(position, left)? else { return Ok(Found::Nothing) };
        if is_zero(bytes) {
            return Ok(Found::Nothing);
        }
        let frame = GroupFrame::decode(bytes, position, segment, self.identity.salt);
        Ok(frame.map_or(Found::Bad("no group frame begins where one should"), Found::Frame))
    }

    /// Checks a frame's content, then visits it; tells the seal where it is one. The inner error
    /// says what is damaged.
    fn content(
        &mut self,
        segment: u64,
        position: u64,
        content: &[u8],
    ) -> Result<Result<Option<Seal>, &'static str>, Error> {
        if Seal::is_one(content) {
            return match Seal::decode(content) {
                Some(seal) => self.check_seal(&seal, segment, position).map(|()| Ok(Some(seal))),
                None => Ok(Err("the checksum of the seal does not fit")),
            };
        }
        let mut entries = Vec::new();
        let mut at = 0;
        while at < content.len() {
            match EntryView::parse(&content[at..]) {
                Ok((view, len)) => {
                    entries.push((view, position + at as u64));
                    at += len;
                }
                Err(EntryFault::Damaged(why)) => return Ok(Err(why)),
                Err(EntryFault::Unknown(what)) => {
                    return Err(newer(segment, position + at as u64, &what));
                }
            }
        }
        for (view, position) in entries {
            self.entry(&view, segment, position)?;
        }
        Ok(Ok(None))
    }

    /// Everything here has fitting checksums, so that what does not belong is no torn write.
    fn entry(&mut self, view: &EntryView<'_>, segment: u64, position: u64) -> Result<(), Error> {
        let header = view.header();
        if header.index != self.next_index {
            let why = format!("entry {} stands where {} belongs", header.index, self.next_index);
            return Err(corrupt(segment, position, why));
        }
        if header.timestamp_ns < self.last_timestamp_ns {
            return Err(corrupt(segment, position, "an entry is older than the one before"));
        }
        self.next_index += 1;
        self.last_timestamp_ns = header.timestamp_ns;
        self.sequence.admit_header(header);
        let (index, entry_len) = (header.index, header.entry_len);
        (self.visit)(view, EntryPlace { index, segment, position, entry_len })
    }

    fn check_seal(&self, seal: &Seal, segment: u64, position: u64) -> Result<(), Error> {
        if seal.segment == segment && seal.last_index.checked_add(1) == Some(self.next_index) {
            return Ok(());
        }
        let why = format!(
            "its seal is that of segment {} up to entry {}, but {} is the last one here",
            seal.segment,
            seal.last_index,
            self.next_index - 1
        );
        Err(corrupt(segment, position, why))
    }
}

fn newer(segment: u64, position: u64, what: &str) -> Error {
    let detail = format!(
        "segment {segment} holds {what} at byte {position}, which this version does not know; \
         open the log with the version that wrote it or a newer one"
    );
    Error::new(ErrorCode::VersionMismatch, detail)
}

/// What lies behind the end of a segment's good part.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The largest `durable_upto` that a frame claims, and that frame's position.
    pub proof: Option<(u64, u64)>,
    /// Where something other than zero stands.
    pub dirty: Vec<std::ops::Range<u64>>,
}

/// Looks at everything from `position` to the end of the file.
pub(crate) fn survey(
    segment: u64,
    file: &Arc<dyn DiskFile>,
    position: u64,
    identity: &LogIdentity,
) -> Result<Survey, Error> {
    let mut window = Window::new(segment, Arc::clone(file))?;
    let mut survey = Survey::default();
    // Frames begin at multiples of eight.
    let mut at = position - position % 8;
    while at < window.len() {
        let count = (window.len() - at).min(256 << 10);
        let Some(bytes) = window.bytes(at, count)? else { break };
        let candidates = survey.note(at, bytes);
        for candidate in candidates {
            let count = FRAME_BYTES.min(window.len() - candidate);
            let Some(bytes) = window.bytes(candidate, count)? else { continue };
            let frame = GroupFrame::decode(bytes, candidate, segment, identity.salt);
            let claim = frame.map_or(0, |frame| frame.durable_upto);
            if claim > survey.proof.map_or(0, |(claim, _)| claim) {
                survey.proof = Some((claim, candidate));
            }
        }
        at += count;
    }
    Ok(survey)
}

impl Survey {
    /// Notes what is dirty in a piece; tells where frames may begin.
    fn note(&mut self, at: u64, bytes: &[u8]) -> Vec<u64> {
        if is_zero(bytes) {
            return Vec::new();
        }
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        self.dirty.push(at + first as u64..at + last as u64 + 1);
        let words = bytes.chunks(8).enumerate();
        let starts = words.filter(|(_, word)| word.starts_with(&FRAME_MAGIC));
        starts.map(|(number, _)| at + number as u64 * 8).collect()
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (lines, rest) = bytes.as_chunks::<64>();
    lines.iter().all(|line| *line == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}
