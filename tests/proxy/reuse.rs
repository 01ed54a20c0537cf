//! Connections that are kept: which one is used next, and which is never used again.

use std::time::Duration;

use coatroom::time::Length;

use super::{GET, OK, answer, before, under_way};
use crate::support::child::until;
use crate::support::{End, Line, Stage, send};

/// Whether the client's next request goes over this connection of the backend's.
fn uses(client: &mut Line, backend: &mut Line) {
    client.send(GET);
    answer(backend);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn the_requests_of_one_client_share_one_connection_to_the_backend() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    answer(&mut backend);
    assert_eq!(client.reply().text(), "ok");
    for _ in 0..20 {
        uses(&mut client, &mut backend);
    }
    assert!(stage.is_quiet());
    assert_eq!(sidecar.metric("coatroom_backend_connections_total"), 1);
    assert_eq!(sidecar.metric("coatroom_http_connections_total"), 1);
}

#[test]
fn requests_of_several_clients_share_it_too() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    answer(&mut backend);
    client.reply();
    for _ in 0..3 {
        uses(&mut Line::to(sidecar.address()), &mut backend);
    }
    assert!(stage.is_quiet());
}

#[test]
fn the_connection_used_last_is_used_first() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let (mut one, mut two) = (Line::to(sidecar.address()), Line::to(sidecar.address()));
    one.send(GET);
    let mut first = stage.accept();
    two.send(GET);
    let mut second = stage.accept();
    answer(&mut first);
    one.reply();
    answer(&mut second);
    two.reply();
    uses(&mut one, &mut second);
    uses(&mut two, &mut second);
    one.send(GET);
    second.request();
    uses(&mut two, &mut first);
    second.send(OK);
    one.reply();
    assert!(stage.is_quiet());
}

#[test]
fn an_idle_connection_that_the_backend_closes_is_not_used() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    for _ in 0..5 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        let mut backend = stage.accept();
        assert_eq!(backend.request().body, b"hi");
        backend.send(OK);
        assert_eq!(client.reply().text(), "ok");
        drop(backend);
    }
}

#[test]
fn a_request_that_meets_a_closing_connection_is_sent_once_more_if_that_does_no_harm() {
    for (request, again) in [
        (GET, true),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", false),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("PATCH / HTTP/1.1\r\nHost: a\r\n\r\n", false),
    ] {
        for torn in [false, true] {
            let stage = Stage::new();
            let sidecar = before(&stage);
            let mut client = Line::to(sidecar.address());
            client.send(GET);
            let mut backend = stage.accept();
            answer(&mut backend);
            client.reply();
            client.send(request);
            let seen = backend.request();
            if torn {
                backend.tear()
            } else {
                drop(backend)
            }
            if again {
                let mut other = stage.accept();
                assert_eq!(other.request().headers, seen.headers, "the very same");
                other.send("HTTP/1.1 204 No Content\r\n\r\n");
            }
            let reply = if request.starts_with("HEAD") { client.reply_to_head() } else { client.reply() };
            assert_eq!(reply.status, if again { 204 } else { 502 }, "{request}");
            assert!(stage.is_quiet());
            let errors = sidecar.metric("coatroom_backend_errors_total{kind=\"reset\"}");
            assert_eq!(errors, u64::from(!again), "{request}");
        }
    }
}

#[test]
fn a_connection_that_the_backend_says_it_closes_is_not_used() {
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        // It could be kept, but chunks could not be sent over it.
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let stage = Stage::new();
        let (_sidecar, mut client, mut backend) = under_way(&stage, GET);
        backend.send(head);
        let reply = client.reply();
        assert_eq!((reply.text(), reply.header("connection")), ("ok".to_owned(), None), "{head}");
        assert_eq!(backend.ends(), End::Closed, "{head}");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
        let mut backend = stage.accept();
        assert_eq!(backend.request().body, b"hi");
        backend.send(OK);
        assert_eq!(client.reply().text(), "ok");
    }
}

