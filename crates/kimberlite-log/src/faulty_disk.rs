//! A simulated disk for tests: it tears, loses, fails, fills up and flips, by a seed.
//!
//! It is as harsh as a disk may be. A write lives in the cache until its file is synced; when the
//! power goes, each of its sectors of 512 bytes is kept or lost by itself, in any order, and of
//! several writes to one sector any may be the one that is kept. Names that were not synced are
//! lost from some point on. A sync that fails keeps some sectors, forgets that it never wrote the
//! others, and goes on showing them: what Linux does. Sectors themselves are atomic.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, DiskLock, Preparing};

const SECTOR: usize = 512;

/// What happens at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an I/O error, half done.
    Error,
    /// It is half done when the power goes; nothing works until `power_cycle`.
    Crash,
    /// It says that it is done, and is: but a sync keeps only a part, and forgets that it never
    /// wrote the rest, which the machine goes on showing while it has power. No later sync writes
    /// it either.
    Lie,
}

/// What becomes of what was not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// All of it is lost.
    Lose,
    /// All of it is kept.
    Keep,
    /// Any part of it, by the seed.
    Random,
    /// Names are kept; of the unsynced sectors, in the order of files and positions, those whose
    /// bit is set in the mask (bit 63 stands for all after it).
    Sectors(u64),
}

/// A simulated disk. Clones are the same disk in the same run of the machine; a handle from before
/// a `power_cycle` or `restart` fails at everything.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    world: Arc<Mutex<World>>,
    run: u64,
}

#[derive(Clone, Debug)]
struct World {
    files: HashMap<u64, FileState>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// What was done to names since they were last synced.
    name_changes: Vec<NameChange>,
    capacity: Option<u64>,
    random: u64,
    operations: u64,
    faults: HashMap<u64, Fault>,
    reads_fail: bool,
    crashed: bool,
    run: u64,
    locked: bool,
    preparing: Preparing,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, u64),
    Remove(String),
    Rename(String, String),
}

#[derive(Clone, Debug, Default)]
struct FileState {
    /// What the machine shows.
    visible: Vec<u8>,
    /// What is on the platter.
    durable: Vec<u8>,
    /// By sector, every content it was given since the last sync.
    unsynced: BTreeMap<usize, Vec<[u8; SECTOR]>>,
}

#[derive(Debug)]
struct FaultyFile {
    world: Arc<Mutex<World>>,
    run: u64,
    file: u64,
}

#[derive(Debug)]
struct FaultyLock {
    world: Arc<Mutex<World>>,
    run: u64,
}

impl FaultyDisk {
    /// An empty disk that behaves well until told otherwise; segments are prepared in the
    /// foreground, so that the same calls make the same operations.
    pub fn new(seed: u64) -> FaultyDisk {
        let world = World {
            files: HashMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            capacity: None,
            random: seed,
            operations: 0,
            faults: HashMap::new(),
            reads_fail: false,
            crashed: false,
            run: 0,
            locked: false,
            preparing: Preparing::Foreground,
        };
        FaultyDisk { world: Arc::new(Mutex::new(world)), run: 0 }
    }

    /// Lets segments be prepared by the log's thread.
    pub fn with_background(self) -> FaultyDisk {
        self.world().preparing = Preparing::Background;
        self
    }

    /// How many operations that change something were asked for so far.
    pub fn operations(&self) -> u64 {
        self.world().operations
    }

