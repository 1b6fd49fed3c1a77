//! A producer's sequence numbers: what makes appends happen exactly once. Used by the session and
//! by an embedded database's door alike.

use std::collections::VecDeque;

use crate::error::AppendKey;
use crate::generated::limit;

/// Outcomes that stay unknown hold the numbers after them in the server's memory. Once this many
/// numbers were given beyond such a one, a fresh producer costs less than holding on.
const MAX_SPAN_OVER_UNRESOLVED: usize = 64;

/// What became of a number that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Its append is under way.
    Pending,
    /// Nobody knows; the caller holds the key.
    Unresolved,
    /// It is known.
    Known,
}

/// What [`ProducerTable::take`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// A fresh number for an append, and what to send as its `acked_below`.
    Number {
        /// The producer and the number.
        key: AppendKey,
        /// Every number below this one has a known outcome.
        acked_below: u64,
    },
    /// As many appends as allowed are under way: wait until one has its outcome.
    Wait,
    /// Open a producer first and tell [`ProducerTable::opened`].
    Open,
}

/// The numbers of the producer in use. A producer whose window is held by unknown outcomes, or that
/// expired, is let go: its appends under way keep their keys, and a fresh one takes its place.
#[derive(Debug, Default)]
pub struct ProducerTable {
    producer_id: Option<u64>,
    /// The oldest number whose outcome is not known; `outcomes[0]` belongs to it.
    acked_below: u64,
    outcomes: VecDeque<Outcome>,
    unresolved: usize,
}

impl ProducerTable {
    /// A table without a producer.
    pub fn new() -> ProducerTable {
        ProducerTable::default()
    }

    /// The producer in use.
    pub const fn producer_id(&self) -> Option<u64> {
        self.producer_id
    }

    /// Starts over with a producer that was just opened.
    pub fn opened(&mut self, producer_id: u64) {
        *self = ProducerTable { producer_id: Some(producer_id), acked_below: 1, ..Self::default() };
    }

    /// Lets a producer go that has expired. Tells whether it was the one in use.
    pub fn expired(&mut self, producer_id: u64) -> bool {
        let in_use = self.producer_id == Some(producer_id);
        if in_use {
            *self = ProducerTable::default();
        }
        in_use
    }

    /// Whether [`ProducerTable::take`] would give a number.
    pub fn has_number(&self) -> bool {
        self.producer_id.is_some() && !self.is_held() && !self.is_full()
    }

    /// Whether [`ProducerTable::take`] would ask for a producer.
    pub fn needs_producer(&self) -> bool {
        self.producer_id.is_none() || self.is_held()
    }

    /// Whether unknown outcomes hold the window, so that a fresh producer is due.
    fn is_held(&self) -> bool {
        self.unresolved > 0 && self.outcomes.len() >= MAX_SPAN_OVER_UNRESOLVED
    }

    fn is_full(&self) -> bool {
        self.outcomes.len() as u64 >= limit::OUTSTANDING_APPENDS
    }

    /// A number for a new append.
    pub fn take(&mut self) -> Take {
        let Some(producer_id) = self.producer_id.filter(|_| !self.is_held()) else {
            return Take::Open;
        };
        if self.is_full() {
            return Take::Wait;
        }
        let sequence = self.acked_below + self.outcomes.len() as u64;
        self.outcomes.push_back(Outcome::Pending);
        let key = AppendKey { producer_id, sequence };
        Take::Number { key, acked_below: self.acked_below }
    }

    /// What to send as `acked_below` with a key that is there. Of the producer in use it never says
    /// that the repeat's own outcome is known: whoever asks again wants it told.
    ///
    /// A producer that was let go or belongs to someone else has numbers of which nothing is known
    /// here but the window: number n is used only by who knows the outcome of n minus
    /// [`limit::OUTSTANDING_APPENDS`]. To say that keeps the server from holding every outcome, and
    /// leaves each number open whose outcome may still be asked for.
    pub fn acked_below(&self, key: AppendKey) -> u64 {
        if self.producer_id == Some(key.producer_id) {
            return self.acked_below.min(key.sequence);
        }
        key.sequence.saturating_sub(limit::OUTSTANDING_APPENDS - 1).max(1)
    }

    /// The outcome is known, or the append was never sent and never will be. Repeats are harmless.
    pub fn settled(&mut self, key: AppendKey) {
        let Some(outcome) = self.outcome_mut(key) else {
            return;
        };
        let before = std::mem::replace(outcome, Outcome::Known);
        self.unresolved -= usize::from(before == Outcome::Unresolved);
        while self.outcomes.front() == Some(&Outcome::Known) {
            self.outcomes.pop_front();
            self.acked_below += 1;
        }
    }

    /// The append was sent and its outcome is unknown: the number is held until it is settled.
    pub fn unresolved(&mut self, key: AppendKey) {
        if let Some(outcome @ Outcome::Pending) = self.outcome_mut(key) {
            *outcome = Outcome::Unresolved;
            self.unresolved += 1;
        }
    }

    fn outcome_mut(&mut self, key: AppendKey) -> Option<&mut Outcome> {
        if self.producer_id != Some(key.producer_id) {
            return None;
        }
        let index = key.sequence.checked_sub(self.acked_below)?;
        self.outcomes.get_mut(usize::try_from(index).ok()?)
    }
}
