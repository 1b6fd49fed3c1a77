//! Calls an engine like a door does, without async code.
#![allow(dead_code, missing_docs)] // Each test program uses a part of it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use kimberlite_engine::{
    Answer, BoxFuture, Engine, EngineOptions, PayloadStream, Session, Storage,
};
use kimberlite_wire::block::BlockView;
use kimberlite_wire::rows::RowBatch;
use kimberlite_wire::*;

pub const ANY: u64 = u64::MAX;
pub const PATIENCE: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// An engine in memory with tenants 1 and 2.
pub fn memory() -> Engine {
    open(EngineOptions { storage: Storage::Memory, ..small() })
}

/// Options that make tests quick.
pub fn small() -> EngineOptions {
    EngineOptions { segment_bytes: 1 << 20, ..EngineOptions::default() }
}

pub fn open(options: EngineOptions) -> Engine {
    let engine = Engine::open(options).expect("the engine opens");
    engine.ensure_tenant(1).expect("tenant 1");
    engine.ensure_tenant(2).expect("tenant 2");
    engine
}

/// One caller of an engine.
#[derive(Clone)]
pub struct Caller {
    pub engine: Engine,
    pub session: Arc<Session>,
}

pub fn caller(engine: &Engine, principal: &str, tenant_id: u64, role: Role) -> Caller {
    let session = engine.session(principal, tenant_id, role, false);
    Caller { engine: engine.clone(), session }
}

/// A writer of tenant 1.
pub fn writer(engine: &Engine) -> Caller {
    caller(engine, "writer", 1, Role::Writer)
}

/// The admin of every tenant, at work for tenant 1.
pub fn root(engine: &Engine) -> Caller {
    Caller { engine: engine.clone(), session: engine.session("root", 1, Role::Admin, true) }
}

pub fn events<T: AsRef<[u8]>>(list: impl IntoIterator<Item = T>) -> EventBatch {
    EventBatch::from_events(list).expect("valid events")
}

/// What settles a repeat of an append.
#[derive(Clone, Copy)]
pub struct Key {
    pub producer_id: u64,
    pub sequence: u64,
    pub acked_below: u64,
}

pub const NO_KEY: Key = Key { producer_id: 0, sequence: 0, acked_below: 0 };

pub fn key(producer_id: u64, sequence: u64, acked_below: u64) -> Key {
    Key { producer_id, sequence, acked_below }
}

macro_rules! response {
    ($result:expr, $kind:ident) => {
        match $result?.body {
            Response::$kind(body) => Ok(body),
            other => panic!("another response: {other:?}"),
        }
    };
}

impl Caller {
    pub fn start(
        &self,
        request: Request,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Answer, Error>> {
        self.engine.handle(&self.session, request, payload, Some(PATIENCE))
    }

    pub fn call(&self, request: Request) -> Result<Answer, Error> {
        block_on(self.start(request, Bytes::new()))
    }

    pub fn create_stream(
        &self,
        name: &str,
        class: DataClass,
    ) -> Result<CreateStreamResponse, Error> {
        let request = CreateStreamRequest { name: name.to_string(), data_class: class.number() };
        response!(self.call(Request::CreateStream(request)), CreateStream)
    }

    /// A stream of data that is not audited.
    pub fn stream(&self, name: &str) -> u64 {
        self.create_stream(name, DataClass::NonPhi).expect("a stream").stream_id
    }

    pub fn start_append(
        &self,
        stream_id: u64,
        expected_offset: u64,
        batch: &EventBatch,
        key: Key,
    ) -> BoxFuture<'static, Result<Answer, Error>> {
        let request = AppendRequest {
            stream_id,
            expected_offset,
            producer_id: key.producer_id,
            sequence: key.sequence,
            acked_below: key.acked_below,
            count: batch.count(),
            payload_crc: batch.crc(),
        };
        self.start(Request::Append(request), batch.payload().clone())
    }

    pub fn append_with(
        &self,
        stream_id: u64,
        expected_offset: u64,
        batch: &EventBatch,
        key: Key,
    ) -> Result<AppendResponse, Error> {
        response!(block_on(self.start_append(stream_id, expected_offset, batch, key)), Append)
    }

    pub fn append(&self, stream_id: u64, list: &[&[u8]]) -> Result<AppendResponse, Error> {
        self.append_with(stream_id, ANY, &events(list), NO_KEY)
    }

    pub fn open_producer(&self) -> Result<u64, Error> {
        let response: Result<OpenProducerResponse, Error> = response!(
            self.call(Request::OpenProducer(OpenProducerRequest::default())),
            OpenProducer
        );
        response.map(|response| response.producer_id)
    }

    pub fn read(&self, request: ReadRequest) -> Result<(ReadResponse, Vec<Event>), Error> {
        let answer = self.call(Request::Read(request))?;
        let Response::Read(body) = answer.body else { panic!("another response") };
        let bytes = drain(answer.payload.expect("blocks"), 1 << 18)?;
        Ok((body, parse(&bytes)))
    }

    /// Everything from an offset on, page after page, trimmed.
    pub fn read_all(&self, stream_id: u64, from: u64) -> Result<Vec<Event>, Error> {
        let mut all = Vec::new();
        let mut from_offset = from;
        loop {
            let (max_events, max_bytes) = (u64::MAX, 0);
            let request =
                ReadRequest { stream_id, from_offset, max_events, max_bytes, ..Default::default() };
            let (body, page) = self.read(request)?;
            all.extend(page.into_iter().filter(|event| event.offset >= from_offset));
            from_offset = all.last().map_or(from, |event: &Event| event.offset + 1);
            if from_offset >= body.next_offset {
                return Ok(all);
            }
        }
    }

