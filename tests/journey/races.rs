//! Section 5 of the contract, as far as clients see it: no lost update, no resurrection.

use std::thread;

use coatroom::session::policy::{OnGone, OnSwitch};
use serde_json::{Map, Value};

use crate::support::gate::Gate;
use crate::support::{Backend, Browser, Reply, Sidecar};

const SET: (&str, &str) = ("X-Session-Set", r#"{"b":2}"#);
const FLUSH: (&str, &str) = ("X-Session-Flush", "true");
const CYCLE: (&str, &str) = ("X-Session-Cycle-Key", "true");
const LOGIN: (&str, &str) = ("X-Session-Set", r#"{"user_id":7}"#);

fn gone(sidecar: &Sidecar) -> u64 {
    sidecar.metric("coatroom_session_saves_total{result=\"gone\"}")
}

fn reads(backend: &Backend, browser: &Browser) -> String {
    browser.clone().get("/");
    backend.last().data().to_owned()
}

fn started(sidecar: &Sidecar) -> Browser {
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    visitor
}

#[test]
fn two_hundred_parallel_increments_are_two_hundred() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let visitor = started(&sidecar);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut visitor = visitor.clone();
                for _ in 0..10 {
                    assert_eq!(visitor.ask(&[("X-Session-Increment", r#"{"n":1}"#)]).row(), "save");
                }
            });
        }
    });
    assert_eq!(reads(&backend, &visitor), r#"{"a":1,"n":200}"#);
    assert_eq!(sidecar.metric("coatroom_session_saves_total{result=\"saved\"}"), 200);
}

#[test]
fn entries_that_concurrent_requests_set_are_all_there() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    let visitor = started(&sidecar);
    thread::scope(|scope| {
        for n in 0..8 {
            let mut visitor = visitor.clone();
            scope.spawn(move || {
                let entry = format!("{{\"k{n}\":{n}}}");
                assert_eq!(visitor.ask_at("/slow", &[("X-Session-Set", &entry)]).row(), "save");
            });
        }
        // All have read the session before the first one writes it.
        (0..8).for_each(|_| gate.wait());
        (0..8).for_each(|_| gate.open());
    });
    let data: Map<String, Value> = serde_json::from_str(&reads(&backend, &visitor)).expect("JSON");
    assert_eq!(data.len(), 9, "{data:?}");
}

/// Lets a request read the session, does something else `meanwhile`, and then lets it answer.
fn overtaken(
    gate: &Gate,
    slow: &Browser,
    wanted: &[(&'static str, &'static str)],
    meanwhile: impl FnOnce(),
) -> Reply {
    let (mut slow, wanted) = (slow.clone(), wanted.to_vec());
    let slow = thread::spawn(move || slow.ask_at("/slow", &wanted));
    gate.wait();
    meanwhile();
    gate.open();
    slow.join().expect("it ends")
}

