//! Bodies of requests, and trailers in both directions.

use super::{GET, OK, answer, before};
use crate::support::{End, Line, Stage, send};

/// What no text looks like.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// What the backend gets of a request.
fn forwarded(request: impl AsRef<[u8]>) -> crate::support::Seen {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(request);
    let mut backend = stage.accept();
    let seen = backend.request();
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    seen
}

#[test]
fn a_body_with_a_length_keeps_it_to_the_byte() {
    for length in [0, 1, 2, 4095, 8192, 100_000, 3_000_000] {
        let body = pattern(length);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let stage = Stage::new();
        let sidecar = before(&stage);
        let address = sidecar.address();
        let reply = std::thread::scope(|scope| {
            let client = scope.spawn(|| send(address, [head.as_bytes(), &body].concat()));
            let mut backend = stage.accept();
            let seen = backend.request();
            assert_eq!(seen.header("content-length"), Some(&*length.to_string()));
            assert_eq!(seen.header("transfer-encoding"), None);
            assert!(seen.body == body, "{length} bytes go up");
            backend.send(
                [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), &body].concat(),
            );
            client.join().expect("a reply")
        });
        assert_eq!(reply.header("content-length"), Some(&*length.to_string()));
        assert_eq!(reply.header("transfer-encoding"), None);
        assert!(reply.body == body, "{length} bytes come down");
    }
}

#[test]
fn a_request_without_a_body_stays_one() {
    for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
        let stage = Stage::new();
        let sidecar = before(&stage);
        let mut client = Line::to(sidecar.address());
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let seen = stage.accept().request();
        assert_eq!(
            (seen.header("content-length"), seen.header("transfer-encoding")),
            (None, None),
            "{method}"
        );
    }
}

#[test]
fn a_body_in_chunks_goes_on_in_chunks_whatever_the_method() {
    let body = "4\r\nwiki\r\n5;ext=\"a;b\"\r\npedia\r\n0\r\n\r\n";
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "QUERY", "OPTIONS"] {
        let seen =
            forwarded(format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n{body}"));
        assert_eq!(seen.body, b"wikipedia", "{method}");
        assert_eq!(seen.header("transfer-encoding"), Some("chunked"), "{method}");
        assert_eq!(seen.header("content-length"), None, "{method}");
    }
    let seen = forwarded("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(seen.body.is_empty());
}

#[test]
fn a_get_with_a_length_has_its_body_too() {
    let seen = forwarded("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(seen.body, b"body");
}

#[test]
fn a_body_passes_while_it_is_being_made() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let mut backend = stage.accept();
    backend.head();
    assert_eq!(backend.bytes(6), b"1\r\na\r\n");
    backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    client.head();
    assert_eq!(client.bytes(6), b"1\r\nx\r\n", "both directions at once");
    client.send("1\r\nb\r\n0\r\n\r\n");
    assert_eq!(backend.bytes(11), b"1\r\nb\r\n0\r\n\r\n");
    backend.send("1\r\ny\r\n0\r\n\r\n");
    assert_eq!(client.bytes(11), b"1\r\ny\r\n0\r\n\r\n");
}

#[test]
fn trailers_of_a_request_pass_if_they_were_announced_and_may() {
    let seen = forwarded(concat!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
        "Connection: X-Private\r\nTrailer: X-Private, X-Sum, X-Session-Data\r\nTrailer: Host, Content-Length, X_Session_Id\r\n\r\n",
        "2\r\nhi\r\n0\r\nX-Sum: 7\r\nX-Session-Data: {}\r\nHost: b\r\nContent-Length: 9\r\n",
        "X_Session_Id: 1\r\nX-Private: 1\r\nX-Unannounced: 1\r\nCookie: a=b\r\nTransfer-Encoding: chunked\r\n\r\n",
    ));
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!(seen.header("trailer"), Some("x-sum"));
    assert_eq!(seen.header("x-sum"), None, "a trailer is no header");
}

