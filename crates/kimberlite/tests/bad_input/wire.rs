//! kimberlite-wire: constructors, decoders, and the session.

use bytes::{Bytes, BytesMut};
use kimberlite_wire::block::{
    BLOCK_HEADER_BYTES, BlockDraft, BlockHeader, BlockView, ChainVerifier, block_len, content_hash,
    genesis, write_block,
};
use kimberlite_wire::codec::Reader;
use kimberlite_wire::events::PackedEvents;
use kimberlite_wire::frame::{
    FRAME_HEADER_BYTES, FrameDecoder, FrameHeader, encode_frame_head, flag,
};
use kimberlite_wire::producer::ProducerTable;
use kimberlite_wire::rows::{RowBatch, RowBatchBuilder};
use kimberlite_wire::session::{
    Action, Call, CallId, CallKind, ConnectionId, Session, SessionConfig,
};
use kimberlite_wire::*;

use crate::NO_CODE;
use crate::table::Table;

/// Every function of kimberlite-wire refuses what it cannot take.
#[test]
fn wire() {
    let mut table = Table::new("kimberlite-wire");
    messages(&mut table);
    numbers(&mut table);
    options(&mut table);
    batches(&mut table);
    blocks(&mut table);
    codec(&mut table);
    frames(&mut table);
    producers(&mut table);
    rows(&mut table);
    sessions(&mut table);
    table.finish(&[
        ("*::encode", "every message can be written"),
        ("Error::invalid", "takes every text"),
        ("Error::limit", "takes every text and number"),
        ("Error::new", "takes every code and text"),
        ("Error::protocol", "takes every text"),
        ("Error::with_value", "takes every number"),
        ("block::BlockHeader::chain_after", "hashes every hash"),
        ("block::ChainVerifier::new", "takes every hash and offset; check judges the blocks"),
        ("block::content_hash", "hashes every body"),
        ("block::genesis", "hashes every identity"),
        ("codec::DecodeError::new", "takes every text"),
        ("codec::Reader::new", "takes every body; what it takes from it is judged"),
        ("codec::put_bytes", "writes every byte string"),
        ("codec::put_nested", "writes what its closure writes"),
        ("frame::FrameHeader::has", "compares every bit"),
        ("frame::encode_frame", "writes every header; a decoder judges it"),
        ("frame::encode_frame_head", "writes every header; a decoder judges it"),
        ("rows::RowBatchBuilder::new", "takes every number of columns"),
        ("rows::RowBatchBuilder::push_bool", "takes every value"),
        ("rows::RowBatchBuilder::push_bytes", "takes every value"),
        ("rows::RowBatchBuilder::push_f64", "takes every value"),
        ("rows::RowBatchBuilder::push_i64", "takes every value"),
        ("rows::RowBatchBuilder::push_str", "takes every value"),
        ("rows::RowBatchBuilder::push_value", "takes every value"),
        ("session::CallId", "names a call; the session judges it"),
        ("session::ConnectionId", "names a connection; the session judges it"),
        ("session::first_block_bytes", "takes every payload; 0 where it is no block"),
    ]);
}

