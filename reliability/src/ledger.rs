//! What clients were told, and whether the streams bear it out.
//!
//! Each event says which append it belongs to and which of its events it is, so that what stands in
//! a stream can be held against what its writer was told: acknowledged appends are there once and
//! where they were said to be, refused ones nowhere, unknown ones once or not at all, and none in
//! part.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kimberlite_client::{AppendKey, StreamId, VerifiedHead};

/// Bytes before an event's padding: append, index, count.
const HEADER_BYTES: usize = 16;

/// One append of a worker.
#[derive(Clone, Debug)]
pub struct Append {
    /// Its number, the same in each of its events.
    pub id: u64,
    /// Where it went.
    pub stream: StreamId,
    /// How many events it has.
    pub count: u32,
    /// Bytes of padding in each.
    pub padding: usize,
    /// The place of the client that sent it: what it left unsettled holds up its client's producer.
    pub client: usize,
}

impl Append {
    /// Its events.
    pub fn events(&self) -> Vec<Vec<u8>> {
        let event = |index: u32| {
            let mut bytes = Vec::with_capacity(HEADER_BYTES + self.padding);
            bytes.extend(self.id.to_le_bytes());
            bytes.extend(index.to_le_bytes());
            bytes.extend(self.count.to_le_bytes());
            bytes.resize(HEADER_BYTES + self.padding, self.id as u8);
            bytes
        };
        (0..self.count).map(event).collect()
    }
}

/// What its writer was told of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Under way.
    Nothing,
    /// Done, from this offset on.
    Done(u64),
    /// Not done.
    Refused,
    /// Perhaps done; the key settles it.
    Unknown(AppendKey),
}

/// Everything that was told since the last check, and what was proven until then.
#[derive(Default)]
pub struct Ledger {
    told: Mutex<HashMap<u64, (Append, Told)>>,
    /// The end of each stream, as somebody was shown it: by an event read or a count.
    seen: Mutex<HashMap<u64, u64>>,
    proven: Mutex<HashMap<u64, VerifiedHead>>,
    totals: Mutex<Totals>,
}

/// Sums for the closing line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Appends acknowledged, and their events.
    pub appends: u64,
    /// See `appends`.
    pub events: u64,
    /// Appends refused.
    pub refused: u64,
    /// Appends whose outcome was unknown and was settled.
    pub settled: u64,
    /// Of those, the ones that had been done at the first attempt.
    pub settled_done: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the mutexes hold is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Notes an append before it is sent.
    pub fn begin(&self, append: &Append) {
        locked(&self.told).insert(append.id, (append.clone(), Told::Nothing));
    }

    /// Notes its answer.
    pub fn end(&self, id: u64, told: Told) {
        if let Some(entry) = locked(&self.told).get_mut(&id) {
            entry.1 = told;
        }
    }

    /// Notes that somebody was shown a stream's events below `end`: they may never go.
    pub fn saw(&self, stream: StreamId, end: u64) {
        let mut seen = locked(&self.seen);
        let known = seen.entry(stream.0).or_default();
        *known = end.max(*known);
    }

    /// The appends whose outcome nobody knows yet.
    pub fn unknown(&self) -> Vec<(Append, AppendKey)> {
        let told = locked(&self.told);
        let unknown = |(append, told): &(Append, Told)| match told {
            Told::Unknown(key) => Some((append.clone(), *key)),
            _ => None,
        };
        told.values().filter_map(unknown).collect()
    }

    /// Counts one that was settled.
    pub fn settled(&self, done_before: bool) {
        let mut totals = locked(&self.totals);
        totals.settled += 1;
        totals.settled_done += u64::from(done_before);
    }

    /// How far a stream is proven.
    pub fn proven(&self, stream: StreamId) -> Option<VerifiedHead> {
        locked(&self.proven).get(&stream.0).copied()
    }

    /// Holds what stands in a stream, from where it was proven on, against what was told. The
    /// appends found are forgotten; `finish` looks at those that are left.
    pub fn check(
        &self,
        stream: StreamId,
        from_offset: u64,
        events: &[Vec<u8>],
        head: VerifiedHead,
    ) -> Result<(), String> {
        let mut told = locked(&self.told);
        let mut totals = locked(&self.totals);
        let mut at = 0;
        while let Some(first) = events.get(at) {
            let offset = from_offset + at as u64;
            let place = format!("stream {} offset {offset}", stream.0);
            let (id, index, count) = parse(first).ok_or_else(|| format!("{place}: torn"))?;
            let (append, answer) =
                told.remove(&id).ok_or_else(|| format!("{place}: append {id} stands twice"))?;
            let wanted = append.events();
            if index != 0 || count != append.count || stream != append.stream {
                return Err(format!("{place}: event {index} of append {id} is out of place"));
            }
            if events.get(at..at + wanted.len()) != Some(wanted.as_slice()) {
                return Err(format!("{place}: append {id} is there in part"));
            }
            match answer {
                Told::Done(first) if first == offset => {}
                other => return Err(format!("{place}: append {id} stands there, told {other:?}")),
            }
            totals.appends += 1;
            totals.events += u64::from(count);
            at += wanted.len();
        }
        let end = from_offset + at as u64;
        let seen = locked(&self.seen).get(&stream.0).copied().unwrap_or(0);
        if seen > end || head.next_offset != end {
            let proven = head.next_offset;
            return Err(format!(
                "stream {} ends at {end}, was seen up to {seen}, its chain is proven up to {proven}",
                stream.0
            ));
        }
        locked(&self.proven).insert(stream.0, head);
        Ok(())
    }

    /// Whatever was not found in any stream must have been refused.
    pub fn finish(&self) -> Result<(), String> {
        let mut told = locked(&self.told);
        let mut totals = locked(&self.totals);
        for (id, (append, answer)) in told.drain() {
            if answer != Told::Refused {
                return Err(format!("append {id} to {:?} is lost, told {answer:?}", append.stream));
            }
            totals.refused += 1;
        }
        Ok(())
    }

    /// The sums so far.
    pub fn totals(&self) -> Totals {
        *locked(&self.totals)
    }
}

