//! What appends became of, so that a repeat of one gets its first answer.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use kimberlite_log::RequestRow;
use kimberlite_wire::limit;

/// A producer that does nothing for so long is forgotten.
pub(crate) const IDLE_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many producers one decision forgets to make room in a tenant that has too many.
pub(crate) const EXPIRED_FOR_ROOM: usize = 256;

/// A producer whose outcomes take room that others need is not forgotten before it was idle for so
/// long: within it, callers settle what a lost connection left open.
pub(crate) const SETTLING: Duration = Duration::from_secs(60);

/// What became of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stream_id: u64,
    pub(crate) first_offset: u64,
    pub(crate) position: u64,
    pub(crate) timestamp_ns: u64,
    pub(crate) count: u32,
    pub(crate) digest: u32,
}

/// One producer: whose it is and what it did last.
#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) tenant_id: u64,
    pub(crate) principal: String,
    /// It knows what became of every sequence number below.
    pub(crate) acked_below: u64,
    /// By log time, so that every member forgets it at the same entry.
    pub(crate) last_used_ns: u64,
    /// By sequence number.
    outcomes: VecDeque<(u64, Outcome)>,
}

impl Producer {
    pub(crate) fn outcome(&self, sequence: u64) -> Option<&Outcome> {
        let at = self.outcomes.binary_search_by_key(&sequence, |(seq, _)| *seq).ok()?;
        self.outcomes.get(at).map(|(_, outcome)| outcome)
    }

    /// Every outcome that is remembered, by sequence number.
    pub(crate) fn all_outcomes(&self) -> &VecDeque<(u64, Outcome)> {
        &self.outcomes
    }

    /// How many outcomes it holds.
    pub(crate) fn held(&self) -> usize {
        self.outcomes.len()
    }

    /// How many outcomes are forgotten once it knows every one below `sequence`.
    pub(crate) fn outcomes_below(&self, sequence: u64) -> usize {
        self.outcomes.partition_point(|(seq, _)| *seq < sequence)
    }
}

/// Every producer of the log. Belongs to the commit thread.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    producers: HashMap<u64, Producer>,
    per_tenant: HashMap<u64, usize>,
    outcomes: usize,
    last_id: u64,
}

impl Producers {
    pub(crate) fn get(&self, producer_id: u64) -> Option<&Producer> {
        self.producers.get(&producer_id)
    }

    /// How many outcomes are remembered in all.
    pub(crate) fn outcomes(&self) -> usize {
        self.outcomes
    }

    /// How many producers a tenant has open.
    pub(crate) fn count_of(&self, tenant_id: u64) -> usize {
        self.per_tenant.get(&tenant_id).copied().unwrap_or(0)
    }

    /// The largest id that was given.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// None of those up to this id.
    pub(crate) fn after(last_id: u64) -> Producers {
        Producers { last_id, ..Producers::default() }
    }

    /// Every producer, by id.
    pub(crate) fn sorted(&self) -> Vec<(u64, &Producer)> {
        let mut sorted: Vec<_> = self.producers.iter().map(|(id, p)| (*id, p)).collect();
        sorted.sort_unstable_by_key(|(id, _)| *id);
        sorted
    }

    /// Adds a producer as it was, with the outcomes that it does not know yet.
    pub(crate) fn restore(
        &mut self,
        id: u64,
        tenant_id: u64,
        principal: String,
        (acked_below, last_used_ns): (u64, u64),
        outcomes: VecDeque<(u64, Outcome)>,
    ) {
        self.open(id, tenant_id, principal, last_used_ns);
        self.outcomes += outcomes.len();
        if let Some(producer) = self.producers.get_mut(&id) {
            (producer.acked_below, producer.outcomes) = (acked_below, outcomes);
        }
    }

    pub(crate) fn open(&mut self, id: u64, tenant_id: u64, principal: String, timestamp_ns: u64) {
        let producer = Producer {
            tenant_id,
            principal,
            acked_below: 0,
            last_used_ns: timestamp_ns,
            outcomes: VecDeque::new(),
        };
        self.producers.insert(id, producer);
        *self.per_tenant.entry(tenant_id).or_default() += 1;
        self.last_id = self.last_id.max(id);
    }

    /// Remembers what became of an append, and forgets what its producer knows.
    pub(crate) fn record(&mut self, row: &RequestRow, position: u64, timestamp_ns: u64) {
        let Some(producer) = self.producers.get_mut(&row.producer_id) else {
            return;
        };
        producer.last_used_ns = timestamp_ns;
        let before = producer.outcomes.len();
        if row.acked_below > producer.acked_below {
            producer.acked_below = row.acked_below;
            let known = producer.outcomes_below(row.acked_below);
            producer.outcomes.drain(..known);
        }
        let outcome = Outcome {
            stream_id: row.stream_id,
            first_offset: row.first_offset,
            position,
            timestamp_ns,
            count: row.count,
            digest: row.digest,
        };
        match producer.outcomes.binary_search_by_key(&row.sequence, |(seq, _)| *seq) {
            // The sequencer logs a sequence number once.
            Ok(_) => {}
            Err(at) => producer.outcomes.insert(at, (row.sequence, outcome)),
        }
        self.outcomes = self.outcomes + producer.outcomes.len() - before;
    }