#[test]
fn a_client_of_http_1_0_gets_its_answer_and_the_end_of_the_connection() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for (connection, backend_says) in [
        ("", "Content-Length: 2\r\n\r\nok"),
        ("Connection: keep-alive\r\n", "Content-Length: 2\r\n\r\nok"),
        ("Connection: keep-alive\r\n", "Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"),
    ] {
        let mut client = Line::to(sidecar.address());
        client.send(format!("GET / HTTP/1.0\r\nHost: a\r\n{connection}\r\n"));
        let mut backend = stage.accept();
        backend.request();
        backend.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{backend_says}"));
        let (bytes, end) = client.rest();
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("\r\n\r\nok"), "{text}");
        assert!(!text.contains("transfer-encoding") && !text.contains("keep-alive"), "{text}");
        assert_eq!(end, End::Closed);
    }
}

#[test]
fn a_client_that_wants_the_connection_closed_has_it_closed() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut backend = stage.accept();
    assert_eq!(
        backend.request().header("connection"),
        None,
        "it is the client's connection, not the backend's"
    );
    backend.send(OK);
    assert_eq!(client.reply().header("connection"), Some("close"));
    assert_eq!(client.ends(), End::Closed);
    uses(&mut Line::to(sidecar.address()), &mut backend);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    let one = |n: u8| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{n}");
    client.send((0..8).map(one).collect::<String>());
    let mut backend = stage.accept();
    for n in 0..8 {
        let seen = backend.request();
        assert_eq!((seen.target, seen.body), (format!("/{n}"), n.to_string().into_bytes()));
        backend.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}"));
    }
    for n in 0..8 {
        assert_eq!(client.reply().text(), n.to_string());
    }
    assert!(stage.is_quiet());
}

#[test]
fn a_connection_that_still_takes_an_upload_is_left_alone_until_it_has_it() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    let mut busy = stage.accept();
    busy.head();
    assert_eq!(busy.bytes(5), b"01234");
    busy.send(OK);
    assert_eq!(client.reply().text(), "ok", "an early answer is passed on early");

    let mut other = Line::to(sidecar.address());
    other.send(GET);
    let mut fresh = stage.accept();
    answer(&mut fresh);
    assert_eq!(other.reply().text(), "ok", "nobody waits for somebody else's upload");

    client.send("56789");
    assert_eq!(busy.bytes(5), b"56789");
    uses(&mut client, &mut busy);
}

#[test]
fn an_upload_that_breaks_off_after_its_answer_takes_the_backends_connection_with_it() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    let mut busy = stage.accept();
    busy.head();
    busy.bytes(5);
    busy.send(OK);
    client.reply();
    client.tear();
    busy.ends();
}

#[test]
fn bytes_after_a_complete_response_are_nobodys() {
    for (status, body) in
        [("200 OK", "Content-Length: 2\r\n\r\nok"), ("204 No Content", "\r\n"), ("304 Not Modified", "\r\n")]
    {
        let stage = Stage::new();
        let (_sidecar, mut client, mut backend) = under_way(&stage, GET);
        backend
            .send(format!("HTTP/1.1 {status}\r\n{body}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"));
        client.reply();
        backend.ends();
        client.send(GET);
        let mut backend = stage.accept();
        answer(&mut backend);
        assert_eq!(client.reply().text(), "ok", "{status}");
    }
}

