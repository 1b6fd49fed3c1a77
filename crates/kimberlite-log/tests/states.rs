//! States, footers and their joining, as a database sees them through a log.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use common::{append, bare};
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

/// Keeps the segment of every block by its offset, until the index knows it.
#[derive(Default)]
struct Placing {
    index: u64,
    places: BTreeMap<u64, u64>,
}

impl StateMachine for Placing {
    fn restore(&mut self, state: &[u8]) -> Result<(), Error> {
        let mut numbers = state
            .chunks_exact(8)
            .map(|bytes| bytes.try_into().map(u64::from_le_bytes).expect("eight bytes"));
        self.index = numbers.next().unwrap_or(0);
        while let (Some(offset), Some(segment)) = (numbers.next(), numbers.next()) {
            self.places.insert(offset, segment);
        }
        Ok(())
    }

    fn apply(&mut self, entry: &EntryView<'_>, place: EntryPlace) -> Result<(), Error> {
        assert_eq!(entry.header().index, self.index + 1, "every entry once, in order");
        self.index += 1;
        for row in entry.rows() {
            self.places.insert(row.first_offset, place.segment);
        }
        Ok(())
    }

    fn encode(&self, first_segment: u64) -> Vec<u8> {
        let kept = self.places.iter().filter(|(_, segment)| **segment >= first_segment);
        let numbers = std::iter::once(self.index).chain(kept.flat_map(|(o, s)| [*o, *s]));
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    fn forget_places(&mut self, upto_segment: u64) {
        self.places.retain(|_, segment| *segment > upto_segment);
    }
}

struct AnyPlaces;

impl Database for AnyPlaces {
    fn machine(&self) -> Box<dyn StateMachine + Send> {
        Box::new(Placing::default())
    }

    fn covered(&self, _segment: u64) {}
}

fn open_placing(disk: &FaultyDisk, about: &str) -> (LogWriter, LogReader, Placing) {
    let mut machine = Placing::default();
    let opened = open_database(Arc::new(disk.clone()), OPTIONS, &mut machine, Arc::new(AnyPlaces));
    let (writer, reader) = opened.expect(about);
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

/// A flip of any byte of any state or footer, and an end at any of them, changes nothing: each block
/// is found through the index, or the machine was shown it, and the log goes on.
#[test]
fn every_byte_of_states_and_footers_may_be_lost() {
    let disk = FaultyDisk::new(0);
    let (mut writer, _, mut machine) = open_placing(&disk, "an empty disk");
    writer.commit(&[bare(EntryKind::Begin, 0)]).expect("the disk works");
    for ordinal in 1..9 {
        let places = writer.commit(&[append(ordinal, 1500)]).expect("the disk works");
        machine.places.insert(ordinal, places[0].segment);
        machine.index = ordinal + 1;
    }
    writer.close_with_state(Some(&machine)).expect("the disk works");
    let covered = count(&disk, "footer-0-");
    assert!(covered >= 3 && count(&disk, "state-") >= 1, "{covered} footers");
    let names = disk.list().expect("the disk works");
    let beside = names.iter().filter(|n| n.starts_with("footer-") || n.starts_with("state-"));
    for name in beside {
        let whole = disk.content(name).expect("it is listed");
        for (at, cut) in (0..whole.len()).flat_map(|at| [(at, false), (at, true)]) {
            let about = format!("{name}, byte {at}, {}", if cut { "an end" } else { "a flip" });
            let disk = disk.duplicate();
            match cut {
                true => disk.set_content(name, &whole[..at]),
                false => assert!(disk.flip(name, at as u64, 1 << (at % 8))),
            }
            let (mut writer, reader, machine) = open_placing(&disk, &about);
            assert_eq!(machine.index, 9, "{about}");
            for offset in 1..9 {
                let page = reader.index().page_of(2, offset, None).expect(&about);
                let found = page.is_some_and(|page| page.holds(2, offset));
                assert!(found || machine.places.contains_key(&offset), "{about}: block {offset}");
            }
            writer.commit(&[append(9, 1500)]).expect(&about);
        }
    }
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
