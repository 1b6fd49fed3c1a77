//! What opening a log does: makes a new one, or reads all of it and mends its end.
//!
//! The sectors of a group that was not synced may have reached the disk in any order. A bad spot is
//! therefore only called damage where something proves that it was durable once: a later frame of
//! the segment that says so, the segment's seal, or a later segment that was begun. Everything else
//! is taken for the trace of a write that never finished, and is cut off.
//!
//! Cutting zeroes what is there and syncs it, so that no part of it can pass for the rest of a later
//! group. The unproven part that is kept is written again, because after a failed sync the system
//! may show bytes that never reached the disk and that it no longer means to write.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use kimberlite_wire::{Error, ErrorCode};

use crate::LogOptions;
use crate::disk::{DiskFile, Preparing};
use crate::errors::{corrupt, storage};
use crate::files::SegmentFiles;
use crate::format::{
    FORMAT_VERSION, HeaderFault, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::names;
use crate::scan::{Scanner, SegmentEnd, Visit, survey};
use crate::segment::Segment;
use crate::space::first_size;

/// How much of the unproven tail is written again at a time.
const REWRITE_BYTES: u64 = 1 << 20;

/// A log that is ready to be written to.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub identity: LogIdentity,
    pub next_index: u64,
    pub last_timestamp_ns: u64,
    pub active: Segment,
    pub proven: bool,
    /// Segments that have their names already and hold nothing.
    pub next: VecDeque<Segment>,
    pub spare: Option<Arc<dyn DiskFile>>,
    pub reserve: Option<Arc<dyn DiskFile>>,
}

/// Opens what is in the folder, or makes a new log where there is none. `before` are the names that
/// were there before the log took the folder.
pub(crate) fn recover(
    files: &Arc<SegmentFiles>,
    options: &LogOptions,
    before: &[String],
    visit: Visit<'_>,
) -> Result<Recovered, Error> {
    let listed = files.disk().list().map_err(|e| storage("list the log's folder", &e))?;
    let mut numbers: Vec<u64> =
        listed.iter().filter_map(|name| names::segment_number(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        // Not refused: a database whose making was cut short looks the same.
        let traces = [names::RESERVE, names::LOCK];
        if let Some(file) = traces.into_iter().find(|name| before.iter().any(|b| b == name)) {
            tracing::warn!(
                file,
                "the folder holds this file of an earlier database but no segment: starting an \
                 EMPTY database; if there was data, stop and restore the segment files"
            );
        }
        return create(files, options);
    }
    for (expected, number) in (1..).zip(&numbers) {
        if *number != expected {
            return Err(corrupt(expected, 0, "the file is missing, though later ones exist"));
        }
    }
    let mut recovered = Recovery { files, options }.run(numbers.len() as u64, visit)?;
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
fn create(files: &Arc<SegmentFiles>, options: &LogOptions) -> Result<Recovered, Error> {
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
    Ok(Recovered {
        identity,
        next_index: 1,
        last_timestamp_ns: 0,
        active,
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

struct Recovery<'a> {
    files: &'a Arc<SegmentFiles>,
    options: &'a LogOptions,
}

impl Recovery<'_> {
    fn run(&self, count: u64, visit: Visit<'_>) -> Result<Recovered, Error> {
        let (identity, last) = self.last_begun(count)?;
        let mut scanner = Scanner { identity, next_index: 1, last_timestamp_ns: 0, visit };
        for number in 1..last {
            let file = self.open(number)?;
            self.check_first_index(&file, number, scanner.next_index)?;
            let end = scanner.segment(number, &file)?;
            if !end.sealed {
                let why = end.fault.unwrap_or("it ends without a seal");
                let proof = "a later segment proves that it was complete";
                return Err(corrupt(number, end.end, format!("{why}; {proof}")));
            }
        }
        let file = self.open(last)?;
        let first_index = scanner.next_index;
        self.check_first_index(&file, last, first_index)?;
        let end = scanner.segment(last, &file)?;
        let (next_index, last_timestamp_ns) = (scanner.next_index, scanner.last_timestamp_ns);
        let active = self.mend_active(last, file, &end, &identity, first_index)?;
        let mut next = VecDeque::new();
        for number in last + 1..=count {
            next.push_back(self.mend_unbegun(number, &identity)?);
        }
        // A name that was given just before a crash is made durable before it is built upon.
        self.files.disk().sync_names().map_err(|e| storage("sync the log's folder", &e))?;
        Ok(Recovered {
            identity,
            next_index,
            last_timestamp_ns,
            active,
            proven: end.proven,
            next,
            spare: None,
            reserve: None,
        })
    }

    /// The log's identity, and the last segment whose header was written.
    fn last_begun(&self, count: u64) -> Result<(LogIdentity, u64), Error> {
        let mut identity = None;
        let mut last = 0;
        for number in 1..=count {
            match self.header(number)? {
                Ok(header) => {
                    let identity = *identity.get_or_insert(header.identity);
                    if header.identity != identity || header.segment != number {
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
                Err(HeaderFault::Version(version)) => {
                    let detail = format!(
                        "segment {number} has format {version}, and this version knows format \
                         {FORMAT_VERSION}; open the log with the version that wrote it or a newer one"
                    );
                    return Err(Error::new(ErrorCode::VersionMismatch, detail));
                }
            }
        }
        identity.map(|identity| (identity, last)).ok_or_else(|| corrupt(1, 0, "it is missing"))
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

    fn check_first_index(
        &self,
        file: &Arc<dyn DiskFile>,
        number: u64,
        next_index: u64,
    ) -> Result<(), Error> {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        let read = file.read_at(0, &mut bytes);
        read.map_err(|e| storage(format_args!("read the header of segment {number}"), &e))?;
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.first_index == next_index => Ok(()),
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
        file: Arc<dyn DiskFile>,
        end: &SegmentEnd,
        identity: &LogIdentity,
        first_index: u64,
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
