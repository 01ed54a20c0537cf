//! Section 4 of the contract: `save_every_request`, and what a touch moves.

use std::time::Duration;

use coatroom::session::policy::Interval;
use coatroom::time::Length;

use crate::support::{Backend, Reply, Sidecar};

fn touched(sidecar: &Sidecar) -> u64 {
    sidecar.metric("coatroom_session_saves_total{result=\"touched\"}")
}

fn max_age(reply: &Reply) -> Option<u64> {
    let cookie = reply.header("set-cookie")?;
    cookie.split("; ").find_map(|part| part.strip_prefix("Max-Age="))?.parse().ok()
}

#[test]
fn the_cookie_is_set_every_time_and_the_store_touched_at_most_every_interval() {
    let backend = Backend::obedient();
    let auto = Interval::Auto;
    let every = |secs| Interval::Every(Length::secs(secs));
    // cookie.age, the setting, and the least time between two touches
    for (age, setting, least) in
        [(1_209_600, auto, 60), (300, auto, 30), (1_209_600, every(5), 5), (1_209_600, every(0), 0)]
    {
        let sidecar = Sidecar::with(backend.address, |config| {
            config.session.save_every_request = true;
            (config.session.touch_interval, config.cookie.age) = (setting, Length::secs(age));
        });
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        let token = visitor.token().map(str::to_owned);
        visitor.get("/");
        let version = backend.last().header("x-session-version").map(str::to_owned);
        let mut expected = 0;
        for (wind, touches) in
            [(least.max(1) * 1000 - 1, least == 0), (1, true), (1, least == 0), (least.max(1) * 1000, true)]
        {
            sidecar.wind(Duration::from_millis(wind));
            let reply = visitor.get("/");
            expected += u64::from(touches);
            assert_eq!((reply.row(), touched(&sidecar)), ("touch", expected), "{age} {setting:?} {wind}");
            let left = max_age(&reply).expect("set every time");
            assert!(left <= age && left + least >= age, "{left}");
        }
        assert_eq!(visitor.token(), token.as_deref());
        visitor.get("/");
        assert_eq!(
            backend.last().header("x-session-version"),
            version.as_deref(),
            "a touch is no new version"
        );
        assert_eq!(backend.last().data(), r#"{"a":1}"#);
    }
}

#[test]
fn touches_keep_a_session_alive_that_reading_would_not() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.session.save_every_request = true);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#), ("X-Session-Expiry", "300")]);
    for _ in 0..5 {
        sidecar.wind(Duration::from_secs(299));
        let reply = visitor.get("/");
        assert_eq!((backend.last().data(), max_age(&reply)), (r#"{"a":1}"#, Some(300)));
    }
    sidecar.wind(Duration::from_secs(300));
    visitor.get("/");
    assert_eq!(backend.last().data(), "{}");
}

/// However short it is: one that is used never ends.
#[test]
fn a_session_with_a_short_expiry_of_its_own_lives_for_as_long_as_it_is_used() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.session.save_every_request = true);
    for (expiry, every) in [("5", 4), ("30", 10), ("30", 29), ("61", 59), ("100", 59), ("600", 540)] {
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#), ("X-Session-Expiry", expiry)]);
        for _ in 0..20 {
            sidecar.wind(Duration::from_secs(every));
            visitor.get("/");
            assert_eq!(backend.last().data(), r#"{"a":1}"#, "{expiry} s, used every {every} s");
        }
        sidecar.wind(Duration::from_secs(600));
        visitor.get("/");
        assert_eq!(backend.last().data(), "{}");
    }
}

#[test]
fn a_touch_never_moves_a_fixed_date_nor_passes_the_absolute_timeout() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.session.save_every_request = true;
        config.session.absolute_timeout = Length::secs(3600);
    });
    for (expiry, end) in
        [("2023-11-14T23:00:00Z", "2023-11-14T23:00:00Z"), ("default", "2023-11-14T23:13:20Z")]
    {
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#), ("X-Session-Expiry", expiry)]);
        visitor.get("/");
        visitor.get("/");
        assert_eq!(backend.last().header("x-session-expires-at"), Some(end));
    }
    assert_eq!(touched(&sidecar), 0);
}

#[test]
fn a_session_that_ends_with_the_browser_gets_its_cookie_without_a_date() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.session.save_every_request = true;
        config.session.expire_at_browser_close = true;
    });
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    sidecar.wind(Duration::from_secs(1000));
    let reply = visitor.get("/");
    assert_eq!((reply.row(), max_age(&reply)), ("touch", None));
    assert!(!reply.header("set-cookie").expect("set").contains("Expires"));
}

#[test]
fn nobody_without_a_session_and_no_failing_response_is_touched() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.session.save_every_request = true);
    let reply = sidecar.browser().get("/");
    assert_eq!((reply.row(), reply.header("set-cookie")), ("nothing-to-keep", None));
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    sidecar.wind(Duration::from_secs(1000));
    let reply = visitor.ask(&[("Status", "500")]);
    assert_eq!((reply.row(), reply.header("set-cookie"), touched(&sidecar)), ("server-error", None, 0));
    visitor.ask(&[("X-Session-Cycle-Key", "true")]);
    let mut old = visitor.clone();
    visitor.ask(&[("X-Session-Cycle-Key", "true")]);
    sidecar.wind(Duration::from_secs(1));
    let reply = old.get("/");
    assert_eq!((reply.row(), reply.header("set-cookie")), ("nothing", None), "an ended token is not renewed");
}

#[test]
fn a_slow_request_puts_no_old_token_back_into_the_browser() {
    let (backend, gate) = Backend::slow();
    for wind in [0, 1000] {
        for meanwhile in [
            ("X-Session-Set", r#"{"user_id":7}"#),
            ("X-Session-Cycle-Key", "true"),
            ("X-Session-Flush", "true"),
        ] {
            let sidecar = Sidecar::with(backend.address, |config| config.session.save_every_request = true);
            let mut visitor = sidecar.browser();
            visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
            let mut slow = visitor.clone();
            let slow = std::thread::spawn(move || slow.get("/slow"));
            gate.wait();
            visitor.ask(&[meanwhile]);
            sidecar.wind(Duration::from_secs(wind));
            gate.open();
            let reply = slow.join().expect("it ends");
            assert_eq!(
                (reply.row(), reply.header("set-cookie")),
                ("nothing", None),
                "{meanwhile:?} after {wind} s"
            );
        }
    }
}
