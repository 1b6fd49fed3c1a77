//! Clients: connecting, closing, and what is under way in between.

use std::ffi::c_char;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use kimberlite_client::{Client, Config, runtime};
use kimberlite_wire::{CompletionKind, Error, ErrorCode, limit};
use tokio::sync::Semaphore;

use crate::arguments::{Out, bounded, c_text, null, slice};
use crate::boundary::{boundary, quietly};
use crate::call::wait;
use crate::detail::{KmbDetail, KmbError};
use crate::generated::{KMB_CLOSE_TIMEOUT_MS, KMB_MAX_TIMEOUT_MS};
use crate::handle::Table;
use crate::library;
use crate::options::{self, KmbOptions};
use crate::queue::{self, KmbQueue, in_callback};
use crate::submit::{self, Outcome, Target};

/// A client of one database and tenant.
///
/// Ownership: made by kmb_client_connect, kmb_connect or a completion of kmb_submit_connect; closed
/// by kmb_client_close, kmb_client_disconnect or kmb_submit_close. Threads: safe from every thread,
/// also while another one closes it: a closed one gives CLOSED.
pub struct KmbClient {
    _private: [u8; 0],
}

static CLIENTS: Table<ClientState> = Table::new(1, "KmbClient");

/// A client behind its handle.
pub(crate) struct ClientState {
    client: Client,
    submitted: Mutex<Submitted>,
    idle: Condvar,
    /// Never has a permit; closed when the client is being closed.
    closing: Semaphore,
}

#[derive(Default)]
struct Submitted {
    under_way: usize,
    closing: bool,
}

impl Deref for ClientState {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// One submitted operation of a client; counts until its completion was posted.
pub(crate) struct Pending(Arc<ClientState>);

impl Drop for Pending {
    fn drop(&mut self) {
        let mut submitted = self.0.submitted();
        submitted.under_way -= 1;
        let idle = submitted.under_way == 0 && submitted.closing;
        drop(submitted);
        if idle {
            self.0.idle.notify_all();
        }
    }
}

impl ClientState {
    fn submitted(&self) -> MutexGuard<'_, Submitted> {
        self.submitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation in. CLOSED where the client is being closed.
    pub(crate) fn begin(self: &Arc<ClientState>) -> Result<Pending, Error> {
        let mut submitted = self.submitted();
        if submitted.closing {
            return Err(closed());
        }
        submitted.under_way += 1;
        drop(submitted);
        Ok(Pending(Arc::clone(self)))
    }

    /// Refuses further operations and ends the watches.
    fn refuse(&self) {
        self.submitted().closing = true;
        self.closing.close();
    }

    /// Runs a future; true where the client was being closed first.
    pub(crate) async fn closing_before(&self, future: impl Future<Output = ()>) -> bool {
        let mut future = pin!(future);
        let mut closing = pin!(self.closing.acquire());
        poll_fn(|context| {
            if closing.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            future.as_mut().poll(context).map(|()| false)
        })
        .await
    }

    /// Waits until every submitted operation's completion was posted, callbacks included.
    fn await_idle(&self, deadline: Instant) -> Result<(), Error> {
        let mut submitted = self.submitted();
        while submitted.under_way > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let count = submitted.under_way;
                let detail = format!("{count} operations had not completed when the wait ended");
                return Err(Error::new(ErrorCode::Timeout, detail));
            }
            let waited = self.idle.wait_timeout(submitted, left);
            submitted = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(ErrorCode::Closed, "client is a KmbClient that was closed")
}

/// The client of a handle.
pub(crate) fn get(client: *const KmbClient) -> Result<Arc<ClientState>, Error> {
    CLIENTS.get("client", client)
}

fn adopt(client: Client) -> Result<*mut KmbClient, Error> {
    CLIENTS.insert(Arc::new(ClientState {
        client,
        submitted: Mutex::default(),
        idle: Condvar::new(),
        closing: Semaphore::new(0),
    }))
}

async fn connect(config: Config) -> Result<*mut KmbClient, Error> {
    adopt(Client::connect(config).await?)
}

/// Closes a client and waits, except within a queue's callback, from where it goes on by itself.
fn close(client: &Arc<ClientState>, timeout_ms: u64) -> Result<(), Error> {
    client.refuse();
    if in_callback() {
        close_in_background(client.client.clone(), timeout_ms);
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_millis(timeout_ms.min(KMB_MAX_TIMEOUT_MS));
    let closed = wait(client.close(timeout_ms));
    closed.and(client.await_idle(deadline))
}

fn close_in_background(client: Client, timeout_ms: u64) {
    let Ok(runtime) = runtime::handle() else { return };
    drop(runtime.spawn(async move {
        if let Err(e) = client.close(timeout_ms).await {
            tracing::warn!("closing a client: {e}");
        }
    }));
}

/// Closes a client that nobody wants any more, in the background.
pub(crate) fn discard(client: *mut KmbClient) {
    if let Ok(Some(client)) = CLIENTS.remove("client", client) {
        client.refuse();
        close_in_background(client.client.clone(), KMB_CLOSE_TIMEOUT_MS);
    }
}

/// Closes every client within one timeout; the first failure is told.
pub(crate) fn close_all(timeout_ms: u64) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_millis(timeout_ms.min(KMB_MAX_TIMEOUT_MS));
    let mut result = Ok(());
    for client in CLIENTS.drain() {
        let left = deadline.saturating_duration_since(Instant::now());
        result = result.and(close(&client, left.as_millis() as u64));
    }
    result
}

/// Connects with default options. NULL on failure; kmb_last_error_detail tells more.
///
/// addresses: address_count pointers to texts as of kmb_options_add_address, each with a NUL at its
/// end, copied. auth_token: the token with a NUL at its end, copied; NULL for none. error_out:
/// receives KMB_OK or the error's number; may be NULL. The caller closes the client with
/// kmb_client_disconnect or kmb_client_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_connect(
    addresses: *const *const c_char,
    address_count: usize,
    tenant_id: u64,
    auth_token: *const c_char,
    error_out: *mut KmbError,
) -> *mut KmbClient {
    let mut client = std::ptr::null_mut();
    let place = &raw mut client;
    let error = boundary!({
        library::start();
        let config = config(addresses, address_count, tenant_id, auth_token)?;
        let connected = wait(connect_sendable(config))?;
        *place = connected.0;
        Ok(())
    });
    // SAFETY: the caller passes NULL or a place for a number.
    unsafe { Out::optional(error_out).put(error) };
    client
}

