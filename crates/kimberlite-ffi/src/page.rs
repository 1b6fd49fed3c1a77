//! Packed pages of events.

use kimberlite_client::{Page, StreamId};
use kimberlite_wire::CompletionKind;

use crate::arguments::Out;
use crate::boundary::{boundary, quietly};
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::queue::KmbQueue;
use crate::submit::{Outcome, Submission};

/// A packed page of events: event i is at offset first_offset + i and has the `lens[i]` bytes of data
/// that end before `data[ends[i]]`.
///
/// Ownership: freed once by kmb_page_free; every pointer is valid until then. Threads: it never
/// changes, so any thread may read it.
#[repr(C)]
pub struct KmbPage {
    /// How many events there are.
    pub count: usize,
    /// The offset of the first event; the others follow without gaps.
    pub first_offset: u64,
    /// The data of all events, one after the other; not NULL, even where it is empty.
    pub data: *const u8,
    /// Bytes of data.
    pub data_len: usize,
    /// For each event where its data ends in data.
    pub ends: *const u32,
    /// For each event how many bytes it has.
    pub lens: *const u32,
    /// For each event when it was committed, in nanoseconds since the Unix epoch.
    pub timestamps: *const u64,
    /// Where to read on: the offset after the last event.
    pub next_offset: u64,
    /// The stream's next offset when the page was read.
    pub end_offset: u64,
    /// The position that the page reflects; 0 for a page of a subscription.
    pub position: u64,
}

/// A page with the buffers that it points into; the public part comes first.
#[repr(C)]
struct OwnedPage {
    public: KmbPage,
    _page: Page,
}

/// A page for the caller, who frees it.
pub(crate) fn give(page: Page) -> *mut KmbPage {
    let public = KmbPage {
        count: page.count(),
        first_offset: page.first_offset(),
        data: page.data().as_ptr(),
        data_len: page.data().len(),
        ends: page.ends().as_ptr(),
        lens: page.lens().as_ptr(),
        timestamps: page.timestamps().as_ptr(),
        next_offset: page.next_offset(),
        end_offset: page.end_offset(),
        position: page.position(),
    };
    // The buffers stay where they are when the page itself moves into the box.
    Box::into_raw(Box::new(OwnedPage { public, _page: page })).cast()
}

/// A page, or NULL for none.
pub(crate) fn give_some(page: Option<Page>) -> *mut KmbPage {
    page.map_or(std::ptr::null_mut(), give)
}

/// Frees a page that [`give`] made; NULL is harmless.
///
/// # Safety
/// It must not be freed yet.
pub(crate) unsafe fn free(page: *mut KmbPage) {
    if !page.is_null() {
        // SAFETY: `give` made it from such a box, and the caller frees it once.
        drop(unsafe { Box::from_raw(page.cast::<OwnedPage>()) });
    }
}

/// Reads a page of events in order, as many as the bounds allow; one of no events at the end of the
/// stream. OFFSET_OUT_OF_RANGE beyond it.
///
/// max_events: at least 1. max_bytes: at most about this many bytes of data, but at least one event;
/// 0 for the limit. page_out: receives the page; the caller frees it with kmb_page_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_read_page(
    client: *mut KmbClient,
    stream_id: u64,
    from_offset: u64,
    max_events: u64,
    max_bytes: u64,
    call: *const KmbCallOptions,
    page_out: *mut *mut KmbPage,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("page_out", page_out)?;
        let options = call::options(call)?;
        let stream = StreamId(stream_id);
        let page = wait(client.read(stream, from_offset, max_events, max_bytes, &options))?;
        out.put(give(page));
        Ok(())
    })
}

/// Submits kmb_read_page. The completion's result: the KmbPage.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_read_page(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    stream_id: u64,
    from_offset: u64,
    max_events: u64,
    max_bytes: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::ReadPage, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            let stream = StreamId(stream_id);
            let page = client.read(stream, from_offset, max_events, max_bytes, &options).await?;
            Ok(Outcome::result(give(page)))
        })
    })
}

/// Frees a page once and, for a subscription's, lets its bytes be sent again. NULL is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_page_free(page: *mut KmbPage) {
    // SAFETY: the caller passes NULL or a page of its own.
    quietly(|| unsafe { free(page) });
}
