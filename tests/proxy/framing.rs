//! Messages that two readers could understand in two ways: refused, or passed on in one way only.

use std::thread;
use std::time::Duration;

use coatroom::config::Config;

use super::{GET, OK, answer, before, is_problem, under_way, with};
use crate::support::{Line, Sidecar, Stage};

/// The request is refused, the connection ends, and the backend hears of none of it.
fn refused(request: impl AsRef<[u8]>) -> u16 {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(request.as_ref());
    let reply = client.reply();
    let (status, slug) = (reply.status, reply.problem());
    is_problem(&reply, status, &slug);
    assert_eq!(slug, if status == 413 { "body-too-large" } else { "bad-request" });
    assert!(reply.header("connection") == Some("close") && reply.header("date").is_some(), "{reply:?}");
    client.finish().rest();
    sidecar.until("coatroom_http_connections", 0);
    assert!(stage.is_quiet(), "{:?}", String::from_utf8_lossy(request.as_ref()));
    status
}

/// What a request that could be smuggled looks like.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_request_that_frames_its_body_in_no_way_or_in_two_is_refused() {
    for framing in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length: 1, 2",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: 1_0",
        "Content-Length: 1 0",
        "Content-Length: one",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;x=1",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n1\r\nA\r\n0\r\n\r\n{SMUGGLED}");
        assert_eq!(refused(request), 400, "{framing}");
    }
    assert_eq!(refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n"), 413);
    assert_eq!(refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
}

#[test]
fn a_head_that_is_none_is_refused() {
    for head in [
        &b"GET / HTTP/1.1\r\nHost: a\r\nX-A : 1\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\rX-B: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3\xa9: 1\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        assert_eq!(refused(head), 400, "{:?}", String::from_utf8_lossy(head));
    }
}

#[test]
fn a_request_without_one_good_host_is_refused() {
    for host in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a b\r\n",
        "Host: a, b\r\n",
        "Host: a/b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: user@a\r\n",
        "Host: http://a\r\n",
        "Host: a:b\r\n",
        "Host: a:80:80\r\n",
        "Host: a:99999\r\n",
        "Host: [::1\r\n",
        "Host: \"a\"\r\n",
        "Host: a\\b\r\n",
        "Host: caf\u{e9}\r\n",
        "Host:\r\n",
    ] {
        assert_eq!(refused(format!("GET / HTTP/1.1\r\n{host}\r\n")), 400, "{host:?}");
    }
    assert_eq!(refused("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    for host in ["a", "A.b-c_d.example:8080", "127.0.0.1", "[::1]:80", "a:", "xn--caf-dma.example"] {
        let stage = Stage::new();
        let sidecar = before(&stage);
        let mut client = Line::to(sidecar.address());
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(stage.accept().request().header("host"), Some(host));
    }
}

/// A request is refused behind others of its connection, which are served, whatever pieces they come in.
fn refused_behind(others: &[&str], request: &str, why: &str) {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut backend = None;
    for piece in [1, 7, 1_000_000] {
        let mut client = Line::to(sidecar.address());
        let (mut sender, all) = (client.twin(), others.concat() + request + SMUGGLED);
        let sender = thread::spawn(move || all.as_bytes().chunks(piece).all(|piece| sender.try_send(piece)));
        for _ in others {
            answer(backend.get_or_insert_with(|| stage.accept()));
            assert_eq!(client.reply().text(), "ok");
        }
        let reply = client.reply();
        is_problem(&reply, 400, "bad-request");
        assert!(reply.text().contains(why), "{request:?}: {}", reply.text());
        client.finish().rest();
        sender.join().expect("it sends what it can");
        sidecar.until("coatroom_http_connections", 0);
    }
    assert!(stage.is_quiet(), "{request:?}");
    if let Some(mut backend) = backend {
        assert!(backend.peek(Duration::from_millis(1)).is_empty(), "{request:?}");
    }
}

/// What may stand before a request on its connection.
const BEFORE: [&[&str]; 5] = [
    &[],
    &[GET],
    &[GET, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 21\r\n\r\nContent-Length: 1\r\n\r\n"],
    &[
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         15;a=\"b\"\r\nContent-Length: 1\r\n\r\n\r\n0000\r\nX-Sum: 1\r\nX-More:\r\n\r\n",
        GET,
    ],
    &["POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
];

#[test]
fn a_length_beside_chunks_is_refused_in_both_orders() {
    // RFC 9112 §6.1 would let us go by the chunks alone and close. Whoever was before us may have gone by the length.
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nX: y\r\ncontent-length:",
        "CONTENT-LENGTH: 5\r\nX: y\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\n");
        for others in BEFORE {
            refused_behind(others, &request, "Content-Length beside Transfer-Encoding");
        }
    }
}

#[test]
fn a_line_that_ends_in_lf_alone_is_refused() {
    for request in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n\r",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\n\r\r",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\n\r\n0\r\n\r\n",
    ] {
        for others in BEFORE {
            refused_behind(others, request, "LF alone");
        }
    }
}

