//! `check-config --connect` on real memcacheds: each thing that can be wrong has its own line, its setting, its remedy.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use super::connect::{problem, said};
use crate::support::{Memcached, Redis};

const NOTE: &str = "note: store.url (--store): memcached keeps nothing on disk: whoever has a session on a server is \
                    logged out when it ends or is restarted: take Redis with appendfsync always, or a database, where \
                    that must not be";

#[test]
fn a_sound_server_is_ok_and_nothing_is_left_there() {
    let servers = [Memcached::start(), Memcached::start(), Memcached::start()];
    let [a, b, c] = servers.each_ref().map(|server| server.address);
    let (good, lines) = said(&format!("memcache://{a},{b},{c}"), &[]);
    let full = |address| {
        format!(
            "warning: store.url (--store): memcached {address} logs people out when it is full, those first who came \
             least lately: give it memory for all sessions (-m), and watch evictions in its stats"
        )
    };
    assert_eq!((good, lines), (true, vec![full(a), full(b), full(c), NOTE.to_owned()]));
    for server in &servers {
        assert_eq!(server.stat("curr_items"), 0);
        assert!(server.stat("cmd_set") > 0, "each was tried");
    }
}

#[test]
fn each_server_that_is_not_there_is_named() {
    let (mut one, two) = (Memcached::start(), Memcached::start());
    one.kill();
    let url = format!("memcache://{},{}", one.address, two.address);
    let line = problem(&url, &[]);
    let expected = format!("store.url (--store): {}: nobody listens there (", one.address);
    assert!(line.starts_with(&expected) && line.ends_with("start the server, or correct the URL"), "{line}");
    let (good, lines) = said("memcache://nowhere.invalid", &[]);
    let [warning, line] = &lines[..] else { panic!("{lines:?}") };
    assert!(!good && warning.contains("sessions travel in the clear"), "{warning}");
    assert!(
        line.starts_with("store.url (--store): nobody knows the host of nowhere.invalid:11211 ("),
        "{line}"
    );
}

#[test]
fn whoever_is_no_memcached_or_says_nothing_is_told_apart() {
    let redis = Redis::start();
    let line = problem(&format!("memcache://{}", redis.address), &[]);
    assert!(line.contains(&format!("{} is no memcached: see whether", redis.address)), "{line}");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = silent.local_addr().expect("its address");
    let line = problem(&format!("memcache://{address}"), &[]);
    assert!(line.contains(&format!("{address} was reached, but said nothing within a second")), "{line}");
    assert!(line.contains("-Z, -S and -B binary"), "{line}");
}

/// Somebody who answers the greeting so.
fn greets(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Until whoever asked has had enough.
            drop((stream.read(&mut [0; 1024]), stream.write_all(answer), stream.read(&mut [0; 1024])));
        }
    });
    address.to_string()
}

#[test]
fn a_server_that_lacks_what_is_needed_says_so_in_a_line() {
    for (answer, expected) in [
        (
            &b"VERSION 1.5.6\r\nERROR\r\nEND\r\n"[..],
            "is a memcached 1.5.6, which lacks what is needed: take 1.6.12 or newer",
        ),
        (
            b"VERSION 1.6.9\r\nMN\r\nEND\r\n",
            "is a memcached 1.6.9, which lacks what is needed: take 1.6.12 or newer",
        ),
        (
            b"ERROR Too many open connections\r\n",
            "takes no more connections (ERROR Too many open connections): raise -c there",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "is no memcached: see whether it is a memcached that listens there",
        ),
    ] {
        let address = greets(answer);
        let line = problem(&format!("memcache://{address}"), &[]);
        assert!(line.contains(&format!("{address} {expected}")), "{line}");
    }
    let line = problem(&Memcached::with(&["-C"]).url(), &[]);
    assert!(
        line.ends_with("gives out no CAS numbers, so nothing would keep changes apart: start it without -C"),
        "{line}"
    );
    let users = super::file("app:hunter2-hunter2\n");
    let line = problem(&Memcached::with(&["-Y", super::path(&users)]).url(), &[]);
    assert!(
        line.contains("wants a password, and this store has none (CLIENT_ERROR unauthenticated)"),
        "{line}"
    );
    assert!(line.ends_with("start it without -Y, on a network that nobody else has"), "{line}");
}

#[test]
fn what_would_lose_sessions_some_day_is_warned_of() {
    let server = Memcached::with(&["-M"]);
    let (good, lines) = said(&server.url(), &[]);
    assert!(
        good && lines[0].contains("has -M: when it is full, it refuses a change, and removes"),
        "{lines:?}"
    );

    let server = Memcached::with(&[]);
    let large = [("COATROOM__SESSION__MAX_BYTES", "1048576")];
    let (good, lines) = said(&server.url(), &large);
    let address = server.address;
    let expected = format!(
        "warning: session.max_bytes (COATROOM__SESSION__MAX_BYTES): is 1048576, and memcached {address} takes no items \
         of more than 1048576 bytes: sessions that large get 503: start it with -I 1049600 or more, or lower \
         session.max_bytes"
    );
    assert!(good && lines[0] == expected, "{lines:?}");

    let disk = tempfile::NamedTempFile::new().expect("a file");
    let server = Memcached::with(&["-o", &format!("ext_path={}:64m", disk.path().display())]);
    let (good, lines) = said(&server.url(), &[]);
    let line = lines.iter().find(|line| line.contains("moves items to a disk (extstore)"));
    assert!(good && line.is_some_and(|line| line.ends_with("start it without ext_path")), "{lines:?}");

    let server = Memcached::with(&["-m", "2"]);
    let mut n = 0;
    while server.stat("evictions") == 0 {
        n += 1;
        server.ask(&format!("ms filler:{n} 100000\r\n{}", "x".repeat(100_000)));
    }
    let (good, lines) = said(&server.url(), &[]);
    assert!(
        good && lines[0].contains(" items since it was started: whose sessions they were is logged out"),
        "{lines:?}"
    );
}

#[test]
fn settings_that_memcached_has_no_use_for_are_refused() {
    let line = problem("memcache://:hunter2-hunter2@cache", &[]);
    assert!(line.contains("has a user or a password, which this store has no use for"), "{line}");
    let line = problem("memcache://cache", &[("COATROOM__STORE__KEY_PREFIX", "our shop:")]);
    assert!(line.starts_with("store.key_prefix (COATROOM__STORE__KEY_PREFIX): has a blank"), "{line}");
}
