//! The engine's one door.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use kimberlite_log::{
    Database, Disk, FsDisk, LogOptions, LogReader, LogWriter, MemoryDisk, StateMachine,
};
use kimberlite_wire::{Error, ErrorCode, Request, Role};

use crate::answer::{Answer, BoxFuture};
use crate::audit::Audit;
use crate::clock::CommitClock;
use crate::commit::Committer;
use crate::core::{Core, Outcome, refused};
use crate::job::Work;
use crate::loader::Loader;
use crate::options::{EngineOptions, Storage};
use crate::pool::{Pool, tell_panic};
use crate::queue::Queue;
use crate::session::Session;
use crate::sql::QueryMemory;
use crate::state::{Applied, Machine};
use crate::stats::{CommitStats, Load};
use crate::sync::Mutex;
use crate::sync::thread::{Builder, JoinHandle, current};
use crate::wait::block_on;
use crate::waiters::lock;
use crate::{query, read, subscribe, verify, write};

/// The bounds of a segment's size: a block's place in it is 32 bits wide.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 16..=2 << 30;

/// An open database. Clones are the same engine; dropping the last one closes it. What an answer
/// streams does not keep it open.
#[derive(Clone, Debug)]
pub struct Engine {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    core: Arc<Core>,
    commit: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Owner {
    fn close(&self) {
        // Held throughout, so that a second caller returns when the engine is closed, not before.
        let mut commit = lock(&self.commit);
        self.core.queue.close();
        self.core.applied.close();
        self.core.pool.close();
        if let Some(thread) = commit.take()
            && thread.thread().id() != current().id()
        {
            tell_panic(thread.join());
        }
    }
}

impl Engine {
    /// Opens the database, recovers its state from the log, and starts its commit thread.
    ///
    /// STORAGE where the folder cannot be used or is held by another engine, CORRUPTION where the
    /// log is damaged, INVALID_ARGUMENT for an option out of bounds.
    pub fn open(options: EngineOptions) -> Result<Engine, Error> {
        if !SEGMENT_BYTES.contains(&options.segment_bytes) {
            let (least, most) = (SEGMENT_BYTES.start(), SEGMENT_BYTES.end());
            let actual = options.segment_bytes;
            let detail = format!("segment_bytes is {actual}; it must be from {least} to {most}");
            return Err(Error::invalid(detail));
        }
        let (machine, writer, log) = recover(&options)?;
        let queue = Arc::new(Queue::default());
        let audit = Arc::new(Audit::new(&queue, options.audit_window_ms));
        let clock = Arc::new(CommitClock::new(options.clock.clone()));
        let stats = Arc::new(CommitStats::new());
        let (log_id, applied) = (writer.log_id(), machine.applied.clone());
        let committer = Committer::new(machine, writer, &queue, &audit, &clock, &stats);
        let core = Arc::new(Core {
            log_id,
            applied,
            queue: queue.clone(),
            audit: audit.clone(),
            loader: Loader::new(log),
            pool: Pool::new(options.query_threads, options.query_slow_threads),
            query_memory: QueryMemory::new(
                options.query_total_memory_bytes,
                options.query_tenant_memory_bytes,
            ),
            stats: stats.clone(),
            clock: clock.clone(),
            options,
            seat: Mutex::new(Some(committer)),
            unclean: OnceLock::new(),
        });
        let commit = Mutex::new(Some(start(&core)?));
        Ok(Engine { owner: Arc::new(Owner { core, commit }) })
    }

    /// The identity of the database.
    pub fn log_id(&self) -> [u8; 16] {
        self.owner.core.log_id
    }

    /// The newest applied position.
    pub fn position(&self) -> u64 {
        self.owner.core.applied.position()
    }

    /// What its commits have come to so far.
    pub fn commit_stats(&self) -> &CommitStats {
        &self.owner.core.stats
    }

    /// What it holds at the moment.
    pub fn load(&self) -> Load {
        let core = &self.owner.core;
        let (queries_running, queries_waiting, queries_aside) = core.pool.load();
        Load {
            queries_running,
            queries_waiting,
            queries_aside,
            query_bytes: core.query_memory.whole.used(),
            queued_bytes: core.queue.bytes(),
        }
    }

    /// Whether it takes calls: not once it was closed, or has ended because of a defect.
    pub fn is_open(&self) -> bool {
        !self.owner.core.applied.is_closed()
    }

    /// A session for a caller whom the door has authenticated. It does not check that the tenant
    /// exists: each operation does.
    pub fn session(
        &self,
        principal: &str,
        tenant_id: u64,
        role: Role,
        admin_of_all: bool,
    ) -> Arc<Session> {
        Arc::new(Session::new(principal, tenant_id, role, admin_of_all))
    }

    /// Creates the tenant unless it exists, and waits until that is durable: for configuration and
    /// embedded opening. Blocks; not for async code.
    ///
    /// INVALID_ARGUMENT for tenant 0 and for one that was deleted: its number is used up.
    pub fn ensure_tenant(&self, tenant_id: u64) -> Result<(), Error> {
        if self.tenant_exists(tenant_id) {
            return Ok(());
        }
        write::check_tenant_id(tenant_id)?;
        let core = &self.owner.core;
        let work = Work::CreateTenant { session: None, tenant_id };
        block_on(core.submit(work, &core.deadline(None))).map(|_| ())
    }

    /// Whether the tenant exists.
    pub fn tenant_exists(&self, tenant_id: u64) -> bool {
        self.owner.core.applied.catalogue().tenant(tenant_id).is_some()
    }

