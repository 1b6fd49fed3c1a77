//! Feeds the session and does what it says.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use kimberlite_wire::session::{Action, Call, CallId, ConnectionId, Session, SessionConfig};
use kimberlite_wire::{ClientOptions, Error, ErrorCode};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::connection::{Connection, Written};
use super::dial::dial;
use super::slot::Slot;
use super::tls::TlsSetup;
use crate::address::{ServerAddress, parse_server};
use crate::config::Config;
use crate::runtime;

/// What the server's log calls a client that gave itself no name.
const CLIENT_NAME: &str = "kimberlite-rust";

/// One client's session and all that hangs on it.
pub(super) struct Driver {
    core: Mutex<Core>,
    handle: Handle,
    started: Instant,
    options: ClientOptions,
    tls: OnceLock<Result<TlsSetup, Error>>,
    /// The session wants to be woken earlier than it was to be.
    earlier: Notify,
}

/// What the lock protects.
pub(super) struct Core {
    session: Session,
    calls: HashMap<CallId, Arc<Slot>>,
    connections: HashMap<ConnectionId, Arc<Connection>>,
    /// The task that dials a connection and then receives on it.
    tasks: HashMap<ConnectionId, JoinHandle<()>>,
    ticker: Option<JoinHandle<()>>,
    /// When the ticker wakes the session next, at the latest.
    armed_ms: u64,
}

/// What is done after the lock is let go.
#[derive(Default)]
struct After {
    flush: Vec<Arc<Connection>>,
    wakers: Vec<Waker>,
    earlier: bool,
    /// Others who have just been answered are about to call again.
    gathers: bool,
}

/// From so many calls under way on, the connection's task writes what they ask, as much as came
/// until it does: a write for many takes little more than a write for one. Callers who are fewer
/// write by themselves, which is sooner.
const GATHER_FROM: usize = 4;

impl Core {
    pub(super) fn call(&mut self, slot: Arc<Slot>, call: Call, now_ms: u64) -> CallId {
        let id = self.session.call(call, now_ms);
        self.calls.insert(id, slot);
        id
    }

    pub(super) fn connect(&mut self, slot: Arc<Slot>, deadline_ms: u64, now_ms: u64) -> CallId {
        let id = self.session.connect(deadline_ms, now_ms);
        self.calls.insert(id, slot);
        id
    }

    /// Cancels a call whose owner still waits for its last word.
    pub(super) fn cancel(&mut self, id: CallId, now_ms: u64) {
        self.session.cancel(id, now_ms);
    }

    /// Cancels a call whose owner has gone.
    pub(super) fn forget(&mut self, id: CallId, now_ms: u64) {
        self.calls.remove(&id);
        self.session.cancel(id, now_ms);
    }

    pub(super) fn grant(&mut self, id: CallId, bytes: u64) {
        self.session.grant(id, bytes);
    }

    fn perform(&mut self, driver: &Arc<Driver>) -> After {
        let mut after = After::default();
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Dial { connection, address } => {
                    let address = self.session.address(address).to_string();
                    let task = driver.handle.spawn(serve(Arc::clone(driver), connection, address));
                    self.tasks.insert(connection, task);
                }
                Action::Send { connection, pieces } => {
                    if let Some(connection) = self.connections.get(&connection) {
                        connection.queue(pieces);
                        after.flush.push(Arc::clone(connection));
                    }
                }
                Action::Drop { connection } => {
                    self.connections.remove(&connection);
                    if let Some(task) = self.tasks.remove(&connection) {
                        task.abort();
                    }
                }
                Action::Answer { call, body } => {
                    after.wakers.extend(self.calls.get(&call).and_then(|slot| slot.body(body)));
                }
                Action::Chunk { call, payload } => {
                    let slot = self.calls.get(&call);
                    after.wakers.extend(slot.and_then(|slot| slot.chunk(payload)));
                }
                Action::End { call } => {
                    let slot = self.calls.remove(&call);
                    after.wakers.extend(slot.and_then(|slot| slot.done(Ok(None))));
                }
                Action::Done { call, result } => {
                    let slot = self.calls.remove(&call);
                    after.wakers.extend(slot.and_then(|slot| slot.done(result.map(Some))));
                }
            }
        }
        after.gathers = self.calls.len() >= GATHER_FROM;
        let wake_ms = self.session.next_wake_ms().unwrap_or(u64::MAX);
        if wake_ms < self.armed_ms {
            self.armed_ms = wake_ms;
            after.earlier = true;
        }
        after
    }
}

