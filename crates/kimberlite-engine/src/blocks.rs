//! Makes blocks of requests: cuts large ones into bodies, packs small ones together.

use kimberlite_wire::block::{BLOCK_BODY_BYTES, content_hash};
use kimberlite_wire::{EventBatch, limit};

use crate::job::{Body, Events};

/// Requests up to this size may share a block, in bytes of payload.
pub(crate) const SMALL_REQUEST_BYTES: usize = 16 << 10;
/// A block that requests share is at most this long, in bytes of its body.
pub(crate) const SHARED_BODY_BYTES: usize = 64 << 10;

const _: () = assert!(limit::BATCH_EVENTS * 4 <= BLOCK_BODY_BYTES as u64);

/// Cuts a batch into bodies and digests them, which takes a while for a large one: for the thread
/// that received it. A small one is left for the commit thread.
pub(crate) fn prepare(batch: EventBatch) -> Events {
    if batch.payload().len() <= SMALL_REQUEST_BYTES {
        return Events::Small(batch);
    }
    let bodies = cuts(&batch).map(|events| {
        let content = content_hash(events.payload());
        Body { events, content }
    });
    Events::Bodies(bodies.collect())
}

/// Parts of the batch whose bodies hold as much as they may; an event that is larger than that gets
/// one of its own.
fn cuts(batch: &EventBatch) -> impl Iterator<Item = EventBatch> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == batch.count() {
            return None;
        }
        let end = cut_end(batch, start);
        // The cut lies behind its start and within the batch.
        let part = batch.slice(start..end).expect("a part of the batch");
        start = end;
        Some(part)
    })
}

fn cut_end(batch: &EventBatch, start: u32) -> u32 {
    if start == 0 && batch.payload().len() <= BLOCK_BODY_BYTES {
        return batch.count();
    }
    let mut bytes = 0;
    let mut end = start;
    while end < batch.count() {
        bytes += 4 + batch.event(end as usize).map_or(0, <[u8]>::len);
        if bytes > BLOCK_BODY_BYTES && end > start {
            break;
        }
        end += 1;
    }
    end
}

/// Writes the body that holds all events of these batches into `out`, which is empty.
pub(crate) fn join(batches: &[EventBatch], out: &mut Vec<u8>) {
    let mut base = 0u32;
    for batch in batches {
        let (ends, _) = split(batch);
        for end in ends.as_chunks().0 {
            out.extend_from_slice(&(base + u32::from_le_bytes(*end)).to_le_bytes());
        }
        // The sum stays below SHARED_BODY_BYTES.
        base += batch.data_bytes() as u32;
    }
    batches.iter().for_each(|batch| out.extend_from_slice(split(batch).1));
}

fn split(batch: &EventBatch) -> (&[u8], &[u8]) {
    batch.payload().split_at(4 * batch.count() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(events: &[Vec<u8>]) -> EventBatch {
        EventBatch::from_events(events).unwrap()
    }

    /// Joined batches read like the one batch of all their events.
    #[test]
    fn joins_batches() {
        let parts = [vec![b"a".to_vec(), vec![]], vec![b"bcd".to_vec()], vec![vec![], vec![9; 70]]];
        let batches: Vec<EventBatch> = parts.iter().map(|part| batch(part)).collect();
        let mut body = Vec::new();
        join(&batches, &mut body);
        assert_eq!(body[..], batch(&parts.concat()).payload()[..]);
    }

    /// A large batch is cut at event boundaries into bodies within the bound, an event that is
    /// larger alone, and nothing is lost or moved.
    #[test]
    fn cuts_large_batches() {
        let mut events: Vec<Vec<u8>> = (0..3000u32).map(|i| vec![i as u8; 300]).collect();
        events.insert(1500, vec![7; 2 * BLOCK_BODY_BYTES]);
        events.push(vec![8; BLOCK_BODY_BYTES]);
        let whole = batch(&events);
        let Events::Bodies(bodies) = prepare(whole) else { panic!("a large batch") };
        let mut seen = Vec::new();
        for body in &bodies {
            let one = body.events.count() == 1;
            assert!(one || body.events.payload().len() <= BLOCK_BODY_BYTES);
            assert_eq!(body.content, content_hash(body.events.payload()));
            seen.extend(body.events.iter().map(<[u8]>::to_vec));
        }
        assert!(bodies.len() > 5 && seen == events);
    }

    /// A body's bound is used as far as it goes, and a small batch stays whole.
    #[test]
    fn small_and_exact_batches() {
        let small = prepare(batch(&[vec![1; SMALL_REQUEST_BYTES - 4]]));
        assert!(matches!(small, Events::Small(_)));
        let exact = prepare(batch(&[vec![1; 100], vec![2; BLOCK_BODY_BYTES - 108]]));
        assert!(matches!(exact, Events::Bodies(bodies) if bodies.len() == 1));
        let over = prepare(batch(&[vec![1; 100], vec![2; BLOCK_BODY_BYTES - 107]]));
        assert!(matches!(over, Events::Bodies(bodies) if bodies.len() == 2));
    }
}
