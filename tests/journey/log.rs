//! What an outage leaves in the log of the program itself.

use std::io::Write as _;

use coatroom::time::Stopwatch;
use tempfile::NamedTempFile;

use super::outage::SET;
use crate::support::child::until;
use crate::support::{Backend, Browser, Child, Redis, send};

/// Requests of an outage.
const MANY: u64 = 100;

/// The program, with its sessions on a server.
fn program(backend: &Backend, redis: &Redis, more: &str) -> Child {
    let mut file = NamedTempFile::new().expect("a file");
    write!(file, "store.url = \"{}\"\nreload.interval = 0\n{more}", redis.url()).expect("it is written");
    let flags = ["--config", file.path().to_str().expect("UTF-8")];
    Child::before(&format!("http://{}", backend.address), &flags)
}

/// The events so far whose message has this in it.
fn told(child: &Child, text: &str) -> Vec<serde_json::Value> {
    let log = child.log();
    let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    events.filter(|event| event["message"].as_str().is_some_and(|message| message.contains(text))).collect()
}

/// Has the program told of an outage no more than once a second?
fn an_outage_is_told_of(on_error: &str, message: &str) {
    let backend = Backend::obedient();
    let mut redis = Redis::start();
    let child = program(&backend, &redis, &format!("store.on_error = \"{on_error}\""));
    let mut browser = Browser::new(child.address);
    browser.ask(&[SET]);
    redis.kill();
    let watch = Stopwatch::start();
    let mut ids = Vec::new();
    for n in 0..MANY {
        let reply = browser.ask(if n % 2 == 0 { &[] } else { &[SET] });
        ids.extend(reply.header("x-request-id").map(str::to_owned));
    }
    let events = until(|| Some(told(&child, message)).filter(|events| !events.is_empty()));
    let seconds = watch.elapsed().as_secs();
    assert!(events.len() as u64 <= 1 + seconds, "{} lines in {seconds} s", events.len());
    let suppressed: u64 = events.iter().filter_map(|event| event["suppressed"].as_u64()).sum();
    assert!(events.len() as u64 + suppressed <= MANY, "{events:?}");
    for event in &events {
        assert!(event["kind"].is_string() && event["level"] == "ERROR", "{event}");
        let id = event["id"].as_str();
        assert!(id.is_none_or(|id| ids.iter().any(|known| known == id)), "{event}");
        assert_eq!(id.is_some(), on_error == "reject", "{event}");
    }
    // Those of connections that do not come about are not many either.
    let noise = child.log().lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).count();
    assert!(noise as u64 <= 10 * (1 + seconds), "{}", child.log());
    let kinds = ["unreachable", "broken", "timeout"];
    let series = |kind| format!("coatroom_store_errors_total{{kind=\"{kind}\",operation=\"load\"}}");
    assert_eq!(kinds.iter().map(|kind| child.metric(&series(kind))).sum::<u64>(), MANY);
    assert_eq!(child.metric("coatroom_session_loads_total{result=\"unknown\"}"), MANY);
}

#[test]
fn an_outage_is_logged_once_a_second_with_the_id_of_a_request_and_counted_each_time() {
    an_outage_is_told_of("reject", "Sessions are not available right now");
}

#[test]
fn an_outage_that_nobody_is_told_of_is_logged_once_a_second_and_counted_each_time() {
    an_outage_is_told_of("anonymous", "the store is ill");
}

#[test]
fn a_store_that_goes_and_comes_back_is_told_of_once_each() {
    let backend = Backend::obedient();
    let mut redis = Redis::start();
    let child = program(&backend, &redis, "telemetry.ready_needs_store = true\nstore.timeout = 1");
    let ready = || {
        let head = "GET /readyz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        send(child.telemetry, head).status
    };
    let failed =
        |kind| child.metric(&format!("coatroom_store_errors_total{{kind=\"{kind}\",operation=\"ping\"}}"));
    redis.kill();
    until(|| (failed("unreachable") >= 2).then_some(()));
    assert_eq!((ready(), child.metric("coatroom_store_up")), (503, 0));
    redis.restart();
    until(|| (ready() == 200).then_some(()));
    redis.signal("STOP");
    until(|| (ready() == 503).then_some(()));
    assert!(failed("timeout") > 0);
    redis.signal("CONT");
    until(|| (ready() == 200).then_some(()));
    let events = |text| until(|| Some(told(&child, text)).filter(|events| events.len() >= 2));
    assert_eq!(events("the store can't be reached").len(), 2);
    assert_eq!(events("the store can be reached again").len(), 2);
}

/// What anybody can have as often as they like is no way to fill a disk.
#[test]
fn what_the_sidecar_refuses_and_strange_cookies_are_told_of_once_a_second() {
    let backend = Backend::obedient();
    let redis = Redis::start();
    let child = program(&backend, &redis, "");
    let via = "Via: 1.1 coatroom\r\n".repeat(8);
    let crowd: String = ('a'..'u').map(|c| format!("Cookie: sessionid={c}{}\r\n", "a".repeat(31))).collect();
    let watch = Stopwatch::start();
    for _ in 0..MANY {
        for (headers, status) in [(&via, 508), (&crowd, 200)] {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
            assert_eq!(send(child.address, request).status, status);
        }
    }
    for message in ["comes back here again", "more cookies of our name than can be honest"] {
        let events = until(|| Some(told(&child, message)).filter(|events| !events.is_empty()));
        let seconds = watch.elapsed().as_secs();
        assert!(events.len() as u64 <= 1 + seconds, "{} lines in {seconds} s", events.len());
        assert!(events.iter().all(|event| event["level"] == "WARN"), "{events:?}");
    }
}
