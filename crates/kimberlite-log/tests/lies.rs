//! Disks that lie: a sync that says it is done and is not, and bits that flip. Nothing can bring
//! back what such a disk lost. But what a log shows is what was written, from the first entry on and
//! without a hole; where that is not so, it says CORRUPTION.

mod common;

use std::sync::Arc;

use common::{Kept, Opened, append, command, open_log, rounds};
use kimberlite_log::{Disk, EntryDraft, Fault, FaultyDisk, LogOptions, Tear};
use kimberlite_wire::{Error, ErrorCode};

const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 8 << 10, reserve_bytes: 4 << 10, index_cache_bytes: 1 << 20 };

/// What became of a disk that lied.
#[derive(Debug, Default)]
struct Seen {
    whole: u64,
    shorter: u64,
    corrupt: u64,
}

/// Opens a log on such a disk. What it shows is a beginning of what was written, or it says
/// CORRUPTION; then there is none.
fn look(disk: &FaultyDisk, written: &[Kept], seen: &mut Seen, about: &str) -> Option<Opened> {
    match open_log(Arc::new(disk.clone()), OPTIONS) {
        Ok(log) => {
            assert!(log.entries.len() <= written.len(), "{about}: entries that nobody wrote");
            for (at, ((found, _), expected)) in log.entries.iter().zip(written).enumerate() {
                assert!(found == expected, "{about}: entry {} came back changed", at + 1);
            }
            match log.entries.len() == written.len() {
                true => seen.whole += 1,
                false => seen.shorter += 1,
            }
            Some(log)
        }
        Err(e) => {
            assert_eq!(e.code, ErrorCode::Corruption, "{about}: {e}");
            seen.corrupt += 1;
            None
        }
    }
}

/// Groups in, across and beyond segments, with a close and a new start between.
fn script(disk: &FaultyDisk, written: &mut Vec<Kept>) -> Result<(), Error> {
    for half in 0..2 {
        let mut log = open_log(Arc::new(disk.clone()), OPTIONS)?;
        for (number, len) in [100, 3000, 300, 9000, 10].into_iter().enumerate() {
            let first = 1 + written.len() as u64;
            let group = match (half + number) % 3 {
                0 => vec![append(first, len), command(first + 1, 20)],
                _ => vec![append(first, len)],
            };
            written.extend(group.iter().map(Kept::from));
            log.writer.commit(&group)?;
        }
        log.writer.close()?;
    }
    Ok(())
}

/// Every sync of the script lies once, and the power goes at every operation after it: an old log
/// or CORRUPTION is found, and never one with a hole or with something else in it. An old log takes
/// new entries, and shows those and no others.
#[test]
fn a_sync_that_lies_is_found_out_or_forgotten() {
    let disk = FaultyDisk::new(0);
    script(&disk, &mut Vec::new()).expect("a disk that does not lie");
    let operations = disk.operations();
    let mut seen = Seen::default();
    for lie in 0..operations {
        for crash in lie + 1..=operations {
            for (number, tear) in [Tear::Lose, Tear::Keep, Tear::Random].into_iter().enumerate() {
                let seed = (lie * operations + crash) * 3 + number as u64;
                let about = format!("a lie at {lie}, the power goes at {crash}, {tear:?}");
                let disk = FaultyDisk::new(seed);
                disk.fail_at(lie, Fault::Lie);
                disk.fail_at(crash, Fault::Crash);
                let mut written = Vec::new();
                let crashed = script(&disk, &mut written).is_err();
                assert_eq!(crashed, crash < operations, "{about}");
                let disk = disk.power_cycle(tear);
                let Some(mut log) = look(&disk, &written, &mut seen, &about) else { continue };
                written.truncate(log.entries.len());
                let new = append(500 + seed, 700);
                log.writer.commit(std::slice::from_ref(&new)).expect(&about);
                written.push(Kept::from(&new));
                drop(log);
                let log = open_log(Arc::new(disk.restart()), OPTIONS).expect(&about);
                assert_eq!(log.entries.len(), written.len(), "{about}");
                assert!(log.entries.iter().map(|(kept, _)| kept).eq(&written), "{about}");
            }
        }
    }
    println!("{operations} operations: {seen:?}");
    assert!(seen.whole > 0 && seen.shorter > 0 && seen.corrupt > 0, "{seen:?}");
}

/// Numbers that one seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// Random lives on a disk that lies, flips bits, loses power and ends processes, until the log says
/// CORRUPTION. KIMBERLITE_SEED runs one again, KIMBERLITE_ROUNDS runs more.
#[test]
fn lives_on_a_disk_that_lies() {
    let mut seen = Seen::default();
    for seed in rounds(400) {
        let mut random = Random(seed);
        let mut disk = FaultyDisk::new(seed);
        let (mut written, mut ordinal) = (Vec::new(), 0);
        for life in 0..12 {
            let about = format!("seed {seed}, life {life}");
            let Some(mut log) = look(&disk, &written, &mut seen, &about) else { break };
            written.truncate(log.entries.len());
            for _ in 0..random.below(8) {
                if random.below(4) == 0 {
                    disk.fail_at(disk.operations() + random.below(4), Fault::Lie);
                }
                let group: Vec<EntryDraft> = (0..1 + random.below(4))
                    .map(|_| {
                        ordinal += 1;
                        append(ordinal, random.below(2_500) as usize)
                    })
                    .collect();
                written.extend(group.iter().map(Kept::from));
                log.writer.commit(&group).expect(&about);
            }
            if random.below(3) == 0 {
                log.writer.close().expect(&about);
            } else {
                drop(log);
            }
            disk = match random.below(3) {
                0 => disk.restart(),
                1 => disk.power_cycle(Tear::Lose),
                _ => disk.power_cycle(Tear::Random),
            };
            let files = disk.list().expect("the disk works");
            if random.below(4) == 0 && !files.is_empty() {
                let file = &files[random.below(files.len() as u64) as usize];
                let len = disk.content(file).map_or(0, |bytes| bytes.len() as u64);
                disk.flip(file, random.below(len), 1 << random.below(8));
            }
        }
    }
    println!("{seen:?}");
    assert!(seen.whole > 0 && seen.shorter > 0 && seen.corrupt > 0, "{seen:?}");
}

/// A log whose disk cannot be read says STORAGE and is left alone: it is no damage, and the next
/// start has everything.
#[test]
fn a_disk_that_cannot_be_read_is_no_damage() -> Result<(), Error> {
    let disk = FaultyDisk::new(0);
    let mut written = Vec::new();
    script(&disk, &mut written)?;
    disk.fail_reads(true);
    let operations = disk.operations();
    let Err(e) = open_log(Arc::new(disk.clone()), OPTIONS) else { panic!("the log opened") };
    assert_eq!(e.code, ErrorCode::Storage, "{e}");
    assert_eq!(disk.operations(), operations, "nothing was changed");
    disk.fail_reads(false);
    let mut seen = Seen::default();
    look(&disk, &written, &mut seen, "read again");
    assert_eq!(seen.whole, 1);
    Ok(())
}
