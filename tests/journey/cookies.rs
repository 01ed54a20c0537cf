//! `store.url = "cookie:"`: sessions in the client, and what is left of the contract where nothing is compared.

use std::fs;
use std::thread;
use std::time::Duration;

use coatroom::config::Config;
use coatroom::proxy::routes;
use coatroom::secret::Secret;
use coatroom::session::Mode;
use coatroom::store::{OnError, Url};
use coatroom::time::Length;
use coatroom::wire::cookie::Previous;
use data_encoding::BASE64;

use super::outage::{CYCLE, FLUSH};
use crate::support::child::until;
use crate::support::{Backend, Browser, Redis, Reply, Sidecar};

const LOGIN: (&str, &str) = ("X-Session-Set", r#"{"user_id":7}"#);

/// Settings with these keys, each of 32 equal bytes.
fn sealing(keys: &[u8]) -> impl Fn(&mut Config) + use<> {
    let keys: Vec<_> = keys.iter().map(|byte| Secret::new(BASE64.encode(&[*byte; 32]))).collect();
    move |config| {
        config.store.url = "cookie:".into();
        config.store.encryption_keys = keys.clone();
    }
}

/// A sidecar that seals with one key, before `backend`.
fn sidecar(backend: &Backend, change: impl FnOnce(&mut Config)) -> Sidecar {
    Sidecar::with(backend.address, |config| {
        sealing(&[1])(config);
        change(config);
    })
}

/// A visitor whose session holds this, in an entry of its own.
fn visitor(sidecar: &Sidecar, data: &str) -> Browser {
    let mut browser = sidecar.browser();
    assert_eq!(browser.ask(&[("X-Session-Set", data)]).row(), "create");
    browser
}

/// An object with one entry of so many bytes.
fn big(bytes: usize) -> String {
    format!("{{\"big\":\"{}\"}}", "x".repeat(bytes))
}

/// What the backend reads of a visitor, who keeps no answer.
fn reads(backend: &Backend, browser: &Browser) -> String {
    assert_eq!(browser.clone().get("/").status, 200);
    backend.last().data().to_owned()
}

fn state(backend: &Backend, browser: &Browser) -> String {
    assert_eq!(browser.clone().get("/").status, 200);
    backend.last().header("x-session-state").expect("always there").to_owned()
}

fn refused(sidecar: &Sidecar, reason: &str) -> u64 {
    sidecar.metric(&format!("coatroom_store_cookies_refused_total{{reason=\"{reason}\"}}"))
}

/// The names that a response makes the browser forget.
fn forgotten(reply: &Reply) -> Vec<&str> {
    let lines = reply.all("set-cookie").filter(|line| line.contains("; Max-Age=0;"));
    lines.map(|line| line.split('=').next().unwrap_or_default()).collect()
}

#[test]
fn a_session_lives_in_its_cookie_on_any_sidecar_that_has_the_key() {
    let backend = Backend::obedient();
    let (one, other) = (sidecar(&backend, |_| {}), sidecar(&backend, |_| {}));
    let mut browser = one.browser();
    assert_eq!(browser.get("/").header("set-cookie"), None, "nobody who only looks gets a cookie");
    let reply = browser.ask(&[("X-Session-Set", r#"{"cart":["hat"]}"#)]);
    let line = reply.header("set-cookie").expect("a session").to_owned();
    assert!(line.contains("; Path=/; Max-Age=1209600; Expires=") && line.contains("; HttpOnly"), "{line}");
    assert!(!line.contains("hat"), "nobody reads it");

    browser.go(other.address());
    let silent = browser.get("/");
    assert_eq!((silent.row(), silent.header("set-cookie")), ("nothing", None));
    let first = backend.last();
    assert_eq!(first.data(), r#"{"cart":["hat"]}"#);
    assert_eq!(first.header("cookie"), None);
    assert_eq!(browser.ask(&[("X-Session-Merge", r#"{"n":1}"#)]).row(), "save");
    browser.go(one.address());
    browser.get("/");
    let second = backend.last();
    assert_eq!(second.data(), r#"{"cart":["hat"],"n":1}"#);
    assert_eq!(first.header("x-session-id"), second.header("x-session-id"), "it is the same session");
    assert_ne!(first.header("x-session-version"), second.header("x-session-version"));
    assert_eq!(one.metric("coatroom_session_creates_total"), 1);
    assert_eq!(other.metric("coatroom_session_creates_total"), 0, "a save begins none");
    assert_eq!(other.metric("coatroom_session_saves_total{result=\"saved\"}"), 1);

    assert_eq!(browser.ask(&[LOGIN]).row(), "cycle-key-on-login");
    browser.get("/");
    let third = backend.last();
    assert_ne!(third.header("x-session-id"), second.header("x-session-id"));
    assert_eq!(third.data(), r#"{"cart":["hat"],"n":1,"user_id":7}"#);
    assert_eq!(browser.ask(&[FLUSH]).row(), "flush");
    assert!(browser.jar.is_empty());
}

#[test]
fn a_large_session_takes_several_cookies_and_gives_them_back() {
    let backend = Backend::obedient();
    let sidecar = sidecar(&backend, |_| {});
    let mut browser = sidecar.browser();
    browser.jar.insert("theirs".to_owned(), "1".to_owned());
    let reply = browser.ask(&[("X-Session-Set", &big(4500))]);
    let lines: Vec<_> = reply.all("set-cookie").collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.len() <= 4096), "browsers take no more, attributes included");
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["sessionid", "sessionid.1", "theirs"]);
    browser.get("/");
    assert_eq!(backend.last().data(), big(4500));
    assert_eq!(backend.last().header("cookie"), Some("theirs=1"), "the backend sees no chunk");

    let shrunk = browser.ask(&[("X-Session-Set", &big(10))]);
    assert_eq!((shrunk.row(), forgotten(&shrunk)), ("save", vec!["sessionid.1"]));
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["sessionid", "theirs"]);
    assert_eq!(reads(&backend, &browser), big(10));

    browser.ask(&[("X-Session-Set", &big(4500))]);
    let flushed = browser.ask(&[FLUSH]);
    assert_eq!(forgotten(&flushed), ["sessionid", "sessionid.1"]);
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["theirs"]);
}

#[test]
fn a_session_that_no_longer_fits_is_refused_and_stays_as_it_was() {
    let backend = Backend::obedient();
    let few = sidecar(&backend, |config| config.headers.budget = 50_000);
    let mut browser = visitor(&few, r#"{"a":1}"#);
    let reply = browser.ask(&[("X-Session-Set", &big(6000))]);
    assert_eq!((reply.status, &*reply.problem()), (502, "directive-refused"));
    let detail = reply.text();
    assert!(detail.contains("X-Session-Set") && detail.contains("store.cookie_chunks"), "{detail}");
    assert_eq!(few.metric("coatroom_directives_refused_total{reason=\"too_large\"}"), 1);
    assert_eq!(reads(&backend, &browser), r#"{"a":1}"#);

    let most = sidecar(&backend, |config| {
        config.headers.budget = 50_000;
        config.store.cookie_chunks = 10;
    });
    let mut browser = visitor(&most, r#"{"a":1}"#);
    for entry in ["b", "c", "d"] {
        let more = format!("{{\"{entry}\":\"{}\"}}", "x".repeat(8000));
        assert_eq!(browser.ask(&[("X-Session-Set", &more)]).row(), "save");
    }
    assert_eq!(browser.jar.len(), 9, "name and nine chunks at most: {:?}", browser.jar.keys());
    assert!(reads(&backend, &browser).len() > 24_000);
    let more = format!("{{\"e\":\"{}\"}}", "x".repeat(8000));
    assert_eq!(browser.ask(&[("X-Session-Set", &more)]).status, 502);
    assert!(reads(&backend, &browser).len() > 24_000);
}

#[test]
fn what_is_made_up_changed_or_incomplete_is_no_session_and_is_removed() {
    let backend = Backend::obedient();
    let sidecar = sidecar(&backend, |_| {});
    let whole = visitor(&sidecar, &big(4500));
    let with = |change: &dyn Fn(&mut Browser)| {
        let mut browser = whole.clone();
        change(&mut browser);
        let reply = browser.get("/");
        let seen = backend.last();
        assert_eq!((seen.header("x-session-state"), seen.data()), (Some("empty"), "{}"));
        assert_eq!(seen.header("cookie"), None);
        assert_eq!(reply.row(), "nothing-to-keep");
        assert!(browser.jar.is_empty(), "all chunks are removed: {:?}", browser.jar.keys());
    };
    let set = |name: &'static str, value: &str| {
        let value = value.to_owned();
        move |browser: &mut Browser| drop(browser.jar.insert(name.to_owned(), value.clone()))
    };
    let malformed = || sidecar.metric("coatroom_session_loads_total{result=\"malformed\"}");
    let (first, second) = (&whole.jar["sessionid"], &whole.jar["sessionid.1"]);
    let changed = |text: &str, at: usize| {
        let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    };
    with(&|browser| drop(browser.jar.remove("sessionid.1")));
    with(&set("sessionid.1", &second[..second.len() - 4]));
    with(&set("sessionid.1", &changed(second, 100)));
    with(&set("sessionid", &changed(first, 1000)));
    with(&set("sessionid", &first[..1000]));
    with(&set("sessionid", "x"));
    assert_eq!(malformed(), 6, "their checksums tell");
    with(&|browser| drop(browser.jar.remove("sessionid")));
    assert_eq!(refused(&sidecar, "forged"), 0, "none of them was opened");

    let small = visitor(&sidecar, r#"{"user_id":1}"#);
    let token = &small.jar["sessionid"];
    // Four characters are three bytes.
    let cut = &token[..(token.len() - 4) / 4 * 4];
    for bad in [&changed(token, 60), &changed(token, 20), "YzFmb3JnZWQ", cut] {
        with(&|browser| {
            browser.jar.clear();
            browser.jar.insert("sessionid".to_owned(), bad.to_owned());
        });
    }
    assert_eq!(refused(&sidecar, "forged"), 4);
    with(&|browser| {
        browser.jar.clear();
        // Its id of a key is another.
        browser.jar.insert("sessionid".to_owned(), changed(token, 4));
    });
    assert_eq!(refused(&sidecar, "unknown_key"), 1);
    let mut made_up = sidecar.browser();
    made_up.jar.insert("sessionid".to_owned(), changed(token, 60));
    assert_eq!(made_up.ask(&[("X-Session-Set", r#"{"a":1}"#)]).row(), "create", "and never adopted");
    assert_eq!(reads(&backend, &made_up), r#"{"a":1}"#);
}

/// Cookies of the parent domain come along with ours: they can't log anybody out, or in.
#[test]
fn tossed_cookies_change_nothing_but_two_whole_sessions_are_ambiguous() {
    let backend = Backend::obedient();
    let sidecar = sidecar(&backend, |_| {});
    let (mut victim, attacker) = (visitor(&sidecar, &big(4500)), visitor(&sidecar, &big(4600)));
    let pairs = |browser: &Browser| {
        browser.jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    let mut show = |more: &[String]| {
        let cookie = [more, &pairs(&victim)].concat().join("; ");
        let jar = std::mem::take(&mut victim.jar);
        let reply = victim.request("GET", "/", &[("Cookie", &cookie)], "");
        victim.jar = jar;
        (backend.last(), reply)
    };
    let theirs = pairs(&attacker);
    for junk in [
        &["sessionid=x".to_owned(), "sessionid.1=x".to_owned()][..],
        &["sessionid.1=AAAAAA.QUFB".to_owned(), "sessionid.7=".to_owned()],
        &[theirs[0].clone()],
        &[theirs[1].clone()],
    ] {
        let (seen, reply) = show(junk);
        assert_eq!((seen.data(), seen.header("cookie")), (&*big(4500), None), "{junk:?}");
        assert_eq!(reply.header("set-cookie"), None);
    }
    let (seen, reply) = show(&theirs);
    assert_eq!((seen.header("x-session-state"), reply.row()), (Some("empty"), "ambiguous"));
    assert_eq!(reply.header("set-cookie"), None);
    assert_eq!(sidecar.metric("coatroom_session_loads_total{result=\"ambiguous\"}"), 1);
}

#[test]
fn a_backend_sets_no_chunk() {
    let backend = Backend::obedient();
    let sidecar = sidecar(&backend, |_| {});
    let mut browser = visitor(&sidecar, &big(4500));
    let before = browser.jar.clone();
    let reply = browser.ask(&[("Set-Cookie", "sessionid.1=x; Path=/|sessionid.12=theirs|=sessionid.2=x")]);
    assert_eq!(reply.all("set-cookie").collect::<Vec<_>>(), ["sessionid.12=theirs"]);
    assert_eq!(sidecar.metric("coatroom_cookies_dropped_total"), 2);
    assert_eq!(browser.jar["sessionid.1"], before["sessionid.1"]);
    assert_eq!(reads(&backend, &browser), big(4500));
}

#[test]
fn a_session_ends_when_it_says_whatever_the_browser_keeps() {
    let backend = Backend::obedient();
    let sidecar = sidecar(&backend, |config| {
        config.cookie.age = Length::secs(100);
        config.session.save_every_request = true;
        config.session.touch_interval = coatroom::session::policy::Interval::Every(Length::secs(10));
    });
    let mut browser = visitor(&sidecar, r#"{"a":1}"#);
    let old = browser.clone();
    sidecar.wind(Duration::from_secs(60));
    let touched = browser.get("/");
    assert_eq!(touched.row(), "touch");
    assert!(touched.header("set-cookie").expect("it is renewed").contains("Max-Age=100;"));
    assert_eq!(
        browser.clone().get("/").header("set-cookie").map(|line| line.contains("Max-Age=100;")),
        Some(true)
    );
    let version = |browser: &Browser| {
        browser.clone().get("/");
        backend.last().header("x-session-version").map(str::to_owned)
    };
    assert_eq!(version(&browser), version(&old), "a touch changes no version");
    sidecar.wind(Duration::from_secs(60));
    assert_eq!((state(&backend, &browser), state(&backend, &old)), ("active".into(), "empty".into()));
    assert_eq!(refused(&sidecar, "expired"), 1);
    assert_eq!(browser.ask(&[("X-Session-Expiry", "30")]).row(), "save");
    sidecar.wind(Duration::from_secs(31));
    assert_eq!(state(&backend, &browser), "empty");
    assert_eq!(browser.ask(&[]).row(), "nothing-to-keep");
    assert!(browser.jar.is_empty());
}

#[test]
fn a_no_touch_route_sends_what_it_saves_and_extends_nothing() {
    let backend = Backend::obedient();
    let sidecar = sidecar(&backend, |config| {
        config.cookie.age = Length::secs(100);
        let path = "/poll".to_owned();
        config.routes = vec![routes::Config { path, methods: vec![], session: Mode::NoTouch }];
    });
    let mut browser = visitor(&sidecar, r#"{"a":1}"#);
    sidecar.wind(Duration::from_secs(60));
    let reply = browser.ask_at("/poll", &[("X-Session-Set", r#"{"a":2}"#)]);
    assert_eq!(reply.row(), "save");
    assert!(reply.header("set-cookie").expect("or it would be lost").contains("Max-Age=40;"), "{reply:?}");
    assert_eq!(reads(&backend, &browser), r#"{"a":2}"#);
    assert_eq!(browser.ask_at("/poll", &[]).header("set-cookie"), None);
}

#[test]
fn increments_and_conditions_are_refused_with_what_to_know() {
    let backend = Backend::obedient();
    let sidecar = sidecar(&backend, |_| {});
    let mut browser = visitor(&sidecar, r#"{"n":1}"#);
    for (name, value) in [("X-Session-Increment", r#"{"n":1}"#), ("X-Session-If-Version", "0")] {
        let reply = browser.ask(&[(name, value), ("X-Session-Set", r#"{"n":5}"#)]);
        assert_eq!(
            (reply.status, &*reply.problem(), reply.header("set-cookie")),
            (502, "directive-refused", None)
        );
        assert!(reply.text().contains(name) && reply.text().contains("cookie:"), "{}", reply.text());
        assert_eq!(reads(&backend, &browser), r#"{"n":1}"#, "nothing of that response is applied");
    }
    assert_eq!(sidecar.metric("coatroom_directives_refused_total{reason=\"disabled\"}"), 2);
    let failed = browser.ask(&[("Status", "500"), ("X-Session-Increment", r#"{"n":1}"#)]);
    assert_eq!((failed.status, failed.row()), (500, "server-error"));
}

/// What the documentation says of `cookie:` without a list: a copy outlives the logout, and the last response wins.
#[test]
fn without_a_list_a_copy_outlives_its_logout_and_the_last_response_wins() {
    let (backend, gate) = Backend::slow();
    let sidecar = sidecar(&backend, |_| {});
    let mut browser = visitor(&sidecar, r#"{"user_id":7}"#);
    let mut late = browser.clone();
    thread::scope(|scope| {
        let late =
            scope.spawn(move || late.ask_at("/slow", &[("X-Session-Set", r#"{"a":1}"#)]).row().to_owned());
        gate.wait();
        let copy = browser.clone();
        assert_eq!(browser.ask(&[FLUSH]).row(), "flush");
        assert!(browser.jar.is_empty());
        assert_eq!(reads(&backend, &copy), r#"{"user_id":7}"#);
        gate.open();
        assert_eq!(late.join().expect("it is answered"), "save");
    });
}

/// Engines that keep the list; the second is what keeps them alive.
fn lists() -> Vec<(Url, Option<Redis>, Option<tempfile::TempDir>)> {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = format!("file://{}", folder.path().join("revoked").display());
    vec![
        ("memory:".into(), None, None),
        (file.as_str().into(), None, Some(folder)),
        (redis.url().as_str().into(), Some(redis), None),
    ]
}

#[test]
fn with_a_list_what_has_ended_has_ended_on_every_copy() {
    for (url, _redis, _folder) in lists() {
        let (backend, gate) = Backend::slow();
        let sidecar = Sidecar::keeping("cookie:", backend.address, |config| {
            sealing(&[1])(config);
            config.store.revocations = url.clone();
        });
        let mut browser = visitor(&sidecar, r#"{"cart":1}"#);
        let anonymous = browser.clone();
        assert_eq!(browser.ask(&[LOGIN]).row(), "cycle-key-on-login");
        assert_eq!(reads(&backend, &anonymous), r#"{"cart":1}"#, "{url}: what is in flight reads on");
        let mut late = anonymous.clone();
        assert_eq!(late.ask(&[("X-Session-Set", r#"{"cart":2}"#)]).row(), "gone", "{url}");
        assert_eq!(late.jar, anonymous.jar, "{url}: and no login is undone");
        sidecar.wind(Duration::from_secs(11));
        assert_eq!(reads(&backend, &anonymous), "{}", "{url}: the grace is over");

        let copy = browser.clone();
        let mut slow = browser.clone();
        thread::scope(|scope| {
            let slow = scope.spawn(move || {
                let reply = slow.ask_at("/slow", &[("X-Session-Set", r#"{"a":1}"#)]);
                (reply.row().to_owned(), reply.header("set-cookie").map(str::to_owned))
            });
            gate.wait();
            assert_eq!(browser.ask(&[FLUSH]).row(), "flush");
            gate.open();
            assert_eq!(
                slow.join().expect("it is answered"),
                ("gone".to_owned(), None),
                "{url}: no resurrection"
            );
        });
        assert_eq!(state(&backend, &copy), "empty", "{url}");
        let mut again = copy.clone();
        assert_eq!(again.get("/").header("set-cookie"), None, "{url}");
        assert_eq!(again.ask(&[("X-Session-Set", r#"{"b":1}"#)]).row(), "ended-create", "{url}");
        assert_eq!(reads(&backend, &again), r#"{"b":1}"#, "{url}: nothing of before");
        // The oldest cookie leads to the session that went on after it, and a logout under it would end that one.
        let mut old = anonymous.clone();
        assert_eq!(old.ask(&[FLUSH]).row(), "ended-flush", "{url}");
        assert_eq!(sidecar.metric("coatroom_session_loads_total{result=\"unknown\"}"), 0);
    }
}

#[test]
fn a_logout_under_an_old_cookie_ends_what_went_on_after_it() {
    let backend = Backend::obedient();
    let sidecar = sidecar(&backend, |config| config.store.revocations = "memory:".into());
    let mut browser = visitor(&sidecar, r#"{"a":1}"#);
    let mut first = browser.clone();
    assert_eq!(browser.ask(&[CYCLE]).row(), "cycle-key");
    assert_eq!(browser.ask(&[CYCLE]).row(), "cycle-key");
    assert_eq!(state(&backend, &browser), "active");
    assert_eq!(first.ask(&[FLUSH]).row(), "ended-flush");
    assert_eq!((state(&backend, &browser), state(&backend, &first)), ("empty".into(), "empty".into()));
}

/// Nobody knows whether a session lives whose list can't be asked: that is neither yes nor no.
#[test]
fn a_list_that_is_away_makes_sessions_unknown_and_logs_nobody_out_or_in() {
    let backend = Backend::obedient();
    let mut redis = Redis::durable();
    let on = |error| {
        Sidecar::keeping("cookie:", backend.address, |config| {
            sealing(&[1])(config);
            config.store.revocations = redis.url().as_str().into();
            config.store.on_error = error;
        })
    };
    let (strict, lenient) = (on(OnError::Reject), on(OnError::Anonymous));
    let mut browser = visitor(&strict, r#"{"a":1}"#);
    let mut ended = browser.clone();
    assert_eq!(ended.ask(&[FLUSH]).row(), "flush");
    let ended = browser.clone();
    assert_eq!(state(&backend, &ended), "empty");
    browser = visitor(&strict, r#"{"a":1}"#);
    let before = browser.jar.clone();
    redis.kill();
    let asked = backend.seen().len();
    for mut browser in [browser.clone(), ended.clone()] {
        for wanted in [&[][..], &[FLUSH], &[LOGIN]] {
            let reply = browser.ask(wanted);
            assert_eq!((reply.status, &*reply.problem()), (503, "store-unavailable"));
            assert_eq!(reply.header("set-cookie"), None);
        }
    }
    assert_eq!(backend.seen().len(), asked, "the backend is not asked");
    browser.go(lenient.address());
    assert_eq!(state(&backend, &browser), "unavailable");
    for wanted in [FLUSH, CYCLE] {
        let reply = browser.ask(&[wanted]);
        assert_eq!((reply.status, reply.header("set-cookie")), (503, None));
    }
    assert_eq!(browser.ask(&[("X-Session-Set", r#"{"a":2}"#)]).header("set-cookie"), None);
    assert_eq!(browser.jar, before);
    assert_eq!(
        strict.browser().ask(&[("X-Session-Set", r#"{"b":1}"#)]).row(),
        "create",
        "who begins asks nobody"
    );
    redis.restart();
    browser.go(strict.address());
    // Each worker has to find it again.
    let once_served = |browser: &Browser| {
        until(|| (browser.clone().get("/").status == 200).then_some(()));
        backend.last().data().to_owned()
    };
    assert_eq!(once_served(&browser), r#"{"a":1}"#);
    assert_eq!(once_served(&ended), "{}", "and what had ended has ended still");
}

#[test]
fn a_revocation_that_makes_no_sense_is_unknown_for_its_session_alone() {
    let backend = Backend::obedient();
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("revoked");
    let sidecar = Sidecar::keeping("cookie:", backend.address, |config| {
        sealing(&[1])(config);
        config.store.revocations = format!("file://{}", list.display()).as_str().into();
    });
    let (mut one, other) = (visitor(&sidecar, r#"{"a":1}"#), visitor(&sidecar, r#"{"b":1}"#));
    let mut copy = one.clone();
    one.get("/");
    let id = backend.last().header("x-session-id").expect("a session").to_owned();
    assert_eq!(one.ask(&[FLUSH]).row(), "flush");
    let file = list.join(&id[..2]).join(&id);
    let text = fs::read(&file).expect("it is filed under the id");
    let spoilt = String::from_utf8_lossy(&text).replace("revoked F", "revoked ?");
    fs::write(&file, spoilt).expect("it is written");
    let reply = copy.get("/");
    assert_eq!((reply.status, reply.header("set-cookie")), (503, None));
    assert_eq!(reads(&backend, &other), r#"{"b":1}"#);
}

#[test]
fn keys_rotate_without_a_logout_and_a_retired_one_opens_nothing() {
    let backend = Backend::obedient();
    let with = |keys: &[u8]| Sidecar::with(backend.address, sealing(keys));
    let (old, both, new) = (with(&[1]), with(&[2, 1]), with(&[2]));
    let mut browser = visitor(&old, r#"{"a":1}"#);
    let mut retired = browser.clone();
    browser.go(both.address());
    assert_eq!(reads(&backend, &browser), r#"{"a":1}"#);
    assert_eq!(both.metric("coatroom_store_old_seals_total"), 1);
    assert_eq!(browser.ask(&[("X-Session-Set", r#"{"b":2}"#)]).row(), "save");
    browser.go(new.address());
    assert_eq!(reads(&backend, &browser), r#"{"a":1,"b":2}"#);
    retired.go(new.address());
    assert_eq!(state(&backend, &retired), "empty");
    assert_eq!((refused(&new, "unknown_key"), refused(&new, "forged")), (1, 0));
    assert_eq!(new.metric("coatroom_store_old_seals_total"), 0);
}

#[test]
fn a_cookie_is_good_under_its_own_name_and_realm_and_moves_with_previous() {
    let backend = Backend::obedient();
    let one = sidecar(&backend, |_| {});
    let browser = visitor(&one, &big(4500));
    let renamed = |change: &dyn Fn(&mut Config)| {
        sidecar(&backend, |config| {
            config.cookie.name = "sid".to_owned();
            change(config);
        })
    };
    let other = renamed(&|_| {});
    let mut copied = other.browser();
    for (name, value) in &browser.jar {
        copied.jar.insert(name.replace("sessionid", "sid"), value.clone());
    }
    assert_eq!(state(&backend, &copied), "empty");
    assert_eq!(refused(&other, "forged"), 1);
    let realm = sidecar(&backend, |config| config.session.realm = "shop".to_owned());
    let mut stranger = browser.clone();
    stranger.go(realm.address());
    assert_eq!(state(&backend, &stranger), "empty");

    let moving = renamed(&|config| {
        let (name, path) = ("sessionid".to_owned(), "/".to_owned());
        config.cookie.previous = vec![Previous { name, domain: String::new(), path }];
    });
    let mut visitor = browser;
    visitor.go(moving.address());
    let reply = visitor.get("/");
    assert_eq!((reply.row(), backend.last().data()), ("rescope", &*big(4500)));
    assert_eq!(forgotten(&reply), ["sessionid", "sessionid.1"]);
    assert_eq!(visitor.jar.keys().collect::<Vec<_>>(), ["sid", "sid.1"]);
    assert_eq!(reads(&backend, &visitor), big(4500));
}

#[test]
fn nothing_is_cleared_without_a_list_and_with_one_what_has_expired() {
    let backend = Backend::obedient();
    let sweeps = "coatroom_store_operation_duration_seconds_count{operation=\"clear_expired\"}";
    let bare = sidecar(&backend, |_| {});
    bare.until("coatroom_store_up", 1);
    let listed = sidecar(&backend, |config| {
        config.store.revocations = "memory:".into();
        config.store.clear_interval = coatroom::session::policy::Interval::Every(Length::millis(10));
    });
    let mut browser = visitor(&listed, r#"{"a":1}"#);
    assert_eq!(browser.ask(&[FLUSH]).row(), "flush");
    let before = listed.metric(sweeps);
    until(|| (listed.metric(sweeps) > before + 1).then_some(()));
    assert_eq!(bare.metric(sweeps), 0);
    assert_eq!(listed.metric("coatroom_session_expiries_total"), 0, "a revocation is no session");
}

#[test]
fn a_sidecar_without_a_key_or_with_a_bad_list_does_not_start() {
    let why = Sidecar::refusal(sealing(&[]));
    assert!(why.starts_with("store.encryption_keys: "), "{why}");
    let why = Sidecar::refusal(|config| {
        sealing(&[1])(config);
        config.store.revocations = "redis:".into();
    });
    assert!(why.starts_with("store.revocations: "), "{why}");
}
