//! Every operation over a real socket and a real database.

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{ANY, Raw, append, assert_error, events_of, read};
use kimberlite_server::{Server, ServerConfig, Tenants, TokenConfig};
use kimberlite_wire::frame::{encode_frame_head, flag};
use kimberlite_wire::rows::RowBatch;
use kimberlite_wire::{
    AppendRequest, AtKind, CreateStreamRequest, CreateTenantRequest, DataClass,
    DeleteTenantRequest, ErrorCode, EventBatch, FrameKind, ListStreamsRequest, ListTenantsRequest,
    OpenProducerRequest, QueryRequest, Request, Response, Role, StreamInfoRequest,
    SubscribeRequest, Value, VerifyRequest, limit,
};

const TOKEN: &str = "secret";

fn server() -> Server {
    Server::start(ServerConfig::development(TOKEN)).unwrap()
}

fn query(sql: &str, params: Vec<Value>) -> Request {
    let at_kind = AtKind::Now.number();
    let sql = sql.to_string();
    Request::Query(QueryRequest { sql, params, at_kind, ..QueryRequest::default() })
}

/// Every operation answers what it should; together they tell one story.
#[test]
fn every_operation_round_trips() {
    let server = server();
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let stream_id = raw.create_stream("visits");
    assert_eq!(raw.create_stream("visits"), stream_id);
    let appended = raw.append(stream_id, &[b"one", b"", b"three"]).unwrap();
    assert_eq!((appended.first_offset, appended.count), (0, 3));
    assert_eq!(raw.read_all(stream_id, 0), [&b"one"[..], b"", b"three"]);
    assert_eq!(raw.read_all(stream_id, 2), [&b"three"[..]]);

    let Response::OpenProducer(producer) =
        raw.call(&Request::OpenProducer(OpenProducerRequest {})).unwrap().0
    else {
        panic!("no producer")
    };
    let batch = EventBatch::from_events([b"four"]).unwrap();
    let (request, payload) = append(stream_id, 3, &batch);
    let Request::Append(request) = request else { unreachable!() };
    let once = Request::Append(AppendRequest {
        producer_id: producer.producer_id,
        sequence: 1,
        ..request
    });
    let outcomes = [0, 1].map(|_| {
        let id = raw.send(&once, &payload);
        raw.appended(id).unwrap()
    });
    assert_eq!((outcomes[0].first_offset, &outcomes[0]), (3, &outcomes[1]));

    let sql = "SELECT id, text FROM visits WHERE id >= ?1 ORDER BY id";
    let (body, payload) = raw.call(&query(sql, vec![Value::Int64(2)])).unwrap();
    let Response::Query(result) = body else { panic!("{body:?}") };
    assert_eq!(result.columns.len(), 2);
    let (batch, consumed) = RowBatch::parse(&payload).unwrap().unwrap();
    assert_eq!((batch.row_count(), consumed), (2, payload.len()));
    assert_eq!(batch.cell(1, 1).unwrap().to_value(), Value::String("four".to_string()));

    let verify = Request::Verify(VerifyRequest { stream_id });
    let Response::Verify(verified) = raw.call(&verify).unwrap().0 else { panic!() };
    assert!(verified.valid && verified.count == 4);
    let list = Request::ListStreams(ListStreamsRequest::default());
    let Response::ListStreams(listed) = raw.call(&list).unwrap().0 else { panic!() };
    let info = Request::StreamInfo(StreamInfoRequest { stream_id: 0, name: "VISITS".to_string() });
    let Response::StreamInfo(info) = raw.call(&info).unwrap().0 else { panic!() };
    assert_eq!(listed.streams, std::slice::from_ref(&info.stream));
    assert_eq!((info.stream.next_offset, info.stream.head), (4, verified.head));

    let create = Request::CreateTenant(CreateTenantRequest { tenant_id: 7 });
    let Response::CreateTenant(created) = raw.call(&create).unwrap().0 else { panic!() };
    assert!(created.created);
    let tenants = |raw: &mut Raw<_>| match raw.call(&Request::ListTenants(ListTenantsRequest {})) {
        Ok((Response::ListTenants(listed), _)) => listed.tenant_ids,
        other => panic!("{other:?}"),
    };
    assert_eq!(tenants(&mut raw), [1, 7]);
    let mut seventh = Raw::open(server.local_addr(), 7, TOKEN);
    assert_error(seventh.call(&read(stream_id, 0, 1)), ErrorCode::StreamNotFound, "");
    raw.call(&Request::DeleteTenant(DeleteTenantRequest { tenant_id: 7 })).unwrap();
    assert_eq!(tenants(&mut raw), [1]);
    assert_error(seventh.call(&read(stream_id, 0, 1)), ErrorCode::TenantNotFound, "7");
}

