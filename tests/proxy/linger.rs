//! Refusals that a client gets to read, although it is still sending when it is refused.

use std::thread;
use std::time::Duration;

use coatroom::time::{Length, Stopwatch};

use super::limits::CHUNKED;
use super::{is_problem, with};
use crate::support::{End, Line, Reply, Stage};

/// What a client finds that reads nothing before it has sent all.
fn after(client: &mut Line, pieces: usize) -> Reply {
    for _ in 0..pieces {
        client.send([b'x'; 1000]);
        thread::sleep(Duration::from_millis(2));
    }
    thread::sleep(Duration::from_millis(50));
    client.reply()
}

#[test]
fn whoever_is_still_sending_gets_to_read_why_it_was_refused() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| {
        config.proxy.max_body_bytes = 4;
        config.proxy.max_head_bytes = 1024;
        config.proxy.header_timeout = Length::millis(100);
    });
    let chunked = format!("{CHUNKED}3e8\r\n");
    for (begin, status, slug) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", 413, "body-too-large"),
        (&*chunked, 413, "body-too-large"),
        ("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", 400, "bad-request"),
        ("POST / HTTP/1.1\nHost: a\nContent-Length: 1000000\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", 431, "head-too-large"),
        ("\0", 400, "bad-request"),
    ] {
        let mut client = Line::to(sidecar.address());
        client.send(begin);
        let reply = after(&mut client, 100);
        is_problem(&reply, status, slug);
        assert_eq!((reply.header("connection"), client.ends()), (Some("close"), End::Closed), "{begin}");
    }
    let mut client = Line::to(sidecar.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    thread::sleep(Duration::from_millis(200));
    is_problem(&after(&mut client, 1), 408, "request-timeout");
}

#[test]
fn whoever_goes_on_sending_is_not_listened_to_for_long() {
    let stage = Stage::new();
    let sidecar = with(&stage, |config| config.proxy.max_body_bytes = 4);
    let mut client = Line::to(sidecar.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000000\r\n\r\n");
    let watch = Stopwatch::start();
    while client.try_send([0; 1000]) {
        assert!(watch.elapsed() < Duration::from_secs(20), "nobody stops it");
        thread::sleep(Duration::from_millis(1));
    }
    sidecar.until("coatroom_http_connections", 0);
}