/// A handle that a future may carry to another thread: it is a number, not an address.
struct Handle(*mut KmbClient);

// SAFETY: see the type.
unsafe impl Send for Handle {}

async fn connect_sendable(config: Config) -> Result<Handle, Error> {
    connect(config).await.map(Handle)
}

/// # Safety
/// As kmb_client_connect says.
unsafe fn config(
    addresses: *const *const c_char,
    address_count: usize,
    tenant_id: u64,
    auth_token: *const c_char,
) -> Result<Config, Error> {
    if addresses.is_null() {
        return Err(null("addresses"));
    }
    bounded("address_count", address_count, limit::ADDRESSES)?;
    let mut config = Config::new(None::<String>).tenant(tenant_id);
    // SAFETY: the caller's promise.
    let addresses = unsafe { slice("addresses", addresses, address_count)? };
    for (index, &address) in addresses.iter().enumerate() {
        // SAFETY: the caller's promise.
        let address = unsafe { c_text(&format!("addresses[{index}]"), address)? };
        config.addresses.push(address.to_string());
    }
    if !auth_token.is_null() {
        // SAFETY: the caller's promise.
        let token = unsafe { c_text("auth_token", auth_token)? };
        config.auth_token = (!token.is_empty()).then(|| token.to_string());
    }
    Ok(config)
}

/// kmb_client_close with KMB_CLOSE_TIMEOUT_MS; its result is logged. Returns after the last callback,
/// except from within one. NULL and a second call are harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_disconnect(client: *mut KmbClient) {
    quietly(|| {
        if client.is_null() {
            return;
        }
        let result = CLIENTS.remove("client", client);
        match result
            .and_then(|found| found.map_or(Ok(()), |found| close(&found, KMB_CLOSE_TIMEOUT_MS)))
        {
            Ok(()) => tracing::debug!("a client was disconnected"),
            Err(e) => tracing::warn!("disconnecting a client: {e}"),
        }
    });
}

/// Connects with options, within their `connect_timeout_ms`.
///
/// client_out: receives the client; the caller closes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_connect(
    options: *const KmbOptions,
    client_out: *mut *mut KmbClient,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        library::start();
        let out = Out::new("client_out", client_out)?;
        out.put(wait(connect_sendable(options::config(options)?))?.0);
        Ok(())
    })
}

/// Closes a client: completes every pending call, reader, cursor and subscription with CLOSED, waits
/// at most timeout_ms until connections and, for the last client of an embedded database, the
/// database are closed and every completion was posted, and reports. TIMEOUT where that takes
/// longer; it then goes on by itself. Returns after the last callback, except from within one. A
/// second close is harmless and gives OK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_client_close(
    client: *mut KmbClient,
    timeout_ms: u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        match CLIENTS.remove("client", client)? {
            Some(client) => close(&client, timeout_ms),
            None => Ok(()),
        }
    })
}

/// Submits kmb_connect. The completion's result: the KmbClient.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_connect(
    options: *const KmbOptions,
    queue: *mut KmbQueue,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        library::start();
        let config = options::config(options)?;
        let target = Target::new(queue::get(queue)?, CompletionKind::Connect, tag);
        let future = Box::pin(async move {
            let client = connect_sendable(config).await?;
            Ok(Outcome::result(client.0))
        });
        submit::start(target, None, operation_out, future)
    })
}

/// Submits kmb_client_close. The handle is stale from here on; the operations that were pending
/// complete before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_close(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    timeout_ms: u64,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let target = Target::new(queue::get(queue)?, CompletionKind::Close, tag);
        let client = CLIENTS.remove("client", client)?;
        if let Some(client) = &client {
            client.refuse();
        }
        let future = Box::pin(async move {
            if let Some(client) = client {
                client.close(timeout_ms).await?;
            }
            Ok(Outcome::none())
        });
        submit::start(target, None, operation_out, future)
    })
}
