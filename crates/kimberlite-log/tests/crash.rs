//! Crashes and failures at every single operation of a scripted life of a log.

mod common;

use std::sync::Arc;

use common::{Kept, Opened, append, bare, check_recovered, command, open_log, rounds};
use kimberlite_log::{EntryDraft, EntryKind, Fault, FaultyDisk, LogOptions, Tear};
use kimberlite_wire::{Error, ErrorCode};

const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 8 << 10, reserve_bytes: 4 << 10, index_cache_bytes: 1 << 20 };

/// What the script has reached.
#[derive(Default)]
struct Progress {
    acknowledged: Vec<Kept>,
    under_way: Vec<Kept>,
}

/// Groups of one entry and of many, within a segment, across its end, and larger than one.
fn groups() -> Vec<Vec<EntryDraft>> {
    let mut ordinal = 0;
    let mut next = || {
        ordinal += 1;
        ordinal
    };
    let mut groups = vec![vec![bare(EntryKind::Begin, 0)], vec![append(next(), 100)]];
    groups.push((0..12).map(|_| append(next(), 300)).collect());
    groups.push(vec![command(next(), 13), append(next(), 0), bare(EntryKind::Time, next())]);
    groups.push(vec![append(next(), 3000)]);
    groups.push((0..5).map(|_| append(next(), 2500)).collect());
    groups.push(vec![append(next(), 20_000), command(next(), 1)]);
    groups.push(vec![append(next(), 10)]);
    groups
}

/// Opens, writes half, closes, opens again and writes the rest. Stops at the first error.
fn script(disk: &FaultyDisk, progress: &mut Progress) -> Result<(), Error> {
    let groups = groups();
    let (first, second) = groups.split_at(groups.len() / 2);
    for half in [first, second] {
        let mut log = open_log(Arc::new(disk.clone()), OPTIONS)?;
        for group in half {
            progress.under_way = group.iter().map(Kept::from).collect();
            log.writer.commit(group)?;
            progress.acknowledged.append(&mut progress.under_way);
        }
        log.writer.close()?;
    }
    Ok(())
}

fn operations() -> u64 {
    let disk = FaultyDisk::new(0);
    script(&disk, &mut Progress::default()).expect("a disk without faults");
    disk.operations()
}

/// Writes on, closes, and finds everything again.
fn goes_on(disk: &FaultyDisk, mut log: Opened, about: &str) {
    let mut expected: Vec<Kept> = log.entries.iter().map(|(kept, _)| kept.clone()).collect();
    for len in [700, 5000, 1] {
        let draft = append(1000 + expected.len() as u64, len);
        log.writer.commit(std::slice::from_ref(&draft)).expect(about);
        expected.push(Kept::from(&draft));
    }
    log.writer.close().expect(about);
    let log = open_log(Arc::new(disk.clone()), OPTIONS).expect(about);
    check_recovered(&log, &expected, &[], about);
}

/// The power goes at every operation of the script, and the cache is lost, kept or torn: everything
/// acknowledged is there, what was under way is there as whole entries or not, and the log goes on.
#[test]
fn a_crash_at_every_operation_loses_nothing_acknowledged() {
    let fixed = [(0, Tear::Lose), (0, Tear::Keep)];
    let tears: Vec<_> =
        fixed.into_iter().chain(rounds(3).map(|round| (round, Tear::Random))).collect();
    for operation in 0..operations() {
        for (round, tear) in tears.iter().copied() {
            let seed = round * 1_000 + operation;
            let about = format!("seed {seed}, a crash at operation {operation}, {tear:?}");
            let disk = FaultyDisk::new(seed);
            disk.fail_at(operation, Fault::Crash);
            let mut progress = Progress::default();
            script(&disk, &mut progress).expect_err(&about);
            let disk = disk.power_cycle(tear);
            let log = open_log(Arc::new(disk.clone()), OPTIONS).expect(&about);
            check_recovered(&log, &progress.acknowledged, &progress.under_way, &about);
            goes_on(&disk, log, &about);
        }
    }
}

