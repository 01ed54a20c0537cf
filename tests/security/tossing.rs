//! Sections 1 and 6 of the contract: cookies that others set, or made up, under our name.

use coatroom::wire::cookie::Previous;

use crate::support::{Backend, Browser, Reply, Sidecar};

/// A well-formed token that no sidecar has made.
const MADE_UP: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn with_cookies(sidecar: &Sidecar, line: &str, wanted: &[(&str, &str)]) -> Reply {
    let wanted: Vec<(String, &str)> =
        wanted.iter().map(|(name, value)| (format!("Want-{name}"), *value)).collect();
    let mut headers: Vec<(&str, &str)> = wanted.iter().map(|(name, value)| (&**name, *value)).collect();
    headers.push(("Cookie", line));
    sidecar.browser().request("GET", "/", &headers, "")
}

fn loaded(sidecar: &Sidecar, result: &str) -> u64 {
    sidecar.metric(&format!("coatroom_session_loads_total{{result=\"{result}\"}}"))
}

/// A session that holds `{"n":n}`, and its token.
fn session(sidecar: &Sidecar, n: u32) -> String {
    let mut visitor = sidecar.browser();
    visitor.ask(&[("X-Session-Set", &format!("{{\"n\":{n}}}"))]);
    visitor.token().expect("a token").to_owned()
}

#[test]
fn a_set_cookie_that_would_come_back_as_ours_is_dropped_counted_and_logged() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.cookie.previous =
            vec![Previous { name: "sid".to_owned(), domain: String::new(), path: "/".to_owned() }];
    });
    let dropped = "coatroom_cookies_dropped_total";
    for (n, line) in [
        "sessionid=t0ssed",
        "sessionid=t0ssed; Path=/admin; HttpOnly",
        "sessionid=",
        "sessionid =t0ssed",
        " \tsessionid\t=\tt0ssed",
        "=sessionid=t0ssed",
        "= sessionid=t0ssed; Path=/",
        " = sessionid = t0ssed",
        "sid=t0ssed",
        "=sid=t0ssed",
        "sessionid=t0ssed=sessionid",
        "sessionid=\"t0ssed\"",
    ]
    .into_iter()
    .enumerate()
    {
        let reply = sidecar.browser().ask(&[("Set-Cookie", line)]);
        assert_eq!((reply.status, reply.header("set-cookie")), (200, None), "{line}");
        assert_eq!(sidecar.metric(dropped), n as u64 + 1, "{line}");
    }
    assert!(!crate::support::canary::logged("the backend set a cookie that would be read as").is_empty());
    assert!(crate::support::canary::logged("t0ssed").is_empty(), "its value is not logged");
}