impl Driver {
    /// Makes a session; it dials with the first call.
    pub(super) fn start(config: Config, servers: &[ServerAddress]) -> Result<Arc<Driver>, Error> {
        let handle = runtime::handle()?;
        let options = config.options.clone();
        let mut session_options = config.options;
        if session_options.client_name.is_empty() {
            session_options.client_name = CLIENT_NAME.to_string();
        }
        let session = SessionConfig {
            addresses: servers.iter().map(ToString::to_string).collect(),
            tenant_id: config.tenant_id,
            auth_token: config.auth_token.unwrap_or_default(),
            client_version: env!("CARGO_PKG_VERSION").to_string(),
            options: session_options,
            seed: seed(),
        };
        let driver = Arc::new(Driver {
            core: Mutex::new(Core {
                session: Session::new(session, 0),
                calls: HashMap::new(),
                connections: HashMap::new(),
                tasks: HashMap::new(),
                ticker: None,
                armed_ms: u64::MAX,
            }),
            handle,
            started: Instant::now(),
            options,
            tls: OnceLock::new(),
            earlier: Notify::new(),
        });
        if servers.iter().any(|server| server.tls) {
            // Files that cannot be used are an error of the call, not of one address.
            driver.tls()?;
        }
        let ticker = driver.handle.spawn(tick(Arc::clone(&driver)));
        driver.core().ticker = Some(ticker);
        Ok(driver)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn tls(&self) -> Result<&TlsSetup, Error> {
        self.tls.get_or_init(|| TlsSetup::new(&self.options)).as_ref().map_err(Clone::clone)
    }

    /// The database's identity; zeroes before a server was reached.
    pub(super) fn log_id(&self) -> [u8; 16] {
        self.core().session.log_id().unwrap_or_default()
    }

    /// Gives the session an input and does what it says.
    pub(super) fn drive<T>(self: &Arc<Driver>, input: impl FnOnce(&mut Core, u64) -> T) -> T {
        let (output, after) = {
            let mut core = self.core();
            let output = input(&mut core, self.now_ms());
            (output, core.perform(self))
        };
        for connection in &after.flush {
            if after.gathers {
                connection.want_flush();
            } else {
                self.flush(connection);
            }
        }
        after.wakers.into_iter().for_each(Waker::wake);
        if after.earlier {
            self.earlier.notify_one();
        }
        output
    }

    /// Writes what is queued; a task goes on where the socket is full.
    fn flush(self: &Arc<Driver>, connection: &Arc<Connection>) {
        match connection.flush() {
            Ok(Written::All) => {}
            Ok(Written::Blocked) => {
                let (driver, connection) = (Arc::clone(self), Arc::clone(connection));
                self.handle.spawn(async move {
                    if let Err(e) = write_rest(&connection).await {
                        driver.lost(connection.id, &e);
                    }
                });
            }
            Err(e) => self.lost(connection.id, &e),
        }
    }

    fn lost(self: &Arc<Driver>, id: ConnectionId, why: &io::Error) {
        self.disconnected(id, Error::new(ErrorCode::ConnectionFailed, why.to_string()));
    }

    fn disconnected(self: &Arc<Driver>, id: ConnectionId, error: Error) {
        tracing::debug!(connection = id.0, %error, "a connection is gone");
        self.drive(|core, now_ms| {
            core.connections.remove(&id);
            if let Some(task) = core.tasks.remove(&id) {
                task.abort();
            }
            core.session.disconnected(id, error, now_ms);
        });
    }

    /// Ends every call with CLOSED and stops the tasks, which the caller may wait for.
    pub(super) fn close(self: &Arc<Driver>) -> Vec<JoinHandle<()>> {
        self.drive(|core, now_ms| {
            // Taken first: the session drops its connections, but the tasks are to be waited for.
            let tasks = std::mem::take(&mut core.tasks).into_values();
            let stopped: Vec<JoinHandle<()>> = tasks.chain(core.ticker.take()).collect();
            stopped.iter().for_each(JoinHandle::abort);
            core.session.close(now_ms);
            stopped
        })
    }
}

/// A number that differs from client to client. Where the system has no entropy, the clock does.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        return now.map_or(1, |now| now.as_nanos() as u64);
    }
    u64::from_le_bytes(bytes)
}

