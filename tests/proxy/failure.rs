//! A backend that fails: whose fault it is called, and that nothing is sent twice.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use coatroom::time::Length;

use super::{GET, OK, answer, before, is_problem, under_way, with};
use crate::support::{Line, Sidecar, Stage, send};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn a_backend_that_is_not_there_is_a_502() {
    let (_socket, nobody) = Stage::nobody();
    let sidecar = Sidecar::before(nobody);
    let reply = send(sidecar.address(), GET);
    is_problem(&reply, 502, "backend-failed");
    let sidecar = Sidecar::at("unix:/nowhere/app.sock", |_| {});
    is_problem(&send(sidecar.address(), GET), 502, "backend-failed");
    let sidecar = Sidecar::at("http://no-such-host.invalid:1", |_| {});
    is_problem(&send(sidecar.address(), GET), 502, "backend-failed");
    assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"connect\"}"), 1);
}

#[test]
fn a_head_that_breaks_off_is_a_502_and_what_was_answered_or_may_not_be_repeated_is_sent_once() {
    for said in [
        "",
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nX-Session-Set: {\"a\":1}\r\n",
        "HTTP/1.1 103 Early\r\n\r\n",
    ] {
        for torn in [false, true] {
            for kept in [false, true] {
                for request in [GET, POST] {
                    let stage = Stage::new();
                    let (sidecar, mut client, mut backend) = under_way(&stage, GET);
                    backend.send(if kept { OK } else { "HTTP/1.1 204 Ok\r\nConnection: close\r\n\r\n" });
                    client.reply();
                    client.send(request);
                    if !kept {
                        backend = stage.accept();
                    }
                    let seen = backend.request();
                    backend.send(said);
                    if torn {
                        backend.tear()
                    } else {
                        drop(backend)
                    }
                    if kept && said.is_empty() && request == GET {
                        // It may just have closed a connection that nobody used.
                        let mut other = stage.accept();
                        assert_eq!(other.request().header("x-request-id"), seen.header("x-request-id"));
                    }
                    let reply = client.reply();
                    is_problem(&reply, 502, "backend-failed");
                    assert_eq!(reply.header("x-request-id"), seen.header("x-request-id"));
                    assert!(stage.is_quiet(), "{said:?} torn {torn} kept {kept}");
                    assert_eq!(
                        sidecar.metric("coatroom_backend_errors_total{kind=\"reset\"}"),
                        1,
                        "{said:?}"
                    );
                    assert_eq!(sidecar.metric("coatroom_session_creates_total"), 0);
                }
            }
        }
    }
}

#[test]
fn a_head_that_is_none_is_a_502() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: 1\r\n".repeat(129));
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(10_000_000));
    for said in [
        "garbage\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nX-A: 1\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: 1\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: 1\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &many,
        &long,
    ] {
        let stage = Stage::new();
        let (sidecar, mut client, mut backend) = under_way(&stage, GET);
        backend.try_send(said);
        is_problem(&client.reply(), 502, "backend-failed");
        backend.rest();
        assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"protocol\"}"), 1);
        client.send(GET);
        answer(&mut stage.accept());
        assert_eq!(client.reply().text(), "ok", "{:.60?}", said);
    }
}

#[test]
fn as_many_headers_as_can_be_come_back() {
    let stage = Stage::new();
    let (_sidecar, mut client, mut backend) = under_way(&stage, GET);
    backend.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "X-A: 1\r\n".repeat(99)));
    assert_eq!(client.reply().all("x-a").count(), 99);
}

/// An address where connections neither come about nor are refused: its queue is full.
fn full() -> (socket2::Socket, Line, SocketAddr) {
    let (socket, address) = Stage::nobody();
    socket.listen(0).expect("a listener");
    let first = Line::to(address);
    (socket, first, address)
}

#[test]
fn a_connection_that_does_not_come_about_is_a_504() {
    let (_full, _first, address) = full();
    let sidecar = Sidecar::with(address, |config| config.proxy.connect_timeout = Length::millis(50));
    is_problem(&send(sidecar.address(), GET), 504, "backend-timeout");
    assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"connect_timeout\"}"), 1);
}

