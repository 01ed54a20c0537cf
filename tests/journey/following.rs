//! Every setting that follows its file does so: what it governs is seen to be another, in a program that runs on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::thread;
use std::time::Duration;

use coatroom::config::FOLLOWING;
use coatroom::time::Stopwatch;

use super::reload::{APPLIED, EXPLAIN, FAILED, Running, key};
use crate::support::child::until;
use crate::support::{Backend, Browser, Line, Redis};

/// What only time, a store that is ill, a race or a limit of the machine shows. The other tests of this file and those
/// of `reload.rs` are of them, but for the last two, which are built together with others that are seen.
const ELSEWHERE: &[&str] = &[
    "cookie.previous",
    "log.access",
    "log.level",
    "proxy.backend_idle_timeout",
    "proxy.backend_max_age",
    "proxy.body_timeout",
    "proxy.drain_delay",
    "proxy.drain_timeout",
    "proxy.head_timeout",
    "proxy.max_tunnels",
    "proxy.tunnel_idle_timeout",
    "proxy.header_timeout",
    "proxy.idle_timeout",
    "proxy.max_backend_connections",
    "proxy.max_body_bytes",
    "proxy.max_connections",
    "proxy.max_head_bytes",
    "proxy.max_headers",
    "proxy.max_requests",
    "proxy.min_body_rate",
    "reload.interval",
    "session.on_gone",
    "session.touch_interval",
    "session.keep_expired",
    "store.clear_batch",
    "store.clear_interval",
    "store.clear_pause",
    "store.commit_timeout",
    "store.cookie_chunks",
    "store.encryption_keys",
    "store.encryption_keys_file",
    "store.expired_memory",
    "store.max_bytes",
    "store.max_sessions",
    "store.on_error",
    "store.timeout",
    "store.unsealed",
    "telemetry.ready_needs_store",
    "headers.expose",
    "proxy.connect_timeout",
];

/// A setting; settings of before; what is added to them.
const SEEN: &[(&str, &str, &str)] = &[
    ("proxy.trusted", "", "proxy.trusted = ['127.0.0.1']"),
    ("proxy.forwarded", "", "proxy.forwarded = 'off'"),
    ("proxy.via", "", "proxy.via = 'other'"),
    ("cookie.name", "", "cookie.name = 'sid'"),
    ("cookie.age", "", "cookie.age = 1000"),
    ("cookie.domain", "", "cookie.domain = 'shop.test'"),
    ("cookie.path", "", "cookie.path = '/shop'"),
    ("cookie.secure", "", "cookie.secure = true"),
    ("cookie.http_only", "", "cookie.http_only = false"),
    ("cookie.same_site", "", "cookie.same_site = 'Strict'"),
    ("cookie.partitioned", "cookie.secure = true", "cookie.partitioned = true"),
    ("cookie.forward", "", "cookie.forward = true"),
    ("cookie.keys", "", "cookie.keys = ['KEY']"),
    ("cookie.keys_file", "", "cookie.keys_file = 'FOLDER/key'"),
    ("session.expire_at_browser_close", "", "session.expire_at_browser_close = true"),
    ("session.save_every_request", "", "session.save_every_request = true"),
    ("session.absolute_timeout", "", "session.absolute_timeout = 60"),
    ("session.cycle_on", "", "session.cycle_on = ['u']"),
    ("session.on_switch", "session.cycle_on = ['a']", "session.on_switch = 'cycle'"),
    ("session.grace", "session.cycle_on = ['u']", "session.grace = 0"),
    ("session.ended_memory", "session.cycle_on = ['u']\nsession.grace = 0", "session.ended_memory = 0"),
    ("session.max_bytes", "", "session.max_bytes = 20"),
    ("session.max_keys", "", "session.max_keys = 1"),
    ("session.subject", "", "session.subject = true"),
    ("headers.prefix", "", "headers.prefix = 'X-Other-'"),
    ("headers.secret", "", "headers.secret = 's'"),
    ("headers.secret_file", "", "headers.secret_file = 'FOLDER/key'"),
    ("headers.also_strip", "", "headers.also_strip = ['X-Mine']"),
    ("headers.require_nonce", "", "headers.require_nonce = true"),
    ("headers.keys", "", "headers.keys = ['a']"),
    ("headers.budget", "", "headers.budget = 1024"),
    ("headers.on_overflow", "headers.budget = 1024", "headers.on_overflow = 'omit'"),
    ("headers.required", "headers.budget = 1024\nheaders.on_overflow = 'omit'", "headers.required = ['big']"),
    ("headers.max_directive_bytes", "", "headers.max_directive_bytes = 20"),
    ("headers.on_refused", "session.max_keys = 1", "headers.on_refused = 'ignore'"),
    ("headers.explain", "", "headers.explain = false"),
    ("headers.vary", "", "headers.vary = false"),
    ("errors.page", "session.max_keys = 1", "errors.page = 'FOLDER/key'"),
    ("routes", "", "routes = [{ path = '/', session = 'off' }]"),
];

