//! An end in good order on a disk that is slow.

mod common;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{append, bare};
use kimberlite_log::{
    Database, Disk, DiskFile, DiskLock, EntryKind, EntryPlace, EntryView, FaultyDisk, LogOptions,
    Preparing, StateMachine, open_database,
};
use kimberlite_wire::Error;

/// So many steps of 256 KiB are 6.4 s on the slow disk.
const STATE_BYTES: usize = 64 * (256 << 10);

/// A disk that takes 100 ms to sync a state, and remembers the order of syncs.
#[derive(Debug)]
struct SlowDisk {
    disk: FaultyDisk,
    synced: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct SlowFile {
    name: String,
    file: Arc<dyn DiskFile>,
    synced: Arc<Mutex<Vec<String>>>,
}

impl SlowDisk {
    fn wrap(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let (name, synced) = (name.to_owned(), self.synced.clone());
        Arc::new(SlowFile { name, file, synced })
    }
}

impl Disk for SlowDisk {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(name, self.disk.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(name, self.disk.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn preparing(&self) -> Preparing {
        self.disk.preparing()
    }
}

impl DiskFile for SlowFile {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buffer)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(position, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.name.starts_with("state-") {
            std::thread::sleep(Duration::from_millis(100));
        }
        self.synced.lock().expect("no panic under it").push(self.name.clone());
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
}

/// Has a large state, and counts what it was shown.
#[derive(Default)]
struct Large(AtomicU64);

impl StateMachine for Large {
    fn restore(&mut self, _state: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn apply(&mut self, _entry: &EntryView<'_>, _place: EntryPlace) -> Result<(), Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn encode(&self, _first_segment: u64) -> Vec<u8> {
        vec![7; STATE_BYTES]
    }

    fn forget_places(&mut self, _upto_segment: u64) {}
}

struct Nobody;

impl Database for Nobody {
    fn machine(&self) -> Box<dyn StateMachine + Send> {
        Box::<Large>::default()
    }

    fn covered(&self, _segment: u64) {}
}

/// A state that takes too long is left out: the end proves the last group first, writes only a part
/// of the state, and the next start finds everything without it.
#[test]
fn a_state_that_takes_too_long_is_left_out() {
    let disk = FaultyDisk::new(5);
    let synced = Arc::<Mutex<Vec<String>>>::default();
    let slow = Arc::new(SlowDisk { disk: disk.clone(), synced: synced.clone() });
    let opened =
        open_database(slow, LogOptions::default(), &mut Large::default(), Arc::new(Nobody));
    let (mut writer, _reader) = opened.expect("it opens");
    writer.commit(&[bare(EntryKind::Begin, 0)]).expect("the disk works");
    writer.commit(&[append(1, 100)]).expect("the disk works");
    synced.lock().expect("no panic under it").clear();
    writer.close_with_state(Some(&Large::default())).expect("it ends in good order");
    let synced = synced.lock().expect("no panic under it").clone();
    assert!(!synced[0].starts_with("state-"), "what proves the last group comes first");
    assert!(synced.len() > 2 && synced.len() < 60, "{} steps", synced.len());
    let names = disk.list().expect("the disk works");
    assert!(names.iter().all(|name| !name.starts_with("state-")), "{names:?}");
    let mut machine = Large::default();
    let opened =
        open_database(Arc::new(disk), LogOptions::default(), &mut machine, Arc::new(Nobody));
    let (writer, _reader) = opened.expect("it opens");
    assert_eq!((machine.0.into_inner(), writer.next_index()), (2, 3));
}
