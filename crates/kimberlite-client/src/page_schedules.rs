//! The pool of pages' buffers between threads.

use shuttle::thread;

use super::*;
use crate::schedules::explore;

/// A page of one event.
pub(crate) fn page(offset: u64) -> Page {
    let mut builder = PageBuilder::unbounded(1, StreamId(1), offset);
    builder.buffers.data.push(0);
    builder.buffers.ends.push(1);
    builder.buffers.lens.push(1);
    builder.buffers.timestamps.push(0);
    builder.build(0, 0, None)
}

/// While threads take and give back buffers and one frees them all, no buffer is given out twice or
/// with what it held before, and the pool knows what it holds.
#[test]
fn buffers_are_one_pages_at_a_time() {
    explore(|| {
        let threads: Vec<_> = (0..2)
            .map(|offset| {
                thread::spawn(move || {
                    for _ in 0..2 {
                        let page = page(offset);
                        thread::yield_now();
                        assert_eq!(
                            (page.count(), page.data(), page.lens()),
                            (1, &[0][..], &[1][..])
                        );
                    }
                })
            })
            .collect();
        trim_page_pool();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let pool = POOL.lock().unwrap();
        assert!(pool.free.len() <= POOLED_PAGES);
        assert_eq!(pool.bytes, pool.free.iter().map(Buffers::capacity_bytes).sum::<usize>());
    });
}
