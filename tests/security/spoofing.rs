//! Section 1 of the contract, from the client's side: nothing that a client says is taken for ours.

use coatroom::proxy::routes;
use coatroom::session::Mode;

use super::{JOINTS, OURS};
use crate::support::client::{connect, read_head, read_reply};
use crate::support::{Backend, Browser, Seen, Sidecar, send};
use std::io::Write;

/// Every way to write a name that CGI would not tell from it: each joint at all places and at one, in four cases.
fn spellings(name: &str) -> Vec<String> {
    let mut all = Vec::new();
    for joint in JOINTS.chars().map(|joint| joint.to_string()) {
        let one = name.replacen('-', &joint, 1);
        let last = name.rsplitn(2, '-').collect::<Vec<_>>();
        let last = format!("{}{joint}{}", last[1], last[0]);
        let everywhere = name.replace('-', &joint);
        let odd: String = everywhere
            .char_indices()
            .map(|(n, c)| if n % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
            .collect();
        all.extend([one, last, everywhere.to_uppercase(), everywhere.to_lowercase(), everywhere, odd]);
    }
    all.sort();
    all.dedup();
    all
}

fn route(path: &str, session: Mode) -> routes::Config {
    routes::Config { path: path.to_owned(), methods: Vec::new(), session }
}

fn routed(backend: &Backend) -> Sidecar {
    Sidecar::with(backend.address, |config| {
        config.routes =
            vec![route("/off", Mode::Off), route("/read", Mode::Read), route("/no-touch", Mode::NoTouch)];
    })
}

fn stripped(sidecar: &Sidecar) -> u64 {
    sidecar.metric("coatroom_headers_stripped_total{side=\"client\"}")
}

fn is_ours(name: &str) -> bool {
    let folded: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    folded.starts_with("x-session-")
}

/// The headers of ours that a backend saw; none of them may be the client's.
fn ours(seen: &Seen) -> Vec<&str> {
    let ours: Vec<_> = seen.headers.iter().filter(|(name, _)| is_ours(name)).collect();
    assert!(ours.iter().all(|(_, value)| !value.contains("evil")), "{seen:?}");
    ours.into_iter().map(|(name, _)| &**name).collect()
}

#[test]
fn no_spelling_of_our_headers_passes_on_any_path_method_or_route() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let stranger = sidecar.browser();
    let spoofed: Vec<String> = OURS.iter().flat_map(|name| spellings(name)).collect();
    assert!(spoofed.len() > 1000 && spoofed.iter().all(|name| is_ours(name)));
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    /// Method, target, sender, other headers, and how many of ours the backend is to see.
    type Context<'a> = (&'a str, &'a str, &'a Browser, &'a [(&'a str, &'a str)], usize);
    let contexts: [Context<'_>; 8] = [
        ("GET", "/", &visitor, &[], 9),
        ("GET", "/", &stranger, &[], 6),
        ("POST", "/read", &visitor, &[], 9),
        ("GET", "/no-touch", &stranger, &[], 6),
        ("GET", "/off", &visitor, &[], 0),
        ("OPTIONS", "/", &stranger, &[], 6),
        ("OPTIONS", "*", &visitor, &[], 9),
        ("GET", "/", &stranger, &upgrade, 6),
    ];
    let mut sent = 0;
    for (method, path, browser, extra, expected) in contexts {
        for chunk in spoofed.chunks(80) {
            let headers: Vec<(&str, &str)> =
                chunk.iter().map(|name| (&**name, "evil")).chain(extra.iter().copied()).collect();
            browser.clone().request(method, path, &headers, "");
            sent += chunk.len() as u64;
            let seen = backend.last();
            let names = ours(&seen);
            assert_eq!((&*seen.method, names.len()), (method, expected), "{path}: {names:?}");
            if expected == 9 {
                assert_eq!((seen.data(), seen.header("x-session-state")), (r#"{"a":1}"#, Some("active")));
            } else if expected == 6 {
                assert_eq!((seen.data(), seen.header("x-session-state")), ("{}", Some("empty")));
            }
        }
    }
    assert_eq!(stripped(&sidecar), sent, "each of them is counted");
}

#[test]
fn a_spoofed_header_goes_as_often_as_it_is_sent() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let twice = [("X-Session-Data", "evil"), ("Accept", "*/*"), ("x-session-data", "evil, evil")];
    sidecar.browser().request("GET", "/", &twice, "");
    assert_eq!(backend.last().data(), "{}");
    assert_eq!(stripped(&sidecar), 2);
}

#[test]
fn what_a_client_names_in_connection_changes_nothing() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    visitor.get("/");
    let plain = backend.last();
    let token = visitor.token().expect("a token").to_owned();
    let named = "X-Session-Data, x-session-state, X_Session_Id, X-Session-Nonce, X-Session-Version, \
        X-Forwarded-For, Forwarded, X-Request-Id, Via, Host, Cookie, Content-Length";
    let reply = send(
        sidecar.address(),
        format!(
            "POST / HTTP/1.1\r\nHost: shop.test\r\nConnection: close, {named}\r\n\
             Cookie: theme=dark; sessionid={token}\r\nContent-Length: 2\r\nAccept: x\r\n\r\nhi"
        ),
    );
    assert_eq!(reply.status, 200);
    let seen = backend.last();
    assert_eq!(ours(&seen), ours(&plain));
    assert_eq!(seen.data(), r#"{"a":1}"#);
    assert_eq!((seen.header("cookie"), &seen.body[..]), (Some("theme=dark"), &b"hi"[..]));
    for kept in ["x-forwarded-for", "forwarded", "x-request-id", "via", "host"] {
        assert!(seen.header(kept).is_some(), "{kept}");
    }
}

#[test]
fn spoofed_trailers_go_and_so_does_their_announcement() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend);
    for path in ["/", "/off"] {
        let before = stripped(&sidecar);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-Checksum, X-Session-Data, X_Session_Set, Cookie, Content_Length\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Checksum: good\r\nX-Session-Data: evil\r\nX_Session_Set: evil\r\n\
             Cookie: sessionid=evil\r\nContent_Length: 7\r\n\r\n"
        );
        assert_eq!(send(sidecar.address(), request).status, 200);
        let seen = backend.last();
        assert_eq!(seen.body, b"hi");
        assert_eq!(seen.trailers, [("x-checksum".to_owned(), "good".to_owned())], "{path}");
        let announced: Vec<_> = seen.headers.iter().filter(|(name, _)| name == "trailer").collect();
        assert_eq!(announced.len(), 1, "{announced:?}");
        assert!(announced[0].1.eq_ignore_ascii_case("x-checksum"));
        assert_eq!(stripped(&sidecar) - before, 4);
    }
}

