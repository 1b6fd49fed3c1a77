//! What opening a log does: makes a new one, or reads what comes after the newest state, or else all
//! of it, and mends its end.
//!
//! The sectors of a group that was not synced may have reached the disk in any order. A bad spot is
//! therefore only called damage where something proves that it was durable once: a later frame of
//! the segment that says so, the segment's seal, or a later segment that was begun. Everything else
//! is taken for the trace of a write that never finished, and is cut off.
//!
//! Cutting zeroes what is there and syncs it, so that no part of it can pass for the rest of a later
//! group. The unproven part that is kept is written again, because after a failed sync the system
//! may show bytes that never reached the disk and that it no longer means to write.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use kimberlite_wire::{Error, ErrorCode};

use crate::LogOptions;
use crate::disk::{DiskFile, Preparing};
use crate::errors::{corrupt, storage};
use crate::facts::SegmentFacts;
use crate::files::SegmentFiles;
use crate::footer::{FooterBuilder, NodeId};
use crate::format::{
    FORMAT_VERSION, HeaderFault, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::index::LogIndex;
use crate::keeper::{Database, Keeper};
use crate::names;
use crate::publish::publish;
use crate::resume::{self, Proof, Resume};
use crate::scan::{Scanner, SegmentEnd, survey};
use crate::segment::Segment;
use crate::sequence::Sequence;
use crate::space::first_size;
use crate::state_file::{StateHeader, StateMachine};

/// How much of the unproven tail is written again at a time.
const REWRITE_BYTES: u64 = 1 << 20;
/// The footers of so many complete segments are left to be made while the log is open already.
const LEFT_FOR_LATER: u64 = 2;

/// A log that is ready to be written to.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub identity: LogIdentity,
    pub next_index: u64,
    pub last_timestamp_ns: u64,
    pub sequence: Sequence,
    pub active: Segment,
    pub index: LogIndex,
    /// What sees to complete segments; none where nothing is prepared.
    pub keeper: Option<Arc<Keeper>>,
    pub proven: bool,
    /// Segments that have their names already and hold nothing.
    pub next: VecDeque<Segment>,
    pub spare: Option<Arc<dyn DiskFile>>,
    pub reserve: Option<Arc<dyn DiskFile>>,
}

/// For whom a log is opened.
pub(crate) struct Opening<'a> {
    pub machine: &'a mut dyn StateMachine,
    /// Where there is none, states are not used, and nothing is made beside the segments.
    pub database: Option<Arc<dyn Database>>,
}

