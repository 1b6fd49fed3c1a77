//! Memory that queries share: each holds a little by itself, and draws what it needs beyond that
//! from its tenant's part, which draws from the whole.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Tenants without queries are forgotten when so many are remembered.
const SWEEP_ABOVE: usize = 64;

/// Memory with a bound, of which several queries take.
#[derive(Debug)]
pub struct SharedMemory {
    used: AtomicU64,
    limit: u64,
    /// The option that sets the bound.
    option: &'static str,
    whole: Option<Arc<SharedMemory>>,
}

impl SharedMemory {
    fn new(
        limit: u64,
        option: &'static str,
        whole: Option<Arc<SharedMemory>>,
    ) -> Arc<SharedMemory> {
        Arc::new(SharedMemory { used: AtomicU64::new(0), limit, option, whole })
    }

    /// Takes bytes here and of the whole, or nothing: then the memory that refused them.
    pub(super) fn take(&self, bytes: u64) -> Result<(), &SharedMemory> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return Err(self);
        }
        match &self.whole {
            None => Ok(()),
            Some(whole) => whole.take(bytes).inspect_err(|_| self.give_here(bytes)),
        }
    }

    /// Gives back what was taken.
    pub(super) fn give(&self, bytes: u64) {
        self.give_here(bytes);
        if let Some(whole) = &self.whole {
            whole.give(bytes);
        }
    }

    fn give_here(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that are taken.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What an error says of the bound.
    pub(super) fn bound(&self) -> (u64, &'static str) {
        (self.limit, self.option)
    }
}

/// The memory of a database's queries.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    pub(crate) whole: Arc<SharedMemory>,
    tenant_limit: u64,
    tenants: Mutex<HashMap<u64, Weak<SharedMemory>>>,
}

impl QueryMemory {
    pub(crate) fn new(total_bytes: u64, tenant_bytes: u64) -> QueryMemory {
        QueryMemory {
            whole: SharedMemory::new(total_bytes, "query_total_memory_bytes", None),
            tenant_limit: tenant_bytes,
            tenants: Mutex::default(),
        }
    }

    /// What the queries of this tenant share.
    pub(crate) fn of(&self, tenant_id: u64) -> Arc<SharedMemory> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = tenants.get(&tenant_id).and_then(Weak::upgrade) {
            return found;
        }
        if tenants.len() > SWEEP_ABOVE {
            tenants.retain(|_, tenant| tenant.strong_count() > 0);
        }
        let whole = Some(self.whole.clone());
        let made = SharedMemory::new(self.tenant_limit, "query_tenant_memory_bytes", whole);
        tenants.insert(tenant_id, Arc::downgrade(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tenant takes its part and no more, all together the whole and no more, and what is given
    /// back can be taken again; a refusal takes nothing and names its option.
    #[test]
    fn parts_and_the_whole_are_bounded() {
        let memory = QueryMemory::new(100, 70);
        let (one, two) = (memory.of(1), memory.of(2));
        one.take(70).unwrap();
        assert_eq!(memory.of(1).take(1).unwrap_err().bound(), (70, "query_tenant_memory_bytes"));
        assert_eq!(two.take(31).unwrap_err().bound(), (100, "query_total_memory_bytes"));
        two.take(30).unwrap();
        assert_eq!(memory.whole.used(), 100);
        one.give(70);
        assert_eq!((memory.whole.used(), one.used(), two.used()), (30, 0, 30));
        two.take(40).unwrap();
    }
}
