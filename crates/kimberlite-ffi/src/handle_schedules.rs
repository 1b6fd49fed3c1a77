//! Handles that are used, closed and given out again by several threads.

use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;

use super::*;
use crate::schedules::explore;

enum Thing {}

/// While one thread uses a handle, two close it and a third takes its place for another value: the
/// user sees its own value or CLOSED, and one of the closes is the one that closed it.
#[test]
fn a_stale_handle_never_finds_anothers_value() {
    explore(|| {
        let table: Arc<Table<u32>> = Arc::new(Table::new(3, "thing"));
        let first: *mut Thing = table.insert(Arc::new(1)).unwrap();
        let number = first.addr();
        let handle = move || std::ptr::without_provenance_mut::<Thing>(number);
        let closed = Arc::new(AtomicUsize::new(0));
        let (reader, other) = (table.clone(), table.clone());
        let uses = thread::spawn(move || {
            for _ in 0..3 {
                match reader.get("thing", handle()) {
                    Ok(value) => assert_eq!(*value, 1),
                    Err(error) => assert_eq!(error.code, ErrorCode::Closed),
                }
            }
        });
        let count = closed.clone();
        let closes = thread::spawn(move || {
            if other.remove("thing", handle()).unwrap().is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        if table.remove("thing", handle()).unwrap().is_some() {
            closed.fetch_add(1, Ordering::SeqCst);
        }
        let second: *mut Thing = table.insert(Arc::new(2)).unwrap();
        uses.join().unwrap();
        closes.join().unwrap();
        assert_eq!(closed.load(Ordering::SeqCst), 1);
        assert_eq!(*table.get("thing", second).unwrap(), 2);
    });
}

/// Everything is closed at once while handles are given out and closed: each value comes out once.
#[test]
fn every_value_is_taken_out_once() {
    explore(|| {
        let table: Arc<Table<u32>> = Arc::new(Table::new(3, "thing"));
        let taken = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|value| {
                let (table, taken) = (table.clone(), taken.clone());
                thread::spawn(move || {
                    let handle: *mut Thing = table.insert(Arc::new(value)).unwrap();
                    let found = table.get("thing", handle).map(|found| *found);
                    assert!(found.is_err() || found == Ok(value));
                    if table.remove("thing", handle).unwrap().is_some() {
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        taken.fetch_add(table.drain().len(), Ordering::SeqCst);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((taken.load(Ordering::SeqCst), table.drain().len()), (2, 0));
    });
}
