//! The read of a fixed shape: an array of events with a pointer each.

use kimberlite_client::{CallOptions, Client, Page, StreamId};
use kimberlite_wire::{Error, limit};

use crate::arguments::Out;
use crate::boundary::{boundary, quietly};
use crate::call::wait;
use crate::client::{self, KmbClient};
use crate::detail::KmbError;

/// One event of a KmbReadResult.
#[repr(C)]
pub struct KmbEvent {
    /// The event's offset.
    pub offset: u64,
    /// The event's data; valid until the result is freed.
    pub data: *const u8,
    /// Bytes of data.
    pub data_len: usize,
}

/// What kmb_client_read gave.
///
/// Ownership: freed once by kmb_read_result_free; every pointer is valid until then. Threads: any
/// thread may read it.
#[repr(C)]
pub struct KmbReadResult {
    /// The events in order.
    pub events: *mut KmbEvent,
    /// How many there are; 0 at the end of the stream.
    pub event_count: usize,
}

/// A result with what it points into; the public part comes first.
#[repr(C)]
struct OwnedResult {
    public: KmbReadResult,
    _events: Vec<KmbEvent>,
    _pages: Vec<Page>,
}

/// Reads until there are `max_events`, the read limit is reached or the stream ends: an answer may
/// stop earlier than it was asked to.
async fn read_all(
    client: &Client,
    stream: StreamId,
    from_offset: u64,
    max_events: u64,
) -> Result<Vec<Page>, Error> {
    let options = CallOptions::default();
    let mut pages: Vec<Page> = Vec::new();
    let (mut next_offset, mut events, mut bytes) = (from_offset, 0, 0);
    loop {
        let (more_events, more_bytes) = (max_events - events, limit::READ_BYTES - bytes);
        let page = client.read(stream, next_offset, more_events, more_bytes, &options).await?;
        let (count, data_bytes) = (page.count() as u64, page.data().len() as u64);
        // The first event of a read may be larger than asked for; it then belongs to the next one.
        if count == 0 || (bytes > 0 && bytes + data_bytes > limit::READ_BYTES) {
            return Ok(pages);
        }
        next_offset = page.next_offset();
        let at_end = next_offset >= page.end_offset();
        events += count;
        bytes += data_bytes;
        pages.push(page);
        if at_end || events >= max_events || bytes >= limit::READ_BYTES {
            return Ok(pages);
        }
    }
}

fn give(pages: Vec<Page>) -> *mut KmbReadResult {
    let mut events = Vec::with_capacity(pages.iter().map(Page::count).sum());
    for page in &pages {
        for (index, data) in page.iter().enumerate() {
            let offset = page.first_offset() + index as u64;
            events.push(KmbEvent { offset, data: data.as_ptr(), data_len: data.len() });
        }
    }
    let public = KmbReadResult { events: events.as_mut_ptr(), event_count: events.len() };
    Box::into_raw(Box::new(OwnedResult { public, _events: events, _pages: pages })).cast()
}

/// Reads events in order up to max_events, the read limit (16 MiB of data, but at least one event)
/// or the end of the stream. OFFSET_OUT_OF_RANGE beyond it.
///
/// max_events: at least 1. result_out: receives the result; the caller frees it with
/// kmb_read_result_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_read(
    client: *mut KmbClient,
    stream_id: u64,
    from_offset: u64,
    max_events: usize,
    result_out: *mut *mut KmbReadResult,
) -> KmbError {
    boundary!({
        let client = client::get(client)?;
        let out = Out::new("result_out", result_out)?;
        let stream = StreamId(stream_id);
        let pages = wait(read_all(&client, stream, from_offset, max_events as u64))?;
        out.put(give(pages));
        Ok(())
    })
}

/// Frees a read result once; NULL is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_read_result_free(result: *mut KmbReadResult) {
    quietly(|| {
        if !result.is_null() {
            // SAFETY: `give` made it from such a box, and the caller frees it once.
            drop(unsafe { Box::from_raw(result.cast::<OwnedResult>()) });
        }
    });
}
