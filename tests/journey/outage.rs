//! Section 7 of the contract on a real Redis that is away: *absent* and *unknown* are two answers.

use std::thread;

use coatroom::config::Config;
use coatroom::store::OnError;
use coatroom::time::Length;

use crate::support::{Backend, Browser, Redis, Reply, Sidecar};

pub(super) const SET: (&str, &str) = ("X-Session-Set", "{\"a\":2}");
pub(super) const LOGIN: (&str, &str) = ("X-Session-Set", "{\"user_id\":7}");
pub(super) const FLUSH: (&str, &str) = ("X-Session-Flush", "true");
pub(super) const CYCLE: (&str, &str) = ("X-Session-Cycle-Key", "true");
pub(super) const IF_VERSION: (&str, &str) = ("X-Session-If-Version", "0000000000000001");
pub(super) const PAST: (&str, &str) = ("X-Session-Expiry", "-1");

/// Settings with that `store.on_error`. A server that says nothing is not waited for as long as in other tests.
pub(super) fn on(error: OnError) -> impl Fn(&mut Config) + Copy {
    move |config| {
        config.store.on_error = error;
        (config.store.timeout, config.store.commit_timeout) = (Length::secs(1), Length::secs(1));
    }
}

/// A response of our own that says that sessions are not available, and leaves the cookie alone.
fn is_unavailable(reply: &Reply) {
    assert_eq!((reply.status, &*reply.problem()), (503, "store-unavailable"), "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.header("set-cookie"), None, "an outage never clears or replaces a cookie");
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(problem["instance"].as_str(), reply.header("x-request-id"));
}

/// A visitor with a session that holds `a`, and the server that it is on.
pub(super) fn visitor(backend: &Backend, change: impl FnOnce(&mut Config)) -> (Redis, Sidecar, Browser) {
    let redis = Redis::durable();
    let sidecar = Sidecar::on(&redis, backend.address, change);
    let mut browser = sidecar.browser();
    assert_eq!(browser.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    (redis, sidecar, browser)
}

/// Once the server is back the session is as it was.
pub(super) fn is_as_before(mut redis: Redis, sidecar: &Sidecar, backend: &Backend, browser: &mut Browser) {
    redis.restart();
    crate::support::child::until(|| {
        (browser.get("/").status == 200 && backend.last().data() != "{}").then_some(())
    });
    assert_eq!(backend.last().data(), "{\"a\":1}", "nobody was logged out, and nothing applied");
    assert!(sidecar.metric("coatroom_session_loads_total{result=\"live\"}") > 0);
}

#[test]
fn a_session_that_cannot_be_read_is_a_503_and_the_backend_is_not_asked() {
    let backend = Backend::obedient();
    let (mut redis, sidecar, mut browser) = visitor(&backend, on(OnError::Reject));
    redis.kill();
    let asked = backend.seen().len();
    for wanted in [&[][..], &[SET], &[FLUSH]] {
        is_unavailable(&browser.ask(wanted));
    }
    assert_eq!(backend.seen().len(), asked);
    assert_eq!(sidecar.browser().get("/").status, 200, "who shows no token needs no store");
    is_as_before(redis, &sidecar, &backend, &mut browser);
}

#[test]
fn anonymous_goes_on_without_a_session_and_changes_neither_store_nor_cookie() {
    let backend = Backend::obedient();
    let (mut redis, sidecar, mut browser) = visitor(&backend, on(OnError::Anonymous));
    redis.kill();
    for wanted in [&[][..], &[SET], &[("X-Session-Clear", "true")], &[("X-Session-Save", "true")]] {
        let reply = browser.ask(wanted);
        assert_eq!((reply.status, reply.row()), (200, "unavailable"));
        assert_eq!(reply.header("set-cookie"), None);
        let seen = backend.last();
        assert_eq!((seen.header("x-session-state"), seen.data()), (Some("unavailable"), "{}"));
        assert_eq!(seen.header("x-session-id"), None);
    }
    for wanted in [FLUSH, CYCLE, IF_VERSION, PAST] {
        is_unavailable(&browser.ask(&[wanted, SET]));
    }
    is_as_before(redis, &sidecar, &backend, &mut browser);
}

/// Asks at `/slow`, and lets the backend answer only when the server is ill.
pub(super) fn during(
    redis: &mut Redis,
    browser: &Browser,
    gate: &crate::support::gate::Gate,
    wanted: &[(&str, &str)],
    hurt: fn(&mut Redis),
) -> Reply {
    thread::scope(|scope| {
        let mut late = browser.clone();
        let late = scope.spawn(move || late.ask_at("/slow", wanted));
        gate.wait();
        hurt(redis);
        gate.open();
        late.join().expect("it is answered")
    })
}

#[test]
fn a_session_that_cannot_be_written_is_a_503_in_place_of_the_response() {
    for wanted in [SET, FLUSH, CYCLE, PAST] {
        let (backend, gate) = Backend::slow();
        let (mut redis, sidecar, mut browser) = visitor(&backend, on(OnError::Reject));
        let reply = during(&mut redis, &browser, &gate, &[wanted], Redis::kill);
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(["store-unavailable", "outcome-unknown"].contains(&&*reply.problem()), "{reply:?}");
        assert_eq!((reply.header("set-cookie"), reply.header("retry-after")), (None, Some("1")));
        is_as_before(redis, &sidecar, &backend, &mut browser);
    }
}

#[test]
fn anonymous_lets_a_response_pass_that_cannot_be_saved_but_no_logout_and_no_login() {
    for (wanted, passes) in [(SET, true), (FLUSH, false), (CYCLE, false), (PAST, false)] {
        let (backend, gate) = Backend::slow();
        let (mut redis, sidecar, mut browser) = visitor(&backend, on(OnError::Anonymous));
        let reply = during(&mut redis, &browser, &gate, &[wanted], Redis::kill);
        assert_eq!(
            (reply.status, reply.header("set-cookie")),
            (if passes { 200 } else { 503 }, None),
            "{reply:?}"
        );
        is_as_before(redis, &sidecar, &backend, &mut browser);
    }
}

#[test]
fn a_new_session_that_cannot_be_created_is_refused_or_passes_without_a_cookie() {
    let backend = Backend::obedient();
    for (error, status) in [(OnError::Reject, 503), (OnError::Anonymous, 200)] {
        let (mut redis, sidecar, _) = visitor(&backend, on(error));
        redis.kill();
        for (wanted, status) in
            [(&[SET][..], status), (&[LOGIN], 503), (&[CYCLE, SET], 503), (&[FLUSH, SET], 503)]
        {
            let reply = sidecar.browser().ask(wanted);
            assert_eq!((reply.status, reply.header("set-cookie")), (status, None), "{wanted:?}");
        }
    }
}

#[test]
fn an_outage_is_counted_each_time_by_its_kind() {
    let backend = Backend::obedient();
    let (mut redis, sidecar, mut browser) = visitor(&backend, on(OnError::Reject));
    redis.kill();
    let count = || -> u64 {
        let kinds = ["unreachable", "broken", "timeout"];
        let series = |kind| format!("coatroom_store_errors_total{{kind=\"{kind}\",operation=\"load\"}}");
        kinds.iter().map(|kind| sidecar.metric(&series(kind))).sum()
    };
    for n in 1..=20 {
        is_unavailable(&browser.get("/"));
        assert_eq!(count(), n);
    }
    assert_eq!(sidecar.metric("coatroom_session_saves_total{result=\"failed\"}"), 0);
}

#[test]
fn readiness_is_the_stores_affair_only_where_that_is_wanted() {
    let backend = Backend::obedient();
    for needs in [false, true] {
        let mut redis = Redis::durable();
        redis.kill();
        let sidecar =
            Sidecar::on(&redis, backend.address, |config| config.telemetry.ready_needs_store = needs);
        let unreachable = "coatroom_store_errors_total{kind=\"unreachable\",operation=\"ping\"}";
        crate::support::child::until(|| (sidecar.metric(unreachable) > 0).then_some(()));
        for probe in ["/readyz", "/startupz"] {
            let reply = sidecar.telemetry(probe);
            assert_eq!(reply.status, if needs { 503 } else { 200 }, "{probe}");
            assert!(!needs || reply.text().contains("the store"), "{reply:?}");
        }
        assert_eq!(sidecar.metric("coatroom_store_up"), 0);
        redis.restart();
        sidecar.until("coatroom_store_up", 1);
        crate::support::child::until(|| (sidecar.telemetry("/readyz").status == 200).then_some(()));
        redis.kill();
        if needs {
            crate::support::child::until(|| (sidecar.telemetry("/readyz").status == 503).then_some(()));
            assert_eq!(sidecar.metric("coatroom_store_up"), 0);
        }
        assert_eq!(sidecar.telemetry("/startupz").status, 200, "what has started stays started");
    }
}
