//! Section 2 of the contract: what the backend receives.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value};

use crate::support::{Backend, Seen, Sidecar};

/// The end of a session that is saved now, two weeks later.
const END: &str = "2023-11-28T22:13:20Z";

/// Our headers without the nonce, in the order of their names.
fn ours(seen: &Seen) -> Vec<(&str, &str)> {
    let mut ours: Vec<_> = seen
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("x-session-")?, &**value)))
        .filter(|(name, _)| *name != "nonce")
        .collect();
    ours.sort_unstable();
    ours
}

#[test]
fn without_a_session_everything_is_as_in_a_new_one() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    sidecar.browser().get("/");
    let expected = [
        ("data", "{}"),
        ("expire-at-browser-close", "false"),
        ("expiry-age", "1209600"),
        ("expiry-date", END),
        ("state", "empty"),
    ];
    assert_eq!(ours(&backend.last()), expected);
}

#[test]
fn an_active_session_has_an_id_a_version_and_an_end_besides() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"b":1,"a":[true,null]}"#)]);
    sidecar.wind(Duration::from_secs(3600));
    visitor.get("/");
    let seen = backend.last();
    let (id, version) =
        (seen.header("x-session-id").expect("an id"), seen.header("x-session-version").expect("a version"));
    assert!(id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let in_grammar = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'-';
    assert!((1..=24).contains(&version.len()) && version.bytes().all(in_grammar), "{version}");
    let expected = [
        ("data", r#"{"b":1,"a":[true,null]}"#),
        ("expire-at-browser-close", "false"),
        ("expires-at", END),
        ("expiry-age", "1209600"),
        ("expiry-date", "2023-11-28T23:13:20Z"), // as if saved now, an hour later
        ("id", id),
        ("state", "active"),
        ("version", version),
    ];
    assert_eq!(ours(&seen), expected);
}

#[test]
fn the_id_is_stable_while_the_token_lives_and_the_version_changes_with_every_save() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| config.session.save_every_request = true);
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"n":0}"#)]);
    let mut names = |wanted: &[(&str, &str)]| {
        visitor.ask(wanted);
        visitor.get("/");
        let seen = backend.last();
        let of = |name: &str| seen.header(name).expect("active").to_owned();
        (of("x-session-id"), of("x-session-version"))
    };
    let first = names(&[]);
    sidecar.wind(Duration::from_secs(600));
    assert_eq!(names(&[]), first, "neither reading nor a touch changes them");
    for wanted in [
        ("X-Session-Increment", r#"{"n":1}"#),
        ("X-Session-Set", r#"{"n":1}"#), // the same value, saved again
        ("X-Session-Save", "true"),
        ("X-Session-Expiry", "300"),
        ("X-Session-Delete", "n"),
    ] {
        let before = names(&[]);
        let after = names(&[wanted]);
        assert_eq!(after.0, before.0, "{wanted:?}");
        assert_ne!(after.1, before.1, "{wanted:?}");
    }
    let cycled = names(&[("X-Session-Cycle-Key", "true")]);
    assert_ne!(cycled.0, first.0, "another token has another id");
}

#[test]
fn expiry_headers_are_djangos_getters() {
    let backend = Backend::obedient();
    let at_close = ("expire-at-browser-close", "true");
    let until = |age: &'static str, date: &'static str| [("expiry-age", age), ("expiry-date", date)];
    for (browser_close, absolute, expiry, expected) in [
        (
            false,
            0,
            "default",
            [&until("1209600", "2023-11-28T22:14:20Z")[..], &[("expires-at", END)]].concat(),
        ),
        (true, 0, "default", vec![at_close]),
        (
            false,
            0,
            "300",
            [&until("300", "2023-11-14T22:19:20Z")[..], &[("expires-at", "2023-11-14T22:18:20Z")]].concat(),
        ),
        (true, 0, "300", vec![("expire-at-browser-close", "false")]),
        (
            false,
            0,
            "0",
            [&until("1209600", "2023-11-28T22:14:20Z")[..], &[at_close, ("expires-at", END)]].concat(),
        ),
        (
            false,
            0,
            "2023-11-15T00:00:00Z",
            [&until("6340", "2023-11-15T00:00:00Z")[..], &[("expires-at", "2023-11-15T00:00:00Z")]].concat(),
        ),
        // the absolute timeout is in Expires-At alone
        (
            false,
            3600,
            "default",
            [&until("1209600", "2023-11-28T22:14:20Z")[..], &[("expires-at", "2023-11-14T23:13:20Z")]]
                .concat(),
        ),
        (
            false,
            100,
            "300",
            [&until("300", "2023-11-14T22:19:20Z")[..], &[("expires-at", "2023-11-14T22:15:00Z")]].concat(),
        ),
    ] {
        let sidecar = Sidecar::with(backend.address, |config| {
            config.session.expire_at_browser_close = browser_close;
            config.session.absolute_timeout = coatroom::time::Length::secs(absolute);
        });
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", "{\"a\":1}"), ("X-Session-Expiry", expiry)]);
        sidecar.wind(Duration::from_secs(60));
        visitor.get("/");
        let seen = backend.last();
        for header in expected {
            assert!(ours(&seen).contains(&header), "{expiry} {header:?}: {:?}", ours(&seen));
        }
    }
}

