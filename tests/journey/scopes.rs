//! Section 6 of the contract: several cookies of our name, and scopes that cookies were issued under before.
//!
//! Sidecars of different settings share a store here, so each is no more than its jar and its manager.

use std::sync::Arc;
use std::time::Duration;

use coatroom::manager::{Manager, Tell};
use coatroom::session::{Changes, Directive, Found, Limits, Mode, Policy, Reason, Revision, Token};
use coatroom::store::codec::Codec;
use coatroom::store::engine::Cleared;
use coatroom::store::{self, Decide, Failed, OnError, Outcome, Pending, Store, cached, keyed};
use coatroom::telemetry::metrics::{CacheResult, CookieRefused, Metrics};
use coatroom::time::Timestamp;
use coatroom::wire::cookie::{Config, Previous};
use coatroom::wire::jar::Jar;
use http::header::{COOKIE, HeaderMap, HeaderValue};

use crate::support::sidecar::NOW;

fn shelf() -> Arc<dyn Store> {
    let session = coatroom::session::Config::default();
    let rules = keyed::Rules {
        realm: String::new(),
        cycle_on: session.cycle_on,
        grace: session.grace.0,
        ended_memory: session.ended_memory.0,
        keep_expired: session.keep_expired.0,
        commit_timeout: Duration::from_secs(1),
        codec: Codec::default(),
        cookies: store::cookie::Terms::default(),
    };
    let metrics = metrics();
    let counts = store::Counts {
        expiries: metrics.expiries.clone(),
        evictions: metrics.evictions.clone(),
        moved: metrics.moved.clone(),
        conflicts: metrics.conflicts.clone(),
        old_seals: metrics.old_seals.clone(),
        connections: metrics.store_connections.clone(),
        cache: cached::Counts {
            hits: metrics.cache(CacheResult::Hit),
            misses: metrics.cache(CacheResult::Miss),
            errors: metrics.cache(CacheResult::Error),
            waits: metrics.cache(CacheResult::Wait),
            unsettled: metrics.cache(CacheResult::Unsettled),
        },
        cookies: store::cookie::Counts {
            expired: metrics.cookie_refused(CookieRefused::Expired),
            forged: metrics.cookie_refused(CookieRefused::Forged),
            unknown_key: metrics.cookie_refused(CookieRefused::UnknownKey),
            unreadable: metrics.cookie_refused(CookieRefused::Unreadable),
            old_seals: metrics.old_seals.clone(),
        },
    };
    store::open(&store::Config::default(), rules, &counts).expect("memory")
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&Reason::ALL.map(Reason::label), &store::Kind::ALL.map(store::Kind::label)))
}

/// What is left of a sidecar without its sockets.
struct Door {
    jar: Jar,
    manager: Manager,
}

/// What became of one exchange.
#[derive(Debug)]
struct Done {
    /// The data that the backend read; nothing where it read none.
    data: String,
    /// The row of the decision table.
    row: &'static str,
    /// The `Set-Cookie` lines.
    cookies: Vec<String>,
}

fn door(store: &Arc<dyn Store>, change: impl FnOnce(&mut Config)) -> Door {
    let reject = store::Config::default();
    door_with(store, change, &reject)
}

fn door_with(store: &Arc<dyn Store>, change: impl FnOnce(&mut Config), config: &store::Config) -> Door {
    let mut cookie = Config::default();
    change(&mut cookie);
    let jar = Jar::new(&cookie).expect("good settings");
    let limits = Limits { max_bytes: 65_536, max_keys: 256, max_depth: 32, budget: None, cookies: None };
    let session = coatroom::session::Config::default();
    let policy = Arc::new(Policy::new(&session, cookie.age.0, jar.scope(), limits));
    let manager = Manager::new(store.clone(), policy, jar.previous(), config, metrics());
    Door { jar, manager }
}

impl Door {
    fn exchange(&self, line: &str, mode: Mode, server_error: bool, asked: &[Directive]) -> Done {
        self.overtaken(line, mode, server_error, asked, || {})
    }

