//! States and footers: an engine that starts from them is the same as one that reads the whole log,
//! whatever became of these files; and what they prove is not passed over.

mod support;

use std::sync::Arc;

use kimberlite_engine::{Engine, EngineOptions, Storage};
use kimberlite_log::{Disk, Fault, FaultyDisk, Tear};
use kimberlite_wire::*;
use proptest::collection::vec;
use proptest::prelude::*;
use support::*;

fn on(disk: &FaultyDisk) -> EngineOptions {
    let storage = Storage::Disk(Arc::new(disk.clone()));
    // A cache that hardly holds anything, so that files are read again and again.
    EngineOptions { storage, segment_bytes: 1 << 16, index_cache_bytes: 8 << 10, ..small() }
}

fn is_beside(name: &str) -> bool {
    name.starts_with("state-") || name.starts_with("footer-")
}

fn names(disk: &FaultyDisk, prefix: &str) -> Vec<String> {
    let mut names = disk.list().expect("the disk works");
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

/// The same log without anything beside it.
fn bare(disk: &FaultyDisk) -> FaultyDisk {
    let bare = disk.duplicate();
    for name in names(&bare, "").iter().filter(|name| is_beside(name)) {
        bare.remove(name).expect("the file is there");
    }
    bare.sync_names().expect("the disk works");
    bare
}

/// Everything that can be asked of an engine.
#[derive(Debug, PartialEq)]
struct Everything {
    position: u64,
    streams: Vec<StreamInfo>,
    events: Vec<Vec<Event>>,
    verified: Vec<VerifyResponse>,
    answers: Vec<Vec<Vec<Value>>>,
    cuts: Vec<Vec<Vec<Value>>>,
}

fn everything(engine: &Engine) -> Everything {
    let ours = root(engine);
    let streams = ours.list(0, 0).expect("the streams").streams;
    let ids: Vec<u64> = streams.iter().map(|stream| stream.stream_id).collect();
    let position = engine.position();
    let events: Vec<Vec<Event>> =
        ids.iter().map(|id| ours.read_all(*id, 0).expect("a read")).collect();
    let mut answers = vec![ours.query("SELECT text FROM _audit").expect("the audit")];
    for (stream, events) in streams.iter().zip(&events) {
        let middle = events.len() as u64 / 2;
        let time = events.get(middle as usize).map_or(0, |event| event.timestamp_ns);
        for sql in [
            "SELECT COUNT(*) FROM {}".to_string(),
            format!("SELECT COUNT(*), min(id), max(id) FROM {{}} WHERE timestamp_ns >= {time}"),
            format!("SELECT id, timestamp_ns, data FROM {{}} WHERE id >= {middle} LIMIT 3"),
            format!("SELECT id, data FROM {{}} WHERE id < {middle} ORDER BY id DESC LIMIT 3"),
            "SELECT id, length(data) FROM {} ORDER BY id DESC".to_string(),
        ] {
            answers.push(ours.query(&sql.replace("{}", &stream.name)).expect("a query"));
        }
    }
    let mut cuts = Vec::new();
    for part in 1..6 {
        let at = position * part / 6;
        let sql = "SELECT * FROM _streams";
        cuts.push(ours.query_at(sql, AtKind::Position, at).expect("a cut").rows);
    }
    let times: Vec<u64> = events.iter().flatten().map(|event| event.timestamp_ns).collect();
    for time in times.iter().step_by(times.len() / 4 + 1) {
        // Of the newest moment the answer commits an entry, which is for later.
        if Some(time) != times.iter().max() {
            let found = ours.query_at("SELECT id FROM s0", AtKind::Timestamp, *time);
            let rows = found.map(|rows| rows.rows.len() as i64 + rows.body.position as i64);
            cuts.push(vec![vec![Value::Int64(rows.unwrap_or(-1))]]);
        }
    }
    let verified = ids.iter().map(|id| ours.verify(*id).expect("a walk")).collect();
    Everything { position, streams, events, verified, answers, cuts }
}

/// An engine on this disk answers as one that reads the whole log, now and after a few appends,
/// repeats of earlier ones among them.
fn same_as_bare(disk: &FaultyDisk, keys: &[(u64, Key, EventBatch)], about: &str) {
    let plain = Engine::open(on(&bare(disk))).expect(about);
    let engine = Engine::open(on(disk)).expect(about);
    assert_eq!(everything(&engine), everything(&plain), "{about}");
    for (stream_id, key, batch) in keys {
        let settle = |engine: &Engine| {
            let done = writer(engine).append_with(*stream_id, ANY, batch, *key);
            done.map_err(|error| (error.code, error.detail))
        };
        let (ours, theirs) = (settle(&engine), settle(&plain));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) if ours.timestamp_ns != theirs.timestamp_ns => {
                assert_eq!((ours.first_offset, ours.count), (theirs.first_offset, theirs.count));
            }
            _ => assert_eq!(ours, theirs, "{about}: a repeat"),
        }
    }
    let id = |engine: &Engine| writer(engine).stream("one more");
    assert_eq!(id(&engine), id(&plain), "{about}");
    engine.close();
    plain.close();
}

