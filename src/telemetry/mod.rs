//! What is told about the program: logs, metrics, health. No secrets, and no API.
//!
//! | path | |
//! | --- | --- |
//! | `/livez` | 200 as long as the process serves |
//! | `/startupz` | 200 once everything has started, 503 before; the body says what it waits for |
//! | `/readyz` | 200 while requests are welcome, 503 before the start, while draining, or while a part is away |
//! | `/metrics` | Prometheus' text format |

mod book;
mod escape;
pub mod health;
mod label;
pub mod logging;
pub mod metrics;
mod requests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use health::Health;
use logging::Limited;
use metrics::Metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const PATHS: &str = "/livez\n/readyz\n/startupz\n/metrics\n";
/// A pause after an accept that failed: no descriptors left is not better a microsecond later.
const PAUSE: Duration = Duration::from_millis(100);

/// `[telemetry]`: the listener for probes and Prometheus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where `/livez`, `/readyz`, `/startupz` and `/metrics` are; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Not ready while the store can't be asked.
    pub ready_needs_store: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9400)), ready_needs_store: false }
    }
}

/// What visitors may take.
#[derive(Clone, Copy)]
struct Bounds {
    /// Connections at once; the next ones wait in the kernel's queue.
    connections: usize,
    /// Until the head of the request is complete.
    head: Duration,
    /// Until the response has been taken: a visitor that doesn't read is cut off.
    whole: Duration,
}

const BOUNDS: Bounds =
    Bounds { connections: 64, head: Duration::from_secs(5), whole: Duration::from_secs(20) };

/// Answers probes and Prometheus until `stop`; connections still open then are cut.
///
/// Nothing a visitor does ends it: one request a connection, 64 connections at once, 5 s for the head of a request
/// and 20 s for all of it. It fails at nothing: an accept that fails is logged and tried again.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, health: Health, stop: CancellationToken) {
    serve_within(BOUNDS, listener, metrics, health, stop).await;
}

async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Health,
    stop: CancellationToken,
) {
    let limited = Limited::new();
    let mut visits = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = visits.join_next() => {}
            accepted = listener.accept(), if visits.len() < bounds.connections => match accepted {
                Ok((stream, _)) => {
                    visits.spawn(visit(bounds, stream, Arc::clone(&metrics), health.clone()));
                }
                Err(error) => {
                    if let Some(suppressed) = limited.allow() {
                        tracing::warn!(%error, suppressed, "telemetry can't accept connections");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Serves one connection to its end, which is its visitor's affair however it comes.
async fn visit(bounds: Bounds, stream: TcpStream, metrics: Arc<Metrics>, health: Health) {
    let service = service_fn(|request: Request<_>| {
        let response = answer(request.method(), request.uri().path(), &metrics, &health);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(bounds.whole, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a visitor of telemetry left early"),
        Err(_) => tracing::debug!("a visitor of telemetry was too slow"),
    }
}

/// The whole listener as a function of what is asked and how we are; hyper leaves out the body for HEAD.
fn answer(method: &Method, path: &str, metrics: &Metrics, health: &Health) -> Response<Full<Bytes>> {
    let known = PATHS.lines().any(|known| known == path);
    if !known {
        return reply(StatusCode::NOT_FOUND, TEXT, format!("not found; there are\n{PATHS}"));
    }
    if method != Method::GET && method != Method::HEAD {
        let mut refused = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET or HEAD\n");
        refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/readyz" if health.ready() => reply(StatusCode::OK, TEXT, "ready\n"),
        "/readyz" if health.draining() => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
        "/startupz" if health.started() => reply(StatusCode::OK, TEXT, "started\n"),
        "/readyz" | "/startupz" => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, waiting(health)),
        "/metrics" => match metrics.render() {
            Ok(text) => reply(StatusCode::OK, EXPOSITION, text),
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("metrics: {error}\n")),
        },
        _ => reply(StatusCode::OK, TEXT, "alive\n"),
    }
}

fn waiting(health: &Health) -> String {
    match &*health.waiting_for() {
        [] => "waiting for the start\n".to_owned(),
        parts => format!("waiting for {}\n", parts.join(", ")),
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
