//! What of a response reaches the client: its framing, its headers, its end.

use super::{GET, OK, answer, before, under_way};
use crate::support::{End, Line, Reply, Stage};

/// What the client gets of a response, and whether its connection can be used again.
fn passed(method: &str, response: &str) -> Reply {
    let stage = Stage::new();
    let (_sidecar, mut client, mut backend) =
        under_way(&stage, format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
    backend.send(response);
    let reply = if method == "HEAD" { client.reply_to_head() } else { client.reply() };
    client.send(GET);
    if stage.is_quiet() {
        answer(&mut backend);
    } else {
        answer(&mut stage.accept());
    }
    assert_eq!(client.reply().text(), "ok", "the next exchange after {response:?}");
    reply
}

#[test]
fn a_response_to_head_has_no_body_whatever_its_headers_say() {
    let reply = passed("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    assert_eq!(reply.header("content-length"), Some("1234"));
    let reply = passed("HEAD", "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!((reply.header("content-length"), reply.header("transfer-encoding")), (None, None));
    let reply = passed("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(reply.header("content-length"), None);
    let reply = passed("HEAD", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"x\"\r\n\r\n");
    assert_eq!((reply.status, reply.header("etag")), (304, Some("\"x\"")));
}

#[test]
fn statuses_without_a_body_have_none() {
    let reply = passed("GET", "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n");
    assert_eq!((reply.status, reply.header("x-a"), reply.header("content-length")), (204, Some("1"), None));
    let reply = passed("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n");
    assert_eq!((reply.status, reply.header("etag")), (304, Some("\"x\"")));
    for method in ["GET", "HEAD"] {
        let reply = passed(method, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((reply.status, reply.header("content-length")), (204, None), "RFC 9110 §8.6: {method}");
    }
    for status in ["204 No Content", "304 Not Modified"] {
        let reply = passed("GET", &format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert_eq!(reply.header("transfer-encoding"), None, "RFC 9112 §6.1: {status}");
    }
    let reply = passed("GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reply.status, 205);
}

#[test]
fn chunks_come_as_chunks_and_an_empty_body_as_one() {
    let reply = passed(
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    assert_eq!((reply.text(), reply.header("transfer-encoding")), ("abcde".to_owned(), Some("chunked")));
    assert_eq!(reply.header("content-length"), None);
    let reply = passed("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(reply.text(), "");
    let reply = passed("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((reply.text(), reply.header("content-length")), (String::new(), Some("0")));
}

#[test]
fn a_body_that_ends_with_its_connection_ends_for_the_client_without() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for version in ["1.0", "1.1"] {
        let mut client = Line::to(sidecar.address());
        client.send(GET);
        let mut backend = stage.accept();
        backend.request();
        backend.send(format!("HTTP/{version} 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it"));
        drop(backend);
        let reply = client.reply();
        assert_eq!(
            (reply.text(), reply.header("transfer-encoding")),
            ("all of it".to_owned(), Some("chunked"))
        );
        client.send(GET);
        answer(&mut stage.accept());
        assert_eq!(client.reply().text(), "ok");
    }
}

#[test]
fn a_body_passes_while_it_is_being_made() {
    let stage = Stage::new();
    let (_sidecar, mut client, mut backend) = under_way(&stage, GET);
    backend.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 6\r\n\r\n");
    let (first, _) = client.head();
    assert_eq!(first, "HTTP/1.1 200 OK", "the head is not kept back for a body");
    for event in ["ab", "cd", "ef"] {
        backend.send(event);
        assert_eq!(client.bytes(2), event.as_bytes());
    }
}

#[test]
fn a_body_that_breaks_off_does_not_end_well() {
    for (head, part, torn) in [
        ("Content-Length: 10", "01234", false),
        ("Content-Length: 10", "01234", true),
        ("Transfer-Encoding: chunked", "5\r\n01234\r\n", false),
        ("Transfer-Encoding: chunked", "5\r\n01234\r\n", true),
        ("Transfer-Encoding: chunked", "5\r\n01", false),
        ("Transfer-Encoding: chunked", "5\r\n01234\r\nnot a size\r\n", false),
        ("X-Close-Delimited: 1", "01234", true),
    ] {
        let stage = Stage::new();
        let (_sidecar, mut client, mut backend) = under_way(&stage, GET);
        backend.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{part}"));
        let (_, headers) = client.head();
        if torn {
            client.bytes(2);
            backend.tear();
        } else {
            drop(backend);
        }
        let (bytes, _) = client.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.ends_with("0\r\n\r\n"), "{head}, {part:?}: {text:?}");
        if let Some((_, length)) = headers.iter().find(|(name, _)| name == "content-length") {
            assert_eq!(length, "10");
            assert!(bytes.len() < 10);
        }
    }
}

#[test]
fn informational_responses_do_not_break_the_final_one() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Session-Set: {\"a\":1}\r\n\r\n";
    let stage = Stage::new();
    let (sidecar, mut client, mut backend) = under_way(&stage, GET);
    backend.send(format!("HTTP/1.1 100 Continue\r\n\r\n{early}{early}HTTP/1.1 102 Processing\r\n\r\n{OK}"));
    let reply = client.reply();
    assert_eq!(sidecar.metric("coatroom_interim_responses_dropped_total"), 4);
    assert_eq!((reply.status, reply.text(), reply.row()), (200, "ok".to_owned(), "nothing-to-keep"));
    assert_eq!(reply.header("set-cookie"), None, "directives count in the final response only");
}

#[test]
fn lines_of_one_name_keep_their_order_and_are_never_joined() {
    let reply = passed(
        "GET",
        concat!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT\r\nX-Many: 1\r\n",
            "Set-Cookie: b=2\r\nX-Many: 2\r\nX-Many: 1\r\nSet-Cookie: a=3\r\nWWW-Authenticate: Basic realm=\"x\"\r\n",
            "WWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n",
        ),
    );
    let cookies: Vec<_> = reply.all("set-cookie").collect();
    assert_eq!(cookies, ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2", "a=3"]);
    assert_eq!(reply.all("x-many").collect::<Vec<_>>(), ["1", "2", "1"]);
    assert_eq!(reply.all("www-authenticate").collect::<Vec<_>>(), ["Basic realm=\"x\"", "Negotiate"]);
}

#[test]
fn what_belongs_to_the_backends_connection_stays_there() {
    let reply = passed(
        "GET",
        concat!(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\n",
            "Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Public: 2\r\nContent-Length: 0\r\n\r\n",
        ),
    );
    for name in ["connection", "keep-alive", "x-private", "proxy-connection", "upgrade"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    assert_eq!(reply.header("x-public"), Some("2"));
}

#[test]
fn a_date_is_added_and_never_changed() {
    assert!(passed("GET", OK).header("date").is_some(), "RFC 9110 §6.6.1");
    let reply =
        passed("GET", "HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reply.header("date"), Some("Tue, 15 Nov 1994 08:12:31 GMT"));
}

#[test]
fn statuses_nobody_has_heard_of_pass() {
    for status in [200, 206, 299, 402, 418, 499, 599, 799, 999] {
        assert_eq!(
            passed("GET", &format!("HTTP/1.1 {status} Odd\r\nContent-Length: 0\r\n\r\n")).status,
            status
        );
    }
}

#[test]
fn values_that_are_no_text_pass_as_they_are() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Latin: caf\xe9 \x80\xff\r\n\r\n");
    let mut backend = stage.accept();
    let head = backend.raw_head();
    assert!(head.windows(18).any(|window| window == b"x-latin: caf\xe9 \x80\xff\r\n"), "{head:?}");
    backend.send(b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\nContent-Length: 0\r\n\r\n");
    let head = client.raw_head();
    assert!(head.windows(15).any(|window| window == b"x-latin: caf\xe9\r\n"), "{head:?}");
}

#[test]
fn a_space_before_a_colon_is_removed() {
    // RFC 9112 §5.1: a proxy must not pass it on, or the next one may read another header.
    let reply = passed(
        "GET",
        "HTTP/1.1 200 OK\r\nX-Spaced : 1\r\nX-Session-Set : {\"a\":1}\r\nContent-Length : 0\r\n\r\n",
    );
    assert_eq!((reply.header("x-spaced"), reply.header("content-length")), (Some("1"), Some("0")));
    assert_eq!((reply.row(), reply.header("x-session-set")), ("create", None));
}

#[test]
fn a_client_that_only_sends_the_end_of_its_connection_hears_nothing() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    assert_eq!(client.finish().ends(), End::Closed);
    sidecar.until("coatroom_http_connections", 0);
    assert!(stage.is_quiet());
}
