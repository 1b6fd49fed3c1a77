//! What a commit costs beside the disk itself: `cargo run --profile fast --example log_bench
//! [folder]`. Raw writes and commits alternate one by one, because the disk's pace drifts; compare
//! them with each other only. Needs about 2 GiB of space, for a moment.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kimberlite_log::{
    EntryDraft, EntryKind, FsDisk, LogOptions, LogWriter, MemoryDisk, RequestRow,
};
use kimberlite_wire::EventBatch;
use kimberlite_wire::block::{BlockDraft, content_hash, write_block};

/// Small commits.
const COMMITS: usize = 4000;
/// Bytes of large groups.
const LARGE_BYTES: usize = 256 << 20;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = parent.join(format!("kimberlite-log-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = small(&folder).and_then(|()| large(&folder)).and_then(|()| memory());
    let fresh = fresh(&folder);
    std::fs::remove_dir_all(&folder)?;
    result.and(fresh)
}

/// One entry of one event at a time against 4 KiB written and synced into zeroes.
fn small(folder: &Path) -> Result<(), Failure> {
    let raw = zero_filled(&folder.join("raw-small"), 64 << 20)?;
    let mut writer = open(&folder.join("small"))?;
    let mut ordinal = 0;
    let (mut raw_times, mut log_times) = (Vec::new(), Vec::new());
    for commit in 0..COMMITS {
        let position = (commit * 4096) as u64 % (64 << 20);
        let start = Instant::now();
        write_at(&raw, position, &[7; 4096])?;
        raw.sync_data()?;
        raw_times.push(start.elapsed());
        ordinal += 1;
        let group = [append(ordinal, 100, 1)?];
        let start = Instant::now();
        writer.commit(&group)?;
        log_times.push(start.elapsed());
    }
    writer.close()?;
    let (raw, log) = (percentile(&mut raw_times, 50), percentile(&mut log_times, 50));
    println!(
        "4 KiB + fdatasync       p50 {raw:>9.1?}  p99 {:>9.1?}",
        percentile(&mut raw_times, 99)
    );
    println!(
        "commit of one event     p50 {log:>9.1?}  p99 {:>9.1?}  p50 ratio {:.2}",
        percentile(&mut log_times, 99),
        log.as_secs_f64() / raw.as_secs_f64()
    );
    Ok(())
}

/// Groups of some size against as many bytes written and synced at once into zeroes.
fn large(folder: &Path) -> Result<(), Failure> {
    for (entries, events) in [(16, 1000), (64, 100), (8, 10_000)] {
        let group: Vec<EntryDraft> =
            (0..entries).map(|_| append(1 << 40, 100, events)).collect::<Result<_, _>>()?;
        let bytes: usize = group.iter().map(|entry| entry.blocks.len() + 128).sum();
        let name = folder.join(format!("large-{entries}-{events}"));
        let raw = zero_filled(&name.with_extension("raw"), LARGE_BYTES as u64)?;
        let payload = vec![7; bytes];
        let mut writer = open(&name)?;
        // Beyond the small first segments, which every log leaves behind once.
        for _ in 0..(24 << 20) / bytes {
            writer.commit(&group)?;
        }
        let groups = LARGE_BYTES / bytes;
        let (mut raw_times, mut log_times) = (Vec::new(), Vec::new());
        for number in 0..groups {
            let start = Instant::now();
            write_at(&raw, (number * bytes) as u64, &payload)?;
            raw.sync_data()?;
            raw_times.push(start.elapsed());
            let start = Instant::now();
            writer.commit(&group)?;
            log_times.push(start.elapsed());
        }
        writer.close()?;
        let mean = |times: &[Duration]| rate(groups * bytes, times.iter().sum());
        let (raw, log) = (mean(&raw_times), mean(&log_times));
        let median =
            percentile(&mut log_times, 50).div_duration_f64(percentile(&mut raw_times, 50));
        println!(
            "{entries:>2} x {events:>5} events, {:>4} KiB: raw {raw:>5.0} MB/s, log {log:>5.0} MB/s \
             (zeroes ahead included), p50 ratio {median:.2}",
            bytes >> 10,
        );
        std::fs::remove_dir_all(&name)?;
    }
    Ok(())
}

/// What the log itself costs, without a disk.
fn memory() -> Result<(), Failure> {
    for events in [1, 1000] {
        let (mut writer, _reader) = kimberlite_log::open(
            Arc::new(MemoryDisk::new()),
            LogOptions::default(),
            &mut |_, _| Ok(()),
        )?;
        let group = [append(1 << 40, 100, events)?];
        let commits = 200_000 / events.max(20);
        let start = Instant::now();
        for _ in 0..commits {
            writer.commit(&group)?;
        }
        let each = start.elapsed() / commits as u32;
        println!("commit of {events:>4} events in memory {each:>9.2?}");
    }
    Ok(())
}

/// A new log from nothing to its first entry, and opening it again.
fn fresh(folder: &Path) -> Result<(), Failure> {
    let (mut made, mut opened) = (Vec::new(), Vec::new());
    for number in 0..15 {
        let name = folder.join(format!("fresh-{number}"));
        let start = Instant::now();
        let mut writer = open(&name)?;
        made.push(start.elapsed());
        writer.commit(&[append(1, 100, 1)?])?;
        writer.close()?;
        let start = Instant::now();
        let writer = open(&name)?;
        opened.push(start.elapsed());
        drop(writer);
    }
    println!(
        "a new log opens in {:.1?}, again in {:.1?} (p50)",
        percentile(&mut made, 50),
        percentile(&mut opened, 50)
    );
    Ok(())
}

fn open(folder: &Path) -> Result<LogWriter, Failure> {
    let disk = Arc::new(FsDisk::new(folder));
    Ok(kimberlite_log::open(disk, LogOptions::default(), &mut |_, _| Ok(()))?.0)
}

fn append(ordinal: u64, event_len: usize, count: usize) -> Result<EntryDraft, Failure> {
    let batch = EventBatch::from_events((0..count).map(|i| vec![i as u8; event_len]))?;
    let draft = BlockDraft {
        tenant_id: 1,
        stream_id: 1,
        first_offset: ordinal,
        timestamp_ns: ordinal,
        count: count as u32,
        content: content_hash(batch.payload()),
        body_crc: batch.crc(),
    };
    let mut blocks = Vec::new();
    write_block(&mut blocks, &[0; 32], &draft, batch.payload());
    Ok(EntryDraft {
        kind: EntryKind::Append,
        epoch: 1,
        ordinal,
        timestamp_ns: ordinal,
        rows: vec![RequestRow { count: count as u32, ..RequestRow::default() }],
        command: Vec::new(),
        blocks,
        block_count: 1,
    })
}

fn zero_filled(path: &Path, len: u64) -> Result<File, Failure> {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let zeroes = vec![0; 1 << 20];
    for _ in 0..len.div_ceil(1 << 20) {
        file.write_all(&zeroes)?;
    }
    file.sync_all()?;
    Ok(file)
}

#[cfg(unix)]
fn write_at(file: &File, position: u64, bytes: &[u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, position)
}

#[cfg(windows)]
fn write_at(file: &File, position: u64, bytes: &[u8]) -> std::io::Result<()> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, position).map(drop)
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e6
}