/// The power goes again at every operation of the recovery after a crash.
#[test]
fn a_crash_in_the_recovery_loses_nothing_acknowledged() {
    let lives = rounds(1).flat_map(|round| (0..operations()).map(move |at| (round, at)));
    for (round, operation) in lives {
        let mut again = 0;
        loop {
            let seed = round * 1_000_000 + operation * 1_000 + again;
            let about = format!("seed {seed}, crashes at {operation} and {again} later");
            let disk = FaultyDisk::new(seed);
            disk.fail_at(operation, Fault::Crash);
            let mut progress = Progress::default();
            script(&disk, &mut progress).expect_err(&about);
            let disk = disk.power_cycle(Tear::Random);
            disk.fail_at(disk.operations() + again, Fault::Crash);
            drop(open_log(Arc::new(disk.clone()), OPTIONS));
            if !disk.crashed() {
                break;
            }
            let disk = disk.power_cycle(Tear::Random);
            let log = open_log(Arc::new(disk.clone()), OPTIONS).expect(&about);
            check_recovered(&log, &progress.acknowledged, &progress.under_way, &about);
            goes_on(&disk, log, &about);
            again += 1;
        }
    }
}

/// Every operation fails once. The log says so and stays failed; opened again, with or without a
/// new process, it has everything acknowledged, and what it then shows survives a power cut: it was
/// written again where a failed sync had only pretended.
#[test]
fn a_failure_at_every_operation_is_final_until_reopened() {
    for operation in 0..operations() {
        for round in rounds(4) {
            let seed = round * 1_000 + operation;
            let about = format!("seed {seed}, a failure at operation {operation}");
            let disk = FaultyDisk::new(seed);
            disk.fail_at(operation, Fault::Error);
            let mut progress = Progress::default();
            if script(&disk, &mut progress).is_ok() {
                // The reserve failed while the log was opened, which is for reading too.
                continue;
            }
            let disk = if round % 2 == 0 { disk } else { disk.restart() };
            let log = open_log(Arc::new(disk.clone()), OPTIONS).expect(&about);
            check_recovered(&log, &progress.acknowledged, &progress.under_way, &about);
            let shown: Vec<Kept> = log.entries.iter().map(|(kept, _)| kept.clone()).collect();
            drop(log);
            let disk = disk.power_cycle(Tear::Lose);
            let log = open_log(Arc::new(disk.clone()), OPTIONS).expect(&about);
            check_recovered(&log, &shown, &[], &about);
            goes_on(&disk, log, &about);
        }
    }
}

/// After a failed write or sync every commit and the close fail with the same error, which names
/// the step and what to do, without touching the disk.
#[test]
fn a_failed_log_takes_nothing_more() -> Result<(), Error> {
    for (ahead, step) in [(0, "the write failed"), (1, "the sync (fdatasync) failed")] {
        let disk = FaultyDisk::new(ahead);
        let mut log = open_log(Arc::new(disk.clone()), OPTIONS)?;
        log.writer.commit(&[append(1, 10)])?;
        assert!(log.writer.failure().is_none());
        disk.fail_at(disk.operations() + ahead, Fault::Error);
        let first = log.writer.commit(&[append(2, 10)]).expect_err("the disk fails");
        assert_eq!(first.code, ErrorCode::Storage);
        for words in [step, "takes no more changes until", "is restarted"] {
            assert!(first.detail.contains(words), "{first} lacks {words:?}");
        }
        assert_eq!(log.writer.failure(), Some(&first));
        let operations = disk.operations();
        assert_eq!(log.writer.commit(&[append(3, 10)]), Err(first.clone()));
        assert_eq!(log.writer.commit_reserved(&[append(3, 10)]), Err(first.clone()));
        let place = log.reader.clone();
        assert_eq!(log.writer.close(), Err(first));
        assert_eq!(disk.operations(), operations);
        let mut magic = [0; 4];
        place.read_at(1, 0, &mut magic)?;
        assert_eq!(&magic, b"KMBS", "what is committed can still be read");
    }
    Ok(())
}

