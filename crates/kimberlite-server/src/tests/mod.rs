//! Tests over real sockets with a stand-in for the engine, whose requests answer, wait, fail and
//! panic on command.

#[path = "../../tests/common/mod.rs"]
mod common;

mod auth;
mod flow;
mod hostile;
mod limits;
mod shutdown;
mod tls;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kimberlite_engine::{Answer, PayloadStream};
use kimberlite_wire::{
    AppendResponse, Error, ListStreamsRequest, ListStreamsResponse, ReadResponse, Request,
    Response, StreamInfo, SubscribeRequest, SubscribeResponse, VerifyRequest, VerifyResponse,
};

use crate::shared::Handling;
use crate::{Server, ServerConfig};

/// The token of the tests' servers.
const TOKEN: &str = "secret";

/// What a read of a stream does; the stream's id tells.
mod stream {
    /// Answers with as many bytes as `max_events` says.
    pub(super) const BYTES: u64 = 1;
    /// Never answers.
    pub(super) const SILENT: u64 = 2;
    /// Answers with 1,000 bytes and then never ends.
    pub(super) const ENDLESS: u64 = 3;
    /// Panics at once.
    pub(super) const PANIC_AT_ONCE: u64 = 4;
    /// Panics when it is polled.
    pub(super) const PANIC_LATER: u64 = 5;
    /// Panics after 1,000 bytes.
    pub(super) const PANIC_AMID: u64 = 6;
    /// Fails after 1,000 bytes.
    pub(super) const FAIL_AMID: u64 = 7;
    /// Answers once [`super::Stub::release`] was called.
    pub(super) const HELD: u64 = 8;
}

/// What the stand-in has seen.
#[derive(Default)]
struct Stub {
    /// Requests that were started.
    started: AtomicUsize,
    /// Requests and payloads that were dropped.
    dropped: Arc<AtomicUsize>,
    /// The payload lengths of appends, in the order in which they came.
    appended: Mutex<Vec<usize>>,
    released: Arc<tokio::sync::Notify>,
}

impl Stub {
    /// A server over a stand-in, with changes to its configuration.
    fn server(change: impl FnOnce(&mut ServerConfig)) -> (Server, Arc<Stub>) {
        let mut config = ServerConfig::development(TOKEN);
        change(&mut config);
        let stub = Arc::new(Stub::default());
        let handler = stub.clone();
        let server = Server::start_with(config, move |_| {
            Box::new(move |_, request, payload, _| handler.handle(request, &payload))
        });
        (server.unwrap(), stub)
    }

    fn handle(&self, request: Request, payload: &Bytes) -> Handling {
        self.started.fetch_add(1, Ordering::SeqCst);
        let counted = Dropped(self.dropped.clone());
        match request {
            Request::Read(read) => self.read(read.stream_id, read.max_events as usize, counted),
            Request::Subscribe(_) => {
                let body = Response::Subscribe(SubscribeResponse::default());
                let payload = Some(source(1_000, Then::Wait, counted));
                Box::pin(async { Ok(Answer { body, payload }) })
            }
            Request::Append(append) => {
                self.appended.lock().unwrap().push(payload.len());
                let (position, count) = (append.sequence, append.count);
                let body = AppendResponse { position, count, ..AppendResponse::default() };
                answer(Response::Append(body))
            }
            Request::Verify(verify) => {
                let body = VerifyResponse { count: verify.stream_id, ..VerifyResponse::default() };
                answer(Response::Verify(body))
            }
            Request::ListStreams(list) => answer(Response::ListStreams(ListStreamsResponse {
                streams: vec![StreamInfo::default(); list.max_streams as usize],
                ..ListStreamsResponse::default()
            })),
            other => panic!("the stand-in does not know {other:?}"),
        }
    }

    fn read(&self, stream_id: u64, bytes: usize, counted: Dropped) -> Handling {
        let body = Response::Read(ReadResponse::default());
        let then = match stream_id {
            stream::BYTES => {
                return Box::pin(async move {
                    let payload = Some(source(bytes, Then::End, counted));
                    Ok(Answer { body, payload })
                });
            }
            stream::HELD => {
                let released = self.released.clone();
                return Box::pin(async move {
                    released.notified().await;
                    drop(counted);
                    Ok(Answer { body, payload: None })
                });
            }
            stream::SILENT => {
                return Box::pin(async move {
                    let _counted = counted;
                    std::future::pending().await
                });
            }
            stream::PANIC_AT_ONCE => panic!("on command"),
            stream::PANIC_LATER => return Box::pin(async { panic!("on command") }),
            stream::ENDLESS => Then::Wait,
            stream::PANIC_AMID => Then::Panic,
            stream::FAIL_AMID => Then::Fail,
            other => panic!("the stand-in has no stream {other}"),
        };
        Box::pin(async move { Ok(Answer { body, payload: Some(source(1_000, then, counted)) }) })
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Lets one request of [`stream::HELD`] answer.
    fn release(&self) {
        self.released.notify_one();
    }
}

fn answer(body: Response) -> Handling {
    Box::pin(async { Ok(Answer { body, payload: None }) })
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

enum Then {
    End,
    Wait,
    Panic,
    Fail,
}

/// A payload of so many bytes, byte n being n modulo 251, and what follows them.
struct Source {
    at: usize,
    end: usize,
    then: Then,
    _counted: Dropped,
}

fn source(end: usize, then: Then, _counted: Dropped) -> Box<dyn PayloadStream> {
    Box::new(Source { at: 0, end, then, _counted })
}

impl PayloadStream for Source {
    fn poll_chunk(
        &mut self,
        _: &mut Context<'_>,
        max_bytes: usize,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        if self.at < self.end {
            let end = self.end.min(self.at + max_bytes);
            let chunk = pattern(self.at, end);
            self.at = end;
            return Poll::Ready(Some(Ok(chunk)));
        }
        match self.then {
            Then::End => Poll::Ready(None),
            Then::Wait => Poll::Pending,
            Then::Panic => panic!("on command"),
            Then::Fail => Poll::Ready(Some(Err(Error::invalid("on command")))),
        }
    }
}

fn pattern(start: usize, end: usize) -> Bytes {
    (start..end).map(|n| (n % 251) as u8).collect()
}

/// A request whose answer is small and ready at once.
fn small(number: u64) -> Request {
    Request::Verify(VerifyRequest { stream_id: number })
}

/// A request whose answer is this many elements long, 81 bytes each.
fn long_list(max_streams: u32) -> Request {
    Request::ListStreams(ListStreamsRequest { after_stream_id: 0, max_streams })
}

fn subscribe(credit_bytes: u32) -> Request {
    Request::Subscribe(SubscribeRequest { stream_id: 1, from_offset: 0, credit_bytes })
}

/// Waits until something is so, or fails.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + common::PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
