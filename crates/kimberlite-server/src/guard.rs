//! Slows the guessing of tokens: each peer address has a bucket of failures that refills slowly.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::LimitsConfig;

/// Addresses that are remembered at a time; later ones share one bucket.
const MAX_ADDRESSES: usize = 4_096;

/// What an address may still do.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Failures that are still allowed at once.
    left: f64,
    updated: Instant,
}

/// Counts wrong tokens by peer address, in bounded memory.
#[derive(Debug)]
pub(crate) struct Guard {
    burst: f64,
    per_second: f64,
    buckets: HashMap<Peer, Bucket>,
    overflow: Option<Bucket>,
}

/// An IPv4 address, or the first half of an IPv6 address: whoever has one of its addresses
/// usually has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Peer(u64);

impl Peer {
    fn of(address: IpAddr) -> Peer {
        match address.to_canonical() {
            IpAddr::V4(v4) => Peer(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Peer((v6.to_bits() >> 64) as u64),
        }
    }
}

impl Guard {
    pub(crate) fn new(limits: &LimitsConfig) -> Guard {
        Guard {
            burst: f64::from(limits.auth_failures_burst),
            per_second: f64::from(limits.auth_failures_per_minute) / 60.0,
            buckets: HashMap::new(),
            overflow: None,
        }
    }

    /// How long this address has to wait before its next token is looked at; `None`: not at all.
    pub(crate) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let known = self.buckets.get(&Peer::of(address));
        let full = self.buckets.len() >= MAX_ADDRESSES;
        let bucket = known.or(self.overflow.as_ref().filter(|_| full))?;
        let left = self.refilled(bucket, now);
        (left < 1.0).then(|| Duration::from_secs_f64((1.0 - left) / self.per_second))
    }

    /// Counts a wrong token.
    pub(crate) fn failed(&mut self, address: IpAddr, now: Instant) {
        let peer = Peer::of(address);
        if self.buckets.len() >= MAX_ADDRESSES && !self.buckets.contains_key(&peer) {
            let (burst, per_second) = (self.burst, self.per_second);
            self.buckets.retain(|_, bucket| refilled(bucket, burst, per_second, now) < burst);
        }
        let fresh = Bucket { left: self.burst, updated: now };
        let (burst, per_second) = (self.burst, self.per_second);
        let full = self.buckets.len() >= MAX_ADDRESSES && !self.buckets.contains_key(&peer);
        let bucket = if full {
            self.overflow.get_or_insert(fresh)
        } else {
            self.buckets.entry(peer).or_insert(fresh)
        };
        bucket.left = (refilled(bucket, burst, per_second, now) - 1.0).max(0.0);
        bucket.updated = now;
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> f64 {
        refilled(bucket, self.burst, self.per_second, now)
    }
}

fn refilled(bucket: &Bucket, burst: f64, per_second: f64, now: Instant) -> f64 {
    let seconds = now.saturating_duration_since(bucket.updated).as_secs_f64();
    (bucket.left + seconds * per_second).min(burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn guard(burst: u32, per_minute: u32) -> Guard {
        Guard::new(&LimitsConfig {
            auth_failures_burst: burst,
            auth_failures_per_minute: per_minute,
            ..LimitsConfig::default()
        })
    }

    /// The burst is allowed, then the address waits; time lets it try again, once.
    #[test]
    fn slows_after_the_burst() {
        let mut guard = guard(3, 60);
        let (address, start) = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), Instant::now());
        for _ in 0..3 {
            assert_eq!(guard.wait(address, start), None);
            guard.failed(address, start);
        }
        let wait = guard.wait(address, start).unwrap();
        assert!(wait <= Duration::from_secs(1) && wait > Duration::from_millis(900), "{wait:?}");
        assert_eq!(guard.wait(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), start), None);
        let later = start + Duration::from_millis(1_100);
        assert_eq!(guard.wait(address, later), None);
        guard.failed(address, later);
        assert!(guard.wait(address, later).is_some());
    }

    /// A mapped IPv4 address is the same peer; so are the addresses of one IPv6 network.
    #[test]
    fn knows_a_peer_by_its_network() {
        let mut guard = guard(1, 1);
        let now = Instant::now();
        let v4 = Ipv4Addr::new(10, 0, 0, 1);
        guard.failed(IpAddr::V4(v4), now);
        assert!(guard.wait(IpAddr::V6(v4.to_ipv6_mapped()), now).is_some());
        guard.failed(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1)), now);
        let neighbour = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 9, 9, 9, 9);
        assert!(guard.wait(IpAddr::V6(neighbour), now).is_some());
    }

    /// However many addresses guess, memory stays bounded, and newcomers share one bucket until
    /// others have recovered.
    #[test]
    fn memory_is_bounded() {
        let mut guard = guard(2, 60);
        let start = Instant::now();
        for number in 0..2 * MAX_ADDRESSES as u32 {
            guard.failed(IpAddr::V4(Ipv4Addr::from_bits(number)), start);
        }
        assert_eq!(guard.buckets.len(), MAX_ADDRESSES);
        let newcomer = IpAddr::V4(Ipv4Addr::new(200, 0, 0, 1));
        assert!(guard.wait(newcomer, start).is_some());
        let later = start + Duration::from_secs(10);
        guard.failed(newcomer, later);
        assert_eq!(guard.buckets.len(), 1);
    }
}
