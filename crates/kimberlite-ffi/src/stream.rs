//! Streams: creating them and telling about them.

use std::ffi::{CString, c_char};

use kimberlite_client::{CallOptions, Client, StreamId};
use kimberlite_wire::{CompletionKind, DataClass, Error, ErrorCode, StreamInfo};

use crate::arguments::{Out, c_text, text};
use crate::boundary::{boundary, quietly};
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::queue::KmbQueue;
use crate::submit::{Outcome, Submission};

/// What is known about a stream.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KmbStreamInfo {
    /// Its id.
    pub stream_id: u64,
    /// The offset that the next event gets: the count of its events.
    pub next_offset: u64,
    /// When it was created, in nanoseconds since the Unix epoch.
    pub created_ns: u64,
    /// When its newest event was committed; 0 where it has none.
    pub last_timestamp_ns: u64,
    /// Bytes of event data that it holds.
    pub data_bytes: u64,
    /// Its name, UTF-8 with a NUL behind it; valid until the list is freed.
    pub name: *const c_char,
    /// Bytes of the name, without the NUL.
    pub name_len: usize,
    /// `KMB_DATA_CLASS_*`.
    pub data_class: u8,
    /// 0.
    pub reserved: [u8; 7],
    /// The last hash of its chain.
    pub head: [u8; 32],
}

/// Streams by id.
///
/// Ownership: freed once by kmb_stream_list_free; every pointer is valid until then. Threads: any
/// thread may read it.
#[repr(C)]
pub struct KmbStreamList {
    /// The streams.
    pub streams: *const KmbStreamInfo,
    /// How many there are.
    pub count: usize,
}

/// A list with what it points into; the public part comes first.
#[repr(C)]
struct OwnedList {
    public: KmbStreamList,
    _streams: Vec<KmbStreamInfo>,
    _names: Vec<CString>,
}

fn give(infos: Vec<StreamInfo>) -> *mut KmbStreamList {
    let mut names = Vec::with_capacity(infos.len());
    let mut streams = Vec::with_capacity(infos.len());
    for info in infos {
        // A name holds no control characters, so no NUL.
        let name = CString::new(info.name).unwrap_or_default();
        streams.push(KmbStreamInfo {
            stream_id: info.stream_id,
            next_offset: info.next_offset,
            created_ns: info.created_ns,
            last_timestamp_ns: info.last_timestamp_ns,
            data_bytes: info.data_bytes,
            name: name.as_ptr(),
            name_len: name.as_bytes().len(),
            data_class: info.data_class,
            reserved: [0; 7],
            head: info.head,
        });
        names.push(name);
    }
    let public = KmbStreamList { streams: streams.as_ptr(), count: streams.len() };
    Box::into_raw(Box::new(OwnedList { public, _streams: streams, _names: names })).cast()
}

/// Frees a list that [`give`] made; NULL is harmless.
///
/// # Safety
/// It must not be freed yet.
pub(crate) unsafe fn free(list: *mut KmbStreamList) {
    if !list.is_null() {
        // SAFETY: `give` made it from such a box, and the caller frees it once.
        drop(unsafe { Box::from_raw(list.cast::<OwnedList>()) });
    }
}

/// INVALID_DATA_CLASS names a number that is none.
pub(crate) fn data_class(number: u8) -> Result<DataClass, Error> {
    DataClass::from_number(number).ok_or_else(|| {
        let detail =
            format!("data_class is {number}; it must be PHI 0, NonPHI 1 or Deidentified 2");
        Error::new(ErrorCode::InvalidDataClass, detail)
    })
}

async fn create(
    client: &Client,
    name: &str,
    class: DataClass,
    options: CallOptions,
) -> Result<u64, Error> {
    Ok(client.create_stream(name, class, &options).await?.0)
}

