//! Headers of requests on their way to the backend.

use super::{GET, OK, before, is_problem, with};
use crate::support::{Line, Seen, Sidecar, Stage};

/// What a backend sees of a request with these headers.
fn seen(sidecar: &Sidecar, stage: &Stage, headers: &str) -> Seen {
    let mut client = Line::to(sidecar.address());
    client.send(format!("GET / HTTP/1.1\r\nHost: shop.test:81\r\n{headers}\r\n"));
    let mut backend = stage.accept();
    let seen = backend.request();
    backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    seen
}

#[test]
fn the_backend_is_told_who_asks() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let said = seen(&sidecar, &stage, "");
    assert_eq!(said.header("host"), Some("shop.test:81"));
    assert_eq!(said.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(said.header("x-forwarded-proto"), Some("http"));
    assert_eq!(said.header("x-forwarded-host"), Some("shop.test:81"));
    assert_eq!(said.header("forwarded"), Some("for=127.0.0.1;host=\"shop.test:81\";proto=http"));
    assert_eq!(said.header("via"), Some("1.1 coatroom"));
    assert!(said.header("x-request-id").is_some_and(|id| id.len() == 24));
    assert_ne!(said.header("x-request-id"), seen(&sidecar, &stage, "").header("x-request-id"));
}

#[test]
fn a_stranger_is_not_believed_in_any_spelling() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let lies = concat!(
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n",
        "X-Forwarded-Port: 1\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded.Proto: https\r\nX-Request-Id: mine\r\n",
        "X_Request_Id: mine\r\nHost_: x\r\nVia: 1.0 before\r\nvi_a: 1\r\n",
    );
    let said = seen(&sidecar, &stage, lies);
    assert_eq!(said.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(said.header("x-forwarded-proto"), Some("http"));
    assert_eq!(said.header("x-forwarded-host"), Some("shop.test:81"));
    assert_eq!(said.header("forwarded"), Some("for=127.0.0.1;host=\"shop.test:81\";proto=http"));
    assert!(said.header("x-request-id").is_some_and(|id| id != "mine"));
    let via: Vec<_> =
        said.headers.iter().filter(|(name, _)| name == "via").map(|(_, value)| &**value).collect();
    assert_eq!(via, ["1.0 before", "1.1 coatroom"], "who was before us is no claim about the client");
    for name in ["x-forwarded-port", "x_forwarded_for", "x-forwarded.proto", "x_request_id"] {
        assert_eq!(said.header(name), None, "{name}");
    }
}

#[test]
fn a_trusted_peer_is_believed_and_added_to() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.trusted = vec!["127.0.0.0/8".parse().expect("a network")];
        config.proxy.via = String::new();
    });
    let told = concat!(
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n",
        "X-Forwarded-Host: shop.example\r\nForwarded: for=192.0.2.1\r\nX-Request-Id: theirs\r\n",
    );
    let said = seen(&sidecar, &stage, told);
    assert_eq!(said.header("x-forwarded-for"), Some("192.0.2.1, 192.0.2.2, 127.0.0.1"));
    assert_eq!(said.header("x-forwarded-proto"), Some("https"));
    assert_eq!(said.header("x-forwarded-host"), Some("shop.example"));
    assert!(said.header("forwarded").is_some_and(|list| list.starts_with("for=192.0.2.1, for=127.0.0.1;")));
    assert_eq!(said.header("x-request-id"), Some("theirs"));
    assert_eq!(said.header("via"), None);
    for id in ["", "with space", &"x".repeat(129)] {
        let said = seen(&sidecar, &stage, &format!("X-Request-Id: {id}\r\n"));
        assert_ne!(said.header("x-request-id"), Some(id), "no ID for a log line");
    }
}

#[test]
fn what_belongs_to_the_clients_connection_stays_there() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let said = seen(
        &sidecar,
        &stage,
        concat!(
            "Connection: keep-alive, X-Private, Host, Content-Length, Cookie\r\nConnection: X-Session-Data, X-Forwarded-For\r\n",
            "Keep-Alive: 300\r\nProxy-Connection: keep-alive\r\nX-Private: 1\r\nUpgrade: websocket\r\nTE: gzip\r\n",
            "Cookie: a=b\r\nX-Public: 2\r\n",
        ),
    );
    for name in ["connection", "keep-alive", "proxy-connection", "x-private", "upgrade", "te"] {
        assert_eq!(said.header(name), None, "{name}");
    }
    for (name, value) in
        [("cookie", "a=b"), ("x-public", "2"), ("host", "shop.test:81"), ("x-forwarded-for", "127.0.0.1")]
    {
        assert_eq!(said.header(name), Some(value), "{name}");
    }
    assert_eq!(said.data(), "{}");
}

