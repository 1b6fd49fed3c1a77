//! kimberlite-engine: opening, and each request at the one door.

use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kimberlite::core::block_on;
use kimberlite_engine::sql::{Cut, EventTable, QueryLimits, prepare};
use kimberlite_engine::{Engine, EngineOptions, Histogram, Session, blocking, make_folder};
use kimberlite_wire::*;

use crate::table::Table;

/// Every function of kimberlite-engine refuses what it cannot take.
#[test]
fn engine() {
    let mut table = Table::new("kimberlite-engine");
    let engine = Engine::open(EngineOptions::default()).expect("opens");
    opening(&mut table, &engine);
    engine.ensure_tenant(1).expect("tenant 1");
    let session = engine.session("local", 1, Role::Admin, true);
    requests(&mut table, &engine, &session);
    statements(&mut table, &engine, &session);
    engine.close();
    table.refused("Engine::handle", "a closed engine", ErrorCode::Closed, &["closed"], || {
        let request = Request::ListTenants(ListTenantsRequest {});
        block_on(engine.handle(&session, request, Bytes::new(), None)).map(drop)
    });
    table.finish(&[
        ("Engine::session", "takes every caller, whom the door has judged; handle judges the rest"),
        ("Engine::tenant_exists", "compares every number"),
        ("sql::Prepared::run", "runs what prepare has judged"),
    ]);
}

