//! The database that statements are run against.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kimberlite_engine::{Answer, Engine, EngineOptions, PayloadStream, Session};
use kimberlite_wire::rows::RowBatch;
use kimberlite_wire::*;

use super::FOREIGN;

/// The most rows that a statement may give.
pub(super) const ROWS: usize = 400;
const MEMORY_BYTES: u64 = 8 << 20;
const TIMEOUT_MS: u64 = 150;
/// Statements over health data leave audit records behind: the database is made anew after so many.
const RUNS: u32 = 5000;

/// A small database and who asks it.
pub(super) struct Database {
    engine: Engine,
    askers: [Arc<Session>; 4],
    before: [Vec<StreamInfo>; 2],
    runs: u32,
}

/// Lends the database of this process.
pub(super) fn with_database<T>(work: impl FnOnce(&mut Database) -> T) -> T {
    static DATABASE: Mutex<Option<Database>> = Mutex::new(None);
    let mut slot = DATABASE.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.as_ref().is_some_and(|database| database.runs >= RUNS) {
        *slot = None;
    }
    let database = slot.get_or_insert_with(Database::new);
    database.runs += 1;
    work(database)
}

impl Database {
    fn new() -> Database {
        let engine = Engine::open(EngineOptions {
            segment_bytes: 1 << 20,
            query_timeout_ms: TIMEOUT_MS,
            query_memory_bytes: MEMORY_BYTES,
            query_rows: ROWS as u64,
            ..EngineOptions::default()
        })
        .expect("a database in memory opens");
        engine.ensure_tenant(1).expect("tenant 1");
        engine.ensure_tenant(2).expect("tenant 2");
        let askers = [
            engine.session("reader", 1, Role::Reader, false),
            engine.session("admin", 1, Role::Admin, false),
            engine.session("root", 1, Role::Admin, true),
            engine.session("other", 2, Role::Admin, false),
        ];
        let mut database = Database { engine, askers, before: Default::default(), runs: 0 };
        database.fill();
        database.before = [database.streams(1), database.streams(3)];
        database
    }

    /// Streams of every data class and of odd names and data; the other tenant has some of the same
    /// names, so that only the tenant tells them apart.
    fn fill(&mut self) {
        let numbered = |id: u64| {
            let kind = id % 5;
            format!(r#"{{"n":{id},"kind":"k{kind}","list":[{id},{kind}]}}"#).into_bytes()
        };
        self.stream(1, "orders", DataClass::NonPhi, &(0..120).map(numbered).collect::<Vec<_>>(), 7);
        let odd: Vec<Vec<u8>> = vec![
            Vec::new(),
            b"null".to_vec(),
            b"\xff\xfe".to_vec(),
            b"text \0 with a zero".to_vec(),
            "ä€😀".as_bytes().to_vec(),
            vec![b'['; 200],
            b"-9223372036854775808".to_vec(),
            b"1e999".to_vec(),
        ];
        self.stream(1, "notes", DataClass::Deidentified, &odd, 1);
        self.stream(1, "Odd \"name\" ; --", DataClass::NonPhi, &odd, 3);
        self.stream(1, "empty", DataClass::NonPhi, &[], 1);
        self.stream(1, "patients", DataClass::Phi, &(0..10).map(numbered).collect::<Vec<_>>(), 10);
        let foreign = |id: u64| format!(r#"{{"n":{id},"kind":"{FOREIGN}"}}"#).into_bytes();
        for name in ["orders", "notes", "secrets", FOREIGN] {
            let events: Vec<Vec<u8>> = (0..150).map(foreign).collect();
            self.stream(3, name, DataClass::NonPhi, &events, 15);
        }
    }

    fn stream(&self, who: usize, name: &str, class: DataClass, events: &[Vec<u8>], batch: usize) {
        let create = CreateStreamRequest { name: name.to_string(), data_class: class.number() };
        let created = self.call(who, Request::CreateStream(create), Bytes::new());
        let Ok(Response::CreateStream(created)) = created.map(|answer| answer.body) else {
            panic!("the stream {name} is made");
        };
        for events in events.chunks(batch) {
            let batch = EventBatch::from_events(events).expect("small events are a batch");
            let append = AppendRequest {
                stream_id: created.stream_id,
                expected_offset: u64::MAX,
                count: batch.count(),
                payload_crc: batch.crc(),
                ..Default::default()
            };
            let appended = self.call(who, Request::Append(append), batch.payload().clone());
            appended.expect("an append to a database in memory");
        }
    }

    fn call(&self, who: usize, request: Request, payload: Bytes) -> Result<Answer, Error> {
        let timeout = Some(Duration::from_secs(10));
        block_on(self.engine.handle(&self.askers[who], request, payload, timeout))
    }

    fn streams(&self, who: usize) -> Vec<StreamInfo> {
        let list = ListStreamsRequest { after_stream_id: 0, max_streams: 100 };
        match self.call(who, Request::ListStreams(list), Bytes::new()).map(|answer| answer.body) {
            Ok(Response::ListStreams(list)) => list.streams,
            other => panic!("streams cannot be listed: {other:?}"),
        }
    }

    /// No statement changes anything.
    pub(super) fn check_unchanged(&self, sql: &str) {
        assert!(self.streams(1) == self.before[0], "a statement changed something: {sql}");
        assert!(self.streams(3) == self.before[1], "a statement changed another tenant: {sql}");
    }

    /// A statement's columns and rows.
    pub(super) fn query(
        &self,
        who: usize,
        request: QueryRequest,
    ) -> Result<(Vec<Column>, Vec<Vec<Value>>), Error> {
        let answer = self.call(who, Request::Query(request), Bytes::new())?;
        let Response::Query(body) = answer.body else { panic!("another answer than a query's") };
        let mut payload = BytesMut::new();
        if let Some(mut stream) = answer.payload {
            while let Some(chunk) = next_chunk(&mut *stream) {
                payload.extend_from_slice(&chunk?);
                assert!(payload.len() < 64 << 20, "an answer without end");
            }
        }
        let mut rest = payload.freeze();
        let mut rows = Vec::new();
        while !rest.is_empty() {
            let (batch, len) = RowBatch::parse(&rest).expect("rows are good").expect("and whole");
            assert_eq!(batch.column_count(), body.columns.len());
            rows.extend((0..batch.row_count()).map(|row| row_of(&batch, row)));
            rest = rest.slice(len..);
        }
        Ok((body.columns, rows))
    }
}

fn row_of(batch: &RowBatch, row: usize) -> Vec<Value> {
    let cell = |column| batch.cell(row, column).expect("the cell is there").to_value();
    (0..batch.column_count()).map(cell).collect()
}

fn next_chunk(stream: &mut dyn PayloadStream) -> Option<Result<Bytes, Error>> {
    block_on(std::future::poll_fn(|cx| stream.poll_chunk(cx, 1 << 18)))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
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