/// A subscription brings what was there, then what comes, paced by credit, until it is cancelled.
#[test]
fn subscriptions_are_live() {
    let server = server();
    let mut writer = Raw::open(server.local_addr(), 1, TOKEN);
    let stream_id = writer.create_stream("visits");
    writer.append(stream_id, &[b"old"]).unwrap();
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let subscribe = SubscribeRequest { stream_id, from_offset: 0, credit_bytes: 0 };
    let id = raw.send(&Request::Subscribe(subscribe), &[]);
    let mut blocks = Vec::new();
    for number in 0..50_u32 {
        let text = format!("event {number}");
        writer.append(stream_id, &[text.as_bytes()]).unwrap();
    }
    while !blocks.windows(8).any(|w| w == b"event 49") {
        let frame = raw.receive_for(id);
        assert!(!frame.header.has(flag::END), "{frame:?}");
        raw.credit(id, frame.payload.len() as u64);
        blocks.extend_from_slice(&frame.payload);
    }
    let events = events_of(&blocks, 0);
    assert_eq!(
        (events.len(), &events[0][..], &events[50][..]),
        (51, &b"old"[..], &b"event 49"[..])
    );
    raw.send_frame(FrameKind::Cancel, id, &[]);
    assert_error(raw.answer(id), ErrorCode::Cancelled, "");
}

/// Appends that were pipelined without waiting land in the order in which they were sent.
#[test]
fn pipelined_appends_stay_in_order() {
    let server = server();
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let stream_id = raw.create_stream("visits");
    let ids: Vec<u64> = (0..2_000_u32)
        .map(|number| {
            let batch = EventBatch::from_events([number.to_string()]).unwrap();
            let (request, payload) = append(stream_id, ANY, &batch);
            raw.send(&request, &payload)
        })
        .collect();
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(raw.appended(id).unwrap().first_offset, number as u64);
    }
    let events = raw.read_all(stream_id, 0);
    assert!(events.iter().enumerate().all(|(n, event)| event == n.to_string().as_bytes()));
}

/// Large events and batches come back as they were, in answers of many frames.
#[test]
fn large_events_come_back() {
    let server = server();
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let stream_id = raw.create_stream("images");
    let largest: Vec<u8> = (0..limit::EVENT_BYTES).map(|n| (n % 253) as u8).collect();
    raw.append(stream_id, &[&largest]).unwrap();
    let many: Vec<Vec<u8>> = (0..60_000_u32).map(|n| n.to_le_bytes().repeat(50)).collect();
    let batch = EventBatch::from_events(&many).unwrap();
    let (request, payload) = append(stream_id, 1, &batch);
    let id = raw.send(&request, &payload);
    raw.appended(id).unwrap();
    let events = raw.read_all(stream_id, 0);
    assert!(events.len() == 60_001 && events[0] == largest && events[1..] == many);
}