#[test]
fn bytes_that_come_over_an_idle_connection_are_nobodys() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    answer(&mut backend);
    client.reply();
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen");
    backend.ends();
    assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"protocol\"}"), 0);
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn a_response_that_nobody_reads_to_its_end_takes_its_connection_with_it() {
    let stage = Stage::new();
    let (sidecar, mut client, mut backend) = under_way(&stage, GET);
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
    client.head();
    assert_eq!(client.bytes(5), b"01234");
    client.tear();
    backend.ends();
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn a_connection_kept_too_long_is_closed() {
    let stage = Stage::new();
    let sidecar = super::with(&stage, |config| {
        config.proxy.backend_idle_timeout = Length::millis(100);
    });
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    answer(&mut backend);
    client.reply();
    assert_eq!(backend.ends(), End::Closed);
}

/// A client of a sidecar whose connections to a backend that answers may become so old.
fn aged(age: Length) -> (crate::support::Backend, crate::support::Sidecar, Line) {
    let backend = crate::support::Backend::obedient();
    let sidecar = crate::support::Sidecar::with(backend.address, |config| {
        config.proxy.workers = 1;
        config.proxy.backend_max_age = age;
    });
    let client = Line::to(sidecar.address());
    (backend, sidecar, client)
}

#[test]
fn a_connection_of_some_age_is_not_used_again_however_busy_it_is() {
    let (_backend, sidecar, mut client) = aged(Length::millis(100));
    let opened = || sidecar.metric("coatroom_backend_connections_total");
    for n in 1..=3 {
        until(|| {
            assert_eq!(client.ask(GET).text(), "ok");
            (opened() > n).then_some(())
        });
    }
    sidecar.until("coatroom_backend_connections", 0);
}

#[test]
fn with_no_limit_to_its_age_a_connection_is_used_for_ever() {
    let (_backend, sidecar, mut client) = aged(Length::secs(0));
    for _ in 0..50 {
        assert_eq!(client.ask(GET).text(), "ok");
    }
    assert_eq!(sidecar.metric("coatroom_backend_connections_total"), 1);
}

#[test]
fn an_upload_that_is_already_answered_takes_the_time_that_its_client_takes() {
    let stage = Stage::new();
    let sidecar = super::with(&stage, |config| {
        config.proxy.head_timeout = Length::millis(100);
        config.proxy.backend_idle_timeout = Length::millis(100);
    });
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    let mut busy = stage.accept();
    busy.head();
    busy.bytes(5);
    busy.send(OK);
    client.reply();
    assert!(busy.peek(Duration::from_millis(300)).is_empty());
    client.send("56789");
    assert_eq!(busy.bytes(5), b"56789");
    uses(&mut client, &mut busy);
}

#[test]
fn a_backend_that_takes_no_more_of_an_upload_which_it_has_answered_is_left() {
    let stage = Stage::new();
    let sidecar = super::with(&stage, |config| config.proxy.head_timeout = Length::millis(100));
    let mut client = Line::to(sidecar.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40));
    let mut stuck = stage.accept();
    stuck.head();
    stuck.send(OK);
    client.reply();
    // More than anybody's buffers hold.
    let piece = vec![b'x'; 1 << 20];
    until(|| (!client.try_send(&piece)).then_some(()));
    sidecar.until("coatroom_backend_connections", 0);
    sidecar.until("coatroom_http_connections", 0);
}

#[test]
fn many_clients_at_once_are_all_answered_and_connections_are_shared() {
    let backend = crate::support::Backend::obedient();
    let sidecar = crate::support::Sidecar::before(backend.address);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let address = sidecar.address();
            scope.spawn(move || {
                let mut client = Line::to(address);
                for m in 0..50 {
                    let want = format!("{n}-{m}");
                    let reply =
                        client.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nWant-X-Echo: {want}\r\n\r\n"));
                    assert_eq!((reply.text(), reply.header("x-echo")), ("ok".to_owned(), Some(&*want)));
                }
            });
        }
    });
    assert_eq!(backend.seen().len(), 800);
    assert!(sidecar.metric("coatroom_backend_connections_total") <= 32);
    assert_eq!(send(sidecar.address(), GET).status, 200);
}

#[test]
fn every_complete_response_leaves_its_connection_to_the_next_request() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    answer(&mut backend);
    client.reply();
    let large = format!("Content-Length: 300000\r\n\r\n{}", "x".repeat(300_000));
    let chunks = format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", "5\r\nhello\r\n".repeat(1000));
    for (method, response) in [
        ("GET", "200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", &*format!("200 OK\r\n{large}")),
        ("GET", &*format!("200 OK\r\n{chunks}")),
        ("GET", "200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n1\r\na\r\n0\r\nX-A: 1\r\n\r\n"),
        ("GET", "204 No Content\r\n\r\n"),
        ("GET", "304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", "200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("POST", "500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"),
        ("GET", "200 OK\r\nX-Session-Set: not json\r\nContent-Length: 0\r\n\r\n"),
    ] {
        for _ in 0..3 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            backend.request();
            backend.send(format!("HTTP/1.1 {response}"));
            if method == "HEAD" {
                client.reply_to_head()
            } else {
                client.reply()
            };
        }
    }
    assert_eq!(sidecar.metric("coatroom_backend_connections_total"), 1);
}
