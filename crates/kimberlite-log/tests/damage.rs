//! Torn tails are cut and damage is reported: which of the two is decided by proof alone.

mod common;

use std::sync::Arc;

use common::{Kept, append, append_event, check_recovered, command, open_log};
use kimberlite_log::{Disk, EntryDraft, FaultyDisk, LogOptions};
use kimberlite_wire::{Error, ErrorCode};

const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 8 << 10, reserve_bytes: 0, index_cache_bytes: 1 << 20 };
const FIRST: &str = "segment-00000000000000000001";
const SECOND: &str = "segment-00000000000000000002";
const HEADER: u64 = 64;
const FRAME: u64 = 40;

/// A log of these groups, dropped as by a crash or closed; where each group's frame begins and where
/// the last one ends, if all are in the first segment.
fn written(groups: &[Vec<EntryDraft>], close: bool) -> Result<(FaultyDisk, Vec<u64>), Error> {
    let disk = FaultyDisk::new(0);
    let mut log = open_log(Arc::new(disk.clone()), OPTIONS)?;
    let mut starts = vec![HEADER];
    for group in groups {
        let places = log.writer.commit(group)?;
        if let Some(last) = places.last() {
            starts.push(last.position + u64::from(last.entry_len).next_multiple_of(8));
        }
    }
    if close {
        log.writer.close()?;
    }
    Ok((disk, starts))
}

fn kept(groups: &[Vec<EntryDraft>]) -> Vec<Kept> {
    groups.iter().flatten().map(Kept::from).collect()
}

fn three_groups() -> Vec<Vec<EntryDraft>> {
    vec![
        vec![append(1, 100)],
        vec![command(2, 21), append(3, 5)],
        vec![append(4, 50), command(5, 3), append(6, 333)],
    ]
}

/// The log refuses to open: damage at this byte of this segment.
fn assert_corrupt(disk: &FaultyDisk, segment: u64, position: Option<u64>, about: &str) {
    let Err(e) = open_log(Arc::new(disk.clone()), OPTIONS) else {
        panic!("{about}: the log opened");
    };
    assert_eq!(e.code, ErrorCode::Corruption, "{about}: {e}");
    assert!(e.detail.contains(&format!("segment {segment} ")), "{about}: {e}");
    assert!(e.detail.contains(&format!("at byte {}", e.value)), "{about}: {e}");
    if let Some(position) = position {
        assert_eq!(e.value, position, "{about}: {e}");
    }
}

/// Nothing proves that the last group was durable: a flip of any of its bytes, and an end at any of
/// them, is the trace of a torn write, and the groups before it stay.
#[test]
fn the_unproven_last_group_is_cut_at_every_byte() -> Result<(), Error> {
    let groups = three_groups();
    let (disk, starts) = written(&groups, false)?;
    let before = kept(&groups[..2]);
    let whole = disk.content(FIRST).unwrap_or_default();
    for at in starts[2]..starts[3] {
        let flipped = disk.duplicate();
        assert!(flipped.flip(FIRST, at, 1 << (at % 8)));
        let cleared = disk.duplicate();
        let mut bytes = whole.clone();
        bytes[at as usize..].fill(0);
        cleared.set_content(FIRST, &bytes);
        let shortened = disk.duplicate();
        shortened.set_content(FIRST, &whole[..at as usize]);
        for (disk, what) in [(flipped, "flip"), (cleared, "zeroes from"), (shortened, "end")] {
            let about = format!("{what} at byte {at}");
            let mut log = open_log(Arc::new(disk.clone()), OPTIONS).expect(&about);
            if what == "zeroes from" && whole[at as usize..].iter().all(|byte| *byte == 0) {
                check_recovered(&log, &kept(&groups), &[], &about);
                continue;
            }
            check_recovered(&log, &before, &[], &about);
            assert_eq!(log.entries.len(), before.len(), "{about}");
            log.writer.commit(&groups[2]).expect(&about);
            drop(log);
            let log = open_log(Arc::new(disk), OPTIONS).expect(&about);
            check_recovered(&log, &kept(&groups), &[], &about);
        }
    }
    Ok(())
}

/// A clean shutdown proves the last group, and every later group proves those before it: a flip of
/// any of their bytes is CORRUPTION, at the group's first byte.
#[test]
fn what_is_proven_is_reported_at_every_byte() -> Result<(), Error> {
    let groups = three_groups();
    for close in [true, false] {
        let (disk, starts) = written(&groups, close)?;
        let proven = if close { 3 } else { 2 };
        for at in 0..starts[proven] {
            let disk = disk.duplicate();
            assert!(disk.flip(FIRST, at, 1 << (at % 8)));
            let group = starts.iter().rev().find(|start| **start <= at);
            let position = group.copied().unwrap_or(0);
            assert_corrupt(&disk, 1, Some(position), &format!("byte {at}, closed {close}"));
        }
        if close {
            // The empty frame proves, but is itself unproven; without it the group is a tail again.
            let disk = disk.duplicate();
            assert!(disk.flip(FIRST, starts[3] + 9, 4));
            let log = open_log(Arc::new(disk), OPTIONS)?;
            check_recovered(&log, &kept(&groups), &[], "the empty frame is gone");
        }
    }
    Ok(())
}