/// Opens what is in the folder, or makes a new log where there is none. `before` are the names that
/// were there before the log took the folder.
pub(crate) fn recover(
    files: &Arc<SegmentFiles>,
    options: &LogOptions,
    before: &[String],
    opening: Opening<'_>,
) -> Result<Recovered, Error> {
    let listed = files.disk().list().map_err(|e| storage("list the log's folder", &e))?;
    let mut numbers: Vec<u64> =
        listed.iter().filter_map(|name| names::segment_number(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        let candidates = resume::candidates(files, &listed, None);
        let proofs = resume::proofs(files, &listed, None, &candidates);
        proofs.iter().try_for_each(|proof| proof.check_files(0))?;
        // Not refused: a database whose making was cut short looks the same.
        let traces = [names::RESERVE, names::LOCK];
        if let Some(file) = traces.into_iter().find(|name| before.iter().any(|b| b == name)) {
            tracing::warn!(
                file,
                "the folder holds this file of an earlier database but no segment: starting an \
                 EMPTY database; if there was data, stop and restore the segment files"
            );
        }
        return create(files, options, opening.database);
    }
    for (expected, number) in (1..).zip(&numbers) {
        if *number != expected {
            return Err(corrupt(expected, 0, "the file is missing, though later ones exist"));
        }
    }
    let recovery = Recovery { files, options, listed: &listed, count: numbers.len() as u64 };
    let mut recovered = recovery.run(opening)?;
    let kept = |name: &str| listed.iter().any(|listed| listed == name);
    if kept(names::SPARE) {
        recovered.spare = files.disk().open(names::SPARE).ok();
    }
    if kept(names::RESERVE) {
        recovered.reserve = whole_reserve(files, options);
    }
    Ok(recovered)
}

/// The reserve, if it is as large as it should be; otherwise it is made anew.
fn whole_reserve(files: &SegmentFiles, options: &LogOptions) -> Option<Arc<dyn DiskFile>> {
    let file = files.disk().open(names::RESERVE).ok()?;
    (file.len().ok()? >= options.reserve_bytes).then_some(file)
}

/// Makes the first segment: complete under another name, and only then under its own.
fn create(
    files: &Arc<SegmentFiles>,
    options: &LogOptions,
    database: Option<Arc<dyn Database>>,
) -> Result<Recovered, Error> {
    let mut drawn = [0; 20];
    getrandom::fill(&mut drawn).map_err(|e| {
        Error::new(ErrorCode::Storage, format!("cannot draw random bytes for a log id: {e}"))
    })?;
    let (mut log_id, mut salt) = ([0; 16], [0; 4]);
    log_id.copy_from_slice(&drawn[..16]);
    salt.copy_from_slice(&drawn[16..]);
    let identity = LogIdentity { log_id, salt: u32::from_le_bytes(salt) };
    let header = SegmentHeader { identity, segment: 1, first_index: 1 };
    let made = create_first(files, options, &header);
    let (file, len) = made.map_err(|e| storage("make the first segment of a log", &e))?;
    let mut active = segment(files, options, 1, file, len);
    active.end = SEGMENT_HEADER_BYTES;
    active.first_index = 1;
    let merged = BTreeSet::new();
    let index =
        LogIndex::new(files.clone(), identity, Vec::new(), merged, options.index_cache_bytes);
    let keeper = keeper(files, options, &index, database, (Vec::new(), 0));
    Ok(Recovered {
        identity,
        next_index: 1,
        last_timestamp_ns: 0,
        sequence: Sequence::default(),
        active,
        index,
        keeper,
        proven: true,
        next: VecDeque::new(),
        spare: None,
        reserve: None,
    })
}

fn create_first(
    files: &SegmentFiles,
    options: &LogOptions,
    header: &SegmentHeader,
) -> io::Result<(Arc<dyn DiskFile>, u64)> {
    let disk = files.disk();
    let len = match disk.preparing() {
        Preparing::None => SEGMENT_HEADER_BYTES,
        _ => first_size(options),
    };
    let mut bytes = vec![0; len as usize];
    bytes[..SEGMENT_HEADER_BYTES as usize].copy_from_slice(&header.encode());
    let file = disk.create(names::SPARE)?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    disk.rename(names::SPARE, &names::segment(1))?;
    disk.sync_names()?;
    Ok((file, len))
}

/// A segment whose file is there.
fn segment(
    files: &SegmentFiles,
    options: &LogOptions,
    number: u64,
    file: Arc<dyn DiskFile>,
    len: u64,
) -> Segment {
    let (size, zeroed) = match files.disk().preparing() {
        Preparing::None => (options.segment_bytes.max(len), u64::MAX),
        _ => (len, len),
    };
    files.keep(number, &file);
    Segment { number, file, size, zeroed, end: 0, first_index: 0, sealed: false }
}

/// What sees to complete segments, on a disk where that is of use.
fn keeper(
    files: &SegmentFiles,
    options: &LogOptions,
    index: &LogIndex,
    database: Option<Arc<dyn Database>>,
    (missing, last_state): (Vec<u64>, u64),
) -> Option<Arc<Keeper>> {
    let database = database.filter(|_| files.disk().preparing() != Preparing::None)?;
    let (index, size) = (index.shared.clone(), options.segment_bytes);
    Some(Arc::new(Keeper::new(index, database, missing, last_state, size)))
}

struct Recovery<'a> {
    files: &'a Arc<SegmentFiles>,
    options: &'a LogOptions,
    listed: &'a [String],
    /// How many segments have their names.
    count: u64,
}

