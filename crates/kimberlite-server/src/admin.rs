//! The admin port: metrics and health checks over HTTP/1.1, within tight limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::metrics;
use crate::shared::Shared;

/// Connections at a time; further ones are cut off.
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
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                warn!(%error, "a connection to the admin port could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            debug!("a connection to the admin port was cut off: it has all it may have");
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            // It ends by itself or is cut off; neither matters to anybody else.
            let _ = tokio::time::timeout(LIFE, converse(shared, tcp)).await;
            drop(place);
        });
    }
}

async fn converse(shared: Arc<Shared>, tcp: TcpStream) {
    let answer = service_fn(|request: Request<Incoming>| {
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
