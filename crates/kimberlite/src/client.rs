//! The client without options at every call.

use kimberlite_client::constant::CLOSE_TIMEOUT_MS;
use kimberlite_client::{
    AppendKey, At, CallOptions, Config, DataClass, Error, EventBatch, ExpectedOffset, FromRow,
    Page, Pages, QueryResult, RowCursor, StreamId, StreamInfo, Subscription, VerifyResponse,
};

use crate::params::Params;
use crate::types::{Appended, Offset};

/// A client of one database and tenant. Clones share everything; it is safe from every thread and
/// works under any executor. Dropping a call's future cancels the call.
///
/// Where an error is `retryable`, a fresh call may succeed later and cannot duplicate anything.
#[derive(Clone, Debug)]
pub struct Client {
    core: kimberlite_client::Client,
    options: CallOptions,
}

impl From<kimberlite_client::Client> for Client {
    fn from(core: kimberlite_client::Client) -> Client {
        Client { core, options: CallOptions::default() }
    }
}

impl Client {
    /// Connects to an address, or as a [`Config`] says.
    ///
    /// INVALID_ARGUMENT names a bad address or option; CONNECTION_FAILED the cause for each
    /// address; AUTH_FAILED, TENANT_NOT_FOUND and PERMISSION_DENIED come from the server, STORAGE
    /// and CORRUPTION from an embedded database.
    pub async fn connect(config: impl Into<Config>) -> Result<Client, Error> {
        Ok(kimberlite_client::Client::connect(config.into()).await?.into())
    }

    /// The same client with options for its calls: a deadline, a position to see, staleness.
    pub fn with_options(&self, options: CallOptions) -> Client {
        Client { core: self.core.clone(), options }
    }

    /// The client beneath, which takes options with every call and has a few calls more.
    pub fn as_core(&self) -> &kimberlite_client::Client {
        &self.core
    }

    /// The identity of the database.
    pub fn log_id(&self) -> [u8; 16] {
        self.core.log_id()
    }

    /// Creates a stream, or returns the one with the same name and data class. STREAM_EXISTS where
    /// the name belongs to another class.
    pub async fn create_stream(&self, name: &str, class: DataClass) -> Result<StreamId, Error> {
        self.core.create_stream(name, class, &self.options).await
    }