    /// The same, with something that happens while the backend is busy.
    fn overtaken(
        &self,
        line: &str,
        mode: Mode,
        server_error: bool,
        asked: &[Directive],
        meanwhile: impl FnOnce(),
    ) -> Done {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::try_from(line).expect("a value"));
        let shown = self.jar.take(&mut headers);
        let mut changes = Changes::default();
        asked.iter().cloned().for_each(|directive| changes.push(directive));
        let session = runtime.block_on(self.manager.load(mode, &shown, NOW)).expect("memory answers");
        let data = session.reads().map(|live| live.record.data.text().to_vec()).unwrap_or_default();
        meanwhile();
        let told = runtime.block_on(self.manager.commit(session, changes, server_error, NOW));
        let told = told.expect("it is committed");
        let cookie = match &told.cookie {
            Tell::Leave => None,
            Tell::Set(token, lifetime) => Some(self.jar.set(token, *lifetime, 0, false, NOW)),
            Tell::Remove => Some(self.jar.remove(0, false)),
        };
        let lines = cookie.into_iter().flatten().chain(self.jar.remove_previous(&told.stale, 0, false));
        Done {
            data: String::from_utf8(data).expect("ASCII"),
            row: told.row.map_or("-", coatroom::session::Row::name),
            cookies: lines.map(|line| line.to_str().expect("ASCII").to_owned()).collect(),
        }
    }

    fn get(&self, line: &str) -> Done {
        self.exchange(line, Mode::On, false, &[])
    }

    /// A session that holds `{"n":n}`; its token.
    fn session(&self, n: u32) -> String {
        let made = self.exchange("", Mode::On, false, &[set(n)]);
        made.cookies[0].split(['=', ';']).nth(1).expect("a token").to_owned()
    }
}

fn set(n: u32) -> Directive {
    Directive::Set(serde_json::from_str(&format!("{{\"n\":{n}}}")).expect("an object"))
}

fn previous(name: &str, domain: &str, path: &str) -> Previous {
    Previous { name: name.to_owned(), domain: domain.to_owned(), path: path.to_owned() }
}

const REMOVED: &str = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax";

