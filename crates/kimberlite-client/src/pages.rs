//! Reads a stream page by page.

use kimberlite_wire::Error;

use crate::client::{Client, StreamId};
use crate::config::CallOptions;
use crate::page::Page;

/// Walks over a stream, one page after the other, until its end. Each page is a read of its own, so
/// that a walk of any length takes the memory of one page.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    stream: StreamId,
    next_offset: u64,
    page_events: u64,
    options: CallOptions,
    ended: bool,
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
        let page = self
            .client
            .read(self.stream, self.next_offset, self.page_events, 0, &self.options)
            .await?;
        self.next_offset = page.next_offset();
        self.ended = page.is_empty();
        Ok((!self.ended).then_some(page))
    }

    /// Ends the walk.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }
}
