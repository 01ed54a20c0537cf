//! How large and how many things may be: to the byte, and in the whole process.

use std::time::Duration;

use coatroom::time::{Length, Stopwatch};

use super::{GET, OK, answer, before, is_problem, with};
use crate::support::child::until;
use crate::support::{Backend, End, Line, Sidecar, Stage, send};

/// How often a limit was met.
pub fn reached(sidecar: &Sidecar, limit: &str) -> u64 {
    sidecar.metric(&format!("coatroom_limits_reached_total{{limit=\"{limit}\"}}"))
}

/// A head of so many bytes.
fn head(length: usize) -> String {
    let (before, after) = ("GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", "\r\n\r\n");
    format!("{before}{}{after}", "x".repeat(length - before.len() - after.len()))
}

#[test]
fn a_head_may_have_its_bytes_and_not_one_more() {
    for most in [1024, 2000, 8192, 65_536, 524_288] {
        let stage = Stage::new();
        let sidecar = with(&stage, |config| config.proxy.max_head_bytes = most);
        let mut client = Line::to(sidecar.address());
        client.send(head(most));
        let mut backend = stage.accept();
        answer(&mut backend);
        assert_eq!(client.reply().text(), "ok", "{most} bytes");
        // Another one behind it doesn't count.
        client.send(format!("{}{}", head(most), head(most)));
        answer(&mut backend);
        answer(&mut backend);
        assert_eq!((client.reply().text(), client.reply().text()), ("ok".to_owned(), "ok".to_owned()));
        let whole = head(most + 1);
        for pieces in [vec![&whole[..]], vec![&whole[..most]], vec![&whole[..1], &whole[1..]]] {
            let mut client = Line::to(sidecar.address());
            for piece in pieces {
                client.try_send(piece);
            }
            let reply = client.reply();
            is_problem(&reply, 431, "head-too-large");
            assert_eq!(reply.header("connection"), Some("close"));
        }
        let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(most));
        is_problem(&Line::to(sidecar.address()).ask(&target), 414, "target-too-long");
        assert_eq!(reached(&sidecar, "max_head_bytes"), 4);
        assert!(stage.is_quiet());
    }
}

#[test]
fn a_head_may_have_its_lines_and_not_one_more() {
    for most in [1, 5, 100, 128, 3000] {
        let stage = Stage::new();
        let sidecar = with(&stage, |config| config.proxy.max_headers = most);
        let head = |lines: usize| {
            let lines: String = (1..lines).map(|n| format!("X-{n}: {n}\r\n")).collect();
            format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
        };
        let mut client = Line::to(sidecar.address());
        client.send(head(most));
        let mut backend = stage.accept();
        let seen = backend.request();
        assert_eq!(
            seen.headers.iter().filter(|(name, _)| name.len() < 7 && name.starts_with("x-")).count(),
            most - 1
        );
        backend.send(OK);
        assert_eq!(client.reply().text(), "ok");
        client.send(head(most + 1));
        is_problem(&client.reply(), 431, "head-too-large");
        assert_eq!((reached(&sidecar, "max_headers"), reached(&sidecar, "max_head_bytes")), (1, 0));
        assert_eq!(sidecar.metric("coatroom_panics_total"), 0);
    }
}

/// hyper is not told of more lines than usual before a client has some.
#[test]
fn a_head_of_more_lines_than_usual_may_come_at_any_time_and_in_pieces() {
    let stage = Stage::new();
    let sidecar = with(&stage, |_| {});
    let head = |path: &str, lines: usize, rest: &str| {
        let lines: String = (3..=lines).map(|n| format!("X-{n}: {n}\r\n")).collect();
        format!("POST /{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n{lines}\r\n{rest}")
    };
    let all = [("a", 3), ("b", 120), ("c", 4), ("d", 128), ("e", 101), ("f", 100)]
        .map(|(path, lines)| head(path, lines, &path.repeat(4)))
        .concat();
    for piece in [all.len(), 1000, 100] {
        let mut client = Line::to(sidecar.address());
        for piece in all.as_bytes().chunks(piece) {
            client.send(piece);
        }
        let mut backend = stage.accept();
        for (path, lines) in [("a", 3), ("b", 120), ("c", 4), ("d", 128), ("e", 101), ("f", 100)] {
            let seen = backend.request();
            let theirs = seen.headers.iter().filter(|(name, _)| name.len() < 6 && name.starts_with("x-"));
            assert_eq!((seen.target, theirs.count()), (format!("/{path}"), lines - 2));
            assert_eq!(seen.body, path.repeat(4).as_bytes());
            backend.send(OK);
            assert_eq!(client.reply().text(), "ok");
        }
        drop(backend);
    }
    assert_eq!((reached(&sidecar, "max_headers"), sidecar.metric("coatroom_panics_total")), (0, 0));
}

#[test]
fn a_body_whose_length_is_known_may_have_its_bytes_and_not_one_more() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.max_body_bytes = 4);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let mut backend = stage.accept();
    assert_eq!(backend.request().body, b"body");
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    for more in ["", "Expect: 100-continue\r\n"] {
        let mut client = Line::to(sidecar.address());
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{more}\r\n"));
        let reply = client.reply();
        is_problem(&reply, 413, "body-too-large");
        assert_eq!((reply.header("connection"), client.ends()), (Some("close"), End::Closed));
    }
    assert!(backend.peek(Duration::from_millis(20)).is_empty() && stage.is_quiet());
    assert_eq!(reached(&sidecar, "max_body_bytes"), 2);
}