/// A body that ends within a field names that field; bytes behind the last one are passed over.
fn messages(table: &mut Table) {
    macro_rules! cut_short {
        ($($message:ident: $bytes:expr, $field:expr;)*) => {$(
            table.refused(
                concat!(stringify!($message), "::decode"),
                "a body that ends within a field",
                NO_CODE,
                &[$field, "ends too early"],
                || $message::decode(&$bytes),
            );
        )*};
    }
    cut_short! {
        AppendRequest: [1; 9], "expected_offset";
        AppendResponse: [1; 9], "count";
        Column: [0; 9], "declared_type";
        CreateStreamRequest: [9; 9], "name";
        CreateStreamResponse: [1; 10], "position";
        CreateTenantRequest: [1; 7], "tenant_id";
        CreateTenantResponse: [1; 2], "position";
        CreditBody: [1; 7], "bytes";
        DeleteTenantRequest: [1; 7], "tenant_id";
        DeleteTenantResponse: [1; 7], "position";
        ErrorBody: [1; 5], "detail";
        GoawayBody: [255; 8], "leader";
        HelloRequest: [1; 3], "tenant_id";
        HelloResponse: [1; 3], "server_version";
        ListStreamsRequest: [1; 9], "max_streams";
        ListStreamsResponse: [1; 7], "streams";
        ListTenantsResponse: [1, 0, 0, 0, 0, 0, 0, 0, 1], "tenant_ids";
        OpenProducerResponse: [1; 9], "position";
        QueryRequest: [1; 7], "sql";
        QueryResponse: [1; 7], "columns";
        ReadRequest: [1; 33], "min_position";
        ReadResponse: [1; 9], "position";
        StreamInfo: [1; 7], "stream_id";
        StreamInfoRequest: [1; 9], "name";
        StreamInfoResponse: [1; 7], "stream";
        SubscribeRequest: [1; 17], "credit_bytes";
        SubscribeResponse: [1; 9], "position";
        VerifyRequest: [1; 7], "stream_id";
        VerifyResponse: [1; 2], "count";
    }
    table.holds("OpenProducerRequest::decode", "bytes behind its last field", || {
        OpenProducerRequest::decode(&[1, 2, 3]).is_ok()
    });
    table.holds("ListTenantsRequest::decode", "bytes behind its last field", || {
        ListTenantsRequest::decode(&[1, 2, 3]).is_ok()
    });
    let text = [[2u64.to_le_bytes(), [0xff; 8]].concat(), vec![0; 8]].concat();
    table.refused("CreateStreamRequest::decode", "no UTF-8", NO_CODE, &["name", "UTF-8"], || {
        CreateStreamRequest::decode(&text)
    });
    let list = (limit::LIST_ELEMENTS + 1).to_le_bytes();
    table.refused("ListTenantsResponse::decode", "a huge list", NO_CODE, &["65536"], || {
        ListTenantsResponse::decode(&list)
    });
    for operation in Operation::ALL {
        if Request::decode(operation, &[]).is_ok_and(|r| {
            r == Request::OpenProducer(OpenProducerRequest {})
                || r == Request::ListTenants(ListTenantsRequest {})
        }) {
            continue;
        }
        table.refused("Request::decode", operation.name(), NO_CODE, &["field", "early"], || {
            Request::decode(operation, &[255])
        });
    }
    for operation in Operation::ALL {
        let body: &[u8] = match operation {
            // A truth value comes first.
            Operation::Verify | Operation::CreateTenant => &[1, 1],
            _ => &[255],
        };
        table.refused("Response::decode", operation.name(), NO_CODE, &["field", "early"], || {
            Response::decode(operation, body)
        });
    }
    table.holds("Error::from_body", "an unknown number", || {
        let body = ErrorBody { code: 4_000_000_000, detail: "x".into(), ..ErrorBody::default() };
        let e = Error::from_body(body);
        (e.code, e.number, e.detail.as_str()) == (ErrorCode::Unknown, 4_000_000_000, "x")
    });
}

fn numbers(table: &mut Table) {
    macro_rules! unknown {
        ($($kind:ident: $number:expr;)*) => {$(
            table.holds(
                concat!(stringify!($kind), "::from_number"),
                "an unknown number",
                || $kind::from_number($number).is_none(),
            );
        )*};
    }
    unknown! {
        AtKind: 3;
        CompletionKind: 0;
        DataClass: 3;
        ErrorCode: 4_000_000_000;
        FrameKind: 0;
        LogLevel: 0;
        Operation: 0;
        Role: 255;
        ValueType: 6;
    }
}

