//! Section 4 of the contract: the decision table, row by row, as a client and the next request see it.

use std::io::Write;

use crate::support::client::{connect, read_head, read_reply};
use crate::support::{Backend, Browser, Reply, Sidecar};

const CLEAR: (&str, &str) = ("X-Session-Clear", "true");
const FLUSH: (&str, &str) = ("X-Session-Flush", "true");
const CYCLE: (&str, &str) = ("X-Session-Cycle-Key", "true");
const SAVE: (&str, &str) = ("X-Session-Save", "true");
const PAST: (&str, &str) = ("X-Session-Expiry", "-1");
const EXPIRY: (&str, &str) = ("X-Session-Expiry", "300");
const SET: (&str, &str) = ("X-Session-Set", r#"{"b":2}"#);
const LOGIN: (&str, &str) = ("X-Session-Set", r#"{"user_id":7}"#);
const DELETE: (&str, &str) = ("X-Session-Delete", "a");
const NO_DELETE: (&str, &str) = ("X-Session-Delete", "zz");
const NO_DEFAULT: (&str, &str) = ("X-Session-Set-Default", r#"{"a":9}"#);
const NO_MERGE: (&str, &str) = ("X-Session-Merge", r#"{"zz":null}"#);
const FAILS: (&str, &str) = ("Status", "500");
const IS_DOWN: (&str, &str) = ("Status", "503");

/// What becomes of the client's cookie.
#[derive(Debug, PartialEq)]
enum Cookie {
    Leave,
    /// The token that was shown, again.
    Same,
    /// A token that nobody has had.
    New,
    Remove,
}

fn cookie(reply: &Reply, before: Option<&str>) -> Cookie {
    let Some(line) = reply.header("set-cookie") else { return Cookie::Leave };
    let value = line.split(';').next().and_then(|pair| pair.strip_prefix("sessionid=")).expect("ours");
    match (value, before) {
        ("", _) => {
            assert!(line.contains("; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), "{line}");
            Cookie::Remove
        }
        (same, Some(before)) if same == before => Cookie::Same,
        _ => Cookie::New,
    }
}

/// What the browser, or somebody who kept its token, reads afterwards.
fn reads(backend: &Backend, browser: &Browser) -> String {
    browser.clone().get("/");
    backend.last().data().to_owned()
}

const COUNTED: [&str; 6] = [
    "coatroom_session_creates_total",
    "coatroom_session_saves_total{result=\"saved\"}",
    "coatroom_session_saves_total{result=\"gone\"}",
    "coatroom_session_flushes_total",
    "coatroom_session_cycles_total{reason=\"asked\"}",
    "coatroom_session_cycles_total{reason=\"login\"}",
];

fn counts(sidecar: &Sidecar) -> [u64; 6] {
    COUNTED.map(|series| sidecar.metric(series))
}

#[test]
#[rustfmt::skip] // a table: one row a line
fn a_live_session_takes_the_row_of_what_is_asked() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    // what is asked; row; cookie; what the browser reads next; what who kept the old token reads; what is counted
    type Line = (&'static [(&'static str, &'static str)], &'static str, Cookie, &'static str, &'static str, [u64; 6]);
    let rows: Vec<Line> = vec![
        (&[SET, FAILS], "server-error", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[FAILS], "server-error", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[LOGIN, IS_DOWN], "server-error", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[PAST, FAILS], "server-error", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[FLUSH], "flush", Cookie::Remove, "{}", "{}", [0, 0, 0, 1, 0, 0]),
        (&[FLUSH, FAILS], "flush", Cookie::Remove, "{}", "{}", [0, 0, 0, 1, 0, 0]),
        (&[FLUSH, SET, FAILS], "flush", Cookie::Remove, "{}", "{}", [0, 0, 0, 1, 0, 0]),
        (&[FLUSH, CLEAR], "flush", Cookie::Remove, "{}", "{}", [0, 0, 0, 1, 0, 0]),
        (&[FLUSH, SAVE], "flush", Cookie::Remove, "{}", "{}", [0, 0, 0, 1, 0, 0]),
        (&[FLUSH, SET, PAST], "flush", Cookie::Remove, "{}", "{}", [0, 0, 0, 1, 0, 0]),
        (&[FLUSH, SET], "flush-with-data", Cookie::New, r#"{"b":2}"#, "{}", [1, 0, 0, 1, 0, 0]),
        (&[FLUSH, LOGIN], "flush-with-data", Cookie::New, r#"{"user_id":7}"#, "{}", [1, 0, 0, 1, 0, 0]),
        (&[FLUSH, EXPIRY], "flush-with-data", Cookie::New, "{}", "{}", [1, 0, 0, 1, 0, 0]),
        (&[FLUSH, CYCLE, SET], "flush-with-data", Cookie::New, r#"{"b":2}"#, "{}", [1, 0, 0, 1, 0, 0]),
        (&[PAST], "expiry-passed", Cookie::Remove, "{}", "{}", [0, 0, 0, 1, 0, 0]),
        (&[PAST, SET, CYCLE], "expiry-passed", Cookie::Remove, "{}", "{}", [0, 0, 0, 1, 0, 0]),
        (&[CYCLE], "cycle-key", Cookie::New, r#"{"a":1}"#, r#"{"a":1}"#, [1, 0, 0, 0, 1, 0]),
        (&[CYCLE, SET], "cycle-key", Cookie::New, r#"{"a":1,"b":2}"#, r#"{"a":1}"#, [1, 0, 0, 0, 1, 0]),
        (&[CYCLE, CLEAR], "cycle-key", Cookie::New, "{}", r#"{"a":1}"#, [1, 0, 0, 0, 1, 0]),
        (&[CYCLE, LOGIN], "cycle-key", Cookie::New, r#"{"a":1,"user_id":7}"#, r#"{"a":1}"#, [1, 0, 0, 0, 1, 0]),
        (&[CYCLE, SET, FAILS], "cycle-key", Cookie::New, r#"{"a":1}"#, r#"{"a":1}"#, [1, 0, 0, 0, 1, 0]),
        (&[LOGIN], "cycle-key-on-login", Cookie::New, r#"{"a":1,"user_id":7}"#, r#"{"a":1}"#, [1, 0, 0, 0, 0, 1]),
        (&[SET], "save", Cookie::Same, r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#, [0, 1, 0, 0, 0, 0]),
        (&[DELETE], "save", Cookie::Same, "{}", "{}", [0, 1, 0, 0, 0, 0]), // emptied is saved empty
        (&[CLEAR], "save", Cookie::Same, "{}", "{}", [0, 1, 0, 0, 0, 0]),
        (&[EXPIRY], "save", Cookie::Same, r#"{"a":1}"#, r#"{"a":1}"#, [0, 1, 0, 0, 0, 0]),
        (&[SAVE], "save", Cookie::Same, r#"{"a":1}"#, r#"{"a":1}"#, [0, 1, 0, 0, 0, 0]),
        (&[NO_DELETE, SAVE], "save", Cookie::Same, r#"{"a":1}"#, r#"{"a":1}"#, [0, 1, 0, 0, 0, 0]),
        (&[NO_DELETE], "nothing", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[NO_DEFAULT], "nothing", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[NO_MERGE, NO_DELETE, NO_DEFAULT], "nothing", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[], "nothing", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[("Status", "404")], "nothing", Cookie::Leave, r#"{"a":1}"#, r#"{"a":1}"#, [0; 6]),
        (&[SET, ("Status", "404")], "save", Cookie::Same, r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#, [0, 1, 0, 0, 0, 0]),
        (&[SET, ("Status", "304")], "save", Cookie::Same, r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#, [0, 1, 0, 0, 0, 0]),
        (&[SET, ("Status", "499")], "save", Cookie::Same, r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#, [0, 1, 0, 0, 0, 0]),
    ];
    for (asked, row, expected, reads_next, old_reads, counted) in rows {
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        let (kept, before) = (visitor.clone(), counts(&sidecar));
        let reply = visitor.ask(asked);
        let status: u16 = asked.iter().find(|(name, _)| *name == "Status").map_or(200, |(_, code)| code.parse().expect("a status"));
        assert_eq!((reply.status, reply.row()), (status, row), "{asked:?}");
        assert_eq!(cookie(&reply, kept.token()), expected, "{asked:?}");
        let after = counts(&sidecar);
        assert_eq!(std::array::from_fn(|n| after[n] - before[n]), counted, "{asked:?}: {COUNTED:?}");
        assert_eq!(reads(&backend, &visitor), reads_next, "{asked:?}");
        assert_eq!(reads(&backend, &kept), old_reads, "{asked:?}");
    }
}

#[test]
#[rustfmt::skip] // a table: one row a line
fn without_a_session_only_a_change_with_data_creates_one() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let shown = [None, Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), Some("malformed"), Some("")];
    let rows: Vec<(&[_], &str, &str)> = vec![
        (&[SET], "create", r#"{"b":2}"#),
        (&[LOGIN], "create", r#"{"user_id":7}"#),
        (&[EXPIRY], "create", "{}"), // a custom expiry counts as data
        (&[SET, FLUSH], "create", r#"{"b":2}"#),
        (&[SET, CYCLE], "create", r#"{"b":2}"#),
        (&[SET, SAVE, CLEAR], "create", r#"{"b":2}"#),
        (&[("X-Session-Set-Default", r#"{"d":1}"#)], "create", r#"{"d":1}"#),
        (&[("X-Session-Merge", r#"{"d":1}"#)], "create", r#"{"d":1}"#),
        (&[("X-Session-Increment", r#"{"n":-2}"#)], "create", r#"{"n":-2}"#),
        (&[("X-Session-Set", r#"{"n":null}"#)], "create", r#"{"n":null}"#),
        (&[], "nothing-to-keep", "{}"),
        (&[FLUSH], "nothing-to-keep", "{}"),
        (&[CLEAR], "nothing-to-keep", "{}"),
        (&[CYCLE], "nothing-to-keep", "{}"),
        (&[SAVE], "nothing-to-keep", "{}"),
        (&[DELETE], "nothing-to-keep", "{}"),
        (&[PAST], "nothing-to-keep", "{}"),
        (&[SET, PAST], "nothing-to-keep", "{}"),
        (&[("X-Session-Set", "{}")], "nothing-to-keep", "{}"),
        (&[("X-Session-Expiry", "default")], "nothing-to-keep", "{}"),
        (&[SET, FAILS], "server-error", "{}"),
        (&[FLUSH, FAILS], "nothing-to-keep", "{}"),
    ];
    for token in shown {
        for (asked, row, data) in &rows {
            let mut visitor = sidecar.browser();
            visitor.jar.extend(token.map(|token| ("sessionid".to_owned(), token.to_owned())));
            let before = counts(&sidecar);
            let reply = visitor.ask(asked);
            assert_eq!(reply.row(), *row, "{token:?} {asked:?}");
            let expected = match (*row, token) {
                ("create", _) => Cookie::New,
                ("server-error", _) | (_, None) => Cookie::Leave,
                _ => Cookie::Remove,
            };
            assert_eq!(cookie(&reply, token), expected, "{token:?} {asked:?}");
            let created = counts(&sidecar)[0] - before[0];
            assert_eq!((created, &counts(&sidecar)[1..]), (u64::from(*row == "create"), &before[1..]), "{asked:?}");
            assert_eq!(reads(&backend, &visitor), *data, "{token:?} {asked:?}");
        }
    }
}

#[test]
fn an_expired_session_is_none_and_its_cookie_goes() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#), EXPIRY]);
    sidecar.wind(std::time::Duration::from_secs(300));
    let mut same = visitor.clone();
    let reply = visitor.get("/");
    assert_eq!((reply.row(), cookie(&reply, None)), ("nothing-to-keep", Cookie::Remove));
    let reply = same.ask(&[SET]);
    assert_eq!((reply.row(), cookie(&reply, same.clone().token())), ("create", Cookie::Same), "kept by now");
    assert_ne!(same.token(), visitor.token());
    assert_eq!(reads(&backend, &same), r#"{"b":2}"#);
}

#[test]
fn the_write_is_acknowledged_before_the_head_is_sent_and_the_body_streams_behind_it() {
    let (gate, door) = crate::support::gate::gate();
    let backend = Backend::raw(move |mut stream| {
        while let Some((first, headers)) = read_head(&mut stream) {
            let data = headers.iter().find(|(name, _)| name == "x-session-data").map_or("", |(_, data)| data);
            if first.starts_with("GET /stream ") {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Session-Set: {\"a\":1}\r\n\r\n5\r\nfirst\r\n";
                stream.write_all(head.as_bytes()).expect("written");
                door.pass();
                stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").expect("written");
            } else {
                let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{data}", data.len());
                stream.write_all(reply.as_bytes()).expect("written");
            }
        }
    });
    let sidecar = Sidecar::before(backend.address);
    let mut stream = connect(sidecar.address());
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let (_, headers) = read_head(&mut stream).expect("a head while the body is still to come");
    gate.wait();
    let mut visitor = sidecar.browser();
    visitor.keep(&Reply { headers: headers.clone(), ..Reply::default() });
    assert_eq!(visitor.get("/").text(), r#"{"a":1}"#, "what a client has been told is saved is saved");
    gate.open();
    let (body, _) = crate::support::client::read_body(&mut stream, &headers, true);
    assert_eq!(body, b"firstlast");
}

#[test]
fn the_backends_failure_leaves_the_session_alone() {
    let backend = Backend::raw(|mut stream| {
        let (first, headers) = read_head(&mut stream).expect("a request");
        if first.contains("/set") {
            crate::support::client::read_body(&mut stream, &headers, false);
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nX-Session-Set: {\"a\":1}\r\n\r\n";
            stream.write_all(head.as_bytes()).expect("written");
        } else if first.contains("/nonsense") {
            stream.write_all(b"X-Session-Flush: true\r\n\r\n").expect("written");
        } else if first.contains("/broken") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Session-Flush: true\r\n").expect("written");
        }
    });
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    assert_eq!(visitor.get("/set").row(), "create");
    let before = (visitor.token().map(str::to_owned), counts(&sidecar));
    for path in ["/resets", "/nonsense", "/broken"] {
        let reply = visitor.get(path);
        assert_eq!((reply.status, reply.header("set-cookie")), (502, None), "{path}");
    }
    assert_eq!((visitor.token().map(str::to_owned), counts(&sidecar)), before);
}

#[test]
fn explain_names_the_row_and_is_off_unless_asked_for() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.headers.explain = false);
    assert_eq!(sidecar.browser().get("/").header("x-coatroom-decision"), None);
    let stream = &mut connect(sidecar.address());
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    assert_eq!(read_reply(stream, true).header("x-coatroom-decision"), None);
}
