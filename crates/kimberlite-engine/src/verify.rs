//! Walks a stream's chain from its start.

use std::sync::Arc;

use kimberlite_log::BlockPlace;
use kimberlite_wire::block::{BlockView, ChainVerifier};
use kimberlite_wire::constant::NO_OFFSET;
use kimberlite_wire::{
    DataClass, Error, ErrorCode, Operation, Response, VerifyRequest, VerifyResponse,
};
use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::core::{Core, Outcome};
use crate::loader::Loader;
use crate::pipe::{Pipe, PipeReader};
use crate::pool::guarded;
use crate::read::{access, proven_stream};
use crate::session::Session;
use crate::state::closed;
use crate::stream::Stream;
use crate::wait::Deadline;

/// How much is read at a time, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

pub(crate) async fn verify(
    core: Arc<Core>,
    session: Arc<Session>,
    request: VerifyRequest,
    mut deadline: Deadline,
) -> Outcome {
    core.check(&session, Operation::Verify)?;
    let stream = {
        let catalogue = core.applied.catalogue();
        proven_stream(&catalogue, &session, request.stream_id, Operation::Verify)?
    };
    let position = core.applied.position();
    let end_offset = stream.end_at(core.loader.index(), position)?;
    if stream.identity.data_class == DataClass::Phi {
        let access = access(&stream, "verify", 0, Some(end_offset));
        let ticket = core.audit.access(&session, &access);
        let ticket = deadline.bound("the audit record of a verification", ticket).await?;
        ticket.add(0, end_offset);
    }
    let pipe = Arc::new(Pipe::of(session.tenant_id(), None));
    // Leaving cancels the walk.
    let guard = PipeReader(pipe.clone());
    let (tell, answer) = oneshot::channel();
    let (loader, work) = (core.loader.clone(), pipe.clone());
    let run = move || {
        let walked = guarded(|| walk(&stream, &loader, end_offset, &work));
        let _ = tell.send(walked.map(|found| Response::Verify(found.at(position))));
    };
    core.pool.submit(&pipe, Box::new(run))?;
    // The pool drops what waits when it closes.
    let answer = async { answer.await.unwrap_or_else(|_| Err(core.applied.end())) };
    let body = deadline.bound("the verification", answer).await?;
    drop(guard);
    Ok(Answer::of(body))
}

/// What a walk has found.
struct Found {
    chain: ChainVerifier,
    first_bad_offset: Option<u64>,
}

impl Found {
    fn at(&self, position: u64) -> VerifyResponse {
        VerifyResponse {
            valid: self.first_bad_offset.is_none(),
            count: self.chain.next_offset(),
            first_bad_offset: self.first_bad_offset.unwrap_or(NO_OFFSET),
            head: *self.chain.head(),
            position,
        }
    }
}

fn walk(stream: &Stream, loader: &Loader, end: u64, work: &Pipe) -> Result<Found, Error> {
    let mut found =
        Found { chain: ChainVerifier::new(stream.identity.genesis(), 0), first_bad_offset: None };
    let (mut next, mut near) = (0, None);
    while next < end {
        stream.check_alive()?;
        if work.is_cancelled() {
            return Err(closed());
        }
        let places = loader.gather(stream, &mut near, next..end, CHUNK_BYTES)?;
        found.first_bad_offset = check(stream, loader, &places, &mut found.chain)?;
        let Some(last) = places.last().filter(|_| found.first_bad_offset.is_none()) else { break };
        next = last.end_offset();
    }
    Ok(found)
}

/// Checks these blocks; tells the first offset of the one that does not fit.
fn check(
    stream: &Stream,
    loader: &Loader,
    places: &[BlockPlace],
    chain: &mut ChainVerifier,
) -> Result<Option<u64>, Error> {
    let bytes = match loader.load(places) {
        Ok(bytes) => bytes,
        // Damage is what the walk is to find: which of the blocks is it?
        Err(error) if error.code == ErrorCode::Corruption => match places {
            [only] => return Ok(Some(only.first_offset)),
            several => {
                for place in several {
                    let bad = check(stream, loader, std::slice::from_ref(place), chain)?;
                    if bad.is_some() {
                        return Ok(bad);
                    }
                }
                return Ok(None);
            }
        },
        Err(error) => return Err(error),
    };
    let mut rest = &bytes[..];
    for place in places {
        let (block, after) = rest.split_at(place.len());
        rest = after;
        let fits = matches!(
            BlockView::parse(block),
            Ok(Some((view, _))) if is_of(stream, &view) && chain.check(&view).is_ok()
        );
        if !fits {
            return Ok(Some(place.first_offset));
        }
    }
    Ok(None)
}

fn is_of(stream: &Stream, block: &BlockView<'_>) -> bool {
    let identity = &stream.identity;
    let expected = (identity.tenant_id, identity.stream_id);
    (block.header.tenant_id, block.header.stream_id) == expected
}
