//! Section 4 of the contract: what a client that hangs up changes, which is nothing.

use std::io::Write;
use std::net::Shutdown;

use crate::support::client::connect;
use crate::support::{Backend, Browser, Sidecar};

/// Sends a request, waits until the backend has it, hangs up, and waits until the sidecar has noticed.
fn ask_and_hang_up(
    sidecar: &Sidecar,
    visitor: &Browser,
    gate: &crate::support::gate::Gate,
    wanted: &[(&str, &str)],
) {
    let token = visitor.token().map(|token| format!("Cookie: sessionid={token}\r\n")).unwrap_or_default();
    let wanted: String = wanted.iter().map(|(name, value)| format!("Want-{name}: {value}\r\n")).collect();
    let mut stream = connect(sidecar.address());
    let request = format!("GET /slow HTTP/1.1\r\nHost: shop.test\r\n{token}{wanted}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    gate.wait();
    stream.shutdown(Shutdown::Both).expect("hung up");
    drop(stream);
    sidecar.until("coatroom_http_connections", 0);
    assert_eq!(sidecar.metric("coatroom_http_requests_in_flight"), 1, "it goes on without the client");
    gate.open();
    sidecar.until("coatroom_http_requests_in_flight", 0);
}

#[test]
fn a_logout_with_a_closed_tab_is_final() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"user_id":7}"#)]);
    ask_and_hang_up(&sidecar, &visitor, &gate, &[("X-Session-Flush", "true")]);
    visitor.clone().get("/");
    assert_eq!(backend.last().data(), "{}");
    assert_eq!(sidecar.metric("coatroom_session_flushes_total"), 1);
}

#[test]
fn every_change_is_committed_though_nobody_waits_for_the_answer() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"n":1}"#)]);
    ask_and_hang_up(&sidecar, &visitor, &gate, &[("X-Session-Increment", r#"{"n":1}"#)]);
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"n":2}"#);
    ask_and_hang_up(&sidecar, &visitor, &gate, &[("X-Session-Set", r#"{"n":9}"#), ("Status", "500")]);
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"n":2}"#, "by the same rules");
    ask_and_hang_up(&sidecar, &sidecar.browser(), &gate, &[("X-Session-Set", r#"{"n":1}"#)]);
    assert_eq!(sidecar.metric("coatroom_session_creates_total"), 2);
}

#[test]
fn stopping_waits_for_what_nobody_else_waits_for() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"n":1}"#)]);
    let token = visitor.token().expect("a token").to_owned();
    let mut stream = connect(sidecar.address());
    let request = format!(
        "GET /slow HTTP/1.1\r\nHost: a\r\nCookie: sessionid={token}\r\nWant-X-Session-Flush: true\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    gate.wait();
    drop(stream);
    sidecar.until("coatroom_http_connections", 0);
    let metrics = sidecar.counters();
    let stopping = std::thread::spawn(move || sidecar.stop());
    gate.open();
    stopping.join().expect("it stops");
    assert_eq!(metrics.flushes.get(), 1, "the commit came first");
}

#[test]
fn hanging_up_before_the_request_was_whole_changes_nothing() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"n":1}"#)]);
    let token = visitor.token().expect("a token").to_owned();
    let (seen, loads) = (backend.seen().len(), sidecar.loads());
    let whole = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: sessionid={token}\r\nWant-X-Session-Flush: true\r\n\r\n"
    );
    for length in [1, 10, whole.len() / 2, whole.len() - 2, whole.len() - 1] {
        let mut stream = connect(sidecar.address());
        stream.write_all(&whole.as_bytes()[..length]).expect("sent");
        drop(stream);
        sidecar.until("coatroom_http_connections", 0);
    }
    assert_eq!((backend.seen().len(), sidecar.loads()), (seen, loads));
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"n":1}"#);
}
