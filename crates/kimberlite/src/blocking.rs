//! The same client for synchronous programs. It parks the calling thread by itself, so that it also
//! works on a thread of a runtime.

use kimberlite_client::{
    AppendKey, At, CallOptions, Config, DataClass, Error, FromRow, Page, QueryResult, StreamId,
    StreamInfo, VerifyResponse, block_on,
};

use crate::params::Params;
use crate::types::{Appended, Offset};

pub use kimberlite_client::blocking::{Pages, RowCursor, Subscription};

/// A blocking client of one database and tenant. Clones share everything; it is safe from every
/// thread.
#[derive(Clone, Debug)]
pub struct Client {
    inner: crate::Client,
    options: CallOptions,
}

impl From<crate::Client> for Client {
    fn from(inner: crate::Client) -> Client {
        Client { inner, options: CallOptions::default() }
    }
}

impl Client {
    /// See [`crate::Client::connect`].
    pub fn connect(config: impl Into<Config>) -> Result<Client, Error> {
        Ok(block_on(crate::Client::connect(config))?.into())
    }

    /// See [`crate::Client::with_options`].
    pub fn with_options(&self, options: CallOptions) -> Client {
        Client { inner: self.inner.with_options(options), options }
    }

    /// The same client, asynchronous.
    pub fn to_async(&self) -> crate::Client {
        self.inner.clone()
    }

    /// The client beneath, which takes options with every call and has a few calls more.
    pub fn to_core(&self) -> kimberlite_client::blocking::Client {
        self.inner.as_core().clone().into()
    }

    /// The identity of the database.
    pub fn log_id(&self) -> [u8; 16] {
        self.inner.log_id()
    }

    /// See [`crate::Client::create_stream`].
    pub fn create_stream(&self, name: &str, class: DataClass) -> Result<StreamId, Error> {
        block_on(self.inner.create_stream(name, class))
    }

    /// See [`crate::Client::append`].
    pub fn append<I>(&self, stream: StreamId, events: I) -> Result<Appended, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        block_on(self.inner.append(stream, events))
    }

    /// See [`crate::Client::append_at`].
    pub fn append_at<I>(
        &self,
        stream: StreamId,
        expected: Offset,
        events: I,
    ) -> Result<Appended, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        block_on(self.inner.append_at(stream, expected, events))
    }

    /// See [`crate::Client::append_with_key`].
    pub fn append_with_key<I>(
        &self,
        key: AppendKey,
        stream: StreamId,
        events: I,
    ) -> Result<Appended, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        block_on(self.inner.append_with_key(key, stream, events))
    }

    /// See [`crate::Client::read`].
    pub fn read(&self, stream: StreamId, from: Offset, max_events: u64) -> Result<Page, Error> {
        block_on(self.inner.read(stream, from, max_events))
    }

    /// See [`crate::Client::pages`]; an iterator of pages.
    pub fn pages(&self, stream: StreamId, from: Offset, page_events: u64) -> Pages {
        self.to_core().pages(stream, from.0, page_events).with_options(self.options)
    }

    /// See [`crate::Client::subscribe`].
    pub fn subscribe(&self, stream: StreamId, from: Offset) -> Result<Subscription, Error> {
        self.to_core().subscribe(stream, from.0, &self.options)
    }

    /// See [`crate::Client::query`].
    pub fn query(&self, sql: &str, params: impl Params) -> Result<QueryResult, Error> {
        block_on(self.inner.query(sql, params))
    }

    /// See [`crate::Client::query_at`].
    pub fn query_at(&self, sql: &str, params: impl Params, at: At) -> Result<QueryResult, Error> {
        block_on(self.inner.query_at(sql, params, at))
    }

    /// See [`crate::Client::query_as`].
    pub fn query_as<T: FromRow>(&self, sql: &str, params: impl Params) -> Result<Vec<T>, Error> {
        block_on(self.inner.query_as(sql, params))
    }

    /// See [`crate::Client::query_cursor`]; an iterator of batches.
    pub fn query_cursor(&self, sql: &str, params: impl Params) -> Result<RowCursor, Error> {
        self.to_core().query_cursor(sql, &params.to_values(), At::Now, &self.options)
    }

    /// See [`crate::Client::verify`].
    pub fn verify(&self, stream: StreamId) -> Result<VerifyResponse, Error> {
        block_on(self.inner.verify(stream))
    }

    /// See [`crate::Client::verify_locally`].
    pub fn verify_locally(&self, stream: StreamId) -> Result<VerifyResponse, Error> {
        block_on(self.inner.verify_locally(stream))
    }

    /// See [`crate::Client::list_streams`].
    pub fn list_streams(&self) -> Result<Vec<StreamInfo>, Error> {
        block_on(self.inner.list_streams())
    }

    /// See [`crate::Client::stream_info`].
    pub fn stream_info(&self, stream: StreamId) -> Result<StreamInfo, Error> {
        block_on(self.inner.stream_info(stream))
    }

    /// See [`crate::Client::stream_by_name`].
    pub fn stream_by_name(&self, name: &str) -> Result<StreamInfo, Error> {
        block_on(self.inner.stream_by_name(name))
    }

    /// See [`crate::Client::create_tenant`].
    pub fn create_tenant(&self, tenant_id: u64) -> Result<bool, Error> {
        block_on(self.inner.create_tenant(tenant_id))
    }

    /// See [`crate::Client::delete_tenant`].
    pub fn delete_tenant(&self, tenant_id: u64) -> Result<(), Error> {
        block_on(self.inner.delete_tenant(tenant_id))
    }

    /// See [`crate::Client::list_tenants`].
    pub fn list_tenants(&self) -> Result<Vec<u64>, Error> {
        block_on(self.inner.list_tenants())
    }

    /// See [`crate::Client::close`].
    pub fn close(&self) -> Result<(), Error> {
        block_on(self.inner.close())
    }
}
