//! SQL over one cut, on the threads of the pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kimberlite_wire::{
    AtKind, Column, DataClass, Error, ErrorCode, Operation, QueryRequest, QueryResponse, Response,
    Role, limit,
};
use tokio::sync::{oneshot, watch};

use crate::answer::Answer;
use crate::core::{Core, Outcome, gone};
use crate::cut::TenantCut;
use crate::job::{Job, Reply, Work};
use crate::pipe::{Pipe, PipeReader, Sent};
use crate::pool::guarded;
use crate::session::Session;
use crate::sql::{self, QueryLimits};
use crate::wait::{Deadline, block_on};

/// How long a query waits for its reader before it gives its place up.
const READER_PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn query(
    core: Arc<Core>,
    session: Arc<Session>,
    request: QueryRequest,
    mut deadline: Deadline,
) -> Outcome {
    core.check(&session, Operation::Query)?;
    check_request(&request)?;
    core.reach(request.min_position, &mut deadline).await?;
    let position = cut_position(&core, &request, &mut deadline).await?;
    let time = deadline.remaining(Duration::from_millis(core.options.query_timeout_ms));
    let started = Instant::now();
    let pipe = Arc::new(Pipe::of(session.tenant_id(), started.checked_add(time)));
    // From here on, leaving cancels the query.
    let reader = PipeReader(pipe.clone());
    let (tell, columns) = oneshot::channel();
    let running = Running {
        core: core.clone(),
        session,
        request,
        position,
        started,
        time,
        pipe: pipe.clone(),
    };
    core.pool.submit(&pipe, Box::new(move || running.run(tell)))?;
    let columns = async { columns.await.unwrap_or_else(|_| Err(core.applied.end())) };
    let columns = deadline.bound("the query", columns).await?;
    let body = Response::Query(QueryResponse { columns, position });
    Ok(Answer::streaming(body, Box::new(reader)))
}

fn check_request(request: &QueryRequest) -> Result<(), Error> {
    let bytes = request.sql.len() as u64;
    if bytes > limit::SQL_BYTES {
        return Err(Error::limit("the length of sql in bytes", bytes, limit::SQL_BYTES));
    }
    let params = request.params.len() as u64;
    if params > limit::QUERY_PARAMS {
        return Err(Error::limit("the number of params", params, limit::QUERY_PARAMS));
    }
    Ok(())
}

/// The position that the query sees, which is applied when this returns.
async fn cut_position(
    core: &Core,
    request: &QueryRequest,
    deadline: &mut Deadline,
) -> Result<u64, Error> {
    let applied = core.applied.position();
    match AtKind::from_number(request.at_kind) {
        Some(AtKind::Now) => Ok(applied),
        Some(AtKind::Position) if request.at <= applied => Ok(request.at),
        Some(AtKind::Position) => {
            let detail = format!("at is position {}, above {applied}, the newest", request.at);
            Err(Error::invalid(detail).with_value(applied))
        }
        Some(AtKind::Timestamp) => position_at(core, request.at, deadline).await,
        None => {
            let kind = request.at_kind;
            Err(Error::invalid(format!("at_kind is {kind}; use 0, 1 or 2")))
        }
    }
}

/// The last position with a timestamp of at most this, which stays the last: where an entry with
/// such a timestamp could still come, the log is made to pass it first.
async fn position_at(
    core: &Core,
    timestamp_ns: u64,
    deadline: &mut Deadline,
) -> Result<u64, Error> {
    let last_ns = core.applied.last_timestamp_ns();
    let now_ns = core.clock.now_ns(last_ns);
    if timestamp_ns > now_ns {
        let detail = format!("at is {timestamp_ns} ns, after the commit clock's {now_ns} ns");
        return Err(Error::invalid(detail).with_value(now_ns));
    }
    if last_ns <= timestamp_ns {
        let (tell, mut passed) = watch::channel(None);
        let work = Work::PassTime { timestamp_ns };
        core.queue.push(Job { work, reply: Reply::Waiting(tell), deadline: deadline.at() })?;
        let passed = async {
            let outcome = passed.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
            match outcome {
                Ok(outcome) => outcome.unwrap_or(Ok(())),
                Err(_) => Err(gone(&core.applied).await),
            }
        };
        deadline.bound("passing the time of the cut", passed).await?;
    }
    core.applied.position_at(core.loader.index(), timestamp_ns)
}