    pub fn data(&self, stream_id: u64) -> Vec<Vec<u8>> {
        let all = self.read_all(stream_id, 0).expect("a read");
        all.into_iter().map(|event| event.data).collect()
    }

    pub fn subscribe(
        &self,
        stream_id: u64,
        from_offset: u64,
    ) -> Result<Box<dyn PayloadStream>, Error> {
        let request = SubscribeRequest { stream_id, from_offset, ..Default::default() };
        Ok(self.call(Request::Subscribe(request))?.payload.expect("blocks"))
    }

    pub fn verify(&self, stream_id: u64) -> Result<VerifyResponse, Error> {
        response!(self.call(Request::Verify(VerifyRequest { stream_id })), Verify)
    }

    pub fn info(&self, stream_id: u64) -> Result<StreamInfo, Error> {
        let request = StreamInfoRequest { stream_id, name: String::new() };
        let response: Result<StreamInfoResponse, Error> =
            response!(self.call(Request::StreamInfo(request)), StreamInfo);
        response.map(|response| response.stream)
    }

    pub fn list(
        &self,
        after_stream_id: u64,
        max_streams: u32,
    ) -> Result<ListStreamsResponse, Error> {
        let request = ListStreamsRequest { after_stream_id, max_streams };
        response!(self.call(Request::ListStreams(request)), ListStreams)
    }

    pub fn query_at(&self, sql: &str, at_kind: AtKind, at: u64) -> Result<Rows, Error> {
        let at_kind = at_kind.number();
        let request = QueryRequest { sql: sql.to_string(), at_kind, at, ..Default::default() };
        let answer = self.call(Request::Query(request))?;
        let Response::Query(body) = answer.body else { panic!("another response") };
        let mut bytes = Bytes::from(drain(answer.payload.expect("rows"), 1 << 18)?);
        let mut rows = Vec::new();
        while let Some((batch, len)) = RowBatch::parse(&bytes).expect("a whole batch") {
            for row in 0..batch.row_count() {
                let cells =
                    (0..batch.column_count()).map(|c| batch.cell(row, c).unwrap().to_value());
                rows.push(cells.collect());
            }
            bytes = bytes.slice(len..);
        }
        Ok(Rows { body, rows })
    }

    pub fn query(&self, sql: &str) -> Result<Vec<Vec<Value>>, Error> {
        self.query_at(sql, AtKind::Now, 0).map(|rows| rows.rows)
    }

    pub fn count(&self, sql: &str) -> i64 {
        match self.query(sql).expect("a query").as_slice() {
            [row] => match row.as_slice() {
                [Value::Int64(count)] => *count,
                other => panic!("not a count: {other:?}"),
            },
            other => panic!("not a row: {other:?}"),
        }
    }

    pub fn create_tenant(&self, tenant_id: u64) -> Result<CreateTenantResponse, Error> {
        response!(self.call(Request::CreateTenant(CreateTenantRequest { tenant_id })), CreateTenant)
    }

    pub fn delete_tenant(&self, tenant_id: u64) -> Result<DeleteTenantResponse, Error> {
        response!(self.call(Request::DeleteTenant(DeleteTenantRequest { tenant_id })), DeleteTenant)
    }

    /// What the tenant's audit stream holds.
    pub fn audited(&self) -> Vec<serde_json::Value> {
        let rows = self.query("SELECT text FROM _audit ORDER BY id").expect("the audit");
        let text = |row: Vec<Value>| match row.into_iter().next() {
            Some(Value::String(text)) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("not text: {other:?}"),
        };
        rows.into_iter().map(text).collect()
    }
}

#[derive(Debug)]
pub struct Rows {
    pub body: QueryResponse,
    pub rows: Vec<Vec<Value>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub offset: u64,
    pub timestamp_ns: u64,
    pub data: Vec<u8>,
}

/// The next chunk; none at the end. Panics where it takes too long.
pub fn next_chunk(
    stream: &mut dyn PayloadStream,
    max_bytes: usize,
) -> Option<Result<Bytes, Error>> {
    let chunk = block_on(std::future::poll_fn(|cx| stream.poll_chunk(cx, max_bytes)));
    if let Some(Ok(bytes)) = &chunk {
        assert!(!bytes.is_empty() && bytes.len() <= max_bytes.max(1), "{} bytes", bytes.len());
    }
    chunk
}

/// Whether nothing is there now.
pub fn is_pending(stream: &mut dyn PayloadStream) -> bool {
    let waker = Waker::noop();
    stream.poll_chunk(&mut Context::from_waker(waker), 1 << 18).is_pending()
}

pub fn drain(mut stream: Box<dyn PayloadStream>, max_bytes: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next_chunk(&mut *stream, max_bytes) {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// The events of whole blocks.
pub fn parse(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (block, len) = BlockView::parse(bytes).expect("a block").expect("a whole block");
        block.verify_content().expect("the content's hash");
        for (at, data) in block.events().enumerate() {
            let offset = block.header.first_offset + at as u64;
            let timestamp_ns = block.header.timestamp_ns;
            events.push(Event { offset, timestamp_ns, data: data.to_vec() });
        }
        bytes = &bytes[len..];
    }
    events
}

/// The next events of a subscription, at least `count`.
pub fn take(stream: &mut dyn PayloadStream, count: usize) -> Vec<Event> {
    let mut bytes = Vec::new();
    let mut events = Vec::new();
    while events.len() < count {
        let chunk = next_chunk(stream, 1 << 18).expect("more").expect("no error");
        bytes.extend_from_slice(&chunk);
        while let Some((_, len)) = BlockView::parse(&bytes).expect("a block") {
            events.extend(parse(&bytes[..len]));
            bytes.drain(..len);
        }
    }
    events
}

pub fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    match result {
        Ok(value) => panic!("no error, but {value:?}"),
        Err(error) => error.code,
    }
}