/// Tells the session the time when it wants to know it.
async fn tick(driver: Arc<Driver>) {
    loop {
        let armed_ms = driver.core().armed_ms;
        // Beyond a year nothing is armed.
        let pause_ms = armed_ms.saturating_sub(driver.now_ms()).min(31_536_000_000);
        let woken = driver.earlier.notified();
        if pause_ms > 0
            && tokio::time::timeout(Duration::from_millis(pause_ms), woken).await.is_ok()
        {
            continue;
        }
        driver.drive(|core, now_ms| {
            core.session.tick(now_ms);
            core.armed_ms = u64::MAX;
        });
    }
}

/// How an alert of TLS begins, which no frame does: what a server that only speaks TLS says to a
/// client that does not.
const TLS_RECORD_ALERT: [u8; 2] = [0x15, 0x03];

/// Dials a connection, then receives on it until it is lost.
async fn serve(driver: Arc<Driver>, id: ConnectionId, address: String) {
    if let Err(error) = serve_until_lost(&driver, id, &address).await {
        driver.disconnected(id, error);
    }
}

async fn serve_until_lost(
    driver: &Arc<Driver>,
    id: ConnectionId,
    address: &str,
) -> Result<(), Error> {
    let target = parse_server(address)?;
    let tls = if target.tls { Some(driver.tls()?) } else { None };
    let plain = tls.is_none();
    let transport = dial(&target, tls).await?;
    tracing::debug!(connection = id.0, address, "connected");
    let (connection, mut receiver) = Connection::new(id, transport);
    let early = receiver.early().map_err(broken)?;
    driver.drive(|core, now_ms| {
        if !core.tasks.contains_key(&id) {
            // Another address was quicker: the session has given this one up.
            return;
        }
        core.connections.insert(id, Arc::clone(&connection));
        core.session.connected(id, now_ms);
        if !early.is_empty() {
            core.session.received_buffer(id, early, now_ms);
        }
    });
    let mut first = true;
    loop {
        let Some(received) = unless(connection.flush_wanted(), receiver.receive()).await else {
            driver.flush(&connection);
            continue;
        };
        let bytes = received.map_err(broken)?;
        if plain && std::mem::take(&mut first) && bytes.starts_with(&TLS_RECORD_ALERT) {
            let detail = "the server speaks TLS only at this address: put tls:// before it";
            return Err(Error::new(ErrorCode::ConnectionFailed, detail));
        }
        if bytes.is_empty() {
            let detail = "the server closed the connection";
            return Err(Error::new(ErrorCode::ConnectionFailed, detail));
        }
        driver.drive(|core, now_ms| core.session.received_buffer(id, bytes, now_ms));
        // TLS may have something to say by itself, such as new keys.
        driver.flush(&connection);
    }
}

/// What `work` gives, unless `other` comes first.
async fn unless<T>(other: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    let (mut other, mut work) = (pin!(other), pin!(work));
    poll_fn(|context| {
        if other.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}

fn broken(e: io::Error) -> Error {
    Error::new(ErrorCode::ConnectionFailed, e.to_string())
}

async fn write_rest(connection: &Connection) -> io::Result<()> {
    loop {
        connection.writable().await?;
        if connection.write_on()? == Written::All {
            return Ok(());
        }
    }
}