fn options(table: &mut Table) {
    let invalid = ErrorCode::InvalidArgument;
    let mut options = ClientOptions::default();
    table.refused("ClientOptions::set_u64", "an unknown name", invalid, &["nope"], || {
        options.set_u64("nope", 1)
    });
    table.refused("ClientOptions::set_u64", "a text's name", invalid, &["tls_ca_file"], || {
        options.set_u64("tls_ca_file", 1)
    });
    let words = ["timeout_ms is 0", "1 to 86400000"];
    table.refused("ClientOptions::set_u64", "too small a number", invalid, &words, || {
        options.set_u64("timeout_ms", 0)
    });
    table.refused("ClientOptions::set_string", "an unknown name", invalid, &["nope"], || {
        options.set_string("nope", "x")
    });
    table.refused("ClientOptions::set_string", "a number's name", invalid, &["timeout_ms"], || {
        options.set_string("timeout_ms", "1")
    });
    options.pool_connections = 65;
    let words = ["pool_connections is 65", "1 to 64"];
    table
        .refused("ClientOptions::check", "too large a number", invalid, &words, || options.check());
}

fn batches(table: &mut Table) {
    let (invalid, limit) = (ErrorCode::InvalidArgument, ErrorCode::LimitExceeded);
    let none: [&[u8]; 0] = [];
    let large = vec![0; limit::EVENT_BYTES as usize + 1];
    let sum = ["the sum of the events' lengths", "index 2", "bytes", "16777216"];
    for (input, code, words, events) in [
        ("none", invalid, &["events", "at least one"][..], vec![]),
        ("too many", limit, &["number of events", "65537", "65536"], vec![&large[..0]; 65_537]),
        ("a large one", limit, &["event 1", "8388609", "8388608"], vec![&[], &large[..]]),
        ("too many bytes", limit, &sum, vec![&large[..limit::EVENT_BYTES as usize]; 3]),
    ] {
        table.refused("EventBatch::from_events", input, code, words, || {
            EventBatch::from_events(events)
        });
    }
    table.refused("EventBatch::from_events", "no event", invalid, &["events"], || {
        EventBatch::from_events(none)
    });
    let from_packed = "EventBatch::from_packed";
    table.refused(from_packed, "lengths that do not add up", invalid, &["lens", "7", "3"], || {
        EventBatch::from_packed(b"abc", &[3, 4])
    });
    table.refused(from_packed, "none", invalid, &["events", "at least one"], || {
        EventBatch::from_packed(&[], &[])
    });
    table.refused(from_packed, "a large one", limit, &["event 0", "8388609"], || {
        EventBatch::from_packed(&large, &[large.len() as u32])
    });
    table.refused(from_packed, "huge lengths", invalid, &["lens", "data"], || {
        EventBatch::from_packed(&[], &[u32::MAX; 3])
    });
    let from_wire = "EventBatch::from_wire";
    let batch = EventBatch::from_events([&b"one"[..], b"two", b"three"]).expect("fits");
    let payload = batch.payload().clone();
    for (input, code, words, count, crc) in [
        ("no event", invalid, &["events"][..], 0, 0),
        ("too many", limit, &["number of events", "65536"], 65_537, 0),
        (
            "another count",
            ErrorCode::Protocol,
            &["payload of append", "last event"],
            2,
            batch.crc(),
        ),
        ("another checksum", ErrorCode::Protocol, &["CRC-32C", "payload_crc"], 3, 0),
    ] {
        table.refused(from_wire, input, code, words, || {
            EventBatch::from_wire(count, payload.clone(), crc)
        });
    }
    let huge = Bytes::from(vec![0; limit::BATCH_BYTES as usize + 5]);
    table.refused(from_wire, "too many bytes", limit, &["payload", "16777221", "16777220"], || {
        EventBatch::from_wire(1, huge, 0)
    });
    table.holds("EventBatch::event", "an index behind the last", || batch.event(3).is_none());
    for (start, end) in [(0, 4), (2, 2), (u32::MAX, 0)] {
        let words = [&format!("range is {start}..{end}")[..], "0..3"];
        table.refused("EventBatch::slice", "a range of others", invalid, &words, || {
            batch.slice(start..end)
        });
    }
    let parse = "events::PackedEvents::parse";
    for (input, words, bytes, count) in [
        ("too few bytes", "fewer bytes", &[0; 4][..], 2),
        ("a huge count", "fewer bytes", &[0; 4], u32::MAX),
        ("an end before its start", "event 1", &[1, 0, 0, 0, 0, 0, 0, 0], 2),
        ("too long an event", "event 0 has 9 bytes; at most 8", &[9, 0, 0, 0], 1),
        ("data behind the last", "ends at 0 in 1 bytes", &[0, 0, 0, 0, 1], 1),
    ] {
        table.refused(parse, input, NO_CODE, &[words], || PackedEvents::parse(bytes, count, 8));
    }
    table.holds("events::PackedEvents::event", "an index behind the last", || {
        batch.packed().event(usize::MAX).is_none()
    });
}