#[test]
fn a_client_that_hangs_up_before_there_is_a_connection_is_forgotten() {
    let (_full, _first, address) = full();
    let sidecar = Sidecar::with(address, |config| config.proxy.connect_timeout = Length::secs(3600));
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    sidecar.until("coatroom_http_requests_in_flight", 1);
    drop(client);
    sidecar.until("coatroom_http_requests_in_flight", 0);
}

#[test]
fn a_head_that_does_not_come_is_a_504_and_its_connection_is_gone() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.head_timeout = Length::millis(50));
    for (request, said) in [(GET, ""), (POST, ""), (GET, "HTTP/1.1 200 OK\r\nX-Slow: ")] {
        let mut client = Line::to(sidecar.address());
        client.send(request);
        let mut backend = stage.accept();
        backend.request();
        backend.send(said);
        is_problem(&client.reply(), 504, "backend-timeout");
        backend.ends();
        client.send(GET);
        let mut backend = stage.accept();
        backend.request();
        is_problem(&client.reply(), 504, "backend-timeout");
    }
    assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"head_timeout\"}"), 6);
}

#[test]
fn the_wait_for_a_head_begins_when_the_upload_is_over() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.head_timeout = Length::millis(600));
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    let mut backend = stage.accept();
    backend.head();
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(150));
        client.send("x");
        backend.bytes(1);
    }
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn a_body_that_takes_its_time_is_not_cut() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.head_timeout = Length::secs(1);
        config.proxy.header_timeout = Length::secs(1);
        config.proxy.idle_timeout = Length::secs(1);
        config.proxy.body_timeout = Length::secs(1);
        config.proxy.backend_idle_timeout = Length::secs(1);
    });
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    backend.request();
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
    client.head();
    thread::sleep(Duration::from_millis(2200));
    backend.send("x");
    assert_eq!(client.bytes(1), b"x");
}

#[test]
fn an_upload_that_stalls_is_the_clients_fault() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.body_timeout = Length::millis(50));
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let mut backend = stage.accept();
    backend.head();
    assert_eq!(backend.bytes(3), b"abc");
    is_problem(&client.reply(), 408, "request-timeout");
    backend.ends();
    client.ends();
    assert_eq!(sidecar.metric("coatroom_backend_errors_total{kind=\"head_timeout\"}"), 0);
}

#[test]
fn an_upload_that_the_backend_does_not_take_is_the_backends_fault() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.head_timeout = Length::secs(1));
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let mut backend = stage.accept();
    backend.head();
    let mut uploading = client.twin();
    let upload = thread::spawn(move || while uploading.try_send(vec![0; 1_000_000]) {});
    is_problem(&client.reply(), 504, "backend-timeout");
    client.rest();
    drop(client);
    upload.join().expect("it stops");
}

/// What is no request, behind one that is.
#[test]
fn a_head_that_is_none_is_a_problem_behind_other_requests_too() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(GET).send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").send("no request\r\n\r\n");
    let mut backend = stage.accept();
    answer(&mut backend);
    assert_eq!(client.reply().text(), "ok");
    backend.request();
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.reply_to_head().status, 200);
    is_problem(&client.reply(), 400, "bad-request");
    client.ends();
}

#[test]
fn a_backends_answer_that_says_as_little_as_hypers_own_passes_as_it_is() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.headers.vary = false);
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    backend.request();
    backend.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.body.len(), reply.header("x-request-id")), (400, 0, None));
}

/// Whose last bytes wait for the client when the next head turns out to be none.
#[test]
fn a_long_response_is_whole_whatever_comes_behind_its_request() {
    const LONG: usize = 20_000_000;
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send(GET).send("no request\r\n\r\n");
    let mut backend = stage.accept();
    backend.request();
    backend.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
    let pouring = thread::spawn(move || backend.try_send(vec![b'x'; LONG]));
    let reply = client.reply();
    assert!(reply.body.len() == LONG && reply.body.iter().all(|byte| *byte == b'x'));
    assert_eq!(client.reply().status, 400);
    assert!(pouring.join().expect("it is taken"));
    client.ends();
}
