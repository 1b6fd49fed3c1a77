//! A disk that fills up: nothing acknowledged is lost, nothing is half written, audit and control
//! entries go on for a while, and everything goes on once there is space.

mod common;

use std::sync::Arc;

use common::{Kept, Opened, append, check_recovered, command, open_log};
use kimberlite_log::{EntryDraft, FaultyDisk, LogOptions, Tear};
use kimberlite_wire::ErrorCode;

const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 16 << 10, reserve_bytes: 8 << 10, index_cache_bytes: 1 << 20 };

/// Writes groups until the disk is full; remembers what was acknowledged.
fn fill(log: &mut Opened, kept: &mut Vec<Kept>, events: usize, event_len: usize) {
    loop {
        assert!(kept.len() < 10_000, "the disk never fills up");
        let first = 1 + kept.len() as u64;
        let group: Vec<EntryDraft> =
            (0..events).map(|i| append(first + i as u64, event_len)).collect();
        match log.writer.commit(&group) {
            Ok(_) => kept.extend(group.iter().map(Kept::from)),
            Err(e) => {
                assert_eq!(e.code, ErrorCode::Storage);
                assert!(e.detail.contains("once there is space"), "{e}");
                break;
            }
        }
    }
    assert!(log.writer.failure().is_none(), "a full disk is not final");
}

/// With any amount of space and groups of any shape: refused groups leave no trace, and writing
/// goes on when there is space, without or with a power cut in between.
#[test]
fn a_full_disk_is_not_final() {
    for capacity in (20 << 10..90 << 10).step_by(1777) {
        for (events, event_len) in [(1, 100), (3, 1500), (30, 900), (1, 30_000)] {
            let about = format!("{capacity} bytes, groups of {events} × {event_len}");
            let disk = FaultyDisk::new(capacity);
            disk.set_capacity(Some(capacity));
            let mut log = open_log(Arc::new(disk.clone()), OPTIONS).expect(&about);
            let mut kept = Vec::new();
            fill(&mut log, &mut kept, events, event_len);
            assert!(disk.used() <= capacity, "{about}");

            let torn = disk.duplicate().power_cycle(Tear::Random);
            let mut again = open_log(Arc::new(torn.clone()), OPTIONS).expect(&about);
            check_recovered(&again, &kept, &[], &about);
            let mut kept_again = kept.clone();
            fill(&mut again, &mut kept_again, events, event_len);
            let small = |kept: &Vec<Kept>| append(1 + kept.len() as u64, 20);

            for (disk, mut log, mut kept) in [(torn, again, kept_again), (disk, log, kept)] {
                disk.set_capacity(None);
                for _ in 0..20 {
                    log.writer.commit(&[small(&kept)]).expect(&about);
                    kept.push(Kept::from(&small(&kept)));
                }
                log.writer.close().expect(&about);
                let log = open_log(Arc::new(disk.clone()), OPTIONS).expect(&about);
                check_recovered(&log, &kept, &[], &about);
            }
        }
    }
}

/// On a full disk audit and control entries have the reserve to themselves: other groups are
/// refused before it is touched and while it is in use, until there is space to make it anew.
#[test]
fn the_reserve_is_for_control_entries() {
    let disk = FaultyDisk::new(3);
    disk.set_capacity(Some(60 << 10));
    let mut log = open_log(Arc::new(disk.clone()), OPTIONS).expect("enough to begin with");
    let mut kept = Vec::new();
    fill(&mut log, &mut kept, 2, 500);
    // A smaller group may still find room; afterwards there is none for anybody.
    fill(&mut log, &mut kept, 1, 0);
    let mut reserved_bytes = 0;
    loop {
        let draft = command(1 + kept.len() as u64, 400);
        match log.writer.commit_reserved(std::slice::from_ref(&draft)) {
            Ok(_) => kept.push(Kept::from(&draft)),
            Err(e) => {
                assert_eq!(e.code, ErrorCode::Storage);
                break;
            }
        }
        reserved_bytes += 512;
        let refused = log.writer.commit(&[append(1 + kept.len() as u64, 0)]);
        assert_eq!(refused.map_err(|e| e.code), Err(ErrorCode::Storage));
    }
    assert!(reserved_bytes >= 7 << 10, "only {reserved_bytes} bytes of the reserve were of use");
    assert!(log.writer.failure().is_none());

    // The same after a restart on a disk that is still full.
    drop(log);
    let disk = disk.restart();
    let mut log = open_log(Arc::new(disk.clone()), OPTIONS).expect("a full disk can be opened");
    check_recovered(&log, &kept, &[], "reopened on a full disk");
    let refused = log.writer.commit(&[append(1 + kept.len() as u64, 0)]);
    assert_eq!(refused.map_err(|e| e.code), Err(ErrorCode::Storage));
    disk.set_capacity(Some(120 << 10));
    let draft = append(1 + kept.len() as u64, 0);
    log.writer.commit(std::slice::from_ref(&draft)).expect("there is space again");
    kept.push(Kept::from(&draft));
    assert!(disk.content("reserve").is_some_and(|bytes| bytes.len() == 8 << 10));
    log.writer.close().expect("a healthy log");
    let log = open_log(Arc::new(disk), OPTIONS).expect("a healthy log");
    check_recovered(&log, &kept, &[], "at last");
}

/// A disk too full for a log at all says so, and one that has room for it later is fine.
#[test]
fn a_log_is_made_when_there_is_space() {
    let disk = FaultyDisk::new(4);
    disk.set_capacity(Some(5000));
    let Err(e) = open_log(Arc::new(disk.clone()), OPTIONS) else {
        panic!("there was no space for a segment");
    };
    assert_eq!(e.code, ErrorCode::Storage);
    disk.set_capacity(Some(30 << 10));
    let mut log = open_log(Arc::new(disk), OPTIONS).expect("enough space");
    log.writer.commit(&[append(1, 100)]).expect("enough space");
}
