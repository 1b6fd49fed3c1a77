//! What `_audit` holds: one JSON object an event.
//!
//! Every record has `event`, what happened, and `principal`, who did it. The event's own timestamp
//! tells when.
//!
//! - `tenant_created`, `tenant_deleted`: `tenant_id`, and `by_tenant_id`, the tenant that the
//!   principal worked for.
//! - `access_started`: `operation` (`read`, `subscribe` or `verify`), `stream_id`, `stream`,
//!   `data_class`, `from_offset`; where the end is known beforehand, also `end_offset`, the offset
//!   after the last event that the answer is for, and otherwise everything from there on may be
//!   read. It is durable before the first of these events leaves. For the length of a window it
//!   covers whatever the principal reads of the same offsets; what goes beyond those on record has
//!   an `access_started` of its own.
//! - `query_started`: `sql` without the values of its parameters, `sql_sha256`, `params_sha256` (of
//!   the parameters as the protocol encodes them, one after the other), `position` (the cut that the
//!   first run saw), and `streams`: `stream` and `data_class` of each that it reads. It covers the
//!   same text with the same parameters for the length of a window.
//! - `access_ended`: `stream_id`, `stream`, `calls`, `events`, `first_offset`, `end_offset`,
//!   `window_ms`: what the window that began with an `access_started` came to in all. It may be
//!   missing after a crash; which events may have been read is told by the start records alone.
//! - `query_ended`: `sql_sha256`, `params_sha256`, `calls`, `window_ms`: how often the statement ran
//!   under one `query_started`.

use kimberlite_wire::block::Hash;
use kimberlite_wire::{DataClass, Error, ErrorCode, EventBatch};
use serde_json::{Value, json};

fn record(fields: &Value) -> Result<EventBatch, Error> {
    EventBatch::from_events([fields.to_string()]).map_err(|error| {
        let detail = format!("an audit record could not be made: {}", error.detail);
        Error::new(ErrorCode::Internal, detail)
    })
}

/// An administrative act.
pub(crate) fn act(
    event: &str,
    principal: &str,
    by_tenant_id: u64,
    tenant_id: u64,
) -> Result<EventBatch, Error> {
    record(&json!({
        "event": event,
        "principal": principal,
        "tenant_id": tenant_id,
        "by_tenant_id": by_tenant_id,
    }))
}

/// What is about to be read of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    pub(crate) operation: &'a str,
    pub(crate) stream_id: u64,
    pub(crate) stream: &'a str,
    pub(crate) data_class: DataClass,
    pub(crate) from_offset: u64,
    pub(crate) end_offset: Option<u64>,
}

/// An access to a stream that goes beyond what is on record within a window.
pub(crate) fn access_started(principal: &str, access: &Access<'_>) -> Result<EventBatch, Error> {
    let mut fields = json!({
        "event": "access_started",
        "principal": principal,
        "operation": access.operation,
        "stream_id": access.stream_id,
        "stream": access.stream,
        "data_class": access.data_class.name(),
        "from_offset": access.from_offset,
    });
    if let Some(end_offset) = access.end_offset {
        fields["end_offset"] = json!(end_offset);
    }
    record(&fields)
}

/// Which statement, with which parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) sql_sha256: &'a Hash,
    pub(crate) params_sha256: &'a Hash,
}

/// The first run of a statement within a window.
pub(crate) fn query_started<'a>(
    principal: &str,
    sql: &str,
    statement: Statement<'_>,
    streams: impl Iterator<Item = (&'a str, DataClass)>,
    position: u64,
) -> Result<EventBatch, Error> {
    let stream =
        |(name, class): (&str, DataClass)| json!({"stream": name, "data_class": class.name()});
    record(&json!({
        "event": "query_started",
        "principal": principal,
        "sql": sql,
        "sql_sha256": hex(statement.sql_sha256),
        "params_sha256": hex(statement.params_sha256),
        "streams": streams.map(stream).collect::<Vec<Value>>(),
        "position": position,
    }))
}

/// What one start record came to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) events: u64,
    pub(crate) first_offset: u64,
    pub(crate) end_offset: u64,
}

/// The end of a window over a stream.
pub(crate) fn access_ended(
    principal: &str,
    stream_id: u64,
    stream: &str,
    totals: &Totals,
    window_ms: u64,
) -> Result<EventBatch, Error> {
    record(&json!({
        "event": "access_ended",
        "principal": principal,
        "stream_id": stream_id,
        "stream": stream,
        "calls": totals.calls,
        "events": totals.events,
        "first_offset": totals.first_offset,
        "end_offset": totals.end_offset,
        "window_ms": window_ms,
    }))
}

/// The end of a window over a statement.
pub(crate) fn query_ended(
    principal: &str,
    statement: Statement<'_>,
    calls: u64,
    window_ms: u64,
) -> Result<EventBatch, Error> {
    record(&json!({
        "event": "query_ended",
        "principal": principal,
        "sql_sha256": hex(statement.sql_sha256),
        "params_sha256": hex(statement.params_sha256),
        "calls": calls,
        "window_ms": window_ms,
    }))
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