/// How far a log is read.
struct Reached {
    identity: LogIdentity,
    next_index: u64,
    last_timestamp_ns: u64,
    sequence: Sequence,
}

impl Recovery<'_> {
    fn run(&self, opening: Opening<'_>) -> Result<Recovered, Error> {
        let Opening { machine, database } = opening;
        let identity = self.identity()?;
        let candidates = resume::candidates(self.files, self.listed, Some(identity));
        let proofs = resume::proofs(self.files, self.listed, Some(identity), &candidates);
        proofs.iter().try_for_each(|proof| proof.check_files(self.count))?;
        let from = match &database {
            Some(_) => resume::resume(self.files, candidates, machine)?,
            None => None,
        };
        let mut reached = Reached {
            identity,
            next_index: from.as_ref().map_or(1, |from| from.header.index + 1),
            last_timestamp_ns: from.as_ref().map_or(0, |from| from.header.last_timestamp_ns),
            sequence: from.as_ref().map_or_else(Sequence::default, |from| from.header.sequence),
        };
        let index = self.index(identity, from.as_ref());
        let last_state = from.as_ref().map_or(0, |from| from.header.index);
        let missing = self.missing_footers(index.covered());
        let sealed = index.shared.sealed();
        let last = self.last_begun(&identity, sealed + 1)?;
        let active = if last > sealed {
            let reading = Reading { recovery: self, index: &index, keeps: database.is_some() };
            reading.read(from.as_ref(), last, machine, &mut reached, &proofs)?
        } else {
            self.complete_active(last, &index, from.as_ref())?
        };
        let (active, end) = active;
        let last_index = reached.next_index - 1;
        for proof in &proofs {
            proof.check_end((last, end.end), last_index, index.shared.sealed(), end.fault)?;
        }
        if end.sealed && end.next_segment > self.count {
            let why = format!("the file is missing, though the seal of segment {last} proves it");
            return Err(corrupt(end.next_segment, 0, why));
        }
        let active = self.mend_active(last, active, &end, &identity)?;
        let mut next = VecDeque::new();
        for number in last + 1..=self.count {
            next.push_back(self.mend_unbegun(number, &identity)?);
        }
        self.remove_unfinished();
        // A name that was given just before a crash is made durable before it is built upon.
        self.files.disk().sync_names().map_err(|e| storage("sync the log's folder", &e))?;
        let behind = (missing, last_state);
        let keeper = keeper(self.files, self.options, &index, database, behind);
        Ok(Recovered {
            identity,
            next_index: reached.next_index,
            last_timestamp_ns: reached.last_timestamp_ns,
            sequence: reached.sequence,
            active,
            index,
            keeper,
            proven: end.proven,
            next,
            spare: None,
            reserve: None,
        })
    }

    /// The index as far as a state tells of it.
    fn index(&self, identity: LogIdentity, from: Option<&Resume>) -> LogIndex {
        let footers = self.listed.iter().filter_map(|name| names::footer_number(name));
        let merged = footers.filter(|(level, _)| *level > 0);
        let merged = merged.map(|(level, number)| NodeId { level, number });
        let merged = merged.filter(|node| node.level <= crate::footer::MAX_LEVEL);
        let sealed = from.map(|from| from.header.sealed.clone()).unwrap_or_default();
        let covered = from.map_or(0, |from| from.header.covered);
        let cache_bytes = self.options.index_cache_bytes;
        let files = self.files.clone();
        let index = LogIndex::new(files, identity, sealed, merged.collect(), cache_bytes);
        index.shared.cover(covered);
        index
    }

    fn missing_footers(&self, upto: u64) -> Vec<u64> {
        let footers = self.listed.iter().filter_map(|name| names::footer_number(name));
        let there: BTreeSet<u64> =
            footers.filter_map(|(level, number)| (level == 0).then_some(number)).collect();
        (1..=upto).filter(|number| !there.contains(number)).collect()
    }

    /// Files that a crash left half written.
    fn remove_unfinished(&self) {
        for name in self.listed.iter().filter(|name| names::is_unfinished(name)) {
            // What stays does no harm and is tried again by the next start.
            let _ = self.files.disk().remove(name);
        }
    }

    /// The last segment where a state covers it whole and nothing was begun after it.
    fn complete_active(
        &self,
        number: u64,
        index: &LogIndex,
        from: Option<&Resume>,
    ) -> Result<(Active, SegmentEnd), Error> {
        let facts = index.shared.facts(number).ok_or_else(|| corrupt(1, 0, "it is missing"))?;
        let end = SegmentEnd {
            end: facts.end,
            durable_upto: facts.end,
            sealed: true,
            next_segment: from.map_or(0, |from| from.next_segment),
            proven: true,
            fault: None,
        };
        Ok((Active { file: self.open(number)?, first_index: facts.first_index }, end))
    }
    /// The log's identity, which the first segment has had since it got its name.
    fn identity(&self) -> Result<LogIdentity, Error> {
        match self.header(1)? {
            Ok(header) => Ok(header.identity),
            Err(HeaderFault::Damaged) => Err(corrupt(1, 0, "its header is damaged")),
            Err(HeaderFault::Version(version)) => Err(other_version(1, version)),
        }
    }

    /// The last segment whose header was written; those before `from` are known to have one.
    fn last_begun(&self, identity: &LogIdentity, from: u64) -> Result<u64, Error> {
        let mut last = from - 1;
        for number in from..=self.count {
            match self.header(number)? {
                Ok(header) => {
                    if header.identity != *identity || header.segment != number {
                        return Err(corrupt(number, 0, "it belongs to another place or log"));
                    }
                    if last + 1 != number {
                        let why = "its header is damaged; a later segment proves that it was whole";
                        return Err(corrupt(last + 1, 0, why));
                    }
                    last = number;
                }
                // The first header was durable before the segment got its name.
                Err(HeaderFault::Damaged) if number == 1 => {
                    return Err(corrupt(number, 0, "its header is damaged"));
                }
                Err(HeaderFault::Damaged) => {}
                Err(HeaderFault::Version(version)) => return Err(other_version(number, version)),
            }
        }
        Ok(last)
    }

    fn open(&self, number: u64) -> Result<Arc<dyn DiskFile>, Error> {
        self.files.get(number).map_err(|e| storage(format_args!("open segment {number}"), &e))
    }

    fn header(&self, number: u64) -> Result<Result<SegmentHeader, HeaderFault>, Error> {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        let read = self.open(number)?.read_at(0, &mut bytes);
        read.map_err(|e| storage(format_args!("read the header of segment {number}"), &e))?;
        Ok(SegmentHeader::decode(&bytes))
    }

    /// The first index of a segment, which must fit the entries before: the next one, or, where
    /// reading goes on in the middle of it, an earlier one.
    fn first_index(&self, number: u64, next_index: u64, from_start: bool) -> Result<u64, Error> {
        match self.header(number)? {
            Ok(header) if header.first_index == next_index => Ok(next_index),
            Ok(header) if !from_start && header.first_index < next_index => Ok(header.first_index),
            Ok(header) => {
                let first = header.first_index;
                let why = format!("it begins with entry {first}, but {next_index} is next");
                Err(corrupt(number, 0, why))
            }
            Err(_) => Err(corrupt(number, 0, "its header is damaged")),
        }
    }

    /// Cuts what is unproven and bad from the last segment, and makes the rest durable.
    fn mend_active(
        &self,
        number: u64,
        Active { file, first_index }: Active,
        end: &SegmentEnd,
        identity: &LogIdentity,
    ) -> Result<Segment, Error> {
        if !end.sealed {
            self.cut(number, &file, end.end, end.fault, identity)?;
        }
        let mended = rewrite(&*file, end.durable_upto, end.end).and_then(|()| file.sync_data());
        mended.map_err(|e| storage(format_args!("write the end of segment {number} again"), &e))?;
        let len = file.len().map_err(|e| storage("tell the length of a segment", &e))?;
        let mut segment = segment(self.files, self.options, number, file, len);
        (segment.end, segment.first_index, segment.sealed) = (end.end, first_index, end.sealed);
        Ok(segment)
    }

    /// Sees to it that a segment whose header is not there holds nothing at all.
    fn mend_unbegun(&self, number: u64, identity: &LogIdentity) -> Result<Segment, Error> {
        let file = self.open(number)?;
        self.cut(number, &file, 0, Some("its header is damaged"), identity)?;
        let len = file.sync_data().and_then(|()| file.len());
        let len = len.map_err(|e| storage(format_args!("clear segment {number}"), &e))?;
        Ok(segment(self.files, self.options, number, file, len))
    }

    /// Zeroes everything from `position` on, unless it is proven that it was durable. Syncing is
    /// the caller's part.
    fn cut(
        &self,
        number: u64,
        file: &Arc<dyn DiskFile>,
        position: u64,
        fault: Option<&'static str>,
        identity: &LogIdentity,
    ) -> Result<(), Error> {
        let survey = survey(number, file, position, identity)?;
        if let Some((durable_upto, at)) = survey.proof.filter(|(claim, _)| *claim > position) {
            let why = fault.unwrap_or("a group is missing");
            let proof =
                format!("the frame at byte {at} proves that {durable_upto} bytes were durable");
            return Err(corrupt(number, position, format!("{why}; {proof}")));
        }
        for dirty in &survey.dirty {
            let from = dirty.start.max(position);
            tracing::warn!(
                segment = number,
                from,
                upto = dirty.end,
                "cut off bytes that nothing proves to have been acknowledged"
            );
            zero(&**file, from, dirty.end)
                .map_err(|e| storage(format_args!("clear the end of segment {number}"), &e))?;
        }
        Ok(())
    }
}

