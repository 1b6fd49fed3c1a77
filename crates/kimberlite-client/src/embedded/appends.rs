//! Appends at an engine, numbered like remote ones, so that an append whose outcome the caller did
//! not wait for can be settled by its key.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kimberlite_wire::producer::{ProducerTable, Take};
use kimberlite_wire::session::Answer;
use kimberlite_wire::{
    AppendKey, AppendRequest, Error, ErrorCode, OpenProducerRequest, Request, Response,
};
use tokio::sync::{Mutex as FairMutex, MutexGuard as Turn, Notify};

use super::Local;
use super::calls::Limit;

/// The numbers of a client's producer.
#[derive(Default)]
pub(super) struct Numbers {
    table: Mutex<Table>,
    /// Some number was settled, or a producer opened.
    changed: Notify,
    /// Appends take turns until the engine has them, so that those which wait for a number keep
    /// the order in which they were called.
    turn: FairMutex<()>,
    under_way: AtomicUsize,
}

/// An append under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Table {
    producers: ProducerTable,
    opening: bool,
}

/// What to do for a number.
enum Next {
    Use(AppendKey, u64),
    Wait,
    Open,
}

impl Numbers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }

    /// Whether no append waits for the one that is begun now.
    pub(super) fn is_alone(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) <= 1
    }

    fn next(&self) -> Next {
        let mut table = self.table();
        match table.producers.take() {
            Take::Number { key, acked_below } => Next::Use(key, acked_below),
            Take::Wait => Next::Wait,
            Take::Open if table.opening => Next::Wait,
            Take::Open => {
                table.opening = true;
                Next::Open
            }
        }
    }

    fn acked_below(&self, key: AppendKey) -> u64 {
        self.table().producers.acked_below(key)
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.table());
        self.changed.notify_waiters();
    }
}

impl Local {
    /// Appends with the key that is there, or with a fresh number.
    pub(super) async fn append(
        &self,
        request: AppendRequest,
        payload: Bytes,
        limit: &Limit<'_>,
    ) -> Result<Answer, Error> {
        let _under_way = self.numbers.begin();
        if request.producer_id != 0 {
            let AppendRequest { producer_id, sequence, .. } = request;
            let key = AppendKey { producer_id, sequence };
            let acked_below = self.numbers.acked_below(key);
            return self.append_once(request, key, acked_below, payload, limit).await;
        }
        loop {
            let turn = self.calls.bounded(self.numbers.turn.lock(), limit).await?;
            let (key, acked_below) = self.number(limit).await?;
            let once = self.append_once(request.clone(), key, acked_below, payload.clone(), limit);
            match in_turn(turn, once).await {
                // Nothing else carried this number, so that the append certainly did not happen.
                Err(e) if e.code == ErrorCode::ProducerExpired => {
                    self.numbers.change(|table| {
                        table.producers.expired(key.producer_id);
                    });
                }
                outcome => return outcome,
            }
        }
    }

    async fn append_once(
        &self,
        mut request: AppendRequest,
        key: AppendKey,
        acked_below: u64,
        payload: Bytes,
        limit: &Limit<'_>,
    ) -> Result<Answer, Error> {
        let again = request.producer_id != 0;
        request.producer_id = key.producer_id;
        request.sequence = key.sequence;
        request.acked_below = acked_below;
        let mut pending = PendingNumber { numbers: &self.numbers, key, settled: false };
        let outcome = self.ask(Request::Append(request), payload, limit).await;
        match outcome {
            Err(mut e) if !settles(&e, again) => {
                e.outcome_unknown = Some(key);
                Err(e)
            }
            outcome => {
                pending.settled = true;
                outcome
            }
        }
    }

    /// A number, as soon as there is one to have.
    async fn number(&self, limit: &Limit<'_>) -> Result<(AppendKey, u64), Error> {
        loop {
            let mut changed = pin!(self.numbers.changed.notified());
            changed.as_mut().enable();
            match self.numbers.next() {
                Next::Use(key, acked_below) => return Ok((key, acked_below)),
                Next::Wait => self.calls.bounded(changed, limit).await?,
                Next::Open => self.open_producer(limit).await?,
            }
        }
    }

    async fn open_producer(&self, limit: &Limit<'_>) -> Result<(), Error> {
        let mut opening = Opening { numbers: &self.numbers, producer_id: None };
        let request = Request::OpenProducer(OpenProducerRequest {});
        match self.ask(request, Bytes::new(), limit).await?.body {
            Response::OpenProducer(body) => opening.producer_id = Some(body.producer_id),
            other => return Err(crate::client::unexpected(&other)),
        }
        Ok(())
    }
}

/// Runs an append and passes the turn on after its first step, by which the engine has queued it.
async fn in_turn<T>(turn: Turn<'_, ()>, append: impl Future<Output = T>) -> T {
    let mut turn = Some(turn);
    let mut append = pin!(append);
    poll_fn(|context| {
        let polled = append.as_mut().poll(context);
        turn = None;
        polled
    })
    .await
}

/// Whether an append that ended so certainly was not carried out. Of a repeat that says nothing about
/// the first attempt, unless it was judged behind the search for it.
fn settles(error: &Error, again: bool) -> bool {
    if again { error.code == ErrorCode::OffsetMismatch } else { error.is_refusal() }
}

/// A number in use. Whoever drops the call before its outcome leaves it unresolved.
struct PendingNumber<'a> {
    numbers: &'a Numbers,
    key: AppendKey,
    settled: bool,
}

impl Drop for PendingNumber<'_> {
    fn drop(&mut self) {
        let (key, settled) = (self.key, self.settled);
        self.numbers.change(|table| match settled {
            true => table.producers.settled(key),
            false => table.producers.unresolved(key),
        });
    }
}

/// A producer on its way. However that ends, the next one may try.
struct Opening<'a> {
    numbers: &'a Numbers,
    producer_id: Option<u64>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let producer_id = self.producer_id;
        self.numbers.change(|table| {
            table.opening = false;
            if let Some(producer_id) = producer_id {
                table.producers.opened(producer_id);
            }
        });
    }
}
