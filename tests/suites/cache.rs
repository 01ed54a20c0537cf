//! The test-suite of HTTP caches (<https://cache-tests.fyi>): what a request and a response say passes as it is.
//!
//! Nothing here is a cache, so that most cases fail: in the same words with the sidecar and without it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;

use super::{Verdicts, installed, json, same, within};
use crate::support::Program;

/// Its cases but for the 15 that only a browser can run.
const CASES: usize = 350;

/// What is another verdict through any sidecar.
const LISTED: &[(&str, &str)] = &[
    // The backend closes the connection without an answer: alone the suite gets none, through the sidecar a 502.
    ("stale-close", "Assertion: Response 2 does not come from cache"),
    ("stale-close-must-revalidate", "Assertion: Response 2 comes from cache"),
    ("stale-close-no-cache", "Assertion: Response 2 comes from cache"),
    ("stale-close-proxy-revalidate", "Assertion: Response 2 comes from cache"),
    ("stale-close-s-maxage=2", "Assertion: Response 2 comes from cache"),
    ("stale-sie-503", "Assertion: Response 2 does not come from cache"),
    ("stale-sie-close", "Assertion: Response 2 does not come from cache"),
    ("stale-warning-become", "Setup: Response 2 does not come from cache"),
    ("stale-warning-stored", "Setup: Response 2 does not come from cache"),
    // The backend sends more bytes than its Content-Length says: alone the suite reads them as the next response, the
    // sidecar passes as many as were promised (RFC 9112 §6.3).
    (
        "304-etag-update-response-Content-Length",
        "Setup: Request 2 should have been conditional, but it was not.",
    ),
    ("headers-store-Content-Length", "Setup: Response 2 does not come from cache"),
    // The backend's Transfer-Encoding is one that nobody knows: where the body ends is in doubt.
    ("headers-store-Transfer-Encoding", "Setup: Response 1 status is 502, not 200"),
];

/// Responses that depend on the session say so (`headers.vary`).
const VARY: &[(&str, &str)] = &[
    ("vary-no-match", "Setup: Response 1 header Vary is \"Foo, Cookie\", not \"Foo\""),
    ("vary-omit", "Setup: Response 1 header Vary is \"Foo, Cookie\", not \"Foo\""),
    ("vary-omit-stored", "Setup: Response 1 header Vary is \"Foo, Cookie\", not \"Foo\""),
];

/// Runs all cases against a server.
fn verdicts(server: SocketAddr) -> Verdicts {
    let client = installed("the npm package http-cache-tests", "node_modules/http-cache-tests/cli.mjs");
    let mut command = within(100, "node");
    command.arg("--no-warnings").arg(&client).current_dir(client.parent().expect("a folder"));
    command.env("npm_config_base", format!("http://{server}"));
    // No single case.
    command.env("npm_config_id", "").env("npm_package_config_id", "");
    let results = json(&mut command);
    let verdict = |(case, result): (&String, &serde_json::Value)| {
        let said = |at: usize| result[at].as_str().unwrap_or_default();
        let verdict = match result.as_bool() {
            Some(true) => "passed".to_owned(),
            // The URL is another one each time.
            _ => format!("{}: {}", said(0), said(1).replace(&format!("http://{server}"), "")),
        };
        (case.clone(), verdict)
    };
    results.as_object().expect("an object").iter().map(verdict).collect()
}

#[test]
fn what_the_suite_for_caches_says_of_a_server_it_says_of_the_sidecar_before_it() {
    let server =
        installed("the npm package http-cache-tests", "node_modules/http-cache-tests/server/server.mjs");
    let mut command = Command::new("node");
    command.arg(&server).current_dir(server.parent().expect("a folder"));
    command.envs([("npm_config_protocol", "http"), ("npm_config_port", "0")]);
    command.env("npm_config_pidfile", "/dev/null");
    let backend = Program::start(&mut command, "Listening on http://");
    let backend_address = SocketAddr::from((Ipv4Addr::LOCALHOST, backend.address.port()));

    // Node keeps a connection for 5 s.
    let kept = ("COATROOM__PROXY__BACKEND_IDLE_TIMEOUT", "1");
    let off = ("COATROOM__ROUTES", "[{ path = '/', session = 'off' }]");
    let with_sessions = Program::sidecar(backend_address, &[], &[kept]);
    let without = Program::sidecar(backend_address, &[], &[kept, off]);

    // Most of their time they wait for what is cached to become stale.
    let [alone, with_sessions, without] = thread::scope(|scope| {
        [backend_address, with_sessions.address, without.address]
            .map(|address| scope.spawn(move || verdicts(address)))
            .map(|run| run.join().expect("it runs"))
    });
    assert_eq!(alone.len(), CASES);
    assert!(alone.values().filter(|verdict| *verdict == "passed").count() > 100, "{alone:?}");
    same("with sessions", &alone, &with_sessions, &[LISTED, VARY].concat());
    same("without sessions", &alone, &without, LISTED);
}
