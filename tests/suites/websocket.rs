//! The Autobahn test-suite of WebSockets, by `kosoku`: its client breaks the rules in every way, and sees how a server
//! behind the sidecar answers, byte for byte and close for close.

use std::env;
use std::net::SocketAddr;
use std::process::Command;

use super::{Verdicts, installed, json, ours, same, within};
use crate::support::Program;

/// Compression at length takes minutes: of each of its groups the first case that the server agrees to.
const FIRST: &[&str] = &[
    "12.1.1", "12.2.1", "12.3.1", "12.4.1", "12.5.1", "13.1.1", "13.2.4", "13.3.1", "13.4.1", "13.5.4",
    "13.6.4", "13.7.4",
];
/// All others, with those of large and of many messages (9.*).
const GROUPS: &[&str] = &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];
/// With this variable all 517 cases are run, for a quarter of an hour.
const EVERY: &str = "COATROOM_EVERY_CASE";
/// How many cases are run without it.
const CASES: usize = 313;

/// Runs cases against a server.
fn verdicts(server: SocketAddr) -> Verdicts {
    let (cases, seconds) = match env::var_os(EVERY) {
        Some(_) => (vec!["*"], 1800),
        None => ([GROUPS, FIRST].concat(), 100),
    };
    let mut command = within(seconds, installed("the Python package kosoku", "python/bin/python"));
    let results = json(command.arg(ours("cases.py")).arg(server.to_string()).args(cases));
    let text = |verdict: &serde_json::Value| verdict.as_str().expect("a verdict").to_owned();
    results.as_object().expect("an object").iter().map(|(case, said)| (case.clone(), text(said))).collect()
}

#[test]
fn what_the_suite_for_websockets_says_of_a_server_it_says_of_the_sidecar_before_it() {
    let mut command = Command::new("node");
    installed("the npm package ws", "node_modules/ws/package.json");
    command.arg(ours("echo.js")).env("NODE_PATH", installed("the npm package ws", "node_modules"));
    let backend = Program::start(&mut command, "listening on ");
    let sidecar = Program::sidecar(backend.address, &[], &[]);

    let alone = verdicts(backend.address);
    let through = verdicts(sidecar.address);
    if env::var_os(EVERY).is_none() {
        assert_eq!(alone.len(), CASES);
        let good = |verdict: &&String| {
            ["OK, OK", "NON-STRICT, OK", "INFORMATIONAL, INFORMATIONAL"].contains(&&***verdict)
        };
        assert_eq!(alone.values().filter(good).count(), CASES, "{alone:?}");
    }
    same("a WebSocket", &alone, &through, &[]);
}