/// The errors of the operations arrive with their codes, values and words.
#[test]
fn errors_arrive() {
    let server = server();
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let stream_id = raw.create_stream("visits");
    raw.append(stream_id, &[b"one"]).unwrap();
    let batch = EventBatch::from_events([b"two"]).unwrap();
    let (request, payload) = append(stream_id, 5, &batch);
    let id = raw.send(&request, &payload);
    let error = raw.appended(id).unwrap_err();
    assert_eq!((error.code, error.value), (ErrorCode::OffsetMismatch, 1));
    let (request, mut payload) = append(stream_id, ANY, &batch);
    payload = payload.iter().map(|byte| byte ^ 1).collect();
    let id = raw.send(&request, &payload);
    assert!(raw.appended(id).is_err());
    assert_error(raw.call(&read(999, 0, 1)), ErrorCode::StreamNotFound, "999");
    assert_error(raw.call(&read(stream_id, 9, 1)), ErrorCode::OffsetOutOfRange, "");
    assert_error(raw.call(&read(stream_id, 0, 0)), ErrorCode::InvalidArgument, "");
    assert_error(raw.call(&query("SELECT FROM", vec![])), ErrorCode::QuerySyntax, "");
    let create = |data_class| {
        Request::CreateStream(CreateStreamRequest { name: "visits".to_string(), data_class })
    };
    assert_error(raw.call(&create(9)), ErrorCode::InvalidDataClass, "9");
    let other = DataClass::Phi.number();
    assert_error(raw.call(&create(other)), ErrorCode::StreamExists, "");
    assert_eq!(raw.read_all(stream_id, 0), [b"one"]);
}

/// Roles and tenants: what a token does not grant is denied, a tenant that does not exist is told
/// apart, and the tenants that the configuration names exist.
#[test]
fn roles_and_tenants_are_kept_apart() {
    let mut config = ServerConfig::development(TOKEN);
    for (name, role, tenants) in [
        ("reader", Role::Reader, vec![1]),
        ("writer", Role::Writer, vec![1, 2]),
        ("admin", Role::Admin, vec![2]),
    ] {
        config.tokens.push(TokenConfig::new(name, role, Tenants::Some(tenants), name).unwrap());
    }
    let server = Server::start(config).unwrap();
    let address = server.local_addr();
    let mut writer = Raw::open(address, 1, "writer");
    let stream_id = writer.create_stream("visits");
    writer.append(stream_id, &[b"one"]).unwrap();
    let mut reader = Raw::open(address, 1, "reader");
    assert_eq!(reader.read_all(stream_id, 0), [b"one"]);
    assert_error(reader.append(stream_id, &[b"two"]), ErrorCode::PermissionDenied, "");
    let tenants = Request::ListTenants(ListTenantsRequest {});
    assert_error(writer.call(&tenants), ErrorCode::PermissionDenied, "");
    Raw::open(address, 2, "admin").call(&tenants).unwrap();
    let mut other = Raw::open(address, 2, "writer");
    assert_error(other.call(&read(stream_id, 0, 1)), ErrorCode::StreamNotFound, "");
    let hello = |tenant, token| Raw::connect(address).hello(tenant, token);
    assert_error(hello(2, "reader"), ErrorCode::PermissionDenied, "tenant 2");
    assert_error(hello(3, "reader"), ErrorCode::TenantNotFound, "tenant 3");
    assert_error(hello(3, "nobody"), ErrorCode::AuthFailed, "");
}

/// A shutdown under load: every append that the server answered is there after a restart, in
/// order, and every append that was accepted was answered.
#[test]
fn a_shutdown_finishes_accepted_appends() {
    let folder = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        memory: false,
        data_dir: folder.path().join("data"),
        ..ServerConfig::development(TOKEN)
    };
    let server = Server::start(config.clone()).unwrap();
    let address = server.local_addr();
    let stream_id = Raw::open(address, 1, TOKEN).create_stream("visits");
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let writers: Vec<_> = (0..3)
        .map(|writer| thread::spawn(move || append_until_closed(address, stream_id, writer, &DONE)))
        .collect();
    while DONE.load(Ordering::SeqCst) < 100 {
        assert!(!writers.iter().any(thread::JoinHandle::is_finished), "a writer has ended");
        thread::sleep(Duration::from_millis(5));
    }
    server.shutdown(Duration::from_secs(10)).unwrap();
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        for (offset, event) in writer.join().unwrap() {
            assert!(acknowledged.insert(offset, event).is_none(), "offset {offset} came twice");
        }
    }
    assert!(acknowledged.len() >= 100, "{} appends", acknowledged.len());
    let server = Server::start(config).unwrap();
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let events = raw.read_all(stream_id, 0);
    assert_eq!(events.len(), acknowledged.len(), "an accepted append was not answered");
    assert!(acknowledged.into_values().eq(events));
    let verify = Request::Verify(VerifyRequest { stream_id });
    let Response::Verify(verified) = raw.call(&verify).unwrap().0 else { panic!() };
    assert!(verified.valid);
}

