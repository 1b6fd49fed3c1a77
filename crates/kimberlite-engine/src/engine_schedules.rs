//! A whole engine over memory: callers who commit on their own threads beside the commit thread, those
//! who wait for what they commit, and a close in the middle.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use kimberlite_log::MemoryDisk;
use kimberlite_wire::block::BlockView;
use kimberlite_wire::{
    AppendRequest, CreateStreamRequest, DataClass, Error, ErrorCode, EventBatch, ReadRequest,
    Request, Response, Role, SubscribeRequest,
};
use shuttle::thread::{self, JoinHandle};

use crate::answer::{Answer, PayloadStream};
use crate::blocking::blocking;
use crate::engine::Engine;
use crate::options::{EngineOptions, Storage};
use crate::schedules::explore;
use crate::session::Session;
use crate::wait::block_on;

/// An engine with a stream.
#[derive(Clone)]
struct Database {
    engine: Engine,
    session: Arc<Session>,
    stream_id: u64,
}

impl Database {
    fn open() -> Database {
        Database::over(Storage::Memory)
    }

    fn over(storage: Storage) -> Database {
        let options = EngineOptions { storage, segment_bytes: 1 << 16, ..EngineOptions::default() };
        let engine = Engine::open(options).unwrap();
        engine.ensure_tenant(1).unwrap();
        let session = engine.session("writer", 1, Role::Writer, false);
        let mut database = Database { engine, session, stream_id: 0 };
        let created = database.call(Request::CreateStream(CreateStreamRequest {
            name: "s".to_string(),
            data_class: DataClass::NonPhi.number(),
        }));
        let Ok(Answer { body: Response::CreateStream(body), .. }) = created else {
            panic!("{created:?}");
        };
        database.stream_id = body.stream_id;
        database
    }

    fn call(&self, request: Request) -> Result<Answer, Error> {
        block_on(self.engine.handle(&self.session, request, Bytes::new(), None))
    }

    /// Appends one event and gives its offset.
    fn append(&self) -> Result<u64, Error> {
        let batch = EventBatch::from_events([b"event"]).unwrap();
        let request = Request::Append(AppendRequest {
            stream_id: self.stream_id,
            expected_offset: u64::MAX,
            count: 1,
            payload_crc: batch.crc(),
            ..AppendRequest::default()
        });
        let payload = batch.payload().clone();
        match block_on(self.engine.handle(&self.session, request, payload, None))?.body {
            Response::Append(body) => Ok(body.first_offset),
            other => panic!("{other:?}"),
        }
    }

    /// A thread that appends so often, and ends early where the engine is closed.
    fn appender(&self, appends: usize) -> JoinHandle<Vec<u64>> {
        let database = self.clone();
        thread::spawn(move || {
            let mut offsets = Vec::new();
            for _ in 0..appends {
                match blocking(|| database.append()) {
                    Ok(offset) => offsets.push(offset),
                    Err(error) => {
                        assert_eq!(error.code, ErrorCode::Closed, "{error}");
                        break;
                    }
                }
            }
            offsets
        })
    }

    fn subscribe(&self) -> Result<Box<dyn PayloadStream>, Error> {
        let request = SubscribeRequest { stream_id: self.stream_id, ..Default::default() };
        Ok(self.call(Request::Subscribe(request))?.payload.unwrap())
    }
}

/// The events in what a subscription gives next.
fn next(payload: &mut dyn PayloadStream) -> Result<u32, Error> {
    let chunk = block_on(poll_fn(|cx| payload.poll_chunk(cx, 1 << 16))).unwrap()?;
    let (mut at, mut count) = (0, 0);
    while let Some((block, consumed)) = BlockView::parse(&chunk[at..]).unwrap() {
        (at, count) = (at + consumed, count + block.header.count);
        if at == chunk.len() {
            break;
        }
    }
    Ok(count)
}

/// Where the log lives: without a disk callers commit for others, too, and with one for themselves.
const STORAGES: [fn() -> Storage; 2] =
    [|| Storage::Memory, || Storage::Disk(Arc::new(MemoryDisk::new()))];

/// Whoever commits, each append is answered once, with an offset of its own, in its caller's order.
#[test]
fn every_append_is_answered() {
    for storage in STORAGES {
        explore(move || append_beside_others(storage()));
    }
}

fn append_beside_others(storage: Storage) {
    let database = Database::over(storage);
    let appenders = [database.appender(2), database.appender(2)];
    let mut all = Vec::new();
    for appender in appenders {
        let offsets = appender.join().unwrap();
        assert!(offsets.len() == 2 && offsets[0] < offsets[1]);
        all.extend(offsets);
    }
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    database.engine.close();
    assert_eq!(database.engine.close_error(), None);
}

/// A close in the middle: each append is answered, those that were acknowledged come first in the
/// stream, and everybody goes on.
#[test]
fn a_close_answers_every_append() {
    for storage in STORAGES {
        explore(move || close_beside_appends(storage()));
    }
}

fn close_beside_appends(storage: Storage) {
    let database = Database::over(storage);
    let appenders = [database.appender(2), database.appender(1)];
    let other = database.engine.clone();
    let closes = thread::spawn(move || other.close());
    database.engine.close();
    let mut all: Vec<u64> =
        appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect();
    closes.join().unwrap();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..all.len() as u64));
    assert_eq!(database.append().map_err(|e| e.code), Err(ErrorCode::Closed));
    assert_eq!(database.engine.close_error(), None);
}

/// A subscription gets every event, whenever it looks.
#[test]
fn a_subscription_misses_nothing() {
    explore(|| {
        let database = Database::open();
        let reader = database.clone();
        let reads = thread::spawn(move || {
            let mut payload = reader.subscribe().unwrap();
            let mut events = 0;
            while events < 3 {
                events += next(&mut *payload).unwrap();
            }
            events
        });
        let appenders = [database.appender(1), database.appender(2)];
        appenders.into_iter().for_each(|appender| drop(appender.join().unwrap()));
        assert_eq!(reads.join().unwrap(), 3);
    });
}

/// A close ends a subscription that waits.
#[test]
fn a_close_ends_a_subscription() {
    explore(|| {
        let database = Database::open();
        let reader = database.clone();
        let reads = thread::spawn(move || {
            let ended = reader.subscribe().and_then(|mut payload| {
                loop {
                    next(&mut *payload)?;
                }
            });
            let ended: Result<(), Error> = ended;
            assert_eq!(ended.map_err(|e| e.code), Err(ErrorCode::Closed));
        });
        let appender = database.appender(1);
        database.engine.close();
        reads.join().unwrap();
        appender.join().unwrap();
    });
}

/// A read that is to see a position waits for it, through commits that come before it.
#[test]
fn a_position_is_waited_for() {
    explore(|| {
        let database = Database::open();
        let min_position = database.engine.position() + 2;
        let reader = database.clone();
        let reads = thread::spawn(move || {
            let stream_id = reader.stream_id;
            let request =
                ReadRequest { stream_id, max_events: 9, min_position, ..Default::default() };
            match reader.call(Request::Read(request)).unwrap().body {
                Response::Read(body) => {
                    assert_eq!((body.next_offset, body.position), (2, min_position))
                }
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(database.appender(2).join().unwrap(), [0, 1]);
        reads.join().unwrap();
    });
}