#[test]
fn another_spelling_of_what_we_set_or_replace_is_removed_and_counted() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend);
    let guarded = [
        "Content-Length",
        "Transfer-Encoding",
        "X-Request-Id",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
    ];
    let disguised: Vec<String> = guarded
        .iter()
        .flat_map(|name| spellings(name))
        .filter(|spelled| !guarded.iter().any(|name| name.eq_ignore_ascii_case(spelled)))
        .collect();
    for path in ["/", "/off"] {
        let before = stripped(&sidecar);
        for chunk in disguised.chunks(80) {
            let headers: Vec<(&str, &str)> = chunk.iter().map(|name| (&**name, "evil")).collect();
            sidecar.browser().request("POST", path, &headers, "hi");
            let seen = backend.last();
            assert_eq!(seen.body, b"hi");
            assert!(seen.headers.iter().all(|(_, value)| !value.contains("evil")), "{path} {seen:?}");
        }
        assert_eq!(stripped(&sidecar) - before, disguised.len() as u64, "{path}");
    }
}

#[test]
fn other_names_with_odd_joints_pass() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let names = ["X_Custom", "x.session", "X-Sessions-Data", "_Session_Data", "User_Agent", "X_Sessio_Data"];
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (*name, "mine")).collect();
    sidecar.browser().request("GET", "/", &headers, "");
    for name in names {
        assert_eq!(backend.last().header(&name.to_lowercase()), Some("mine"), "{name}");
    }
    assert_eq!(stripped(&sidecar), 0);
}

