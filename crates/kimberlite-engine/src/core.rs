//! What the operations share.

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kimberlite_wire::{Error, ErrorCode, Operation};

use crate::answer::{Answer, BoxFuture};
use crate::audit::Audit;
use crate::authority;
use crate::blocking::may_block;
use crate::clock::CommitClock;
use crate::commit::Seat;
use crate::direct;
use crate::job::{Job, Reply, Work};
use crate::loader::Loader;
use crate::options::{EngineOptions, Storage};
use crate::pool::{Pool, panic_text};
use crate::queue::Queue;
use crate::reply;
use crate::session::Session;
use crate::sql::QueryMemory;
use crate::state::{Applied, closed};
use crate::stats::CommitStats;
use crate::stream::Stream;
use crate::wait::{Deadline, Reached};

/// What an operation's future gives.
pub(crate) type Outcome = Result<Answer, Error>;

/// An open engine but for its commit thread.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: EngineOptions,
    pub(crate) log_id: [u8; 16],
    pub(crate) applied: Arc<Applied>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) loader: Loader,
    pub(crate) pool: Pool,
    pub(crate) query_memory: QueryMemory,
    pub(crate) stats: Arc<CommitStats>,
    pub(crate) clock: Arc<CommitClock>,
    pub(crate) seat: Seat,
    /// Why the engine did not end in good order.
    pub(crate) unclean: OnceLock<Error>,
}

impl Core {
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Deadline {
        Deadline::after(timeout, &self.queue)
    }

    /// Whether the session may do this on its tenant, now.
    pub(crate) fn check(&self, session: &Session, operation: Operation) -> Result<(), Error> {
        self.applied.check_open()?;
        authority::check(&self.applied.catalogue(), session, operation)
    }

    /// The session's stream of this id.
    pub(crate) fn stream(&self, session: &Session, stream_id: u64) -> Result<Arc<Stream>, Error> {
        let catalogue = self.applied.catalogue();
        catalogue.client_stream(session.tenant_id(), stream_id).cloned()
    }

    /// Queues work now; the future waits for its answer.
    pub(crate) fn submit(&self, work: Work, deadline: &Deadline) -> BoxFuture<'static, Outcome> {
        let (tell, answer) = reply::channel();
        let key = work.append_key();
        let job = Job { work, reply: Reply::Call(tell), deadline: deadline.at() };
        // Waking the commit thread takes many times as long as a commit without a disk, and a good
        // part of one with a disk.
        let pushed = match matches!(self.options.storage, Storage::Memory) || may_block() {
            true => self.queue.push_or_enter(job),
            false => self.queue.push(job).map(|()| None),
        };
        match pushed {
            Ok(None) => {}
            Ok(Some(job)) => direct::commit(self, job),
            Err(error) => return refused(error.without_effect()),
        }
        let applied = self.applied.clone();
        Box::pin(async move {
            let Some(answer) = answer.await else {
                // The commit thread has dropped it and is about to end. Whether an append was
                // durable before is not known.
                let mut error = gone(&applied).await;
                error.outcome_unknown = key;
                return Err(error);
            };
            answer.map(Answer::of)
        })
    }

    /// Ends everything, if it has not ended, and refuses what waits: nobody will do it. The panic of
    /// whoever committed is the reason, if there was one.
    pub(crate) fn end(&self, panic: Option<&(dyn Any + Send)>) {
        let failure = panic.map(|panic| {
            tracing::error!(panic = panic_text(panic), "committing panicked");
            let detail = format!(
                "the thread that commits panicked, so that the database is of no use until it is \
                 opened again; the panic was: {}",
                panic_text(panic)
            );
            Error::new(ErrorCode::Panic, detail)
        });
        match failure.clone() {
            Some(error) => {
                self.unclean.get_or_init(|| error.clone());
                self.applied.fail(error);
            }
            None => self.applied.close(),
        }
        self.queue.abandon(failure);
    }

    /// Waits until the applied state is at least as new as this.
    pub(crate) async fn reach(&self, position: u64, deadline: &mut Deadline) -> Result<(), Error> {
        if self.applied.position() >= position {
            return Ok(());
        }
        let what = format!("waiting for position {position}");
        deadline.bound(&what, Reached::new(&self.applied, position)).await
    }
}

/// Why the commit thread has dropped a job, which it does only when it ends.
pub(crate) async fn gone(applied: &Arc<Applied>) -> Error {
    // No position is as high as this one, so that only the end is waited for.
    match Reached::new(applied, u64::MAX).await {
        Ok(()) => closed(),
        Err(error) => error,
    }
}

/// A future that fails at once.
pub(crate) fn refused(error: Error) -> BoxFuture<'static, Outcome> {
    Box::pin(std::future::ready(Err(error)))
}