/// Zeroes over a proven group are damage too, whatever stands behind them.
#[test]
fn a_hole_before_a_proof_is_damage() -> Result<(), Error> {
    let (disk, starts) = written(&three_groups(), false)?;
    let mut bytes = disk.content(FIRST).unwrap_or_default();
    bytes[starts[1] as usize..starts[2] as usize].fill(0);
    disk.set_content(FIRST, &bytes);
    assert_corrupt(&disk, 1, Some(starts[1]), "a hole");
    Ok(())
}

/// A sealed segment is proven to its last byte, its seal included, by the one after it; so is the
/// header of a segment by a second group in it. A missing segment is damage.
#[test]
fn a_sealed_segment_is_proven() -> Result<(), Error> {
    // The first segment is full after two of these, the second holds one.
    let groups: Vec<_> = (1..4).map(|ordinal| vec![append(ordinal, 3000)]).collect();
    let (disk, _) = written(&groups, false)?;
    let log = open_log(Arc::new(disk.duplicate()), OPTIONS)?;
    let places: Vec<_> = log.entries.iter().map(|(_, place)| *place).collect();
    assert_eq!(places.iter().map(|place| place.segment).collect::<Vec<_>>(), [1, 1, 2]);
    drop(log);
    let seal = places[1].position + u64::from(places[1].entry_len);
    for at in (0..seal + 104).step_by(7).chain(seal..seal + 104) {
        let disk = disk.duplicate();
        assert!(disk.flip(FIRST, at, 1 << (at % 8)));
        let position = (at >= seal).then_some(seal);
        assert_corrupt(&disk, 1, position, &format!("byte {at} of a sealed segment"));
    }

    // The only group of the second segment is a tail still, its header included; a second group
    // makes it proven.
    for (groups_after, at) in [(0, 9), (0, 700), (1, 9), (1, 700)] {
        let disk = disk.duplicate();
        let mut log = open_log(Arc::new(disk.clone()), OPTIONS)?;
        for ordinal in 0..groups_after {
            log.writer.commit(&[append(10 + ordinal, 5)])?;
        }
        drop(log);
        assert!(disk.flip(SECOND, at, 2));
        if groups_after == 0 {
            let log = open_log(Arc::new(disk), OPTIONS)?;
            check_recovered(&log, &kept(&groups[..2]), &[], "a torn first group");
            assert_eq!(log.entries.len(), 2);
        } else {
            let position = if at < HEADER { 0 } else { HEADER };
            assert_corrupt(&disk, 2, Some(position), "a proven first group");
        }
    }

    let unsealed = disk.duplicate();
    let mut bytes = disk.content(FIRST).unwrap_or_default();
    bytes[seal as usize..].fill(0);
    unsealed.set_content(FIRST, &bytes);
    assert_corrupt(&unsealed, 1, Some(seal), "a seal that is gone");
    let gap = disk.duplicate();
    assert!(gap.rename(SECOND, "segment-00000000000000000003").is_ok());
    assert_corrupt(&gap, 2, None, "a missing segment");
    disk.set_content(SECOND, &disk.content(FIRST).unwrap_or_default());
    assert_corrupt(&disk, 2, None, "a segment in another's place");
    Ok(())
}

/// A seal as the last thing in the log proves its segment even where no later one was begun.
#[test]
fn a_seal_alone_proves_its_segment() -> Result<(), Error> {
    let groups: Vec<_> = (1..4).map(|ordinal| vec![append(ordinal, 3000)]).collect();
    let (disk, _) = written(&groups, false)?;
    let blank = vec![0; disk.content(SECOND).map_or(0, |bytes| bytes.len())];
    disk.set_content(SECOND, &blank);
    let log = open_log(Arc::new(disk.duplicate()), OPTIONS)?;
    check_recovered(&log, &kept(&groups[..2]), &[], "the second segment was never begun");
    let mut log = log;
    log.writer.commit(&groups[2])?;
    drop(log);
    assert!(disk.flip(FIRST, 200, 1));
    assert_corrupt(&disk, 1, Some(HEADER), "a sealed segment with nothing after it");
    Ok(())
}

/// An event whose bytes look like a frame that proves everything is no proof: the salt of the log's
/// frames is unknown to clients, so that nobody can turn a torn tail into damage.
#[test]
fn events_cannot_forge_proofs() -> Result<(), Error> {
    /// Beyond the torn group's first byte, and before the event.
    const CLAIM: u64 = 500;
    let mut forged = vec![0; FRAME as usize];
    forged[..4].copy_from_slice(b"KMBG");
    forged[8..16].copy_from_slice(&1u64.to_le_bytes());
    forged[16..24].copy_from_slice(&CLAIM.to_le_bytes());
    let crc = crc32c::crc32c(&forged[8..]);
    forged[4..8].copy_from_slice(&crc.to_le_bytes());
    // At each of eight shifts, so that one of them is aligned.
    let event: Vec<u8> = (0..8).flat_map(|shift| [&vec![1; shift][..], &forged].concat()).collect();
    let groups = [vec![append(1, 10)], vec![append_event(2, &event)]];
    let (disk, starts) = written(&groups, false)?;
    assert!(starts[1] < CLAIM && CLAIM < starts[1] + FRAME + 72 + 56 + 128);
    assert!(disk.flip(FIRST, starts[1] + FRAME + 3, 1));
    let log = open_log(Arc::new(disk), OPTIONS)?;
    check_recovered(&log, &kept(&groups[..1]), &[], "a forged proof");
    assert_eq!(log.entries.len(), 1);
    Ok(())
}