    /// Lets the operation of this number, counted from 0 over the disk's life, go wrong.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.world().faults.insert(operation, fault);
    }

    /// Lets reads fail, or work again.
    pub fn fail_reads(&self, fail: bool) {
        self.world().reads_fail = fail;
    }

    /// How many bytes all files together may have; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity = bytes;
    }

    /// How many bytes all files together have.
    pub fn used(&self) -> u64 {
        self.world().used()
    }

    /// Whether a fault has cut the power.
    pub fn crashed(&self) -> bool {
        self.world().crashed
    }

    /// Cuts the power and starts the machine again.
    pub fn power_cycle(&self, tear: Tear) -> FaultyDisk {
        let mut world = self.world();
        world.tear(tear);
        world.start_again();
        FaultyDisk { world: Arc::clone(&self.world), run: world.run }
    }

    /// Ends the process alone: what it wrote stays as the system shows it, synced or not.
    pub fn restart(&self) -> FaultyDisk {
        let mut world = self.world();
        world.start_again();
        FaultyDisk { world: Arc::clone(&self.world), run: world.run }
    }

    /// Another disk in the same state, to try something else from here. Its lock is free.
    pub fn duplicate(&self) -> FaultyDisk {
        let mut world = self.world().clone();
        world.locked = false;
        FaultyDisk { run: world.run, world: Arc::new(Mutex::new(world)) }
    }

    /// Flips bits of a byte, on the platter and in what is shown; false where there is none.
    pub fn flip(&self, name: &str, position: u64, mask: u8) -> bool {
        let mut world = self.world();
        let Some(file) = world.names.get(name).copied() else { return false };
        let Some(file) = world.files.get_mut(&file) else { return false };
        let mut found = false;
        for bytes in [&mut file.visible, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(position as usize) {
                *byte ^= mask;
                found = true;
            }
        }
        found
    }

    /// What a file shows.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world();
        let file = world.names.get(name)?;
        world.files.get(file).map(|file| file.visible.clone())
    }

    /// Gives a file another content, durably.
    pub fn set_content(&self, name: &str, bytes: &[u8]) {
        let mut world = self.world();
        let file = world.names.get(name).copied().unwrap_or(world.next_file);
        world.next_file = world.next_file.max(file + 1);
        world.names.insert(name.to_owned(), file);
        world.durable_names.insert(name.to_owned(), file);
        let unsynced = BTreeMap::new();
        let (visible, durable) = (bytes.to_vec(), bytes.to_vec());
        world.files.insert(file, FileState { visible, durable, unsynced });
    }

    /// How many sectors were written and not synced.
    pub fn unsynced_sectors(&self) -> usize {
        self.world().files.values().map(|file| file.unsynced.len()).sum()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, World>> {
        alive(&self.world, self.run)
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The world, unless this handle's machine is off.
fn alive(world: &Mutex<World>, run: u64) -> io::Result<MutexGuard<'_, World>> {
    let world = lock(world);
    if world.crashed || world.run != run {
        return Err(io::Error::other("the simulated machine is off"));
    }
    Ok(world)
}

impl World {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    /// Counts an operation; tells what goes wrong with it.
    fn begin(&mut self) -> Option<Fault> {
        let fault = self.faults.remove(&self.operations);
        self.operations += 1;
        self.crashed |= fault == Some(Fault::Crash);
        fault
    }

    /// The same for an operation that is done or not, with nothing between.
    fn begin_whole(&mut self) -> io::Result<()> {
        match self.begin() {
            Some(Fault::Error | Fault::Crash) => Err(io::Error::other("a simulated error")),
            Some(Fault::Lie) | None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|id| self.files.get(id))
            .map(|f| f.visible.len() as u64)
            .sum()
    }

    fn file(&mut self, file: u64) -> io::Result<&mut FileState> {
        self.files.get_mut(&file).ok_or(io::ErrorKind::NotFound.into())
    }

    fn start_again(&mut self) {
        self.run += 1;
        self.crashed = false;
        self.locked = false;
        self.reads_fail = false;
        self.faults.clear();
    }

    fn tear(&mut self, tear: Tear) {
        let kept = match tear {
            Tear::Lose => 0,
            Tear::Keep | Tear::Sectors(_) => self.name_changes.len(),
            Tear::Random => self.random(self.name_changes.len() as u64 + 1) as usize,
        };
        let changes = std::mem::take(&mut self.name_changes);
        for change in changes.into_iter().take(kept) {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        // How likely a sector survives differs from crash to crash.
        let eighths = [1, 4, 7][self.random(3) as usize];
        let mut seen = 0;
        let mut files: Vec<u64> = self.files.keys().copied().collect();
        files.sort_unstable();
        for id in files {
            let Some(mut file) = self.files.remove(&id) else { continue };
            for (sector, versions) in std::mem::take(&mut file.unsynced) {
                let keep = match tear {
                    Tear::Lose => false,
                    Tear::Keep => true,
                    Tear::Random => self.random(8) < eighths,
                    Tear::Sectors(mask) => mask >> seen.min(63) & 1 == 1,
                };
                seen += 1;
                let last = versions.len() - 1;
                let version =
                    if tear == Tear::Random { self.random(last as u64 + 1) as usize } else { last };
                if keep {
                    file.store(sector, &versions[version]);
                }
            }
            let longer = tear == Tear::Keep || (tear == Tear::Random && self.random(2) == 0);
            if longer && file.durable.len() < file.visible.len() {
                file.durable.resize(file.visible.len(), 0);
            }
            file.visible = file.durable.clone();
            self.files.insert(id, file);
        }
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Set(name, file) => {
                names.insert(name, file);
            }
            NameChange::Remove(name) => {
                names.remove(&name);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
        }
    }
}

impl FileState {
    /// Puts a sector on the platter, no further than the file goes.
    fn store(&mut self, sector: usize, bytes: &[u8; SECTOR]) {
        let from = sector * SECTOR;
        let upto = (from + SECTOR).min(self.visible.len());
        if from < upto {
            self.durable.resize(self.durable.len().max(upto), 0);
            self.durable[from..upto].copy_from_slice(&bytes[..upto - from]);
        }
    }

    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        self.visible.resize(self.visible.len().max(end), 0);
        self.visible[position..end].copy_from_slice(bytes);
        for sector in position / SECTOR..end.div_ceil(SECTOR) {
            let from = sector * SECTOR;
            let upto = (from + SECTOR).min(self.visible.len());
            let mut content = [0; SECTOR];
            content[..upto - from].copy_from_slice(&self.visible[from..upto]);
            self.unsynced.entry(sector).or_default().push(content);
        }
    }

    fn sync(&mut self) {
        for (sector, versions) in std::mem::take(&mut self.unsynced) {
            self.store(sector, &versions[versions.len() - 1]);
        }
        self.durable.resize(self.durable.len().max(self.visible.len()), 0);
    }
}

impl Disk for FaultyDisk {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        let mut world = self.alive()?;
        if world.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        world.locked = true;
        Ok(Box::new(FaultyLock { world: Arc::clone(&self.world), run: self.run }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let world = self.alive()?;
        let file = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile { world: Arc::clone(&self.world), run: self.run, file }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.alive()?;
        world.begin_whole()?;
        let file = world.next_file;
        world.next_file += 1;
        world.files.insert(file, FileState::default());
        let change = NameChange::Set(name.to_owned(), file);
        change.clone().apply(&mut world.names);
        world.name_changes.push(change);
        Ok(Arc::new(FaultyFile { world: Arc::clone(&self.world), run: self.run, file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.alive()?;
        world.begin_whole()?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.clone().apply(&mut world.names);
        world.name_changes.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.alive()?;
        world.begin_whole()?;
        let change = NameChange::Remove(name.to_owned());
        change.clone().apply(&mut world.names);
        world.name_changes.push(change);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut world = self.alive()?;
        match world.begin() {
            None => {}
            Some(Fault::Lie) => {
                let changes = std::mem::take(&mut world.name_changes);
                let kept = world.random(changes.len() as u64 + 1) as usize;
                for change in changes.into_iter().take(kept) {
                    change.apply(&mut world.durable_names);
                }
                return Ok(());
            }
            Some(_) => return Err(io::Error::other("a simulated error")),
        }
        world.name_changes.clear();
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn preparing(&self) -> Preparing {
        self.world().preparing
    }
}

impl DiskLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        if world.run == self.run {
            world.locked = false;
        }
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = alive(&self.world, self.run)?;
        if world.reads_fail {
            return Err(io::Error::other("a simulated error"));
        }
        let bytes = &world.file(self.file)?.visible;
        let bytes = bytes.get(position as usize..).unwrap_or(&[]);
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = alive(&self.world, self.run)?;
        let fault = world.begin().filter(|fault| *fault != Fault::Lie);
        let len = world.file(self.file)?.visible.len() as u64;
        let grows = (position + bytes.len() as u64).saturating_sub(len);
        let free = world.capacity.map_or(u64::MAX, |all| all.saturating_sub(world.used()));
        let mut count = bytes.len() as u64 - grows.saturating_sub(free).min(bytes.len() as u64);
        let full = count < bytes.len() as u64;
        if fault.is_some() {
            count = world.random(count + 1);
        }
        world.file(self.file)?.write(position as usize, &bytes[..count as usize]);
        match (fault, full) {
            (Some(_), _) => Err(io::Error::other("a simulated error")),
            (None, true) => Err(io::ErrorKind::StorageFull.into()),
            (None, false) => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = alive(&self.world, self.run)?;
        match world.begin() {
            None => {
                world.file(self.file)?.sync();
                Ok(())
            }
            Some(fault) => {
                if fault != Fault::Crash {
                    let unsynced = std::mem::take(&mut world.file(self.file)?.unsynced);
                    for (sector, versions) in unsynced {
                        if world.random(2) == 0 {
                            world.file(self.file)?.store(sector, &versions[versions.len() - 1]);
                        }
                    }
                }
                if fault == Fault::Lie {
                    return Ok(());
                }
                Err(io::Error::other("a simulated error"))
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(alive(&self.world, self.run)?.file(self.file)?.visible.len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut world = alive(&self.world, self.run)?;
        world.begin_whole()?;
        let now = world.file(self.file)?.visible.len() as u64;
        let free = world.capacity.map_or(u64::MAX, |all| all.saturating_sub(world.used()));
        if len.saturating_sub(now) > free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        world.file(self.file)?.visible.resize(len.max(now) as usize, 0);
        Ok(())
    }
}