fn opening(t: &mut Table, engine: &Engine) {
    let invalid = ErrorCode::InvalidArgument;
    for segment_bytes in [0, u64::MAX] {
        let words = [&format!("segment_bytes is {segment_bytes}")[..], "from"];
        t.refused("Engine::open", "a segment of another size", invalid, &words, || {
            Engine::open(EngineOptions { segment_bytes, ..EngineOptions::default() }).map(drop)
        });
    }
    t.refused("EngineOptions::folder", "a file", ErrorCode::Storage, &["Cargo.toml"], || {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        Engine::open(EngineOptions::folder(file)).map(drop)
    });
    t.refused("make_folder", "a folder below a file", ErrorCode::Storage, &["Cargo.toml"], || {
        make_folder(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml/folder")))
    });
    t.refused("Engine::ensure_tenant", "tenant 0", invalid, &["tenant_id is 0"], || {
        engine.ensure_tenant(0)
    });
    t.holds("blocking", "something that panics", || {
        let run = || blocking(|| resume_unwind(Box::new("a panic")));
        catch_unwind(run).is_err() && blocking(|| true)
    });
    let histogram = Histogram::of_counts();
    t.holds("Histogram::observe", "the largest number", || {
        histogram.observe(u64::MAX);
        histogram.observe(u64::MAX);
        true
    });
    t.holds("Histogram::observe_duration", "the longest time", || {
        histogram.observe_duration(Duration::MAX);
        true
    });
}

fn requests(t: &mut Table, engine: &Engine, session: &Arc<Session>) {
    use ErrorCode::*;
    let create = CreateStreamRequest { name: "s".into(), data_class: 1 };
    let create = Request::CreateStream(create);
    let answer = block_on(engine.handle(session, create, Bytes::new(), None)).expect("a stream");
    let Response::CreateStream(CreateStreamResponse { stream_id, .. }) = answer.body else {
        panic!("another answer");
    };
    let batch = EventBatch::from_events(["x"]).expect("fits");
    let append = AppendRequest {
        stream_id,
        expected_offset: constant::ANY_OFFSET,
        count: 1,
        payload_crc: batch.crc(),
        ..AppendRequest::default()
    };
    let read = ReadRequest { stream_id, max_events: 1, ..ReadRequest::default() };
    let rows: Vec<(&str, ErrorCode, &[&str], Request)> = vec![
        ("hello", Protocol, &["hello"], Request::Hello(HelloRequest::default())),
        (
            "an unknown class",
            InvalidDataClass,
            &["data_class", "9", "PHI"],
            Request::CreateStream(CreateStreamRequest { name: "x".into(), data_class: 9 }),
        ),
        (
            "no name",
            InvalidArgument,
            &["name", "255"],
            Request::CreateStream(CreateStreamRequest::default()),
        ),
        (
            "another count",
            Protocol,
            &["payload of append"],
            Request::Append(AppendRequest { count: 2, ..append.clone() }),
        ),
        (
            "another checksum",
            Protocol,
            &["payload_crc"],
            Request::Append(AppendRequest { payload_crc: 0, ..append.clone() }),
        ),
        (
            "another stream",
            StreamNotFound,
            &["7"],
            Request::Append(AppendRequest { stream_id: 7, ..append.clone() }),
        ),
        (
            "another offset",
            OffsetMismatch,
            &["expected_offset", "5", "0"],
            Request::Append(AppendRequest { expected_offset: 5, ..append.clone() }),
        ),
        (
            "a producer without a sequence",
            InvalidArgument,
            &["sequence is 0"],
            Request::Append(AppendRequest { producer_id: 1, ..append.clone() }),
        ),
        (
            "another producer",
            ProducerExpired,
            &["9"],
            Request::Append(AppendRequest { producer_id: 9, sequence: 1, ..append.clone() }),
        ),
        (
            "no events",
            InvalidArgument,
            &["max_events is 0"],
            Request::Read(ReadRequest { max_events: 0, ..read.clone() }),
        ),
        (
            "an offset beyond the end",
            OffsetOutOfRange,
            &["from_offset", "9", "0"],
            Request::Read(ReadRequest { from_offset: 9, ..read.clone() }),
        ),
        (
            "stream 0",
            StreamNotFound,
            &["0"],
            Request::Read(ReadRequest { stream_id: 0, ..read.clone() }),
        ),
        (
            "an offset beyond the end",
            OffsetOutOfRange,
            &["from_offset", "9"],
            Request::Subscribe(SubscribeRequest { stream_id, from_offset: 9, credit_bytes: 0 }),
        ),
        (
            "an unknown cut",
            InvalidArgument,
            &["at_kind is 9"],
            Request::Query(QueryRequest {
                sql: "SELECT 1".into(),
                at_kind: 9,
                ..Default::default()
            }),
        ),
        (
            "no statement",
            QuerySyntax,
            &["statement is empty"],
            Request::Query(QueryRequest::default()),
        ),
        ("another stream", StreamNotFound, &["9"], Request::Verify(VerifyRequest { stream_id: 9 })),
        (
            "another name",
            StreamNotFound,
            &["nope"],
            Request::StreamInfo(StreamInfoRequest { stream_id: 0, name: "nope".into() }),
        ),
        ("no name", InvalidArgument, &["name"], Request::StreamInfo(StreamInfoRequest::default())),
        (
            "tenant 0",
            InvalidArgument,
            &["tenant_id is 0"],
            Request::CreateTenant(CreateTenantRequest { tenant_id: 0 }),
        ),
        (
            "tenant 0",
            InvalidArgument,
            &["tenant_id is 0"],
            Request::DeleteTenant(DeleteTenantRequest { tenant_id: 0 }),
        ),
    ];
    for (input, code, words, request) in rows {
        let payload = match &request {
            Request::Append(_) => batch.payload().clone(),
            _ => Bytes::new(),
        };
        let input = format!("{} with {input}", request.operation().name());
        for timeout in [None, Some(Duration::MAX)] {
            let (request, payload) = (request.clone(), payload.clone());
            t.refused("Engine::handle", &input, code, words, || {
                block_on(engine.handle(session, request, payload, timeout)).map(drop)
            });
        }
    }
    let nobody = engine.session("", 9, Role::None, false);
    t.refused("Engine::handle", "another tenant", TenantNotFound, &["9"], || {
        let request = Request::OpenProducer(OpenProducerRequest {});
        block_on(engine.handle(&nobody, request, Bytes::new(), None)).map(drop)
    });
    t.refused("Engine::handle", "no role", PermissionDenied, &["Writer", "has None"], || {
        let nobody = engine.session("bob", 1, Role::None, false);
        let request = Request::OpenProducer(OpenProducerRequest {});
        block_on(engine.handle(&nobody, request, Bytes::new(), None)).map(drop)
    });
    t.holds("Engine::handle", "the largest numbers of a list, which its limit bounds", || {
        let request = ListStreamsRequest { after_stream_id: u64::MAX, max_streams: u32::MAX };
        let request = Request::ListStreams(request);
        block_on(engine.handle(session, request, Bytes::new(), None)).is_ok()
    });
}

/// SQL that asks for what no statement may have.
fn statements(t: &mut Table, engine: &Engine, session: &Arc<Session>) {
    let mut query = |code, words: &[&str], sql: &str| {
        let request = QueryRequest { sql: sql.into(), ..QueryRequest::default() };
        t.refused("Engine::handle", sql, code, words, || {
            let request = Request::Query(request);
            block_on(engine.handle(session, request, Bytes::new(), None)).map(drop)
        });
    };
    query(ErrorCode::QuerySyntax, &["nope"], "SELECT nope FROM s");
    query(ErrorCode::QueryExecution, &["ATTACH"], "ATTACH 'x' AS y");
    query(ErrorCode::QueryExecution, &["PRAGMA"], "PRAGMA user_version");
    query(ErrorCode::InvalidArgument, &["params holds 0", "takes 1"], "SELECT ?");
    let limits = QueryLimits::default();
    t.refused("sql::prepare", "another table", ErrorCode::QuerySyntax, &["nope"], || {
        prepare(Arc::new(Nothing), "SELECT * FROM nope", &[], &limits).map(drop)
    });
    let tiny = QueryLimits { memory_bytes: 1, ..QueryLimits::default() };
    t.refused("sql::prepare", "no memory", ErrorCode::LimitExceeded, &["memory", "1"], || {
        prepare(Arc::new(Nothing), "SELECT 1", &[], &tiny).map(drop)
    });
}

/// A cut without streams.
struct Nothing;

impl Cut for Nothing {
    fn stream(&self, _name: &str) -> Result<Option<Arc<dyn EventTable>>, Error> {
        Ok(None)
    }

    fn streams(&self) -> Result<Vec<StreamInfo>, Error> {
        Ok(Vec::new())
    }

    fn audit(&self) -> Result<Option<Arc<dyn EventTable>>, Error> {
        Ok(None)
    }
}