/// What a newer version wrote is neither damage nor a torn tail: opening is refused and nothing is
/// changed.
#[test]
fn newer_formats_are_refused_and_left_alone() -> Result<(), Error> {
    let (disk, starts) = written(&three_groups(), false)?;
    let whole = disk.content(FIRST).unwrap_or_default();
    let entry = (starts[2] + FRAME) as usize;
    let reseal = |bytes: &mut [u8], from: usize, len: usize| {
        let crc = crc32c::crc32c(&bytes[from + 8..from + len]);
        bytes[from + 4..from + 8].copy_from_slice(&crc.to_le_bytes());
    };
    // The byte that changes, and the start and length of what its checksum covers: the segment's
    // version, an entry's version and kind, a block's version.
    let block = entry + 72 + 56;
    for (at, from, len) in
        [(8, 0, 64), (entry + 8, entry, 72), (entry + 9, entry, 72), (block + 8, block, 128)]
    {
        let mut bytes = whole.clone();
        bytes[at] = 99;
        reseal(&mut bytes, from, len);
        disk.set_content(FIRST, &bytes);
        let Err(e) = open_log(Arc::new(disk.clone()), OPTIONS) else {
            panic!("byte {at}: the log opened");
        };
        assert_eq!(e.code, ErrorCode::VersionMismatch, "byte {at}: {e}");
        assert_eq!(disk.content(FIRST).as_deref(), Some(&bytes[..]), "byte {at}");
    }
    Ok(())
}

/// Drafts that recovery could not read back are refused before anything is written.
#[test]
fn drafts_that_cannot_be_read_back_are_refused() -> Result<(), Error> {
    let disk = FaultyDisk::new(0);
    let mut log = open_log(Arc::new(disk.clone()), OPTIONS)?;
    log.writer.commit(&[command(9, 4)])?;
    let operations = disk.operations();
    let good = append(10, 10);
    let block_len = good.blocks.len();
    let bad = [
        command(8, 1),
        EntryDraft { block_count: 2, ..good.clone() },
        EntryDraft { block_count: 0, ..good.clone() },
        EntryDraft { blocks: good.blocks[..block_len - 8].to_vec(), ..good.clone() },
        EntryDraft { command: vec![1], ..good.clone() },
        EntryDraft { rows: good.rows.clone(), ..command(10, 1) },
    ];
    for draft in bad {
        let result = log.writer.commit(&[good.clone(), draft]);
        assert_eq!(result.map_err(|e| e.code), Err(ErrorCode::Internal));
    }
    assert_eq!(disk.operations(), operations);
    assert_eq!(log.writer.commit(&[]), Ok(Vec::new()));
    assert_eq!(disk.operations(), operations, "an empty group is no write");
    assert_eq!(log.writer.commit(&[good])?[0].index, 2);
    Ok(())
}

/// A read beyond a segment's end is told as damage at that place, a failing disk as STORAGE.
#[test]
fn readers_say_what_is_wrong() -> Result<(), Error> {
    let disk = FaultyDisk::new(0);
    let log = open_log(Arc::new(disk.clone()), OPTIONS)?;
    let code =
        |segment, position| log.reader.read_at(segment, position, &mut [0; 16]).map_err(|e| e.code);
    assert_eq!(code(1, 0), Ok(()));
    assert_eq!(code(1, (8 << 10) - 8), Err(ErrorCode::Corruption));
    assert_eq!(code(2, 0), Err(ErrorCode::Storage));
    disk.fail_reads(true);
    assert_eq!(code(1, 0), Err(ErrorCode::Storage));
    Ok(())
}

/// A seal whose checksum fits although its last index is the largest number of all is refused like
/// any other that does not belong. The fuzz target `log` found that it was counted up from.
#[test]
fn a_forged_seal_is_refused() -> Result<(), Error> {
    let groups: Vec<_> = (1..4).map(|ordinal| vec![append(ordinal, 3000)]).collect();
    let (disk, _) = written(&groups, false)?;
    let mut bytes = disk.content(FIRST).unwrap_or_default();
    let seal = bytes.windows(4).position(|window| window == b"KMBZ").expect("it is sealed");
    bytes[seal + 24..seal + 32].fill(0xff);
    let crc = crc32c::crc32c(&bytes[seal + 8..seal + 64]);
    bytes[seal + 4..seal + 8].copy_from_slice(&crc.to_le_bytes());
    disk.set_content(FIRST, &bytes);
    assert_corrupt(&disk, 1, None, "a forged seal");
    Ok(())
}
