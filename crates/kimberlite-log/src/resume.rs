//! What states and footers say about a log before it is read: from where reading it suffices, and
//! what must be there.

use kimberlite_wire::Error;

use crate::errors::{corrupt, storage};
use crate::files::SegmentFiles;
use crate::footer::{NodeId, PartFault, Parts};
use crate::format::{FRAME_BYTES, GroupFrame, LogIdentity, SEAL_BYTES, SEGMENT_HEADER_BYTES, Seal};
use crate::keeper::states;
use crate::names;
use crate::state_file::{self, StateHeader, StateMachine};

/// Something that proves what was durable once.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// The file that proves it.
    pub by: String,
    /// Segments up to this one have existed.
    pub segments: u64,
    /// Segments up to this one were complete.
    pub sealed: u64,
    /// Entries up to this one were durable.
    pub index: u64,
}

/// A state that can be read.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub header: StateHeader,
    bytes: Vec<u8>,
}

/// The states of this log that can be read, the newest first.
pub(crate) fn candidates(
    files: &SegmentFiles,
    listed: &[String],
    identity: Option<LogIdentity>,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    for index in states(listed).into_iter().rev() {
        let bytes = state_file::read(files.disk(), index).unwrap_or_default();
        match StateHeader::decode(&bytes).map(|(header, _)| header) {
            Some(header)
                if header.index == index && identity.is_none_or(|id| id == header.identity) =>
            {
                found.push(Candidate { header, bytes });
            }
            _ => tracing::warn!(
                file = names::state(index),
                "a state is damaged, of another version or of another log, and is passed over"
            ),
        }
    }
    found
}

/// What the newest state and the newest footer prove.
pub(crate) fn proofs(
    files: &SegmentFiles,
    listed: &[String],
    identity: Option<LogIdentity>,
    candidates: &[Candidate],
) -> Vec<Proof> {
    let mut proofs = Vec::new();
    if let Some(Candidate { header, .. }) = candidates.first() {
        let sealed = header.sealed.len() as u64;
        // Where there is something in the next segment already.
        let begun = u64::from(header.position > SEGMENT_HEADER_BYTES);
        let (by, segments) = (header.name(), sealed + begun);
        proofs.push(Proof { by, segments, sealed, index: header.index });
    }
    let mut footers: Vec<u64> = listed
        .iter()
        .filter_map(|name| names::footer_number(name))
        .filter_map(|(level, number)| (level == 0).then_some(number))
        .collect();
    footers.sort_unstable();
    proofs.extend(footers.into_iter().rev().find_map(|number| footer(files, identity, number)));
    proofs
}

fn footer(files: &SegmentFiles, identity: Option<LogIdentity>, number: u64) -> Option<Proof> {
    let by = names::footer(0, number);
    let file = files.disk().open(&by).ok()?;
    let read = |at: u64, buffer: &mut [u8]| file.read_at(at, buffer).map_err(|_| PartFault);
    let root = Parts { read: &read }.root().ok()?;
    let is_ours = identity.is_none_or(|identity| identity.log_id == root.log_id);
    (is_ours && root.id == NodeId::segment(number)).then_some(Proof {
        by,
        segments: number,
        sealed: number,
        index: root.last_index,
    })
}

impl Proof {
    /// CORRUPTION where segments are missing that have existed.
    pub(crate) fn check_files(&self, there: u64) -> Result<(), Error> {
        if self.segments <= there {
            return Ok(());
        }
        let why = format!("the file is missing, though {} proves that it existed", self.by);
        Err(corrupt(there + 1, 0, why))
    }

    /// CORRUPTION where the log ends before what was durable. `segment` is its last one, `end` the
    /// byte where it ends or is bad.
    pub(crate) fn check_end(
        &self,
        (segment, end): (u64, u64),
        last_index: u64,
        sealed: u64,
        fault: Option<&'static str>,
    ) -> Result<(), Error> {
        if self.index <= last_index && self.sealed <= sealed {
            return Ok(());
        }
        let fault = fault.unwrap_or("a part is missing");
        let why = format!(
            "{fault}; the log ends with entry {last_index} there, and {} proves that entry {} was \
             durable",
            self.by, self.index
        );
        Err(corrupt(segment, end, why))
    }
}

