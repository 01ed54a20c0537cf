//! Nothing is collected: whoever does not read stops whoever writes.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use socket2::SockRef;

use super::{GET, OK, before};
use crate::support::{Line, Stage};

const PIECE: usize = 64 * 1024;
/// What the kernel's buffers (32 MiB a socket, as some systems have it) and ours may hold between two ends.
const HELD: usize = 128 * 1024 * 1024;
/// A writer that could not write for so long is stopped.
const STOPPED: Duration = Duration::from_millis(300);

/// Writes until it is stopped; how much that was.
fn fill(line: &mut Line) -> usize {
    let stream = line.stream();
    stream.set_write_timeout(Some(STOPPED)).expect("a timeout");
    let mut written = 0;
    loop {
        match stream.write(&[b'x'; PIECE]) {
            Ok(count) => written += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return written;
            }
            Err(error) => panic!("{error} after {written} bytes"),
        }
        assert!(written < HELD, "nobody stops it");
    }
}

/// Reads what was written; both ends are still there.
fn empty(line: &mut Line, mut count: usize) {
    while count > 0 {
        let piece = count.min(PIECE);
        assert!(line.bytes(piece).iter().all(|byte| *byte == b'x'));
        count -= piece;
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_backend() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    SockRef::from(&*client.stream()).set_recv_buffer_size(PIECE).expect("a socket");
    client.send(GET);
    let mut backend = stage.accept();
    backend.request();
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    let written = fill(&mut backend);
    client.head();
    empty(&mut client, written);
    backend.send("and on");
    assert_eq!(client.bytes(6), b"and on");
}

#[test]
fn a_backend_that_does_not_read_stops_the_client() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    let mut backend = stage.accept();
    backend.head();
    let written = fill(&mut client);
    empty(&mut backend, written);
    client.send("and on");
    assert_eq!(backend.bytes(6), b"and on");
    drop(client);
    backend.ends();
}

#[test]
fn a_side_of_a_tunnel_that_does_not_read_stops_the_other() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut client = Line::to(sidecar.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let mut backend = stage.accept();
    backend.head();
    backend.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    client.head();
    let written = fill(&mut backend);
    empty(&mut client, written);
    let written = fill(&mut client);
    empty(&mut backend, written);
}

#[test]
fn one_slow_client_keeps_nobody_else_waiting() {
    let stage = Stage::new();
    let sidecar = before(&stage);
    let mut slow = Line::to(sidecar.address());
    slow.send(GET);
    let mut backend = stage.accept();
    backend.request();
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    fill(&mut backend);
    let mut client = Line::to(sidecar.address());
    client.send(GET);
    let mut other = stage.accept();
    other.request();
    other.send(OK);
    assert_eq!(client.reply().text(), "ok");
}
