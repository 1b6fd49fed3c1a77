//! Golden bytes: what each release wrote, kept for every later one to read. They lie in
//! test-fixtures/golden/<release>/wire.txt, one named item a line, in hexadecimal.
//!
//! With the environment variable KIMBERLITE_WRITE_GOLDEN set, this release's file is written; once
//! released, it must not change any more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use kimberlite_wire::block::*;
use kimberlite_wire::frame::{FrameDecoder, encode_frame_head, flag};
use kimberlite_wire::rows::{RowBatch, RowBatchBuilder};
use kimberlite_wire::*;

const RELEASE: &str = "0.1";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../test-fixtures/golden")
}

/// One request of each operation, every field told apart from its default.
fn requests() -> Vec<Request> {
    let params = vec![
        Value::Null,
        Value::Int64(-2),
        Value::Float64(0.5),
        Value::String("ä".into()),
        Value::Bytes(vec![0, 255]),
        Value::Bool(true),
    ];
    vec![
        Request::Hello(HelloRequest {
            protocol_version: 1,
            tenant_id: 2,
            auth_token: "token".into(),
            client_name: "name".into(),
            client_version: "0.1.0".into(),
        }),
        Request::CreateStream(CreateStreamRequest { name: "orders".into(), data_class: 2 }),
        Request::Append(AppendRequest {
            stream_id: 1,
            expected_offset: 2,
            producer_id: 3,
            sequence: 4,
            acked_below: 5,
            count: 6,
            payload_crc: 7,
        }),
        Request::Read(ReadRequest {
            stream_id: 1,
            from_offset: 2,
            max_events: 3,
            max_bytes: 4,
            min_position: 5,
            stale: true,
        }),
        Request::Subscribe(SubscribeRequest { stream_id: 1, from_offset: 2, credit_bytes: 3 }),
        Request::Query(QueryRequest {
            sql: "SELECT ?".into(),
            params,
            at_kind: 2,
            at: 3,
            min_position: 4,
            stale: true,
        }),
        Request::Verify(VerifyRequest { stream_id: 1 }),
        Request::ListStreams(ListStreamsRequest { after_stream_id: 1, max_streams: 2 }),
        Request::StreamInfo(StreamInfoRequest { stream_id: 1, name: "orders".into() }),
        Request::OpenProducer(OpenProducerRequest {}),
        Request::CreateTenant(CreateTenantRequest { tenant_id: 1 }),
        Request::DeleteTenant(DeleteTenantRequest { tenant_id: 1 }),
        Request::ListTenants(ListTenantsRequest {}),
    ]
}

/// One answer of each operation.
fn responses() -> Vec<Response> {
    let stream = StreamInfo {
        stream_id: 1,
        name: "orders".into(),
        data_class: 2,
        next_offset: 3,
        created_ns: 4,
        last_timestamp_ns: 5,
        data_bytes: 6,
        head: [7; 32],
    };
    let column = Column { name: "id".into(), declared_type: "INTEGER".into() };
    vec![
        Response::Hello(HelloResponse {
            protocol_version: 1,
            server_version: "0.1.0".into(),
            log_id: [3; 16],
            principal: "alice".into(),
            role: 3,
            leader: "db1:5432".into(),
            members: vec!["db1:5432".into(), "db2:5432".into()],
            max_request_bytes: 8,
            initial_credit_bytes: 9,
            position: 10,
        }),
        Response::CreateStream(CreateStreamResponse { stream_id: 1, created: true, position: 3 }),
        Response::Append(AppendResponse {
            first_offset: 1,
            count: 2,
            timestamp_ns: 3,
            position: 4,
        }),
        Response::Read(ReadResponse { next_offset: 1, position: 2 }),
        Response::Subscribe(SubscribeResponse { next_offset: 1, position: 2 }),
        Response::Query(QueryResponse { columns: vec![column], position: 2 }),
        Response::Verify(VerifyResponse {
            valid: true,
            count: 2,
            first_bad_offset: u64::MAX,
            head: [4; 32],
            position: 5,
        }),
        Response::ListStreams(ListStreamsResponse {
            streams: vec![stream.clone(), StreamInfo::default()],
            more: true,
            position: 3,
        }),
        Response::StreamInfo(StreamInfoResponse { stream, position: 2 }),
        Response::OpenProducer(OpenProducerResponse { producer_id: 1, position: 2 }),
        Response::CreateTenant(CreateTenantResponse { created: true, position: 2 }),
        Response::DeleteTenant(DeleteTenantResponse { position: 1 }),
        Response::ListTenants(ListTenantsResponse { tenant_ids: vec![1, 2], position: 3 }),
    ]
}

fn error_body() -> ErrorBody {
    let detail = "next offset is 9".into();
    ErrorBody { code: 16, detail, value: 9, retry_after_ms: 4, no_effect: true }
}

fn batch() -> EventBatch {
    EventBatch::from_events([&b"one"[..], b"", b"three"]).unwrap()
}