#[test]
fn a_target_with_a_fragment_is_refused() {
    // hyper would cut it off, and others would not (HAProxy CVE-2023-45539).
    for target in ["/a#b", "/#", "/a?b=c#d", "http://a/#b", "/static.png#/../admin"] {
        for others in BEFORE {
            refused_behind(others, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), "fragment");
        }
    }
    assert_eq!(refused("GET #a HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

#[test]
fn empty_lines_before_a_request_count_for_nothing() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(format!("\r\n\r\n{GET}"));
    let mut backend = stage.accept();
    answer(&mut backend);
    client.reply();
    client.send(format!("\r\n{GET}"));
    answer(&mut backend);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn the_same_length_twice_is_passed_on_once() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi");
    let seen = stage.accept().request();
    assert_eq!((seen.header("content-length"), &*seen.body), (Some("2"), &b"hi"[..]));
}

#[test]
fn what_follows_an_answer_of_ours_is_never_served() {
    // Whether the request is refused, answered by us alone, or can't be served (pingora CVE-2025-4366).
    let (_socket, nobody) = Stage::nobody();
    let away = |config: &mut Config| config.store.url = format!("redis://{nobody}").as_str().into();
    let loops = "Via: 1.1 coatroom\r\n".repeat(8);
    let looping = format!("POST / HTTP/1.1\r\nHost: a\r\n{loops}");
    let known = "POST / HTTP/1.1\r\nHost: a\r\nCookie: sessionid=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
    let body = format!("{SMUGGLED}{}", "x".repeat(200_000));
    let long = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let short = format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    let chunked =
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for rest in [long, short, chunked] {
        for (first, status) in [
            ("TRACE / HTTP/1.1\r\nHost: a\r\n", 405),
            ("POST / HTTP/1.1\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n", 417),
            ("POST /#a HTTP/1.1\r\nHost: a\r\n", 400),
            ("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n", 204),
            (&looping, 508),
            (known, 503),
        ] {
            let stage = Stage::new();
            let sidecar = if status == 503 { with(&stage, away) } else { before(&stage) };
            let mut client = Line::to(sidecar.address());
            let (address, all) = (sidecar.address(), format!("{first}{rest}"));
            let sender = client.twin();
            let sender = thread::spawn(move || {
                let mut sender = sender;
                sender.try_send(all);
            });
            assert_eq!(client.reply().status, status, "{first}");
            sender.join().expect("it sends what it can");
            assert_eq!(client.finish().rest().0, b"", "{first}");
            sidecar.until("coatroom_http_connections", 0);
            assert!(stage.is_quiet(), "{first}");
            let mut client = Line::to(address);
            client.send(GET);
            assert_eq!(stage.accept().request().target, "/");
        }
    }
    // A backend that isn't there.
    let sidecar = Sidecar::before(nobody);
    let mut client = Line::to(sidecar.address());
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()));
    assert_eq!(client.reply().status, 502);
    assert_eq!(client.finish().rest().0, b"");
}

#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()));
    let mut backend = stage.accept();
    assert_eq!(backend.request().body, SMUGGLED.as_bytes());
    backend.send(OK);
    client.reply();
    client.send(GET);
    answer(&mut backend);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn targets_pass_to_the_byte() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    let mut backend = None;
    for target in [
        "/",
        "//",
        "/a/../b/./c//d",
        "/%2e%2E/%2F%5c;p=1;q",
        "/a+b%20c%zz%",
        "/?",
        "/?a=%00&b=c?d/e&=&&",
        "/a?b=http://x/y?z",
        "/a:b@c!$&'()*+,;=~_-.|^{}\"[]\\",
        "/?q=|^`{}[]\\'",
        "*",
    ] {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let backend = backend.get_or_insert_with(|| stage.accept());
        assert_eq!(backend.request().target, target, "{target}");
        backend.send(OK);
        assert_eq!(client.reply().status, 200, "{target}");
    }
}