/// Creates a stream, or gives the one with the same name and data class. STREAM_EXISTS where the
/// name belongs to another class.
///
/// name: 1 to 255 bytes of UTF-8 with a NUL behind them. data_class: `KMB_DATA_CLASS_*`.
/// stream_id_out: receives the stream's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_create_stream(
    client: *mut KmbClient,
    name: *const c_char,
    data_class: u8,
    stream_id_out: *mut u64,
) -> KmbError {
    boundary!({
        let client = client::get(client)?;
        let out = Out::new("stream_id_out", stream_id_out)?;
        let name = c_text("name", name)?;
        let class = self::data_class(data_class)?;
        out.put(wait(create(&client, name, class, CallOptions::default()))?);
        Ok(())
    })
}

/// Creates a stream, or gives the one with the same name and data class. STREAM_EXISTS where the
/// name belongs to another class.
///
/// name: UTF-8 of name_len bytes, 1 to 255. data_class: `KMB_DATA_CLASS_*`. stream_id_out: receives
/// the stream's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_create_stream(
    client: *mut KmbClient,
    name: *const c_char,
    name_len: usize,
    data_class: u8,
    call: *const KmbCallOptions,
    stream_id_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("stream_id_out", stream_id_out)?;
        let name = text("name", name, name_len)?;
        let class = self::data_class(data_class)?;
        out.put(wait(create(&client, name, class, call::options(call)?))?);
        Ok(())
    })
}

/// Submits kmb_create_stream. The completion's values: the stream's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_create_stream(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    name: *const c_char,
    name_len: usize,
    data_class: u8,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::CreateStream, tag)?;
        let name = text("name", name, name_len)?.to_string();
        let class = self::data_class(data_class)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            Ok(Outcome::value(create(&client, &name, class, options).await?))
        })
    })
}

/// Lists the tenant's streams by id, all of them.
///
/// list_out: receives the list; the caller frees it with kmb_stream_list_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_list_streams(
    client: *mut KmbClient,
    call: *const KmbCallOptions,
    list_out: *mut *mut KmbStreamList,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("list_out", list_out)?;
        let options = call::options(call)?;
        out.put(give(wait(client.list_streams(&options))?));
        Ok(())
    })
}

/// Submits kmb_list_streams. The completion's result: the KmbStreamList.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_list_streams(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::ListStreams, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            Ok(Outcome::result(give(client.list_streams(&options).await?)))
        })
    })
}

/// Tells about a stream by its id, as a list of one. STREAM_NOT_FOUND where there is none.
///
/// list_out: receives the list; the caller frees it with kmb_stream_list_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_stream_info(
    client: *mut KmbClient,
    stream_id: u64,
    call: *const KmbCallOptions,
    list_out: *mut *mut KmbStreamList,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("list_out", list_out)?;
        let options = call::options(call)?;
        out.put(give(vec![wait(client.stream_info(StreamId(stream_id), &options))?]));
        Ok(())
    })
}

/// Submits kmb_stream_info. The completion's result: the KmbStreamList of one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_stream_info(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    stream_id: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::StreamInfo, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            let info = client.stream_info(StreamId(stream_id), &options).await?;
            Ok(Outcome::result(give(vec![info])))
        })
    })
}

/// Tells about a stream by its name, compared under ASCII case folding, as a list of one.
/// STREAM_NOT_FOUND where there is none.
///
/// name: UTF-8 of name_len bytes. list_out: receives the list; the caller frees it with
/// kmb_stream_list_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_stream_by_name(
    client: *mut KmbClient,
    name: *const c_char,
    name_len: usize,
    call: *const KmbCallOptions,
    list_out: *mut *mut KmbStreamList,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("list_out", list_out)?;
        let name = text("name", name, name_len)?;
        let options = call::options(call)?;
        out.put(give(vec![wait(client.stream_by_name(name, &options))?]));
        Ok(())
    })
}

/// Submits kmb_stream_by_name. The completion's result: the KmbStreamList of one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_stream_by_name(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    name: *const c_char,
    name_len: usize,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::StreamInfo, tag)?;
        let name = text("name", name, name_len)?.to_string();
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            let info = client.stream_by_name(&name, &options).await?;
            Ok(Outcome::result(give(vec![info])))
        })
    })
}

/// Frees a list of streams once; NULL is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_stream_list_free(list: *mut KmbStreamList) {
    // SAFETY: the caller passes NULL or a list of its own.
    quietly(|| unsafe { free(list) });
}