/// A block of three events of stream 7 of tenant 1.
fn block(first_offset: u64) -> Vec<u8> {
    let batch = EventBatch::from_events(["a", "b", "c"]).expect("fits");
    let body = batch.payload();
    let draft = BlockDraft {
        tenant_id: 1,
        stream_id: 7,
        first_offset,
        timestamp_ns: 5,
        count: 3,
        content: content_hash(body),
        body_crc: batch.crc(),
    };
    let mut out = Vec::new();
    write_block(&mut out, &genesis(1, 7, "s", DataClass::Phi), &draft, body);
    out
}

fn blocks(table: &mut Table) {
    let good = block(0);
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let decode = "block::BlockHeader::decode";
    table.refused(decode, "too few bytes", NO_CODE, &["128 bytes", "cut short"], || {
        BlockHeader::decode(&good[..BLOCK_HEADER_BYTES - 1])
    });
    table.refused(decode, "other bytes", NO_CODE, &["magic"], || BlockHeader::decode(&[0; 128]));
    table.refused(decode, "a flipped bit", NO_CODE, &["header's checksum"], || {
        BlockHeader::decode(&changed(30))
    });
    let parse = "block::BlockView::parse";
    table.refused(parse, "other bytes", NO_CODE, &["magic"], || BlockView::parse(b"xyz"));
    table.refused(parse, "a flipped bit", NO_CODE, &["body's checksum"], || {
        BlockView::parse(&changed(141)).map(drop)
    });
    table.holds(parse, "a part of a block", || matches!(BlockView::parse(&good[..140]), Ok(None)));
    let (view, _) = BlockView::parse(&good).expect("a block").expect("whole");
    table.holds("block::BlockView::event", "an index behind the last", || view.event(3).is_none());
    let later = block(10);
    let (later, _) = BlockView::parse(&later).expect("a block").expect("whole");
    let mut verifier = ChainVerifier::new(genesis(1, 7, "s", DataClass::Phi), 0);
    let words = ["10", "next one"];
    table.refused("block::ChainVerifier::check", "a gap", NO_CODE, &words, || {
        verifier.check(&later)
    });
    let mut other = ChainVerifier::new([0; 32], 0);
    table.refused("block::ChainVerifier::check", "another chain", NO_CODE, &["chain hash"], || {
        other.check(&view)
    });
    let mut lying = view;
    lying.header.content = [0; 32];
    table.refused("block::ChainVerifier::after", "other content", NO_CODE, &["content"], || {
        ChainVerifier::after(&lying)
    });
    table.holds("block::block_len", "a length beyond the address space", || {
        block_len(usize::MAX) >= usize::MAX - 7
    });
    table.holds("block::write_block", "a draft without events, which no reader takes", || {
        let draft = BlockDraft {
            tenant_id: 1,
            stream_id: 1,
            first_offset: 0,
            timestamp_ns: 0,
            count: 0,
            content: [0; 32],
            body_crc: 0,
        };
        let mut out = Vec::new();
        write_block(&mut out, &[0; 32], &draft, b"");
        BlockView::parse(&out).is_err()
    });
}

