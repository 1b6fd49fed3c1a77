//! Reading into memory that the caller owns.

use kimberlite_client::{Page, StreamId};
use kimberlite_wire::{Error, ErrorCode, limit};

use crate::arguments::{Out, null};
use crate::boundary::boundary;
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::generated::KMB_READ_INTO_EVENT_BYTES;

/// What kmb_read_into wrote to the buffer: at byte 0 a uint64_t timestamp (nanoseconds since the Unix
/// epoch) for each event, at byte 8 * count a uint32_t length for each event, at byte
/// KMB_READ_INTO_EVENT_BYTES * count the data, one event after the other.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KmbReadInto {
    /// The offset of the first event; the others follow without gaps.
    pub first_offset: u64,
    /// Where to read on: the offset after the last event that was written.
    pub next_offset: u64,
    /// The stream's next offset when it was read.
    pub end_offset: u64,
    /// The position that the events reflect.
    pub position: u64,
    /// Bytes of data.
    pub data_len: u64,
    /// How many events were written; 0 at the end of the stream.
    pub count: u32,
    /// 0.
    pub reserved: u32,
}

/// How many events of a page, and bytes of their data, fit into a buffer.
fn fitting(page: &Page, buffer_len: usize) -> Result<(usize, usize), Error> {
    let needed = |count: usize| KMB_READ_INTO_EVENT_BYTES * count + page.ends()[count - 1] as usize;
    // What is needed grows with the count, so the counts that fit come first.
    let (mut fits, mut beyond) = (0, page.count() + 1);
    while beyond - fits > 1 {
        let middle = fits + (beyond - fits) / 2;
        if needed(middle) <= buffer_len { fits = middle } else { beyond = middle }
    }
    if fits == 0 && page.count() > 0 {
        let needed = needed(1) as u64;
        let detail = format!("the event needs {needed} bytes; buffer_len is {buffer_len}");
        return Err(Error::new(ErrorCode::LimitExceeded, detail).with_value(needed));
    }
    Ok((fits, if fits == 0 { 0 } else { page.ends()[fits - 1] as usize }))
}

/// Copies events into a buffer as [`KmbReadInto`] says.
///
/// # Safety
/// The buffer must have room for what [`fitting`] found.
unsafe fn fill(page: &Page, count: usize, data_len: usize, buffer: *mut u8) {
    // SAFETY: 8 + 4 bytes for each event and then the data fit, which is the caller's promise. Bytes
    // are copied, so that the buffer needs no alignment.
    unsafe {
        buffer.copy_from_nonoverlapping(page.timestamps().as_ptr().cast(), 8 * count);
        buffer.add(8 * count).copy_from_nonoverlapping(page.lens().as_ptr().cast(), 4 * count);
        buffer
            .add(KMB_READ_INTO_EVENT_BYTES * count)
            .copy_from_nonoverlapping(page.data().as_ptr(), data_len);
    }
}

/// Reads as many whole events as fit into the caller's buffer. LIMIT_EXCEEDED, with the bytes needed
/// as the detail's value, where not even the first event fits.
///
/// buffer: buffer_len writable bytes of any alignment. read_out: receives what was written; see
/// KmbReadInto for the layout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_read_into(
    client: *mut KmbClient,
    stream_id: u64,
    from_offset: u64,
    max_events: u64,
    call: *const KmbCallOptions,
    buffer: *mut u8,
    buffer_len: usize,
    read_out: *mut KmbReadInto,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("read_out", read_out)?;
        if buffer.is_null() {
            return Err(null("buffer"));
        }
        let options = call::options(call)?;
        let max_bytes = (buffer_len as u64).clamp(1, limit::READ_BYTES);
        let stream = StreamId(stream_id);
        let page = wait(client.read(stream, from_offset, max_events, max_bytes, &options))?;
        let (count, data_len) = fitting(&page, buffer_len)?;
        fill(&page, count, data_len, buffer);
        out.put(KmbReadInto {
            first_offset: page.first_offset(),
            next_offset: page.first_offset() + count as u64,
            end_offset: page.end_offset(),
            position: page.position(),
            data_len: data_len as u64,
            // A page holds far fewer events than 2^32.
            count: count as u32,
            reserved: 0,
        });
        Ok(())
    })
}
