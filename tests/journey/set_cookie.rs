//! Section 6 of the contract: `Set-Cookie`, to the byte.

use coatroom::config::Config;
use coatroom::time::Length;
use coatroom::wire::cookie::{SameSite, Secure};

use crate::support::{Backend, Sidecar};

/// The tests' clocks begin at 2023-11-14T22:13:20Z.
const TWO_WEEKS: &str = "; Max-Age=1209600; Expires=Tue, 28 Nov 2023 22:13:20 GMT";
const GONE: &str = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

#[test]
#[rustfmt::skip] // a table: one case a line
fn each_setting_writes_its_attribute_and_the_removal_repeats_them() {
    type Change = fn(&mut Config);
    let cases: Vec<(Change, &str, &str, &str)> = vec![
        // the settings; the name; before the dates; behind them
        (|_| {}, "sessionid", "; Path=/", "; HttpOnly; SameSite=Lax"),
        (|c| c.cookie.name = "sid".to_owned(), "sid", "; Path=/", "; HttpOnly; SameSite=Lax"),
        (|c| c.cookie.name = "__Secure-sid".to_owned(), "__Secure-sid", "; Path=/", "; HttpOnly; SameSite=Lax"),
        (|c| c.cookie.domain = "shop.test".to_owned(), "sessionid", "; Domain=shop.test; Path=/", "; HttpOnly; SameSite=Lax"),
        (|c| c.cookie.domain = ".shop.test".to_owned(), "sessionid", "; Domain=shop.test; Path=/", "; HttpOnly; SameSite=Lax"),
        (|c| c.cookie.path = "/shop".to_owned(), "sessionid", "; Path=/shop", "; HttpOnly; SameSite=Lax"),
        (|c| c.cookie.path = String::new(), "sessionid", "", "; HttpOnly; SameSite=Lax"),
        (|c| c.cookie.secure = Secure::Always, "sessionid", "; Path=/", "; Secure; HttpOnly; SameSite=Lax"),
        (|c| c.cookie.http_only = false, "sessionid", "; Path=/", "; SameSite=Lax"),
        (|c| c.cookie.same_site = SameSite::Strict, "sessionid", "; Path=/", "; HttpOnly; SameSite=Strict"),
        (|c| c.cookie.same_site = SameSite::Absent, "sessionid", "; Path=/", "; HttpOnly"),
        (|c| (c.cookie.same_site, c.cookie.secure) = (SameSite::None, Secure::Always), "sessionid", "; Path=/", "; Secure; HttpOnly; SameSite=None"),
        (|c| (c.cookie.partitioned, c.cookie.secure) = (true, Secure::Always), "sessionid", "; Path=/", "; Secure; HttpOnly; SameSite=Lax; Partitioned"),
        (|c| {
            (c.cookie.name, c.cookie.domain, c.cookie.path) = ("s".to_owned(), "a.test".to_owned(), "/b".to_owned());
            (c.cookie.secure, c.cookie.same_site, c.cookie.partitioned) = (Secure::Always, SameSite::None, true);
        }, "s", "; Domain=a.test; Path=/b", "; Secure; HttpOnly; SameSite=None; Partitioned"),
        (|c| (c.cookie.name, c.cookie.secure) = ("__Host-sessionid".to_owned(), Secure::Always), "__Host-sessionid", "; Path=/", "; Secure; HttpOnly; SameSite=Lax"),
    ];
    let backend = Backend::obedient();
    for (change, name, place, end) in cases {
        let sidecar = Sidecar::with(backend.address, change);
        let mut visitor = sidecar.browser();
        let set = visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        let token = visitor.jar.get(name).expect("a token").clone();
        assert_eq!(set.header("set-cookie"), Some(&*format!("{name}={token}{place}{TWO_WEEKS}{end}")));
        let session = visitor.ask(&[("X-Session-Expiry", "0")]);
        assert_eq!(session.header("set-cookie"), Some(&*format!("{name}={token}{place}{end}")), "until the browser closes");
        let removed = visitor.ask(&[("X-Session-Flush", "true")]);
        assert_eq!(removed.header("set-cookie"), Some(&*format!("{name}={place}{GONE}{end}")));
        assert_eq!(backend.last().header("cookie"), None);
    }
}

