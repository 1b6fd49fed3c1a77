//! Reads a stream page by page.

use std::time::{Duration, Instant};

use kimberlite_wire::Error;

use crate::ahead::{self, ReadAhead};
use crate::client::{Client, StreamId};
use crate::config::CallOptions;
use crate::page::Page;

/// Walks over a stream, one page after the other, until its end. Each page is a read of its own, so
/// that a walk of any length takes the memory of one page, or of two for a caller who works on each
/// page for a while: the next one is then read meanwhile.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    stream: StreamId,
    next_offset: u64,
    page_events: u64,
    options: CallOptions,
    ended: bool,
    ahead: Option<ReadAhead>,
    /// When the caller got the last page.
    given: Option<Instant>,
}

impl Pages {
    pub(crate) fn new(
        client: Client,
        stream: StreamId,
        from_offset: u64,
        page_events: u64,
    ) -> Pages {
        Pages {
            client,
            stream,
            next_offset: from_offset,
            page_events,
            options: CallOptions::default(),
            ended: false,
            ahead: None,
            given: None,
        }
    }

    /// The same with options for each read.
    pub fn with_options(mut self, options: CallOptions) -> Pages {
        self.options = options;
        self
    }

    /// The offset that the next page begins at.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The next page; `None` at the stream's end and ever after. After an error the walk may go on:
    /// the next call reads the same page again.
    pub async fn next(&mut self) -> Result<Option<Page>, Error> {
        if self.ended {
            return Ok(None);
        }
        if self.page_events == 0 {
            return Err(Error::invalid("page_events is 0; ask for at least 1 event a page"));
        }
        self.client.check_open()?;
        let worked = self.given.take().map(|at| at.elapsed());
        let page = self.read().await?;
        self.next_offset = page.next_offset();
        self.ended = page.is_empty();
        // Where the page reaches the stream's end, the next read must find what comes until then.
        if page.next_offset() < page.end_offset() && worked.is_some_and(|w| w >= ahead::WORTH_IT) {
            let (client, options) = (&self.client, &self.options);
            let (stream, from, max) = (self.stream, self.next_offset, self.page_events);
            self.ahead = ReadAhead::start(client, stream, from, max, options);
        }
        self.given = Some(Instant::now());
        Ok((!self.ended).then_some(page))
    }

    /// The page that was read ahead, else a fresh one, within one deadline.
    async fn read(&mut self) -> Result<Page, Error> {
        crate::process::check()?;
        let mut options = self.options;
        if let Some(ahead) = &mut self.ahead {
            let timeout = Duration::from_millis(self.client.timeout_ms(&options)?);
            let started = Instant::now();
            // Until it came it stays, so that a call that is cancelled loses nothing.
            let page = ahead.page(timeout).await;
            self.ahead = None;
            if let Some(page) = page {
                return Ok(page);
            }
            let left = timeout.saturating_sub(started.elapsed()).as_millis();
            options.timeout_ms = Some(u64::try_from(left).unwrap_or(u64::MAX).max(1));
        }
        self.client.read(self.stream, self.next_offset, self.page_events, 0, &options).await
    }

    /// Ends the walk.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.ahead = None;
    }
}
