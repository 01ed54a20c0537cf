//! `Expect: 100-continue`, and what else a client may expect.

use std::time::Duration;

use super::{GET, OK, answer, before};
use crate::support::{Line, Sidecar, Stage};

const WAITS: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n";

#[test]
fn a_client_is_told_to_go_on_once_the_backend_takes_its_body() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(WAITS);
    let mut backend = stage.accept();
    let (_, headers) = backend.head();
    assert!(headers.iter().all(|(name, _)| name != "expect"), "it is answered, not passed on");
    assert_eq!(client.head(), ("HTTP/1.1 100 Continue".to_owned(), vec![]));
    assert!(backend.peek(Duration::from_millis(20)).is_empty());
    client.send("hi");
    assert_eq!(backend.bytes(2), b"hi");
    backend.send("HTTP/1.1 100 Continue\r\n\r\n").send(OK);
    assert_eq!(client.reply().text(), "ok", "one 100 is enough");
    client.send(GET);
    answer(&mut backend);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn a_client_that_waits_for_nothing_is_not_told() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
    ] {
        let mut client = Line::to(sidecar.address());
        client.send(request);
        let mut backend = stage.accept();
        backend.request();
        backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!((client.reply().text(), request), ("ok".to_owned(), request));
    }
}

#[test]
fn an_error_of_ours_comes_without_a_100() {
    let (_socket, nobody) = Stage::nobody();
    let sidecar = Sidecar::before(nobody);
    for (request, status) in [
        (WAITS.to_owned(), 502),
        (WAITS.replace("Host: a\r\n", ""), 400),
        (WAITS.replace("POST", "TRACE"), 405),
        (WAITS.replace("100-Continue", "200-ok"), 417),
        (WAITS.replace("100-Continue", "100-continue, 200-ok"), 417),
    ] {
        let mut client = Line::to(sidecar.address());
        client.send(&request);
        let (first, headers) = client.head();
        assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{first}");
        let length = headers.iter().find(|(name, _)| name == "content-length").expect("a length");
        client.bytes(length.1.parse().expect("a number"));
        client.ends();
    }
}

#[test]
fn a_backend_that_refuses_the_body_answers_for_itself() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(WAITS);
    let mut backend = stage.accept();
    backend.head();
    backend.send("HTTP/1.1 401 Who are you\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    drop(backend);
    let mut first = client.head().0;
    if first.starts_with("HTTP/1.1 100 ") {
        first = client.head().0;
    }
    assert!(first.starts_with("HTTP/1.1 401 "), "{first}");
    client.finish().rest();
}

#[test]
fn a_connection_whose_body_never_came_is_not_used_again() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(WAITS);
    let mut backend = stage.accept();
    backend.head();
    client.head();
    drop(client);
    backend.ends();
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
}
