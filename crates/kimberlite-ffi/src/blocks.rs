//! Raw blocks, and proving them without a server.

use std::ffi::c_char;

use kimberlite_client::{Blocks, StreamId, VerifiedHead, verify_blocks};
use kimberlite_wire::block::genesis;
use kimberlite_wire::{CompletionKind, Error};

use crate::arguments::{Out, null, slice, text};
use crate::boundary::{boundary, quietly};
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::generated::KMB_HASH_BYTES;
use crate::queue::KmbQueue;
use crate::submit::{Outcome, Submission};

/// Raw blocks of one stream, whole and in order, byte for byte as the database stores them.
///
/// Ownership: freed once by kmb_blocks_free; data is valid until then. Threads: any thread may read
/// it.
#[repr(C)]
pub struct KmbBlocks {
    /// The blocks, one after the other.
    pub data: *const u8,
    /// Bytes of the blocks.
    pub data_len: usize,
    /// The stream's next offset when they were read.
    pub end_offset: u64,
    /// The position that they reflect.
    pub position: u64,
}

/// Blocks with the bytes that they point into; the public part comes first.
#[repr(C)]
struct OwnedBlocks {
    public: KmbBlocks,
    _blocks: Blocks,
}

fn give(blocks: Blocks) -> *mut KmbBlocks {
    let public = KmbBlocks {
        data: blocks.bytes().as_ptr(),
        data_len: blocks.bytes().len(),
        end_offset: blocks.end_offset(),
        position: blocks.position(),
    };
    Box::into_raw(Box::new(OwnedBlocks { public, _blocks: blocks })).cast()
}

/// Frees blocks that [`give`] made; NULL is harmless.
///
/// # Safety
/// They must not be freed yet.
pub(crate) unsafe fn free(blocks: *mut KmbBlocks) {
    if !blocks.is_null() {
        // SAFETY: `give` made them from such a box, and the caller frees them once.
        drop(unsafe { Box::from_raw(blocks.cast::<OwnedBlocks>()) });
    }
}

/// Reads the stored blocks that hold the events wanted, with their checksums checked: the first may
/// begin before from_offset, and the last may go beyond the bounds. kmb_verify_blocks proves them.
///
/// The arguments are those of kmb_read_page. blocks_out: receives the blocks; the caller frees them
/// with kmb_blocks_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_read_blocks(
    client: *mut KmbClient,
    stream_id: u64,
    from_offset: u64,
    max_events: u64,
    max_bytes: u64,
    call: *const KmbCallOptions,
    blocks_out: *mut *mut KmbBlocks,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("blocks_out", blocks_out)?;
        let options = call::options(call)?;
        let stream = StreamId(stream_id);
        let read = client.read_blocks(stream, from_offset, max_events, max_bytes, &options);
        out.put(give(wait(read)?));
        Ok(())
    })
}

/// Submits kmb_read_blocks. The completion's result: the KmbBlocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_read_blocks(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    stream_id: u64,
    from_offset: u64,
    max_events: u64,
    max_bytes: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::ReadBlocks, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            let stream = StreamId(stream_id);
            let read = client.read_blocks(stream, from_offset, max_events, max_bytes, &options);
            Ok(Outcome::result(give(read.await?)))
        })
    })
}

/// Frees raw blocks once; NULL is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_blocks_free(blocks: *mut KmbBlocks) {
    // SAFETY: the caller passes NULL or blocks of its own.
    quietly(|| unsafe { free(blocks) });
}

/// Computes where a stream's hash chain begins: the head of the empty stream.
///
/// name: the stream's name, UTF-8 of name_len bytes. hash_out: receives KMB_HASH_BYTES bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_genesis_hash(
    tenant_id: u64,
    stream_id: u64,
    name: *const c_char,
    name_len: usize,
    data_class: u8,
    hash_out: *mut u8,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let out = Out::new("hash_out", hash_out.cast::<[u8; KMB_HASH_BYTES]>())?;
        let name = text("name", name, name_len)?;
        let class = crate::stream::data_class(data_class)?;
        out.put(genesis(tenant_id, stream_id, name, class));
        Ok(())
    })
}

/// Proves raw blocks without a server: every content hash, every link of the chain, no gap. Blocks
/// that end at or before the proven offset are passed over. CORRUPTION names the first offset that
/// does not fit, also as the detail's value; head and offset then stay as they were.
///
/// blocks: blocks_len bytes of whole blocks. head_inout: KMB_HASH_BYTES bytes, the head that is
/// proven so far (of an unread stream: kmb_genesis_hash). next_offset_inout: the offset that is
/// proven so far (0). Both receive how far it is proven now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_verify_blocks(
    blocks: *const u8,
    blocks_len: usize,
    head_inout: *mut u8,
    next_offset_inout: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let blocks = slice("blocks", blocks, blocks_len)?;
        let head = head_inout.cast::<[u8; KMB_HASH_BYTES]>();
        if head.is_null() {
            return Err(null("head_inout"));
        }
        if next_offset_inout.is_null() {
            return Err(null("next_offset_inout"));
        }
        let next_offset = next_offset_inout.read_unaligned();
        let proven = VerifiedHead { head: head.read_unaligned(), next_offset };
        let proven: Result<VerifiedHead, Error> = verify_blocks(proven, blocks);
        let proven = proven?;
        head.write_unaligned(proven.head);
        next_offset_inout.write_unaligned(proven.next_offset);
        Ok(())
    })
}
