//! Section 5 of the contract: tokens that were ended, for as long as they are remembered.

use std::time::Duration;

use coatroom::session::policy::OnGone;
use coatroom::time::Length;

use crate::support::{Backend, Browser, Sidecar};

const SET: (&str, &str) = ("X-Session-Set", r#"{"b":2}"#);
const FLUSH: (&str, &str) = ("X-Session-Flush", "true");
const CYCLE: (&str, &str) = ("X-Session-Cycle-Key", "true");
const LOGIN: (&str, &str) = ("X-Session-Set", r#"{"user_id":7}"#);

fn reads(backend: &Backend, browser: &Browser) -> String {
    browser.clone().get("/");
    backend.last().data().to_owned()
}

/// A browser that was cycled, and what still has its token of before.
fn cycled(sidecar: &Sidecar, asked: &[(&str, &str)]) -> (Browser, Browser) {
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let old = visitor.clone();
    visitor.ask(asked);
    assert!(visitor.token().is_some() && visitor.token() != old.token());
    (visitor, old)
}

#[test]
fn an_ended_token_reads_its_data_of_before_for_the_time_of_grace() {
    let backend = Backend::obedient();
    for grace in [10, 3] {
        let sidecar = Sidecar::with(backend.address, |config| config.session.grace = Length::secs(grace));
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        visitor.get("/");
        let before = backend.last();
        let mut old = visitor.clone();
        visitor.ask(&[CYCLE, SET]);
        sidecar.wind(Duration::from_millis(grace * 1000 - 1));
        let reply = old.get("/");
        let during = backend.last();
        assert_eq!((reply.row(), reply.header("set-cookie")), ("nothing", None));
        for name in ["x-session-data", "x-session-state", "x-session-id", "x-session-version"] {
            assert_eq!(during.header(name), before.header(name), "{name}");
        }
        sidecar.wind(Duration::from_millis(1));
        let reply = old.get("/");
        let after = backend.last();
        assert_eq!(
            (after.data(), after.header("x-session-state"), after.header("x-session-id")),
            ("{}", Some("empty"), None)
        );
        assert_eq!((reply.row(), reply.header("set-cookie")), ("nothing", None), "and is not removed");
        assert_eq!(reads(&backend, &visitor), r#"{"a":1,"b":2}"#);
    }
}

#[test]
fn grace_needs_a_live_successor_at_the_end_of_the_chain() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let (mut visitor, old) = cycled(&sidecar, &[CYCLE]);
    let second = visitor.clone();
    visitor.ask(&[CYCLE, SET]);
    visitor.ask(&[CYCLE]);
    assert_eq!(reads(&backend, &old), r#"{"a":1}"#, "followed to the end");
    assert_eq!(reads(&backend, &second), r#"{"a":1}"#);
    visitor.ask(&[FLUSH]);
    for token in [old, second] {
        assert_eq!(reads(&backend, &token), "{}", "a logout ends them all");
    }
}

#[test]
fn grace_never_reads_another_user() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.session.on_switch = coatroom::session::policy::OnSwitch::Cycle;
    });
    // the entry was absent before: a login in another tab
    let (_, old) = cycled(&sidecar, &[LOGIN]);
    assert_eq!(reads(&backend, &old), r#"{"a":1}"#, "what it read before, and nothing of the user");
    // it equals the successor's
    let (mut visitor, _) = cycled(&sidecar, &[LOGIN]);
    let old = visitor.clone();
    visitor.ask(&[CYCLE]);
    assert_eq!(reads(&backend, &old), r#"{"a":1,"user_id":7}"#);
    // it has another value by now, or none
    for change in
        [("X-Session-Set", r#"{"user_id":8}"#), ("X-Session-Delete", "user_id"), ("X-Session-Clear", "true")]
    {
        let (mut visitor, _) = cycled(&sidecar, &[LOGIN]);
        let old = visitor.clone();
        visitor.ask(&[CYCLE]);
        visitor.ask(&[change]);
        assert_eq!(reads(&backend, &old), "{}", "{change:?}");
    }
}

#[test]
#[rustfmt::skip] // a table: one row a line
fn what_a_response_under_an_ended_token_does() {
    let backend = Backend::obedient();
    const NEW: bool = true;
    // (seconds since it was cycled, what is asked) -> row, a cookie, what the browser reads then, what the successor reads
    let rows: Vec<(u64, &[_], &str, bool, &str, &str)> = vec![
        (1, &[], "nothing", !NEW, r#"{"a":1}"#, r#"{"a":1}"#),
        (1, &[SET], "gone", !NEW, r#"{"a":1}"#, r#"{"a":1}"#),
        (1, &[("X-Session-Clear", "true")], "gone", !NEW, r#"{"a":1}"#, r#"{"a":1}"#),
        (1, &[("X-Session-Save", "true")], "gone", !NEW, r#"{"a":1}"#, r#"{"a":1}"#),
        (1, &[("X-Session-Delete", "zz")], "nothing", !NEW, r#"{"a":1}"#, r#"{"a":1}"#),
        (1, &[SET, ("Status", "500")], "server-error", !NEW, r#"{"a":1}"#, r#"{"a":1}"#),
        (1, &[FLUSH], "ended-flush", !NEW, "{}", "{}"),
        (1, &[FLUSH, ("Status", "500")], "ended-flush", !NEW, "{}", "{}"),
        (1, &[FLUSH, SET], "ended-flush-with-data", NEW, r#"{"b":2}"#, "{}"),
        (1, &[CYCLE], "ended-cycle-key", NEW, r#"{"a":1}"#, r#"{"a":1}"#),
        (1, &[CYCLE, SET], "ended-cycle-key", NEW, r#"{"a":1,"b":2}"#, r#"{"a":1}"#),
        (1, &[LOGIN], "ended-cycle-key", NEW, r#"{"a":1,"user_id":7}"#, r#"{"a":1}"#),
        (11, &[], "nothing", !NEW, "{}", r#"{"a":1}"#),
        (11, &[SET], "gone", !NEW, "{}", r#"{"a":1}"#),
        (11, &[FLUSH], "ended-flush", !NEW, "{}", "{}"),
        (11, &[FLUSH, SET], "ended-flush-with-data", NEW, r#"{"b":2}"#, "{}"),
        (11, &[CYCLE, SET], "ended-cycle-key", NEW, r#"{"b":2}"#, r#"{"a":1}"#), // it reads nothing by now
        (11, &[LOGIN], "ended-cycle-key", NEW, r#"{"user_id":7}"#, r#"{"a":1}"#),
        (599, &[FLUSH], "ended-flush", !NEW, "{}", "{}"),
    ];
    for (secs, asked, row, sets, reads_next, successor) in rows {
        let sidecar = Sidecar::before(backend.address);
        let (visitor, mut old) = cycled(&sidecar, &[CYCLE]);
        sidecar.wind(Duration::from_secs(secs));
        let before = old.clone();
        let reply = old.ask(asked);
        assert_eq!((reply.row(), reply.header("set-cookie").is_some()), (row, sets), "{secs} s, {asked:?}");
        assert_eq!(old.token() != before.token(), sets);
        let gone = sidecar.metric("coatroom_session_saves_total{result=\"gone\"}");
        assert_eq!(gone, u64::from(row == "gone"), "{asked:?}");
        assert_eq!(reads(&backend, &old), reads_next, "{secs} s, {asked:?}");
        assert_eq!(reads(&backend, &visitor), successor, "{secs} s, {asked:?}");
    }
}

#[test]
fn a_flush_under_an_ended_token_ends_the_end_of_the_chain() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let (mut visitor, mut old) = cycled(&sidecar, &[CYCLE]);
    visitor.ask(&[LOGIN]);
    visitor.ask(&[CYCLE]);
    assert_eq!(old.ask(&[FLUSH]).row(), "ended-flush");
    assert_eq!(reads(&backend, &visitor), "{}");
}

#[test]
fn a_request_that_loads_its_token_as_flushed_makes_a_new_session_by_any_change() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.session.on_gone = OnGone::Reject);
    for (asked, row, sets) in [
        (&[SET][..], "ended-create", true),
        (&[("X-Session-Expiry", "300")], "ended-create", true),
        (&[SET, CYCLE], "ended-create", true),
        (&[LOGIN], "ended-create", true),
        (&[FLUSH, SET], "ended-flush-with-data", true),
        (&[("X-Session-If-Version", "0"), SET], "ended-create", true),
        (&[], "nothing", false),
        (&[CYCLE], "nothing", false),
        (&[("X-Session-Save", "true")], "nothing", false),
        (&[("X-Session-Clear", "true")], "nothing", false),
        (&[FLUSH], "ended-flush", false),
        (&[SET, ("Status", "500")], "server-error", false),
    ] {
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        let mut old = visitor.clone();
        visitor.ask(&[FLUSH]);
        let before = old.clone();
        let reply = old.ask(asked);
        assert_eq!((reply.row(), reply.header("set-cookie").is_some()), (row, sets), "{asked:?}");
        assert_eq!(old.token() != before.token(), sets, "no response under an ended token removes a cookie");
        assert!(!reads(&backend, &old).contains("\"a\""), "nothing comes back");
        assert_eq!(reads(&backend, &before), "{}", "{asked:?}");
    }
}

#[test]
fn what_is_no_longer_remembered_is_a_token_like_any_other_unknown_one() {
    let backend = Backend::obedient();
    for memory in [600, 60] {
        let sidecar =
            Sidecar::with(backend.address, |config| config.session.ended_memory = Length::secs(memory));
        for ending in [FLUSH, CYCLE] {
            let mut visitor = sidecar.browser();
            visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
            let mut old = visitor.clone();
            visitor.ask(&[ending]);
            sidecar.wind(Duration::from_millis(memory * 1000 - 1));
            let reply = old.get("/");
            assert_eq!((reply.row(), reply.header("set-cookie")), ("nothing", None), "{ending:?}");
            sidecar.wind(Duration::from_millis(1));
            let reply = old.get("/");
            assert_eq!((reply.row(), old.token()), ("nothing-to-keep", None), "{ending:?}");
        }
    }
}

#[test]
fn without_grace_an_ended_token_reads_nothing_at_once() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.session.grace = Length::secs(0));
    let (visitor, old) = cycled(&sidecar, &[CYCLE]);
    assert_eq!(
        (reads(&backend, &old), reads(&backend, &visitor)),
        ("{}".to_owned(), r#"{"a":1}"#.to_owned())
    );
}

#[test]
fn ended_tokens_are_counted_and_are_no_reading() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let (_, mut old) = cycled(&sidecar, &[CYCLE]);
    old.get("/");
    sidecar.wind(Duration::from_secs(20));
    old.get("/");
    assert_eq!(sidecar.metric("coatroom_session_loads_total{result=\"ended\"}"), 2);
}
