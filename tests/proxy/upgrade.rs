//! Tunnels: after the backend's 101 and never before.

use std::time::Duration;

use coatroom::time::{Length, Stopwatch};

use super::{GET, OK, answer, before, is_problem, with};
use crate::support::{End, Line, Sidecar, Stage};

const ASKS: &str = concat!(
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
);
const SWITCHES: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";

/// A client that asks for a tunnel.
fn ask(sidecar: &Sidecar) -> Line {
    let mut client = Line::to(sidecar.address());
    client.send(ASKS);
    client
}

/// Both ends of a tunnel.
fn tunnel(sidecar: &Sidecar, stage: &Stage) -> (Line, Line) {
    let mut client = ask(sidecar);
    let mut backend = stage.accept();
    backend.head();
    backend.send(format!("{SWITCHES}\r\n"));
    assert_eq!(client.head().0, "HTTP/1.1 101 Switching Protocols");
    (client, backend)
}

#[test]
fn bytes_pass_both_ways_after_a_101_that_sets_the_sessions_cookie() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(ASKS).send("too early, but not lost");
    let mut backend = stage.accept();
    let seen = backend.request();
    assert_eq!((seen.header("connection"), seen.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(seen.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(seen.data(), "{}");
    backend.send(format!("{SWITCHES}Sec-WebSocket-Accept: x\r\nX-Session-Set: {{\"a\":1}}\r\n\r\nat once"));
    let reply = client.reply();
    assert_eq!((reply.status, reply.row()), (101, "create"));
    assert_eq!((reply.header("connection"), reply.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!((reply.header("sec-websocket-accept"), reply.header("x-session-set")), (Some("x"), None));
    assert!(reply.header("set-cookie").is_some_and(|cookie| cookie.starts_with("sessionid=")));
    assert_eq!((reply.header("content-length"), reply.header("transfer-encoding")), (None, None));
    assert_eq!(client.bytes(7), b"at once");
    assert_eq!(backend.bytes(23), b"too early, but not lost");
    for n in 0..50_u8 {
        client.send([n; 300]);
        assert_eq!(backend.bytes(300), [n; 300]);
        backend.send([n; 5]);
        assert_eq!(client.bytes(5), [n; 5]);
    }
    assert_eq!(sidecar.metric("coatroom_tunnels"), 1);
    drop(client);
    assert_eq!(backend.ends(), End::Closed);
    drop(backend);
    sidecar.until("coatroom_tunnels", 0);
}

#[test]
fn megabytes_pass_both_ways_at_once() {
    const MANY: usize = 8_000_000;
    let stage = Stage::new();
    let sidecar = before(&stage);
    let (mut client, mut backend) = tunnel(&sidecar, &stage);
    std::thread::scope(|scope| {
        for line in [&client, &backend] {
            let mut line = line.twin();
            scope.spawn(move || {
                line.send(vec![7; MANY]).finish();
            });
        }
        for line in [&mut client, &mut backend] {
            scope.spawn(move || {
                let (bytes, end) = line.rest();
                assert_eq!((bytes.len(), end), (MANY, End::Closed));
            });
        }
    });
}

#[test]
fn either_side_may_fall_silent_first() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for swapped in [false, true] {
        let (client, backend) = tunnel(&sidecar, &stage);
        let (mut one, mut other) = if swapped { (backend, client) } else { (client, backend) };
        one.send("last words").finish();
        assert_eq!(other.rest(), (b"last words".to_vec(), End::Closed));
        other.send("still here");
        assert_eq!(one.bytes(10), b"still here");
        assert_eq!(sidecar.metric("coatroom_tunnels"), 1);
        drop(other);
        one.ends();
        sidecar.until("coatroom_tunnels", 0);
    }
}

#[test]
fn a_side_that_breaks_ends_the_other() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let (client, mut backend) = tunnel(&sidecar, &stage);
    client.tear();
    backend.ends();
    let (mut client, backend) = tunnel(&sidecar, &stage);
    backend.tear();
    client.ends();
    sidecar.until("coatroom_tunnels", 0);
}

#[test]
fn without_a_101_there_is_no_tunnel() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(ASKS).send(b"\x81\x85\x00\x00\x00\x00hello");
    let mut backend = stage.accept();
    backend.head();
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    assert_eq!(backend.ends(), End::Closed, "nothing that came before a 101 is passed on");
    assert_eq!(client.reply().status, 400, "what is no request is none");
    assert_eq!(sidecar.metric("coatroom_tunnels"), 0);

    let mut client = Line::to(sidecar.address());
    client.send(ASKS);
    let mut backend = stage.accept();
    backend.head();
    backend.send(concat!(
        "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: websocket/13\r\n",
        "Content-Length: 0\r\n\r\n",
    ));
    let reply = client.reply();
    assert_eq!((reply.status, reply.header("upgrade")), (426, Some("websocket/13")));
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok", "the client's connection goes on");
}

#[test]
fn a_cleartext_http_2_is_never_asked_for() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for upgrade in ["h2c", "H2C", "websocket, h2c"] {
        let mut client = Line::to(sidecar.address());
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        ));
        let mut backend = stage.accept();
        let seen = backend.request();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.header(name), None, "{upgrade}: {name}");
        }
        backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.reply().text(), "ok");
    }
}

