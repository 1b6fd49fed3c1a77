//! Reading events by offset, and what is told about streams and tenants.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use kimberlite_wire::{
    DataClass, Error, ErrorCode, ListStreamsRequest, ListStreamsResponse, ListTenantsResponse,
    Operation, ReadRequest, ReadResponse, Response, StreamInfoRequest, StreamInfoResponse, limit,
};

use crate::answer::{Answer, PayloadStream};
use crate::audit_record::Access;
use crate::authority;
use crate::catalogue::{Catalogue, name_not_found};
use crate::core::{Core, Outcome};
use crate::cut::TenantCut;
use crate::loader::{BlockCursor, Loader};
use crate::names;
use crate::session::Session;
use crate::state::Applied;
use crate::stream::Stream;
use crate::wait::Deadline;

/// What one read gives.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The stream's next offset.
    next_offset: u64,
    /// The offset after the last event of the blocks.
    end_offset: u64,
}

pub(crate) async fn read(
    core: Arc<Core>,
    session: Arc<Session>,
    request: ReadRequest,
    mut deadline: Deadline,
) -> Outcome {
    core.check(&session, Operation::Read)?;
    core.reach(request.min_position, &mut deadline).await?;
    if request.max_events == 0 {
        return Err(Error::invalid("max_events is 0; ask for at least 1"));
    }
    let stream = core.stream(&session, request.stream_id)?;
    // The position first: the blocks are at least as new.
    let position = core.applied.position();
    let plan = plan(&stream, &core.loader, position, &request)?;
    let is_empty = plan.end_offset <= request.from_offset;
    if stream.identity.data_class == DataClass::Phi && !is_empty {
        let end = plan.end_offset.min(request.from_offset.saturating_add(request.max_events));
        let access = access(&stream, "read", request.from_offset, Some(end));
        let ticket = core.audit.access(&session, &access);
        let ticket = deadline.bound("the audit record of a read", ticket).await?;
        ticket.add(request.from_offset, end);
    }
    let body = Response::Read(ReadResponse { next_offset: plan.next_offset, position });
    let cursor = BlockCursor::new(stream, core.loader.clone(), request.from_offset);
    let applied = core.applied.clone();
    let end = plan.end_offset;
    Ok(Answer::streaming(body, Box::new(BlockStream { cursor, end, applied, given: false })))
}

/// What the audit is told of an access to a stream.
pub(crate) fn access<'a>(
    stream: &'a Stream,
    operation: &'a str,
    from_offset: u64,
    end_offset: Option<u64>,
) -> Access<'a> {
    Access {
        operation,
        stream_id: stream.identity.stream_id,
        stream: &stream.identity.name,
        data_class: stream.identity.data_class,
        from_offset,
        end_offset,
    }
}

/// OFFSET_OUT_OF_RANGE where the offset lies beyond the stream's end.
pub(crate) fn check_offset(stream: &Stream, offset: u64, next_offset: u64) -> Result<(), Error> {
    if offset <= next_offset {
        return Ok(());
    }
    let detail = format!(
        "from_offset is {offset}, but the next offset of stream {} is {next_offset}",
        stream.identity.stream_id
    );
    Err(Error::new(ErrorCode::OffsetOutOfRange, detail).with_value(next_offset))
}

fn plan(
    stream: &Stream,
    loader: &Loader,
    position: u64,
    request: &ReadRequest,
) -> Result<Plan, Error> {
    let next_offset = stream.end_at(loader.index(), position)?;
    check_offset(stream, request.from_offset, next_offset)?;
    let max_bytes = match request.max_bytes {
        0 => limit::READ_BYTES,
        bytes => bytes.min(limit::READ_BYTES),
    };
    let from_offset = request.from_offset;
    let last_offset = from_offset.saturating_add(request.max_events);
    let (mut end_offset, mut bytes) = (from_offset, 0u64);
    // How far blocks must be read to hold as many events, or as many bytes of them, as are wanted.
    stream.walk(loader.index(), &mut None, from_offset, next_offset, |place| {
        // What lies before the first event wanted is not counted; it is taken to be average.
        let wanted = place.end_offset() - place.first_offset.max(from_offset);
        bytes += place.data_bytes() * wanted / u64::from(place.count);
        end_offset = place.end_offset();
        end_offset < last_offset && bytes < max_bytes
    })?;
    Ok(Plan { next_offset, end_offset })
}