/// The segment to go on in.
struct Active {
    file: Arc<dyn DiskFile>,
    first_index: u64,
}

/// Reading what a log holds after a state.
struct Reading<'a> {
    recovery: &'a Recovery<'a>,
    index: &'a LogIndex,
    /// Whether footers and states are made.
    keeps: bool,
}

impl Reading<'_> {
    /// Reads up to the last segment that was begun, which may end anywhere.
    fn read(
        &self,
        from: Option<&Resume>,
        last: u64,
        machine: &mut dyn StateMachine,
        reached: &mut Reached,
        proofs: &[Proof],
    ) -> Result<(Active, SegmentEnd), Error> {
        let first = self.index.shared.sealed() + 1;
        for number in first..=last {
            let position = match from.filter(|_| number == first) {
                Some(from) => from.header.position,
                None => SEGMENT_HEADER_BYTES,
            };
            let from_start = position <= SEGMENT_HEADER_BYTES;
            let recovery = self.recovery;
            let first_index = recovery.first_index(number, reached.next_index, from_start)?;
            let file = recovery.open(number)?;
            let keep = self.keeps
                && recovery.files.disk().preparing() != Preparing::None
                && from_start
                && last - number > LEFT_FOR_LATER
                && self.index.covered() + 1 == number;
            let node = NodeId::segment(number);
            let before = reached.sequence;
            let mut builder = keep.then(|| FooterBuilder::new(number, before));
            let end = scan(number, &file, position, reached, &mut |view, place| {
                if let Some(builder) = &mut builder {
                    builder.entry(view, place)?;
                }
                machine.apply(view, place)
            })?;
            if number == last && !end.sealed {
                return Ok((Active { file, first_index }, end));
            }
            if !end.sealed {
                let why = end.fault.unwrap_or("it ends without a seal");
                let by = proofs.iter().find(|proof| proof.sealed >= number);
                let by = by.map_or("a later segment", |proof| &proof.by);
                let why = format!("{why}; {by} proves that it was complete");
                return Err(corrupt(number, end.end, why));
            }
            let facts = SegmentFacts {
                first_index,
                last_index: reached.next_index - 1,
                last_timestamp_ns: reached.last_timestamp_ns,
                end: end.end,
                sequence: reached.sequence,
            };
            self.index.shared.add_sealed(facts);
            if let Some(builder) = builder {
                self.keep(node, builder, &facts, machine);
                if last - number == LEFT_FOR_LATER + 1 {
                    self.write_state(number, &facts, machine);
                }
            }
            if number == last {
                return Ok((Active { file, first_index }, end));
            }
        }
        Err(corrupt(last, 0, "it is missing"))
    }

    /// Makes a footer of what was just read anyway, so that a log without footers needs no memory
    /// for all of its blocks. Where it cannot be written, it is made later.
    fn keep(
        &self,
        node: NodeId,
        builder: FooterBuilder,
        facts: &SegmentFacts,
        machine: &mut dyn StateMachine,
    ) {
        let shared = &self.index.shared;
        let bytes = builder.finish(facts, shared.identity.log_id);
        let never = &mut || ControlFlow::Continue(());
        if shared.whole(node) || shared.write_footer(node, &bytes, never) {
            shared.cover(node.number);
            machine.forget_places(node.number);
        }
    }

    fn write_state(&self, segment: u64, facts: &SegmentFacts, machine: &dyn StateMachine) {
        if self.index.covered() < segment {
            return;
        }
        let shared = &self.index.shared;
        let header = StateHeader {
            identity: shared.identity,
            index: facts.last_index,
            last_timestamp_ns: facts.last_timestamp_ns,
            sequence: facts.sequence,
            segment: segment + 1,
            position: SEGMENT_HEADER_BYTES,
            covered: segment,
            sealed: shared.all_facts(segment),
        };
        let bytes = header.encode(&machine.encode(segment + 1));
        let never = &mut || ControlFlow::Continue(());
        if let Err(error) = publish(shared.files.disk(), &header.name(), &bytes, never) {
            tracing::warn!(%error, "a state could not be written; a later one will be");
        }
    }
}

