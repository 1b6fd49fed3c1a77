//! The admin port: metrics and health checks over HTTP/1.1, within tight limits.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use crate::metrics;
use crate::shared::Shared;

/// Connections at a time; a further one takes the place of another.
const MAX_CONNECTIONS: usize = 32;
/// How long a request's head may take, and how long a connection may live.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const LIFE: Duration = Duration::from_secs(60);
/// The most of a head, in bytes and in lines.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long accepting pauses after the system refused it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers until the server's threads end, also while it shuts down.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut guests = Guests::default();
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                warn!(%error, "a connection to the admin port could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        guests.make_room();
        let shared = shared.clone();
        let asked = Arc::new(AtomicBool::new(false));
        let has_asked = asked.clone();
        let task = tokio::spawn(async move {
            // It ends by itself or is cut off; neither matters to anybody else.
            let _ = tokio::time::timeout(LIFE, converse(shared, tcp, &has_asked)).await;
        });
        guests.0.push_back(Guest { task: task.abort_handle(), asked });
    }
}

/// The connections, the oldest first.
#[derive(Default)]
struct Guests(VecDeque<Guest>);

struct Guest {
    task: AbortHandle,
    /// Whether a whole request has come.
    asked: Arc<AtomicBool>,
}

impl Guests {
    /// Makes room for one more. Whoever has asked nothing yet gives way first, the oldest of them,
    /// so that those who only hold connections keep no health check out.
    fn make_room(&mut self) {
        self.0.retain(|guest| !guest.task.is_finished());
        while self.0.len() >= MAX_CONNECTIONS {
            let idle = self.0.iter().position(|guest| !guest.asked.load(Ordering::Relaxed));
            if let Some(guest) = self.0.remove(idle.unwrap_or(0)) {
                guest.task.abort();
                debug!("a connection to the admin port gave way to a newer one");
            }
        }
    }
}

async fn converse(shared: Arc<Shared>, tcp: TcpStream, asked: &AtomicBool) {
    let answer = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let answered = answer(&shared, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answered) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(tcp), answer)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection to the admin port failed");
    }
}

/// The answer to a request; its body is not looked at.
fn answer(shared: &Shared, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "use GET or HEAD\n");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => respond(StatusCode::OK, PROMETHEUS, metrics::render(shared)),
        "/healthz" => verdict(healthy(shared)),
        "/readyz" => verdict(healthy(shared).and_then(|()| ready(shared))),
        _ => respond(StatusCode::NOT_FOUND, PLAIN, "there is /metrics, /healthz and /readyz\n"),
    }
}

/// Whether a restart would not help.
fn healthy(shared: &Shared) -> Result<(), &'static str> {
    if shared.takes_changes() || shared.is_shutting_down() {
        Ok(())
    } else {
        Err("the log has failed and takes no changes until the server is restarted\n")
    }
}

/// Whether clients should come here.
fn ready(shared: &Shared) -> Result<(), &'static str> {
    if shared.is_shutting_down() { Err("the server is shutting down\n") } else { Ok(()) }
}

fn verdict(result: Result<(), &'static str>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => respond(StatusCode::OK, PLAIN, "ok\n"),
        Err(why) => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, why),
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}