/// A request whose body has no length.
pub const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_body_in_chunks_is_cut_off_when_it_is_too_long() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.max_body_bytes = 4);
    let mut client = Line::to(sidecar.address());
    client.send(CHUNKED).send("2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n");
    let mut backend = stage.accept();
    assert_eq!(backend.request().body, b"body");
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    client.send(CHUNKED).send("2\r\nbo\r\n");
    backend.head();
    assert_eq!(backend.bytes(7), b"2\r\nbo\r\n");
    client.send("3\r\ndy!\r\n0\r\n\r\n");
    is_problem(&client.reply(), 413, "body-too-large");
    let (rest, _) = backend.rest();
    assert!(rest.is_empty(), "the backend sees no end of it");
    assert_eq!(reached(&sidecar, "max_body_bytes"), 1);
    assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"reset\"}"), 0, "it is not its fault");
}

#[test]
fn a_body_that_is_too_long_after_its_answer_has_begun_ends_the_connection() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.max_body_bytes = 4);
    let mut client = Line::to(sidecar.address());
    client.send(CHUNKED).send("2\r\nbo\r\n");
    let mut backend = stage.accept();
    backend.head();
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    client.head();
    client.send("3\r\ndy!\r\n");
    client.rest();
    backend.rest();
}

#[test]
fn a_tunnel_is_a_client_too() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.max_connections = 1;
        config.proxy.max_backend_connections = 1;
        config.proxy.connect_timeout = Length::millis(200);
    });
    let mut client = Line::to(sidecar.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let mut backend = stage.accept();
    backend.head();
    backend.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    client.head();
    sidecar.until("coatroom_tunnels", 1);
    let mut late = Line::to(sidecar.address());
    late.send(GET);
    until(|| (reached(&sidecar, "max_connections") == 1).then_some(()));
    assert_eq!(sidecar.metric("coatroom_backend_connections"), 1);
    assert!(late.peek(Duration::from_millis(50)).is_empty());
    drop((client, backend));
    answer(&mut stage.accept());
    assert_eq!(late.reply().text(), "ok");
}

#[test]
fn one_request_too_many_is_refused_at_once() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.workers = 2;
        config.proxy.max_requests = 2;
    });
    let mut clients: Vec<_> = (0..2).map(|_| Line::to(sidecar.address())).collect();
    let mut backends: Vec<Line> = clients
        .iter_mut()
        .map(|client| {
            client.send(GET);
            let mut backend = stage.accept();
            backend.request();
            backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n");
            client.head();
            backend
        })
        .collect();
    // The response's head is here; the request is under way to the end of its body.
    let mut late = Line::to(sidecar.address());
    for n in 1..=3 {
        let reply = late.ask(GET);
        is_problem(&reply, 503, "overloaded");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(reached(&sidecar, "max_requests"), n);
    }
    assert!(stage.is_quiet());
    backends[0].send("body");
    assert_eq!(clients[0].bytes(4), b"body");
    sidecar.until("coatroom_http_requests_in_flight", 1);
    late.send(GET);
    answer(&mut stage.accept());
    assert_eq!(late.reply().text(), "ok");
}

#[test]
fn a_request_waits_its_turn_for_a_connection_to_the_backend() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.max_backend_connections = 1);
    let mut clients: Vec<_> = (0..3).map(|_| Line::to(sidecar.address())).collect();
    clients[0].send(GET);
    let mut backend = stage.accept();
    assert_eq!(backend.request().target, "/");
    for (n, client) in clients.iter_mut().enumerate().skip(1) {
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
        until(|| (reached(&sidecar, "max_backend_connections") == n as u64).then_some(()));
    }
    assert!(stage.is_quiet());
    backend.send(OK);
    assert_eq!(clients[0].reply().text(), "ok");
    for (n, client) in clients.iter_mut().enumerate().skip(1) {
        let mut backend = stage.accept();
        assert_eq!(backend.request().target, format!("/{n}"));
        assert!(stage.is_quiet() && sidecar.metric("coatroom_backend_connections") == 1);
        backend.send(OK);
        assert_eq!(client.reply().text(), "ok");
    }
}

#[test]
fn a_request_waits_no_longer_than_a_connection_may_take() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.max_backend_connections = 1;
        config.proxy.connect_timeout = Length::millis(100);
    });
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    backend.request();
    let reply = send(sidecar.address(), GET);
    is_problem(&reply, 503, "backend-busy");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"busy\"}"), 1);
    // Who went away meanwhile keeps nobody waiting.
    let mut gone = Line::to(sidecar.address());
    gone.send(GET);
    until(|| (reached(&sidecar, "max_backend_connections") == 2).then_some(()));
    drop(gone);
    sidecar.until("coatroom_http_connections", 1);
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    client.send(GET);
    answer(&mut backend);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn connections_that_nobody_uses_make_room_for_another_worker() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.proxy.workers = 4;
        config.proxy.max_backend_connections = 1;
    });
    let (watch, address) = (Stopwatch::start(), sidecar.address());
    for _ in 0..40 {
        assert_eq!(send(address, GET).text(), "ok");
    }
    assert!(reached(&sidecar, "max_backend_connections") > 0, "more than one worker was asked");
    assert!(watch.elapsed() < Duration::from_secs(10), "it takes no timer");
}

#[test]
fn a_second_sidecar_finds_the_address_taken() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let address = sidecar.address();
    let refusal = Sidecar::refusal(|config| config.proxy.listen = address);
    assert!(refusal.contains(&format!("proxy.listen: can't listen on {address}")), "{refusal}");
    let port = address.port();
    let refusal = Sidecar::refusal(|config| config.proxy.listen.set_port(port));
    assert!(refusal.contains("in use"), "{refusal}");
}
