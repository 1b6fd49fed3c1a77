//! Writes a log as a script says.

use std::sync::Arc;

use kimberlite_log::{EntryDraft, EntryKind, MemoryDisk, RequestRow, open};
use kimberlite_wire::EventBatch;
use kimberlite_wire::block::{BlockDraft, content_hash, write_block};

use super::OPTIONS;
use super::image::Image;
use crate::input::Input;

/// What was written, and its files.
pub(super) struct Written {
    pub(super) image: Image,
    pub(super) entries: Vec<Vec<u8>>,
}

/// Commits groups, closes and opens again, up to the script's count of steps.
pub(super) fn write(input: &mut Input<'_>) -> Written {
    let disk = MemoryDisk::new();
    let mut log = Some(writer(&disk));
    let mut timestamp_ns = 0;
    for _ in 0..input.below(12) {
        match input.below(8) {
            0 => {
                let ended = log.take().map_or(Ok(()), kimberlite_log::LogWriter::close);
                ended.expect("a log in memory closes");
                log = Some(writer(&disk));
            }
            1 => {
                drop(log.take());
                log = Some(writer(&disk));
            }
            _ => {
                let group: Vec<EntryDraft> =
                    (0..1 + input.below(3)).map(|_| draft(input, &mut timestamp_ns)).collect();
                let places = log.as_mut().map(|log| log.commit(&group));
                places.expect("it is open").expect("a log in memory takes what fits");
            }
        }
    }
    match (log, input.flag()) {
        (Some(log), true) => log.close().expect("a log in memory closes"),
        (log, _) => drop(log),
    }
    let image = Image::of(&disk);
    let mut entries = Vec::new();
    let opened = open(Arc::new(disk), OPTIONS, &mut |view, _| {
        entries.push(view.bytes().to_vec());
        Ok(())
    });
    opened.expect("what was written opens");
    Written { image, entries }
}

fn writer(disk: &MemoryDisk) -> kimberlite_log::LogWriter {
    let opened = open(Arc::new(disk.clone()), OPTIONS, &mut |_, _| Ok(()));
    opened.expect("what was written opens").0
}

fn draft(input: &mut Input<'_>, timestamp_ns: &mut u64) -> EntryDraft {
    *timestamp_ns += u64::from(input.u8());
    match input.below(6) {
        0 => command(*timestamp_ns, input.short()),
        1 => bare(EntryKind::Begin, *timestamp_ns),
        2 => bare(EntryKind::Time, *timestamp_ns),
        3 => {
            let event = vec![input.u8(); usize::from(input.u16()) % 6000];
            append(*timestamp_ns, &[&event])
        }
        _ => {
            let events: Vec<&[u8]> = (0..1 + input.below(3)).map(|_| input.short()).collect();
            append(*timestamp_ns, &events)
        }
    }
}

/// A command with this body.
pub(super) fn command(timestamp_ns: u64, body: &[u8]) -> EntryDraft {
    EntryDraft { command: body.to_vec(), ..bare(EntryKind::Command, timestamp_ns) }
}

fn bare(kind: EntryKind, timestamp_ns: u64) -> EntryDraft {
    EntryDraft {
        kind,
        epoch: 1,
        ordinal: 0,
        timestamp_ns,
        rows: Vec::new(),
        command: Vec::new(),
        blocks: Vec::new(),
        block_count: 0,
    }
}

/// An append with one block for each event and one row for all of them.
pub(super) fn append(timestamp_ns: u64, events: &[&[u8]]) -> EntryDraft {
    let mut head = [7; 32];
    let mut blocks = Vec::new();
    for (first_offset, event) in (0..).zip(events) {
        let batch = EventBatch::from_events([event]).expect("one small event is a batch");
        let draft = BlockDraft {
            tenant_id: 1,
            stream_id: 2,
            first_offset,
            timestamp_ns,
            count: 1,
            content: content_hash(batch.payload()),
            body_crc: batch.crc(),
        };
        head = write_block(&mut blocks, &head, &draft, batch.payload());
    }
    let count = events.len() as u32;
    let row =
        RequestRow { producer_id: 5, tenant_id: 1, stream_id: 2, count, ..Default::default() };
    let draft = bare(EntryKind::Append, timestamp_ns);
    EntryDraft { rows: vec![row], blocks, block_count: count, ..draft }
}