    /// Takes the wall clock as it is now for right. Commits stop with INTERNAL after it has jumped
    /// ahead by more than an hour while the engine was open, because timestamps never go back; this
    /// is how an operator confirms that the new time is the right one.
    pub fn confirm_clock(&self) {
        self.owner.core.clock.confirm();
    }

    /// Does what the request asks, with `payload` beside it where the operation has one.
    ///
    /// Appends and other changes are queued before this returns, so that the order of calls is the
    /// order of appends. A large append is hashed on the calling thread meanwhile.
    ///
    /// `timeout` bounds waiting and queries; a change that waits longer to be begun is not begun
    /// (TIMEOUT), and one that was begun is waited for. Dropping the future cancels what can be
    /// cancelled: not a change, which is under way.
    pub fn handle(
        &self,
        session: &Arc<Session>,
        request: Request,
        payload: Bytes,
        timeout: Option<Duration>,
    ) -> BoxFuture<'static, Result<Answer, Error>> {
        let core = &self.owner.core;
        let deadline = core.deadline(timeout);
        let (shared, caller) = (core.clone(), session.clone());
        match request {
            Request::Append(append) => write::append(core, session, &append, payload, &deadline),
            Request::CreateStream(request) => {
                write::create_stream(core, session, request, &deadline)
            }
            Request::OpenProducer(_) => write::open_producer(core, session, &deadline),
            Request::CreateTenant(request) => {
                write::create_tenant(core, session, &request, &deadline)
            }
            Request::DeleteTenant(request) => {
                write::delete_tenant(core, session, &request, &deadline)
            }
            Request::Read(request) => Box::pin(read::read(shared, caller, request, deadline)),
            Request::Subscribe(request) => {
                Box::pin(subscribe::subscribe(shared, caller, request, deadline))
            }
            Request::Query(request) => Box::pin(query::query(shared, caller, request, deadline)),
            Request::Verify(request) => Box::pin(verify::verify(shared, caller, request, deadline)),
            Request::ListStreams(request) => ready(read::list_streams(core, session, &request)),
            Request::StreamInfo(request) => ready(read::stream_info(core, session, &request)),
            Request::ListTenants(_) => ready(read::list_tenants(core, session)),
            Request::Hello(_) => {
                refused(Error::protocol("hello opens a connection; it is not an operation here"))
            }
        }
    }

    /// Finishes what was accepted and stops; later calls get CLOSED, as do queries and
    /// subscriptions that are under way. Idempotent. Blocks until the engine's threads have ended; a
    /// query that SQLite cannot stop at once is left behind after two seconds, and does no harm.
    pub fn close(&self) {
        self.owner.close();
    }

    /// Why the log was not closed cleanly, once the engine was closed; `None` where it was, or is
    /// still open. What was acknowledged is durable in any case.
    pub fn close_error(&self) -> Option<Error> {
        self.owner.core.unclean.get().cloned()
    }
}

fn ready(outcome: Outcome) -> BoxFuture<'static, Outcome> {
    Box::pin(std::future::ready(outcome))
}

/// What the log does for this engine beside its commits.
struct Kept(Arc<Applied>);

impl Database for Kept {
    fn machine(&self) -> Box<dyn StateMachine + Send> {
        Box::new(Machine::new(Arc::new(Applied::new())))
    }

    fn covered(&self, segment: u64) {
        self.0.forget_places(segment);
    }
}

/// Makes a database's folder and those above it where they are missing, for their owner alone, and
/// makes their names durable, so that a database in it does not go with a name: for whoever must
/// know the folder's canonical path before the database is opened.
pub fn make_folder(folder: &Path) -> Result<(), Error> {
    FsDisk::new(folder).make_folder().map_err(|error| {
        let detail = format!("the folder {} cannot be used: {error}", folder.display());
        Error::new(ErrorCode::Storage, detail)
    })
}

/// Brings the applied state to where the log is: from its newest state on, or from its start.
fn recover(options: &EngineOptions) -> Result<(Machine, LogWriter, LogReader), Error> {
    let disk: Arc<dyn Disk> = match &options.storage {
        Storage::Folder(path) => Arc::new(FsDisk::new(path)),
        Storage::Memory => Arc::new(MemoryDisk::new()),
        Storage::Disk(disk) => disk.clone(),
    };
    let log_options = LogOptions {
        segment_bytes: options.segment_bytes,
        index_cache_bytes: usize::try_from(options.index_cache_bytes).unwrap_or(usize::MAX),
        ..LogOptions::default()
    };
    let mut machine = Machine::new(Arc::new(Applied::new()));
    let kept = Arc::new(Kept(machine.applied.clone()));
    let (writer, log) = kimberlite_log::open_database(disk, log_options, &mut machine, kept)?;
    machine.streams_per_tenant = options.streams_per_tenant;
    machine.publish(writer.next_index().saturating_sub(1));
    Ok((machine, writer, log))
}

fn start(core: &Arc<Core>) -> Result<JoinHandle<()>, Error> {
    let core = core.clone();
    let thread = Builder::new().name("kimberlite-commit".to_string());
    let run = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| Committer::run(&core.seat, &core.queue)));
        if let Ok(Err(error)) = &ended {
            core.unclean.get_or_init(|| error.clone());
        }
        if ended.is_err() {
            // Nobody may go on with what is half done.
            drop(lock(&core.seat).take());
        }
        // However it ended: nobody may wait for it any more.
        core.end(ended.err().as_deref());
    };
    thread.spawn(run).map_err(|error| {
        let detail = format!("the commit thread could not be started: {error}");
        Error::new(ErrorCode::Internal, detail)
    })
}
