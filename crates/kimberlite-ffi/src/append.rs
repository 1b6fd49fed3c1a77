//! Appending: packed, by pointers, and with a key that settles an unknown outcome.

use std::ffi::c_void;
use std::sync::Arc;

use kimberlite_client::{Appended, CallOptions, ExpectedOffset, Stop, StreamId};
use kimberlite_wire::{AppendKey, CompletionKind, Error, EventBatch, limit};

use crate::arguments::{Out, bounded, null, slice};
use crate::boundary::boundary;
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, ClientState, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::queue::KmbQueue;
use crate::submit::{Outcome, Submission};

/// What an append gave.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KmbAppended {
    /// The offset of the first event; the others follow without gaps.
    pub first_offset: u64,
    /// The position of the append.
    pub position: u64,
    /// The commit time, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// How many events were appended.
    pub count: u32,
    /// 0.
    pub reserved: u32,
}

impl From<Appended> for KmbAppended {
    fn from(from: Appended) -> KmbAppended {
        KmbAppended {
            first_offset: from.first_offset,
            position: from.position,
            timestamp_ns: from.timestamp_ns,
            count: from.count,
            reserved: 0,
        }
    }
}

/// An append's arguments, copied out of the caller's memory.
struct Append {
    key: Option<AppendKey>,
    stream: StreamId,
    expected: ExpectedOffset,
    events: EventBatch,
    options: CallOptions,
}

impl Append {
    async fn run(self, client: &ClientState, stop: &Stop) -> Result<Appended, Error> {
        let Append { key, stream, expected, events, options } = self;
        client.append_until(stop, key, stream, expected, events, &options).await
    }

    /// Submits it; cancelled, it ends with CANCELLED and, where it was sent, with its key.
    ///
    /// # Safety
    /// `operation_out` must be NULL or valid for writing.
    unsafe fn submit(self, submission: Submission, operation_out: *mut u64) -> Result<(), Error> {
        let stop = Arc::new(Stop::default());
        let kept = Arc::clone(&stop);
        // SAFETY: the caller's promise.
        unsafe {
            submission.stopped_by(stop).start(operation_out, async move |client| {
                Ok(outcome(self.run(&client, &kept).await?))
            })
        }
    }
}

/// The events of a packed batch.
///
/// # Safety
/// As the exports that take them say.
unsafe fn packed(
    data: *const u8,
    data_len: usize,
    lens: *const u32,
    count: usize,
) -> Result<EventBatch, Error> {
    bounded("count", count, limit::BATCH_EVENTS)?;
    // SAFETY: the caller's promise.
    let (data, lens) = unsafe { (slice("data", data, data_len)?, slice("lens", lens, count)?) };
    EventBatch::from_packed(data, lens)
}

/// The events of a batch given by pointers.
///
/// # Safety
/// As kmb_client_append says.
unsafe fn pointed(
    events: *const *const u8,
    event_lengths: *const usize,
    event_count: usize,
) -> Result<EventBatch, Error> {
    bounded("event_count", event_count, limit::BATCH_EVENTS)?;
    // SAFETY: the caller's promise.
    let (events, lengths) = unsafe {
        (slice("events", events, event_count)?, slice("event_lengths", event_lengths, event_count)?)
    };
    let mut list = Vec::with_capacity(events.len());
    for (index, (&event, &length)) in events.iter().zip(lengths).enumerate() {
        if event.is_null() && length > 0 {
            return Err(null(&format!("events[{index}]")));
        }
        // SAFETY: the caller's promise.
        list.push(unsafe { slice("an event", event, length)? });
    }
    EventBatch::from_events(list)
}

/// Appends events that are given by pointers, all or none, and returns when they are durable.
///
/// expected_offset: the offset that the first event must get, else OFFSET_MISMATCH; KMB_ANY_OFFSET
/// for any. events, event_lengths: event_count pointers and lengths; an event of length 0 may be
/// NULL. All of it is copied before the call returns. first_offset_out: receives the first offset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_append(
    client: *mut KmbClient,
    stream_id: u64,
    expected_offset: u64,
    events: *const *const u8,
    event_lengths: *const usize,
    event_count: usize,
    first_offset_out: *mut u64,
) -> KmbError {
    boundary!({
        let client = client::get(client)?;
        let out = Out::new("first_offset_out", first_offset_out)?;
        let events = pointed(events, event_lengths, event_count)?;
        let expected = ExpectedOffset::from_number(expected_offset);
        let options = CallOptions::default();
        let append = client.append(StreamId(stream_id), expected, events, &options);
        out.put(wait(append)?.first_offset);
        Ok(())
    })
}

