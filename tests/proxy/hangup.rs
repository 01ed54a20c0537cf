//! From the moment the head has gone to the backend the exchange ends with its commit though the client hang up.

use super::{before, under_way, with};
use crate::support::{Line, Sidecar, Stage};

const CLOSES: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n";
const IN_FLIGHT: &str = "coatroom_http_requests_in_flight";
const CONNECTIONS: &str = "coatroom_http_connections";

/// Creates a session of `{"a":1}`; the value of its `Cookie` header.
fn visitor(sidecar: &Sidecar, stage: &Stage) -> String {
    let mut client = Line::to(sidecar.address());
    client.send(super::GET);
    let mut backend = stage.accept();
    backend.request();
    backend.send(format!("{CLOSES}X-Session-Set: {{\"a\":1}}\r\n\r\n"));
    let reply = client.reply();
    reply.header("set-cookie").and_then(|line| line.split(';').next()).expect("a cookie").to_owned()
}

/// What the next request with this cookie reads.
fn reads(sidecar: &Sidecar, stage: &Stage, cookie: &str) -> String {
    let mut client = Line::to(sidecar.address());
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    let mut backend = stage.accept();
    let seen = backend.request();
    backend.send(format!("{CLOSES}\r\n"));
    client.reply();
    seen.data().to_owned()
}

/// Hangs up in either way, and waits until the sidecar knows.
fn hang_up(sidecar: &Sidecar, client: Line, torn: bool) {
    if torn {
        client.tear()
    } else {
        drop(client)
    }
    sidecar.until(CONNECTIONS, 0);
}

#[test]
fn half_a_head_reaches_nobody() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for torn in [false, true] {
        let mut client = Line::to(sidecar.address());
        client.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=");
        hang_up(&sidecar, client, torn);
        assert!(stage.is_quiet());
    }
}

#[test]
fn what_the_backend_asks_after_the_client_hung_up_is_done() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for torn in [false, true] {
        let cookie = visitor(&sidecar, &stage);
        for (directive, data) in [
            (r#"X-Session-Set: {"b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"X-Session-Increment: {"b":3}"#, r#"{"a":1,"b":5}"#),
            ("X-Session-Flush: true", "{}"),
        ] {
            let mut client = Line::to(sidecar.address());
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nContent-Length: 2\r\n\r\nhi"
            ));
            let mut backend = stage.accept();
            backend.request();
            hang_up(&sidecar, client, torn);
            assert_eq!(sidecar.metric(IN_FLIGHT), 1, "it goes on");
            backend.send(format!("{CLOSES}{directive}\r\n\r\n"));
            sidecar.until(IN_FLIGHT, 0);
            assert_eq!(reads(&sidecar, &stage, &cookie), data, "{directive}");
        }
    }
}

#[test]
fn half_a_response_is_enough_for_the_commit() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let cookie = visitor(&sidecar, &stage);
    let mut client = Line::to(sidecar.address());
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    let mut backend = stage.accept();
    backend.request();
    hang_up(&sidecar, client, true);
    backend.send(
        "HTTP/1.1 200 OK\r\nX-Session-Set: {\"b\":2}\r\nContent-Length: 1000000\r\n\r\nno more than this",
    );
    sidecar.until(IN_FLIGHT, 0);
    assert_eq!(backend.ends(), crate::support::End::Closed, "nobody wants the rest");
    assert_eq!(reads(&sidecar, &stage, &cookie), r#"{"a":1,"b":2}"#);
}

#[test]
fn an_upload_that_breaks_off_before_the_answer_commits_nothing() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for torn in [false, true] {
        let cookie = visitor(&sidecar, &stage);
        let mut client = Line::to(sidecar.address());
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nContent-Length: 9\r\n\r\nhalf"));
        let mut backend = stage.accept();
        backend.head();
        assert_eq!(backend.bytes(4), b"half");
        hang_up(&sidecar, client, torn);
        backend.ends();
        backend.try_send(format!("{CLOSES}X-Session-Flush: true\r\n\r\n"));
        sidecar.until(IN_FLIGHT, 0);
        assert_eq!(reads(&sidecar, &stage, &cookie), r#"{"a":1}"#);
    }
}

#[test]
fn an_upload_that_breaks_off_after_the_answer_changes_nothing_any_more() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let cookie = visitor(&sidecar, &stage);
    let mut client = Line::to(sidecar.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nContent-Length: 9\r\n\r\nhalf"));
    let mut backend = stage.accept();
    backend.head();
    backend.bytes(4);
    backend.send("HTTP/1.1 200 OK\r\nX-Session-Set: {\"b\":2}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.reply().row(), "save");
    hang_up(&sidecar, client, true);
    backend.ends();
    assert_eq!(reads(&sidecar, &stage, &cookie), r#"{"a":1,"b":2}"#);
}

#[test]
fn a_backend_that_fails_nobody_is_forgotten() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.head_timeout = coatroom::time::Length::millis(50));
    for answers in [false, true] {
        let mut client = Line::to(sidecar.address());
        client.send(super::GET);
        let mut backend = stage.accept();
        backend.request();
        hang_up(&sidecar, client, false);
        if answers {
            drop(backend);
        } else {
            backend.ends();
        }
        sidecar.until(IN_FLIGHT, 0);
    }
}

#[test]
fn the_connection_of_a_client_that_hung_up_is_used_again() {
    let stage = Stage::new();
    let (sidecar, client, mut backend) = under_way(&stage, super::GET);
    hang_up(&sidecar, client, false);
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    sidecar.until(IN_FLIGHT, 0);
    let mut client = Line::to(sidecar.address());
    client.send(super::GET);
    super::answer(&mut backend);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn a_stop_waits_for_what_goes_on_without_a_client() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut idle = Line::to(sidecar.address());
    let mut client = Line::to(sidecar.address());
    client.send(super::GET);
    let mut backend = stage.accept();
    backend.request();
    client.tear();
    sidecar.until(CONNECTIONS, 1);
    let stopping = std::thread::spawn(move || sidecar.stop());
    idle.ends();
    assert!(!stopping.is_finished());
    backend.send(format!("{CLOSES}X-Session-Set: {{\"a\":1}}\r\n\r\n"));
    stopping.join().expect("it stops");
}