#[test]
fn a_session_of_a_previous_scope_counts_moves_and_its_old_cookie_is_removed() {
    type Change = fn(&mut Config);
    let moves: [(Change, Change, &str); 4] = [
        // the settings of before; those of today; what removes the old cookie
        (
            |old| old.name = "sid".to_owned(),
            |new| new.previous = vec![previous("sid", "", "/")],
            "sid=; Path=/; ",
        ),
        (
            |old| old.path = "/shop".to_owned(),
            |new| new.previous = vec![previous("sessionid", "", "/shop")],
            "sessionid=; Path=/shop; ",
        ),
        (
            |old| old.domain = ".shop.test".to_owned(),
            |new| new.previous = vec![previous("sessionid", "shop.test", "/")],
            "sessionid=; Domain=shop.test; Path=/; ",
        ),
        (
            |old| old.name = "b".to_owned(),
            |new| new.previous = vec![previous("a", "", "/"), previous("b", "", "/")],
            "b=; Path=/; ",
        ),
    ];
    for (before, now, removes) in moves {
        let store = shelf();
        let (old, new) = (door(&store, before), door(&store, now));
        let token = old.session(7);
        let name = removes.split('=').next().expect("a name");
        let first = new.get(&format!("{name}={token}"));
        assert_eq!((&*first.data, first.row), (r#"{"n":7}"#, "rescope"), "{removes}");
        assert_eq!(first.cookies.len(), 2, "{first:?}");
        assert!(first.cookies[0].starts_with(&format!("sessionid={token}; Path=/; Max-Age=1209600; ")));
        assert_eq!(first.cookies[1], format!("{removes}{REMOVED}"));
        let second = new.get(&format!("sessionid={token}"));
        assert_eq!(
            (&*second.data, second.row, second.cookies.len()),
            (r#"{"n":7}"#, "nothing", 0),
            "once only"
        );
    }
}

#[test]
fn a_previous_scope_counts_only_if_no_current_one_does() {
    let store = shelf();
    let old = door(&store, |config| config.name = "sid".to_owned());
    let new = door(&store, |config| config.previous = vec![previous("sid", "", "/")]);
    let (before, today) = (old.session(1), new.session(2));
    for line in [format!("sid={before}; sessionid={today}"), format!("sessionid={today}; sid={before}")] {
        let done = new.get(&line);
        assert_eq!((&*done.data, done.row), (r#"{"n":2}"#, "nothing"), "{line}");
        assert_eq!(done.cookies, [format!("sid=; Path=/; {REMOVED}")], "the old one goes all the same");
    }
    for unusable in ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "malformed"] {
        let store_line = format!("sessionid={unusable}; sid={before}");
        let done = new.get(&store_line);
        assert_eq!(done.data, r#"{"n":1}"#, "{unusable} is no session");
    }
}

#[test]
fn of_several_previous_scopes_the_first_listed_counts_and_two_of_one_are_ambiguous() {
    let store = shelf();
    let (first, second) = (
        door(&store, |config| config.name = "one".to_owned()),
        door(&store, |config| config.name = "two".to_owned()),
    );
    let new =
        door(&store, |config| config.previous = vec![previous("one", "", "/"), previous("two", "", "/")]);
    let (one, other, two) = (first.session(1), first.session(11), second.session(2));
    assert_eq!(new.get(&format!("one={one}; one={other}; two={two}")).row, "ambiguous");
    let done = new.get(&format!("two={two}; one={one}"));
    assert_eq!((&*done.data, done.row, done.cookies.len()), (r#"{"n":1}"#, "rescope", 3), "{done:?}");
}

#[test]
fn a_scope_that_nobody_lists_counts_for_nothing() {
    let store = shelf();
    let elsewhere = door(&store, |config| config.path = "/elsewhere".to_owned());
    let new = door(&store, |_| {});
    let (tossed, mine) = (elsewhere.session(1), new.session(2));
    let done = new.get(&format!("sessionid={tossed}; sessionid={mine}"));
    assert_eq!((&*done.data, done.row), (r#"{"n":2}"#, "nothing"), "those of the current scope win");
    let alone = new.get(&format!("sessionid={tossed}"));
    assert_eq!((&*alone.data, alone.row), ("", "nothing-to-keep"));
}

#[test]
fn a_dead_cookie_of_a_previous_name_is_removed_with_todays() {
    let store = shelf();
    let new =
        door(&store, |config| config.previous = vec![previous("sid", "", "/"), previous("sid", "", "/x")]);
    for dead in ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "malformed"] {
        let done = new.get(&format!("sid={dead}"));
        assert_eq!(done.row, "nothing-to-keep");
        let removed = ["sessionid=; Path=/; ", "sid=; Path=/; ", "sid=; Path=/x; "];
        assert_eq!(done.cookies, removed.map(|cookie| format!("{cookie}{REMOVED}")), "wherever it may lie");
    }
}

#[test]
fn a_response_that_may_change_no_cookie_leaves_the_old_ones_too() {
    let store = shelf();
    let old = door(&store, |config| config.name = "sid".to_owned());
    let new = door(&store, |config| config.previous = vec![previous("sid", "", "/")]);
    let (one, two) = (old.session(1), old.session(2));
    let failed = new.exchange(&format!("sid={one}"), Mode::On, true, &[set(9)]);
    assert_eq!((&*failed.data, failed.row, failed.cookies.len()), (r#"{"n":1}"#, "server-error", 0));
    let ambiguous = new.get(&format!("sid={one}; sid={two}"));
    assert_eq!((ambiguous.row, ambiguous.cookies.len()), ("ambiguous", 0));
    let off = new.exchange(&format!("sid={one}"), Mode::Off, false, &[]);
    assert_eq!((off.row, off.cookies.len()), ("-", 0));
    old.exchange(&format!("sid={one}"), Mode::On, false, &[Directive::CycleKey]);
    let ended = new.get(&format!("sid={one}"));
    assert_eq!((&*ended.data, ended.row, ended.cookies.len()), (r#"{"n":1}"#, "nothing", 0));
}

#[test]
fn a_change_moves_the_session_with_it() {
    let store = shelf();
    let old = door(&store, |config| config.name = "sid".to_owned());
    let new = door(&store, |config| config.previous = vec![previous("sid", "", "/")]);
    let cases: [(&[Directive], &str, usize); 4] = [
        (&[set(5)], "save", 2),
        (&[Directive::CycleKey], "cycle-key", 2),
        (&[Directive::Flush], "flush", 2),
        (&[Directive::Flush, set(5)], "flush-with-data", 2),
    ];
    for (asked, row, cookies) in cases {
        let token = old.session(1);
        let done = new.exchange(&format!("sid={token}"), Mode::On, false, asked);
        assert_eq!((done.row, done.cookies.len()), (row, cookies), "{asked:?}: {done:?}");
        assert_eq!(done.cookies[1], format!("sid=; Path=/; {REMOVED}"), "{asked:?}");
        let today = done.cookies[0].split(['=', ';']).nth(1).expect("a value");
        if !today.is_empty() {
            let next = new.get(&format!("sessionid={today}"));
            assert_eq!((next.row, next.cookies.len()), ("nothing", 0), "{asked:?}");
        }
    }
}

#[test]
fn a_session_that_was_ended_meanwhile_keeps_the_cookies_that_there_are() {
    let store = shelf();
    let old = door(&store, |config| config.name = "sid".to_owned());
    let new = door(&store, |config| config.previous = vec![previous("sid", "", "/")]);
    for (asked, row) in [(&[set(5)][..], "gone"), (&[], "nothing"), (&[Directive::Flush], "ended-flush")] {
        for ending in [Directive::Flush, Directive::CycleKey] {
            let line = format!("sid={}", old.session(1));
            let done = new.overtaken(&line, Mode::On, false, asked, || {
                old.exchange(&line, Mode::On, false, std::slice::from_ref(&ending));
            });
            assert_eq!((done.row, done.cookies.len()), (row, 0), "{asked:?} after {ending:?}: {done:?}");
        }
    }
}

/// A store that can be read only.
struct ReadOnly(Arc<dyn Store>);

impl Store for ReadOnly {
    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Pending<'a, Result<Found, store::Error>> {
        self.0.load(token, now)
    }

    fn commit(&self, _: Found, _: Decide, _: Timestamp) -> Pending<'_, Result<Outcome, Failed>> {
        let error = store::Error::new(store::Kind::Refused, "it is read-only");
        Box::pin(async { Err(Failed::Store(error)) })
    }

    fn reload(&self, _: &store::Config, _: keyed::Rules) {}

    fn clear_expired(&self, now: Timestamp, batch: usize) -> Pending<'_, Result<Cleared, store::Error>> {
        self.0.clear_expired(now, batch)
    }

    fn clears_itself(&self) -> bool {
        self.0.clears_itself()
    }

    fn lease(
        &self,
        had: Option<Revision>,
        now: Timestamp,
        length: Duration,
    ) -> Pending<'_, Result<Option<Revision>, store::Error>> {
        self.0.lease(had, now, length)
    }

    fn ping(&self) -> Pending<'_, Result<(), store::Error>> {
        self.0.ping()
    }
}

#[test]
fn an_outage_removes_no_cookie_of_a_session_that_could_not_be_moved() {
    let store = shelf();
    let old = door(&store, |config| config.name = "sid".to_owned());
    let read_only: Arc<dyn Store> = Arc::new(ReadOnly(store.clone()));
    let lenient = store::Config { on_error: OnError::Anonymous, ..store::Config::default() };
    let new = door_with(&read_only, |config| config.previous = vec![previous("sid", "", "/")], &lenient);
    let token = old.session(1);
    let done = new.get(&format!("sid={token}"));
    assert_eq!((&*done.data, done.row, done.cookies.len()), (r#"{"n":1}"#, "unavailable", 0), "{done:?}");
}
