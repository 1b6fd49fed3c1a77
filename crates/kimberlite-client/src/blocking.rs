//! The same client for synchronous callers. It parks the calling thread itself, so that it also
//! works on a thread of someone else's runtime (which it then blocks, as any blocking call does).

use std::time::Duration;

use kimberlite_wire::{AppendKey, DataClass, Error, EventBatch, StreamInfo, Value, VerifyResponse};

use crate::blocks::Blocks;
use crate::client::{Appended, StreamId};
use crate::config::{At, CallOptions, Config, ExpectedOffset};
use crate::page::Page;
use crate::park::block_on;
use crate::query::QueryResult;

/// A blocking client. Clones share everything; it is safe from every thread.
#[derive(Clone, Debug)]
pub struct Client {
    inner: crate::Client,
}

impl From<crate::Client> for Client {
    fn from(inner: crate::Client) -> Client {
        Client { inner }
    }
}

impl Client {
    /// See [`crate::Client::connect`].
    pub fn connect(config: Config) -> Result<Client, Error> {
        Ok(Client { inner: block_on(crate::Client::connect(config))? })
    }

    /// The same client, asynchronous.
    pub fn to_async(&self) -> crate::Client {
        self.inner.clone()
    }

    /// See [`crate::Client::log_id`].
    pub fn log_id(&self) -> [u8; 16] {
        self.inner.log_id()
    }

    /// See [`crate::Client::create_stream`].
    pub fn create_stream(
        &self,
        name: &str,
        class: DataClass,
        options: &CallOptions,
    ) -> Result<StreamId, Error> {
        block_on(self.inner.create_stream(name, class, options))
    }

    /// See [`crate::Client::append`].
    pub fn append(
        &self,
        stream: StreamId,
        expected: ExpectedOffset,
        events: EventBatch,
        options: &CallOptions,
    ) -> Result<Appended, Error> {
        block_on(self.inner.append(stream, expected, events, options))
    }

    /// See [`crate::Client::append_with_key`].
    pub fn append_with_key(
        &self,
        key: AppendKey,
        stream: StreamId,
        expected: ExpectedOffset,
        events: EventBatch,
        options: &CallOptions,
    ) -> Result<Appended, Error> {
        block_on(self.inner.append_with_key(key, stream, expected, events, options))
    }

    /// See [`crate::Client::open_producer`].
    pub fn open_producer(&self, options: &CallOptions) -> Result<u64, Error> {
        block_on(self.inner.open_producer(options))
    }

    /// See [`crate::Client::read`].
    pub fn read(
        &self,
        stream: StreamId,
        from_offset: u64,
        max_events: u64,
        max_bytes: u64,
        options: &CallOptions,
    ) -> Result<Page, Error> {
        block_on(self.inner.read(stream, from_offset, max_events, max_bytes, options))
    }

    /// See [`crate::Client::read_blocks`].
    pub fn read_blocks(
        &self,
        stream: StreamId,
        from_offset: u64,
        max_events: u64,
        max_bytes: u64,
        options: &CallOptions,
    ) -> Result<Blocks, Error> {
        block_on(self.inner.read_blocks(stream, from_offset, max_events, max_bytes, options))
    }

    /// See [`crate::Client::pages`]; an iterator of pages.
    pub fn pages(&self, stream: StreamId, from_offset: u64, page_events: u64) -> Pages {
        Pages { inner: self.inner.pages(stream, from_offset, page_events) }
    }

    /// See [`crate::Client::subscribe`].
    pub fn subscribe(
        &self,
        stream: StreamId,
        from_offset: u64,
        options: &CallOptions,
    ) -> Result<Subscription, Error> {
        let inner = block_on(self.inner.subscribe(stream, from_offset, options))?;
        Ok(Subscription { inner })
    }

    /// See [`crate::Client::query`].
    pub fn query(
        &self,
        sql: &str,
        params: &[Value],
        at: At,
        options: &CallOptions,
    ) -> Result<QueryResult, Error> {
        block_on(self.inner.query(sql, params, at, options))
    }

    /// See [`crate::Client::query_cursor`].
    pub fn query_cursor(
        &self,
        sql: &str,
        params: &[Value],
        at: At,
        options: &CallOptions,
    ) -> Result<RowCursor, Error> {
        let inner = block_on(self.inner.query_cursor(sql, params, at, options))?;
        Ok(RowCursor { inner })
    }

    /// See [`crate::Client::verify`].
    pub fn verify(&self, stream: StreamId, options: &CallOptions) -> Result<VerifyResponse, Error> {
        block_on(self.inner.verify(stream, options))
    }