/// A query on its thread.
struct Running {
    core: Arc<Core>,
    session: Arc<Session>,
    request: QueryRequest,
    position: u64,
    started: Instant,
    time: Duration,
    pipe: Arc<Pipe>,
}

impl Running {
    fn run(self, tell: oneshot::Sender<Result<Vec<Column>, Error>>) {
        let mut tell = Some(tell);
        let result = guarded(|| self.answer(&mut tell));
        match (tell, result) {
            // It failed before there were columns.
            (Some(tell), Err(error)) => drop(tell.send(Err(error))),
            (_, result) => self.pipe.finish(result),
        }
    }

    fn answer(
        &self,
        tell: &mut Option<oneshot::Sender<Result<Vec<Column>, Error>>>,
    ) -> Result<(), Error> {
        let Some(left) = self.time.checked_sub(self.started.elapsed()) else {
            return Err(self.too_late());
        };
        let limits = QueryLimits {
            timeout_ms: (left.as_millis() as u64).max(1),
            memory_bytes: self.core.options.query_memory_bytes,
            rows: self.core.options.query_rows,
            shared: Some(self.core.query_memory.of(self.session.tenant_id())),
        };
        let cut = Arc::new(TenantCut {
            applied: self.core.applied.clone(),
            loader: self.core.loader.clone(),
            tenant_id: self.session.tenant_id(),
            position: self.position,
            sees_audit: self.session.role() == Role::Admin,
        });
        let prepared = sql::prepare(cut, &self.request.sql, &self.request.params, &limits)?;
        self.record(&prepared)?;
        if let Some(tell) = tell.take() {
            let _ = tell.send(Ok(prepared.columns().to_vec()));
        }
        let deadline = self.started + self.time;
        let mut sent = Ok(Sent::Taken);
        let mut sink = |batch| {
            sent = self.send(batch, deadline);
            sent == Ok(Sent::Taken)
        };
        let result = prepared.run(&mut sink, self.pipe.cancelled());
        match sent {
            Err(error) => Err(error),
            Ok(Sent::TooLate) => Err(self.too_late()),
            _ if self.core.applied.is_closed() => result.map_err(|_| self.core.applied.end()),
            _ => result,
        }
    }

    /// Hands rows on. Where the reader takes none for a while, another query gets this one's place.
    /// OVERLOADED where too many wait like that already.
    fn send(&self, batch: Bytes, deadline: Instant) -> Result<Sent, Error> {
        let soon = deadline.min(Instant::now() + READER_PAUSE);
        match self.pipe.send(batch.clone(), soon) {
            Sent::TooLate if soon < deadline => {}
            sent => return Ok(sent),
        }
        self.core.pool.set_aside(&self.pipe)?;
        let sent = self.pipe.send(batch, deadline);
        self.core.pool.take_back(&self.pipe);
        Ok(sent)
    }

    /// Puts a statement that reads health data on record before it runs.
    fn record(&self, prepared: &sql::Prepared) -> Result<(), Error> {
        let tables = prepared.tables();
        if !tables.iter().any(|table| table.data_class == DataClass::Phi) {
            return Ok(());
        }
        let streams: Vec<(&str, DataClass)> =
            tables.iter().map(|table| (table.name.as_str(), table.data_class)).collect();
        let audit = &self.core.audit;
        let statement = (self.request.sql.as_str(), self.request.params.as_slice());
        let ticket = audit.statement(&self.session, statement, &streams, self.position);
        block_on(ticket).map(|_| ())
    }

    fn too_late(&self) -> Error {
        let detail = format!("the query took longer than {} ms", self.time.as_millis());
        Error::new(ErrorCode::Timeout, detail)
    }
}
