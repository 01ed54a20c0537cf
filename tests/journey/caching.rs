//! Section 4 of the contract: what shared caches may keep.

use coatroom::proxy::routes;
use coatroom::session::Mode;

use crate::support::{Backend, Reply, Sidecar};

fn routed(backend: &Backend) -> Sidecar {
    Sidecar::with(backend.address, |config| {
        config.routes = [("/off", Mode::Off), ("/read", Mode::Read), ("/no-touch", Mode::NoTouch)]
            .map(|(path, session)| routes::Config { path: path.to_owned(), methods: Vec::new(), session })
            .to_vec();
    })
}

/// All lines of a header.
fn lines<'a>(reply: &'a Reply, name: &'a str) -> Vec<&'a str> {
    reply.all(name).collect()
}

#[test]
fn every_response_on_a_route_that_is_not_off_varies_by_cookie() {
    let backend = Backend::obedient();
    let sidecar = routed(&backend);
    for path in ["/", "/read", "/no-touch"] {
        for status in ["200", "204", "301", "304", "404", "500"] {
            for method in ["GET", "HEAD", "POST"] {
                let reply = sidecar.browser().request(method, path, &[("Want-Status", status)], "");
                assert_eq!(
                    (reply.status.to_string(), lines(&reply, "vary")),
                    (status.to_owned(), vec!["Cookie"]),
                    "{method} {path}"
                );
            }
        }
    }
    assert_eq!(lines(&sidecar.browser().get("/off"), "vary"), [""; 0]);
    assert_eq!(lines(&sidecar.browser().ask_at("/off", &[("Vary", "Accept")]), "vary"), ["Accept"]);
}

#[test]
fn vary_is_merged_with_the_backends_own() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for (theirs, expected) in [
        ("Accept", vec!["Accept, Cookie"]),
        ("Accept|Origin", vec!["Accept, Origin, Cookie"]),
        ("Accept ,Origin", vec!["Accept, Origin, Cookie"]),
        ("cookie", vec!["cookie"]),
        ("Accept, COOKIE", vec!["Accept, COOKIE"]),
        ("Accept|Cookie", vec!["Accept", "Cookie"]),
        ("*", vec!["*"]),
        ("Cookies", vec!["Cookies, Cookie"]),
    ] {
        let reply = sidecar.browser().ask(&[("Vary", theirs)]);
        assert_eq!(lines(&reply, "vary"), expected, "{theirs}");
    }
}

#[test]
fn our_own_answers_vary_too_and_are_not_stored() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let reply = sidecar.browser().ask(&[("X-Session-Set", "no JSON")]);
    assert_eq!((reply.status, lines(&reply, "vary")), (502, vec!["Cookie"]));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
}

#[test]
fn vary_can_be_turned_off() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.headers.vary = false);
    assert_eq!(lines(&sidecar.browser().get("/"), "vary"), [""; 0]);
    assert_eq!(lines(&sidecar.browser().ask(&[("X-Session-Set", "no JSON")]), "vary"), [""; 0]);
    let reply = sidecar.browser().ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    assert_eq!((lines(&reply, "vary"), reply.header("cache-control")), (vec![], Some("private")));
}

#[test]
#[rustfmt::skip] // a table: one case a line
fn a_response_that_sets_or_removes_the_cookie_is_kept_out_of_shared_caches() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for (theirs, expected) in [
        (vec![], "private"),
        (vec!["public, max-age=60"], "max-age=60, private"),
        (vec!["public", "s-maxage=600, max-age=60"], "max-age=60, private"),
        (vec!["PUBLIC, S-MaxAge = 3"], "private"),
        (vec!["private, max-age=60"], "private, max-age=60"),
        (vec!["no-store"], "no-store"),
        (vec!["public, no-store"], "no-store"),
        (vec!["no-cache"], "no-cache, private"),
        (vec!["private=\"x, public\", max-age=1"], "private=\"x, public\", max-age=1, private"),
        (vec!["publicity=1"], "publicity=1, private"),
    ] {
        let theirs = theirs.join("|");
        let wanted: Vec<_> = (!theirs.is_empty()).then_some(("Cache-Control", &*theirs)).into_iter().collect();
        let mut visitor = sidecar.browser();
        let reply = visitor.ask(&[&wanted[..], &[("X-Session-Set", r#"{"a":1}"#)]].concat());
        assert_eq!(lines(&reply, "cache-control"), [expected], "set: {theirs}");
        let reply = visitor.ask(&[&wanted[..], &[("X-Session-Flush", "true")]].concat());
        assert_eq!((reply.row(), lines(&reply, "cache-control")), ("flush", vec![expected]), "removed: {theirs}");
        let reply = visitor.ask(&wanted);
        let untouched: Vec<&str> = theirs.split('|').filter(|line| !line.is_empty()).collect();
        assert_eq!(lines(&reply, "cache-control"), untouched, "no cookie, no word of ours");
    }
}

#[test]
fn headers_for_one_kind_of_cache_go_with_the_cookie_unless_they_forbid_storing() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for (name, value, stays) in [
        ("CDN-Cache-Control", "max-age=60", false),
        ("CDN-Cache-Control", "no-store", true),
        ("CDN-Cache-Control", "private", true),
        ("CDN-Cache-Control", "no-store|max-age=60", false),
        ("Cloudflare-CDN-Cache-Control", "public, max-age=60", false),
        ("Cloudflare-CDN-Cache-Control", "max-age=60, No-Store", true),
        ("Vercel-CDN-Cache-Control", "s-maxage=60", false),
        ("Surrogate-Control", "max-age=60", false),
        ("Surrogate-Control", "no-store", true),
        ("X-Accel-Expires", "60", false),
        ("X-Accel-Expires", "@1700000000", false),
        ("X-Accel-Expires", "0", true),
    ] {
        let set = [(name, value), ("X-Session-Set", r#"{"a":1}"#)];
        let reply = sidecar.browser().ask(&set);
        assert_eq!(reply.all(&name.to_lowercase()).next().is_some(), stays, "{name}: {value}");
        let reply = sidecar.browser().ask(&[(name, value)]);
        assert!(reply.all(&name.to_lowercase()).next().is_some(), "without a cookie it stays");
    }
}

#[test]
fn a_304_that_sets_the_cookie_says_so_too() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let wanted =
        [("Status", "304"), ("X-Session-Set", r#"{"a":1}"#), ("Cache-Control", "public, max-age=60")];
    let reply = sidecar.browser().ask(&wanted);
    assert_eq!((reply.status, reply.header("vary")), (304, Some("Cookie")));
    assert_eq!(reply.header("cache-control"), Some("max-age=60, private"));
    assert!(reply.header("set-cookie").is_some());
}
