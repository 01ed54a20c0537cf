//! Stopping: what is in flight finishes, and nothing new begins.

use std::net::{SocketAddr, TcpStream};
use std::thread;

use coatroom::time::Length;

use super::{GET, OK, answer, before, with};
use crate::support::child::until;
use crate::support::{End, Line, Sidecar, Stage};

/// Begins to stop a sidecar; returns when it has begun, for `idle` is closed then.
fn stop(sidecar: Sidecar, idle: &mut Line) -> thread::JoinHandle<()> {
    let stopping = thread::spawn(move || sidecar.stop());
    assert_eq!(idle.ends(), End::Closed);
    stopping
}

fn refuses(address: SocketAddr) {
    until(|| TcpStream::connect(address).is_err().then_some(()));
}

#[test]
fn a_request_in_flight_finishes_and_closes_its_connection() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let address = sidecar.address();
    let (mut idle, mut used) = (Line::to(address), Line::to(address));
    used.send(GET);
    let mut backend = stage.accept();
    answer(&mut backend);
    used.reply();
    let mut client = Line::to(address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nup");
    backend.head();
    let stopping = stop(sidecar, &mut idle);
    assert_eq!(used.ends(), End::Closed, "an idle connection that was used before");
    refuses(address);
    client.send("on");
    assert_eq!(backend.bytes(4), b"upon");
    backend.send("HTTP/1.1 200 OK\r\nX-Session-Set: {\"a\":1}\r\nContent-Length: 4\r\n\r\n");
    let (first, headers) = client.head();
    assert_eq!(first, "HTTP/1.1 200 OK");
    assert!(headers.contains(&("connection".to_owned(), "close".to_owned())), "{headers:?}");
    assert!(headers.iter().any(|(name, _)| name == "set-cookie"));
    assert!(!stopping.is_finished(), "the body is in flight too");
    backend.send("down");
    assert_eq!(client.rest(), (b"down".to_vec(), End::Closed));
    stopping.join().expect("it stops");
}

#[test]
fn half_a_head_may_become_a_request() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut idle = Line::to(sidecar.address());
    let mut client = Line::to(sidecar.address());
    client.send("GET /late HTTP/1.1\r\nHost: a\r\n");
    let stopping = stop(sidecar, &mut idle);
    client.send("\r\n");
    let mut backend = stage.accept();
    assert_eq!(backend.request().target, "/late");
    backend.send(OK);
    assert_eq!(client.reply().header("connection"), Some("close"));
    stopping.join().expect("it stops");
}

#[test]
fn without_anything_in_flight_it_stops_at_once() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.drain_timeout = Length::secs(3600));
    let lines: Vec<Line> = (0..20).map(|_| Line::to(sidecar.address())).collect();
    sidecar.until("coatroom_http_connections", 20);
    sidecar.stop();
    drop(lines);
}

#[test]
fn a_client_that_never_finishes_its_head_does_not_keep_it() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.drain_timeout = Length::millis(100));
    let mut idle = Line::to(sidecar.address());
    let mut client = Line::to(sidecar.address());
    client.send("GET / HTTP/1.1\r\nHost: ");
    let stopping = stop(sidecar, &mut idle);
    stopping.join().expect("it stops");
    client.ends();
}

#[test]
fn a_response_without_an_end_is_cut_off_when_the_time_is_over() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.drain_timeout = Length::millis(100));
    let mut idle = Line::to(sidecar.address());
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    backend.request();
    backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    client.head();
    client.bytes(6);
    let stopping = stop(sidecar, &mut idle);
    stopping.join().expect("it stops");
    assert!(client.rest().0.is_empty(), "it does not end well");
    backend.ends();
}

#[test]
fn clients_are_welcome_until_the_delay_is_over() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.drain_delay = Length::millis(1500));
    let (address, probe) = (sidecar.address(), sidecar.probe());
    let mut client = Line::to(address);
    client.send(GET);
    let mut backend = stage.accept();
    answer(&mut backend);
    client.reply();
    let stopping = thread::spawn(move || sidecar.stop());
    until(|| (probe("/readyz").status == 503).then_some(()));
    assert_eq!(probe("/livez").status, 200);
    for mut line in [client, Line::to(address)] {
        line.send(GET);
        answer(&mut backend);
        let reply = line.reply();
        assert_eq!((reply.text(), reply.header("connection")), ("ok".to_owned(), Some("close")));
        assert_eq!(
            line.ends(),
            End::Closed,
            "load balancers take their time, and their next requests elsewhere"
        );
    }
    stopping.join().expect("it stops");
    refuses(address);
}
