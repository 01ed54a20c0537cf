//! The program itself: its memory, and what it does on signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use coatroom::time::Stopwatch;

use super::{GET, OK, answer};
use crate::support::child::until;
use crate::support::{Child, End, Line, Stage};

const MANY: u64 = 1 << 30;
/// MiB that a process may take at most while `MANY` bytes pass.
const MEMORY: u64 = 64;
const PIECE: usize = 1 << 20;

fn start(stage: &Stage, workers: &str) -> Child {
    Child::before(&format!("http://{}", stage.address), &["--workers", workers])
}

fn pour(stream: &mut TcpStream) {
    let piece = vec![b'x'; PIECE];
    for _ in 0..MANY / PIECE as u64 {
        stream.write_all(&piece).expect("it is taken");
    }
}

fn drink(stream: &mut TcpStream) {
    let (mut piece, mut left) = (vec![0; PIECE], MANY);
    while left > 0 {
        let count = stream.read(&mut piece).expect("more");
        assert!(count > 0, "{left} bytes are missing");
        left -= count as u64;
    }
}

#[test]
fn a_gibibyte_each_way_takes_no_memory() {
    let stage = Stage::new();
    let child = start(&stage, "1");
    let (mut client, mut other) = (Line::to(child.address), Line::to(child.address));
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MANY}\r\n\r\n"));
    let mut backend = stage.accept();
    backend.head();
    other.send(GET);
    let mut source = stage.accept();
    source.request();
    source.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MANY}\r\n\r\n"));
    other.head();
    thread::scope(|scope| {
        scope.spawn(|| pour(client.stream()));
        scope.spawn(|| pour(source.stream()));
        scope.spawn(|| drink(other.stream()));
        drink(backend.stream());
    });
    backend.send(OK);
    assert_eq!(client.reply().text(), "ok");
    assert!(child.memory() < MEMORY, "{} MiB", child.memory());
}

#[test]
fn a_signal_to_stop_lets_a_request_finish() {
    for signal in ["TERM", "INT"] {
        let stage = Stage::new();
        let mut child = start(&stage, "2");
        let (mut idle, mut client) = (Line::to(child.address), Line::to(child.address));
        client.send(GET);
        let mut backend = stage.accept();
        backend.request();
        child.signal(signal);
        assert_eq!(idle.ends(), End::Closed);
        until(|| TcpStream::connect(child.address).is_err().then_some(()));
        assert!(child.runs());
        backend.send(OK);
        let reply = client.reply();
        assert_eq!((reply.text(), reply.header("connection")), ("ok".to_owned(), Some("close")));
        assert_eq!(child.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let stage = Stage::new();
        let mut child = start(&stage, "1");
        let (mut idle, mut client) = (Line::to(child.address), Line::to(child.address));
        client.send(GET);
        let mut backend = stage.accept();
        backend.request();
        child.signal(first);
        assert_eq!(idle.ends(), End::Closed);
        assert!(child.runs());
        child.signal(second);
        let watch = Stopwatch::start();
        child.wait();
        assert!(watch.elapsed().as_secs() < 10, "not only when proxy.drain_timeout is over");
        client.ends();
        backend.ends();
    }
}

/// A sidecar that may have so few files open, and so many clients that it can't accept all of them.
fn short_of_descriptors(stage: &Stage, begin: &str) -> (Child, Vec<Line>) {
    let flags = ["--workers", "1"];
    let child = Child::limited(&format!("http://{}", stage.address), &flags, "ulimit -n 40");
    let crowd = (0..60).map(|_| {
        let mut client = Line::to(child.address);
        client.send(begin);
        client
    });
    let crowd = crowd.collect();
    until(|| child.log().contains("can't accept connections").then_some(()));
    (child, crowd)
}

#[test]
fn a_shortage_of_descriptors_passes() {
    let watch = Stopwatch::start();
    let stage = Stage::new();
    let (mut child, crowd) = short_of_descriptors(&stage, "G");
    let mut last = Line::to(child.address);
    last.send(GET);
    assert!(last.peek(Duration::from_millis(300)).is_empty() && stage.is_quiet(), "accepting pauses");
    drop(crowd);
    answer(&mut stage.accept());
    assert_eq!(last.reply().text(), "ok");
    let met = child.metric("coatroom_limits_reached_total{limit=\"descriptors\"}");
    let most = watch.elapsed().as_millis() as u64 / 50 + 1;
    assert!((2..=most).contains(&met), "it rests and tries again: {met} of {most}");
    until(|| (child.metric("coatroom_http_connections") == 1).then_some(()));
    assert!(child.runs());
}

#[test]
fn whoever_is_idle_goes_when_there_is_a_shortage_of_descriptors() {
    let stage = Stage::new();
    let (_child, mut crowd) = short_of_descriptors(&stage, "");
    assert_eq!(crowd[0].ends(), End::Closed);
}

#[test]
fn whoever_is_in_the_queue_is_served() {
    const QUEUED: usize = 50;
    let stage = Stage::new();
    let address = stage.address;
    let mut child = start(&stage, "2");
    thread::spawn(move || {
        loop {
            let mut backend = stage.accept();
            thread::spawn(move || {
                loop {
                    answer(&mut backend);
                }
            });
        }
    });
    assert_ne!(address, child.address);
    child.signal("STOP");
    let mut clients: Vec<Line> = (0..QUEUED).map(|_| Line::to(child.address)).collect();
    for client in &mut clients {
        client.send(GET);
    }
    let mut silent = Line::to(child.address);
    child.signal("TERM");
    child.signal("CONT");
    for (n, client) in clients.iter_mut().enumerate() {
        let reply = client.reply();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "number {n}");
    }
    assert_eq!(child.wait().code(), Some(0));
    silent.ends();
}