#[test]
fn every_setting_is_seen_to_follow_here_or_elsewhere() {
    let mut all: Vec<&str> =
        SEEN.iter().map(|(setting, ..)| *setting).chain(ELSEWHERE.iter().copied()).collect();
    let mut following = FOLLOWING.to_vec();
    all.sort_unstable();
    following.sort_unstable();
    assert_eq!(all, following);
}

/// What is no other because of a setting, but because it is another each time.
const CHANCE: [&str; 7] = [
    "date",
    "x-request-id",
    "x-session-nonce",
    "x-session-id",
    "x-session-version",
    "x-session-expiry-date",
    "x-session-expires-at",
];

/// What the parties see of a visit, in which there is something for each setting; one line a message.
fn visit(running: &Running) -> String {
    let big = format!("{{\"big\":\"{}\"}}", "x".repeat(900));
    let mut seen = String::new();
    let mut go = |browser: &mut Browser, wanted: &[(&str, &str)]| {
        let wanted: Vec<_> = wanted.iter().map(|(name, value)| (format!("Want-{name}"), *value)).collect();
        let mut headers = vec![("X-Forwarded-For", "192.0.2.9"), ("X-Mine", "1"), ("Accept", "text/html")];
        headers.extend(wanted.iter().map(|(name, value)| (&**name, *value)));
        let reply = browser.request("GET", "/", &headers, "");
        let received = running.backend.last();
        let received = masked(&received.headers).replace(&big, "{big}");
        seen += &format!("{} {}\n{}\n", reply.status, masked(&reply.headers), received);
    };
    let mut visitor = running.browser();
    go(&mut visitor, &[("X-Session-Set", "{\"a\":1,\"b\":2}")]);
    let mut before = visitor.clone();
    go(&mut visitor, &[("X-Session-Set", "{\"a\":2,\"u\":1}")]);
    go(&mut before, &[]);
    go(&mut before, &[("X-Session-Set", "{\"c\":1}")]);
    go(&mut visitor, &[("X-Session-Subject", "u")]);
    go(&mut visitor, &[("X-Session-Set", &big)]);
    go(&mut visitor, &[]);
    seen
}

fn masked(headers: &[(String, String)]) -> String {
    let mask = |(name, value): &(String, String)| match &**name {
        name if CHANCE.contains(&name) => format!("{name}: …"),
        // A token's length says whether it is signed.
        "cookie" | "set-cookie" => {
            let parts = value.split("; ").map(|part| match part.split_once('=') {
                Some(("Expires", _)) => "Expires".to_owned(),
                // It may be a second less than it was.
                Some(("Max-Age", age)) => {
                    format!("Max-Age={}", (age.parse::<u64>().expect("a number") + 50) / 100)
                }
                Some((name, token)) if token.len() >= 32 => format!("{name}={} bytes", token.len()),
                _ => part.to_owned(),
            });
            format!("{name}: {}", parts.collect::<Vec<_>>().join("; "))
        }
        "x-session-signature" => format!("{name}: …"),
        name => format!("{name}: {value}"),
    };
    headers.iter().map(mask).collect::<Vec<_>>().join(" | ")
}

#[test]
fn what_a_setting_governs_is_another_from_the_next_request_on() {
    let running = Running::with("reload.interval = 0");
    fs::write(running.path("key"), key('k')).expect("it is written");
    let read = |lines: &[&str]| {
        let explain = if lines.iter().any(|line| line.contains("headers.explain")) { "" } else { EXPLAIN };
        let lines = lines.join("\n").replace("FOLDER", &running.path("").display().to_string());
        running.write(&format!("{explain}\n{}", lines.replace("KEY", &key('k'))));
        running.hang_up(APPLIED);
    };
    for (setting, before, change) in SEEN {
        read(&[before]);
        let seen = visit(&running);
        assert_eq!(visit(&running), seen, "nothing else makes a difference to {setting}");
        read(&[before, change]);
        assert!(visit(&running) != seen, "{setting} makes none: {seen}");
    }
}

