//! The program itself: its memory, and what it does on signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

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

#[test]
fn a_shortage_of_descriptors_passes() {
    let stage = Stage::new();
    let mut child = Child::limited(&format!("http://{}", stage.address), &["--workers", "1"], "ulimit -n 40");
    let crowd: Vec<Line> = (0..100).map(|_| Line::to(child.address)).collect();
    let mut last = Line::to(child.address);
    last.send(GET);
    drop(crowd);
    answer(&mut stage.accept());
    assert_eq!(last.reply().text(), "ok");
    assert!(child.runs());
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
