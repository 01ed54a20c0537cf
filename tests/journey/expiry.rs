//! Section 3 of the contract: `X-Session-Expiry` in all its forms, with the clock wound to either side of the end.

use std::time::Duration;

use crate::support::{Backend, Browser, Reply, Sidecar};

/// The tests' clocks begin at 2023-11-14T22:13:20Z.
const TWO_WEEKS: u64 = 1_209_600;

fn expiring(sidecar: &Sidecar, value: &str) -> (Browser, Reply) {
    let mut visitor = sidecar.browser();
    let reply = visitor.ask(&[("X-Session-Set", r#"{"a":1}"#), ("X-Session-Expiry", value)]);
    assert_eq!(reply.row(), "create", "{value}");
    (visitor, reply)
}

/// The cookie's age, where it has one.
fn max_age(reply: &Reply) -> Option<u64> {
    let cookie = reply.header("set-cookie").expect("a cookie");
    let age = cookie.split("; ").find_map(|part| part.strip_prefix("Max-Age="))?;
    assert!(cookie.contains("; Expires="), "both or neither: {cookie}");
    Some(age.parse().expect("seconds"))
}

#[test]
#[rustfmt::skip] // a table: one case a line
fn each_form_ends_the_session_at_its_instant_and_not_before() {
    let backend = Backend::obedient();
    for (value, secs, age) in [
        ("300", 300, Some(300)),
        ("1", 1, Some(1)),
        ("default", TWO_WEEKS, Some(TWO_WEEKS)),
        ("0", TWO_WEEKS, None), // at browser close, and for the server after cookie.age
        ("2023-11-14T22:14:20Z", 60, Some(60)),
        ("2023-11-14T22:14:20.000Z", 60, Some(60)),
        ("2023-11-14t22:14:20z", 60, Some(60)),
        ("2023-11-15T00:14:20+02:00", 60, Some(60)),
        ("2023-11-14T20:44:20-01:30", 60, Some(60)),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60, Some(60)),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60, Some(60)),
        ("Tue Nov 14 22:14:20 2023", 60, Some(60)),
        ("PT1H", 3600, Some(3600)),
        ("pt90s", 90, Some(90)),
        ("P1D", 86_400, Some(86_400)),
        ("P1W", 604_800, Some(604_800)),
        ("P1DT12H", 129_600, Some(129_600)),
        ("P1M", 30 * 86_400, Some(30 * 86_400)), // November has 30 days, in UTC
    ] {
        let sidecar = Sidecar::before(backend.address);
        let (mut visitor, reply) = expiring(&sidecar, value);
        assert_eq!(max_age(&reply), age, "{value}");
        visitor.get("/");
        assert_eq!(backend.last().header("x-session-expire-at-browser-close"), Some(if age.is_none() { "true" } else { "false" }));
        sidecar.wind(Duration::from_millis(secs * 1000 - 1));
        let reply = visitor.get("/");
        assert_eq!((backend.last().data(), reply.row()), (r#"{"a":1}"#, "nothing"), "{value}: a millisecond before");
        sidecar.wind(Duration::from_millis(1));
        let reply = visitor.get("/");
        assert_eq!((backend.last().data(), backend.last().header("x-session-state")), ("{}", Some("empty")), "{value}: at the end");
        assert_eq!((reply.row(), visitor.token()), ("nothing-to-keep", None));
        assert_eq!(sidecar.metric("coatroom_session_expiries_total"), 1);
    }
}

#[test]
fn idle_seconds_count_from_each_modification_and_a_date_stays() {
    let backend = Backend::obedient();
    for (value, active) in [("300", true), ("PT300S", false), ("2023-11-14T22:18:20Z", false)] {
        let sidecar = Sidecar::before(backend.address);
        let (mut visitor, _) = expiring(&sidecar, value);
        sidecar.wind(Duration::from_secs(200));
        visitor.get("/"); // reading is not activity
        let saved = visitor.ask(&[("X-Session-Set", r#"{"b":2}"#)]);
        assert_eq!(max_age(&saved), Some(if active { 300 } else { 100 }), "{value}");
        sidecar.wind(Duration::from_secs(200));
        visitor.get("/");
        assert_eq!(backend.last().data() != "{}", active, "{value}");
    }
}

#[test]
fn reading_is_not_activity() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let (mut visitor, _) = expiring(&sidecar, "300");
    for _ in 0..3 {
        sidecar.wind(Duration::from_secs(99));
        let reply = visitor.get("/");
        assert_eq!((backend.last().data(), reply.header("set-cookie")), (r#"{"a":1}"#, None));
    }
    sidecar.wind(Duration::from_secs(3));
    visitor.get("/");
    assert_eq!(backend.last().data(), "{}");
}

#[test]
fn a_past_or_negative_one_ends_the_session_whatever_else_is_asked() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let past = [
        "-1",
        "-99999999",
        "2023-11-14T22:13:20Z",
        "1999-01-01T00:00:00Z",
        "PT0S",
        "-PT1H",
        "Thu, 01 Jan 1970 00:00:00 GMT",
    ];
    for value in past {
        for beside in [None, Some(("X-Session-Set", r#"{"b":1}"#)), Some(("X-Session-Cycle-Key", "true"))] {
            let (mut visitor, _) = expiring(&sidecar, "300");
            let stolen = visitor.clone();
            let wanted: Vec<_> = [("X-Session-Expiry", value)].into_iter().chain(beside).collect();
            let reply = visitor.ask(&wanted);
            assert_eq!((reply.row(), visitor.token()), ("expiry-passed", None), "{wanted:?}");
            stolen.clone().get("/");
            assert_eq!(backend.last().data(), "{}", "{wanted:?}");
        }
        let mut nobody = sidecar.browser();
        let reply = nobody.ask(&[("X-Session-Set", "{\"a\":1}"), ("X-Session-Expiry", value)]);
        assert_eq!(
            (reply.row(), nobody.token()),
            ("nothing-to-keep", None),
            "{value}: nothing is created to be dead"
        );
    }
}

#[test]
fn a_custom_expiry_counts_as_data() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for (value, row) in
        [("300", "create"), ("0", "create"), ("PT1H", "create"), ("default", "nothing-to-keep")]
    {
        assert_eq!(sidecar.browser().ask(&[("X-Session-Expiry", value)]).row(), row, "{value}");
    }
    let (mut visitor, _) = expiring(&sidecar, "300");
    let reply = visitor.ask(&[("X-Session-Flush", "true"), ("X-Session-Expiry", "600")]);
    assert_eq!(reply.row(), "flush-with-data");
}

#[test]
fn default_goes_back_to_the_settings() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.session.expire_at_browser_close = true);
    let (mut visitor, reply) = expiring(&sidecar, "300");
    assert_eq!(max_age(&reply), Some(300));
    let reply = visitor.ask(&[("X-Session-Expiry", "default")]);
    assert_eq!((reply.row(), max_age(&reply)), ("save", None));
    visitor.get("/");
    let seen = backend.last();
    assert_eq!(seen.header("x-session-expiry-age"), Some("1209600"));
    assert_eq!(seen.header("x-session-expire-at-browser-close"), Some("true"));
}

#[test]
fn the_far_future_is_the_end_of_the_calendar_and_the_cookie_ends_after_400_days() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for value in ["9223372036854775807", "9999-12-31T23:59:59Z", "P9000Y", "P19998Y"] {
        let (mut visitor, reply) = expiring(&sidecar, value);
        assert_eq!(max_age(&reply), Some(34_560_000), "{value}");
        visitor.get("/");
        assert_eq!(backend.last().header("x-session-state"), Some("active"), "{value}");
        let end = backend.last().header("x-session-expires-at").expect("an end").to_owned();
        assert!(end.starts_with("9999-12-30") || end.starts_with("11023"), "{value}: {end}");
    }
}

#[test]
fn an_absolute_timeout_ends_a_session_whatever_happens_and_cycle_keeps_the_creation() {
    let backend = Backend::obedient();
    for (renew, longer) in [
        (("X-Session-Set", r#"{"b":1}"#), false),
        (("X-Session-Save", "true"), false),
        (("X-Session-Expiry", "999999"), false),
        (("X-Session-Cycle-Key", "true"), false),
        (("X-Session-Flush", "true"), true), // a new session
    ] {
        let sidecar = Sidecar::with(backend.address, |config| {
            config.session.absolute_timeout = coatroom::time::Length::secs(3600);
            config.session.save_every_request = true;
        });
        let mut visitor = sidecar.browser();
        let reply = visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        assert_eq!(max_age(&reply), Some(3600), "the cookie knows");
        sidecar.wind(Duration::from_secs(3000));
        let reply = visitor.ask(&[renew, ("X-Session-Set", r#"{"a":2}"#)]);
        assert_eq!(max_age(&reply), Some(if longer { 3600 } else { 600 }), "{renew:?}");
        sidecar.wind(Duration::from_millis(599_999));
        visitor.get("/");
        assert_eq!(backend.last().header("x-session-state"), Some("active"), "{renew:?}");
        sidecar.wind(Duration::from_millis(1));
        visitor.get("/");
        assert_eq!(
            backend.last().header("x-session-state"),
            Some(if longer { "active" } else { "empty" }),
            "{renew:?}"
        );
    }
}

/// It may be set, or be less, than when the session was written.
#[test]
fn an_absolute_timeout_holds_for_sessions_of_before_it_too() {
    let backend = Backend::obedient();
    let redis = crate::support::Redis::start();
    let before = Sidecar::on(&redis, backend.address, |_| {});
    let after = Sidecar::on(&redis, backend.address, |config| {
        config.session.absolute_timeout = coatroom::time::Length::secs(3600);
        config.session.save_every_request = true;
    });
    let mut visitor = before.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    visitor.get("/");
    let long = backend.last().header("x-session-expires-at").expect("an end").to_owned();
    visitor.go(after.address());
    after.wind(Duration::from_secs(3500));
    visitor.get("/");
    let short = backend.last().header("x-session-expires-at").expect("an end").to_owned();
    assert!(short < long, "{short} {long}");
    let mut late = visitor.clone();
    after.wind(Duration::from_secs(100));
    visitor.get("/");
    assert_eq!((backend.last().data(), backend.last().header("x-session-state")), ("{}", Some("empty")));
    let reply = late.ask(&[("X-Session-Set", r#"{"user_id":7}"#)]);
    assert_eq!((reply.row(), max_age(&reply)), ("create", Some(3600)), "a session of its own");
    late.get("/");
    assert_eq!(backend.last().data(), r#"{"user_id":7}"#);
}
