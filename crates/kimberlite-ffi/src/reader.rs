//! Readers: a stream page by page.

use std::sync::Arc;

use kimberlite_client::{Page, Pages, StreamId};
use kimberlite_wire::{CompletionKind, Error};

use crate::arguments::Out;
use crate::boundary::boundary;
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, ClientState, KmbClient};
use crate::closable::Closable;
use crate::detail::{KmbDetail, KmbError};
use crate::handle::Table;
use crate::page::{self, KmbPage};
use crate::queue::{self, KmbQueue};
use crate::submit::{self, Outcome, Target};

/// A walk over a stream, one page after the other, until its end.
///
/// Ownership: made by kmb_reader_new, closed by kmb_reader_close. Threads: safe from every thread;
/// calls take turns.
pub struct KmbReader {
    _private: [u8; 0],
}

static READERS: Table<ReaderState> = Table::new(4, "KmbReader");

/// A reader behind its handle.
pub(crate) struct ReaderState {
    client: Arc<ClientState>,
    pages: Closable<Pages>,
}

impl ReaderState {
    /// The next page; `None` at the end.
    pub(crate) async fn next(&self) -> Result<Option<Page>, Error> {
        let mut pages = self.pages.lock().await?;
        self.pages.until_closed(pages.next()).await
    }
}

/// The reader of a handle.
pub(crate) fn get(reader: *const KmbReader) -> Result<Arc<ReaderState>, Error> {
    READERS.get("reader", reader)
}

/// Closes a reader that nobody wants any more.
pub(crate) fn discard(reader: *mut KmbReader) {
    if let Ok(Some(reader)) = READERS.remove("reader", reader) {
        reader.pages.close();
    }
}

/// Closes every reader.
pub(crate) fn close_all() {
    READERS.drain().iter().for_each(|reader| reader.pages.close());
}

/// Makes a reader of a stream. It asks nothing of the database yet, so that an error about the
/// stream or the offset comes with the first page.
///
/// page_events: at most this many events a page, at least 1. call: holds for each page.
/// reader_out: receives the reader; the caller closes it with kmb_reader_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_reader_new(
    client: *mut KmbClient,
    stream_id: u64,
    from_offset: u64,
    page_events: u64,
    call: *const KmbCallOptions,
    reader_out: *mut *mut KmbReader,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("reader_out", reader_out)?;
        if page_events == 0 {
            return Err(Error::invalid("page_events is 0; ask for at least 1 event"));
        }
        let pages = client
            .pages(StreamId(stream_id), from_offset, page_events)
            .with_options(call::options(call)?);
        let pages = Closable::new("reader", pages);
        out.put(READERS.insert(Arc::new(ReaderState { client, pages }))?);
        Ok(())
    })
}

/// The next page; NULL with OK at the end of the stream and ever after. After an error the same page
/// may be asked for again.
///
/// page_out: receives the page; the caller frees it with kmb_page_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_reader_next(
    reader: *mut KmbReader,
    page_out: *mut *mut KmbPage,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let reader = READERS.get("reader", reader)?;
        let out = Out::new("page_out", page_out)?;
        out.put(page::give_some(wait(reader.next())?));
        Ok(())
    })
}

/// Submits kmb_reader_next. The completion's result: the KmbPage, NULL at the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_reader_next(
    reader: *mut KmbReader,
    queue: *mut KmbQueue,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let reader = READERS.get("reader", reader)?;
        let target = Target::new(queue::get(queue)?, CompletionKind::ReaderNext, tag);
        let pending = reader.client.begin()?;
        let future = Box::pin(async move {
            let page = reader.next().await?;
            Ok(Outcome::result(page::give_some(page)))
        });
        submit::start(target, Some(pending), operation_out, future)
    })
}

/// Closes a reader; a waiting call gets CLOSED, pages live on. A second close is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_reader_close(
    reader: *mut KmbReader,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        if let Some(reader) = READERS.remove("reader", reader)? {
            reader.pages.close();
        }
        Ok(())
    })
}
