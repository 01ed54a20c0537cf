//! Section 7 of the contract on a real Redis that is there, but ill: it answers nothing, or takes nothing.

use std::time::Duration;

use coatroom::config::Config;
use coatroom::proxy::routes;
use coatroom::session::Mode;
use coatroom::store::OnError::{self, Anonymous, Reject};
use coatroom::time::Length;

use super::outage::{CYCLE, FLUSH, IF_VERSION, LOGIN, PAST, SET, during, is_as_before, on, visitor};
use crate::support::child::until;
use crate::support::{Backend, Redis, Reply};

/// Either way of saying that the response's changes are not saved, with a cookie that is left alone.
fn is_refused(reply: &Reply) {
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
    assert!(["store-unavailable", "outcome-unknown"].contains(&&*reply.problem()), "{reply:?}");
    assert_eq!(reply.header("set-cookie"), None);
}

/// The backend's response, with no word on its session.
fn has_passed(reply: &Reply) {
    assert_eq!(
        (reply.status, reply.row(), reply.header("set-cookie")),
        (200, "unavailable", None),
        "{reply:?}"
    );
}

/// What becomes of a response whose session may be lost.
fn is_lost(reply: &Reply, error: OnError) {
    if error == Anonymous { has_passed(reply) } else { is_refused(reply) }
}

#[test]
fn a_server_that_answers_nothing_costs_a_request_its_budget_and_no_session() {
    for error in [Reject, Anonymous] {
        let backend = Backend::obedient();
        let (redis, sidecar, mut browser) = visitor(&backend, on(error));
        redis.signal("STOP");
        is_lost(&browser.get("/"), error);
        is_lost(&browser.ask(&[SET]), error);
        assert!(sidecar.metric("coatroom_store_errors_total{kind=\"timeout\",operation=\"load\"}") > 0);
        redis.signal("CONT");
        is_as_before(redis, &sidecar, &backend, &mut browser);
    }
}

#[test]
fn a_write_that_is_never_answered_is_a_503_and_without_a_cookie_in_any_case() {
    for (error, wanted, passes) in [
        (Reject, SET, false),
        (Reject, FLUSH, false),
        (Anonymous, SET, true),
        (Anonymous, FLUSH, false),
        (Anonymous, CYCLE, false),
    ] {
        let (backend, gate) = Backend::slow();
        let (mut redis, _sidecar, browser) = visitor(&backend, on(error));
        let reply = during(&mut redis, &browser, &gate, &[wanted], |redis| redis.signal("STOP"));
        if passes {
            has_passed(&reply)
        } else {
            is_refused(&reply)
        }
        redis.signal("CONT");
    }
}

/// What is answered at once, however ill, is answered in time on a slow machine too.
fn patient(config: &mut Config) {
    (config.store.timeout, config.store.commit_timeout) = (Length::secs(10), Length::secs(10));
}

/// Every wish of a response, and whether `anonymous` lets it pass unsaved.
const WISHES: [(&[(&str, &str)], bool); 8] = [
    (&[SET], true),
    (&[("X-Session-Save", "true")], true),
    (&[("X-Session-Increment", "{\"n\":1}")], true),
    (&[CYCLE], false),
    (&[CYCLE, SET], false),
    (&[LOGIN], false),
    (&[FLUSH, SET], false),
    (&[IF_VERSION, SET], false),
];

/// Asks for everything of a server that can be read and takes no write.
fn takes_nothing(error: OnError, ill: fn(&Redis), well: fn(&Redis)) {
    let backend = Backend::obedient();
    let (redis, sidecar, mut browser) = visitor(&backend, |config| {
        on(error)(config);
        patient(config);
    });
    browser.get("/");
    let version = backend.last().header("x-session-version").expect("a session").to_owned();
    ill(&redis);
    let reply = browser.get("/");
    assert_eq!((reply.status, reply.row(), backend.last().data()), (200, "nothing", "{\"a\":1}"));
    is_lost(&sidecar.browser().ask(&[SET]), error);
    for (wanted, passes) in WISHES {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(name, value)| (*name, if *name == IF_VERSION.0 { &*version } else { value }))
            .collect();
        let reply = browser.ask(&wanted);
        is_lost(&reply, if passes { error } else { Reject });
        assert_eq!(backend.last().data(), "{\"a\":1}", "nothing of {wanted:?} is applied");
    }
    well(&redis);
    is_as_before(redis, &sidecar, &backend, &mut browser);
}