/// The blocks of one read.
struct BlockStream {
    cursor: BlockCursor,
    end: u64,
    applied: Arc<Applied>,
    /// Something was given out.
    given: bool,
}

impl PayloadStream for BlockStream {
    fn poll_chunk(
        &mut self,
        _cx: &mut Context<'_>,
        max_bytes: usize,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        let alive = self.applied.check_open().and_then(|()| self.cursor.stream().check_alive());
        let chunk = alive.and_then(|()| self.cursor.next(self.end, max_bytes));
        Poll::Ready(match chunk {
            Ok(chunk) => {
                self.given = true;
                chunk.map(|chunk| Ok(chunk.bytes))
            }
            // What is intact before the damage is an answer; the next read begins at the damage.
            Err(error)
                if error.code == ErrorCode::Corruption
                    && self.given
                    && self.cursor.is_between_blocks() =>
            {
                self.end = 0;
                None
            }
            Err(error) => {
                self.end = 0;
                Some(Err(error))
            }
        })
    }
}

pub(crate) fn list_streams(
    core: &Core,
    session: &Session,
    request: &ListStreamsRequest,
) -> Outcome {
    core.check(session, Operation::ListStreams)?;
    let position = core.applied.position();
    let count = match request.max_streams {
        0 => limit::LIST_STREAMS as usize,
        count => (count as usize).min(limit::LIST_STREAMS as usize),
    };
    let mut visible: Vec<Arc<Stream>> = {
        let catalogue = core.applied.catalogue();
        let tenant = catalogue.live(session.tenant_id())?;
        let rest = tenant.streams_after(request.after_stream_id);
        rest.filter(|s| s.identity.created_at <= position).take(count + 1).cloned().collect()
    };
    let more = visible.len() > count;
    visible.truncate(count);
    let cut = cut_at(core, session, position);
    let streams = visible.iter().map(|stream| cut.info(stream)).collect::<Result<_, _>>()?;
    Ok(Answer::of(Response::ListStreams(ListStreamsResponse { streams, more, position })))
}

pub(crate) fn stream_info(core: &Core, session: &Session, request: &StreamInfoRequest) -> Outcome {
    core.check(session, Operation::StreamInfo)?;
    let position = core.applied.position();
    let tenant_id = session.tenant_id();
    let stream = {
        let catalogue = core.applied.catalogue();
        match (request.stream_id, request.name.as_str()) {
            (0, "") => return Err(Error::invalid("stream_id is 0 and name is empty; give one")),
            (0, name) if names::is_audit(name) => {
                let audit = catalogue.live(tenant_id)?.audit.clone();
                authority::check_audit(session, Operation::StreamInfo)?;
                audit
            }
            (0, name) => {
                let found = catalogue.live(tenant_id)?.by_name(name).cloned();
                let found = found.filter(|stream| stream.identity.created_at <= position);
                found.ok_or_else(|| name_not_found(tenant_id, name))?
            }
            (id, _) => proven_stream(&catalogue, session, id, Operation::StreamInfo)?,
        }
    };
    let stream = cut_at(core, session, position).info(&stream)?;
    Ok(Answer::of(Response::StreamInfo(StreamInfoResponse { stream, position })))
}

/// A stream that the session may hear of and verify: one that clients reach, or, for admins, their
/// tenant's audit stream, of which nothing else is for clients.
pub(crate) fn proven_stream(
    catalogue: &Catalogue,
    session: &Session,
    stream_id: u64,
    operation: Operation,
) -> Result<Arc<Stream>, Error> {
    let audit = &catalogue.live(session.tenant_id())?.audit;
    if audit.identity.stream_id == stream_id {
        authority::check_audit(session, operation)?;
        return Ok(audit.clone());
    }
    catalogue.client_stream(session.tenant_id(), stream_id).cloned()
}

/// What the tenant's streams were at a position. What lies beyond the applied position is visible in
/// parts only: whoever was told of it could find less at the next call.
fn cut_at(core: &Core, session: &Session, position: u64) -> TenantCut {
    TenantCut {
        applied: core.applied.clone(),
        loader: core.loader.clone(),
        tenant_id: session.tenant_id(),
        position,
        sees_audit: false,
    }
}

pub(crate) fn list_tenants(core: &Core, session: &Session) -> Outcome {
    core.applied.check_open()?;
    let position = core.applied.position();
    let tenant_ids = authority::administered(&core.applied.catalogue(), session)?;
    Ok(Answer::of(Response::ListTenants(ListTenantsResponse { tenant_ids, position })))
}
