//! States, footers and their joining, as a database sees them through a log.

mod common;

use std::sync::{Arc, Mutex};

use common::append;
use kimberlite_log::{
    Database, Disk, EntryKind, EntryPlace, EntryView, FaultyDisk, LogOptions, LogReader, LogWriter,
    StateMachine, open_database,
};
use kimberlite_wire::{Error, ErrorCode};

const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 4 << 10, reserve_bytes: 0, index_cache_bytes: 4 << 10 };

/// Counts entries, and how many of them it was shown itself.
#[derive(Default)]
struct Counting {
    index: u64,
    applied: u64,
}

impl StateMachine for Counting {
    fn restore(&mut self, state: &[u8]) -> Result<(), Error> {
        let bytes = state.try_into().map_err(|_| Error::new(ErrorCode::Corruption, "no state"))?;
        self.index = u64::from_le_bytes(bytes);
        Ok(())
    }

    fn apply(&mut self, entry: &EntryView<'_>, _place: EntryPlace) -> Result<(), Error> {
        assert_eq!(entry.header().index, self.index + 1, "every entry once, in order");
        self.index += 1;
        self.applied += 1;
        Ok(())
    }

    fn encode(&self, _first_segment: u64) -> Vec<u8> {
        self.index.to_le_bytes().to_vec()
    }

    fn forget_places(&mut self, _upto_segment: u64) {}
}

#[derive(Default)]
struct Kept(Mutex<u64>);

impl Database for Kept {
    fn machine(&self) -> Box<dyn StateMachine + Send> {
        Box::new(Counting::default())
    }

    fn covered(&self, segment: u64) {
        let mut covered = self.0.lock().expect("no panic under it");
        assert_eq!(segment, *covered + 1, "segments are covered one by one");
        *covered = segment;
    }
}

fn open(disk: &FaultyDisk, covered: u64) -> (LogWriter, LogReader, Counting) {
    let mut machine = Counting::default();
    let kept = Arc::new(Kept(Mutex::new(covered)));
    let opened = open_database(Arc::new(disk.clone()), OPTIONS, &mut machine, kept);
    let (writer, reader) = opened.expect("it opens");
    (writer, reader, machine)
}

/// An epoch, and then blocks that count: one of every entry's stream, and at times of a rare one.
fn write(writer: &mut LogWriter, from: u64, upto: u64) -> Counting {
    for ordinal in from..upto {
        let mut draft = append(ordinal, 1500);
        if ordinal == 0 {
            (draft.kind, draft.rows, draft.blocks) = (EntryKind::Begin, Vec::new(), Vec::new());
            draft.block_count = 0;
        }
        writer.commit(&[draft]).expect("the disk works");
    }
    Counting { index: writer.next_index() - 1, applied: 0 }
}

fn count(disk: &FaultyDisk, prefix: &str) -> usize {
    disk.list().expect("the disk works").iter().filter(|name| name.starts_with(prefix)).count()
}

/// After an end in good order nothing is read again; after a crash, what came after the last
/// complete segment.
#[test]
fn a_start_reads_only_what_comes_after_the_state() {
    let disk = FaultyDisk::new(0);
    let (mut writer, _, _) = open(&disk, 0);
    let machine = write(&mut writer, 0, 100);
    writer.close_with_state(Some(&machine)).expect("the disk works");
    let covered = count(&disk, "footer-0-") as u64;
    assert!(covered > 40, "{covered}");
    let (mut writer, reader, machine) = open(&disk, covered);
    assert_eq!((machine.index, machine.applied), (100, 0));
    assert_eq!(reader.index().covered(), covered);
    write(&mut writer, 100, 141);
    drop(writer);
    let disk = disk.restart();
    let (_, _, machine) = open(&disk, count(&disk, "footer-0-") as u64);
    assert_eq!(machine.index, 141);
    assert!(machine.applied < 4, "{} entries were read again", machine.applied);
}

/// Four thousand segments make footers of three levels above those of the segments, and every block
/// is found through them by offset, position and time.
#[test]
#[ignore = "takes minutes"]
fn three_levels_are_joined() {
    let disk = FaultyDisk::new(1);
    let (mut writer, reader, _) = open(&disk, 0);
    write(&mut writer, 0, 8300);
    let index = reader.index();
    assert!(index.covered() > 4096, "{} segments", index.covered());
    for (level, least) in [(1, 256), (2, 16), (3, 1)] {
        assert!(count(&disk, &format!("footer-{level}-")) >= least, "level {level}");
    }
    let mut near = None;
    for offset in 1..8000u64 {
        let page = index.page_of(2, offset, near.as_ref()).expect("it works").expect("a block");
        assert!(page.holds(2, offset));
        if offset.is_multiple_of(401) {
            let place = index.last_at(2, offset + 1).expect("it works").expect("a block");
            assert_eq!((place.first_offset, place.index), (offset, offset + 1));
            let before = index.last_before(2, offset).expect("it works");
            assert_eq!(before.map_or(0, |place| place.first_offset), offset - 1);
            assert_eq!(index.data_bytes_before(2, offset).expect("it works"), 1500 * (offset - 1));
            assert_eq!(index.position_at(offset).expect("it works"), offset + 1);
        }
        near = Some(page);
    }
    assert!(index.page_of(3, 0, None).expect("it works").is_none(), "no such stream");
}
