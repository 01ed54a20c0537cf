//! The proxy without its sessions: HTTP/1.1 on both sides, to the byte.

mod address;
mod bodies;
mod drain;
mod expect;
mod failure;
mod framing;
mod hangup;
mod headers;
mod pressure;
mod process;
mod responses;
mod reuse;
mod timers;
mod upgrade;

use coatroom::config::Config;
use coatroom::time::Length;

use crate::support::{Line, Sidecar, Stage};

/// A request with no body.
const GET: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
/// A response with a body of two bytes.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A sidecar of one worker, so that there is one pool, which no test keeps waiting for long.
fn before(stage: &Stage) -> Sidecar {
    with(stage, |_| {})
}

/// The same, with other settings.
fn with(stage: &Stage, change: impl FnOnce(&mut Config)) -> Sidecar {
    Sidecar::with(stage.address, |config| {
        config.proxy.workers = 1;
        config.proxy.drain_timeout = Length::secs(5);
        change(config);
    })
}

/// Answers one request on a connection of the backend's.
fn answer(backend: &mut Line) {
    backend.request();
    backend.send(OK);
}