fn codec(table: &mut Table) {
    for count in [3, usize::MAX] {
        table.refused("codec::Reader::take", "too large a count", NO_CODE, &["early"], || {
            Reader::new(&[1, 2]).take(count).map(drop)
        });
    }
    table.refused("codec::Reader::required", "nothing", NO_CODE, &["its_name", "missing"], || {
        Reader::new(&[]).required::<u32>("its_name")
    });
    table.refused("codec::Reader::required", "half a number", NO_CODE, &["its_name"], || {
        Reader::new(&[1, 2]).required::<u32>("its_name")
    });
    table.refused("codec::Reader::field", "half a number", NO_CODE, &["its_name", "early"], || {
        Reader::new(&[1, 2]).field::<u32>("its_name")
    });
}

fn frames(table: &mut Table) {
    let (protocol, limit) = (ErrorCode::Protocol, ErrorCode::LimitExceeded);
    let mut good = Vec::new();
    encode_frame_head(FrameKind::Request, flag::END, 3, 1, 0, b"body", 0, &mut good);
    let decode = "frame::FrameHeader::decode";
    table.refused(decode, "other bytes", protocol, &["magic"], || {
        FrameHeader::decode(&[0; FRAME_HEADER_BYTES])
    });
    let mut odd = [0; FRAME_HEADER_BYTES];
    odd.copy_from_slice(&good[..FRAME_HEADER_BYTES]);
    odd[4] = 9;
    table.refused(decode, "an unknown kind", protocol, &["kind is 9", "1 to 6"], || {
        FrameHeader::decode(&odd)
    });
    table.refused("frame::FrameDecoder::push", "other bytes", protocol, &["magic"], || {
        let mut decoder = FrameDecoder::new(100);
        decoder.push(b"GET /");
        decoder.next()
    });
    table.refused(
        "frame::FrameDecoder::push_buffer",
        "a flipped bit",
        protocol,
        &["check"],
        || {
            let mut decoder = FrameDecoder::new(100);
            let mut bytes = BytesMut::from(&good[..]);
            bytes[FRAME_HEADER_BYTES] ^= 1;
            decoder.push_buffer(bytes);
            decoder.next()
        },
    );
    let words = ["length in bytes is 4", "at most 3"];
    table.refused("frame::FrameDecoder::new", "a frame beyond its bound", limit, &words, || {
        let mut decoder = FrameDecoder::new(3);
        decoder.push(&good);
        decoder.next()
    });
    let set = "frame::FrameDecoder::set_max_frame_bytes";
    table.refused(set, "a frame beyond it", limit, &words, || {
        let mut decoder = FrameDecoder::for_client();
        decoder.set_max_frame_bytes(3);
        decoder.push(&good);
        decoder.next()
    });
}

/// Keys that a table did not give change nothing in it.
fn producers(table: &mut Table) {
    let mut producers = ProducerTable::new();
    let odd = AppendKey { producer_id: 9, sequence: u64::MAX };
    let zero = AppendKey { producer_id: 1, sequence: 0 };
    table.holds("producer::ProducerTable::opened", "the largest id", || {
        producers.opened(u64::MAX);
        producers.opened(1);
        producers.producer_id() == Some(1)
    });
    table.holds("producer::ProducerTable::acked_below", "keys of others", || {
        producers.acked_below(odd) >= 1 && producers.acked_below(zero) == 0
    });
    table.holds("producer::ProducerTable::settled", "keys of others", || {
        producers.settled(odd);
        producers.settled(zero);
        producers.settled(AppendKey { producer_id: 1, sequence: u64::MAX });
        producers.has_number()
    });
    table.holds("producer::ProducerTable::unresolved", "keys of others", || {
        producers.unresolved(odd);
        producers.unresolved(zero);
        producers.has_number()
    });
    table.holds("producer::ProducerTable::expired", "another producer", || {
        !producers.expired(2) && producers.producer_id() == Some(1)
    });
}