#[derive(Clone, Debug)]
enum Step {
    /// To this stream, so many events of this length; whether under a key.
    Append(usize, usize, usize, bool),
    Tenant(u64),
    Close,
    Crash(u8),
    /// Of the files beside the log, which one and what happens to it.
    Harm(usize, Harm),
}

#[derive(Clone, Debug)]
enum Harm {
    Delete,
    Flip(usize, u8),
    Cut(usize),
    Zero(usize),
    Version,
    /// Another file's content.
    Swap(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let len = prop_oneof![3 => 0..300usize, 3 => 300..9000usize, 1 => 9000..40_000usize];
    let harm = prop_oneof![
        3 => Just(Harm::Delete),
        3 => (any::<usize>(), 0..8u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        2 => any::<usize>().prop_map(Harm::Cut),
        2 => any::<usize>().prop_map(Harm::Zero),
        1 => Just(Harm::Version),
        1 => any::<usize>().prop_map(Harm::Swap),
    ];
    prop_oneof![
        20 => (0..4usize, 1..4usize, len, any::<bool>())
            .prop_map(|(s, n, l, k)| Step::Append(s, n, l, k)),
        1 => (3..6u64).prop_map(Step::Tenant),
        2 => Just(Step::Close),
        1 => (0..3u8).prop_map(Step::Crash),
        4 => (any::<usize>(), harm).prop_map(|(file, harm)| Step::Harm(file, harm)),
    ]
}

fn harm(disk: &FaultyDisk, file: usize, harm: &Harm) {
    let names: Vec<String> = names(disk, "").into_iter().filter(|name| is_beside(name)).collect();
    let Some(name) = names.get(file % names.len().max(1)) else { return };
    let mut bytes = disk.content(name).expect("it was listed");
    let len = bytes.len().max(1);
    match harm {
        Harm::Delete => {
            disk.remove(name).expect("the file is there");
            disk.sync_names().expect("the disk works");
            return;
        }
        Harm::Flip(at, bit) => drop(disk.flip(name, (at % len) as u64, 1 << bit)),
        Harm::Cut(at) => bytes.truncate(at % len),
        Harm::Zero(at) => bytes[at % len..].fill(0),
        Harm::Version => bytes[8] = 9,
        Harm::Swap(other) => {
            bytes = disk.content(&names[other % names.len()]).expect("it was listed");
        }
    }
    if !matches!(harm, Harm::Flip(..)) {
        disk.set_content(name, &bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever became of states and footers, while the engine runs or between, it stays the same
    /// as one that reads the whole log.
    #[test]
    fn states_and_footers_change_nothing(seed: u64, steps in vec(steps(), 30..120)) {
        let mut disk = FaultyDisk::new(seed);
        let mut engine = open(on(&disk));
        let streams: Vec<u64> = (0..4).map(|n| writer(&engine).stream(&format!("s{n}"))).collect();
        let producer = writer(&engine).open_producer().expect("a producer");
        let mut keys = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Append(stream, count, len, keyed) => {
                    let batch = events(vec![vec![number as u8; *len]; *count]);
                    let sequence = keys.len() as u64 + 1;
                    let acked_below = sequence.saturating_sub(5).max(1);
                    let key = if *keyed { key(producer, sequence, acked_below) } else { NO_KEY };
                    writer(&engine).append_with(streams[*stream], ANY, &batch, key).expect("done");
                    if *keyed {
                        keys.push((streams[*stream], key, batch));
                    }
                }
                Step::Tenant(tenant_id) => {
                    let root = root(&engine);
                    if root.create_tenant(*tenant_id).is_ok() && number % 2 == 0 {
                        root.delete_tenant(*tenant_id).expect("it exists");
                    }
                }
                Step::Close => {
                    engine.close();
                    same_as_bare(&disk.duplicate(), &keys, &format!("step {number}"));
                    engine = Engine::open(on(&disk)).expect("it opens again");
                }
                Step::Crash(tear) => {
                    let tear = [Tear::Lose, Tear::Keep, Tear::Random][usize::from(*tear)];
                    // The machine is off before the engine can close in good order.
                    disk = disk.power_cycle(tear);
                    drop(engine);
                    engine = Engine::open(on(&disk)).expect("it opens after a crash");
                }
                Step::Harm(file, what) => harm(&disk, *file, what),
            }
        }
        let before = everything(&engine);
        let disk = disk.power_cycle(Tear::Random);
        drop(engine);
        let again = Engine::open(on(&disk)).expect("it opens after a crash");
        prop_assert_eq!(before, everything(&again));
        again.close();
        same_as_bare(&disk, &keys, "at the end");
    }
}

/// A database of many segments: some of them, and one stream that is in few.
fn many_segments(disk: &FaultyDisk, rounds: u64) -> Engine {
    let engine = open(on(disk));
    let ours = writer(&engine);
    let (some, rare) = (ours.stream("s0"), ours.stream("s1"));
    for round in 0..rounds {
        ours.append(some, &[&[round as u8; 20_000], b"x"]).expect("done");
        if round % 97 == 3 {
            ours.append(rare, &[&round.to_le_bytes()]).expect("done");
        }
    }
    engine
}

/// Footers of three levels are made as segments are completed, a start from them is the same, and
/// so it is without those of the upper levels and with the lower ones damaged.
#[test]
fn footers_are_joined_level_by_level() {
    let disk = FaultyDisk::new(1);
    many_segments(&disk, 800).close();
    let count = |prefix: &str| names(&disk, prefix).len();
    let (segments, level_2) = (count("segment-"), count("footer-2-"));
    assert!(segments > 256, "{segments} segments");
    assert_eq!((count("footer-0-"), level_2), (segments - 1, 1));
    assert_eq!((count("footer-1-"), count("state-")), ((segments - 1) / 16, 2));
    same_as_bare(&disk.duplicate(), &[], "whole");
    for (prefix, about) in [("footer-2-", "no level 2"), ("footer-1-", "no level 1")] {
        let disk = disk.duplicate();
        for name in names(&disk, prefix) {
            disk.set_content(&name, b"KMBF, but not really");
        }
        same_as_bare(&disk, &[], about);
    }
    for name in names(&disk, "footer-0-").iter().step_by(5) {
        disk.flip(name, 600, 1);
    }
    same_as_bare(&disk, &[], "damaged footers");
}

/// An engine finds what it wrote while states and footers cannot be written at all.
#[test]
fn footers_that_cannot_be_written_do_no_harm() {
    let disk = FaultyDisk::new(2);
    let engine = many_segments(&disk, 10);
    disk.set_capacity(Some(disk.used() + (600 << 10)));
    let ours = writer(&engine);
    let stream = ours.stream("s0");
    let mut done = 0;
    while ours.append(stream, &[&[7; 3_000]]).is_ok() {
        done += 1;
        assert!(done < 1000, "the disk gets full");
    }
    assert_eq!(ours.data(stream).len(), 20 + done);
    disk.set_capacity(None);
    ours.append(stream, &[&[7; 3_000]]).expect("there is room again");
    assert!(ours.verify(stream).expect("a walk").valid);
    engine.close();
    same_as_bare(&disk, &[], "after a full disk");
}

/// The power goes, or an operation fails, at every operation of a life in which segments are
/// completed, joined and closed: what was acknowledged is there, and states and footers are right
/// or not used.
#[test]
fn every_operation_may_fail() {
    let life = |disk: &FaultyDisk| {
        let mut done = 0u64;
        for _ in 0..2 {
            let Ok(engine) = Engine::open(on(disk)) else { return done };
            if engine.ensure_tenant(1).is_err() {
                return done;
            }
            let ours = writer(&engine);
            let Ok(made) = ours.create_stream("s0", DataClass::NonPhi) else { return done };
            for _ in 0..7 {
                if ours.append(made.stream_id, &[&[7; 25_000]]).is_err() {
                    return done;
                }
                done += 1;
            }
            engine.close();
        }
        done
    };
    let disk = FaultyDisk::new(0);
    assert_eq!(life(&disk), 14);
    assert!(names(&disk, "footer-0-").len() >= 4);
    for operation in 0..disk.operations() {
        let tear = [Tear::Lose, Tear::Random, Tear::Keep][operation as usize % 3];
        for fault in [Fault::Crash, Fault::Error] {
            let about = format!("{fault:?} at {operation}, {tear:?}");
            let disk = FaultyDisk::new(operation);
            disk.fail_at(operation, fault);
            let done = life(&disk);
            let disk = disk.power_cycle(tear);
            let plain = Engine::open(on(&bare(&disk))).expect(&about);
            let engine = Engine::open(on(&disk)).expect(&about);
            if done > 0 {
                let next_offset = writer(&engine).info(3).or(writer(&engine).info(2));
                assert!(next_offset.expect(&about).next_offset >= done, "{about}");
                assert_eq!(everything(&engine), everything(&plain), "{about}");
            }
        }
    }
}

fn assert_missing(disk: &FaultyDisk, segment: usize, about: &str) {
    match Engine::open(on(disk)) {
        Ok(_) => panic!("{about}: it opened"),
        Err(error) => {
            assert_eq!(error.code, ErrorCode::Corruption, "{about}: {error}");
            for words in [format!("segment {segment} "), "restore this file".to_string()] {
                assert!(error.detail.contains(&words), "{about}: {error}");
            }
        }
    }
}

fn without(disk: &FaultyDisk, gone: &[String]) -> FaultyDisk {
    let disk = disk.duplicate();
    for name in gone {
        disk.remove(name).expect("the file is there");
    }
    disk.sync_names().expect("the disk works");
    disk
}

/// Segments that are gone, from the end or all of them, are damage wherever a state, a footer or a
/// seal proves that they were there.
#[test]
fn missing_segments_are_noticed() {
    for close in [true, false] {
        let disk = FaultyDisk::new(3);
        let engine = many_segments(&disk, 20);
        let disk = if close {
            engine.close();
            disk
        } else {
            let disk = disk.power_cycle(Tear::Lose);
            drop(engine);
            disk
        };
        let segments = names(&disk, "segment-");
        let (states, footers) = (names(&disk, "state-"), names(&disk, "footer-"));
        for lost in 1..=segments.len() {
            let left = segments.len() - lost;
            let gone = &segments[left..];
            let about = format!("closed {close}, {lost} segments lost");
            assert_missing(&without(&disk, gone), left + 1, &about);
            let no_states = [gone, &states].concat();
            assert_missing(&without(&disk, &no_states), left + 1, &format!("{about}, no states"));
            let no_footers = [gone, &footers].concat();
            assert_missing(&without(&disk, &no_footers), left + 1, &format!("{about}, no footers"));
            if left > 0 {
                let neither = [gone, &states, &footers].concat();
                assert_missing(&without(&disk, &neither), left + 1, &format!("{about}, neither"));
            }
        }
    }
}

/// Segments that were cut short, or are as they were earlier, are damage where a state proves more.
#[test]
fn segments_that_lost_their_end_are_noticed() {
    let disk = FaultyDisk::new(4);
    let engine = many_segments(&disk, 20);
    let segments = names(&disk, "segment-");
    let early = disk.content(&segments[segments.len() - 1]).expect("it was listed");
    let ours = writer(&engine);
    ours.append(ours.stream("s1"), &[b"one more"]).expect("done");
    engine.close();
    let segments = names(&disk, "segment-");
    for (number, name) in (1..).zip(&segments) {
        for part in [0, 3, 40] {
            let cut = disk.duplicate();
            let bytes = cut.content(name).expect("it was listed");
            cut.set_content(name, &bytes[..bytes.len() * part / 100]);
            assert_missing(&cut, number, &format!("{part} % of {name}"));
        }
    }
    // The last one as it was before the last events: whole, but not all there is.
    let last = segments.len();
    let old = disk.duplicate();
    old.set_content(&segments[last - 1], &early);
    assert_missing(&old, last, "an old copy of the last segment");
}

/// A database that the version before states and footers wrote opens, has everything, and gets
/// them.
#[test]
fn an_older_database_opens() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test-fixtures/golden/0.1/database");
    let disk = FaultyDisk::new(5);
    for entry in std::fs::read_dir(golden).expect("the fixture").flatten() {
        let bytes = std::fs::read(entry.path()).expect("the fixture");
        disk.set_content(&entry.file_name().to_string_lossy(), &bytes);
    }
    for round in 0..3 {
        let engine = Engine::open(on(&disk)).expect("an older database");
        // Reading health data was put on record since.
        assert!(engine.position() >= 146);
        assert!(engine.tenant_exists(1) && engine.tenant_exists(2) && !engine.tenant_exists(9));
        let ours = writer(&engine);
        let (events, patients) = (ours.info(3).expect("events"), ours.info(4).expect("patients"));
        assert_eq!((events.next_offset, events.data_bytes), (240, 48_930), "round {round}");
        assert_eq!((patients.next_offset, patients.data_bytes), (12, 141));
        assert_eq!(events.head[..4], [89, 40, 14, 131]);
        for info in [events, patients] {
            let found = ours.verify(info.stream_id).expect("a walk");
            assert!(found.valid);
            assert_eq!((found.count, found.head), (info.next_offset, info.head));
        }
        assert_eq!(code(root(&engine).create_tenant(9)), ErrorCode::InvalidArgument);
        engine.close();
        assert_eq!(names(&disk, "footer-0-").len(), 1);
    }
}

/// What a database had no time to index before it closed is known after the next start without
/// reading it again, and indexed then.
#[test]
fn closing_before_footers_are_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let open_it = || {
        let options =
            EngineOptions { segment_bytes: 1 << 16, ..EngineOptions::folder(folder.path()) };
        open(options)
    };
    let mut before = None;
    for round in 0..6u64 {
        let engine = open_it();
        let ours = writer(&engine);
        let stream = ours.stream("s0");
        if let Some(before) = &before {
            assert_eq!(&everything(&engine).events, before, "round {round}");
        }
        for number in 0..60 {
            ours.append(stream, &[&[number; 30_000]]).expect("done");
        }
        before = Some(everything(&engine).events);
        engine.close();
    }
    let footers = || {
        let names = std::fs::read_dir(folder.path()).expect("the folder").flatten();
        names.filter(|e| e.file_name().to_string_lossy().starts_with("footer-0-")).count()
    };
    let engine = open_it();
    let deadline = std::time::Instant::now() + PATIENCE;
    while footers() < 170 {
        assert!(std::time::Instant::now() < deadline, "{} footers", footers());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(before, Some(everything(&engine).events));
}
