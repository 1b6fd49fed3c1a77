//! The tenants and their streams.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kimberlite_wire::{DataClass, Error, ErrorCode};

use crate::names::{self, AUDIT_STREAM};
use crate::stream::{Stream, StreamIdentity};

/// What was decided about tenants and streams, as of the applied position.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    tenants: BTreeMap<u64, TenantState>,
    streams: HashMap<u64, Arc<Stream>>,
    last_stream_id: u64,
}

/// What became of a tenant's number.
#[derive(Debug)]
pub(crate) enum TenantState {
    /// It exists.
    Live(Tenant),
    /// It was deleted at this position. The number is never used again.
    Deleted { position: u64 },
}

/// A tenant that exists.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// The position of its creation.
    pub(crate) created_at: u64,
    /// Where acts and reads are recorded. Not among its streams.
    pub(crate) audit: Arc<Stream>,
    by_name: HashMap<String, Arc<Stream>>,
    by_id: BTreeMap<u64, Arc<Stream>>,
}

impl Tenant {
    /// The stream of this name under ASCII case folding.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Stream>> {
        self.by_name.get(&names::fold(name))
    }

    /// How many streams it has, its audit stream left out.
    pub(crate) fn stream_count(&self) -> usize {
        self.by_id.len()
    }

    /// Its streams by id, from the one after `after` on.
    pub(crate) fn streams_after(&self, after: u64) -> impl Iterator<Item = &Arc<Stream>> {
        let from = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        self.by_id.range(from).map(|(_, stream)| stream)
    }
}

impl Catalogue {
    /// What became of this tenant's number; `None` where it was never used.
    pub(crate) fn state(&self, tenant_id: u64) -> Option<&TenantState> {
        self.tenants.get(&tenant_id)
    }

    /// The tenant, where it exists.
    pub(crate) fn tenant(&self, tenant_id: u64) -> Option<&Tenant> {
        match self.tenants.get(&tenant_id) {
            Some(TenantState::Live(tenant)) => Some(tenant),
            _ => None,
        }
    }

    /// The tenant, or TENANT_NOT_FOUND.
    pub(crate) fn live(&self, tenant_id: u64) -> Result<&Tenant, Error> {
        self.tenant(tenant_id).ok_or_else(|| tenant_not_found(tenant_id))
    }

    /// The tenants that exist, in order.
    pub(crate) fn tenant_ids(&self) -> Vec<u64> {
        let live = self.tenants.iter().filter(|(_, t)| matches!(t, TenantState::Live(_)));
        live.map(|(id, _)| *id).collect()
    }

    /// What became of every number that was used, in order.
    pub(crate) fn states(&self) -> impl Iterator<Item = (u64, &TenantState)> {
        self.tenants.iter().map(|(id, state)| (*id, state))
    }

    /// Every stream, audit streams among them.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.streams.values()
    }

    /// Any stream, by id, audit streams among them.
    pub(crate) fn stream(&self, stream_id: u64) -> Option<&Arc<Stream>> {
        self.streams.get(&stream_id)
    }

    /// A stream as a tenant's clients may reach it: one of the tenant's own, and not its audit
    /// stream. STREAM_NOT_FOUND for any other, whatever it is.
    pub(crate) fn client_stream(&self, tenant_id: u64, id: u64) -> Result<&Arc<Stream>, Error> {
        match self.streams.get(&id) {
            Some(stream) if stream.identity.tenant_id == tenant_id && !stream.is_audit() => {
                Ok(stream)
            }
            _ => Err(stream_not_found(tenant_id, id)),
        }
    }

    /// The largest stream id that was given.
    pub(crate) fn last_stream_id(&self) -> u64 {
        self.last_stream_id
    }

    pub(crate) fn create_tenant(
        &mut self,
        tenant_id: u64,
        audit_stream_id: u64,
        timestamp_ns: u64,
        position: u64,
    ) {
        let audit = Arc::new(Stream::new(StreamIdentity {
            stream_id: audit_stream_id,
            tenant_id,
            name: AUDIT_STREAM.to_string(),
            data_class: DataClass::NonPhi,
            created_ns: timestamp_ns,
            created_at: position,
        }));
        self.restore_tenant(tenant_id, position, &audit);
    }

    /// Adds a tenant whose audit stream is there.
    pub(crate) fn restore_tenant(&mut self, tenant_id: u64, position: u64, audit: &Arc<Stream>) {
        self.add_stream(audit.identity.stream_id, audit);
        let (by_name, by_id) = (HashMap::new(), BTreeMap::new());
        let tenant = Tenant { created_at: position, audit: audit.clone(), by_name, by_id };
        self.tenants.insert(tenant_id, TenantState::Live(tenant));
    }

    /// Ends a tenant, its streams and everything that waits for them.
    pub(crate) fn delete_tenant(&mut self, tenant_id: u64, position: u64) {
        let deleted = TenantState::Deleted { position };
        if let Some(TenantState::Live(tenant)) = self.tenants.insert(tenant_id, deleted) {
            for stream in tenant.by_id.values().chain([&tenant.audit]) {
                self.streams.remove(&stream.identity.stream_id);
                stream.mark_deleted();
            }
        }
    }

    /// CORRUPTION where the tenant does not exist: the sequencer logs no such decision.
    pub(crate) fn create_stream(&mut self, identity: StreamIdentity) -> Result<(), Error> {
        let (tenant_id, stream_id) = (identity.tenant_id, identity.stream_id);
        if self.restore_stream(&Arc::new(Stream::new(identity))) {
            return Ok(());
        }
        let detail = format!("the log creates stream {stream_id} in no tenant ({tenant_id})");
        Err(Error::new(ErrorCode::Corruption, detail))
    }

    /// Adds a stream that is there; `false` where its tenant does not exist.
    pub(crate) fn restore_stream(&mut self, stream: &Arc<Stream>) -> bool {
        let (tenant_id, stream_id) = (stream.identity.tenant_id, stream.identity.stream_id);
        let Some(TenantState::Live(tenant)) = self.tenants.get_mut(&tenant_id) else {
            return false;
        };
        tenant.by_name.insert(names::fold(&stream.identity.name), stream.clone());
        tenant.by_id.insert(stream_id, stream.clone());
        self.add_stream(stream_id, stream);
        true
    }

    /// The largest id that was given may be that of a stream that is gone.
    pub(crate) fn restore_last_stream_id(&mut self, last_stream_id: u64) {
        self.last_stream_id = self.last_stream_id.max(last_stream_id);
    }

    fn add_stream(&mut self, stream_id: u64, stream: &Arc<Stream>) {
        self.streams.insert(stream_id, stream.clone());
        self.last_stream_id = self.last_stream_id.max(stream_id);
    }
}

pub(crate) fn tenant_not_found(tenant_id: u64) -> Error {
    Error::new(ErrorCode::TenantNotFound, format!("there is no tenant {tenant_id}"))
}

pub(crate) fn stream_not_found(tenant_id: u64, stream_id: u64) -> Error {
    let detail = format!("tenant {tenant_id} has no stream {stream_id}");
    Error::new(ErrorCode::StreamNotFound, detail)
}

pub(crate) fn name_not_found(tenant_id: u64, name: &str) -> Error {
    let detail = format!("tenant {tenant_id} has no stream named {name:?}");
    Error::new(ErrorCode::StreamNotFound, detail)
}
