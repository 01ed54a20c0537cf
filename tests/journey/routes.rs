//! Section 8 of the contract: routes.

use std::io::Write;
use std::time::Duration;

use coatroom::proxy::routes;
use coatroom::session::Mode;

use crate::support::client::{connect, read_reply};
use crate::support::{Backend, Browser, Sidecar};

fn routed(backend: &Backend, list: &[(&str, &[&str], Mode)]) -> Sidecar {
    let list = list.to_vec();
    Sidecar::with(backend.address, |config| {
        config.session.save_every_request = true;
        config.routes = list
            .iter()
            .map(|(path, methods, session)| routes::Config {
                path: (*path).to_owned(),
                methods: methods.iter().map(|name| (*name).to_owned()).collect(),
                session: *session,
            })
            .collect();
    })
}

/// Sends a target as it is; what the backend saw of our headers says which route it was.
fn mode(sidecar: &Sidecar, backend: &Backend, method: &str, target: &str) -> String {
    let seen = backend.seen().len();
    let mut stream = connect(sidecar.address());
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let reply = read_reply(&mut stream, method == "HEAD");
    if backend.seen().len() == seen {
        return reply.status.to_string();
    }
    let on = backend.last().header("x-session-state").is_some();
    assert_eq!(reply.header("vary").is_some(), on, "{target}");
    (if on { "on" } else { "off" }).to_owned()
}

#[test]
#[rustfmt::skip] // a table: one path a line
fn the_longest_path_wins_by_whole_segments_case_sensitive_and_without_the_query() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &[
        ("/static", &[], Mode::Off),
        ("/static/private/", &[], Mode::On),
        ("/a/b/c", &[], Mode::Off),
        ("/a/b", &[], Mode::On),
        ("/a", &[], Mode::Off),
        ("/caf\u{e9} x", &[], Mode::Off),
    ]);
    for (target, expected) in [
        ("/static", "off"),
        ("/static/", "off"),
        ("/static/a", "off"),
        ("/static/a/b.css?x=/../&y", "off"),
        ("/static?", "off"),
        ("/static?/private", "off"),
        ("/statics", "on"),
        ("/static.css", "on"),
        ("/STATIC/a", "on"),
        ("/Static", "on"),
        ("/x/static", "on"),
        ("/?/static", "on"),
        ("/?x=/static/a", "on"),
        ("/", "on"),
        ("/static/private", "on"),
        ("/static/private/", "on"),
        ("/static/private/x", "on"),
        ("/static/privates", "off"),
        ("/static/Private/x", "off"),
        ("/a", "off"), ("/a/x", "off"), ("/a/b", "on"), ("/a/b/x", "on"), ("/a/b/c", "off"), ("/a/b/c/d/", "off"), ("/a/b/cc", "on"),
        ("/%73tatic/a", "off"), // the backend serves the same
        ("/static/%41", "off"),
        ("/caf%C3%A9%20x/y", "off"),
        ("/caf%c3%a9%20x", "off"),
        ("http://shop.test/static/a", "off"), // absolute
        ("http://shop.test/", "on"),
        ("http://shop.test", "on"),
    ] {
        assert_eq!(mode(&sidecar, &backend, "GET", target), expected, "{target}");
    }
}

#[test]
fn what_backends_disagree_about_is_always_on_or_no_request_at_all() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &[("/static", &[], Mode::Off), ("/", &["OPTIONS"], Mode::Off)]);
    for target in [
        "/static/../admin",
        "/static/..",
        "/static/./a",
        "/static/.",
        "/static//a",
        "/static/a//",
        "//static/a",
        "/static//",
        "/static/%2e%2e/admin",
        "/static/%2E%2E/admin",
        "/static/.%2e/admin",
        "/static/%2e",
        "/static/%2e/a",
        "/static%2fa",
        "/static/a%2Fb",
        "/static/%2f",
        "/static/a%5cb",
        "/static/%5C..%5Cadmin",
        "/static/a\\b",
        "/static\\..\\admin",
        "/static;x=1/a",
        "/static/a;jsessionid=1",
        "/static/..;/admin",
        "/static/a%3bx",
        "/static/%3B",
        "/static/%00",
        "/static/%0a",
        "/static/%7f",
        "/static/%",
        "/static/%2",
        "/static/%zz",
        "/static/%u002e",
        "/static/%252e%252e/admin",
        "/static/%ff",
        "/static/%c0%ae%c0%ae/admin",
        "/static/a?b/..", // the query is never looked at, so this one is not odd
        "http://shop.test/static/../admin",
        "http://shop.test//static/a",
    ] {
        let expected = if target.contains('?') { &["off"][..] } else { &["on", "400"] };
        let got = mode(&sidecar, &backend, "GET", target);
        assert!(expected.contains(&&*got), "{target}: {got}");
    }
    assert_eq!(mode(&sidecar, &backend, "OPTIONS", "*"), "on");
    assert_eq!(mode(&sidecar, &backend, "OPTIONS", "/x"), "off");
}

