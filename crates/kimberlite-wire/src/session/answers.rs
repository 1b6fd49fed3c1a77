//! What an answer must say to be one: a body that contradicts its request or itself is PROTOCOL,
//! never a result.

use crate::constant::{ANY_OFFSET, NO_OFFSET};
use crate::error::Error;
use crate::generated::{
    AppendRequest, AppendResponse, DataClass, ListStreamsRequest, ListStreamsResponse, Operation,
    Request, Response, StreamInfo, StreamInfoRequest, VerifyResponse, limit,
};

/// Checks an answer's body against its request. `settles` says that an append repeats an earlier
/// one by its key, whose outcome does not depend on the offset expected now.
pub(super) fn check(request: &Request, answer: &Response, settles: bool) -> Result<(), Error> {
    match (request, answer) {
        (Request::CreateStream(_), Response::CreateStream(body)) => {
            not_zero("create_stream", "stream_id", body.stream_id)
        }
        (Request::OpenProducer(_), Response::OpenProducer(body)) => {
            not_zero("open_producer", "producer_id", body.producer_id)
        }
        (Request::Append(asked), Response::Append(body)) => appended(asked, body, settles),
        (Request::Read(asked), Response::Read(body)) => {
            reaches("read", asked.from_offset, body.next_offset)
        }
        (Request::Subscribe(asked), Response::Subscribe(body)) => {
            reaches("subscribe", asked.from_offset, body.next_offset)
        }
        (Request::Verify(_), Response::Verify(body)) => verified(body),
        (Request::ListStreams(asked), Response::ListStreams(body)) => listed(asked, body),
        (Request::StreamInfo(asked), Response::StreamInfo(body)) => told(asked, &body.stream),
        (Request::ListTenants(_), Response::ListTenants(body)) => {
            if body.tenant_ids.is_sorted_by(|one, next| one < next) {
                return Ok(());
            }
            Err(wrong("list_tenants", "tenant_ids do not ascend"))
        }
        _ => Ok(()),
    }
}

/// Whether an operation's answer may carry payload.
pub(super) const fn has_payload(operation: Operation) -> bool {
    matches!(operation, Operation::Read | Operation::Subscribe | Operation::Query)
}

fn wrong(operation: &str, what: impl std::fmt::Display) -> Error {
    Error::protocol(format!("the answer to {operation} makes no sense: {what}"))
}

fn not_zero(operation: &str, field: &str, number: u64) -> Result<(), Error> {
    if number == 0 { Err(wrong(operation, format!("{field} is 0"))) } else { Ok(()) }
}

fn appended(asked: &AppendRequest, body: &AppendResponse, settles: bool) -> Result<(), Error> {
    let (first, count) = (body.first_offset, body.count);
    if count != asked.count {
        let what = format!("count is {count}, but {} events were sent", asked.count);
        return Err(wrong("append", what));
    }
    // The largest number is no offset: it stands for any, and for none.
    if first.checked_add(u64::from(count)).is_none_or(|next| next == ANY_OFFSET) {
        return Err(wrong("append", format!("first_offset is {first} with {count} events")));
    }
    let expected = asked.expected_offset;
    if expected != ANY_OFFSET && first != expected && !settles {
        let what = format!("first_offset is {first}, but {expected} was expected");
        return Err(wrong("append", what));
    }
    Ok(())
}

fn reaches(operation: &str, from_offset: u64, next_offset: u64) -> Result<(), Error> {
    if next_offset >= from_offset && next_offset != NO_OFFSET {
        return Ok(());
    }
    let what = format!("next_offset is {next_offset} where from_offset is {from_offset}");
    Err(wrong(operation, what))
}

fn verified(body: &VerifyResponse) -> Result<(), Error> {
    let bad = body.first_bad_offset;
    let fits = if body.valid { bad == NO_OFFSET } else { bad != NO_OFFSET && body.count <= bad };
    if fits && body.count != NO_OFFSET {
        return Ok(());
    }
    let (valid, count) = (body.valid, body.count);
    Err(wrong("verify", format!("valid is {valid}, count {count} and first_bad_offset {bad}")))
}