#[test]
fn secure_auto_follows_a_trusted_proxys_word_and_nobody_elses() {
    let backend = Backend::obedient();
    for (trusted, lines, secure) in [
        (true, &[("X-Forwarded-Proto", "https")][..], true),
        (true, &[("X-Forwarded-Proto", "HTTPS")], true),
        (true, &[("X-Forwarded-Proto", "http, https")], true), // the nearest proxy's word is the last
        (true, &[("X-Forwarded-Proto", "https, http")], false),
        (true, &[("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")], true),
        (true, &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")], false),
        (true, &[("X-Forwarded-Proto", "http")], false),
        (true, &[("X_Forwarded_Proto", "https")], false),
        (true, &[], false),
        (false, &[("X-Forwarded-Proto", "https")], false),
    ] {
        let sidecar = Sidecar::with(backend.address, |config| {
            config.cookie.secure = Secure::Auto;
            if trusted {
                config.proxy.trusted = vec!["127.0.0.1".parse().expect("an address")];
            }
        });
        let mut visitor = sidecar.browser();
        for wanted in [("Want-X-Session-Set", r#"{"a":1}"#), ("Want-X-Session-Flush", "true")] {
            let reply = visitor.request("GET", "/", &[lines, &[wanted]].concat(), "");
            let cookie = reply.header("set-cookie").expect("a cookie");
            assert_eq!(cookie.contains("; Secure; HttpOnly"), secure, "{trusted} {lines:?}: {cookie}");
        }
    }
}

#[test]
fn both_dates_are_renewed_each_time_it_is_sent() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    sidecar.wind(std::time::Duration::from_secs(86_400));
    let reply = visitor.ask(&[("X-Session-Set", r#"{"a":2}"#)]);
    let cookie = reply.header("set-cookie").expect("renewed");
    assert!(cookie.contains("; Max-Age=1209600; Expires=Wed, 29 Nov 2023 22:13:20 GMT"), "{cookie}");
    assert_eq!(visitor.get("/").header("set-cookie"), None, "and not sent where nothing is saved");
}

#[test]
fn the_age_is_a_setting_and_ends_after_400_days_for_the_browser_only() {
    let backend = Backend::obedient();
    for (age, max_age) in
        [(60, 60), (34_560_000, 34_560_000), (34_560_001, 34_560_000), (100_000_000, 34_560_000)]
    {
        let sidecar = Sidecar::with(backend.address, |config| config.cookie.age = Length::secs(age));
        let mut visitor = sidecar.browser();
        let reply = visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        let cookie = reply.header("set-cookie").expect("a cookie");
        assert!(cookie.contains(&format!("; Max-Age={max_age}; Expires=")), "{age}: {cookie}");
        visitor.get("/");
        assert_eq!(backend.last().header("x-session-expiry-age"), Some(&*age.to_string()));
        sidecar.wind(std::time::Duration::from_millis(age * 1000 - 1));
        visitor.get("/");
        assert_eq!(backend.last().data(), r#"{"a":1}"#);
    }
}

#[test]
fn the_backends_other_cookies_stay_and_ours_is_sent_once() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let wanted = [("Set-Cookie", "a=1; Path=/|sessionid=evil|b=2"), ("X-Session-Set", r#"{"a":1}"#)];
    let reply = sidecar.browser().ask(&wanted);
    let set: Vec<&str> = reply.all("set-cookie").collect();
    assert_eq!((set.len(), set[0], set[1]), (3, "a=1; Path=/", "b=2"));
    assert!(set[2].starts_with("sessionid=") && !set[2].contains("evil"));
}
