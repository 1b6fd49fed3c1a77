//! The asynchronous client.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kimberlite_wire::constant::ANY_OFFSET;
use kimberlite_wire::session::Answer;
use kimberlite_wire::{
    AppendKey, AppendRequest, CreateStreamRequest, CreateTenantRequest, DataClass,
    DeleteTenantRequest, Error, EventBatch, ListStreamsRequest, ListTenantsRequest,
    OpenProducerRequest, QueryRequest, ReadRequest, Request, Response, StreamInfo,
    StreamInfoRequest, StreamInfoResponse, SubscribeRequest, Value, VerifyRequest, VerifyResponse,
    limit,
};

use crate::blocks::{Asked, Blocks};
use crate::config::{At, CallOptions, Config, ExpectedOffset};
use crate::door::Door;
use crate::page::Page;
use crate::pages::Pages;
use crate::query::{QueryResult, RowCursor};
use crate::stop::Stop;
use crate::subscription::Subscription;
use crate::verify::{Walk, genesis_of};

/// The id of a stream within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

impl From<u64> for StreamId {
    fn from(id: u64) -> StreamId {
        StreamId(id)
    }
}

impl From<StreamId> for u64 {
    fn from(id: StreamId) -> u64 {
        id.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first event; the others follow without gaps.
    pub first_offset: u64,
    /// How many events were appended.
    pub count: u32,
    /// The commit time, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// The position of the append.
    pub position: u64,
}

/// A client of one database and tenant. Clones share everything; it is safe from every thread and
/// works under any executor. Dropping a call's future cancels the call. The last clone to go closes
/// the client in the background; [`Client::close`] waits and reports.
#[derive(Clone)]
pub struct Client {
    pub(crate) door: Arc<Door>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("addresses", &self.door.addresses()).finish()
    }
}

impl Client {
    /// Connects, within `ClientOptions::connect_timeout_ms`. INVALID_ARGUMENT names a bad address
    /// or option; CONNECTION_FAILED names the cause for each address; AUTH_FAILED, TENANT_NOT_FOUND
    /// and PERMISSION_DENIED come from the server, STORAGE and CORRUPTION from an embedded one.
    pub async fn connect(config: Config) -> Result<Client, Error> {
        Ok(Client { door: Arc::new(Door::open(config).await?) })
    }

