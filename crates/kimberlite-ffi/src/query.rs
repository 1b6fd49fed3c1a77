//! SQL: parameters and whole results.

use std::ffi::c_char;

use kimberlite_client::{At, CallOptions};
use kimberlite_wire::{CompletionKind, Error, Value, limit};

use crate::arguments::{Out, bounded, c_text, slice, text};
use crate::boundary::boundary;
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, ClientState, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::generated::{
    KMB_AT_NOW, KMB_AT_POSITION, KMB_AT_TIMESTAMP, KMB_PARAM_BOOL, KMB_PARAM_BYTES,
    KMB_PARAM_FLOAT64, KMB_PARAM_INT64, KMB_PARAM_NULL, KMB_PARAM_STRING, KMB_PARAM_TEXT,
};
use crate::query_result::{self, KmbQueryResult};
use crate::queue::KmbQueue;
use crate::submit::{Outcome, Submission};

/// The type of a parameter or of a cell: `KMB_PARAM_*`.
pub type KmbParamType = u32;

/// Bytes of a parameter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KmbBytes {
    /// The bytes; may be NULL where len is 0.
    pub data: *const u8,
    /// How many there are.
    pub len: usize,
}

/// The value of a parameter; the type tells which member counts.
#[repr(C)]
#[derive(Clone, Copy)]
pub union KmbParamValue {
    /// KMB_PARAM_INT64.
    pub i64: i64,
    /// KMB_PARAM_STRING: UTF-8 with a NUL behind it.
    pub str: *const c_char,
    /// KMB_PARAM_BYTES and KMB_PARAM_TEXT.
    pub bytes: KmbBytes,
    /// KMB_PARAM_BOOL: 0 is false, anything else true.
    pub boolean: bool,
    /// KMB_PARAM_FLOAT64.
    pub f64: f64,
}

/// A parameter of a statement, for `?` in order or `?1` by number. It is copied by the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KmbQueryParam {
    /// The type of the value.
    pub r#type: KmbParamType,
    /// The value; ignored for KMB_PARAM_NULL.
    pub value: KmbParamValue,
}

/// # Safety
/// The parameter's member of its type must be set, and its pointer be as [`KmbParamValue`] says.
unsafe fn value(index: usize, param: &KmbQueryParam) -> Result<Value, Error> {
    let name = || format!("params[{index}]");
    // SAFETY: the caller's promise, for every member.
    unsafe {
        Ok(match param.r#type {
            KMB_PARAM_INT64 => Value::Int64(param.value.i64),
            KMB_PARAM_STRING => Value::String(c_text(&name(), param.value.str)?.to_string()),
            KMB_PARAM_BYTES => {
                let bytes = param.value.bytes;
                let what = format!("the length of {} in bytes", name());
                bounded(&what, bytes.len, limit::REQUEST_FRAME_BYTES)?;
                Value::Bytes(slice(&name(), bytes.data, bytes.len)?.to_vec())
            }
            KMB_PARAM_TEXT => {
                let bytes = param.value.bytes;
                Value::String(text(&name(), bytes.data.cast(), bytes.len)?.to_string())
            }
            // Any byte is a bool in C; read as one in Rust it would have to be 0 or 1.
            KMB_PARAM_BOOL => {
                Value::Bool((&raw const param.value.boolean).cast::<u8>().read() != 0)
            }
            KMB_PARAM_NULL => Value::Null,
            KMB_PARAM_FLOAT64 => Value::Float64(param.value.f64),
            other => {
                let detail = format!("{}.type is {other}, which is no KmbParamType", name());
                return Err(Error::invalid(detail));
            }
        })
    }
}

/// # Safety
/// As [`value`], for each of `count` parameters.
pub(crate) unsafe fn values(
    params: *const KmbQueryParam,
    count: usize,
) -> Result<Vec<Value>, Error> {
    bounded("param_count", count, limit::QUERY_PARAMS)?;
    // SAFETY: the caller's promise.
    let params = unsafe { slice("params", params, count)? };
    params
        .iter()
        .enumerate()
        // SAFETY: the caller's promise.
        .map(|(index, param)| unsafe { value(index, param) })
        .collect()
}

/// INVALID_ARGUMENT names a kind of cut that is none.
fn cut(at_kind: u8, at: u64) -> Result<At, Error> {
    match at_kind {
        KMB_AT_NOW => Ok(At::Now),
        KMB_AT_POSITION => Ok(At::Position(at)),
        KMB_AT_TIMESTAMP => Ok(At::TimestampNs(at)),
        other => Err(Error::invalid(format!("at_kind is {other}, which is no KMB_AT_*"))),
    }
}

/// A statement's arguments, copied out of the caller's memory.
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) params: Vec<Value>,
    pub(crate) at: At,
    pub(crate) options: CallOptions,
}

