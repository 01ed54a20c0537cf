//! How long a client may take.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use coatroom::time::{Length, Stopwatch};
use socket2::SockRef;

use super::limits::reached;
use super::{GET, OK, answer, is_problem, with};
use crate::support::{Backend, End, Line, Sidecar, Stage, send};

fn impatient(stage: &Stage, millis: u64) -> Sidecar {
    with(stage, |config| {
        config.proxy.header_timeout = Length::millis(millis);
        config.proxy.idle_timeout = Length::millis(millis);
        config.proxy.body_timeout = Length::millis(millis);
    })
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
    assert_eq!((reached(&sidecar, "idle_timeout"), reached(&sidecar, "header_timeout")), (2, 0));
}

#[test]
fn what_a_client_waits_before_a_request_is_not_the_requests_time() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.header_timeout = Length::millis(100));
    let mut client = Line::to(sidecar.address());
    let mut backend = None;
    for _ in 0..2 {
        assert!(client.peek(Duration::from_millis(400)).is_empty());
        client.send(GET);
        answer(backend.get_or_insert_with(|| stage.accept()));
        assert_eq!(client.reply().text(), "ok");
    }
    client.send("GET / HTTP/1.1\r\n");
    is_problem(&client.reply(), 408, "request-timeout");
    assert_eq!((reached(&sidecar, "idle_timeout"), reached(&sidecar, "header_timeout")), (0, 1));
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
    let sender = thread::spawn(move || {
        while slow.try_send([head.next().expect("endless").max(b'x')]) && watch.elapsed().as_secs() < 10 {
            thread::sleep(Duration::from_millis(20));
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
    thread::sleep(Duration::from_millis(1000));
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
    assert_eq!(reached(&sidecar, "body_timeout"), 1);
    client.rest();
}

/// A request whose body is long in coming.
pub const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";

/// Sends a byte now and then until nobody takes it any more.
fn trickle(client: &Line) -> thread::JoinHandle<()> {
    let mut client = client.twin();
    thread::spawn(move || {
        while client.try_send("x") {
            thread::sleep(Duration::from_millis(10));
        }
    })
}

#[test]
fn an_upload_of_a_byte_now_and_then_is_a_408() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.body_timeout = Length::secs(1);
        config.proxy.min_body_rate = 1000;
    });
    let mut client = Line::to(sidecar.address());
    client.send(UPLOAD);
    let trickling = trickle(&client);
    let mut backend = stage.accept();
    backend.head();
    let (rest, _) = backend.rest();
    assert!((1..1000).contains(&rest.len()), "{} bytes", rest.len());
    is_problem(&client.reply(), 408, "request-timeout");
    client.rest();
    drop(client);
    trickling.join().expect("it is cut off");
    assert_eq!(reached(&sidecar, "body_timeout"), 1);
}

#[test]
fn an_upload_that_is_fast_enough_takes_the_time_it_takes() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.header_timeout = Length::millis(300);
        config.proxy.idle_timeout = Length::millis(300);
        config.proxy.body_timeout = Length::millis(300);
        config.proxy.min_body_rate = 0;
    });
    let mut client = Line::to(sidecar.address());
    client.send(UPLOAD);
    let trickling = trickle(&client);
    let mut backend = stage.accept();
    backend.head();
    backend.bytes(30);
    // It may outlast its answer, and is held to the same.
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(1) {
        backend.bytes(1);
    }
    drop(client);
    backend.rest();
    trickling.join().expect("it is over");
}

#[test]
fn an_upload_that_stalls_after_its_answer_ends_the_connection() {
    for idle in [200, 30_000] {
        let stage = Stage::new();
        let sidecar = with(&stage, |config| {
            config.proxy.idle_timeout = Length::millis(idle);
            config.proxy.body_timeout = Length::millis(300);
        });
        let mut client = Line::to(sidecar.address());
        client.send(UPLOAD);
        let mut backend = stage.accept();
        backend.head();
        client.send("x");
        backend.bytes(1);
        backend.send(OK);
        assert_eq!(client.reply().text(), "ok");
        client.ends();
        backend.ends();
        assert_eq!((reached(&sidecar, "body_timeout"), reached(&sidecar, "idle_timeout")), (1, 0));
    }
}