    /// Appends events at the stream's end, all or none, and returns when they are durable.
    ///
    /// It happens once, however often connections are lost. Only where the deadline, a cancellation
    /// or a close cuts it short is the outcome unknown; the error then carries a key, with which
    /// [`Client::append_with_key`] settles it.
    pub async fn append<I>(&self, stream: StreamId, events: I) -> Result<Appended, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let batch = EventBatch::from_events(events)?;
        self.append_batch(stream, ExpectedOffset::Any, batch).await
    }

    /// Appends events where nobody came before: their first must land at `expected`, else
    /// OFFSET_MISMATCH tells the stream's next offset as the error's `value`.
    pub async fn append_at<I>(
        &self,
        stream: StreamId,
        expected: Offset,
        events: I,
    ) -> Result<Appended, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let batch = EventBatch::from_events(events)?;
        self.append_batch(stream, ExpectedOffset::Exact(expected.0), batch).await
    }

    async fn append_batch(
        &self,
        stream: StreamId,
        expected: ExpectedOffset,
        batch: EventBatch,
    ) -> Result<Appended, Error> {
        Ok(self.core.append(stream, expected, batch, &self.options).await?.into())
    }

    /// Settles an append whose outcome is unknown: the same events again with its key append them
    /// unless that had happened, and tell what became of them.
    pub async fn append_with_key<I>(
        &self,
        key: AppendKey,
        stream: StreamId,
        events: I,
    ) -> Result<Appended, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let batch = EventBatch::from_events(events)?;
        let (any, options) = (ExpectedOffset::Any, &self.options);
        Ok(self.core.append_with_key(key, stream, any, batch, options).await?.into())
    }

    /// Reads at most `max_events` events in order from an offset; none at the stream's end.
    pub async fn read(
        &self,
        stream: StreamId,
        from: Offset,
        max_events: u64,
    ) -> Result<Page, Error> {
        self.core.read(stream, from.0, max_events, 0, &self.options).await
    }

    /// Reads a stream page by page to its end, each of at most `page_events` events.
    pub fn pages(&self, stream: StreamId, from: Offset, page_events: u64) -> Pages {
        self.core.pages(stream, from.0, page_events).with_options(self.options)
    }

    /// Everything of a stream from an offset on, then every event as it is committed, across lost
    /// connections, nothing skipped or repeated.
    pub async fn subscribe(&self, stream: StreamId, from: Offset) -> Result<Subscription, Error> {
        self.core.subscribe(stream, from.0, &self.options).await
    }

    /// Runs one read-only SQL statement. Every stream is a table with `id`, `timestamp`, `data`,
    /// and the hidden `timestamp_ns` and `text`.
    pub async fn query(&self, sql: &str, params: impl Params) -> Result<QueryResult, Error> {
        self.query_at(sql, params, At::Now).await
    }

    /// The same as of a position or a time.
    pub async fn query_at(
        &self,
        sql: &str,
        params: impl Params,
        at: At,
    ) -> Result<QueryResult, Error> {
        self.core.query(sql, &params.to_values(), at, &self.options).await
    }

    /// Runs one statement and reads its rows as tuples or structs.
    pub async fn query_as<T: FromRow>(
        &self,
        sql: &str,
        params: impl Params,
    ) -> Result<Vec<T>, Error> {
        self.query(sql, params).await?.rows_as()
    }

    /// Runs one statement whose rows come in batches, so that results of any size take little
    /// memory.
    pub async fn query_cursor(&self, sql: &str, params: impl Params) -> Result<RowCursor, Error> {
        self.core.query_cursor(sql, &params.to_values(), At::Now, &self.options).await
    }

    /// Lets the database walk a stream's hash chain.
    pub async fn verify(&self, stream: StreamId) -> Result<VerifyResponse, Error> {
        self.core.verify(stream, &self.options).await
    }

    /// Reads a stream and walks its hash chain in this process, to the end and head that the
    /// database told before: see [`kimberlite_client::Client::verify_locally`]. To keep a head and
    /// prove only what came after it, read raw blocks by [`Client::as_core`] and prove them by
    /// [`verify_blocks`](crate::verify_blocks).
    pub async fn verify_locally(&self, stream: StreamId) -> Result<VerifyResponse, Error> {
        self.core.verify_locally(stream, &self.options).await
    }

    /// The tenant's streams by id.
    pub async fn list_streams(&self) -> Result<Vec<StreamInfo>, Error> {
        self.core.list_streams(&self.options).await
    }

    /// What is known about a stream.
    pub async fn stream_info(&self, stream: StreamId) -> Result<StreamInfo, Error> {
        self.core.stream_info(stream, &self.options).await
    }

    /// What is known about the stream of a name.
    pub async fn stream_by_name(&self, name: &str) -> Result<StreamInfo, Error> {
        self.core.stream_by_name(name, &self.options).await
    }

    /// Creates a tenant; returns whether this call did. For admins.
    pub async fn create_tenant(&self, tenant_id: u64) -> Result<bool, Error> {
        self.core.create_tenant(tenant_id, &self.options).await
    }

    /// Deletes a tenant: from then on nobody reaches its streams. For admins.
    pub async fn delete_tenant(&self, tenant_id: u64) -> Result<(), Error> {
        self.core.delete_tenant(tenant_id, &self.options).await
    }

    /// The tenants on which the token is admin.
    pub async fn list_tenants(&self) -> Result<Vec<u64>, Error> {
        self.core.list_tenants(&self.options).await
    }

    /// Closes the client and every clone: pending calls end with CLOSED. Waits up to 5 s until
    /// everything is closed. Closing twice is fine; dropping the last clone closes in the
    /// background.
    pub async fn close(&self) -> Result<(), Error> {
        self.core.close(CLOSE_TIMEOUT_MS).await
    }
}
