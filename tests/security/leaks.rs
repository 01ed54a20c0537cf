//! Section 1 of the contract, from the backend's side: nothing of ours reaches a client.

use std::io::Write;
use std::net::TcpStream;

use coatroom::proxy::routes;
use coatroom::session::Mode;

use crate::support::client::{connect, read_body, read_head, read_reply};
use crate::support::{Answer, Backend, Reply, Sidecar};

/// Names that could be read as ours, and are no directives: section 2's, and other spellings.
const SPELLED: [&str; 12] = [
    "X-Session-Data",
    "x-session-state",
    "X-SESSION-ID",
    "X-Session-Key-Member-Id",
    "X-Session-Nonce",
    "X_Session_Set",
    "X-Session_Flush",
    "x.session.clear",
    "X!Session~Delete",
    "X_SESSION_",
    "x-session*anything",
    "X|Session|Cycle|Key",
];

fn ours(headers: &[(String, String)]) -> Vec<&str> {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let is_ours = |name: &str| name.chars().map(fold).collect::<String>().starts_with("x-session-");
    headers.iter().map(|(name, _)| &**name).filter(|name| is_ours(name)).collect()
}

fn routes() -> Vec<routes::Config> {
    [("/off", Mode::Off), ("/read", Mode::Read), ("/no-touch", Mode::NoTouch)]
        .map(|(path, session)| routes::Config { path: path.to_owned(), methods: Vec::new(), session })
        .to_vec()
}

fn stripped(sidecar: &Sidecar) -> u64 {
    sidecar.metric("coatroom_headers_stripped_total{side=\"backend\"}")
}

#[test]
fn no_spelling_of_our_headers_reaches_the_client_on_any_status_method_or_route() {
    let backend = Backend::new(|seen| {
        let mut headers: Vec<(&str, &str)> = SPELLED.iter().map(|name| (*name, "secret")).collect();
        headers.extend([("X-Session-Data", "twice"), ("X-Custom", "passes")]);
        let status = seen.target.rsplit('/').next().and_then(|status| status.parse().ok()).expect("a status");
        Answer::status(status, &headers)
    });
    let sidecar = Sidecar::with(backend.address, |config| config.routes = routes());
    let mut answers = 0;
    for method in ["GET", "HEAD", "POST", "OPTIONS"] {
        for route in ["", "/off", "/read", "/no-touch"] {
            for status in [200, 204, 206, 304, 401, 404, 500, 503] {
                let reply = sidecar.browser().request(method, &format!("{route}/{status}"), &[], "");
                assert_eq!((reply.status, reply.header("x-custom")), (status, Some("passes")));
                assert_eq!(ours(&reply.headers), [""; 0], "{method} {route} {status}");
                answers += 1;
            }
        }
    }
    assert_eq!(stripped(&sidecar), answers * (SPELLED.len() as u64 + 1));
}

#[test]
fn exact_directives_are_obeyed_and_reach_no_client_either() {
    let backend = Backend::new(|_| {
        Answer::with(&[
            ("x-SESSION-set", r#"{"a":1}"#),
            ("X-Session-Increment", r#"{"n":1}"#),
            ("X-Custom", "1"),
        ])
    });
    let sidecar = Sidecar::with(backend.address, |config| config.routes = routes());
    let mut visitor = sidecar.browser();
    let reply = visitor.get("/");
    assert_eq!((ours(&reply.headers).len(), reply.row()), (0, "create"));
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"a":1,"n":1}"#);
}

#[test]
fn another_spelling_is_no_directive_but_stripped_and_counted() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    let value = r#"{"a":1}"#;
    let reply = visitor.ask(&[("X_Session_Set", value), ("X.Session-Set", value), ("x-session_set", value)]);
    assert_eq!((reply.status, reply.row(), reply.header("set-cookie")), (200, "nothing-to-keep", None));
    assert_eq!(stripped(&sidecar), 3);
}