    /// CLOSED after a close.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        self.door.closed().check()
    }

    /// Whether the database is in this process, so that calls may wait for its disk.
    pub(crate) fn is_embedded(&self) -> bool {
        self.door.is_embedded()
    }

    /// The deadline of a call with these options, in milliseconds.
    pub(crate) fn timeout_ms(&self, options: &CallOptions) -> Result<u64, Error> {
        self.door.timeout_ms(options)
    }

    /// The identity of the database.
    pub fn log_id(&self) -> [u8; 16] {
        self.door.log_id()
    }

    /// Creates a stream, or returns the one with the same name and data class. STREAM_EXISTS where
    /// the name belongs to another class.
    pub async fn create_stream(
        &self,
        name: &str,
        class: DataClass,
        options: &CallOptions,
    ) -> Result<StreamId, Error> {
        let request = CreateStreamRequest { name: name.to_string(), data_class: class.number() };
        match self.ask(Request::CreateStream(request), options).await? {
            Response::CreateStream(body) => Ok(StreamId(body.stream_id)),
            other => Err(unexpected(&other)),
        }
    }

    /// Appends a batch, all or none, and returns when it is durable. Where the outcome is unknown
    /// (TIMEOUT, CANCELLED or CLOSED after it was sent), the error carries the key for
    /// [`Client::append_with_key`].
    pub async fn append(
        &self,
        stream: StreamId,
        expected: ExpectedOffset,
        events: EventBatch,
        options: &CallOptions,
    ) -> Result<Appended, Error> {
        self.append_as(None, stream, expected, events, options, None).await
    }

    /// [`Client::append`], or with a key [`Client::append_with_key`], which `stop` can cancel so
    /// that the error still tells whether the append was sent, and the key that settles it.
    pub async fn append_until(
        &self,
        stop: &Stop,
        key: Option<AppendKey>,
        stream: StreamId,
        expected: ExpectedOffset,
        events: EventBatch,
        options: &CallOptions,
    ) -> Result<Appended, Error> {
        self.append_as(key, stream, expected, events, options, Some(stop)).await
    }

    /// Settles an append whose outcome is unknown: the same events again with its key append them
    /// unless that had happened, and tell what became of them. INVALID_ARGUMENT for other events,
    /// and for a key whose producer or sequence is 0.
    pub async fn append_with_key(
        &self,
        key: AppendKey,
        stream: StreamId,
        expected: ExpectedOffset,
        events: EventBatch,
        options: &CallOptions,
    ) -> Result<Appended, Error> {
        self.append_as(Some(key), stream, expected, events, options, None).await
    }

    async fn append_as(
        &self,
        key: Option<AppendKey>,
        stream: StreamId,
        expected: ExpectedOffset,
        events: EventBatch,
        options: &CallOptions,
        stop: Option<&Stop>,
    ) -> Result<Appended, Error> {
        if let Some(key) = key {
            check_key(key)?;
        }
        if expected == ExpectedOffset::Exact(ANY_OFFSET) {
            let detail = format!("expected_offset is {ANY_OFFSET}; no stream is that long");
            return Err(Error::invalid(detail));
        }
        let request = Request::Append(AppendRequest {
            stream_id: stream.0,
            expected_offset: expected.number(),
            producer_id: key.map_or(0, |key| key.producer_id),
            sequence: key.map_or(0, |key| key.sequence),
            // The producers' table, which knows what is settled, fills it in.
            acked_below: 0,
            count: events.count(),
            payload_crc: events.crc(),
        });
        let answer = self.door.append(request, events.payload().clone(), options, stop).await?;
        match answer.body {
            Response::Append(body) => Ok(Appended {
                first_offset: body.first_offset,
                count: body.count,
                timestamp_ns: body.timestamp_ns,
                position: body.position,
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a producer whose sequence numbers, from 1, the caller gives itself by
    /// [`Client::append_with_key`]: a program that stores them before it appends is exactly-once
    /// even across its own restarts. Plain appends number themselves and need none.
    ///
    /// Sequence n may be sent once the outcome of n - 1,024 is known; the database forgets that
    /// outcome then, and each later one can still be asked for again.
    pub async fn open_producer(&self, options: &CallOptions) -> Result<u64, Error> {
        match self.ask(Request::OpenProducer(OpenProducerRequest {}), options).await? {
            Response::OpenProducer(body) => Ok(body.producer_id),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads events in order from an offset, as many as the bounds allow and at least one; none at
    /// the stream's end. `max_events` is at least 1; `max_bytes` 0 takes the limit. The option
    /// `max_response_bytes` bounds a page too, unless its one block is larger. Where stored data is
    /// damaged a page ends before it, and CORRUPTION comes where one would begin there.
    pub async fn read(
        &self,
        stream: StreamId,
        from_offset: u64,
        max_events: u64,
        max_bytes: u64,
        options: &CallOptions,
    ) -> Result<Page, Error> {
        let asked = self.asked(stream, from_offset, max_events);
        let answer = self.read_answer(&asked, max_bytes, options).await?;
        Page::from_read(&asked, max_bytes, &answer)
    }

    /// Reads like [`Client::read`], but hands out the stored blocks that hold the events, checked
    /// against their checksums: the first may begin before `from_offset` and the last may go beyond
    /// the bounds. They are what [`crate::verify_blocks`] proves.
    pub async fn read_blocks(
        &self,
        stream: StreamId,
        from_offset: u64,
        max_events: u64,
        max_bytes: u64,
        options: &CallOptions,
    ) -> Result<Blocks, Error> {
        let asked = self.asked(stream, from_offset, max_events);
        let answer = self.read_answer(&asked, max_bytes, options).await?;
        Blocks::from_read(&asked, answer)
    }

    fn asked(&self, stream: StreamId, from_offset: u64, max_events: u64) -> Asked {
        Asked { tenant_id: self.door.tenant_id(), stream, from_offset, max_events }
    }

    async fn read_answer(
        &self,
        asked: &Asked,
        max_bytes: u64,
        options: &CallOptions,
    ) -> Result<Answer, Error> {
        let Asked { stream, from_offset, max_events, .. } = *asked;
        if max_events == 0 {
            return Err(Error::invalid("max_events is 0; ask for at least 1 event"));
        }
        // More than is held at most would be sent in vain.
        let held = self.door.options().max_response_bytes.min(limit::READ_BYTES);
        let max_bytes = if max_bytes == 0 { held } else { max_bytes.min(held) };
        let request = Request::Read(ReadRequest {
            stream_id: stream.0,
            from_offset,
            max_events,
            max_bytes,
            min_position: options.min_position,
            stale: options.stale,
        });
        self.door.collect(request, Bytes::new(), options).await
    }

    /// Reads a stream page by page, each of at most `page_events` events, up to the end that the
    /// stream has when it gets there.
    pub fn pages(&self, stream: StreamId, from_offset: u64, page_events: u64) -> Pages {
        Pages::new(self.clone(), stream, from_offset, page_events)
    }

    /// Subscribes to a stream: everything from an offset on, then every event as it is committed.
    /// The options' deadline bounds the subscribing, not the subscription.
    pub async fn subscribe(
        &self,
        stream: StreamId,
        from_offset: u64,
        options: &CallOptions,
    ) -> Result<Subscription, Error> {
        let request = SubscribeRequest { stream_id: stream.0, from_offset, credit_bytes: 0 };
        Subscription::open(&self.door, request, options).await
    }

    /// Runs one read-only SQL statement and holds its whole result, at most
    /// `ClientOptions::max_response_bytes` of it; else LIMIT_EXCEEDED, and a cursor is the way.
    pub async fn query(
        &self,
        sql: &str,
        params: &[Value],
        at: At,
        options: &CallOptions,
    ) -> Result<QueryResult, Error> {
        let request = query_request(sql, params, at, options);
        QueryResult::from_answer(self.door.collect(request, Bytes::new(), options).await?)
    }

    /// Runs one read-only SQL statement and hands out its rows in batches as they come; the server
    /// waits where the reader does. The options' deadline bounds the wait for the first answer and
    /// for each batch; the database's limit for queries bounds the whole, the reader's pauses
    /// included. Embedded and remote databases do the same.
    pub async fn query_cursor(
        &self,
        sql: &str,
        params: &[Value],
        at: At,
        options: &CallOptions,
    ) -> Result<RowCursor, Error> {
        RowCursor::open(&self.door, query_request(sql, params, at, options), options).await
    }

    /// Lets the database walk a stream's hash chain.
    pub async fn verify(
        &self,
        stream: StreamId,
        options: &CallOptions,
    ) -> Result<VerifyResponse, Error> {
        let request = Request::Verify(VerifyRequest { stream_id: stream.0 });
        match self.ask(request, options).await? {
            Response::Verify(body) => Ok(body),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads a stream up to the end that it has now and walks its hash chain in this process: the
    /// database is believed nothing but the stream's name, class and head. It is valid only where
    /// the walk comes to that end with that head; a block that is damaged, changed or withheld, and
    /// a last one that makes another head, is the first that does not fit. Events that are appended
    /// meanwhile are left out. The options' deadline holds for each read.
    pub async fn verify_locally(
        &self,
        stream: StreamId,
        options: &CallOptions,
    ) -> Result<VerifyResponse, Error> {
        if stream.0 == 0 {
            return Err(no_stream());
        }
        let request = StreamInfoRequest { stream_id: stream.0, name: String::new() };
        let told = self.find_stream(request, options).await?;
        let from = genesis_of(self.door.tenant_id(), &told.stream)?;
        let mut walk = Walk::new(from, &told.stream);
        while let Some((from_offset, max_events)) = walk.wanted() {
            walk.read(self.read_blocks(stream, from_offset, max_events, 0, options).await)?;
        }
        Ok(walk.found(told.position))
    }

    /// Lists the tenant's streams by id, all of them.
    pub async fn list_streams(&self, options: &CallOptions) -> Result<Vec<StreamInfo>, Error> {
        let mut streams: Vec<StreamInfo> = Vec::new();
        loop {
            let after_stream_id = streams.last().map_or(0, |stream| stream.stream_id);
            let request = ListStreamsRequest { after_stream_id, max_streams: 0 };
            match self.ask(Request::ListStreams(request), options).await? {
                Response::ListStreams(body) => {
                    let more = body.more && !body.streams.is_empty();
                    streams.extend(body.streams);
                    if !more {
                        return Ok(streams);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Tells about a stream.
    pub async fn stream_info(
        &self,
        stream: StreamId,
        options: &CallOptions,
    ) -> Result<StreamInfo, Error> {
        if stream.0 == 0 {
            return Err(no_stream());
        }
        let request = StreamInfoRequest { stream_id: stream.0, name: String::new() };
        Ok(self.find_stream(request, options).await?.stream)
    }

    /// Tells about the stream of a name, compared under ASCII case folding.
    pub async fn stream_by_name(
        &self,
        name: &str,
        options: &CallOptions,
    ) -> Result<StreamInfo, Error> {
        let request = StreamInfoRequest { stream_id: 0, name: name.to_string() };
        Ok(self.find_stream(request, options).await?.stream)
    }

    async fn find_stream(
        &self,
        request: StreamInfoRequest,
        options: &CallOptions,
    ) -> Result<StreamInfoResponse, Error> {
        match self.ask(Request::StreamInfo(request), options).await? {
            Response::StreamInfo(body) => Ok(body),
            other => Err(unexpected(&other)),
        }
    }

    /// Creates a tenant; returns whether this call did.
    pub async fn create_tenant(
        &self,
        tenant_id: u64,
        options: &CallOptions,
    ) -> Result<bool, Error> {
        let request = Request::CreateTenant(CreateTenantRequest { tenant_id });
        match self.ask(request, options).await? {
            Response::CreateTenant(body) => Ok(body.created),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes a tenant: from then on nobody reaches its streams.
    pub async fn delete_tenant(&self, tenant_id: u64, options: &CallOptions) -> Result<(), Error> {
        let request = Request::DeleteTenant(DeleteTenantRequest { tenant_id });
        match self.ask(request, options).await? {
            Response::DeleteTenant(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Lists the tenants on which the token is admin, in order.
    pub async fn list_tenants(&self, options: &CallOptions) -> Result<Vec<u64>, Error> {
        match self.ask(Request::ListTenants(ListTenantsRequest {}), options).await? {
            Response::ListTenants(body) => Ok(body.tenant_ids),
            other => Err(unexpected(&other)),
        }
    }

    /// Closes the client and every clone of it: each pending call, subscription and cursor ends
    /// with CLOSED at once. Waits up to `timeout_ms` until sockets are closed and, for the last
    /// client of an embedded database, until it is closed; TIMEOUT where that takes longer (it then
    /// goes on in the background). Closing twice is fine.
    pub async fn close(&self, timeout_ms: u64) -> Result<(), Error> {
        self.door.close(timeout_ms).await
    }

    async fn ask(&self, request: Request, options: &CallOptions) -> Result<Response, Error> {
        Ok(self.door.collect(request, Bytes::new(), options).await?.body)
    }
}

/// INVALID_ARGUMENT for a key that no append has. Producer 0 in particular would ask for a fresh
/// number, and so for a second append of what may be there already.
fn check_key(key: AppendKey) -> Result<(), Error> {
    let what = match key {
        AppendKey { producer_id: 0, .. } => "key.producer_id is 0; a producer's id is at least 1",
        AppendKey { sequence: 0, .. } => "key.sequence is 0; a producer counts its appends from 1",
        _ => return Ok(()),
    };
    Err(Error::invalid(what))
}

fn query_request(sql: &str, params: &[Value], at: At, options: &CallOptions) -> Request {
    let (at_kind, at) = at.parts();
    Request::Query(QueryRequest {
        sql: sql.to_string(),
        params: params.to_vec(),
        at_kind: at_kind.number(),
        at,
        min_position: options.min_position,
        stale: options.stale,
    })
}

fn no_stream() -> Error {
    Error::invalid("stream_id is 0; streams are numbered from 1")
}

/// PROTOCOL: the answer belongs to another operation.
pub(crate) fn unexpected(body: &Response) -> Error {
    Error::protocol(format!("the answer is one to {}", body.operation().name()))
}