/// Reads a segment from a position on.
fn scan(
    number: u64,
    file: &Arc<dyn DiskFile>,
    position: u64,
    reached: &mut Reached,
    visit: crate::scan::Visit<'_>,
) -> Result<SegmentEnd, Error> {
    let mut scanner = Scanner {
        identity: reached.identity,
        next_index: reached.next_index,
        last_timestamp_ns: reached.last_timestamp_ns,
        sequence: reached.sequence,
        visit,
    };
    let end = scanner.segment_from(number, file, position)?;
    reached.next_index = scanner.next_index;
    reached.last_timestamp_ns = scanner.last_timestamp_ns;
    reached.sequence = scanner.sequence;
    Ok(end)
}

fn other_version(number: u64, version: u16) -> Error {
    let detail = format!(
        "segment {number} has format {version}, and this version knows format {FORMAT_VERSION}; \
         open the log with the version that wrote it or a newer one"
    );
    Error::new(ErrorCode::VersionMismatch, detail)
}

/// Writes zeroes over a part of a file.
fn zero(file: &dyn DiskFile, from: u64, upto: u64) -> io::Result<()> {
    let zeroes = vec![0; upto.saturating_sub(from) as usize];
    file.write_at(from, &zeroes)
}

/// Reads a part of a file and writes it again as it is.
fn rewrite(file: &dyn DiskFile, from: u64, upto: u64) -> io::Result<()> {
    let mut at = from;
    while at < upto {
        let mut bytes = vec![0; (upto - at).min(REWRITE_BYTES) as usize];
        if file.read_at(at, &mut bytes)? < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(at, &bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}
