//! The operations that change something: checked here, judged by the commit thread.

use std::sync::Arc;

use bytes::Bytes;
use kimberlite_wire::{
    AppendRequest, CreateStreamRequest, CreateTenantRequest, DataClass, DeleteTenantRequest, Error,
    ErrorCode, EventBatch, Operation,
};

use crate::answer::BoxFuture;
use crate::authority;
use crate::blocks;
use crate::core::{Core, Outcome, refused};
use crate::job::{AppendWork, Work};
use crate::names;
use crate::session::Session;
use crate::wait::Deadline;

/// Queues an append. Hashes a large one on this thread first.
pub(crate) fn append(
    core: &Core,
    session: &Arc<Session>,
    request: &AppendRequest,
    payload: Bytes,
    deadline: &Deadline,
) -> BoxFuture<'static, Outcome> {
    let work = core.check(session, Operation::Append).and_then(|()| {
        check_append(request)?;
        let batch = EventBatch::from_wire(request.count, payload, request.payload_crc)?;
        Ok(Work::Append(AppendWork {
            session: session.clone(),
            stream_id: request.stream_id,
            expected_offset: request.expected_offset,
            producer_id: request.producer_id,
            sequence: request.sequence,
            acked_below: request.acked_below,
            count: batch.count(),
            digest: batch.crc(),
            events: blocks::prepare(batch),
        }))
    });
    submit(core, work, deadline)
}

/// What can be told of a producer's numbers without knowing the producer.
fn check_append(request: &AppendRequest) -> Result<(), Error> {
    if request.producer_id == 0 {
        return Ok(());
    }
    if request.sequence == 0 {
        return Err(Error::invalid("sequence is 0; a producer counts its appends from 1"));
    }
    if request.acked_below > request.sequence {
        let detail = format!(
            "acked_below is {}, above sequence {}; an append's own outcome cannot be known",
            request.acked_below, request.sequence
        );
        return Err(Error::invalid(detail));
    }
    Ok(())
}

pub(crate) fn create_stream(
    core: &Core,
    session: &Arc<Session>,
    request: CreateStreamRequest,
    deadline: &Deadline,
) -> BoxFuture<'static, Outcome> {
    let work = core.check(session, Operation::CreateStream).and_then(|()| {
        names::check(&request.name)?;
        let data_class = DataClass::from_number(request.data_class).ok_or_else(|| {
            let detail = format!(
                "data_class is {}; use PHI (0), NonPHI (1) or Deidentified (2)",
                request.data_class
            );
            Error::new(ErrorCode::InvalidDataClass, detail)
        })?;
        Ok(Work::CreateStream { session: session.clone(), name: request.name, data_class })
    });
    submit(core, work, deadline)
}

pub(crate) fn open_producer(
    core: &Core,
    session: &Arc<Session>,
    deadline: &Deadline,
) -> BoxFuture<'static, Outcome> {
    let checked = core.check(session, Operation::OpenProducer);
    submit(core, checked.map(|()| Work::OpenProducer { session: session.clone() }), deadline)
}

pub(crate) fn create_tenant(
    core: &Core,
    session: &Arc<Session>,
    request: &CreateTenantRequest,
    deadline: &Deadline,
) -> BoxFuture<'static, Outcome> {
    let tenant_id = request.tenant_id;
    let work = core.applied.check_open().and_then(|()| {
        authority::check_create(session, tenant_id)?;
        check_tenant_id(tenant_id)?;
        Ok(Work::CreateTenant { session: Some(session.clone()), tenant_id })
    });
    submit(core, work, deadline)
}

/// Tenants are numbered from 1.
pub(crate) fn check_tenant_id(tenant_id: u64) -> Result<(), Error> {
    match tenant_id {
        0 => Err(Error::invalid("tenant_id is 0; tenants are numbered from 1")),
        _ => Ok(()),
    }
}

pub(crate) fn delete_tenant(
    core: &Core,
    session: &Arc<Session>,
    request: &DeleteTenantRequest,
    deadline: &Deadline,
) -> BoxFuture<'static, Outcome> {
    let tenant_id = request.tenant_id;
    let work = core.applied.check_open().and_then(|()| {
        check_tenant_id(tenant_id)?;
        authority::check_delete(&core.applied.catalogue(), session, tenant_id)?;
        Ok(Work::DeleteTenant { session: session.clone(), tenant_id })
    });
    submit(core, work, deadline)
}

fn submit(
    core: &Core,
    work: Result<Work, Error>,
    deadline: &Deadline,
) -> BoxFuture<'static, Outcome> {
    match work {
        Ok(work) => core.submit(work, deadline),
        Err(error) => refused(error),
    }
}