/// Appends packed events, all or none, and returns when they are durable.
///
/// expected_offset: the offset that the first event must get, else OFFSET_MISMATCH with the actual
/// next offset as the detail's value; KMB_ANY_OFFSET for any. data: the events' data, one after the
/// other, data_len bytes. lens: the length of each of the count events; their sum is data_len.
/// appended_out: receives what came of it. TIMEOUT, CANCELLED and CLOSED may leave the outcome
/// unknown: see KMB_DETAIL_OUTCOME_UNKNOWN.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_append(
    client: *mut KmbClient,
    stream_id: u64,
    expected_offset: u64,
    data: *const u8,
    data_len: usize,
    lens: *const u32,
    count: usize,
    call: *const KmbCallOptions,
    appended_out: *mut KmbAppended,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("appended_out", appended_out)?;
        let events = packed(data, data_len, lens, count)?;
        let expected = ExpectedOffset::from_number(expected_offset);
        let options = call::options(call)?;
        out.put(wait(client.append(StreamId(stream_id), expected, events, &options))?.into());
        Ok(())
    })
}

/// Opens a producer whose sequence numbers, from 1, the caller gives by kmb_append_with_key. Only
/// for callers that must be able to settle an append after a crash of their own; plain appends are
/// numbered by the library.
///
/// producer_id_out: receives the producer's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_open_producer(
    client: *mut KmbClient,
    call: *const KmbCallOptions,
    producer_id_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("producer_id_out", producer_id_out)?;
        let options = call::options(call)?;
        out.put(wait(client.open_producer(&options))?);
        Ok(())
    })
}

/// Settles an append whose outcome is unknown: the same events again with the key of its detail
/// append them unless that had happened, and tell what became of them. INVALID_ARGUMENT where the
/// key belongs to other events. The other arguments are those of kmb_append.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_append_with_key(
    client: *mut KmbClient,
    key_producer_id: u64,
    key_sequence: u64,
    stream_id: u64,
    expected_offset: u64,
    data: *const u8,
    data_len: usize,
    lens: *const u32,
    count: usize,
    call: *const KmbCallOptions,
    appended_out: *mut KmbAppended,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("appended_out", appended_out)?;
        let append = Append {
            key: Some(AppendKey { producer_id: key_producer_id, sequence: key_sequence }),
            stream: StreamId(stream_id),
            expected: ExpectedOffset::from_number(expected_offset),
            events: packed(data, data_len, lens, count)?,
            options: call::options(call)?,
        };
        out.put(wait(append.run(&client, &Stop::default()))?.into());
        Ok(())
    })
}

fn outcome(appended: Appended) -> Outcome {
    let values = [appended.first_offset, appended.position, appended.timestamp_ns];
    Outcome { result: std::ptr::null_mut::<c_void>(), values }
}

/// Submits kmb_append. The data is copied before it returns, and the appends of one thread to one
/// stream happen in the order of their submission. The completion's values: first offset, position,
/// commit time in nanoseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_append(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    stream_id: u64,
    expected_offset: u64,
    data: *const u8,
    data_len: usize,
    lens: *const u32,
    count: usize,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::Append, tag)?;
        let append = Append {
            key: None,
            stream: StreamId(stream_id),
            expected: ExpectedOffset::from_number(expected_offset),
            events: packed(data, data_len, lens, count)?,
            options: call::options(call)?,
        };
        append.submit(submission, operation_out)
    })
}

/// Submits kmb_open_producer. The completion's values: the producer's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_open_producer(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::OpenProducer, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            Ok(Outcome::value(client.open_producer(&options).await?))
        })
    })
}

/// Submits kmb_append_with_key. The completion's values are those of kmb_submit_append.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_append_with_key(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    key_producer_id: u64,
    key_sequence: u64,
    stream_id: u64,
    expected_offset: u64,
    data: *const u8,
    data_len: usize,
    lens: *const u32,
    count: usize,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::Append, tag)?;
        let append = Append {
            key: Some(AppendKey { producer_id: key_producer_id, sequence: key_sequence }),
            stream: StreamId(stream_id),
            expected: ExpectedOffset::from_number(expected_offset),
            events: packed(data, data_len, lens, count)?,
            options: call::options(call)?,
        };
        append.submit(submission, operation_out)
    })
}