fn listed(asked: &ListStreamsRequest, body: &ListStreamsResponse) -> Result<(), Error> {
    let mut last_id = asked.after_stream_id;
    for stream in &body.streams {
        possible("list_streams", stream)?;
        if stream.stream_id <= last_id {
            let what = format!("stream {} comes after {last_id}", stream.stream_id);
            return Err(wrong("list_streams", what));
        }
        last_id = stream.stream_id;
    }
    if body.more && body.streams.is_empty() {
        return Err(wrong("list_streams", "it promises more streams, but holds none"));
    }
    Ok(())
}

fn told(asked: &StreamInfoRequest, stream: &StreamInfo) -> Result<(), Error> {
    possible("stream_info", stream)?;
    if asked.stream_id != 0 && stream.stream_id != asked.stream_id {
        let what = format!("it is about stream {}, not {}", stream.stream_id, asked.stream_id);
        return Err(wrong("stream_info", what));
    }
    if asked.stream_id == 0 && !stream.name.eq_ignore_ascii_case(&asked.name) {
        let what = format!("it is about {:?}, not {:?}", stream.name, asked.name);
        return Err(wrong("stream_info", what));
    }
    Ok(())
}

/// Whether there can be such a stream.
fn possible(operation: &str, stream: &StreamInfo) -> Result<(), Error> {
    not_zero(operation, "stream_id", stream.stream_id)?;
    let id = stream.stream_id;
    if DataClass::from_number(stream.data_class).is_none() {
        let what = format!("the data class of stream {id} is {}", stream.data_class);
        return Err(wrong(operation, what));
    }
    let name_bytes = stream.name.len() as u64;
    if !(1..=limit::STREAM_NAME_BYTES).contains(&name_bytes) {
        return Err(wrong(operation, format!("the name of stream {id} has {name_bytes} bytes")));
    }
    if stream.next_offset == NO_OFFSET {
        return Err(wrong(operation, format!("next_offset of stream {id} is 2^64 - 1")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::*;

    fn stream(stream_id: u64) -> StreamInfo {
        StreamInfo { stream_id, name: "visits".into(), ..Default::default() }
    }

    fn why(request: &Request, answer: &Response) -> String {
        let error = check(request, answer, false).expect_err("it makes no sense");
        assert_eq!(error.code, ErrorCode::Protocol);
        error.detail
    }

    /// An append is acknowledged for as many events as were sent, at an offset that exists and was
    /// expected; a repeat by key may tell of an earlier place.
    #[test]
    fn appends() {
        let asked = |expected_offset| {
            Request::Append(AppendRequest { count: 2, expected_offset, ..Default::default() })
        };
        let body = |first_offset, count| {
            Response::Append(AppendResponse { first_offset, count, ..Default::default() })
        };
        assert_eq!(check(&asked(ANY_OFFSET), &body(7, 2), false), Ok(()));
        assert_eq!(check(&asked(7), &body(7, 2), false), Ok(()));
        assert!(why(&asked(ANY_OFFSET), &body(0, 99)).contains("count is 99, but 2"));
        assert!(why(&asked(ANY_OFFSET), &body(u64::MAX - 1, 2)).contains("first_offset is"));
        assert!(why(&asked(ANY_OFFSET), &body(u64::MAX - 2, 2)).contains("first_offset is"));
        assert!(why(&asked(7), &body(8, 2)).contains("8, but 7 was expected"));
        assert_eq!(check(&asked(7), &body(3, 2), true), Ok(()));
    }

    /// A read or a subscription never ends before where it was to begin.
    #[test]
    fn reads() {
        let read = Request::Read(ReadRequest { from_offset: 5, ..Default::default() });
        let end = |next_offset| Response::Read(ReadResponse { next_offset, position: 1 });
        assert_eq!(check(&read, &end(5), false), Ok(()));
        assert!(why(&read, &end(4)).contains("next_offset is 4 where from_offset is 5"));
        let subscribe =
            Request::Subscribe(SubscribeRequest { from_offset: 5, ..Default::default() });
        let end = Response::Subscribe(SubscribeResponse { next_offset: 4, position: 1 });
        assert!(why(&subscribe, &end).contains("subscribe"));
    }

    /// A verification is either good or says where it is not.
    #[test]
    fn verifications() {
        let asked = Request::Verify(VerifyRequest { stream_id: 1 });
        let found = |valid, count, first_bad_offset| {
            let body = VerifyResponse { valid, count, first_bad_offset, ..Default::default() };
            Response::Verify(body)
        };
        assert_eq!(check(&asked, &found(true, 5, NO_OFFSET), false), Ok(()));
        assert_eq!(check(&asked, &found(false, 5, 5), false), Ok(()));
        for body in [found(true, 5, 5), found(false, 5, NO_OFFSET), found(false, 5, 4)] {
            assert!(why(&asked, &body).contains("first_bad_offset"));
        }
    }

    /// What is told of streams is possible, and about the ones asked for; a list gets on.
    #[test]
    fn streams() {
        let by_id = Request::StreamInfo(StreamInfoRequest { stream_id: 3, name: String::new() });
        let by_name =
            Request::StreamInfo(StreamInfoRequest { stream_id: 0, name: "Visits".into() });
        let info = |stream| Response::StreamInfo(StreamInfoResponse { stream, position: 1 });
        assert_eq!(check(&by_id, &info(stream(3)), false), Ok(()));
        assert_eq!(check(&by_name, &info(stream(3)), false), Ok(()));
        assert!(why(&by_id, &info(stream(4))).contains("stream 4, not 3"));
        let other = StreamInfo { name: "other".into(), ..stream(3) };
        assert!(why(&by_name, &info(other)).contains("not \"Visits\""));
        let class = StreamInfo { data_class: 9, ..stream(3) };
        assert!(why(&by_id, &info(class)).contains("data class of stream 3 is 9"));
        let nameless = StreamInfo { name: String::new(), ..stream(3) };
        assert!(why(&by_id, &info(nameless)).contains("0 bytes"));
        let full = StreamInfo { next_offset: u64::MAX, ..stream(3) };
        assert!(why(&by_id, &info(full)).contains("next_offset"));

        let list = Request::ListStreams(ListStreamsRequest { after_stream_id: 3, max_streams: 0 });
        let body = |streams: Vec<StreamInfo>, more| {
            Response::ListStreams(ListStreamsResponse { streams, more, position: 1 })
        };
        assert_eq!(check(&list, &body(vec![stream(4), stream(6)], true), false), Ok(()));
        assert!(why(&list, &body(vec![stream(3)], true)).contains("stream 3 comes after 3"));
        assert!(why(&list, &body(vec![stream(5), stream(5)], false)).contains("comes after 5"));
        assert!(why(&list, &body(vec![], true)).contains("promises more"));
    }

    /// Numbers that name something are not 0, and lists of tenants ascend.
    #[test]
    fn names() {
        let create = Request::CreateStream(CreateStreamRequest::default());
        let created = Response::CreateStream(CreateStreamResponse::default());
        assert!(why(&create, &created).contains("stream_id is 0"));
        let open = Request::OpenProducer(OpenProducerRequest {});
        let opened = Response::OpenProducer(OpenProducerResponse::default());
        assert!(why(&open, &opened).contains("producer_id is 0"));
        let list = Request::ListTenants(ListTenantsRequest {});
        let body = ListTenantsResponse { tenant_ids: vec![1, 1], position: 1 };
        assert!(why(&list, &Response::ListTenants(body)).contains("ascend"));
    }
}