    /// See [`crate::Client::verify_locally`].
    pub fn verify_locally(
        &self,
        stream: StreamId,
        options: &CallOptions,
    ) -> Result<VerifyResponse, Error> {
        block_on(self.inner.verify_locally(stream, options))
    }

    /// See [`crate::Client::list_streams`].
    pub fn list_streams(&self, options: &CallOptions) -> Result<Vec<StreamInfo>, Error> {
        block_on(self.inner.list_streams(options))
    }

    /// See [`crate::Client::stream_info`].
    pub fn stream_info(
        &self,
        stream: StreamId,
        options: &CallOptions,
    ) -> Result<StreamInfo, Error> {
        block_on(self.inner.stream_info(stream, options))
    }

    /// See [`crate::Client::stream_by_name`].
    pub fn stream_by_name(&self, name: &str, options: &CallOptions) -> Result<StreamInfo, Error> {
        block_on(self.inner.stream_by_name(name, options))
    }

    /// See [`crate::Client::create_tenant`].
    pub fn create_tenant(&self, tenant_id: u64, options: &CallOptions) -> Result<bool, Error> {
        block_on(self.inner.create_tenant(tenant_id, options))
    }

    /// See [`crate::Client::delete_tenant`].
    pub fn delete_tenant(&self, tenant_id: u64, options: &CallOptions) -> Result<(), Error> {
        block_on(self.inner.delete_tenant(tenant_id, options))
    }

    /// See [`crate::Client::list_tenants`].
    pub fn list_tenants(&self, options: &CallOptions) -> Result<Vec<u64>, Error> {
        block_on(self.inner.list_tenants(options))
    }

    /// See [`crate::Client::close`].
    pub fn close(&self, timeout_ms: u64) -> Result<(), Error> {
        block_on(self.inner.close(timeout_ms))
    }
}

/// See [`crate::Pages`]. The iteration ends at the stream's end and after an error.
#[derive(Debug)]
pub struct Pages {
    inner: crate::Pages,
}

impl Pages {
    /// See [`crate::Pages::with_options`].
    pub fn with_options(self, options: CallOptions) -> Pages {
        Pages { inner: self.inner.with_options(options) }
    }

    /// See [`crate::Pages::next_offset`].
    pub fn next_offset(&self) -> u64 {
        self.inner.next_offset()
    }
}

impl Iterator for Pages {
    type Item = Result<Page, Error>;

    fn next(&mut self) -> Option<Result<Page, Error>> {
        let next = block_on(self.inner.next());
        if next.is_err() {
            self.inner.end();
        }
        next.transpose()
    }
}

/// See [`crate::Subscription`].
#[derive(Debug)]
pub struct Subscription {
    inner: crate::Subscription,
}

impl Subscription {
    /// See [`crate::Subscription::next`].
    pub fn next(&self, timeout: Option<Duration>) -> Result<Option<Page>, Error> {
        block_on(self.inner.next(timeout))
    }

    /// See [`crate::Subscription::try_next`].
    pub fn try_next(&self) -> Result<Option<Page>, Error> {
        self.inner.try_next()
    }

    /// See [`crate::Subscription::stream`].
    pub fn stream(&self) -> StreamId {
        self.inner.stream()
    }

    /// See [`crate::Subscription::next_offset`].
    pub fn next_offset(&self) -> u64 {
        self.inner.next_offset()
    }

    /// See [`crate::Subscription::close`].
    pub fn close(&self) {
        self.inner.close();
    }

    /// The same subscription, asynchronous.
    pub fn into_async(self) -> crate::Subscription {
        self.inner
    }
}

/// See [`crate::RowCursor`].
#[derive(Debug)]
pub struct RowCursor {
    inner: crate::RowCursor,
}

impl RowCursor {
    /// See [`crate::RowCursor::next_batch`].
    pub fn next_batch(&mut self) -> Result<Option<QueryResult>, Error> {
        block_on(self.inner.next_batch())
    }

    /// The same cursor, asynchronous; its columns and position are there.
    pub fn as_async(&mut self) -> &mut crate::RowCursor {
        &mut self.inner
    }

    /// See [`crate::RowCursor::schema`].
    pub fn schema(&self) -> QueryResult {
        self.inner.schema()
    }

    /// See [`crate::RowCursor::close`].
    pub fn close(&mut self) {
        self.inner.close();
    }
}

impl Iterator for RowCursor {
    type Item = Result<QueryResult, Error>;

    fn next(&mut self) -> Option<Result<QueryResult, Error>> {
        self.next_batch().transpose()
    }
}
