//! What is asked of the commit thread.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use kimberlite_wire::block::Hash;
use kimberlite_wire::{AppendKey, DataClass, Error, EventBatch, Response};
use tokio::sync::watch;

use crate::reply::Teller;
use crate::session::Session;

/// One request on its way to the log.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) reply: Reply,
    /// After this moment it is refused with TIMEOUT instead of begun.
    pub(crate) deadline: Option<Instant>,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Work {
    Append(AppendWork),
    CreateStream {
        session: Arc<Session>,
        name: String,
        data_class: DataClass,
    },
    OpenProducer {
        session: Arc<Session>,
    },
    /// Without a session: by configuration or the embedded door, on nobody's behalf.
    CreateTenant {
        session: Option<Arc<Session>>,
        tenant_id: u64,
    },
    DeleteTenant {
        session: Arc<Session>,
        tenant_id: u64,
    },
    /// Records something in a tenant's audit stream.
    Audit {
        tenant_id: u64,
        events: EventBatch,
    },
    /// Makes sure that no later entry has a timestamp at or before this one.
    PassTime {
        timestamp_ns: u64,
    },
    /// Forgets producers that were idle for too long.
    ExpireProducers,
}

/// An append, checked and, where it is large, cut and digested by the thread that received it.
#[derive(Debug)]
pub(crate) struct AppendWork {
    pub(crate) session: Arc<Session>,
    pub(crate) stream_id: u64,
    pub(crate) expected_offset: u64,
    pub(crate) producer_id: u64,
    pub(crate) sequence: u64,
    pub(crate) acked_below: u64,
    pub(crate) count: u32,
    pub(crate) digest: u32,
    pub(crate) events: Events,
}

/// The events of an append.
#[derive(Debug)]
pub(crate) enum Events {
    /// Few bytes, which may share a block with those of other requests.
    Small(EventBatch),
    /// The bodies of blocks of their own.
    Bodies(Vec<Body>),
}

/// The body of one block with its digest.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) events: EventBatch,
    pub(crate) content: Hash,
}

/// Who is told what became of it.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The caller of an operation.
    Call(Teller<Result<Response, Error>>),
    /// Whoever waits for it to be durable; several may.
    Waiting(watch::Sender<Option<Result<(), Error>>>),
    /// Nobody.
    None,
}

/// What became of it, once that is durable.
#[derive(Debug)]
pub(crate) enum Done {
    Response(Response),
    /// Done, with nothing to tell.
    Nothing,
}

impl Reply {
    /// Tells. Whoever is gone does not hear it.
    pub(crate) fn send(self, result: Result<Done, Error>) {
        if let Some(waker) = self.put(result) {
            waker.wake();
        }
    }

    /// Tells, and gives whom to wake for it.
    pub(crate) fn put(self, result: Result<Done, Error>) -> Option<Waker> {
        match (self, result) {
            (Reply::Call(caller), Ok(Done::Response(response))) => caller.put(Ok(response)),
            (Reply::Call(caller), Err(error)) => caller.put(Err(error)),
            (Reply::Waiting(waiting), result) => {
                let _ = waiting.send(Some(result.map(|_| ())));
                None
            }
            // Operations have a response.
            (Reply::Call(_), Ok(Done::Nothing)) | (Reply::None, _) => None,
        }
    }
}

impl Work {
    /// What settles a repeat of it, where it is an append that has a producer.
    pub(crate) fn append_key(&self) -> Option<AppendKey> {
        match self {
            Work::Append(append) if append.producer_id != 0 => {
                let (producer_id, sequence) = (append.producer_id, append.sequence);
                Some(AppendKey { producer_id, sequence })
            }
            _ => None,
        }
    }
}

impl Job {
    /// About how many bytes it holds while it waits.
    pub(crate) fn bytes(&self) -> usize {
        /// What a job takes beside its events.
        const OVERHEAD: usize = 512;
        OVERHEAD
            + match &self.work {
                Work::Append(append) => append.payload_len(),
                Work::Audit { events, .. } => events.payload().len(),
                _ => 0,
            }
    }

    /// Whether it takes a few microseconds where no disk is involved.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(&self.work, Work::Append(AppendWork { events: Events::Small(_), .. }))
    }

    /// Whether it may use the space that the log keeps back for when the disk is full: what lets
    /// the database go on being audited, and administered back to health.
    pub(crate) fn may_use_reserve(&self) -> bool {
        matches!(
            self.work,
            Work::Audit { .. }
                | Work::PassTime { .. }
                | Work::DeleteTenant { .. }
                | Work::ExpireProducers
        )
    }
}

impl AppendWork {
    pub(crate) fn payload_len(&self) -> usize {
        match &self.events {
            Events::Small(batch) => batch.payload().len(),
            Events::Bodies(bodies) => bodies.iter().map(|body| body.events.payload().len()).sum(),
        }
    }
}
