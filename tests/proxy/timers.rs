//! How long a client may take.

use coatroom::time::{Length, Stopwatch};

use super::{GET, OK, answer, is_problem, with};
use crate::support::{End, Line, Sidecar, Stage};

fn impatient(stage: &Stage, millis: u64) -> Sidecar {
    with(stage, |config| config.proxy.client_timeout = Length::millis(millis))
}

#[test]
fn a_connection_that_nobody_uses_is_closed() {
    let stage = Stage::new();
    let sidecar = impatient(&stage, 400);
    assert_eq!(Line::to(sidecar.address()).ends(), End::Closed, "before a first request");
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    answer(&mut stage.accept());
    assert_eq!(client.reply().text(), "ok");
    assert_eq!(client.ends(), End::Closed, "after a request");
    sidecar.until("coatroom_http_connections", 0);
}

#[test]
fn a_head_that_takes_too_long_is_a_408() {
    let stage = Stage::new();
    let sidecar = impatient(&stage, 300);
    let mut client = Line::to(sidecar.address());
    let watch = Stopwatch::start();
    // A byte now and then does not help.
    let mut head = GET.bytes().take(GET.len() - 1).cycle();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    let mut slow = client.twin();
    let sender = std::thread::spawn(move || {
        while slow.try_send([head.next().expect("endless").max(b'x')]) && watch.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let reply = client.reply();
    is_problem(&reply, 408, "request-timeout");
    assert_eq!(reply.header("connection"), Some("close"));
    client.rest();
    drop(client);
    sender.join().expect("it is cut off");
    assert!(stage.is_quiet());
}

#[test]
fn a_request_in_flight_is_not_the_clients_time() {
    let stage = Stage::new();
    let sidecar = impatient(&stage, 400);
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    backend.request();
    std::thread::sleep(std::time::Duration::from_millis(1000));
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
}

/// An exchange whose response has no end, and how much of it can be written before somebody reads.
fn endless(sidecar: &Sidecar, stage: &Stage) -> (Line, Line) {
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut backend = stage.accept();
    backend.request();
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
    (client, backend)
}

#[test]
fn a_client_that_takes_nothing_of_its_response_is_cut_off() {
    let stage = Stage::new();
    let sidecar = impatient(&stage, 400);
    let (mut client, mut backend) = endless(&sidecar, &stage);
    while backend.try_send([0; 100_000]) {}
    sidecar.until("coatroom_http_connections", 0);
    client.rest();
}

#[test]
fn a_client_that_reads_slowly_is_served() {
    const PIECE: usize = 500_000;
    let stage = Stage::new();
    let sidecar = impatient(&stage, 1000);
    let (mut client, mut backend) = endless(&sidecar, &stage);
    client.head();
    let mut source = backend.twin();
    let pouring = std::thread::spawn(move || while source.try_send([0; 100_000]) {});
    let watch = Stopwatch::start();
    while watch.elapsed().as_millis() < 2500 {
        client.bytes(PIECE);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(sidecar.metric("coatroom_http_connections"), 1);
    drop(client);
    backend.rest();
    pouring.join().expect("it ends with its connection");
}
