//! What complete segments need stays close behind a writer that never rests.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{append, bare};
use kimberlite_log::{
    Database, EntryKind, EntryPlace, EntryView, FaultyDisk, FsDisk, LogOptions, StateMachine,
    open_database,
};
use kimberlite_wire::{Error, ErrorCode};

const SEGMENT_BYTES: u64 = 128 << 10;
const OPTIONS: LogOptions =
    LogOptions { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0, index_cache_bytes: 64 << 10 };

/// Takes its time for every entry, as a large database on a busy machine does.
struct Slow;

/// Cannot apply what it is shown.
struct Failing;

impl StateMachine for Slow {
    fn restore(&mut self, _state: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn apply(&mut self, _entry: &EntryView<'_>, _place: EntryPlace) -> Result<(), Error> {
        std::thread::sleep(std::time::Duration::from_millis(2));
        Ok(())
    }

    fn encode(&self, _first_segment: u64) -> Vec<u8> {
        Vec::new()
    }

    fn forget_places(&mut self, _upto_segment: u64) {}
}

impl StateMachine for Failing {
    fn restore(&mut self, _state: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn apply(&mut self, _entry: &EntryView<'_>, _place: EntryPlace) -> Result<(), Error> {
        Err(Error::new(ErrorCode::Internal, "it cannot be applied"))
    }

    fn encode(&self, _first_segment: u64) -> Vec<u8> {
        Vec::new()
    }

    fn forget_places(&mut self, _upto_segment: u64) {}
}

#[derive(Default)]
struct Kept(AtomicU64);

impl Database for Kept {
    fn machine(&self) -> Box<dyn StateMachine + Send> {
        Box::new(Slow)
    }

    fn covered(&self, segment: u64) {
        self.0.store(segment, Ordering::SeqCst);
    }
}

struct Broken(Kept);

impl Database for Broken {
    fn machine(&self) -> Box<dyn StateMachine + Send> {
        Box::new(Failing)
    }

    fn covered(&self, segment: u64) {
        self.0.covered(segment);
    }
}

/// However fast the writer is, it has at most two segments behind it that the database must index
/// in memory, and what it wrote long ago is found meanwhile.
#[test]
fn footers_keep_up_with_a_writer_that_never_rests() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(FsDisk::new(folder.path()));
    let kept = Arc::new(Kept::default());
    let opened = open_database(disk, OPTIONS, &mut Slow, kept.clone());
    let (mut writer, reader) = opened.expect("it opens");
    let mut segment = 1;
    writer.commit(&[bare(EntryKind::Begin, 0)]).expect("the disk works");
    for ordinal in 1..700 {
        let places = writer.commit(&[append(ordinal, 4000)]).expect("the disk works");
        segment = places[0].segment;
        let covered = kept.0.load(Ordering::SeqCst);
        assert!(segment <= covered + 3, "in segment {segment}, {covered} have footers");
        if covered > 0 {
            let page = reader.index().page_of(2, 1, None).expect("it works");
            assert!(page.is_some_and(|page| page.holds(2, 1)));
        }
    }
    assert!(segment > 20, "{segment} segments");
}

/// Where footers cannot be made, the writer goes on all the same, and its blocks stay with the
/// database.
#[test]
fn footers_that_cannot_be_made_stop_nobody() {
    let disk = FaultyDisk::new(3).with_background();
    let kept = Arc::new(Broken(Kept::default()));
    let opened = open_database(Arc::new(disk), OPTIONS, &mut Slow, kept.clone());
    let (mut writer, _reader) = opened.expect("it opens");
    writer.commit(&[bare(EntryKind::Begin, 0)]).expect("the disk works");
    for ordinal in 1..700 {
        writer.commit(&[append(ordinal, 4000)]).expect("the disk works");
    }
    assert_eq!(kept.0.0.load(Ordering::SeqCst), 0);
}
