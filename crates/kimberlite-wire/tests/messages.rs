//! Messages across versions: an older peer's is a prefix of ours, a newer peer's goes on behind it.

use kimberlite_wire::*;

/// Shows that fields that an older peer did not send take their defaults, at every field's end.
#[test]
fn an_older_peer() {
    let mut body = Vec::new();
    let request = ReadRequest {
        stream_id: 1,
        from_offset: 2,
        max_events: 3,
        max_bytes: 4,
        min_position: 5,
        stale: true,
    };
    request.encode(&mut body);
    assert_eq!(body.len(), 5 * 8 + 1);
    let old = ReadRequest::decode(&body[..24]).unwrap();
    assert_eq!(
        old,
        ReadRequest { stream_id: 1, from_offset: 2, max_events: 3, ..Default::default() }
    );
    assert_eq!(ReadRequest::decode(&[]).unwrap(), ReadRequest::default());
    assert!(ReadRequest::decode(&body[..20]).is_err(), "a field is there whole or not at all");
}

/// Shows that bytes behind the known fields are passed over, in messages and in structs inside
/// lists.
#[test]
fn a_newer_peer() {
    let mut body = Vec::new();
    let response = QueryResponse {
        columns: vec![Column { name: "id".into(), declared_type: "INTEGER".into() }],
        position: 9,
    };
    response.encode(&mut body);
    body.extend_from_slice(b"more");
    assert_eq!(QueryResponse::decode(&body).unwrap(), response);

    // A column whose struct has grown by four bytes.
    let mut grown = 1u64.to_le_bytes().to_vec();
    grown.extend_from_slice(&(8 + 2 + 8 + 7 + 4u64).to_le_bytes());
    grown.extend_from_slice(&body[16..16 + 25]);
    grown.extend_from_slice(b"more");
    grown.extend_from_slice(&9u64.to_le_bytes());
    assert_eq!(QueryResponse::decode(&grown).unwrap(), response);
}

/// Shows that an error keeps its number and text where this version does not know it.
#[test]
fn an_unknown_error() {
    let detail = "why".to_string();
    let body = ErrorBody { code: 4711, detail, value: 3, retry_after_ms: 4, no_effect: true };
    let error = Error::from_body(body.clone());
    assert_eq!((error.code, error.number), (ErrorCode::Unknown, 4711));
    assert_eq!(error.to_body(), body);
    assert!(error.to_string().contains("4711") && error.to_string().contains("why"));
}

/// Shows that an error as it was before `no_effect` is read still, and says nothing of that; and
/// that who reads it so reads the new one, whose other fields stand where they stood.
#[test]
fn an_error_of_before() {
    let mut before = 23u32.to_le_bytes().to_vec();
    before.extend_from_slice(&4u64.to_le_bytes());
    before.extend_from_slice(b"full");
    before.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]);
    let error = Error::from_body(ErrorBody::decode(&before).unwrap());
    assert_eq!((error.code, error.detail.as_str()), (ErrorCode::Storage, "full"));
    assert_eq!((error.value, error.retry_after_ms, error.no_effect), (7, 9, false));
    let mut now = Vec::new();
    error.without_effect().to_body().encode(&mut now);
    assert_eq!(now, [&before[..], &[1]].concat());
    assert!(Error::from_body(ErrorBody::decode(&now).unwrap()).no_effect);
}

/// Shows that an error which calls itself a success is a breach of the protocol, and that none can
/// be made by mistake.
#[test]
fn an_error_is_never_ok() {
    let error = Error::from_body(ErrorBody { detail: "fine".into(), ..Default::default() });
    assert_eq!(error.code, ErrorCode::Protocol);
    assert_eq!(error.detail, "the server sent an error with code 0");
    let error = Error::new(ErrorCode::Ok, "fine");
    assert_eq!((error.code, error.number), (ErrorCode::Internal, ErrorCode::Internal.number()));
}

/// Shows that an answer that ends before a field that it has had from the start is none: an empty
/// one would claim numbers that nobody said.
#[test]
fn an_answer_is_whole() {
    let mut body = Vec::new();
    let answer = AppendResponse { first_offset: 1, count: 2, timestamp_ns: 3, position: 4 };
    answer.encode(&mut body);
    assert_eq!(AppendResponse::decode(&body), Ok(answer));
    for (length, field) in [(0, "first_offset"), (8, "count"), (12, "timestamp_ns")] {
        let e = AppendResponse::decode(&body[..length]).expect_err("it is cut");
        assert_eq!(e.to_string(), format!("the message's field {field} is missing"));
    }
    // A struct within a list, cut by its own length.
    let mut list = 1u64.to_le_bytes().to_vec();
    list.extend_from_slice(&8u64.to_le_bytes());
    list.extend_from_slice(&5u64.to_le_bytes());
    list.extend_from_slice(&[0; 9]);
    let e = ListStreamsResponse::decode(&list).expect_err("its stream has no name");
    assert!(e.to_string().contains("name"), "{e}");
}