#[test]
fn every_other_set_cookie_passes_in_order() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mine = [
        "theme=dark; Path=/",
        "Sessionid=other case",
        "SESSIONID=1",
        "sessionid2=1",
        "xsessionid=1",
        "sessionid",
        "=Sessionid=1",
        "==sessionid=1",
        "a=sessionid=1",
        "%73essionid=1",
        "\u{2000}sessionid=1",
        "=",
    ];
    let lines = [&mine[..6], &["sessionid=evil"], &mine[6..]].concat().join("|");
    let reply = sidecar.browser().ask(&[("Set-Cookie", &lines), ("X-Session-Set", r#"{"a":1}"#)]);
    let set: Vec<&str> = reply.all("set-cookie").collect();
    assert_eq!(set[..mine.len()], mine);
    assert!(set.len() == mine.len() + 1 && set[mine.len()].starts_with("sessionid="), "{set:?}");
}

#[test]
fn a_backend_can_toss_no_cookie_on_a_route_that_is_off_or_read_either() {
    use coatroom::session::Mode;
    let backend = Backend::obedient();
    let sidecar = Sidecar::with(backend.address, |config| {
        config.routes = [("/off", Mode::Off), ("/read", Mode::Read)]
            .map(|(path, session)| coatroom::proxy::routes::Config {
                path: path.to_owned(),
                methods: Vec::new(),
                session,
            })
            .to_vec();
    });
    for (path, status) in [("/off", "200"), ("/read", "304"), ("/off", "500"), ("/read", "404")] {
        let wanted = [("Set-Cookie", "sessionid=evil|=sessionid=evil|a=1"), ("Status", status)];
        let reply = sidecar.browser().ask_at(path, &wanted);
        assert_eq!(reply.header("set-cookie"), Some("a=1"), "{path} {status}");
    }
}

#[test]
fn a_cookie_that_the_client_made_up_is_never_adopted() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for n in 0..32_u8 {
        let made_up = format!("{}{}", char::from(b'a' + n % 26), &MADE_UP[1..]);
        let line = format!("sessionid={made_up}");
        let reply = with_cookies(&sidecar, &line, &[("X-Session-Set", r#"{"a":1}"#)]);
        assert_eq!((reply.status, reply.row()), (200, "create"));
        let mut visitor = sidecar.browser();
        visitor.keep(&reply);
        assert_ne!(visitor.token(), Some(&*made_up));
        assert_eq!(backend.last().header("x-session-state"), Some("empty"));
        with_cookies(&sidecar, &line, &[]);
        assert_eq!(backend.last().data(), "{}", "nothing is filed under it");
    }
    assert_eq!(loaded(&sidecar, "absent"), 64);
}

#[test]
fn a_value_outside_the_grammar_never_reaches_the_store() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let token = session(&sidecar, 1);
    sidecar.browser().request("GET", "/", &[("Cookie", &format!("sessionid={token}"))], "");
    let id = backend.last().header("x-session-id").expect("an id").to_owned();
    let loads = sidecar.loads();
    let malformed = [
        String::new(),
        "a".repeat(31),
        "a".repeat(33),
        token.to_uppercase(),
        format!("\"{token}\""),
        format!("{token}."),
        format!("{token}.{}", "a".repeat(51)),
        format!("{token} x"),
        format!("{token}\u{a0}"),
        "1".repeat(32),
        "../../../../../../etc/passwd".to_owned(),
        "%00".to_owned(),
        id,
        "x".repeat(6000),
    ];
    for value in &malformed {
        let reply = with_cookies(&sidecar, &format!("sessionid={value}"), &[]);
        assert_eq!((reply.row(), backend.last().data()), ("nothing-to-keep", "{}"), "{value}");
        let removal = reply.header("set-cookie").expect("a cookie of our name was shown");
        assert!(removal.starts_with("sessionid=; "), "{removal}");
    }
    assert_eq!((sidecar.loads(), loaded(&sidecar, "malformed")), (loads, malformed.len() as u64));
}

#[test]
fn no_cookie_costs_the_store_nothing() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    for wanted in [
        &[][..],
        &[("X-Session-Flush", "true")],
        &[("X-Session-Cycle-Key", "true")],
        &[("X-Session-Clear", "true")],
    ] {
        let reply = sidecar.browser().ask(wanted);
        assert_eq!((reply.row(), reply.header("set-cookie")), ("nothing-to-keep", None), "{wanted:?}");
    }
    with_cookies(&sidecar, "Sessionid=x; theme=dark", &[]);
    assert_eq!((sidecar.loads(), sidecar.commits()), (0, 0));
}

#[test]
fn the_same_token_twice_counts_once_and_malformed_ones_do_not_count() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let token = session(&sidecar, 7);
    for line in [
        format!("sessionid={token}; sessionid={token}"),
        format!("sessionid=junk; sessionid={token}; sessionid=; sessionid=\"{token}\""),
        format!("sessionid={token}{}", "; sessionid=x".repeat(30)),
        format!("sessionid={token}{}", format!("; sessionid={token}").repeat(12)),
        format!("sessionid={MADE_UP}; sessionid={token}"),
        format!("sessionid={token}; sessionid={MADE_UP}"),
        format!("a=1\r\nCookie: sessionid={token}\r\nCookie: sessionid={token}; b=2"),
    ] {
        let reply = with_cookies(&sidecar, &line, &[]);
        assert_eq!(
            (backend.last().data(), reply.row(), reply.header("set-cookie")),
            (r#"{"n":7}"#, "nothing", None),
            "{line}"
        );
    }
}

#[test]
fn two_live_sessions_of_the_current_scope_are_ambiguous_and_nothing_happens() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let (first, second) = (session(&sidecar, 1), session(&sidecar, 2));
    let both = [
        format!("sessionid={first}; sessionid={second}"),
        format!("sessionid={second}; a=1; sessionid={first}"),
    ];
    let commits = sidecar.commits();
    for (n, line) in both.iter().enumerate() {
        for wanted in [
            &[][..],
            &[("X-Session-Set", r#"{"a":1}"#)],
            &[("X-Session-Flush", "true")],
            &[("X-Session-Cycle-Key", "true"), ("X-Session-Set", r#"{"user_id":1}"#)],
            &[("X-Session-Flush", "true"), ("Status", "500")],
        ] {
            let reply = with_cookies(&sidecar, line, wanted);
            let seen = backend.last();
            assert_eq!((seen.data(), seen.header("x-session-state")), ("{}", Some("empty")));
            assert_eq!(reply.header("set-cookie"), None, "{n} {wanted:?}");
            assert_eq!(reply.row(), "ambiguous");
        }
    }
    assert_eq!((sidecar.commits(), loaded(&sidecar, "ambiguous")), (commits, 10));
    assert!(!crate::support::canary::logged("somebody may be tossing cookies").is_empty());
    for (token, data) in [(first, r#"{"n":1}"#), (second, r#"{"n":2}"#)] {
        with_cookies(&sidecar, &format!("sessionid={token}"), &[]);
        assert_eq!(backend.last().data(), data, "each is as it was");
    }
}

#[test]
fn more_than_eight_tokens_are_ambiguous_and_cost_the_store_nothing() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let token = session(&sidecar, 1);
    let crowd = |others: u8| {
        let made_up = (0..others).map(|n| format!("; sessionid={}{}", char::from(b'b' + n), &MADE_UP[1..]));
        format!("sessionid={token}{}", made_up.collect::<String>())
    };
    let reply = with_cookies(&sidecar, &crowd(7), &[]);
    assert_eq!((backend.last().data(), reply.row()), (r#"{"n":1}"#, "nothing"), "eight are looked at");
    let loads = sidecar.loads();
    let reply = with_cookies(&sidecar, &crowd(8), &[("X-Session-Set", r#"{"a":1}"#)]);
    assert_eq!((backend.last().data(), reply.row(), reply.header("set-cookie")), ("{}", "ambiguous", None));
    assert_eq!((sidecar.loads(), loaded(&sidecar, "ambiguous")), (loads, 1));
}

#[test]
fn a_live_session_counts_beside_one_that_was_ended() {
    let backend = Backend::obedient();
    let sidecar = Sidecar::before(backend.address);
    let mut visitor: Browser = sidecar.browser();
    visitor.ask(&[("X-Session-Set", r#"{"a":1}"#)]);
    let before = visitor.token().expect("a token").to_owned();
    visitor.ask(&[("X-Session-Cycle-Key", "true"), ("X-Session-Set", r#"{"b":2}"#)]);
    let after = visitor.token().expect("a token").to_owned();
    for line in
        [format!("sessionid={before}; sessionid={after}"), format!("sessionid={after}; sessionid={before}")]
    {
        with_cookies(&sidecar, &line, &[]);
        assert_eq!(backend.last().data(), r#"{"a":1,"b":2}"#, "{line}");
    }
}