#[test]
fn also_strip_removes_more_names_in_every_spelling() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.headers.also_strip = vec!["X-User".to_owned(), "remote_user".to_owned()];
    });
    let headers = [("x_user", "evil"), ("X-USER", "evil"), ("Remote.User", "evil"), ("X-Users", "fine")];
    sidecar.browser().request("GET", "/", &headers, "");
    let seen = backend.last();
    assert!(seen.headers.iter().all(|(_, value)| value != "evil"), "{seen:?}");
    assert_eq!((seen.header("x-users"), stripped(&sidecar)), (Some("fine"), 3));
}

#[test]
fn another_prefix_moves_the_whole_boundary() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.headers.prefix = "Coat-Check-".to_owned());
    let mut visitor = sidecar.browser();
    let spoofed = [("Coat_Check_Data", "evil"), ("COAT-CHECK-ID", "evil"), ("X-Session-Data", "not ours")];
    let reply =
        visitor.request("GET", "/", &[&spoofed[..], &[("Want-Coat-Check-Set", r#"{"a":1}"#)]].concat(), "");
    assert_eq!(reply.row(), "create");
    let seen = backend.last();
    assert_eq!((seen.header("coat-check-data"), seen.header("coat-check-id")), (Some("{}"), None));
    assert_eq!((seen.header("x-session-data"), seen.header("coat_check_data")), (Some("not ours"), None));
    visitor.ask(&[("X-Session-Set", r#"{"b":1}"#)]);
    assert_eq!(backend.last().header("coat-check-data"), Some(r#"{"a":1}"#), "not a directive any more");
    let problem = visitor.ask(&[("Coat-Check-Set", "no")]).text();
    assert!(problem.contains("Coat-Check-Set"), "{problem}");
}

#[test]
fn forwarded_headers_are_replaced_unless_the_peer_is_trusted() {
    let claims = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Anything", "evil"),
        ("Forwarded", "for=6.6.6.6;proto=https"),
        ("X-Request-Id", "theirs"),
    ];
    let backend = Backend::obedient();
    let seen = |sidecar: &Sidecar| {
        sidecar.browser().request("GET", "/", &claims, "");
        backend.last()
    };
    let stranger = seen(&Sidecar::before(backend.address));
    assert_eq!(stranger.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(stranger.header("x-forwarded-proto"), Some("http"));
    assert_eq!(stranger.header("x-forwarded-host"), Some("shop.test"));
    assert_eq!(
        (stranger.header("x-forwarded-prefix"), stranger.header("x-forwarded-anything")),
        (None, None)
    );
    assert_eq!(stranger.header("forwarded"), Some("for=127.0.0.1;host=\"shop.test\";proto=http"));
    assert_ne!(stranger.header("x-request-id"), Some("theirs"));

    let trusting = Sidecar::with(backend.address, |config| {
        config.proxy.trusted = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    let trusted = seen(&trusting);
    assert_eq!(trusted.header("x-forwarded-for"), Some("6.6.6.6, 127.0.0.1"));
    assert_eq!(trusted.header("x-forwarded-proto"), Some("https"));
    assert_eq!(trusted.header("x-forwarded-host"), Some("evil.test"));
    assert_eq!(trusted.header("x-forwarded-prefix"), Some("/evil"));
    assert!(
        trusted.header("forwarded").expect("there").starts_with("for=6.6.6.6;proto=https, for=127.0.0.1")
    );
    assert_eq!(trusted.header("x-request-id"), Some("theirs"));
    trusting.browser().request("GET", "/", &[("X_Forwarded_For", "evil"), ("X-Session-Data", "evil")], "");
    let spoofed = backend.last();
    assert_eq!(
        (spoofed.data(), spoofed.header("x_forwarded_for")),
        ("{}", None),
        "trust ends at our own headers"
    );
}

#[test]
fn names_that_are_no_tokens_never_reach_the_backend() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for line in [
        "X-Session-Data : evil",
        "X Session-Data: evil",
        "X-Session-Data\t: evil",
        "X-S\u{e9}ssion-Data: evil",
    ] {
        let mut stream = connect(sidecar.address());
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let (first, _) = read_head(&mut stream).expect("an answer");
        assert!(first.contains(" 400 "), "{line}: {first}");
    }
    let mut stream = connect(sidecar.address());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    assert_eq!(read_reply(&mut stream, false).status, 200);
    assert_eq!(backend.seen().len(), 1);
}