fn rows(table: &mut Table) {
    let mut builder = RowBatchBuilder::new(2);
    builder.push_i64(1);
    builder.push_str("x");
    builder.finish_row();
    let good = builder.finish().expect("a row");
    let protocol = ErrorCode::Protocol;
    table.refused("rows::RowBatch::parse", "a flipped bit", protocol, &["checksum"], || {
        let mut bytes = good.to_vec();
        bytes[20] ^= 1;
        RowBatch::parse(&Bytes::from(bytes))
    });
    let words = ["18446744065119617025 cells", "0 bytes"];
    table.refused("rows::RowBatch::parse", "huge counts", protocol, &words, || {
        let mut bytes = vec![0xff; 16];
        bytes[..4].fill(0);
        RowBatch::parse(&Bytes::from(bytes))
    });
    table.holds("rows::RowBatch::needed", "less than a length", || {
        RowBatch::needed(&[1, 2, 3]).is_none()
    });
    let (batch, _) = RowBatch::parse(&good).expect("a batch").expect("whole");
    table.holds("rows::RowBatch::cell", "rows and columns behind the last", || {
        [(1, 0), (0, 2), (usize::MAX, usize::MAX), (usize::MAX, 1)]
            .into_iter()
            .all(|(row, column)| batch.cell(row, column).is_none())
    });
}

fn session(addresses: &[&str]) -> Session {
    let config = SessionConfig {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        tenant_id: 1,
        auth_token: String::new(),
        client_version: "test".into(),
        options: ClientOptions::default(),
        seed: 7,
    };
    Session::new(config, 0)
}

fn done(session: &mut Session, wanted: CallId) -> Option<Error> {
    let mut found = None;
    while let Some(action) = session.poll_action() {
        match action {
            Action::Done { call, result } if call == wanted => found = result.err(),
            _ => {}
        }
    }
    found
}

/// Ids that a session did not give, and times that run back or out, change nothing.
fn sessions(table: &mut Table) {
    let (odd, failed) = (ConnectionId(99), ErrorCode::ConnectionFailed);
    let mut none = session(&[]);
    table.refused("session::Session::new", "no address", failed, &["address"], || {
        let call = none.connect(10, 0);
        none.tick(20);
        done(&mut none, call).map_or(Ok(()), Err)
    });
    let mut one = session(&["a"]);
    table.holds("session::Session::address", "an index behind the last", || {
        one.address(usize::MAX).is_empty()
    });
    table.refused(
        "session::Session::connect",
        "a past deadline",
        failed,
        &["a: no answer"],
        || {
            let call = one.connect(0, 50);
            one.tick(60);
            done(&mut one, call).map_or(Ok(()), Err)
        },
    );
    table.holds("session::Session::connected", "an unknown connection", || {
        one.connected(odd, 60);
        true
    });
    table.holds("session::Session::received", "an unknown connection", || {
        one.received(odd, b"GET /", 60);
        true
    });
    table.holds("session::Session::received_buffer", "an unknown connection", || {
        one.received_buffer(odd, BytesMut::from(&b"GET /"[..]), 60);
        true
    });
    table.holds("session::Session::disconnected", "an unknown connection", || {
        one.disconnected(odd, Error::protocol("x"), 60);
        true
    });
    table.holds("session::Session::cancel", "an unknown call", || {
        one.cancel(CallId(99), 60);
        true
    });
    table.holds("session::Session::grant", "an unknown call, and every byte", || {
        one.grant(CallId(99), u64::MAX);
        true
    });
    table.refused("session::Session::call", "a past deadline", failed, &["a: no answer"], || {
        let request = Request::Verify(VerifyRequest { stream_id: 1 });
        let kind = CallKind::Collect;
        let call = Call { request, payload: Bytes::new(), deadline_ms: 0, kind };
        let call = one.call(call, 60);
        one.tick(70);
        done(&mut one, call).map_or(Ok(()), Err)
    });
    table.holds("session::Session::tick", "a time that runs back, and the last one", || {
        one.tick(0);
        one.tick(u64::MAX);
        one.connected(ConnectionId(1), u64::MAX);
        one.tick(u64::MAX);
        true
    });
    table.refused("session::Session::close", "a call after it", ErrorCode::Closed, &[], || {
        one.close(u64::MAX);
        one.close(0);
        let call = one.connect(10, 0);
        done(&mut one, call).map_or(Ok(()), Err)
    });
}
