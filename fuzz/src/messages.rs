//! Messages: every body of every operation, decoded, encoded and decoded again.

use kimberlite_wire::codec::DecodeError;
use kimberlite_wire::{
    Column, CreditBody, ErrorBody, GoawayBody, Operation, Request, Response, StreamInfo, Value,
};

use crate::PLANTED;

/// Reads a body and writes it again.
type Again = fn(Operation, &[u8]) -> Result<Vec<u8>, DecodeError>;

/// Every kind of body: those that belong to an operation, then those that stand alone.
const KINDS: [Again; 7] = [request, response, error, credit, goaway, column, stream_info];

/// The input: which body, of which operation, then its bytes.
pub fn run(input: &[u8]) {
    let [choice, operation, body @ ..] = input else { return };
    let again = KINDS[usize::from(*choice) % KINDS.len()];
    let operation = Operation::ALL[usize::from(*operation) % Operation::ALL.len()];
    let Ok(written) = again(operation, body) else { return };
    let twice = again(operation, &written).expect("what was written can be read");
    assert_eq!(twice, written, "a message changes when it is read and written again");
    let mut longer = written.clone();
    longer.extend_from_slice(b"of a newer peer");
    let longer = again(operation, &longer).expect("bytes behind the fields are passed over");
    assert_eq!(longer, written, "bytes behind the fields change a message");
    if !has_lists(*choice, operation) {
        // An older peer's message is a prefix of ours, a newer one's goes on behind it.
        let is_prefix = written.starts_with(body) || body.starts_with(&written);
        assert!(is_prefix, "a field was read as something else than was there");
    }
}

/// Whether structs stand in lists inside the message: they may grow, each in its own place.
fn has_lists(choice: u8, operation: Operation) -> bool {
    let of_structs = [Operation::Query, Operation::ListStreams, Operation::StreamInfo];
    usize::from(choice) % KINDS.len() == 1 && of_structs.contains(&operation)
}

fn request(operation: Operation, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut request = Request::decode(operation, body)?;
    assert_eq!(request.operation(), operation);
    if PLANTED
        && let Request::Query(query) = &mut request
        && query.at_kind == 1
        && let [_, _, Value::Float64(number), _, ..] = &mut query.params[..]
    {
        // The planted bug: the third parameter of a query of the past loses its sign.
        *number = number.abs();
    }
    Ok(written(|out| request.encode(out)))
}

fn response(operation: Operation, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let response = Response::decode(operation, body)?;
    assert_eq!(response.operation(), operation);
    Ok(written(|out| response.encode(out)))
}

fn error(_: Operation, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let body = ErrorBody::decode(body)?;
    let error = kimberlite_wire::Error::from_body(body.clone());
    // An error that calls itself a success becomes one of the protocol.
    assert!(body.code == 0 || error.to_body() == body, "an error loses something on its way");
    assert!(!error.to_string().is_empty());
    Ok(written(|out| body.encode(out)))
}

fn credit(_: Operation, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    CreditBody::decode(body).map(|body| written(|out| body.encode(out)))
}

fn goaway(_: Operation, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    GoawayBody::decode(body).map(|body| written(|out| body.encode(out)))
}

fn column(_: Operation, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    Column::decode(body).map(|body| written(|out| body.encode(out)))
}

fn stream_info(_: Operation, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    StreamInfo::decode(body).map(|body| written(|out| body.encode(out)))
}

fn written(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}