#[test]
fn a_client_is_waited_for_again_when_its_upload_is_over_after_its_answer() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.idle_timeout = Length::millis(500);
        config.proxy.body_timeout = Length::secs(30);
    });
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    let mut backend = stage.accept();
    backend.head();
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    assert!(client.peek(Duration::from_secs(1)).is_empty());
    client.send("hi");
    assert_eq!(backend.bytes(2), b"hi");
    assert_eq!(client.ends(), End::Closed);
    assert_eq!((reached(&sidecar, "body_timeout"), reached(&sidecar, "idle_timeout")), (0, 1));
}

/// A backend that waits for ever for the end of an upload, and whose `/long` has next to none.
pub fn patient() -> Backend {
    Backend::raw(|mut stream| {
        let mut head = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut head) {
            if head[..count].starts_with(b"GET /long") {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"));
                while stream.write_all(&[b'x'; 65_536]).is_ok() {}
                return;
            }
            if head.starts_with(b"GET") {
                drop(stream.write_all(OK.as_bytes()));
            }
        }
    })
}

/// All at once, and an honest client beside them.
#[test]
fn whoever_is_slow_goes_by_its_limit_and_keeps_nobody_else_waiting() {
    const EACH: usize = 50;
    let backend = patient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.proxy.header_timeout = Length::millis(1000);
        config.proxy.idle_timeout = Length::millis(1500);
        config.proxy.body_timeout = Length::millis(1000);
    });
    let address = sidecar.address();
    let begin = |text: &'static str| {
        (0..EACH).map(move |_| {
            let mut line = Line::to(address);
            line.send(text);
            line
        })
    };
    let mut slow: Vec<Line> = Vec::new();
    slow.extend(begin(""));
    slow.extend(begin("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "));
    slow.extend(begin(UPLOAD));
    slow.extend(begin("GET /long HTTP/1.1\r\nHost: a\r\n\r\n"));
    let watch = Stopwatch::start();
    let mut honest = 0;
    while sidecar.metric("coatroom_http_connections") > 0 {
        assert_eq!(
            send(sidecar.address(), GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).text(),
            "ok"
        );
        honest += 1;
        assert!(watch.elapsed() < Duration::from_secs(30), "somebody is still there");
    }
    assert!(honest > 5);
    let met = ["idle_timeout", "header_timeout", "body_timeout"].map(|limit| reached(&sidecar, limit));
    assert_eq!(met, [EACH, EACH, 2 * EACH].map(|count| count as u64));
    drop(slow);
}

#[test]
fn a_client_that_reads_slowly_is_served() {
    const PIECE: usize = 500_000;
    let stage = Stage::new();
    let sidecar = impatient(&stage, 1000);
    let (mut client, mut backend) = endless(&sidecar, &stage);
    client.head();
    let mut source = backend.twin();
    let pouring = thread::spawn(move || while source.try_send([0; 100_000]) {});
    let watch = Stopwatch::start();
    while watch.elapsed().as_millis() < 2500 {
        client.bytes(PIECE);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(sidecar.metric("coatroom_http_connections"), 1);
    drop(client);
    backend.rest();
    pouring.join().expect("it ends with its connection");
}

/// The system tells of room in a buffer of megabytes only when a third of it is free; nobody is to be taken for dead
/// until then.
#[test]
fn what_a_client_takes_little_by_little_is_seen() {
    const PIECE: usize = 16 * 1024;
    let stage = Stage::new();
    let sidecar = impatient(&stage, 400);
    let (mut client, mut backend) = endless(&sidecar, &stage);
    SockRef::from(&*client.stream()).set_recv_buffer_size(PIECE).expect("a socket");
    client.head();
    let mut source = backend.twin();
    let pouring = thread::spawn(move || while source.try_send([0; 100_000]) {});
    let watch = Stopwatch::start();
    while watch.elapsed().as_millis() < 1500 {
        client.bytes(PIECE);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((sidecar.metric("coatroom_http_connections"), reached(&sidecar, "body_timeout")), (1, 0));
    drop(client);
    backend.rest();
    pouring.join().expect("it ends with its connection");
}
