//! The proxy without its sessions: HTTP/1.1 on both sides, to the byte.

mod address;
mod bodies;
mod crowd;
mod drain;
mod expect;
mod failure;
mod framing;
mod hangup;
mod headers;
mod limits;
mod linger;
mod pressure;
mod private;
mod process;
mod responses;
mod reuse;
mod rolling;
mod slow;
mod timers;
mod upgrade;

use coatroom::config::Config;
use coatroom::time::Length;

use crate::support::{Line, Reply, Sidecar, Stage};

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

/// A client whose request the backend has, and both ends of it.
fn under_way(stage: &Stage, request: impl AsRef<[u8]>) -> (Sidecar, Line, Line) {
    let sidecar = before(stage);
    let mut client = Line::to(sidecar.address());
    client.send(request);
    let mut backend = stage.accept();
    backend.request();
    (sidecar, client, backend)
}

/// Answers one request on a connection of the backend's.
fn answer(backend: &mut Line) {
    backend.request();
    backend.send(OK);
}

/// A problem, told as all of them are.
fn is_problem(reply: &Reply, status: u16, slug: &str) {
    assert_eq!((reply.status, &*reply.problem()), (status, slug));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["instance"], reply.header("x-request-id").expect("an ID"));
    assert_eq!(reply.header("set-cookie"), None);
}
