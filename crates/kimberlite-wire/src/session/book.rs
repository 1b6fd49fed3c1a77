//! The addresses: which to dial next, when, and what became of each.

use super::util::Random;
use crate::error::Error;
use crate::generated::{ErrorCode, limit};

/// One address.
#[derive(Debug)]
struct Entry {
    address: String,
    /// Dialled in this round.
    tried: bool,
    /// Why it is not in use.
    error: Option<Error>,
}

/// The addresses. They are tried in rounds: each once, the preferred one first; a pause lies
/// between rounds.
#[derive(Debug)]
pub(super) struct AddressBook {
    entries: Vec<Entry>,
    preferred: usize,
    /// Rounds that went by without reaching anyone.
    pub(super) failed_rounds: u64,
    failures: u32,
    /// No dialling before this time.
    pub(super) not_before_ms: u64,
    backoff_ms: u64,
    random: Random,
}

impl AddressBook {
    pub(super) fn new(addresses: &[String], backoff_ms: u64, random: Random) -> AddressBook {
        let entry =
            |address: &String| Entry { address: address.clone(), tried: false, error: None };
        AddressBook {
            entries: addresses.iter().map(entry).collect(),
            preferred: 0,
            failed_rounds: 0,
            failures: 0,
            not_before_ms: 0,
            backoff_ms,
            random,
        }
    }

    pub(super) fn address(&self, index: usize) -> &str {
        self.entries.get(index).map_or("", |entry| &entry.address)
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// The next address to try in this round.
    pub(super) fn next_untried(&self) -> Option<usize> {
        let count = self.entries.len();
        (0..count).map(|i| (self.preferred + i) % count).find(|i| !self.entries[*i].tried)
    }

    pub(super) fn dialled(&mut self, index: usize) {
        self.entries[index].tried = true;
    }

    pub(super) fn set_error(&mut self, index: usize, error: Error) {
        self.entries[index].error = Some(error);
    }

    /// Starts the next round at this address.
    pub(super) fn prefer(&mut self, index: usize) {
        self.preferred = index;
        self.entries.iter_mut().for_each(|entry| entry.tried = false);
    }

    /// A server at this address welcomed us.
    pub(super) fn reached(&mut self, index: usize) {
        self.prefer(index);
        self.entries.iter_mut().for_each(|entry| entry.error = None);
    }

    /// A server answered a request: what comes next is no repeated failure.
    pub(super) fn proved(&mut self) {
        self.failures = 0;
    }

    /// Nobody was reached in this round: the next one begins after a pause.
    pub(super) fn round_failed(&mut self, now_ms: u64) {
        self.failed_rounds += 1;
        self.entries.iter_mut().for_each(|entry| entry.tried = false);
        self.pause(now_ms);
    }

    /// Waits longer after each failure in a row.
    pub(super) fn pause(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        let pause_ms = self.random.backoff_ms(self.backoff_ms, self.failures);
        self.not_before_ms = now_ms.saturating_add(pause_ms);
    }

    /// Waits as long as a server asked for, where that is longer.
    pub(super) fn pause_at_least(&mut self, now_ms: u64, pause_ms: u64) {
        self.not_before_ms = self.not_before_ms.max(now_ms.saturating_add(pause_ms));
    }

    /// The connection in use was lost: every client of the server sees that at the same moment, so
    /// that a moment's jitter spreads them; one that never was of use counts as a failure.
    pub(super) fn lost(&mut self, index: usize, error: Error, was_of_use: bool, now_ms: u64) {
        self.set_error(index, error);
        self.prefer(index);
        if was_of_use {
            self.not_before_ms = now_ms.saturating_add(self.random.up_to(self.backoff_ms));
        } else {
            self.pause(now_ms);
        }
    }

    /// The pause before a refused call is sent again.
    pub(super) fn retry_pause_ms(&mut self, refusals: u32) -> u64 {
        self.random.backoff_ms(self.backoff_ms, refusals)
    }

    /// The index of a server that another one named. One that is not in the book is added, with the
    /// transport of the address that named it.
    pub(super) fn find_or_add(&mut self, name: &str, named_by: usize) -> Option<usize> {
        let host = |address: &str| address.rsplit("://").next().map(str::to_ascii_lowercase);
        let wanted = host(name);
        let known = self.entries.iter().position(|entry| host(&entry.address) == wanted);
        if known.is_some() || self.entries.len() as u64 >= 2 * limit::ADDRESSES {
            return known;
        }
        let address = match self.address(named_by).split_once("://") {
            Some((scheme, _)) if !name.contains("://") => format!("{scheme}://{name}"),
            _ => name.to_string(),
        };
        self.entries.push(Entry { address, tried: false, error: None });
        Some(self.entries.len() - 1)
    }

    /// The error of whoever waited for a server: CONNECTION_FAILED where none was ever reached,
    /// CLUSTER_UNAVAILABLE afterwards, and OVERLOADED where a server was reached that has no room,
    /// or makes this address wait after wrong tokens. It names each address and what became of it.
    pub(super) fn unreachable(&self, ever_reached: bool) -> Error {
        let errors = self.entries.iter().filter_map(|entry| entry.error.as_ref());
        let overloaded = errors.filter(|error| error.code == ErrorCode::Overloaded);
        let retry_after_ms = overloaded.map(|error| error.retry_after_ms).min();
        let code = match retry_after_ms {
            Some(_) => ErrorCode::Overloaded,
            None if ever_reached => ErrorCode::ClusterUnavailable,
            None => ErrorCode::ConnectionFailed,
        };
        let mut detail = String::from("Tried ");
        for (index, entry) in self.entries.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let why = match &entry.error {
                Some(error) if error.detail.is_empty() => error.code.message(),
                Some(error) => &error.detail,
                None => "no answer yet",
            };
            detail.push_str(&format!("{separator}{}: {why}", entry.address));
        }
        if self.entries.is_empty() {
            detail = String::from("There is no address to try.");
        }
        let mut error = Error::new(code, detail);
        error.retry_after_ms = retry_after_ms.unwrap_or(0);
        error
    }
}