impl Statement {
    /// # Safety
    /// As kmb_query says.
    pub(crate) unsafe fn new(
        sql: (*const c_char, usize),
        params: (*const KmbQueryParam, usize),
        at: (u8, u64),
        call: *const KmbCallOptions,
    ) -> Result<Statement, Error> {
        bounded("the length of sql in bytes", sql.1, limit::SQL_BYTES)?;
        // SAFETY: the caller's promise.
        unsafe {
            Ok(Statement {
                sql: text("sql", sql.0, sql.1)?.to_string(),
                params: values(params.0, params.1)?,
                at: cut(at.0, at.1)?,
                options: call::options(call)?,
            })
        }
    }

    /// Runs it and gives the caller's raw result.
    async fn run(self, client: &ClientState) -> Result<RawResult, Error> {
        let Statement { sql, params, at, options } = self;
        let result = client.query(&sql, &params, at, &options).await?;
        Ok(RawResult(query_result::give(&result)?))
    }
}

/// A result on its way to the caller, who will own it.
struct RawResult(*mut KmbQueryResult);

// SAFETY: whoever has the pointer owns the result, and it may go to any thread.
unsafe impl Send for RawResult {}

/// # Safety
/// As kmb_client_query says.
unsafe fn query_at(
    client: *mut KmbClient,
    sql: *const c_char,
    params: *const KmbQueryParam,
    param_count: usize,
    at: At,
    result_out: *mut *mut KmbQueryResult,
) -> Result<(), Error> {
    let client = client::get(client)?;
    let out = Out::new("result_out", result_out)?;
    // SAFETY: the caller's promise.
    unsafe {
        let statement = Statement {
            sql: c_text("sql", sql)?.to_string(),
            params: values(params, param_count)?,
            at,
            options: CallOptions::default(),
        };
        out.put(wait(statement.run(&client))?.0);
    }
    Ok(())
}

/// Runs one SELECT statement over the newest state. Streams are tables with the columns id,
/// timestamp and data.
///
/// sql: UTF-8 with a NUL behind it. params: param_count parameters; NULL where there are none.
/// result_out: receives the result; the caller frees it with kmb_query_result_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_query(
    client: *mut KmbClient,
    sql: *const c_char,
    params: *const KmbQueryParam,
    param_count: usize,
    result_out: *mut *mut KmbQueryResult,
) -> KmbError {
    boundary!({ query_at(client, sql, params, param_count, At::Now, result_out) })
}

/// Runs one SELECT statement as of a position. The other arguments are those of kmb_client_query.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_query_at(
    client: *mut KmbClient,
    sql: *const c_char,
    params: *const KmbQueryParam,
    param_count: usize,
    position: u64,
    result_out: *mut *mut KmbQueryResult,
) -> KmbError {
    boundary!({ query_at(client, sql, params, param_count, At::Position(position), result_out) })
}

/// Runs one SELECT statement as of a time, in nanoseconds since the Unix epoch. The other arguments
/// are those of kmb_client_query.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_query_at_timestamp(
    client: *mut KmbClient,
    sql: *const c_char,
    params: *const KmbQueryParam,
    param_count: usize,
    timestamp_ns: u64,
    result_out: *mut *mut KmbQueryResult,
) -> KmbError {
    boundary!({
        query_at(client, sql, params, param_count, At::TimestampNs(timestamp_ns), result_out)
    })
}

/// Runs one SELECT statement and holds its whole result; LIMIT_EXCEEDED where that is more than the
/// option max_response_bytes: kmb_query_cursor is then the way.
///
/// sql: UTF-8 of sql_len bytes. params: param_count parameters; NULL where there are none. at_kind,
/// at: which state it sees: KMB_AT_NOW, KMB_AT_POSITION with a position, KMB_AT_TIMESTAMP with
/// nanoseconds since the Unix epoch. result_out: receives the result; the caller frees it with
/// kmb_query_result_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query(
    client: *mut KmbClient,
    sql: *const c_char,
    sql_len: usize,
    params: *const KmbQueryParam,
    param_count: usize,
    at_kind: u8,
    at: u64,
    call: *const KmbCallOptions,
    result_out: *mut *mut KmbQueryResult,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("result_out", result_out)?;
        let statement = Statement::new((sql, sql_len), (params, param_count), (at_kind, at), call)?;
        out.put(wait(statement.run(&client))?.0);
        Ok(())
    })
}

/// Submits kmb_query. The completion's result: the KmbQueryResult.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_query(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    sql: *const c_char,
    sql_len: usize,
    params: *const KmbQueryParam,
    param_count: usize,
    at_kind: u8,
    at: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::Query, tag)?;
        let statement = Statement::new((sql, sql_len), (params, param_count), (at_kind, at), call)?;
        submission.start(operation_out, async move |client| {
            let result = statement.run(&client).await?;
            Ok(Outcome::result(result.0))
        })
    })
}