#[test]
fn the_test_cookie_has_worked_once_it_has_come_back() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    let mut worked = |wanted: &[(&str, &str)]| {
        visitor.ask(wanted);
        visitor.get("/");
        backend.last().header("x-session-test-cookie").map(str::to_owned)
    };
    assert_eq!(worked(&[("X-Session-Set", r#"{"testcookie":"no","x":"testcookie worked"}"#)]), None);
    assert_eq!(worked(&[("X-Session-Test-Cookie", "set")]).as_deref(), Some("worked"));
    assert_eq!(worked(&[("X-Session-Test-Cookie", "delete")]), None);
    assert_eq!(
        worked(&[("X-Session-Set", r#"{"testcookie":"worked"}"#)]).as_deref(),
        Some("worked"),
        "an ordinary entry"
    );
    assert_eq!(worked(&[("X-Session-Set", r#"{"testcookie":true}"#)]), None);
}

/// JSON numbers, however long.
fn number() -> impl Strategy<Value = Value> {
    "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,3})?"
        .prop_map(|digits| serde_json::from_str(&digits).expect("a number"))
}

fn text() -> impl Strategy<Value = String> {
    vec(prop_oneof![4 => any::<char>(), 1 => proptest::char::range(' ', '~'), 1 => Just('\u{7f}'), 1 => Just('"')], 0..10)
        .prop_map(|chars| chars.into_iter().collect())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        2 => text().prop_map(Value::from),
        2 => number(),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((text(), inner), 0..3).prop_map(|all| all.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

fn entries() -> impl Strategy<Value = Map<String, Value>> {
    vec((text().prop_filter("reserved", |key| !key.starts_with('_')), value()), 1..5)
        .prop_map(|all| all.into_iter().collect())
}

/// A JSON text that a header may hold: what must not stand in one is escaped, and with `all` what is not ASCII too.
fn escaped(map: &Map<String, Value>, all: bool) -> String {
    let text = serde_json::to_string(map).expect("JSON");
    let mut out = String::new();
    for char in text.chars() {
        if char == '\u{7f}' || (all && !char.is_ascii()) {
            char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04X}"));
        } else {
            out.push(char);
        }
    }
    out
}

#[test]
fn what_a_backend_parses_is_what_was_set_in_visible_ascii_and_in_order() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::before(backend.address);
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner
        .run(&(entries(), any::<bool>()), |(map, all)| {
            let mut visitor = sidecar.browser();
            let reply = visitor.mirror(&[("X-Session-Set", &escaped(&map, all))]);
            prop_assert_eq!(reply.status, 200, "{}", reply.text());
            visitor.mirror(&[]);
            let seen = backend.last();
            prop_assert!(seen.data().bytes().all(|b| (0x20..0x7f).contains(&b)), "{}", seen.data());
            let read: Map<String, Value> = serde_json::from_str(seen.data()).expect("JSON");
            prop_assert_eq!(read.keys().collect::<Vec<_>>(), map.keys().collect::<Vec<_>>());
            prop_assert_eq!(read, map);
            Ok(())
        })
        .expect("what was set is what is read");
}

#[test]
fn keys_are_in_insertion_order_and_a_key_that_is_set_again_keeps_its_place() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor = sidecar.browser();
    for (wanted, expected) in [
        (("X-Session-Set", r#"{"z":1,"a":2}"#), r#"{"z":1,"a":2}"#),
        (("X-Session-Set", r#"{"m":3,"z":9}"#), r#"{"z":9,"a":2,"m":3}"#),
        (("X-Session-Merge", r#"{"b":4,"z":null}"#), r#"{"a":2,"m":3,"b":4}"#),
        (("X-Session-Delete", "m"), r#"{"a":2,"b":4}"#),
        (("X-Session-Increment", r#"{"n":1,"a":1}"#), r#"{"a":3,"b":4,"n":1}"#),
    ] {
        visitor.ask(&[wanted]);
        visitor.get("/");
        assert_eq!(backend.last().data(), expected);
    }
}

fn with_keys(backend: &Backend, keys: &[&str]) -> Sidecar {
    Sidecar::with(backend.address, |config| {
        config.headers.keys = keys.iter().map(|key| (*key).to_owned()).collect();
    })
}

#[test]
fn listed_entries_have_headers_of_their_own_strings_bare_and_the_rest_as_json() {
    let backend = Backend::mirror();
    let sidecar = with_keys(&backend, &["member_id", "Name", "list", "\u{e9}t\u{e9}", "on.off", "gone"]);
    let mut visitor = sidecar.browser();
    visitor.mirror(&[]);
    assert!(
        backend.last().headers.iter().all(|(name, _)| !name.starts_with("x-session-key-")),
        "absent entry, absent header"
    );
    let data = r#"{"member_id":1.50,"Name":"50 % off \u00e9\n\"","list":["a b",{"k":null}],"\u00e9t\u00e9":null,"on.off":true,"other":1}"#;
    visitor.mirror(&[("X-Session-Set", data)]);
    visitor.mirror(&[]);
    let seen = backend.last();
    for (name, value) in [
        ("member-id", "1.50"),
        ("name", "50%20%25%20off%20%C3%A9%0A\""),
        ("list", r#"["a%20b",{"k":null}]"#),
        ("--t--", "null"),
        ("on-off", "true"),
    ] {
        assert_eq!(seen.header(&format!("x-session-key-{name}")), Some(value), "{name}");
    }
    let headers = seen.headers.iter().filter(|(name, _)| name.starts_with("x-session-key-"));
    assert_eq!((headers.count(), seen.data()), (5, data));
}

#[test]
fn any_text_comes_back_from_its_own_header() {
    let backend = Backend::mirror();
    let sidecar = with_keys(&backend, &["v"]);
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    runner
        .run(&text(), |text| {
            let mut visitor = sidecar.browser();
            let map: Map<String, Value> = [("v".to_owned(), Value::from(&*text))].into_iter().collect();
            prop_assert_eq!(visitor.mirror(&[("X-Session-Set", &escaped(&map, false))]).status, 200);
            visitor.mirror(&[]);
            let seen = backend.last();
            let bare = seen.header("x-session-key-v").expect("listed");
            prop_assert!(bare.bytes().all(|b| (0x21..0x7f).contains(&b)), "{}", bare);
            let decoded = percent_encoding::percent_decode_str(bare).decode_utf8().expect("UTF-8");
            prop_assert_eq!(decoded, text);
            Ok(())
        })
        .expect("what was set is what is read");
}

#[test]
fn two_listed_entries_whose_names_fold_alike_are_a_configuration_error() {
    let why = Sidecar::refusal(|config| {
        config.headers.keys = ["id", "member_id", "Member.ID"].map(str::to_owned).to_vec();
    });
    assert!(why.contains("headers: keys") && why.contains("member_id") && why.contains("Member.ID"), "{why}");
}