/// Two blocks of a chain.
fn blocks() -> Vec<u8> {
    let (mut out, batch) = (Vec::new(), batch());
    let mut head = start_of_chain();
    for first_offset in [0, 3] {
        let draft = BlockDraft {
            tenant_id: 2,
            stream_id: 5,
            first_offset,
            timestamp_ns: 1_700_000_000_000_000_000,
            count: batch.count(),
            content: content_hash(batch.payload()),
            body_crc: batch.crc(),
        };
        head = write_block(&mut out, &head, &draft, batch.payload());
    }
    out
}

fn start_of_chain() -> Hash {
    genesis(2, 5, "orders", DataClass::Deidentified)
}

fn rows() -> Bytes {
    let mut builder = RowBatchBuilder::new(2);
    for row in 0..2 {
        builder.push_i64(row);
        builder.push_str("text");
        builder.finish_row();
    }
    builder.finish().unwrap()
}

fn frame() -> Vec<u8> {
    let mut out = Vec::new();
    let flags = flag::MORE;
    encode_frame_head(FrameKind::Response, flags, 4, 9, 1000, b"body", 7, &mut out);
    out.extend_from_slice(b"payload");
    out
}

fn items() -> BTreeMap<String, Vec<u8>> {
    let mut items = BTreeMap::new();
    let mut add = |name: &str, bytes: Vec<u8>| {
        assert!(items.insert(name.to_string(), bytes).is_none(), "{name} twice");
    };
    for request in requests() {
        let mut out = Vec::new();
        request.encode(&mut out);
        add(&format!("request/{}", request.operation().name()), out);
    }
    for response in responses() {
        let mut out = Vec::new();
        response.encode(&mut out);
        add(&format!("response/{}", response.operation().name()), out);
    }
    let mut out = Vec::new();
    error_body().encode(&mut out);
    add("error", out);
    add("events", batch().payload().to_vec());
    add("blocks", blocks());
    add("rows", rows().to_vec());
    add("frame", frame());
    items
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(pair).collect()
}

fn read(release: &str) -> BTreeMap<String, Vec<u8>> {
    let path = folder().join(release).join("wire.txt");
    let text = std::fs::read_to_string(path).expect("a release has its golden bytes");
    let item = |line: &str| {
        let (name, bytes) = line.split_once(' ').expect("a name and bytes");
        (name.to_string(), unhex(bytes))
    };
    text.lines().map(item).collect()
}

/// Shows that this release writes the bytes that are kept for it.
#[test]
fn this_release_writes_its_bytes() {
    assert!(env!("CARGO_PKG_VERSION").starts_with(&format!("{RELEASE}.")));
    if std::env::var_os("KIMBERLITE_WRITE_GOLDEN").is_some() {
        let lines = items().into_iter().map(|(name, bytes)| format!("{name} {}\n", hex(&bytes)));
        let folder = folder().join(RELEASE);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(folder.join("wire.txt"), lines.collect::<String>()).expect("writable");
    }
    assert_eq!(read(RELEASE), items());
}

/// Shows that the bytes of every release are still read; for this one, as what they were.
#[test]
fn every_release_is_read() {
    for release in std::fs::read_dir(folder()).expect("there are golden bytes") {
        let release = release.expect("readable").file_name().to_string_lossy().into_owned();
        for (name, bytes) in read(&release) {
            read_item(&name, bytes, release == RELEASE);
        }
    }
}

fn read_item(name: &str, bytes: Vec<u8>, same: bool) {
    let operation = |name: &str| {
        let found = Operation::ALL.into_iter().find(|operation| operation.name() == name);
        found.expect("operations stay")
    };
    if let Some(name) = name.strip_prefix("request/") {
        let request = Request::decode(operation(name), &bytes).expect(name);
        assert!(!same || requests().contains(&request), "{name}");
    } else if let Some(name) = name.strip_prefix("response/") {
        let response = Response::decode(operation(name), &bytes).expect(name);
        assert!(!same || responses().contains(&response), "{name}");
    } else {
        match name {
            "error" => assert_eq!(ErrorBody::decode(&bytes), Ok(error_body())),
            "events" => {
                let crc = crc32c::crc32c(&bytes);
                assert_eq!(EventBatch::from_wire(3, bytes.into(), crc), Ok(batch()));
            }
            "blocks" => read_blocks(&bytes),
            "rows" => {
                let (rows, _) = RowBatch::parse(&bytes.into()).unwrap().unwrap();
                assert_eq!((rows.row_count(), rows.column_count()), (2, 2));
                assert_eq!(rows.cell(1, 1).unwrap().to_value(), Value::String("text".into()));
            }
            "frame" => {
                let mut decoder = FrameDecoder::for_client();
                decoder.push(&bytes);
                let frame = decoder.next().unwrap().unwrap();
                assert_eq!((&frame.body[..], &frame.payload[..]), (&b"body"[..], &b"payload"[..]));
            }
            other => panic!("nobody reads {other}"),
        }
    }
}

fn read_blocks(mut bytes: &[u8]) {
    let mut chain = ChainVerifier::new(start_of_chain(), 0);
    while !bytes.is_empty() {
        let (block, consumed) = BlockView::parse(bytes).unwrap().unwrap();
        chain.check(&block).unwrap();
        assert_eq!(block.events().collect::<Vec<_>>(), batch().iter().collect::<Vec<_>>());
        bytes = &bytes[consumed..];
    }
    assert_eq!(chain.next_offset(), 6);
}