#[test]
fn an_upgrade_that_connection_does_not_name_or_http_1_0_asks_for_is_none() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut client = Line::to(sidecar.address());
        client.send(request);
        let mut backend = stage.accept();
        assert_eq!(backend.request().header("upgrade"), None, "{request}");
        backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.reply().text(), "ok");
    }
}

#[test]
fn a_101_that_nobody_asked_for_is_the_backends_fault_and_changes_nothing() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let other = SWITCHES.replace("websocket", "tls/1.0");
    let silent = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (asks, switches) in [(GET, SWITCHES.to_owned()), (GET, silent.clone()), (ASKS, other), (ASKS, silent)]
    {
        let mut client = Line::to(sidecar.address());
        client.send(asks);
        let mut backend = stage.accept();
        backend.head();
        backend.send(format!("{switches}X-Session-Set: {{\"a\":1}}\r\n\r\n"));
        let reply = client.reply();
        assert_eq!((reply.status, reply.problem()), (502, "backend-failed".to_owned()), "{switches}");
        assert_eq!(reply.header("set-cookie"), None);
        backend.ends();
    }
    assert_eq!(sidecar.metric("coatroom_session_creates_total"), 0);
    assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"protocol\"}"), 4);
    assert_eq!(sidecar.metric("coatroom_tunnels"), 0);
}

#[test]
fn an_upgrade_may_have_a_body() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client
        .send(ASKS.replace("GET", "POST").replace("Host: a\r\n", "Host: a\r\nContent-Length: 4\r\n"))
        .send("body");
    let mut backend = stage.accept();
    assert_eq!(backend.request().body, b"body");
    backend.send(format!("{SWITCHES}\r\n"));
    assert_eq!(client.reply().status, 101);
    client.send("up");
    assert_eq!(backend.bytes(2), b"up");
    backend.send("down");
    assert_eq!(client.bytes(4), b"down");
}

#[test]
fn a_client_that_hung_up_before_the_101_leaves_no_tunnel() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(ASKS);
    let mut backend = stage.accept();
    backend.head();
    client.tear();
    sidecar.until("coatroom_http_connections", 0);
    backend.send(format!("{SWITCHES}X-Session-Set: {{\"a\":1}}\r\n\r\n"));
    backend.ends();
    sidecar.until("coatroom_tunnels", 0);
    assert_eq!(sidecar.metric("coatroom_session_creates_total"), 1, "its commit counts all the same");
}

#[test]
fn what_can_not_end_by_itself_is_cut_off_when_the_time_is_over() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.drain_timeout = Length::millis(100));
    let counters = sidecar.counters();
    let (mut client, mut backend) = tunnel(&sidecar, &stage);
    let stopping = std::thread::spawn(move || sidecar.stop());
    client.ends();
    backend.ends();
    stopping.join().expect("it stops");
    let text = counters.render().expect("text");
    let cut = "coatroom_tunnels_total{end=\"cut\"} 1\n";
    assert!(String::from_utf8_lossy(&text).contains(cut));
}