/// Every subset of the sectors of one unsynced group, in the middle of a segment and as the first
/// of one: the group is there whole or in whole entries from its start, and nothing is called
/// damage.
#[test]
fn every_subset_of_an_unsynced_groups_sectors_recovers() {
    for before in [100, 3800] {
        let disk = FaultyDisk::new(1);
        let options =
            LogOptions { segment_bytes: 4 << 10, reserve_bytes: 0, index_cache_bytes: 1 << 20 };
        let mut log = open_log(Arc::new(disk.clone()), options).expect("an empty disk");
        let first = append(1, before);
        log.writer.commit(std::slice::from_ref(&first)).expect("no fault yet");
        // A group that does not fit next to a large one begins a segment; its sync is the last
        // operation then too.
        let group: Vec<EntryDraft> = (2..7).map(|ordinal| append(ordinal, 300)).collect();
        let probe = disk.duplicate();
        drop(log);
        let mut log = open_log(Arc::new(probe.clone()), options).expect("the same state");
        log.writer.commit(&group).expect("no fault yet");
        let last = probe.operations() - 1;
        drop(log);
        let mut log = open_log(Arc::new(disk.clone()), options).expect("the same state");
        disk.fail_at(last, Fault::Crash);
        log.writer.commit(&group).expect_err("the power goes at the sync");
        let sectors = disk.unsynced_sectors();
        assert!((5..12).contains(&sectors), "{sectors} sectors");
        let kept: Vec<Kept> = group.iter().map(Kept::from).collect();
        for mask in 0..1u64 << sectors {
            let about = format!("{before} before, sectors {mask:b} of {sectors}");
            let disk = disk.duplicate().power_cycle(Tear::Sectors(mask));
            let log = open_log(Arc::new(disk.clone()), options).expect(&about);
            check_recovered(&log, &[Kept::from(&first)], &kept, &about);
            if mask == (1 << sectors) - 1 {
                assert_eq!(log.entries.len(), 6, "{about}: nothing was torn");
            }
            goes_on(&disk, log, &about);
        }
    }
}

/// Random parts of the sectors of unsynced groups of every size, more than can all be tried.
#[test]
fn parts_of_large_unsynced_groups_recover() {
    let options =
        LogOptions { segment_bytes: 64 << 10, reserve_bytes: 0, index_cache_bytes: 1 << 20 };
    for seed in rounds(300) {
        let about = format!("seed {seed}");
        let disk = FaultyDisk::new(seed);
        let mut log = open_log(Arc::new(disk.clone()), options).expect(&about);
        let first = append(1, (seed * 613 % 3_000) as usize);
        log.writer.commit(std::slice::from_ref(&first)).expect(&about);
        let len = |ordinal: u64| (ordinal * seed * 7_919 % 6_000) as usize;
        let group: Vec<_> = (2..3 + seed % 9).map(|number| append(number, len(number))).collect();
        // A write and its sync, where nothing else must be prepared for it.
        disk.fail_at(disk.operations() + 1, Fault::Crash);
        log.writer.commit(&group).expect_err(&about);
        let kept: Vec<Kept> = group.iter().map(Kept::from).collect();
        let disk = disk.power_cycle(Tear::Random);
        let log = open_log(Arc::new(disk.clone()), options).expect(&about);
        check_recovered(&log, &[Kept::from(&first)], &kept, &about);
        drop(log);
        let log = open_log(Arc::new(disk.power_cycle(Tear::Lose)), options).expect(&about);
        check_recovered(&log, &[Kept::from(&first)], &kept, &about);
    }
}

/// What a torn group left behind its cut is zeroed: otherwise a later group of the right length
/// would end where a frame of the torn one begins, and bring an entry back that nobody acknowledged.
#[test]
fn the_rest_of_a_torn_group_never_comes_back() {
    let options =
        LogOptions { segment_bytes: 8 << 20, reserve_bytes: 0, index_cache_bytes: 1 << 20 };
    let disk = FaultyDisk::new(2);
    let mut log = open_log(Arc::new(disk.clone()), options).expect("an empty disk");
    let mut first: Vec<EntryDraft> = (1..3).map(|ordinal| append(ordinal, 300_000)).collect();
    log.writer.commit(&first).expect("no fault yet");
    // Two frames: each takes one of these. The first sector is lost, and with it the first frame.
    let torn: Vec<EntryDraft> = (3..5).map(|ordinal| append(ordinal, 900_000)).collect();
    let probe = disk.duplicate();
    drop(log);
    let mut log = open_log(Arc::new(probe.clone()), options).expect("the same state");
    log.writer.commit(&torn).expect("no fault yet");
    drop(log);
    let mut log = open_log(Arc::new(disk.clone()), options).expect("the same state");
    disk.fail_at(probe.operations() - 1, Fault::Crash);
    log.writer.commit(&torn).expect_err("the power goes at the sync");
    let disk = disk.power_cycle(Tear::Sectors(!1));
    let mut log = open_log(Arc::new(disk.clone()), options).expect("a torn tail is no damage");
    assert_eq!(log.entries.len(), 2);
    first.push(append(3, 900_000));
    log.writer.commit(&first[2..]).expect("a healthy disk");
    drop(log);
    let log = open_log(Arc::new(disk), options).expect("a healthy disk");
    let kept: Vec<Kept> = first.iter().map(Kept::from).collect();
    check_recovered(&log, &kept, &[], "after the torn group");
}
