//! Section 1 of the contract: directives count only in a response that repeats the request's nonce.

use std::collections::HashSet;

use crate::support::{Answer, Backend, Sidecar};

#[test]
fn each_request_carries_64_random_bits() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for _ in 0..20 {
        sidecar.browser().get("/");
    }
    let seen = backend.seen();
    let nonces: HashSet<&str> =
        seen.iter().map(|seen| seen.header("x-session-nonce").expect("a nonce")).collect();
    assert_eq!(nonces.len(), 20);
    assert!(
        nonces.iter().all(|nonce| nonce.len() == 16 && nonce.bytes().all(|b| b.is_ascii_hexdigit())),
        "{nonces:?}"
    );
}

/// A backend that sets an entry, and answers to the nonce as the path says.
fn echo() -> Backend {
    Backend::new(|seen| {
        let nonce = seen.header("x-session-nonce").unwrap_or_default().to_owned();
        let lines: &[&str] = match &*seen.target {
            "/right" => &[&nonce],
            "/twice" => &[&nonce, &nonce],
            "/wrong" => &["0123456789abcdef"],
            "/both" => &[&nonce, "0123456789abcdef"],
            "/joined" => &[&format!("{nonce}, {nonce}")],
            "/upper" => &[&nonce.to_uppercase()],
            "/empty" => &[""],
            _ => &[],
        };
        let mut headers = vec![("X-Session-Set", r#"{"a":1}"#)];
        headers.extend(lines.iter().map(|line| ("X-Session-Nonce", *line)));
        let status = if seen.target == "/failing" { 500 } else { 200 };
        Answer::status(status, &headers)
    })
}

#[test]
fn with_require_nonce_directives_count_only_in_a_response_that_repeats_it() {
    let backend = echo();
    let sidecar = Sidecar::with(backend.address, |config| config.headers.require_nonce = true);
    for path in ["/right", "/twice"] {
        let reply = sidecar.browser().get(path);
        assert_eq!((reply.status, reply.row()), (200, "create"), "{path}");
        assert_eq!(reply.header("x-session-nonce"), None);
    }
    let refused = "coatroom_directives_refused_total{reason=\"nonce\"}";
    for (n, path) in ["/missing", "/wrong", "/both", "/joined", "/empty"].into_iter().enumerate() {
        let reply = sidecar.browser().get(path);
        assert_eq!((reply.status, reply.problem()), (502, "directive-refused".to_owned()), "{path}");
        assert!(reply.text().contains("X-Session-Set"), "{}", reply.text());
        assert_eq!((reply.header("set-cookie"), sidecar.metric(refused)), (None, n as u64 + 1), "{path}");
    }
    assert_eq!(sidecar.metric("coatroom_session_creates_total"), 2);
}

#[test]
fn a_backend_that_fails_passes_without_its_nonce_too() {
    let backend = echo();
    let sidecar = Sidecar::with(backend.address, |config| config.headers.require_nonce = true);
    let reply = sidecar.browser().get("/failing");
    assert_eq!((reply.status, reply.row(), reply.text()), (500, "server-error", "ok".to_owned()));
}

#[test]
fn without_require_nonce_it_may_be_missing_or_wrong() {
    let backend = echo();
    let sidecar = Sidecar::before(backend.address);
    for path in ["/right", "/missing", "/wrong"] {
        let reply = sidecar.browser().get(path);
        assert_eq!((reply.row(), reply.header("x-session-nonce")), ("create", None), "{path}");
    }
}

#[test]
fn a_nonce_is_good_for_its_own_request_only() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.headers.require_nonce = true);
    let mut visitor = sidecar.browser();
    visitor.get("/");
    let before = backend.last().header("x-session-nonce").expect("a nonce").to_owned();
    let reply = visitor.ask(&[("X-Session-Set", "{}"), ("X-Session-Nonce", &before)]);
    assert_eq!(reply.status, 502);
}

#[test]
fn a_response_without_directives_needs_no_nonce() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.headers.require_nonce = true);
    assert_eq!(sidecar.browser().get("/").status, 200);
    let stripped_only = sidecar.browser().ask(&[("X-Session-Data", "{}"), ("X_Session_Set", "{}")]);
    assert_eq!(stripped_only.status, 200, "what is no directive needs none either");
}