#[test]
fn an_absolute_target_says_which_host_is_meant() {
    for (target, path, host) in [
        ("http://shop.test/a?b=c", "/a?b=c", "shop.test"),
        ("http://shop.test:8080/", "/", "shop.test:8080"),
        ("HTTP://Shop.Test/A", "/A", "Shop.Test"),
        ("https://[::1]:9/x", "/x", "[::1]:9"),
        ("http://shop.test", "/", "shop.test"),
        ("http://shop.test?a=b", "/?a=b", "shop.test"),
    ] {
        let stage = Stage::new();
        let sidecar = before(&stage);
        let mut client = Line::to(sidecar.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: other.test\r\n\r\n"));
        let seen = stage.accept().request();
        assert_eq!((&*seen.target, seen.header("host")), (path, Some(host)), "{target}");
        assert_eq!(seen.header("x-forwarded-host"), Some(host), "{target}");
    }
}

#[test]
fn a_target_of_another_form_is_refused() {
    for line in [
        "GET shop.test",
        "GET shop.test:80",
        "GET *",
        "POST *",
        "GET http://user:secret@shop.test/",
        "GET http://user@shop.test/",
        "GET http:///a",
        "GET ?a=b",
        "GET ftp://shop.test/a",
        "GET http:/shop.test",
        "GET /<a>",
        "GET /`a`",
        "GET /?a=<b>",
        "GET /?a=\"b\"",
    ] {
        assert_eq!(refused(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")), 400, "{line}");
    }
}

#[test]
fn a_response_that_frames_its_body_in_two_ways_is_the_backends_fault() {
    for framing in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 2",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: +2",
        "Content-Length: two",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        let stage = Stage::new();
        let (sidecar, mut client, mut backend) = under_way(&stage, GET);
        backend.send(format!(
            "HTTP/1.1 200 OK\r\nX-Session-Set: {{\"a\":1}}\r\n{framing}\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        ));
        let reply = client.reply();
        assert_eq!((reply.status, reply.problem()), (502, "backend-failed".to_owned()), "{framing}");
        assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"protocol\"}"), 1, "{framing}");
        assert_eq!(sidecar.metric("coatroom_session_creates_total"), 0, "{framing}");
        backend.rest();
        client.send(GET);
        answer(&mut stage.accept());
        assert_eq!(client.reply().text(), "ok", "{framing}");
    }
}

#[test]
fn a_length_that_a_response_to_head_claims_is_one_or_none() {
    for (length, status) in [("2, 2", 502), ("x", 502), ("2\r\nContent-Length: 3", 502), ("5000000000", 200)]
    {
        let stage = Stage::new();
        let (_sidecar, mut client, mut backend) = under_way(&stage, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        backend.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        assert_eq!(client.reply_to_head().status, status, "{length}");
    }
}

#[test]
fn a_body_longer_than_it_says_is_cut_at_its_length() {
    let stage = Stage::new();
    let (_sidecar, mut client, mut backend) = under_way(&stage, GET);
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more");
    assert_eq!(client.reply().text(), "ok");
    backend.ends();
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
}

/// Another reader before us may take the body for over there, and what follows for a request of somebody else.
#[test]
fn a_trailer_that_ends_in_lf_alone_is_refused_whatever_pieces_it_comes_in() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for trailers in ["\n", "X: y\n\r\n", "\nX: y\r\n\r\n", "X: y\r\n\n"] {
        assert_eq!(refused(format!("{head}1\r\nA\r\n0\r\n{trailers}{SMUGGLED}")), 400, "{trailers:?}");
        let stage = Stage::new();
        let sidecar = before(&stage);
        let mut client = Line::to(sidecar.address());
        client.send(format!("{head}1\r\nA\r\n"));
        let mut backend = stage.accept();
        backend.bytes(1);
        client.send(format!("0\r\n{trailers}{SMUGGLED}"));
        is_problem(&client.reply(), 400, "incomplete-body");
        client.finish().rest();
        sidecar.until("coatroom_http_connections", 0);
        assert!(!String::from_utf8_lossy(&backend.rest().0).contains("smuggled"), "{trailers:?}");
    }
}
