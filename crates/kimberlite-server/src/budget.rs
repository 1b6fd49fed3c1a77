//! What requests and buffers may take of the memory: of the whole server, and of each tenant.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::metrics::Bound;

/// Tenants without connections are forgotten when more than so many are remembered.
const SWEEP_ABOVE: usize = 64;
/// What a request counts beside its own bytes: about what keeping track of it takes.
const REQUEST_BYTES: usize = 1 << 10;
/// Larger frames than this leave a quarter of the whole to smaller ones.
const LARGE_BYTES: usize = 128 << 10;
/// What a connection may always buffer, so that it gets on however much others hold.
const BUFFER_LEAST_BYTES: usize = 4 << 10;
/// What a connection may buffer at most.
const BUFFER_MOST_BYTES: usize = 1 << 20;
/// A connection may buffer at most this part of what is free. So many connections that hold as much
/// as they may leave as much free for each newcomer.
const BUFFER_PART: usize = 4;

/// Bytes that several draw from.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    total: usize,
    bound: Bound,
}

impl Budget {
    fn new(total: usize, bound: Bound) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), total, bound })
    }

    /// Takes `bytes` where they fit under `most` of the whole.
    fn take(self: &Arc<Budget>, bytes: usize, most: usize) -> Result<Part, Refused> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= most);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Part { budget: self.clone(), bytes }),
            Err(_) => Err(Refused { bound: self.bound, total: self.total }),
        }
    }
}

/// A bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) bound: Bound,
    pub(crate) total: usize,
}

/// Bytes of a budget, given back when it is dropped.
#[derive(Debug)]
struct Part {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What the requests of all connections draw from.
#[derive(Debug)]
pub(crate) struct Requests {
    whole: Arc<Budget>,
    tenant_bytes: usize,
    tenants: Mutex<HashMap<u64, Weak<Budget>>>,
}

impl Requests {
    pub(crate) fn new(total_bytes: usize, tenant_bytes: usize) -> Requests {
        Requests {
            whole: Budget::new(total_bytes, Bound::TotalQueueBytes),
            tenant_bytes,
            tenants: Mutex::default(),
        }
    }

    /// What the requests of this tenant draw from.
    pub(crate) fn of(&self, tenant_id: u64) -> TenantRequests {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tenants.get(&tenant_id).and_then(Weak::upgrade);
        let tenant = known.unwrap_or_else(|| {
            if tenants.len() > SWEEP_ABOVE {
                tenants.retain(|_, tenant| tenant.strong_count() > 0);
            }
            let made = Budget::new(self.tenant_bytes, Bound::TenantQueueBytes);
            tenants.insert(tenant_id, Arc::downgrade(&made));
            made
        });
        TenantRequests { tenant, whole: self.whole.clone() }
    }

    /// Bytes that are taken.
    pub(crate) fn used(&self) -> usize {
        self.whole.used.load(Ordering::Relaxed)
    }
}

/// What the requests of one tenant draw from: its own part, and the whole.
#[derive(Debug)]
pub(crate) struct TenantRequests {
    tenant: Arc<Budget>,
    whole: Arc<Budget>,
}

impl TenantRequests {
    /// Takes room for a request that has arrived with so many bytes.
    pub(crate) fn request(&self, bytes: usize) -> Result<Share, Refused> {
        self.take(bytes.saturating_add(REQUEST_BYTES), self.whole.total)
    }

    /// Takes room for a frame of which so much has yet to come. A quarter of the whole is kept
    /// from large ones, so that small requests find room beside them.
    pub(crate) fn frame(&self, bytes: usize) -> Result<Share, Refused> {
        let total = self.whole.total;
        self.take(bytes, if bytes > LARGE_BYTES { total / 4 * 3 } else { total })
    }

    fn take(&self, bytes: usize, most: usize) -> Result<Share, Refused> {
        let of_tenant = self.tenant.take(bytes, self.tenant.total)?;
        let of_whole = self.whole.take(bytes, most)?;
        Ok(Share { of_tenant, _of_whole: of_whole })
    }
}

/// Room for a request, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of_tenant: Part,
    _of_whole: Part,
}

impl Share {
    /// How many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.of_tenant.bytes
    }
}

/// What all connections buffer: bytes received and not looked at, and bytes that wait to be sent.
#[derive(Debug)]
pub(crate) struct Buffers {
    used: AtomicUsize,
    total: usize,
}

impl Buffers {
    pub(crate) fn new(total: usize) -> Arc<Buffers> {
        Arc::new(Buffers { used: AtomicUsize::new(0), total })
    }

    /// Bytes that are buffered.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether all of it is used.
    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.total
    }

    /// The whole.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// What one connection may buffer now.
    fn allowance(&self) -> usize {
        let free = self.total.saturating_sub(self.used());
        (free / BUFFER_PART).clamp(BUFFER_LEAST_BYTES, BUFFER_MOST_BYTES)
    }
}

/// What one connection buffers; nothing any more once it is dropped.
#[derive(Debug)]
pub(crate) struct Buffered {
    of: Arc<Buffers>,
    bytes: usize,
}

impl Buffered {
    pub(crate) fn new(of: &Arc<Buffers>) -> Buffered {
        Buffered { of: of.clone(), bytes: 0 }
    }

    /// Tells how much it is now, and learns how much it may be.
    pub(crate) fn set(&mut self, bytes: usize) -> usize {
        if bytes > self.bytes {
            self.of.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.of.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        self.of.allowance()
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares add up to at most the whole and to at most the tenant's part, large frames to three
    /// quarters of the whole, and come back; a refusal names its bound and takes nothing.
    #[test]
    fn shares_are_bounded_and_come_back() {
        let requests = Requests::new(1_000 << 10, 800 << 10);
        let (one, two) = (requests.of(1), requests.of(2));
        let large = one.frame(650 << 10).unwrap();
        let same = requests.of(1).request(150 << 10);
        assert_eq!(same.unwrap_err().bound, Bound::TenantQueueBytes);
        assert_eq!(two.frame(129 << 10).unwrap_err().bound, Bound::TotalQueueBytes);
        let small = two.frame(128 << 10).unwrap();
        let rest = two.request(221 << 10).unwrap();
        let refused = Refused { bound: Bound::TotalQueueBytes, total: 1_000 << 10 };
        assert_eq!(two.request(0).unwrap_err(), refused);
        assert!(two.request(usize::MAX).is_err());
        assert_eq!((large.bytes(), rest.bytes()), (650 << 10, 222 << 10));
        drop((large, small));
        assert_eq!(requests.used(), 222 << 10);
        drop(rest);
        assert_eq!(requests.used(), 0);
    }

    /// However many connections buffer all that they may, the whole is not passed by more than what
    /// each may always have, and a newcomer gets a fair part.
    #[test]
    fn buffers_are_shared() {
        let buffers = Buffers::new(64 << 20);
        let mut greedy: Vec<Buffered> = (0..200).map(|_| Buffered::new(&buffers)).collect();
        for _ in 0..50 {
            for one in &mut greedy {
                let allowance = one.set(one.bytes);
                let more = allowance.saturating_sub(one.bytes).min(64 << 10);
                one.set(one.bytes + more);
            }
        }
        let used = buffers.used();
        assert!(used > 48 << 20 && used <= 65 << 20, "{used}");
        let newcomer = Buffered::new(&buffers).set(0);
        assert!(newcomer >= 64 << 10, "{newcomer}");
        drop(greedy);
        assert_eq!(buffers.used(), 0);
        assert_eq!(Buffered::new(&buffers).set(0), BUFFER_MOST_BYTES);
    }
}