/// Keeps sixteen appends under way until the server refuses or closes; returns what it answered, and
/// counts it meanwhile.
fn append_until_closed(
    address: std::net::SocketAddr,
    stream_id: u64,
    writer: u64,
    count: &AtomicUsize,
) -> Vec<(u64, Vec<u8>)> {
    let mut raw = Raw::open(address, 1, TOKEN);
    let mut under_way = std::collections::VecDeque::new();
    let mut done = Vec::new();
    let mut number = 0_u64;
    let mut open = true;
    loop {
        while open && under_way.len() < 16 {
            let event = format!("{writer} {number}").into_bytes();
            number += 1;
            let batch = EventBatch::from_events([&event]).unwrap();
            let (request, payload) = append(stream_id, ANY, &batch);
            under_way.push_back((raw.send(&request, &payload), event));
        }
        let Some((id, event)) = under_way.pop_front() else { return done };
        match raw.appended(id) {
            Ok(appended) => {
                done.push((appended.first_offset, event));
                count.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                assert_eq!(error.code, ErrorCode::ClusterUnavailable, "{error}");
                open = false;
            }
        }
    }
}

/// A small generator of numbers, so that a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Well-formed frames of any kind, operation and content, some of them true requests with a few
/// bytes changed, do no harm: nothing panics, and the server goes on serving.
#[test]
fn random_frames_do_no_harm() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let server = server();
    let address = server.local_addr();
    let stream_id = Raw::open(address, 1, TOKEN).create_stream("visits");
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = thread::current();
        // Other tests of this program run beside this one, on threads of other names.
        if thread.name().is_some_and(|name| name.starts_with("kimberlite")) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        default_hook(info);
    }));
    let batch = EventBatch::from_events([&b"one"[..], b"two"]).unwrap();
    let (request, payload) = append(stream_id, ANY, &batch);
    let samples = [
        request,
        read(stream_id, 0, 10),
        query("SELECT count(*), text FROM visits WHERE id < ?1", vec![Value::Int64(3)]),
        Request::Verify(VerifyRequest { stream_id }),
        Request::Subscribe(SubscribeRequest { stream_id, from_offset: 0, credit_bytes: 9 }),
        Request::StreamInfo(StreamInfoRequest { stream_id, name: "x".to_string() }),
        Request::ListStreams(ListStreamsRequest::default()),
        Request::DeleteTenant(DeleteTenantRequest { tenant_id: 99 }),
        Request::CreateTenant(CreateTenantRequest { tenant_id: 98 }),
    ];
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..150 {
        let mut raw = Raw::open(address, 1, TOKEN);
        let mut out = Vec::new();
        for id in 0..40 {
            let sample = &samples[numbers.below(samples.len())];
            let mut body = Vec::new();
            sample.encode(&mut body);
            for _ in 0..numbers.below(3) {
                let at = numbers.below(body.len());
                body[at] ^= 1 << numbers.below(8);
            }
            body.truncate(body.len() - numbers.below(body.len().min(9)));
            let kind = match numbers.below(12) {
                kind @ 1..=6 => FrameKind::from_number(kind as u8).unwrap(),
                _ => FrameKind::Request,
            };
            let operation = match numbers.below(8) {
                0 => numbers.below(20) as u16,
                _ => sample.operation().number(),
            };
            let carries = matches!(sample, Request::Append(_)) && numbers.below(4) > 0;
            let payload = if carries { &payload[..] } else { &[] };
            let (timeout_ms, len) = (numbers.below(50) as u32, payload.len() as u32);
            let id = 2 + id - numbers.below(2) as u64;
            encode_frame_head(kind, 0, operation, id, timeout_ms, &body, len, &mut out);
            out.extend_from_slice(payload);
        }
        // A frame may end the connection before everything was sent.
        let _ = raw.stream.write_all(&out);
        thread::sleep(Duration::from_millis(3));
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        while raw.receive().is_some() {}
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    let mut raw = Raw::open(address, 1, TOKEN);
    raw.append(stream_id, &[b"still here"]).unwrap();
    assert_eq!(raw.read_all(stream_id, 0).last().unwrap(), b"still here");
}
