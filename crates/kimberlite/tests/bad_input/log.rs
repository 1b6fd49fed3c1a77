//! kimberlite-log: opening, committing and reading.

use std::sync::Arc;

use kimberlite_log::{
    EntryDraft, EntryKind, FsDisk, LogOptions, LogReader, LogWriter, MemoryDisk, Sequence,
    decode_places, decode_times, open,
};
use kimberlite_wire::{Error, ErrorCode};

use crate::table::Table;

/// Every function of kimberlite-log refuses what it cannot take.
#[test]
fn log() {
    let mut table = Table::new("kimberlite-log");
    let simulated = "of a simulated disk, which tests alone use";
    let options = LogOptions::default();
    table.refused("FsDisk::new", "a file", ErrorCode::Storage, &["Cargo.toml"], || {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        open(Arc::new(FsDisk::new(file)), options, &mut |_, _| Ok(())).map(drop)
    });
    for segment_bytes in [0, 4095] {
        let words = [&format!("segment_bytes is {segment_bytes}")[..], "4096"];
        table.refused("open", "other segments", ErrorCode::InvalidArgument, &words, || {
            let options = LogOptions { segment_bytes, ..options };
            open(Arc::new(MemoryDisk::new()), options, &mut |_, _| Ok(())).map(drop)
        });
    }
    table.holds("EntryKind::from_number", "unknown numbers", || {
        EntryKind::from_number(0).is_none() && EntryKind::from_number(255).is_none()
    });
    let (mut writer, reader) = opened().expect("opens");
    commits(&mut table, &mut writer);
    reads(&mut table, &reader);
    lists(&mut table);
    index(&mut table, &reader);
    table.holds("Sequence::admit", "the last numbers", || {
        let last = u64::MAX;
        let mut sequence = Sequence { epoch: last, ordinal: last };
        !sequence.admit(EntryKind::Time, last, last, 0)
            && !sequence.admit(EntryKind::Time, last, last, last)
    });
    table.finish(&[
        ("FaultyDisk::content", simulated),
        ("FaultyDisk::fail_at", simulated),
        ("FaultyDisk::fail_reads", simulated),
        ("FaultyDisk::flip", simulated),
        ("FaultyDisk::new", simulated),
        ("FaultyDisk::power_cycle", simulated),
        ("FaultyDisk::set_capacity", simulated),
        ("FaultyDisk::set_content", simulated),
        ("LogWriter::close_with_state", "takes every machine"),
        ("PlacePage::holds", "compares every number"),
        ("encode_places", "writes every place"),
        ("encode_times", "writes every time"),
        ("open_database", "refuses what open does; Engine::open, its caller, has rows too"),
    ]);
}

fn opened() -> Result<(LogWriter, LogReader), Error> {
    open(Arc::new(MemoryDisk::new()), LogOptions::default(), &mut |_, _| Ok(()))
}

fn draft() -> EntryDraft {
    EntryDraft {
        kind: EntryKind::Command,
        epoch: 1,
        ordinal: 1,
        timestamp_ns: 10,
        rows: Vec::new(),
        command: vec![1],
        blocks: Vec::new(),
        block_count: 0,
    }
}

/// What no reader would take back is not written.
fn commits(t: &mut Table, writer: &mut LogWriter) {
    writer.commit(&[draft()]).expect("committed");
    let rows: [(&str, &[&str], EntryDraft); 5] = [
        (
            "a time before the last",
            &["timestamp_ns", "9", "10"],
            EntryDraft { timestamp_ns: 9, ..draft() },
        ),
        (
            "blocks that are none",
            &["draft 0", "a block"],
            EntryDraft {
                kind: EntryKind::Append,
                command: vec![],
                blocks: vec![0; 9],
                block_count: 1,
                ..draft()
            },
        ),
        (
            "another count of blocks",
            &["draft 0", "a block"],
            EntryDraft { kind: EntryKind::Append, command: vec![], block_count: 3, ..draft() },
        ),
        ("rows beside a body", &["rows"], EntryDraft { rows: vec![Default::default()], ..draft() }),
        (
            "a body that has no place",
            &["command"],
            EntryDraft { kind: EntryKind::Append, ..draft() },
        ),
    ];
    for (input, words, draft) in rows {
        for name in ["LogWriter::commit", "LogWriter::commit_reserved"] {
            let entries = [draft.clone()];
            t.refused(name, input, ErrorCode::Internal, words, || match name {
                "LogWriter::commit" => writer.commit(&entries),
                _ => writer.commit_reserved(&entries),
            });
        }
    }
    t.holds("LogWriter::commit", "nothing", || writer.commit(&[]).is_ok_and(|p| p.is_empty()));
}

fn reads(t: &mut Table, reader: &LogReader) {
    for (input, code, words, segment, position) in [
        ("another segment", ErrorCode::Storage, "segment 99", 99, 0),
        ("a position beyond the end", ErrorCode::Corruption, "segment 1", 1, 1 << 40),
        ("the last position", ErrorCode::Corruption, "segment 1", 1, u64::MAX),
    ] {
        t.refused("LogReader::read_at", input, code, &[words], || {
            reader.read_at(segment, position, &mut [0; 8])
        });
    }
}

/// Bytes that are no list give none.
fn lists(t: &mut Table) {
    for bytes in [&[0xff; 3][..], &[0x80], &[0xff; 11]] {
        t.holds("decode_places", "bytes that are no list", || decode_places(1, bytes).is_none());
        t.holds("decode_times", "bytes that are no list", || decode_times(bytes).is_none());
    }
}

/// Streams, offsets and times that an index does not have.
fn index(t: &mut Table, reader: &LogReader) {
    let index = reader.index();
    for n in [0, 7, u64::MAX] {
        t.holds("LogIndex::page_of", "another stream", || {
            index.page_of(n, n, None).is_ok_and(|page| page.is_none())
        });
        t.holds("LogIndex::last_at", "another stream", || {
            index.last_at(n, n).is_ok_and(|place| place.is_none())
        });
        t.holds("LogIndex::last_before", "another stream", || {
            index.last_before(n, n).is_ok_and(|place| place.is_none())
        });
        t.holds("LogIndex::data_bytes_before", "another stream", || {
            index.data_bytes_before(n, n).is_ok_and(|bytes| bytes == 0)
        });
        t.holds("LogIndex::position_at", "any time", || index.position_at(n).is_ok());
    }
}