#[test]
fn trailers_of_a_response_pass_if_the_client_asked_and_they_were_announced_and_may() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for (te, passes) in [
        ("TE: trailers\r\nConnection: te\r\n", true),
        ("TE: gzip;q=0.5, trailers\r\n", true),
        ("", false),
        ("TE: gzip\r\n", false),
    ] {
        let mut client = Line::to(sidecar.address());
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{te}\r\n"));
        let mut backend = stage.accept();
        let seen = backend.request();
        assert_eq!(seen.header("te"), passes.then_some("trailers"), "{te}");
        assert_eq!(seen.header("connection"), passes.then_some("te"), "{te}");
        backend.send(concat!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n",
            "Trailer: X-Sum, X-Session-Set, Set-Cookie\r\n\r\n",
            "2\r\nhi\r\n0\r\nX-Sum: 7\r\nX-Session-Set: {\"a\":1}\r\nSet-Cookie: sessionid=x\r\nX-Unannounced: 1\r\n\r\n",
        ));
        let reply = client.reply();
        assert_eq!(reply.text(), "hi", "{te}");
        let expected = [("x-sum".to_owned(), "7".to_owned())];
        assert_eq!(reply.trailers, if passes { &expected[..] } else { &[] }, "{te}");
        assert_eq!(client.ask_again(&stage), "ok", "the end is found with trailers and without");
    }
}

#[test]
fn a_body_that_the_client_breaks_off_never_ends_well_at_the_backend() {
    for (head, part) in [("Content-Length: 10", "01234"), ("Transfer-Encoding: chunked", "5\r\n01234\r\n")] {
        for torn in [false, true] {
            let stage = Stage::new();
            let sidecar = before(&stage);
            let mut client = Line::to(sidecar.address());
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{part}"));
            let mut backend = stage.accept();
            backend.head();
            assert_eq!(backend.bytes(part.len()), part.as_bytes());
            if torn {
                client.tear()
            } else {
                drop(client)
            }
            backend.ends();
            sidecar.until("coatroom_http_requests_in_flight", 0);
            assert_eq!(
                sidecar.metric("coatroom_http_requests_total{code=\"400\",method=\"POST\"}"),
                1,
                "{head}"
            );
            assert!(stage.is_quiet(), "it is not tried again");
        }
    }
}

#[test]
fn a_body_that_is_no_body_is_the_clients_fault() {
    for chunk in ["x\r\n", "-1\r\n", "fffffffffffffffff\r\n", "2\r\nabc\r\n", "2;\nx\r\n"] {
        let stage = Stage::new();
        let sidecar = before(&stage);
        let mut client = Line::to(sidecar.address());
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n{chunk}"
        ));
        let mut backend = stage.accept();
        backend.head();
        let (bytes, _) = backend.rest();
        assert!(!bytes.ends_with(b"0\r\n\r\n"), "{chunk:?} must not end well: {bytes:?}");
        let reply = client.reply();
        assert_eq!((reply.status, reply.problem()), (400, "incomplete-body".to_owned()), "{chunk:?}");
        client.rest();
    }
}

#[test]
fn an_early_answer_to_an_upload_is_passed_on() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n01234");
    let mut backend = stage.accept();
    backend.head();
    backend.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!");
    drop(backend);
    let reply = client.reply();
    assert_eq!((reply.status, reply.text()), (413, "no!".to_owned()));
    while client.try_send([0; 100_000]) {}
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn an_upload_goes_on_after_an_early_answer() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nConnection: close\r\n\r\n012");
    let mut backend = stage.accept();
    backend.head();
    assert_eq!(backend.bytes(3), b"012");
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    client.send("345");
    assert_eq!(backend.bytes(3), b"345");
    assert_eq!(client.ends(), End::Closed);
}

impl Line {
    /// One more exchange over this connection and a new one of the backend's.
    fn ask_again(&mut self, stage: &Stage) -> String {
        self.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut backend = stage.accept();
        backend.request();
        backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        self.reply().text()
    }
}
