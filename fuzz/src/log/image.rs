//! The files of a log as bytes, and what may happen to them.

use std::collections::BTreeMap;

use kimberlite_log::{Disk, MemoryDisk};

use crate::input::Input;

const SEGMENT_MAGIC: &[u8] = b"KMBS";
const FRAME_MAGIC: &[u8] = b"KMBG";
const SEAL_MAGIC: &[u8] = b"KMBZ";
const ENTRY_MAGIC: &[u8] = b"KMBE";
const BLOCK_MAGIC: &[u8] = b"KMBK";
/// No file grows beyond this.
const MAX_FILE_BYTES: usize = 64 << 10;

/// A log's files.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    files: BTreeMap<String, Vec<u8>>,
}

/// What was done to an image.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Damage {
    /// Anything at all.
    pub(super) any: bool,
    /// Checksums were made to fit again.
    pub(super) mended: bool,
}

fn segment(number: usize) -> String {
    format!("segment-{number:020}")
}

impl Image {
    /// Segments of raw bytes, whose checksums fit where the script says so.
    pub(super) fn raw(input: &mut Input<'_>) -> Image {
        let mut image = Image::default();
        let (count, mended) = (1 + input.below(3), input.flag());
        for number in 1..=count {
            let rest = input.rest().len();
            let bytes = if number == count { input.take(rest) } else { input.long() };
            let mut bytes = bytes.to_vec();
            if mended {
                mend(&mut bytes);
            }
            image.files.insert(segment(number), bytes);
        }
        image
    }

    /// A copy of a disk's files.
    pub(super) fn of(disk: &MemoryDisk) -> Image {
        let names = disk.list().expect("memory can be listed");
        let read = |name: String| {
            let file = disk.open(&name).expect("a listed file opens");
            let mut bytes = vec![0; file.len().expect("a file has a length") as usize];
            file.read_at(0, &mut bytes).expect("memory can be read");
            (name, bytes)
        };
        Image { files: names.into_iter().map(read).collect() }
    }

    /// A disk with these files.
    pub(super) fn to_disk(&self) -> MemoryDisk {
        let disk = MemoryDisk::new();
        for (name, bytes) in &self.files {
            let file = disk.create(name).expect("memory takes a file");
            file.write_at(0, bytes).expect("memory takes bytes");
        }
        disk
    }

    /// Does what the rest of the script says.
    pub(super) fn damage(&mut self, input: &mut Input<'_>) -> Damage {
        let mut damage = Damage::default();
        while !input.is_empty() && !self.files.is_empty() {
            damage.any = true;
            let name = self.files.keys().nth(input.below(self.files.len())).cloned();
            let Some(name) = name else { break };
            match input.below(9) {
                0 => {
                    self.files.remove(&name);
                }
                1 => {
                    let other = segment(1 + input.below(4));
                    if let Some(bytes) = self.files.remove(&name) {
                        self.files.insert(other, bytes);
                    }
                }
                2 => {
                    damage.mended = true;
                    self.files.values_mut().for_each(|bytes| mend(bytes));
                }
                action => {
                    if let Some(bytes) = self.files.get_mut(&name) {
                        edit(action, bytes, input);
                    }
                }
            }
        }
        damage
    }
}

fn edit(action: usize, bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let at = usize::from(input.u16()) % (bytes.len() + 1);
    match action {
        3 => bytes.truncate(at),
        4 => {
            let count = usize::from(input.u16()).min(bytes.len() - at);
            bytes[at..at + count].fill(0);
        }
        5 => {
            let from = usize::from(input.u16()) % (bytes.len() + 1);
            let count = usize::from(input.u16()).min(bytes.len() - at.max(from));
            bytes.copy_within(from..from + count, at);
        }
        6 => {
            let garbage = input.short();
            if bytes.len() + garbage.len() < MAX_FILE_BYTES {
                bytes.extend_from_slice(garbage);
            }
        }
        7 => {
            let number = input.number().to_le_bytes();
            let end = bytes.len().min(at / 4 * 4 + 8);
            let start = (at / 4 * 4).min(end);
            bytes[start..end].copy_from_slice(&number[..end - start]);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.u8();
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
        as usize
}

fn put_crc(bytes: &mut [u8], from: usize, upto: usize) {
    if let Some(covered) = bytes.get(from..upto) {
        let crc = crc32c::crc32c(covered);
        bytes[from - 4..from].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Makes the checksums fit of everything that begins like a part of a log: inner parts first.
fn mend(bytes: &mut [u8]) {
    for at in (0..bytes.len().saturating_sub(8)).step_by(8).rev() {
        match &bytes[at..at + 4] {
            magic if magic == SEGMENT_MAGIC || magic == SEAL_MAGIC => {
                put_crc(bytes, at + 8, at + 64)
            }
            magic if magic == FRAME_MAGIC => put_crc(bytes, at + 8, at + 40),
            magic if magic == ENTRY_MAGIC => mend_entry(bytes, at),
            magic if magic == BLOCK_MAGIC => mend_block(bytes, at),
            _ => {}
        }
    }
}

fn mend_entry(bytes: &mut [u8], at: usize) {
    let has_body = matches!(bytes.get(at + 9), Some(3 | 4));
    let meta = if has_body {
        u32_at(bytes, at + 12).saturating_sub(72)
    } else {
        u32_at(bytes, at + 56).saturating_mul(56)
    };
    if let Some(covered) = bytes.get(at + 72..(at + 72).saturating_add(meta)) {
        let crc = crc32c::crc32c(covered);
        bytes[at + 64..at + 68].copy_from_slice(&crc.to_le_bytes());
    }
    put_crc(bytes, at + 8, at + 72);
}

fn mend_block(bytes: &mut [u8], at: usize) {
    let body_len = u32_at(bytes, at + 12);
    if let Some(body) = bytes.get(at + 128..(at + 128).saturating_add(body_len)) {
        let crc = crc32c::crc32c(body);
        bytes[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
    }
    put_crc(bytes, at + 8, at + 128);
}