fn parse(event: &[u8]) -> Option<(u64, u32, u32)> {
    let id = u64::from_le_bytes(event.get(..8)?.try_into().ok()?);
    let index = u32::from_le_bytes(event.get(8..12)?.try_into().ok()?);
    let count = u32::from_le_bytes(event.get(12..HEADER_BYTES)?.try_into().ok()?);
    Some((id, index, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(id: u64, count: u32) -> Append {
        Append { id, stream: StreamId(7), count, padding: 3, client: 0 }
    }

    fn head(next_offset: u64) -> VerifiedHead {
        VerifiedHead { head: [0; 32], next_offset }
    }

    fn ledger(appends: &[(&Append, Told)]) -> Ledger {
        let ledger = Ledger::default();
        for (append, told) in appends {
            ledger.begin(append);
            ledger.end(append.id, *told);
        }
        ledger
    }

    /// What was told and stands there passes; each way of losing, doubling or tearing does not.
    #[test]
    fn every_kind_of_loss_is_found() {
        let (one, two) = (append(1, 2), append(2, 1));
        let both = [(&one, Told::Done(0)), (&two, Told::Done(2))];
        let all: Vec<_> = [one.events(), two.events()].concat();
        let run = |told: &[(&Append, Told)], events: &[Vec<u8>]| {
            let ledger = ledger(told);
            ledger.check(StreamId(7), 0, events, head(events.len() as u64))?;
            ledger.finish()
        };
        run(&both, &all).unwrap();
        let lost = run(&both, &one.events()).unwrap_err();
        assert!(lost.contains("lost"), "{lost}");
        let doubled = [one.events(), one.events()].concat();
        assert!(run(&both, &doubled).unwrap_err().contains("twice"));
        assert!(run(&both, &one.events()[..1]).unwrap_err().contains("in part"));
        let moved: Vec<_> = [two.events(), one.events()].concat();
        assert!(run(&both, &moved).unwrap_err().contains("told"));
        let refused = [(&one, Told::Refused)];
        assert!(run(&refused, &one.events()).unwrap_err().contains("Refused"));
        let mut torn = all.clone();
        torn[1][17] ^= 1;
        assert!(run(&both, &torn).unwrap_err().contains("in part"));

        let ledger = ledger(&both);
        ledger.saw(StreamId(7), 4);
        let gone = ledger.check(StreamId(7), 0, &all, head(3)).unwrap_err();
        assert!(gone.contains("seen up to 4"), "{gone}");
    }
}
