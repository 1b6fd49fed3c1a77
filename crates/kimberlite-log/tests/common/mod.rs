//! Drafts to write and a copy of what was visited, for all tests of the log.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::Arc;

use kimberlite_log::{
    Disk, EntryDraft, EntryKind, EntryPlace, LogOptions, LogReader, LogWriter, RequestRow, open,
};
use kimberlite_wire::block::{BlockDraft, content_hash, write_block};
use kimberlite_wire::{Error, EventBatch};

/// What a test remembers of an entry: everything that must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub kind: EntryKind,
    pub ordinal: u64,
    pub timestamp_ns: u64,
    pub rows: Vec<RequestRow>,
    pub command: Vec<u8>,
    pub blocks: Vec<u8>,
}

impl From<&EntryDraft> for Kept {
    fn from(draft: &EntryDraft) -> Kept {
        Kept {
            kind: draft.kind,
            ordinal: draft.ordinal,
            timestamp_ns: draft.timestamp_ns,
            rows: draft.rows.clone(),
            command: draft.command.clone(),
            blocks: draft.blocks.clone(),
        }
    }
}

/// A log that was opened, and what its recovery visited.
pub struct Opened {
    pub writer: LogWriter,
    pub reader: LogReader,
    pub entries: Vec<(Kept, EntryPlace)>,
}

pub fn open_log(disk: Arc<dyn Disk>, options: LogOptions) -> Result<Opened, Error> {
    let mut entries = Vec::new();
    let (writer, reader) = open(disk, options, &mut |view, place| {
        let header = view.header();
        assert_eq!(header.index, place.index);
        assert_eq!(header.entry_len, place.entry_len);
        let kept = Kept {
            kind: header.kind,
            ordinal: header.ordinal,
            timestamp_ns: header.timestamp_ns,
            rows: view.rows().collect(),
            command: view.command().to_vec(),
            blocks: view.blocks().to_vec(),
        };
        entries.push((kept, place));
        Ok(())
    })?;
    Ok(Opened { writer, reader, entries })
}

/// An append of one block with one event of this length.
pub fn append(ordinal: u64, event_len: usize) -> EntryDraft {
    let event: Vec<u8> = (0..event_len).map(|i| (i as u64 * 31 + ordinal) as u8 | 1).collect();
    append_event(ordinal, &event)
}

pub fn append_event(ordinal: u64, event: &[u8]) -> EntryDraft {
    let batch = EventBatch::from_events([event]).expect("one event is a batch");
    let draft = BlockDraft {
        tenant_id: 1,
        stream_id: 2,
        first_offset: ordinal,
        timestamp_ns: ordinal,
        count: 1,
        content: content_hash(batch.payload()),
        body_crc: batch.crc(),
    };
    let mut blocks = Vec::new();
    write_block(&mut blocks, &[7; 32], &draft, batch.payload());
    let row = RequestRow {
        producer_id: 5,
        sequence: ordinal,
        acked_below: ordinal.saturating_sub(3),
        tenant_id: 1,
        stream_id: 2,
        first_offset: ordinal,
        count: 1,
        digest: batch.crc(),
    };
    EntryDraft {
        kind: EntryKind::Append,
        epoch: 1,
        ordinal,
        timestamp_ns: ordinal,
        rows: vec![row],
        command: Vec::new(),
        blocks,
        block_count: 1,
    }
}

/// A command whose body has this length.
pub fn command(ordinal: u64, len: usize) -> EntryDraft {
    EntryDraft {
        kind: EntryKind::Command,
        epoch: 1,
        ordinal,
        timestamp_ns: ordinal,
        rows: Vec::new(),
        command: (0..len).map(|i| (i as u64 * 17 + ordinal) as u8 | 1).collect(),
        blocks: Vec::new(),
        block_count: 0,
    }
}

/// An entry that is a header alone.
pub fn bare(kind: EntryKind, ordinal: u64) -> EntryDraft {
    EntryDraft { kind, command: Vec::new(), ..command(ordinal, 0) }
}

/// Checks that a log holds everything acknowledged and then only whole entries, in order, of the
/// group that was under way.
pub fn check_recovered(log: &Opened, acknowledged: &[Kept], under_way: &[Kept], about: &str) {
    let found: Vec<&Kept> = log.entries.iter().map(|(kept, _)| kept).collect();
    let expected: Vec<&Kept> = acknowledged.iter().chain(under_way).collect();
    assert!(
        found.len() >= acknowledged.len(),
        "{about}: {} of {} acknowledged entries are left",
        found.len(),
        acknowledged.len()
    );
    assert!(found.len() <= expected.len(), "{about}: entries that nobody wrote");
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(found == expected, "{about}: entry {} came back changed", index + 1);
    }
    assert_eq!(log.writer.next_index(), found.len() as u64 + 1, "{about}");
}

/// The seeds of a random test: as many as it is worth in every run, or as KIMBERLITE_ROUNDS says,
/// from 1 or KIMBERLITE_SEED on.
pub fn rounds(usually: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let first = number("KIMBERLITE_SEED").unwrap_or(1);
    first..first + number("KIMBERLITE_ROUNDS").unwrap_or(usually)
}