#[test]
fn a_directive_is_an_operation_on_what_is_stored_by_then() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    for (slow_asks, meanwhile, expected) in [
        (("X-Session-Increment", r#"{"a":1}"#), ("X-Session-Increment", r#"{"a":10}"#), r#"{"a":12}"#),
        (("X-Session-Set", r#"{"b":1}"#), ("X-Session-Delete", "a"), r#"{"b":1}"#),
        (
            ("X-Session-Merge", r#"{"o":{"x":1}}"#),
            ("X-Session-Set", r#"{"o":{"y":2}}"#),
            r#"{"a":1,"o":{"y":2,"x":1}}"#,
        ),
        (
            ("X-Session-Set-Default", r#"{"d":1,"e":1}"#),
            ("X-Session-Set", r#"{"d":2}"#),
            r#"{"a":1,"d":2,"e":1}"#,
        ),
        (("X-Session-Clear", "true"), ("X-Session-Set", r#"{"b":1}"#), "{}"),
        (("X-Session-Flush", "true"), ("X-Session-Set", r#"{"b":1}"#), "{}"),
        (("X-Session-Cycle-Key", "true"), ("X-Session-Set", r#"{"b":1}"#), r#"{"a":1,"b":1}"#),
    ] {
        let mut visitor = started(&sidecar);
        let reply = overtaken(&gate, &visitor, &[slow_asks], || {
            assert_eq!(visitor.clone().ask(&[meanwhile]).row(), "save");
        });
        assert_eq!(reply.status, 200);
        visitor.keep(&reply);
        assert_eq!(reads(&backend, &visitor), expected, "{slow_asks:?} after {meanwhile:?}");
    }
    let reply = overtaken(&gate, &started(&sidecar), &[("X-Session-Increment", r#"{"a":1}"#)], || {});
    assert_eq!(reply.row(), "save");
}

#[test]
#[rustfmt::skip] // a table: one row a line
fn a_change_to_a_session_that_was_ended_meanwhile_is_dropped_and_sends_no_cookie() {
    let (backend, gate) = Backend::slow();
    // what the slow response asks; what ended the session; row; how the slow client's token reads afterwards
    let rows: Vec<(&[_], (&str, &str), &str, &str)> = vec![
        (&[SET], FLUSH, "gone", "{}"),
        (&[LOGIN], FLUSH, "gone", "{}"),
        (&[CYCLE, SET], FLUSH, "gone", "{}"),
        (&[("X-Session-Save", "true")], FLUSH, "gone", "{}"),
        (&[("X-Session-Expiry", "300")], FLUSH, "gone", "{}"),
        (&[SET], ("X-Session-Expiry", "-1"), "gone", "{}"),
        (&[], FLUSH, "nothing", "{}"),
        (&[("X-Session-Delete", "zz")], FLUSH, "nothing", "{}"),
        (&[SET, ("Status", "500")], FLUSH, "server-error", "{}"),
        (&[FLUSH], FLUSH, "ended-flush", "{}"),
        (&[FLUSH, SET], FLUSH, "ended-flush-with-data", r#"{"b":2}"#),
        (&[SET], CYCLE, "gone", r#"{"a":1}"#),
        (&[], CYCLE, "nothing", r#"{"a":1}"#),
        (&[FLUSH], CYCLE, "ended-flush", "{}"),
        (&[FLUSH, SET], CYCLE, "ended-flush-with-data", r#"{"b":2}"#),
        (&[CYCLE], CYCLE, "ended-cycle-key", r#"{"a":1}"#),
        (&[LOGIN], LOGIN, "ended-cycle-key", r#"{"a":1,"user_id":7}"#),
    ];
    for (asked, ending, row, reads_after) in rows {
        let sidecar = Sidecar::before(backend.address);
        let visitor = started(&sidecar);
        let reply = overtaken(&gate, &visitor, asked, || {
            assert_eq!(visitor.clone().ask(&[ending]).status, 200);
        });
        assert_eq!(reply.row(), row, "{asked:?} after {ending:?}");
        let sets = matches!(row, "ended-flush-with-data" | "ended-cycle-key");
        assert_eq!(reply.header("set-cookie").is_some(), sets, "{asked:?} after {ending:?}");
        assert_eq!(gone(&sidecar), u64::from(row == "gone"));
        let mut after = visitor.clone();
        after.keep(&reply);
        assert_eq!(reads(&backend, &after), reads_after, "{asked:?} after {ending:?}");
    }
}

#[test]
fn a_change_to_a_session_that_expired_meanwhile_is_dropped_too() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    let wind = || sidecar.wind(std::time::Duration::from_secs(1_209_600));
    let visitor = started(&sidecar);
    let reply = overtaken(&gate, &visitor, &[SET], wind);
    assert_eq!((reply.row(), reply.header("set-cookie"), gone(&sidecar)), ("gone", None, 1));
    let visitor = started(&sidecar);
    let reply = overtaken(&gate, &visitor, &[FLUSH, SET], wind);
    assert_eq!((reply.row(), reply.header("set-cookie").is_some()), ("ended-flush-with-data", true));
}

#[test]
fn on_gone_reject_tells_the_client() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::with(backend.address, |config| config.session.on_gone = OnGone::Reject);
    for (asked, status) in [(&[SET][..], 409), (&[], 200), (&[FLUSH], 200), (&[SET, ("Status", "500")], 500)]
    {
        let visitor = started(&sidecar);
        let reply = overtaken(&gate, &visitor, asked, || {
            visitor.clone().ask(&[FLUSH]);
        });
        assert_eq!((reply.status, reply.header("set-cookie")), (status, None), "{asked:?}");
        if status == 409 {
            assert_eq!(reply.problem(), "session-gone");
        }
    }
    assert_eq!(gone(&sidecar), 1);
}

#[test]
fn a_double_clicked_login_is_two_sessions_that_both_hold() {
    let (backend, gate) = Backend::slow();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = started(&sidecar);
    let before = visitor.clone();
    let mut first = Reply::default();
    let second = overtaken(&gate, &visitor, &[LOGIN], || first = before.clone().ask(&[LOGIN]));
    assert_eq!((first.row(), second.row()), ("cycle-key-on-login", "ended-cycle-key"));
    // Whichever answer the browser keeps, it is logged in, with what was in its cart.
    for reply in [first, second] {
        visitor.keep(&reply);
        assert_eq!(reads(&backend, &visitor), r#"{"a":1,"user_id":7}"#);
        assert_ne!(visitor.token(), before.token());
    }
}

#[test]
fn when_one_of_cycle_on_appears_or_changes_the_key_is_cycled_without_being_asked() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for entry in ["user_id", "member_id", "account_id", "uid", "username"] {
        let mut visitor = started(&sidecar);
        let row = |visitor: &mut Browser, value: &str| {
            visitor.ask(&[("X-Session-Set", &format!("{{\"{entry}\":{value}}}"))]).row().to_owned()
        };
        assert_eq!(row(&mut visitor, "null"), "save", "null is nobody");
        assert_eq!(row(&mut visitor, "7"), "cycle-key-on-login", "{entry}");
        assert_eq!(reads(&backend, &visitor), format!(r#"{{"a":1,"{entry}":7}}"#), "the cart stays");
        assert_eq!(row(&mut visitor, "7"), "save", "the same user");
        assert_eq!(row(&mut visitor, "null"), "save", "a removal cycles nothing");
        assert_eq!(row(&mut visitor, "8"), "cycle-key-on-login");
        assert_eq!(visitor.ask(&[("X-Session-Delete", entry)]).row(), "save");
        assert_eq!(row(&mut visitor, "\"7\""), "cycle-key-on-login");
    }
    let mut visitor = started(&sidecar);
    for (asked, row) in [
        (("X-Session-Merge", r#"{"uid":1}"#), "cycle-key-on-login"),
        (("X-Session-Set", r#"{"users_id":1}"#), "save"),
        (("X-Session-Set-Default", r#"{"username":"al"}"#), "cycle-key-on-login"),
        (("X-Session-Increment", r#"{"member_id":1}"#), "cycle-key-on-login"),
    ] {
        assert_eq!(visitor.ask(&[asked]).row(), row, "{asked:?}");
    }
    assert_eq!(sidecar.browser().ask(&[LOGIN]).row(), "create", "a new session has a new key anyway");
}

#[test]
fn from_one_user_to_another_the_session_is_flushed_first() {
    let backend = Backend::obedient();
    for (on_switch, row, data, old) in [
        (OnSwitch::Flush, "flush-with-data", r#"{"user_id":8,"b":2}"#, "{}"),
        (OnSwitch::Cycle, "cycle-key-on-login", r#"{"a":1,"user_id":8,"b":2}"#, "{}"),
    ] {
        let sidecar = Sidecar::with(backend.address, |config| config.session.on_switch = on_switch);
        let mut visitor = started(&sidecar);
        visitor.ask(&[LOGIN]);
        let alice = visitor.clone();
        let reply = visitor.ask(&[("X-Session-Set", r#"{"user_id":8,"b":2}"#)]);
        assert_eq!((reply.row(), reads(&backend, &visitor)), (row, data.to_owned()));
        assert_eq!(reads(&backend, &alice), old, "alice's token reads nothing of bob's, nor of hers");
    }
}

#[test]
fn cycle_on_is_a_setting() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.session.cycle_on = vec!["who".to_owned()]);
    let mut visitor = started(&sidecar);
    assert_eq!(visitor.ask(&[LOGIN]).row(), "save");
    assert_eq!(visitor.ask(&[("X-Session-Set", r#"{"who":1}"#)]).row(), "cycle-key-on-login");
}