#[test]
fn a_fragment_is_no_part_of_a_target() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &[("/static", &[], Mode::Off)]);
    for target in ["/admin#/static", "/static#/../admin", "/static/%23/../admin"] {
        let got = mode(&sidecar, &backend, "GET", target);
        let seen = backend.seen();
        let sees = seen.last().map(|seen| seen.target.clone()).unwrap_or_default();
        assert!(
            got != "off" || sees.starts_with("/static"),
            "{target}: the backend serves {sees} without a session"
        );
    }
}

#[test]
fn a_method_that_is_not_listed_does_not_match_and_the_next_longest_counts() {
    let backend = Backend::obedient();
    let sidecar =
        routed(&backend, &[("/poll", &["GET", "HEAD"], Mode::Off), ("/poll/deep", &["POST"], Mode::Off)]);
    for (method, target, expected) in [
        ("GET", "/poll", "off"),
        ("HEAD", "/poll/x", "off"),
        ("POST", "/poll", "on"),
        ("OPTIONS", "/poll", "on"),
        ("POST", "/poll/deep", "off"),
        ("GET", "/poll/deep", "off"),
        ("PUT", "/poll/deep", "on"),
    ] {
        assert_eq!(mode(&sidecar, &backend, method, target), expected, "{method} {target}");
    }
}

#[test]
fn a_route_for_everything_can_have_exceptions() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &[("/", &[], Mode::Off), ("/app", &[], Mode::On)]);
    for (target, expected) in
        [("/", "off"), ("/x", "off"), ("/app", "on"), ("/app/x", "on"), ("/apps", "off"), ("//", "on")]
    {
        assert_eq!(mode(&sidecar, &backend, "GET", target), expected, "{target}");
    }
}

const MODES: [(&str, &[&str], Mode); 3] =
    [("/off", &[], Mode::Off), ("/read", &[], Mode::Read), ("/poll", &[], Mode::NoTouch)];

fn started(sidecar: &Sidecar) -> Browser {
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    visitor
}

