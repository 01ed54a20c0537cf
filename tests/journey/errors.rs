//! Errors of the sidecar's own: what each is called, and the ID by which a client's word and the log are brought together.

use std::thread;

use coatroom::config::Config;
use coatroom::session::policy::OnGone;

use super::outage::{FLUSH, IF_VERSION, SET};
use crate::support::gate::Gate;
use crate::support::{Backend, Redis, Reply, Sidecar, canary, send};

/// A problem that is told as all are, in the response and in the log.
fn is_problem(reply: &Reply, status: u16, slug: &str) {
    assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/problem+json")));
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(
        (&problem["type"], &problem["status"]),
        (&format!("urn:coatroom:problem/{slug}").into(), &status.into())
    );
    assert_eq!(reply.header("retry-after"), (status == 503).then_some("1"));
    assert_eq!((reply.header("cache-control"), reply.header("set-cookie")), (Some("no-store"), None));
    let id = reply.header("x-request-id").expect("an ID");
    assert_eq!(problem["instance"], id);
    let logged = canary::logged(&format!("\"id\":\"{id}\""));
    assert_eq!(logged.len(), 1, "{logged:?}");
    let line: serde_json::Value = serde_json::from_str(&logged[0]).expect("JSON");
    assert_eq!((&line["fields"]["problem"], &line["fields"]["status"]), (&slug.into(), &status.into()));
}

/// Brings about everything that can go wrong with any store.
fn all_that_goes_wrong(sidecar: &Sidecar, gate: &Gate) {
    let raw = |head: &str| send(sidecar.address(), format!("{head}\r\n\r\n"));
    is_problem(&raw("GET / HTTP/1.1"), 400, "bad-request");
    is_problem(&raw("nothing that anybody understands"), 400, "bad-request");
    is_problem(&raw(&format!("GET / HTTP/1.1\r\nHost: a{}", "\r\nX: y".repeat(200))), 431, "head-too-large");
    is_problem(&raw("TRACE / HTTP/1.1\r\nHost: a"), 405, "method-not-allowed");
    is_problem(&raw("GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders"), 417, "expectation-failed");
    let mut browser = sidecar.browser();
    assert_eq!(browser.ask(&[SET]).row(), "create");
    is_problem(&browser.ask(&[IF_VERSION, SET]), 409, "version-conflict");
    is_problem(&browser.ask(&[("X-Session-Set", "no JSON")]), 502, "directive-refused");
    is_problem(&browser.ask(&[("Content-Length", "1|2"), SET]), 502, "backend-failed");
    let gone = thread::scope(|scope| {
        let mut late = browser.clone();
        let late = scope.spawn(move || late.ask_at("/slow", &[SET]));
        gate.wait();
        assert_eq!(browser.ask(&[FLUSH]).row(), "flush");
        gate.open();
        late.join().expect("it is answered")
    });
    is_problem(&gone, 409, "session-gone");
}

fn settings(config: &mut Config) {
    config.session.on_gone = OnGone::Reject;
    config.proxy.trusted = vec!["127.0.0.1".parse().expect("a network")];
}

#[test]
fn each_error_has_a_stable_type_and_one_id_with_sessions_in_memory() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::with(backend.address, settings);
    all_that_goes_wrong(&sidecar, &gate);
}

#[test]
fn each_error_has_a_stable_type_and_one_id_with_sessions_on_redis() {
    let (backend, gate) = Backend::slow();
    let mut redis = Redis::start();
    let sidecar = Sidecar::on(&redis, backend.address, settings);
    all_that_goes_wrong(&sidecar, &gate);
    let mut browser = sidecar.browser();
    browser.ask(&[SET]);
    redis.kill();
    is_problem(&browser.get("/"), 503, "store-unavailable");
    is_problem(&sidecar.browser().ask(&[SET]), 503, "store-unavailable");
    let theirs = browser.request("GET", "/", &[("X-Request-Id", "the-balancers-4711")], "");
    assert_eq!(theirs.header("x-request-id"), Some("the-balancers-4711"));
    is_problem(&theirs, 503, "store-unavailable");
}