#[test]
fn a_tunnel_that_ends_by_itself_is_waited_for() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut idle = Line::to(sidecar.address());
    let (mut client, mut backend) = tunnel(&sidecar, &stage);
    let stopping = std::thread::spawn(move || sidecar.stop());
    idle.ends();
    client.send("still");
    assert_eq!(backend.bytes(5), b"still");
    assert!(!stopping.is_finished());
    drop((client, backend));
    stopping.join().expect("it stops");
}

#[test]
fn a_pipelined_request_that_hoped_for_a_tunnel_is_read_as_any_other() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(ASKS).send(
        "GET /admin HTTP/1.1\r\nHost: a\r\nX-Session-Data: {\"user_id\":1}\r\nConnection: close\r\n\r\n",
    );
    let mut backend = stage.accept();
    backend.request();
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    assert_eq!(backend.ends(), End::Closed, "what was asked for a tunnel serves no other request");
    let mut other = stage.accept();
    let seen = other.request();
    assert_eq!((&*seen.target, seen.data()), ("/admin", "{}"));
    other.send(OK);
    assert_eq!(client.reply().text(), "ok");
    assert_eq!(sidecar.metric("coatroom_headers_stripped_total{side=\"client\"}"), 1);
    client.ends();
}

#[test]
fn the_settings_of_http_2_go_no_further_even_alone() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: AAMAAABk\r\n\r\n");
    let mut backend = stage.accept();
    assert_eq!(backend.request().header("http2-settings"), None);
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn there_are_no_more_tunnels_than_the_settings_say() {
    let stage = Stage::new();
    // Two workers, who count together.
    let sidecar = with(&stage, |config| {
        config.proxy.max_tunnels = 2;
        config.proxy.workers = 2;
    });
    let (mut client, mut backend) = tunnel(&sidecar, &stage);
    // One that the backend has not agreed to yet has its place.
    let mut waiting = ask(&sidecar);
    let mut undecided = stage.accept();
    undecided.head();
    for refused in 1..=8 {
        let reply = ask(&sidecar).reply();
        is_problem(&reply, 503, "too-many-tunnels");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(sidecar.metric("coatroom_tunnels_total{end=\"refused\"}"), refused);
    }
    assert!(stage.is_quiet(), "the backend does not hear of it");
    let mut plain = Line::to(sidecar.address());
    plain.send(GET);
    answer(&mut stage.accept());
    assert_eq!(plain.reply().text(), "ok", "other requests are no tunnels");
    client.send("up");
    assert_eq!(backend.bytes(2), b"up", "those that are there go on");

    undecided.send(OK);
    assert_eq!(waiting.reply().text(), "ok");
    let (second, mut other) = tunnel(&sidecar, &stage);
    is_problem(&ask(&sidecar).reply(), 503, "too-many-tunnels");
    drop(second);
    other.ends();
    drop(other);
    sidecar.until("coatroom_tunnels_total{end=\"closed\"}", 1);
    sidecar.until("coatroom_tunnels", 1);
    tunnel(&sidecar, &stage);
}

#[test]
fn a_tunnel_that_nothing_passes_through_ends() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.tunnel_idle_timeout = Length::millis(300));
    let (mut client, mut backend) = tunnel(&sidecar, &stage);
    assert_eq!((client.ends(), backend.ends()), (End::Closed, End::Closed));
    sidecar.until("coatroom_tunnels_total{end=\"idle\"}", 1);
    let (mut client, mut backend) = tunnel(&sidecar, &stage);
    client.finish();
    assert_eq!(backend.ends(), End::Closed);
    assert_eq!(client.ends(), End::Closed, "nor does one that is half closed wait for ever");
    sidecar.until("coatroom_tunnels_total{end=\"idle\"}", 2);
    sidecar.until("coatroom_tunnels", 0);
}

#[test]
fn bytes_of_either_side_alone_keep_a_tunnel() {
    const IDLE: Duration = Duration::from_millis(1500);
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.tunnel_idle_timeout = Length(IDLE));
    let (mut up, mut down) = (tunnel(&sidecar, &stage), tunnel(&sidecar, &stage));
    let watch = Stopwatch::start();
    while watch.elapsed() < 2 * IDLE {
        for (one, other) in [(&mut up.0, &mut up.1), (&mut down.1, &mut down.0)] {
            one.send("x");
            assert_eq!(other.bytes(1), b"x");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop((up, down));
    sidecar.until("coatroom_tunnels_total{end=\"closed\"}", 2);
}
