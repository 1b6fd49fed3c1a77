//! A producer's numbers: the window, what is acknowledged, and when a fresh producer is due.

use kimberlite_wire::AppendKey;
use kimberlite_wire::limit;
use kimberlite_wire::producer::{ProducerTable, Take};

fn number(table: &mut ProducerTable) -> (AppendKey, u64) {
    match table.take() {
        Take::Number { key, acked_below } => (key, acked_below),
        other => panic!("expected a number, not {other:?}"),
    }
}

/// Shows that numbers count from 1, and that acked_below follows the oldest that is not settled.
#[test]
fn acked_below_follows_the_oldest() {
    let mut table = ProducerTable::new();
    assert_eq!(table.take(), Take::Open);
    table.opened(9);
    let keys: Vec<AppendKey> = (0..4).map(|_| number(&mut table).0).collect();
    assert_eq!(keys[0], AppendKey { producer_id: 9, sequence: 1 });
    table.settled(keys[2]);
    table.settled(keys[1]);
    assert_eq!(table.acked_below(keys[0]), 1);
    table.settled(keys[0]);
    table.settled(keys[0]);
    assert_eq!(number(&mut table), (AppendKey { producer_id: 9, sequence: 5 }, 4));
}

/// Shows that no more than the limit is under way, and that settling the oldest makes room.
#[test]
fn the_window() {
    let mut table = ProducerTable::new();
    table.opened(1);
    let keys: Vec<AppendKey> =
        (0..limit::OUTSTANDING_APPENDS).map(|_| number(&mut table).0).collect();
    assert_eq!((table.take(), table.has_number()), (Take::Wait, false));
    table.settled(keys[1]);
    assert_eq!(table.take(), Take::Wait);
    table.settled(keys[0]);
    assert!(table.has_number());
    assert_eq!((number(&mut table).1, number(&mut table).1), (3, 3));
}

/// Shows that an unknown outcome holds acked_below until it is settled, that it makes a fresh
/// producer due after a while, and that the old one's keys are left alone then.
#[test]
fn unknown_outcomes() {
    let mut table = ProducerTable::new();
    table.opened(1);
    let (unknown, _) = number(&mut table);
    table.unresolved(unknown);
    let mut given = 0;
    while let Take::Number { key, acked_below } = table.take() {
        assert_eq!(acked_below, 1);
        table.settled(key);
        given += 1;
    }
    assert!((10..limit::OUTSTANDING_APPENDS).contains(&given));
    assert_eq!((table.take(), table.needs_producer()), (Take::Open, true));

    let mut settled = ProducerTable::new();
    settled.opened(1);
    let (unknown, _) = number(&mut settled);
    settled.unresolved(unknown);
    settled.settled(unknown);
    assert_eq!(number(&mut settled).1, 2);

    table.opened(2);
    table.settled(unknown);
    assert_eq!(table.acked_below(unknown), 1);
    assert_eq!(number(&mut table), (AppendKey { producer_id: 2, sequence: 1 }, 1));
}

/// Shows that of a producer that is not in use only the window is told, which holds no number whose
/// outcome may still be asked for.
#[test]
fn other_producers() {
    let mut table = ProducerTable::new();
    table.opened(1);
    let window = limit::OUTSTANDING_APPENDS;
    for (sequence, acked_below) in [(1, 1), (window, 1), (window + 1, 2), (3_000, 3_001 - window)] {
        assert_eq!(table.acked_below(AppendKey { producer_id: 9, sequence }), acked_below);
    }
}

/// Shows that an expired producer is let go, once.
#[test]
fn expiry() {
    let mut table = ProducerTable::new();
    table.opened(1);
    number(&mut table);
    assert!(!table.expired(2));
    assert!(table.expired(1));
    assert!(!table.expired(1));
    assert_eq!((table.take(), table.producer_id()), (Take::Open, None));
}
