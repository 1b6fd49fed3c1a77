//! Events as batches of the columns offset, timestamp and data.

use std::sync::Arc;

use kimberlite_wire::Error;

use super::columns::{BATCH_DATA_BYTES, Buffer, Column, Kind};
use super::interface::Field;
use super::stream::{Batch, Batches};
use crate::arguments::slice;
use crate::call::wait;
use crate::page::KmbPage;
use crate::reader::{self, KmbReader, ReaderState};

fn fields() -> Vec<Field> {
    let field = |name: &str, kind| Field { name: name.into(), kind, nullable: false };
    vec![
        field("offset", Kind::UInt64),
        field("timestamp", Kind::Timestamp),
        field("data", Kind::Binary),
    ]
}

fn batch(first_offset: u64, ends: Vec<i32>, timestamps: Buffer, data: Buffer) -> Batch {
    let length = ends.len() - 1;
    let column = |buffers| Column { length, null_count: 0, buffers };
    let offsets = (first_offset..).take(length).collect();
    let columns = vec![
        column(vec![Buffer::None, Buffer::U64(offsets)]),
        column(vec![Buffer::None, timestamps]),
        column(vec![Buffer::None, Buffer::I32(ends), data]),
    ];
    Batch { length, columns }
}

/// A page's events, copied.
///
/// # Safety
/// The page's pointers must be as KmbPage says; its ends are not read.
pub(crate) unsafe fn copied(page: &KmbPage) -> Result<Batch, Error> {
    let count = page.count;
    // SAFETY: the caller's promise.
    let (data, lens, timestamps) = unsafe {
        (
            slice("page->data", page.data, page.data_len)?,
            slice("page->lens", page.lens, count)?,
            slice("page->timestamps", page.timestamps, count)?,
        )
    };
    if data.len() > BATCH_DATA_BYTES {
        let (len, bound) = (data.len() as u64, BATCH_DATA_BYTES as u64);
        return Err(Error::limit("page->data_len", len, bound));
    }
    let mut ends = Vec::with_capacity(count + 1);
    let mut end = 0u64;
    ends.push(0);
    for len in lens {
        end += u64::from(*len);
        // What is wrong is told below; until then it only must not wrap.
        ends.push(i32::try_from(end).unwrap_or(i32::MAX));
    }
    if end != data.len() as u64 {
        return Err(Error::invalid(format!(
            "page->lens add up to {end} bytes; page->data_len is {}",
            data.len()
        )));
    }
    let timestamps = Buffer::U64(timestamps.to_vec());
    Ok(batch(page.first_offset, ends, timestamps, Buffer::Bytes(data.to_vec())))
}

/// A stream of one batch of events.
pub(crate) struct One(Option<Batch>);

impl One {
    pub(crate) fn new(batch: Batch) -> One {
        One(Some(batch))
    }
}

impl Batches for One {
    fn fields(&mut self) -> Result<Vec<Field>, Error> {
        Ok(fields())
    }

    fn next(&mut self) -> Result<Option<Batch>, Error> {
        Ok(self.0.take())
    }
}

/// The pages of a reader.
pub(crate) struct Read {
    reader: Arc<ReaderState>,
    /// The reader's handle, which is a number and no address.
    handle: usize,
}

impl Read {
    pub(crate) fn new(reader: *const KmbReader) -> Result<Read, Error> {
        Ok(Read { handle: reader.addr(), reader: reader::get(reader)? })
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        reader::discard(std::ptr::without_provenance_mut(self.handle));
    }
}

impl Batches for Read {
    fn fields(&mut self) -> Result<Vec<Field>, Error> {
        Ok(fields())
    }

    fn next(&mut self) -> Result<Option<Batch>, Error> {
        Ok(wait(self.reader.next())?.map(|page| {
            let mut ends = Vec::with_capacity(page.count() + 1);
            ends.push(0);
            // A page is bounded far below 31 bits.
            ends.extend(page.ends().iter().map(|end| *end as i32));
            let first = page.first_offset();
            let page = Arc::new(page);
            batch(first, ends, Buffer::PageTimestamps(Arc::clone(&page)), Buffer::PageData(page))
        }))
    }
}