impl Candidate {
    /// CORRUPTION where a segment is shorter than it was when it was complete.
    fn check_lengths(&self, files: &SegmentFiles) -> Result<(), Error> {
        let header = &self.header;
        for (facts, number) in header.sealed.iter().zip(1..) {
            let len = length(files, number)?;
            if len < facts.end {
                let why = format!(
                    "the file ends there, and {} proves that it had {} bytes",
                    header.name(),
                    facts.end
                );
                return Err(corrupt(number, len, why));
            }
        }
        if header.position > SEGMENT_HEADER_BYTES {
            let len = length(files, header.segment)?;
            if len < header.position {
                let why = format!(
                    "the file ends there, and {} proves that {} bytes were durable",
                    header.name(),
                    header.position
                );
                return Err(corrupt(header.segment, len, why));
            }
        }
        Ok(())
    }

    /// Whether what lies before the place to go on from is what the state says: the seal of the
    /// last complete segment, and the frame that closed the log. `Some` tells the segment that the
    /// seal says comes next.
    fn fits(&self, files: &SegmentFiles) -> Result<Option<u64>, Error> {
        let header = &self.header;
        let mut next_segment = 0;
        if let Some(facts) = header.sealed.last() {
            let number = header.segment - 1;
            let at = facts.end.saturating_sub(SEAL_BYTES);
            let bytes = read(files, number, at, SEAL_BYTES as usize)?;
            let frame = GroupFrame::decode(&bytes, at, number, header.identity.salt);
            let seal = bytes.get(FRAME_BYTES as usize..).and_then(Seal::decode);
            let Some(seal) = seal.filter(|_| frame.is_some()) else { return Ok(None) };
            if (seal.segment, seal.first_index, seal.last_index, seal.last_timestamp_ns)
                != (number, facts.first_index, facts.last_index, facts.last_timestamp_ns)
            {
                return Ok(None);
            }
            next_segment = seal.next_segment;
        }
        if header.position > SEGMENT_HEADER_BYTES {
            let at = header.position.saturating_sub(FRAME_BYTES);
            let bytes = read(files, header.segment, at, FRAME_BYTES as usize)?;
            let frame = GroupFrame::decode(&bytes, at, header.segment, header.identity.salt);
            let fits = frame.is_some_and(|f| f.length == 0 && f.committed == header.index);
            return Ok(fits.then_some(next_segment));
        }
        Ok(Some(next_segment))
    }
}

/// A state to go on from.
#[derive(Debug)]
pub(crate) struct Resume {
    pub header: StateHeader,
    /// The segment that was there when the last complete one was sealed; 0 for none.
    pub next_segment: u64,
}

/// Puts the newest state that can be used into the machine. CORRUPTION where one shows that a
/// segment is shorter than it was.
pub(crate) fn resume(
    files: &SegmentFiles,
    candidates: Vec<Candidate>,
    machine: &mut dyn StateMachine,
) -> Result<Option<Resume>, Error> {
    for candidate in candidates {
        candidate.check_lengths(files)?;
        let Some(next_segment) = candidate.fits(files)? else {
            // Reading the log from an earlier place tells what is wrong.
            tracing::warn!(file = candidate.header.name(), "a state does not fit its log");
            continue;
        };
        let body = StateHeader::decode(&candidate.bytes).map_or(&[][..], |(_, body)| body);
        match machine.restore(body) {
            Ok(()) => return Ok(Some(Resume { header: candidate.header, next_segment })),
            Err(error) => {
                tracing::warn!(%error, file = candidate.header.name(), "a state cannot be used");
            }
        }
    }
    Ok(None)
}

fn length(files: &SegmentFiles, segment: u64) -> Result<u64, Error> {
    let len = files.disk().open(&names::segment(segment)).and_then(|file| file.len());
    len.map_err(|e| storage(format_args!("tell the length of segment {segment}"), &e))
}

fn read(files: &SegmentFiles, segment: u64, at: u64, len: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len];
    let read = files.get(segment).and_then(|file| file.read_at(at, &mut bytes));
    let read = read.map_err(|e| storage(format_args!("read segment {segment} at {at}"), &e))?;
    bytes.truncate(read);
    Ok(bytes)
}