#[test]
fn off_has_no_store_access_no_session_headers_and_no_cookie() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &MODES);
    let mut visitor = started(&sidecar);
    let (loads, commits) = (sidecar.loads(), sidecar.commits());
    for shown in [visitor.token(), Some("malformed"), Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), None] {
        for wanted in [
            &[][..],
            &[("X-Session-Set", r#"{"b":1}"#)],
            &[("X-Session-Flush", "true")],
            &[("X-Session-Set", "no JSON")],
        ] {
            let mut browser = sidecar.browser();
            browser.jar.extend(shown.map(|token| ("sessionid".to_owned(), token.to_owned())));
            let reply = browser.ask_at("/off/x", wanted);
            assert_eq!(
                (reply.status, reply.header("set-cookie"), reply.row()),
                (200, None, "-"),
                "{wanted:?}"
            );
            let seen = backend.last();
            assert!(
                seen.headers.iter().all(|(name, _)| !name.starts_with("x-session-") && name != "cookie"),
                "{seen:?}"
            );
        }
    }
    assert_eq!((sidecar.loads(), sidecar.commits()), (loads, commits));
    visitor.get("/");
    assert_eq!(backend.last().data(), r#"{"a":1}"#);
}

#[test]
fn read_injects_and_strips_directives_and_counts_and_never_obeys_them() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &MODES);
    let mut visitor = started(&sidecar);
    let stripped = || sidecar.metric("coatroom_headers_stripped_total{side=\"backend\"}");
    for wanted in [
        &[("X-Session-Set", r#"{"b":1}"#)][..],
        &[("X-Session-Flush", "true"), ("X-Session-Cycle-Key", "true")],
        &[("X-Session-Set", "no JSON")],
        &[("X-Session-Unknown", "1"), ("X-Session-If-Version", "0")],
        &[("X-Session-Flush", "true"), ("Status", "500")],
    ] {
        let before = stripped();
        let reply = visitor.ask_at("/read", wanted);
        assert_ne!(reply.status, 502, "{wanted:?}");
        assert_eq!(backend.last().data(), r#"{"a":1}"#);
        let directives = wanted.iter().filter(|(name, _)| name.starts_with("X-")).count();
        assert_eq!(stripped() - before, directives as u64, "{wanted:?}");
    }
    visitor.get("/");
    assert_eq!((backend.last().data(), sidecar.metric("coatroom_session_flushes_total")), (r#"{"a":1}"#, 0));
    let mut nobody = sidecar.browser();
    assert_eq!(nobody.ask_at("/read", &[("X-Session-Set", r#"{"b":1}"#)]).row(), "nothing-to-keep");
    assert_eq!(nobody.token(), None);
}

#[test]
fn no_touch_obeys_directives_but_extends_no_life_and_renews_no_cookie() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &MODES);
    let mut visitor = started(&sidecar);
    visitor.get("/");
    let end = backend.last().header("x-session-expires-at").map(str::to_owned);
    for (n, wanted) in [
        &[][..],
        &[("X-Session-Set", r#"{"b":1}"#)],
        &[("X-Session-Save", "true")],
        &[("X-Session-Expiry", "9999999")],
    ]
    .into_iter()
    .enumerate()
    {
        sidecar.wind(Duration::from_secs(1000));
        let reply = visitor.ask_at("/poll", wanted);
        assert_eq!(
            (reply.row(), reply.header("set-cookie")),
            (if n == 0 { "nothing" } else { "save" }, None),
            "{wanted:?}"
        );
        visitor.get("/poll");
        let seen = backend.last();
        assert_eq!(seen.header("x-session-expires-at"), end.as_deref(), "{wanted:?}");
    }
    assert_eq!(backend.last().data(), r#"{"a":1,"b":1}"#);
    assert_eq!(sidecar.metric("coatroom_session_saves_total{result=\"touched\"}"), 0);
    let shorter = visitor.ask_at("/poll", &[("X-Session-Expiry", "60")]);
    assert_eq!(shorter.header("set-cookie"), None);
    visitor.get("/poll");
    assert_eq!(
        backend.last().header("x-session-expires-at"),
        Some("2023-11-14T23:21:00Z"),
        "shorter is no extension"
    );
}

#[test]
fn no_touch_sets_the_cookie_of_a_new_token_and_removes_an_ended_ones() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &MODES);
    let mut visitor = started(&sidecar);
    let first = visitor.token().map(str::to_owned);
    sidecar.wind(Duration::from_secs(1000));
    let reply = visitor.ask_at("/poll", &[("X-Session-Cycle-Key", "true")]);
    assert!(visitor.token().is_some() && visitor.token() != first.as_deref());
    let cookie = reply.header("set-cookie").expect("set");
    assert!(cookie.contains("; Max-Age=1208600; "), "as long as the old one had: {cookie}");
    let reply = visitor.ask_at("/poll", &[("X-Session-Flush", "true"), ("X-Session-Set", r#"{"b":1}"#)]);
    assert!(reply.header("set-cookie").expect("set").contains("; Max-Age=1209600; "), "a session of its own");
    assert_eq!(visitor.ask_at("/poll", &[("X-Session-Flush", "true")]).row(), "flush");
    assert_eq!(visitor.token(), None);
    assert_eq!(sidecar.browser().ask_at("/poll", &[("X-Session-Set", r#"{"b":1}"#)]).row(), "create");
}

#[test]
fn a_stale_cookie_is_removed_on_all_routes_but_off() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend, &MODES);
    for (path, removed) in [("/", true), ("/read", true), ("/poll", true), ("/off", false)] {
        for stale in ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "malformed"] {
            let mut browser = sidecar.browser();
            browser.jar.insert("sessionid".to_owned(), stale.to_owned());
            browser.get(path);
            assert_eq!(browser.token().is_none(), removed, "{path} {stale}");
        }
    }
}
