//! A subscription between what brings its pages and those who wait for them.

use std::future::poll_fn;

use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};

use super::*;
use crate::page::schedules::page;
use crate::schedules::explore;

/// Pages of one event each, as far as they have been sent.
#[derive(Default)]
struct Sent {
    pages: u64,
    waker: Option<Waker>,
}

struct Pages {
    sent: Arc<Mutex<Sent>>,
    next_offset: u64,
}

impl Feed for Pages {
    fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Result<Page, Error>> {
        let mut sent = self.sent.lock().unwrap();
        if self.next_offset == sent.pages {
            sent.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.next_offset += 1;
        Poll::Ready(Ok(page(self.next_offset - 1)))
    }

    fn next_offset(&self) -> u64 {
        self.next_offset
    }
}

const PAGES: u64 = 3;

/// A subscription, and a thread that sends it three pages one after the other.
fn subscription() -> (Arc<Shared<Pages>>, JoinHandle<()>) {
    let sent = Arc::new(Mutex::new(Sent::default()));
    let pages = Pages { sent: sent.clone(), next_offset: 0 };
    let sender = thread::spawn(move || {
        for _ in 0..PAGES {
            let waker = {
                let mut sent = sent.lock().unwrap();
                sent.pages += 1;
                sent.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    });
    (Arc::new(Shared::new(pages, ClosedFlag::default())), sender)
}

fn next(shared: &Arc<Shared<Pages>>) -> Result<Page, Error> {
    let mut waiter = Waiter::new(shared);
    block_on(poll_fn(|context| waiter.poll_page(context)))
}

/// While one thread asks whether pages are there, as the watch of a queue does, another gets every
/// page in order.
#[test]
fn asking_for_readiness_takes_nothing() {
    explore(|| {
        let (shared, sender) = subscription();
        let watched = shared.clone();
        let watch = thread::spawn(move || {
            for _ in 0..PAGES {
                let mut waiter = Waiter::new(&watched);
                block_on(poll_fn(|context| waiter.poll_ready(context)));
            }
        });
        for offset in 0..PAGES {
            assert_eq!(next(&shared).map(|page| page.first_offset()), Ok(offset));
            assert!(shared.state().next_offset > offset);
        }
        shared.close();
        watch.join().unwrap();
        sender.join().unwrap();
    });
}

/// Two threads that wait for pages get each of them once, miss none, and end with the close.
#[test]
fn two_readers_share_the_pages() {
    explore(|| {
        let (shared, sender) = subscription();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (shared, taken) = (shared.clone(), taken.clone());
                thread::spawn(move || {
                    while let Ok(page) = next(&shared) {
                        let mut taken = taken.lock().unwrap();
                        taken.push(page.first_offset());
                        if taken.len() as u64 == PAGES {
                            drop(taken);
                            shared.close();
                        }
                    }
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        sender.join().unwrap();
        let mut taken = taken.lock().unwrap().clone();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!(next(&shared).map(|_| ()).map_err(|e| e.code), Err(ErrorCode::Closed));
    });
}

/// A close ends every wait, whatever is under way.
#[test]
fn a_close_ends_every_wait() {
    explore(|| {
        let (shared, sender) = subscription();
        let (first, second) = (shared.clone(), shared.clone());
        let reads = thread::spawn(move || while next(&first).is_ok() {});
        let watches = thread::spawn(move || {
            for _ in 0..2 {
                let mut waiter = Waiter::new(&second);
                block_on(poll_fn(|context| waiter.poll_ready(context)));
            }
        });
        shared.close();
        reads.join().unwrap();
        // It would wait for ever for a second page where the first close were not enough.
        watches.join().unwrap();
        sender.join().unwrap();
        assert!(shared.state().worker.is_none() && shared.state().page.is_none());
    });
}