#[test]
fn directives_are_taken_before_hop_by_hop_handling() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    let wanted = [("Connection", "X-Session-Set, Set-Cookie, Vary"), ("X-Session-Set", r#"{"a":1}"#)];
    let reply = visitor.ask(&wanted);
    assert_eq!((reply.row(), reply.header("vary")), ("create", Some("Cookie")));
    assert!(visitor.token().is_some());
}

/// A backend that reads a request and answers with bytes.
fn answering(bytes: &'static str) -> Backend {
    Backend::raw(move |mut stream: TcpStream| {
        while let Some((_, headers)) = read_head(&mut stream) {
            read_body(&mut stream, &headers, false);
            if stream.write_all(bytes.as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn get(sidecar: &Sidecar, path: &str, more: &str) -> Reply {
    let mut stream = connect(sidecar.address());
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    read_reply(&mut stream, false)
}

#[test]
fn no_trailer_of_ours_reaches_the_client() {
    let backend = answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum, X-Session-Set, X_Session_Data, Set-Cookie\r\n\r\n\
         2\r\nok\r\n0\r\nX-Checksum: good\r\nX-Session-Set: {\"a\":1}\r\nX_Session_Data: secret\r\nSet-Cookie: sessionid=evil\r\n\r\n",
    );
    let sidecar = Sidecar::with(backend.address, |config| config.routes = routes());
    for path in ["/", "/off"] {
        let before = stripped(&sidecar);
        let reply = get(&sidecar, path, "TE: trailers\r\nConnection: TE, close\r\n");
        assert_eq!(
            (reply.text(), reply.trailers.clone()),
            ("ok".to_owned(), vec![("x-checksum".to_owned(), "good".to_owned())])
        );
        assert_eq!(reply.header("trailer").map(str::to_lowercase).as_deref(), Some("x-checksum"));
        assert_eq!((reply.header("set-cookie"), stripped(&sidecar) - before), (None, 3), "{path}");
    }
    assert_eq!(sidecar.metric("coatroom_session_creates_total"), 0, "a trailer is no directive");
}

#[test]
fn no_interim_response_carries_our_headers_to_the_client() {
    let backend = answering(
        "HTTP/1.1 103 Early Hints\r\nX-Session-Data: secret\r\nX-Session-Set: {\"a\":1}\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let sidecar = Sidecar::before(backend.address);
    let reply = get(&sidecar, "/", "Connection: close\r\n");
    assert_eq!((reply.status, reply.text(), reply.row()), (200, "ok".to_owned(), "nothing-to-keep"));
    assert_eq!(ours(&reply.headers), [""; 0]);
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade, X-Session-Set\r\nUpgrade: echo\r\n\
    X-Session-Set: {\"ws\":1}\r\nX_Session_Data: secret\r\nSet-Cookie: sessionid=evil\r\nX-Session-State: secret\r\n\r\n";

#[test]
fn a_101_is_obeyed_and_stripped_like_any_final_response() {
    let backend = answering(SWITCH);
    let sidecar = Sidecar::before(backend.address);
    let reply = get(&sidecar, "/", "Connection: Upgrade\r\nUpgrade: echo\r\n");
    assert_eq!((reply.status, reply.row()), (101, "create"));
    assert_eq!(ours(&reply.headers), [""; 0]);
    let cookie = reply.header("set-cookie").expect("ours only");
    assert!(!cookie.contains("evil"));
    assert_eq!((reply.header("upgrade"), reply.header("vary")), (Some("echo"), Some("Cookie")));
}

#[test]
fn a_101_that_nobody_asked_for_is_a_failure_and_changes_nothing() {
    let backend = answering(SWITCH);
    let sidecar = Sidecar::before(backend.address);
    let reply = get(&sidecar, "/", "Connection: close\r\n");
    assert_eq!((reply.status, reply.header("set-cookie")), (502, None));
    assert_eq!(sidecar.metric("coatroom_session_creates_total"), 0, "the backend failed: session untouched");
}

#[test]
fn error_pages_of_our_own_have_none_of_ours() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let reply = sidecar.browser().ask(&[("X-Session-Set", "no JSON"), ("X-Session-Flush", "true")]);
    assert_eq!((reply.status, ours(&reply.headers).len()), (502, 0));
}
