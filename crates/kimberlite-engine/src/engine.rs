//! The engine's one door.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kimberlite_wire::{Error, ErrorCode, Request, Role};

use crate::answer::{Answer, BoxFuture};
use crate::options::EngineOptions;
use crate::session::Session;

/// An open database. Clones are the same engine; dropping the last one closes it.
#[derive(Clone, Debug)]
pub struct Engine {
    options: Arc<EngineOptions>,
}

impl Engine {
    /// Opens the database, recovers its state from the log, and starts its commit thread.
    ///
    /// STORAGE where the folder cannot be used or another process holds it, CORRUPTION where the log
    /// is damaged.
    pub fn open(options: EngineOptions) -> Result<Engine, Error> {
        Ok(Engine { options: Arc::new(options) })
    }

    /// The identity of the database.
    pub fn log_id(&self) -> [u8; 16] {
        [0; 16]
    }

    /// The newest applied position.
    pub fn position(&self) -> u64 {
        0
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
    /// INVALID_ARGUMENT for tenant 0, TENANT_NOT_FOUND for a tenant that was deleted.
    pub fn ensure_tenant(&self, _tenant_id: u64) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the tenant exists.
    pub fn tenant_exists(&self, _tenant_id: u64) -> bool {
        true
    }

    /// Does what the request asks, with `payload` beside it where the operation has one.
    ///
    /// Appends are queued before this returns, so that the order of calls is the order of appends.
    /// `timeout` bounds waiting and queries. Dropping the future cancels what can be cancelled: not
    /// an append, which is under way.
    pub fn handle(
        &self,
        _session: &Arc<Session>,
        request: Request,
        _payload: Bytes,
        _timeout: Option<Duration>,
    ) -> BoxFuture<'static, Result<Answer, Error>> {
        let name = request.operation().name();
        let error = Error::new(ErrorCode::Internal, format!("{name} is not wired in yet"));
        Box::pin(std::future::ready(Err(error)))
    }

    /// Finishes what was accepted and stops; later calls get CLOSED. Idempotent. Blocks until the
    /// engine's threads have ended.
    pub fn close(&self) {
        tracing::debug!(storage = ?self.options.storage, "closing");
    }
}