    pub(crate) fn expire(&mut self, producer_ids: &[u64]) {
        for id in producer_ids {
            if let Some(producer) = self.producers.remove(id) {
                self.outcomes -= producer.outcomes.len();
                if let Some(count) = self.per_tenant.get_mut(&producer.tenant_id) {
                    *count -= 1;
                }
            }
        }
    }

    /// Forgets the producers of a tenant that is gone.
    pub(crate) fn delete_tenant(&mut self, tenant_id: u64) {
        let gone: Vec<u64> = self.ids_of(tenant_id).collect();
        self.expire(&gone);
        self.per_tenant.remove(&tenant_id);
    }

    /// Those that did nothing since `IDLE_EXPIRY` before `now_ns`, the longest idle first, as many
    /// as one decision can hold.
    pub(crate) fn idle(&self, now_ns: u64) -> Vec<u64> {
        let bound = now_ns.saturating_sub(IDLE_EXPIRY.as_nanos() as u64);
        let idle = self.producers.iter().filter(|(_, p)| p.last_used_ns < bound);
        oldest(idle.map(|(id, p)| (p.last_used_ns, *id)), limit::LIST_ELEMENTS as usize)
    }

    /// The longest idle ones of a tenant, to make room for new ones.
    pub(crate) fn longest_idle_of(&self, tenant_id: u64, count: usize) -> Vec<u64> {
        let own = self.producers.iter().filter(|(_, p)| p.tenant_id == tenant_id);
        oldest(own.map(|(id, p)| (p.last_used_ns, *id)), count)
    }

    /// Those to forget so that at least `outcomes` outcomes make room for `tenant_id`: of the tenants
    /// that hold the most, the longest idle first. Who did anything within `SETTLING` before
    /// `now_ns` is spared, unless its tenant holds more than twice as many as the one in need: no
    /// tenant can keep another's appends out by filling the log's memory.
    pub(crate) fn to_forget_for(&self, tenant_id: u64, now_ns: u64, outcomes: usize) -> Vec<u64> {
        let bound = now_ns.saturating_sub(SETTLING.as_nanos() as u64);
        let mut held: HashMap<u64, usize> = HashMap::new();
        for producer in self.producers.values() {
            *held.entry(producer.tenant_id).or_default() += producer.outcomes.len();
        }
        let twice_its_own = 2 * held.get(&tenant_id).copied().unwrap_or(0);
        let may_go = |p: &Producer| {
            let spared = p.last_used_ns >= bound && held[&p.tenant_id] <= twice_its_own;
            !spared && !p.outcomes.is_empty()
        };
        let mut found: Vec<_> = self.producers.iter().filter(|(_, p)| may_go(p)).collect();
        found.sort_unstable_by_key(|(id, p)| (Reverse(held[&p.tenant_id]), p.last_used_ns, **id));
        let mut room = 0;
        let still_needed = |(_, producer): &(&u64, &Producer)| {
            let needed = room < outcomes;
            room += producer.outcomes.len();
            needed
        };
        let chosen = found.into_iter().take(limit::LIST_ELEMENTS as usize).take_while(still_needed);
        chosen.map(|(id, _)| *id).collect()
    }

    fn ids_of(&self, tenant_id: u64) -> impl Iterator<Item = u64> + '_ {
        let own = self.producers.iter().filter(move |(_, p)| p.tenant_id == tenant_id);
        own.map(|(id, _)| *id)
    }
}

fn oldest(producers: impl Iterator<Item = (u64, u64)>, count: usize) -> Vec<u64> {
    let mut sorted: Vec<(u64, u64)> = producers.collect();
    sorted.sort_unstable();
    sorted.into_iter().take(count).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sequence: u64, acked_below: u64) -> RequestRow {
        RequestRow { producer_id: 1, sequence, acked_below, count: 1, ..RequestRow::default() }
    }

    /// Outcomes stay until the producer knows them, whatever order they come in, and the total is
    /// right throughout.
    #[test]
    fn outcomes_come_and_go() {
        let mut producers = Producers::default();
        producers.open(1, 7, "ann".to_string(), 5);
        for sequence in [2, 1, 5, 4] {
            producers.record(&row(sequence, 1), sequence * 10, 6);
        }
        assert_eq!(producers.outcomes(), 4);
        let producer = producers.get(1).unwrap();
        assert_eq!(producer.outcome(5).unwrap().position, 50);
        assert!(producer.outcome(3).is_none());
        producers.record(&row(6, 5), 60, 7);
        assert_eq!(producers.outcomes(), 2);
        assert!(producers.get(1).unwrap().outcome(4).is_none());
        assert_eq!(producers.get(1).unwrap().acked_below, 5);
        producers.expire(&[1, 9]);
        assert_eq!((producers.outcomes(), producers.count_of(7)), (0, 0));
    }

    /// Idle producers are found by log time, the longest idle first, per tenant or in all.
    #[test]
    fn idle_producers_are_found() {
        let mut producers = Producers::default();
        let day = 24 * 3600 * 1_000_000_000u64;
        for (id, tenant, day_used) in [(1, 7, 3), (2, 8, 1), (3, 7, 2), (4, 7, 9)] {
            producers.open(id, tenant, String::new(), day_used * day);
        }
        assert_eq!(producers.idle(10 * day), vec![2, 3]);
        assert_eq!(producers.longest_idle_of(7, 2), vec![3, 1]);
        producers.delete_tenant(7);
        assert_eq!((producers.count_of(7), producers.count_of(8)), (0, 1));
        assert_eq!(producers.last_id(), 4);
    }
}