fn full(redis: &Redis) {
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
}

fn roomy(redis: &Redis) {
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
}

#[test]
fn a_server_that_is_full_is_read_and_what_it_does_not_take_is_refused() {
    takes_nothing(Reject, full, roomy);
}

#[test]
fn a_server_that_is_full_is_read_and_anonymous_lets_pass_what_may_be_lost() {
    takes_nothing(Anonymous, full, roomy);
}

/// Nobody's: it keeps what it has.
fn replica(redis: &Redis) {
    redis.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
}

fn master(redis: &Redis) {
    redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
}

#[test]
fn a_server_that_has_become_a_replica_takes_nothing_either() {
    takes_nothing(Reject, replica, master);
    takes_nothing(Anonymous, replica, master);
}

#[test]
fn a_logout_needs_no_room() {
    let backend = Backend::obedient();
    for (error, wanted) in [(Reject, FLUSH), (Anonymous, FLUSH), (Anonymous, PAST)] {
        let (redis, _sidecar, mut browser) = visitor(&backend, |config| {
            on(error)(config);
            patient(config);
        });
        full(&redis);
        let mut other = browser.clone();
        assert_eq!(browser.ask(&[wanted]).status, 200);
        assert_eq!(browser.token(), None);
        other.get("/");
        assert_eq!(backend.last().header("x-session-state"), Some("empty"));
    }
}

#[test]
fn routes_need_the_store_as_far_as_they_have_a_session() {
    let backend = Backend::obedient();
    let route = |path: &str, session| routes::Config { path: path.to_owned(), methods: Vec::new(), session };
    for error in [Reject, Anonymous] {
        let (mut redis, sidecar, mut browser) = visitor(&backend, |config| {
            on(error)(config);
            config.routes =
                vec![route("/off", Mode::Off), route("/read", Mode::Read), route("/no-touch", Mode::NoTouch)];
        });
        redis.kill();
        let reply = browser.ask_at("/off", &[FLUSH]);
        assert_eq!((reply.status, reply.header("set-cookie")), (200, None));
        assert_eq!(backend.last().header("x-session-state"), None);
        for (path, wanted) in [("/read", SET), ("/read", FLUSH), ("/no-touch", SET)] {
            is_lost(&browser.ask_at(path, &[wanted]), error);
        }
        is_refused(&browser.ask_at("/no-touch", &[FLUSH]));
        is_as_before(redis, &sidecar, &backend, &mut browser);
    }
}

#[test]
fn a_backend_that_fails_too_says_so_itself_unless_it_asks_for_a_logout() {
    let backend = Backend::obedient();
    let (mut redis, sidecar, mut browser) = visitor(&backend, on(Anonymous));
    redis.kill();
    let reply = browser.ask(&[("Status", "500"), SET]);
    assert_eq!((reply.status, reply.row(), reply.header("set-cookie")), (500, "server-error", None));
    is_refused(&browser.ask(&[("Status", "500"), FLUSH]));
    let malformed = browser.ask(&[("X-Session-Set", "no JSON")]);
    assert_eq!((malformed.status, &*malformed.problem()), (502, "directive-refused"));
    is_refused(&browser.ask(&[LOGIN]));
    is_as_before(redis, &sidecar, &backend, &mut browser);
}

#[test]
fn a_life_that_cannot_be_prolonged_is_refused_or_passes_and_a_cookie_that_cannot_be_renewed_is_left() {
    for error in [Reject, Anonymous] {
        let (backend, gate) = Backend::slow();
        let (mut redis, sidecar, mut browser) = visitor(&backend, |config| {
            on(error)(config);
            config.session.save_every_request = true;
            // Each has its connection, and reads again at its own time.
            config.proxy.workers = 1;
        });
        has_passed(&during(&mut redis, &browser, &gate, &[], Redis::kill));
        redis.restart();
        until(|| (browser.get("/").status == 200).then_some(()));
        sidecar.wind(Duration::from_secs(1000));
        is_lost(&during(&mut redis, &browser, &gate, &[], Redis::kill), error);
        is_as_before(redis, &sidecar, &backend, &mut browser);
    }
}
