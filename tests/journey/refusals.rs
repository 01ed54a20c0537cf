//! Section 3 of the contract: a directive that can't be obeyed takes its response with it.

use std::io::Write;

use coatroom::wire::OnRefused;

use crate::support::client::{read_body, read_head};
use crate::support::{Backend, Reply, Sidecar, canary};

/// A value that no answer and no log may repeat.
const SECRET: &str = "t0p-secret-4111";
const START: &str = r#"{"t0p-secret-4111":"","a":1,"s":"t0p-secret-4111","n":null,"l":[],"max":9223372036854775807,"big":99999999999999999999,"f":1e+308}"#;

fn refused(sidecar: &Sidecar, reason: &str) -> u64 {
    sidecar.metric(&format!("coatroom_directives_refused_total{{reason=\"{reason}\"}}"))
}

#[test]
#[rustfmt::skip] // a table: one case a line
fn each_form_that_cannot_be_obeyed_is_refused_whole_named_and_never_repeated() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::with(backend.address, |config| config.headers.keys = vec!["member_no".to_owned()]);
    let mut visitor = sidecar.browser();
    visitor.mirror(&[("X-Session-Set", START)]);
    let (deep, deeper) = ("[".repeat(32) + &"]".repeat(32), "[".repeat(5000) + &"]".repeat(5000));
    let (deep, deeper) = (format!(r#"{{"d":{deep}}}"#), format!(r#"{{"d":{deeper}}}"#));
    let long = format!(r#"{{"d":"{}"}}"#, "x".repeat(16 * 1024));
    let many = format!("{{{}}}", (0..260).map(|n| format!(r#""k{n}":0"#)).collect::<Vec<_>>().join(","));
    let cases: Vec<(&str, Vec<&str>, &str)> = vec![
        // can't be parsed
        ("Set", vec![""], "malformed"),
        ("Set", vec!["t0p-secret-4111"], "malformed"),
        ("Set", vec![r#"{"a":t0p-secret-4111}"#], "malformed"),
        ("Set", vec![r#"{"a":1"#], "malformed"),
        ("Set", vec![r#"{"a":1,}"#], "malformed"),
        ("Set", vec![r#"{'a':1}"#], "malformed"),
        ("Set", vec![r#"{"a":01}"#], "malformed"),
        ("Set", vec![r#"{"a":NaN}"#], "malformed"),
        ("Set", vec![r#"{"a":"\ud800"}"#], "malformed"),
        ("Set", vec![r#"["t0p-secret-4111"]"#], "malformed"),
        ("Set", vec![r#""t0p-secret-4111""#], "malformed"),
        ("Set", vec!["null"], "malformed"),
        ("Set", vec!["7"], "malformed"),
        ("Set", vec![r#"{"a":2}{"a":3}"#], "malformed"),
        ("Set", vec![r#"{"a":2},"#], "malformed"),
        ("Set", vec![r#"{"a":2},7"#], "malformed"),
        ("Set", vec![r#"{"a":2}"#, "t0p-secret-4111"], "malformed"),
        ("Set-Default", vec!["[1]"], "malformed"),
        ("Merge", vec!["null"], "malformed"),
        ("Merge", vec![r#"["t0p-secret-4111"]"#], "malformed"),
        ("Increment", vec![r#"{"a":1.5}"#], "malformed"),
        ("Increment", vec![r#"{"a":1e2}"#], "malformed"),
        ("Increment", vec![r#"{"a":"t0p-secret-4111"}"#], "malformed"),
        ("Increment", vec![r#"{"t0p-secret-4111":null}"#], "malformed"),
        ("Increment", vec![r#"{"a":true}"#], "malformed"),
        ("Increment", vec![r#"{"a":9223372036854775808}"#], "malformed"),
        ("Delete", vec!["[1]"], "malformed"),
        ("Delete", vec![r#"["a""#], "malformed"),
        ("Delete", vec![r#"["a"],b"#], "malformed"),
        ("Delete", vec![r#"["a",["t0p-secret-4111"]]"#], "malformed"),
        ("Clear", vec![""], "malformed"),
        ("Clear", vec!["1"], "malformed"),
        ("Clear", vec!["yes"], "malformed"),
        ("Clear", vec!["True"], "malformed"),
        ("Flush", vec!["TRUE"], "malformed"),
        ("Flush", vec!["?1"], "malformed"),
        ("Flush", vec!["\"true\""], "malformed"),
        ("Cycle-Key", vec!["t0p-secret-4111"], "malformed"),
        ("Save", vec!["on"], "malformed"),
        ("Test-Cookie", vec!["true"], "malformed"),
        ("Test-Cookie", vec!["Set"], "malformed"),
        ("Expiry", vec![""], "malformed"),
        ("Expiry", vec!["soon t0p-secret-4111"], "malformed"),
        ("Expiry", vec!["300s"], "malformed"),
        ("Expiry", vec!["1.5"], "malformed"),
        ("Expiry", vec!["Default"], "malformed"),
        ("Expiry", vec!["2099-01-01"], "malformed"),
        ("Expiry", vec!["2099-01-01T00:00:00"], "malformed"),
        ("Expiry", vec!["99999999999999999999"], "malformed"),
        ("Expiry", vec!["P"], "malformed"),
        ("Expiry", vec!["1 hour"], "malformed"),
        ("Set-Key-Member-No", vec!["%FF"], "malformed"),
        ("Set-Key-Member-No", vec!["50%"], "malformed"),
        ("Set-Key-Member-No", vec!["%zz"], "malformed"),
        // a key twice
        ("Set", vec![r#"{"a":1,"a":"t0p-secret-4111"}"#], "duplicate_key"),
        ("Set", vec![r#"{"a":{"b":1,"\u0062":2}}"#], "duplicate_key"),
        ("Merge", vec![r#"{"l":[{"b":1,"b":1}]}"#], "duplicate_key"),
        ("Increment", vec![r#"{"a":1,"a":1}"#], "duplicate_key"),
        // reserved
        ("Set", vec![r#"{"_auth_user_id":"t0p-secret-4111"}"#], "reserved_key"),
        ("Set", vec![r#"{"\u005fx":1}"#], "reserved_key"),
        ("Set-Default", vec![r#"{"_":1}"#], "reserved_key"),
        ("Merge", vec![r#"{"_x":null}"#], "reserved_key"),
        ("Increment", vec![r#"{"_x":1}"#], "reserved_key"),
        ("Delete", vec!["_x-t0p-secret-4111"], "reserved_key"), // a key is part of the value
        ("Merge", vec![r#"{"_\u001b[31m\n t0p-secret-4111":null}"#], "reserved_key"),
        ("Delete", vec![r#"["a","_x"]"#], "reserved_key"),
        // unknown
        ("Sett", vec!["{}"], "unknown"),
        ("Set-Key", vec!["x"], "unknown"),
        ("Set-Key-Unlisted", vec!["x"], "unknown"),
        ("Delete-Key-Member-No", vec!["x"], "unknown"),
        ("Set_Default", vec!["{}"], "unknown"),
        // different repetitions
        ("Clear", vec!["true", "false"], "repeated"),
        ("Expiry", vec!["300", "301"], "repeated"),
        ("Test-Cookie", vec!["set", "delete"], "repeated"),
        ("If-Version", vec!["0", "1"], "repeated"),
        ("Save", vec!["false", "true"], "repeated"),
        ("Set-Key-Member-No", vec!["t0p-secret-4111", "x"], "repeated"),
        // limits
        ("Set", vec![&deep], "too_large"),
        ("Set", vec![&deeper], "too_large"),
        ("Merge", vec![&deep], "too_large"),
        ("Set", vec![&long], "too_large"),
        ("Set", vec![&many], "too_large"),
        ("Set", vec![r#"{"a":2}"#, &long], "too_large"),
        // added to what is no number, or beyond the range of one
        ("Increment", vec![r#"{"s":1}"#], "not_numeric"),
        ("Increment", vec![r#"{"t0p-secret-4111":1}"#], "not_numeric"),
        ("Increment", vec![r#"{"n":1}"#], "not_numeric"),
        ("Increment", vec![r#"{"l":1}"#], "not_numeric"),
        ("Increment", vec![r#"{"max":1}"#], "not_numeric"),
        ("Increment", vec![r#"{"big":1}"#], "not_numeric"),
        // off
        ("Subject", vec!["t0p-secret-4111"], "disabled"),
    ];
    for (name, values, reason) in cases {
        let name = format!("X-Session-{name}");
        let before = refused(&sidecar, reason);
        let mut wanted: Vec<(&str, &str)> = values.iter().map(|value| (&*name, *value)).collect();
        // What stands beside it is not applied either, be it a logout; which would make a number of anything, though.
        let beside = [("X-Session-Delete", "a"), ("X-Session-Flush", "true")];
        let beside = if reason == "not_numeric" { &beside[..1] } else { &beside[..] };
        wanted.extend(beside.iter().filter(|(other, _)| *other != name));
        let reply = visitor.mirror(&wanted);
        assert_eq!((reply.status, reply.header("content-type")), (502, Some("application/problem+json")), "{wanted:?}");
        assert_eq!((reply.problem(), reply.header("set-cookie")), ("directive-refused".to_owned(), None));
        let problem: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
        let detail = problem["detail"].as_str().expect("what is wrong");
        assert!(detail.to_lowercase().starts_with(&format!("{}: ", name.to_lowercase())), "{name}: {detail}");
        assert!(detail.len() < 200 && !reply.text().contains(SECRET), "{detail}");
        assert_eq!(refused(&sidecar, reason), before + 1, "{wanted:?}: {detail}");
        let id = reply.header("x-request-id").expect("an id");
        let logged = canary::logged(&format!("\"id\":\"{id}\""));
        let escaped = serde_json::to_string(detail).expect("JSON");
        assert!(logged.len() == 1 && logged[0].contains(&escaped[1..escaped.len() - 1]), "{detail}: {logged:?}");
        visitor.mirror(&[]);
        assert_eq!(backend.last().data(), START, "{wanted:?}");
    }
    assert!(canary::logged(SECRET).is_empty());
}

#[test]
fn no_answer_repeats_a_value() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::before(backend.address);
    for value in
        ["t0p-secret-4111", r#"{"a":"t0p-secret-4111""#, r#"{"t0p-secret-4111"}"#, r#""t0p-secret-4111""#]
    {
        for name in ["Set", "Merge", "Increment", "Clear", "Expiry", "Test-Cookie", "Save"] {
            let reply = sidecar.browser().mirror(&[(&format!("X-Session-{name}"), value)]);
            assert_eq!(reply.status, 502, "{name} {value}");
            assert!(
                !reply.text().contains("t0p") && !format!("{:?}", reply.headers).contains("t0p"),
                "{}",
                reply.text()
            );
        }
    }
}

#[test]
fn a_value_that_is_not_utf_8_is_refused() {
    let backend = Backend::raw(|mut stream| {
        while let Some((_, headers)) = read_head(&mut stream) {
            read_body(&mut stream, &headers, false);
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Session-Set: {\"a\":\"caf\xe9\"}\r\n\r\n";
            stream.write_all(head).expect("written");
        }
    });
    let sidecar = Sidecar::before(backend.address);
    let reply = sidecar.browser().get("/");
    assert_eq!((reply.status, refused(&sidecar, "malformed")), (502, 1));
    assert!(reply.text().contains("UTF-8"), "{}", reply.text());
}

#[test]
fn the_limits_are_the_settings_to_the_byte() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.headers.max_directive_bytes = 100;
        (config.session.max_bytes, config.session.max_keys) = (150, 5);
    });
    let text = |n: usize| format!(r#"{{"k":"{}"}}"#, "x".repeat(n - 8));
    let row = |wanted: &[(&str, &str)]| {
        let reply = sidecar.browser().mirror(wanted);
        if reply.status == 200 { reply.row().to_owned() } else { reply.problem() }
    };
    assert_eq!(row(&[("X-Session-Set", &text(100))]), "create");
    assert_eq!(row(&[("X-Session-Set", &text(101))]), "directive-refused");
    let two = |n: usize| format!(r#"{{"l":"{}"}}"#, "x".repeat(n));
    // {"k":"…"} of 90 bytes and ,"l":"…" make 150
    assert_eq!(row(&[("X-Session-Set", &text(90)), ("X-Session-Set", &two(53))]), "create");
    assert_eq!(row(&[("X-Session-Set", &text(90)), ("X-Session-Set", &two(54))]), "directive-refused");
    let keys =
        |n: usize| format!("{{{}}}", (0..n).map(|n| format!(r#""{n}":0"#)).collect::<Vec<_>>().join(","));
    assert_eq!(row(&[("X-Session-Set", &keys(5))]), "create");
    assert_eq!(row(&[("X-Session-Set", &keys(6))]), "directive-refused");
    assert_eq!(
        row(&[("X-Session-Set", &keys(5)), ("X-Session-Delete", "4")]),
        "create",
        "delete comes before set"
    );
}

#[test]
fn nesting_is_32_levels_with_the_object_of_entries() {
    let backend = Backend::mirror();
    let sidecar = Sidecar::before(backend.address);
    let nested = |levels: usize| format!(r#"{{"d":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert_eq!(sidecar.browser().mirror(&[("X-Session-Set", &nested(31))]).status, 200);
    assert_eq!(sidecar.browser().mirror(&[("X-Session-Set", &nested(32))]).status, 502);
    // A merge can't make it deeper than that by steps either.
    let mut visitor = sidecar.browser();
    let merged = |levels: usize| format!("{}1{}", "{\"d\":".repeat(levels), "}".repeat(levels));
    assert_eq!(visitor.mirror(&[("X-Session-Merge", &merged(32))]).status, 200);
    assert_eq!(visitor.mirror(&[("X-Session-Merge", &merged(33))]).status, 502);
}

/// What a client gets of a response whose directives are refused when they are read, and when they are applied.
fn ignored(sidecar: &Sidecar, stale: bool) -> [Reply; 2] {
    let wanted: [&[(&str, &str)]; 2] = [
        &[("X-Session-Set", "no JSON"), ("X-Session-Flush", "true"), ("X-Kept", "yes")],
        &[("X-Session-Set", r#"{"s":"x"}"#), ("X-Session-Increment", r#"{"s":1}"#), ("X-Kept", "yes")],
    ];
    wanted.map(|wanted| {
        let mut visitor = sidecar.browser();
        if stale {
            visitor.jar.insert("sessionid".to_owned(), "a".repeat(32));
        } else {
            visitor.mirror(&[("X-Session-Set", r#"{"a":1}"#)]);
        }
        sidecar.wind(std::time::Duration::from_secs(1000));
        visitor.mirror(wanted)
    })
}

#[test]
fn on_refused_ignore_lets_the_response_through_unchanged_and_still_logs_and_counts() {
    let backend = Backend::mirror();
    for stale in [false, true] {
        let sidecar = Sidecar::with(backend.address, |config| {
            config.headers.on_refused = OnRefused::Ignore;
            config.session.save_every_request = true;
        });
        for reply in ignored(&sidecar, stale) {
            assert_eq!((reply.status, reply.text(), reply.row()), (200, "ok".to_owned(), "refused"));
            assert_eq!(
                (reply.header("x-kept"), reply.header("set-cookie")),
                (Some("yes"), None),
                "stale: {stale}"
            );
        }
        assert_eq!((refused(&sidecar, "malformed"), refused(&sidecar, "not_numeric")), (1, 1));
        assert_eq!(sidecar.metric("coatroom_session_flushes_total"), 0);
        assert_eq!(sidecar.metric("coatroom_session_saves_total{result=\"touched\"}"), 0);
    }
    assert!(!canary::logged("nothing was applied").is_empty());
}

#[test]
fn on_a_5xx_only_flush_and_cycle_key_are_obeyed_and_the_rest_is_discarded_and_counted() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let discarded = || refused(&sidecar, "server_error");
    for status in ["500", "502", "503", "599"] {
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        let token = visitor.token().map(str::to_owned);
        let before = discarded();
        let reply = visitor.ask(&[
            ("Status", status),
            ("X-Session-Set", r#"{"user_id":2}"#),
            ("X-Session-Expiry", "-1"),
            ("X-Session-If-Version", "0"),
            ("X-Session-Save", "true"),
        ]);
        assert_eq!((reply.row(), reply.header("set-cookie")), ("server-error", None), "{status}");
        assert_eq!(discarded() - before, 4);
        visitor.get("/");
        assert_eq!((backend.last().data(), visitor.token()), (r#"{"a":1}"#, token.as_deref()));

        let reply =
            visitor.ask(&[("Status", status), ("X-Session-Cycle-Key", "true"), ("X-Session-Clear", "true")]);
        assert_eq!((reply.status.to_string(), reply.row()), (status.to_owned(), "cycle-key"));
        visitor.get("/");
        assert_eq!(backend.last().data(), r#"{"a":1}"#);
        assert_ne!(visitor.token(), token.as_deref());

        let set = ("X-Session-Set", r#"{"b":1}"#);
        let reply = visitor.ask(&[
            ("Status", status),
            ("X-Session-Flush", "true"),
            set,
            ("X-Session-If-Version", "x"),
        ]);
        assert_eq!(
            (reply.status.to_string(), reply.row(), visitor.token()),
            (status.to_owned(), "flush", None)
        );
        assert_eq!(discarded() - before, 4 + 1 + 2);
    }
}

#[test]
fn a_malformed_directive_is_logged_while_the_backends_own_5xx_passes() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for name in ["X-Session-Set", "X-Session-Flush", "X-Session-Unknown-4711"] {
        let mut visitor = sidecar.browser();
        visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
        let reply = visitor.ask(&[("Status", "500"), (name, "t0p-secret-4111")]);
        assert_eq!(
            (reply.status, reply.text(), reply.row()),
            (500, "ok".to_owned(), "server-error"),
            "{name}"
        );
        visitor.get("/");
        assert_eq!(backend.last().data(), r#"{"a":1}"#);
    }
    assert_eq!((refused(&sidecar, "malformed"), refused(&sidecar, "unknown")), (2, 1));
    assert_eq!(canary::logged("X-Session-Unknown-4711: ").len(), 1);
    assert!(canary::logged(SECRET).is_empty());
}