#[test]
fn lines_of_one_name_keep_their_order() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let said = seen(
        &sidecar,
        &stage,
        "X-Many: 1\r\nAccept: a\r\nX-Many: 3\r\nX-Many: 2\r\nAccept: b, c\r\nX-Empty:\r\n",
    );
    let of = |name: &str| -> Vec<String> {
        said.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(of("x-many"), ["1", "3", "2"]);
    assert_eq!(of("accept"), ["a", "b, c"]);
    assert_eq!(of("x-empty"), [""]);
}

#[test]
fn authentication_is_between_client_and_backend() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let said = seen(
        &sidecar,
        &stage,
        "Authorization: Basic eDp5\r\nConnection: authorization\r\nProxy-Authorization: Basic eA==\r\n",
    );
    assert_eq!(said.header("authorization"), Some("Basic eDp5"));
}

#[test]
fn methods_nobody_has_heard_of_pass() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    super::answer(&mut backend);
    client.reply();
    for method in ["BREW", "PROPFIND", "get", "M-SEARCH", "A!#$%&'*+-.^_`|~1", "PURGE", "OPTIONS"] {
        client.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(backend.request().method, method);
        backend.send(OK);
        assert_eq!(client.reply().text(), "ok", "{method}");
    }
}

#[test]
fn trace_and_connect_are_refused() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for line in ["TRACE /", "CONNECT shop.test:443", "CONNECT /", "CONNECT *"] {
        let mut client = Line::to(sidecar.address());
        let reply = client.ask(&format!("{line} HTTP/1.1\r\nHost: a\r\nX-Secret: 1\r\n\r\n"));
        assert_eq!(
            reply.status,
            if line.ends_with("/") || line.ends_with("443") { 405 } else { reply.status },
            "{line}"
        );
        assert!(matches!(reply.status, 400 | 405), "{line}: {}", reply.status);
        assert!(!String::from_utf8_lossy(&reply.body).contains("X-Secret"));
    }
    let reply = Line::to(sidecar.address()).ask("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(reply.problem(), "method-not-allowed");
    assert_eq!(reply.header("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    assert!(stage.is_quiet());
}

#[test]
fn options_may_ask_about_the_whole_server() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut backend = stage.accept();
    let seen = backend.request();
    assert_eq!((&*seen.method, &*seen.target), ("OPTIONS", "*"));
    backend.send("HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.reply().header("allow"), Some("GET"));
}

#[test]
fn options_may_go_only_so_far() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    let reply = client.ask("OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!((reply.status, reply.header("content-length")), (204, None));
    assert!(reply.header("allow").is_some_and(|methods| methods.contains("OPTIONS")));
    assert!(stage.is_quiet());
    for (method, hops, left) in [("OPTIONS", "1", "0"), ("OPTIONS", "x", "x"), ("GET", "0", "0")] {
        client.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: {hops}\r\n\r\n"));
        let mut backend = stage.accept();
        assert_eq!(backend.request().header("max-forwards"), Some(left), "{method}");
        backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        client.reply();
    }
}

#[test]
fn an_ipv6_client_is_told_of_as_one() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.listen = "[::1]:0".parse().expect("an address"));
    let said = seen(&sidecar, &stage, "");
    assert_eq!(said.header("x-forwarded-for"), Some("::1"));
    assert_eq!(said.header("forwarded"), Some("for=\"[::1]\";host=\"shop.test:81\";proto=http"));
}

#[test]
fn a_sidecar_before_itself_says_so_soon() {
    let (_socket, address) = Stage::nobody();
    let sidecar = Sidecar::with(address, |config| config.proxy.listen = address);
    is_problem(&Line::to(sidecar.address()).ask(GET), 508, "loop-detected");
    assert_eq!(sidecar.metric("coatroom_http_requests_total{code=\"508\",method=\"GET\"}"), 9);
}

#[test]
fn who_has_passed_others_of_our_name_goes_on() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let lines = "Via: 1.1 coatroom, 1.0 fred, 1.1 coatroom\r\n".repeat(3);
    let said = seen(&sidecar, &stage, &lines);
    assert_eq!(said.headers.iter().filter(|(name, _)| name == "via").count(), 4);
    let lines = lines + "Via: 1.1 coatroom (and again), 1.1 coatroom\r\n";
    let reply = Line::to(sidecar.address()).ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    is_problem(&reply, 508, "loop-detected");
    assert!(stage.is_quiet());
}

#[test]
fn a_request_of_http_1_0_is_passed_on_as_one_of_http_1_1() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("GET /x HTTP/1.0\r\nHost: a\r\n\r\n");
    let mut backend = stage.accept();
    let (first, headers) = backend.head();
    assert_eq!(first, "GET /x HTTP/1.1");
    let via = headers.iter().find(|(name, _)| name == "via").map(|(_, value)| &**value);
    assert_eq!(via, Some("1.0 coatroom"), "RFC 9110 §7.6.3: the protocol that was received");
}
