//! The log: what a writer left, or what never was a log, damaged at will and opened again.
//!
//! Without mended checksums a log that opens holds a prefix of what was written, byte for byte;
//! with them whatever it holds must still be whole and in order. Either way it must take further entries
//! and open once more as it was.

mod build;
mod image;

use kimberlite_log::{EntryPlace, EntryView, LogOptions, LogReader, LogWriter, MemoryDisk, open};
use kimberlite_wire::Error;
use kimberlite_wire::block::BlockView;

use crate::PLANTED;
use crate::input::Input;
use image::Image;

/// Small segments, so that short scripts fill several.
const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 4096, reserve_bytes: 0, index_cache_bytes: 1 << 20 };

/// The input: a log made by a writer or raw bytes, then the damage.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mode = input.u8();
    if mode % 4 == 0 {
        let image = Image::raw(&mut input);
        open_anything(&image);
        return;
    }
    let written = build::write(&mut input);
    let mut image = written.image;
    let damage = image.damage(&mut input);
    if damage.mended {
        return open_anything(&image);
    }
    let disk = image.to_disk();
    match visit(&disk) {
        Ok(opened) => {
            let count = opened.entries.len();
            assert!(opened.entries[..] == written.entries[..count.min(written.entries.len())]);
            assert!(count <= written.entries.len(), "an entry that nobody wrote");
            if !damage.any {
                assert_eq!(count, written.entries.len(), "an acknowledged entry is gone");
            }
            goes_on(disk, opened);
        }
        Err(e) => assert!(damage.any, "an undamaged log does not open: {e}"),
    }
}

/// Opens a log whose checksums may have been mended: what it says may be invented by the fuzzer,
/// but it must be well-formed.
fn open_anything(image: &Image) {
    let disk = image.to_disk();
    if let Ok(opened) = visit(&disk) {
        goes_on(disk, opened);
    }
}

/// A log that was opened, and its entries' bytes.
struct Opened {
    writer: LogWriter,
    reader: LogReader,
    entries: Vec<Vec<u8>>,
    places: Vec<EntryPlace>,
}

/// Opens a log and looks at each entry.
fn visit(disk: &MemoryDisk) -> Result<Opened, Error> {
    let (mut entries, mut places) = (Vec::new(), Vec::new());
    let mut last_timestamp_ns = 0;
    let disk = std::sync::Arc::new(disk.clone());
    let (writer, reader) = open(disk, OPTIONS, &mut |view, place| {
        check_entry(view, &place, entries.len() as u64 + 1);
        let timestamp_ns = view.header().timestamp_ns;
        assert!(timestamp_ns >= last_timestamp_ns, "time goes back");
        last_timestamp_ns = timestamp_ns;
        entries.push(view.bytes().to_vec());
        places.push(place);
        Ok(())
    })?;
    if PLANTED && entries.len() > 2 && places.last().is_some_and(|last| last.segment > 1) {
        // The planted bug: where the last segment begins with a large entry, it is seen twice.
        let large = entries.last().filter(|entry| entry.len() > 1000).cloned();
        entries.extend(large);
    }
    assert_eq!(writer.next_index(), places.len() as u64 + 1);
    assert_eq!(writer.last_timestamp_ns(), last_timestamp_ns);
    Ok(Opened { writer, reader, entries, places })
}

fn check_entry(view: &EntryView<'_>, place: &EntryPlace, index: u64) {
    let header = view.header();
    assert_eq!((header.index, place.index), (index, index), "entries have gaps");
    assert_eq!(header.entry_len as usize, view.bytes().len());
    assert_eq!(place.entry_len, header.entry_len);
    assert!(place.position.is_multiple_of(8) && place.segment > 0);
    if header.kind.has_body() {
        assert!(view.rows().len() == 0 && view.blocks().is_empty());
    } else {
        assert!(view.rows().len() == header.request_count as usize && view.command().is_empty());
    }
    let mut blocks = view.blocks();
    for _ in 0..header.block_count {
        let (block, len) = BlockView::parse(blocks).expect("a block is good").expect("and whole");
        assert!(block.events().len() > 0);
        blocks = &blocks[len..];
    }
    assert!(blocks.is_empty(), "an entry is longer than its blocks");
}

/// A log that has opened gives its bytes to readers, takes more, and opens again as it was.
fn goes_on(disk: MemoryDisk, opened: Opened) {
    let Opened { mut writer, reader, entries, places } = opened;
    for (entry, place) in entries.iter().zip(&places) {
        let mut bytes = vec![0; entry.len()];
        reader.read_at(place.segment, place.position, &mut bytes).expect("what was visited reads");
        assert!(bytes == *entry, "a reader sees something else");
    }
    drop(writer);
    let again = visit(&disk).expect("a log that opened opens again");
    assert!(again.entries == entries, "a log changes by being opened");
    writer = again.writer;
    let timestamp_ns = writer.last_timestamp_ns();
    let more = [build::command(timestamp_ns, b"more"), build::append(timestamp_ns, &[b"data"])];
    // A forged log may stand at the end of what numbers can count; it must refuse, not panic.
    if writer.next_index() > u64::MAX - 10 {
        return;
    }
    writer.commit(&more).expect("a log that opened takes entries");
    writer.close().expect("and closes");
    let last = visit(&disk).expect("what was closed opens");
    assert_eq!(last.entries.len(), entries.len() + more.len(), "new entries are lost");
    assert!(last.entries[..entries.len()] == entries, "older entries change");
}