#[test]
fn cookies_of_a_scope_of_before_follow() {
    let running = Running::with(EXPLAIN);
    let mut old = running.browser();
    assert_eq!(old.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    running.write(&format!("{EXPLAIN}cookie.name = 'sid'"));
    running.hang_up(APPLIED);
    old.clone().get("/");
    assert_eq!(running.backend.last().data(), "{}");
    running.write(&format!("{EXPLAIN}cookie.name = 'sid'\ncookie.previous = [{{ name = 'sessionid' }}]"));
    running.hang_up(APPLIED);
    old.get("/");
    assert_eq!(running.backend.last().data(), "{\"a\":1}");
}

/// A backend that takes everything and answers nothing.
fn silent() -> Backend {
    Backend::raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())))
}

#[test]
fn what_the_backend_and_clients_may_take_follows() {
    let running = Running::before(silent(), EXPLAIN);
    running.write(&format!("{EXPLAIN}proxy = {{ head_timeout = '50ms', header_timeout = '300ms' }}"));
    running.hang_up(APPLIED);
    assert_eq!(running.browser().get("/").status, 504);
    let mut client = Line::to(running.child.address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    assert_eq!(client.reply().status, 408);
}

#[test]
fn how_long_a_connection_to_the_backend_is_kept_follows() {
    let running = Running::with(EXPLAIN);
    let opened = || running.child.metric("coatroom_backend_connections_total");
    running.browser().get("/");
    running.write(&format!("{EXPLAIN}proxy.backend_idle_timeout = 0"));
    running.hang_up(APPLIED);
    // Each worker opens one in any case.
    until(|| {
        running.browser().get("/");
        (opened() > 8).then_some(())
    });
}

#[test]
fn how_old_a_connection_to_the_backend_may_be_follows() {
    let running = Running::with(EXPLAIN);
    let opened = || running.child.metric("coatroom_backend_connections_total");
    running.browser().get("/");
    running.write(&format!("{EXPLAIN}proxy.backend_max_age = '1ms'"));
    running.hang_up(APPLIED);
    // Each worker opens one in any case.
    until(|| {
        running.browser().get("/");
        (opened() > 8).then_some(())
    });
}

#[test]
fn how_many_tunnels_there_may_be_and_how_long_they_may_be_silent_follows() {
    let running = Running::before(
        Backend::raw(|mut stream| {
            assert!(stream.read(&mut [0; 4096]).expect("a request") > 0);
            let switches = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
            stream.write_all(switches.as_bytes()).expect("it is taken");
            drop(stream.read_to_end(&mut Vec::new()));
        }),
        EXPLAIN,
    );
    let ask = || {
        let mut client = Line::to(running.child.address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        client
    };
    let mut first = ask();
    assert_eq!(first.head().0, "HTTP/1.1 101 Switching Protocols");
    running.write(&format!("{EXPLAIN}proxy.max_tunnels = 1"));
    running.hang_up(APPLIED);
    assert_eq!(ask().reply().problem(), "too-many-tunnels");
    running.write(&format!("{EXPLAIN}proxy = {{ max_tunnels = 2, tunnel_idle_timeout = '50ms' }}"));
    running.hang_up(APPLIED);
    let mut second = ask();
    assert_eq!(second.head().0, "HTTP/1.1 101 Switching Protocols");
    second.ends();
    running.until("coatroom_tunnels_total{end=\"idle\"}", 1);
    assert_eq!(running.child.metric("coatroom_tunnels"), 1, "the first goes by what it began with");
}

#[test]
fn how_long_the_end_takes_follows() {
    let mut running = Running::before(silent(), EXPLAIN);
    let mut client = Line::to(running.child.address);
    running.write(&format!("{EXPLAIN}proxy = {{ drain_delay = '300ms', drain_timeout = '50ms' }}"));
    running.hang_up(APPLIED);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    running.until("coatroom_http_requests_in_flight", 1);
    let watch = Stopwatch::start();
    running.child.signal("TERM");
    assert_eq!(running.child.wait().code(), Some(0));
    let took = watch.elapsed();
    assert!((Duration::from_millis(350)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

#[test]
fn the_limits_of_the_memory_and_how_often_it_is_cleared_follow() {
    let settings = format!("{EXPLAIN}store.clear_interval = '1 h'\n");
    let running = Running::with(&settings);
    let evictions = "coatroom_session_evictions_total";
    let visit = || {
        (0..10).for_each(|_| {
            assert_eq!(running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create")
        });
    };
    visit();
    running.write(&format!("{settings}store.max_sessions = 5"));
    running.hang_up(APPLIED);
    running.until(evictions, 5);
    running.write(&format!("{settings}store.max_bytes = 600"));
    running.hang_up(APPLIED);
    running.until(evictions, 8);
    running.write(EXPLAIN);
    running.hang_up(APPLIED);
    visit();
    running.until(evictions, 8);

    let sweeps = "coatroom_store_operation_duration_seconds_count{operation=\"clear_expired\"}";
    assert_eq!(running.child.metric(sweeps), 1);
    running.write(&format!("{EXPLAIN}store.clear_interval = '20ms'"));
    running.hang_up(APPLIED);
    until(|| (running.child.metric(sweeps) > 3).then_some(()));
}

#[test]
fn what_a_store_that_is_ill_may_take_and_what_it_means_follows() {
    let redis = Redis::start();
    let base = format!("{EXPLAIN}store.url = '{}'\n", redis.url());
    let patient = format!("{base}store.timeout = '1 h'\nstore.commit_timeout = '1 h'\n");
    let running = Running::with(&patient);
    let mut visitor = running.browser();
    assert_eq!(visitor.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    let follow = |text: &str| {
        running.write(text);
        running.hang_up(APPLIED);
    };
    follow(&base.replace("store.url", "store.timeout = '50ms'\nstore.commit_timeout = '50ms'\nstore.url"));
    redis.signal("STOP");
    assert_eq!(visitor.get("/").status, 503, "store.timeout");
    assert_eq!(running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]).status, 503, "store.commit_timeout");
    let lenient = format!("{base}store.on_error = 'anonymous'\n");
    follow(&lenient);
    assert_eq!(visitor.get("/").status, 200, "store.on_error");
    assert_eq!(running.backend.last().header("x-session-state"), Some("unavailable"));
    let ready = || running.child.probe("/readyz").status;
    assert_eq!(ready(), 200);
    follow(&format!("{lenient}telemetry.ready_needs_store = true"));
    until(|| (ready() == 503).then_some(()));
    follow(&lenient);
    until(|| (ready() == 200).then_some(()));
    redis.signal("CONT");
}

#[test]
fn how_long_a_server_keeps_what_has_expired_follows() {
    let redis = Redis::start();
    let base = format!("{EXPLAIN}cookie.age = 100\nstore.url = '{}'\n", redis.url());
    let running = Running::with(&format!("{base}store.expired_memory = '1 h'"));
    let kept = || {
        let _: () = redis.ask(&["FLUSHALL"]);
        assert_eq!(running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
        let keys: Vec<Vec<u8>> = redis.ask(&["KEYS", "*"]);
        redis.ask::<u64>(&[&b"TTL"[..], &keys[0]])
    };
    assert!(kept() > 3600);
    running.write(&format!("{base}store.expired_memory = 0"));
    running.hang_up(APPLIED);
    assert!(kept() <= 100);
}

#[test]
fn what_seals_records_and_what_must_be_sealed_follow() {
    let running = Running::with(EXPLAIN);
    let (mut plain, mut sealed) = (running.browser(), running.browser());
    assert_eq!(plain.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    fs::write(running.path("keys"), key('a')).expect("it is written");
    let base = format!("{EXPLAIN}store.encryption_keys_file = '{}'\n", running.path("keys").display());
    let follow = |text: &str| {
        running.write(text);
        running.hang_up(APPLIED);
    };
    follow(&base);
    assert_eq!(plain.get("/").row(), "nothing", "store.unsealed is \"read\"");
    assert_eq!(sealed.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    follow(&format!("{base}store.unsealed = 'refuse'"));
    assert_eq!((plain.get("/").status, sealed.get("/").status), (503, 200));
    fs::write(running.path("keys"), key('b')).expect("it is written");
    running.hang_up(APPLIED);
    assert_eq!(sealed.get("/").status, 503, "the key is gone");
}

#[test]
fn how_many_cookies_a_session_may_take_follows() {
    let base = format!("{EXPLAIN}store.url = 'cookie:'\nstore.encryption_keys = ['{}']\n", key('a'));
    let running = Running::with(&base);
    let big = format!("{{\"big\":\"{}\"}}", "x".repeat(4000));
    let mut visitor = running.browser();
    assert_eq!(visitor.ask(&[("X-Session-Set", &big)]).row(), "create");
    running.write(&format!("{base}store.cookie_chunks = 1"));
    running.hang_up(APPLIED);
    assert_eq!(running.browser().ask(&[("X-Session-Set", &big)]).status, 502);
    assert_eq!(visitor.ask(&[("X-Session-Save", "true")]).row(), "save", "what there is stays");
    assert_eq!(visitor.jar.len(), 2);
    // Without a key nobody could read what all have: that waits for the store that it is of.
    running.write(EXPLAIN);
    running.hang_up(FAILED);
    assert_eq!(visitor.get("/").row(), "nothing");
}

#[test]
fn what_seals_cookies_follows() {
    let with = |letters: &str| {
        let keys: Vec<_> = letters.chars().map(|letter| format!("'{}'", key(letter))).collect();
        format!("{EXPLAIN}store.url = 'cookie:'\nstore.encryption_keys = [{}]\n", keys.join(", "))
    };
    let running = Running::with(&with("a"));
    let (mut saved, mut idle) = (running.browser(), running.browser());
    for browser in [&mut saved, &mut idle] {
        assert_eq!(browser.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    }
    for letters in ["ab", "ba"] {
        running.write(&with(letters));
        running.hang_up(APPLIED);
        assert_eq!((saved.get("/").row(), idle.get("/").row()), ("nothing", "nothing"));
    }
    assert_eq!(saved.ask(&[("X-Session-Save", "true")]).row(), "save");
    running.write(&with("b"));
    running.hang_up(APPLIED);
    assert_eq!((saved.get("/").row(), idle.get("/").row()), ("nothing", "nothing-to-keep"));
}

#[test]
fn how_often_files_are_looked_at_follows() {
    let running = Running::with(EXPLAIN);
    running.write(&format!("{EXPLAIN}cookie.name = 'one'").replace("interval = 0", "interval = '20ms'"));
    running.hang_up(APPLIED);
    running.write(&format!("{EXPLAIN}cookie.name = 'two'"));
    running.until(APPLIED, 2);
    let reply = running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]);
    assert!(reply.header("set-cookie").expect("a session").starts_with("two="));
}

#[test]
fn how_often_a_life_is_extended_follows() {
    let base = format!("{EXPLAIN}session.save_every_request = true\n");
    let running = Running::with(&base);
    let mut visitor = running.browser();
    visitor.ask(&[("X-Session-Set", "{\"a\":1}")]);
    let touched = || running.child.metric("coatroom_session_saves_total{result=\"touched\"}");
    assert_eq!((visitor.get("/").row(), touched()), ("touch", 0));
    running.write(&format!("{base}session.touch_interval = 0"));
    running.hang_up(APPLIED);
    assert_eq!((visitor.get("/").row(), touched()), ("touch", 1));
}

#[test]
fn what_becomes_of_a_change_whose_session_is_gone_follows() {
    let (backend, gate) = Backend::slow();
    let running = Running::before(backend, EXPLAIN);
    let overtaken = || {
        let mut visitor = running.browser();
        visitor.ask(&[("X-Session-Set", "{\"a\":1}")]);
        let mut late = visitor.clone();
        thread::scope(|scope| {
            let late = scope.spawn(move || late.ask_at("/slow", &[("X-Session-Set", "{\"a\":2}")]).status);
            gate.wait();
            assert_eq!(visitor.ask(&[("X-Session-Flush", "true")]).row(), "flush");
            gate.open();
            late.join().expect("it is answered")
        })
    };
    assert_eq!(overtaken(), 200);
    running.write(&format!("{EXPLAIN}session.on_gone = 'reject'"));
    running.hang_up(APPLIED);
    assert_eq!(overtaken(), 409);
}
