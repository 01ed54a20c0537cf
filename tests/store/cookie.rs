//! The store that keeps nothing: its token is the session.
//!
//! The suite of stores runs with a list of what has ended. [`EXCEPTIONS`] are the cases that don't hold, each with why.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coatroom::session::directive::Wish;
use coatroom::session::policy::Interval;
use coatroom::session::{Denied, Directive, Expiry, Found, Key, Reason, Revision, Row, Token};
use coatroom::store::engine::{Cleared, Engine};
use coatroom::store::keyed::Rules;
use coatroom::store::memory::Memory;
use coatroom::store::{Config, Decide, Error, Failed, Kind, Outcome, Pending, Store, Unsealed, cookie};
use coatroom::time::Timestamp;
use serde_json::json;

use super::spy::Op::{self, Add, Get};
use super::spy::{Fault, Spy};
use super::support::{AGE, Rig, Shared, ask, counter, length, live, memory, rules, secs, set};

fn counts() -> cookie::Counts {
    cookie::Counts {
        expired: counter(),
        forged: counter(),
        unknown_key: counter(),
        unreadable: counter(),
        old_seals: counter(),
    }
}

/// Browsers before a store whose token is the session: under the first token of a session they show the last one that
/// they were given, as whoever has a cookie does.
struct Browsers {
    store: cookie::Cookie,
    jar: Arc<Mutex<Vec<Held>>>,
}

/// What a browser holds of a session.
struct Held {
    id: Key,
    first: Token,
    last: Token,
}

impl Browsers {
    fn shown(&self, token: &Token) -> Token {
        let jar = self.jar.lock().unwrap_or_else(PoisonError::into_inner);
        let held = jar.iter().find(|held| held.first == *token);
        held.map_or(token, |held| &held.last).clone()
    }

    async fn keep(&self, found: Option<Key>, outcome: &mut Outcome, now: Timestamp) {
        let Some(token) = outcome.minted.clone() else { return };
        if matches!(outcome.row, Row::Save | Row::Rescope | Row::Touch) {
            let mut jar = self.jar.lock().unwrap_or_else(PoisonError::into_inner);
            let held = jar.iter_mut().find(|held| Some(held.id) == found).expect("it was begun");
            (held.last, outcome.minted) = (token, None);
            return;
        }
        let Ok(Found::Live(live)) = self.store.load(&token, now).await else { return };
        let held = Held { id: live.key, first: token.clone(), last: token };
        self.jar.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }
}

impl Store for Browsers {
    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Pending<'a, Result<Found, Error>> {
        Box::pin(async move { self.store.load(&self.shown(token), now).await })
    }

    fn commit(&self, found: Found, decide: Decide, now: Timestamp) -> Pending<'_, Result<Outcome, Failed>> {
        Box::pin(async move {
            let id = if let Found::Live(live) = &found { Some(live.key) } else { None };
            let mut outcome = self.store.commit(found, decide, now).await?;
            self.keep(id, &mut outcome, now).await;
            Ok(outcome)
        })
    }

    fn clear_expired(&self, now: Timestamp, batch: usize) -> Pending<'_, Result<Cleared, Error>> {
        self.store.clear_expired(now, batch)
    }

    fn clears_itself(&self) -> bool {
        self.store.clears_itself()
    }

    fn lease(
        &self,
        had: Option<Revision>,
        now: Timestamp,
        length: Duration,
    ) -> Pending<'_, Result<Option<Revision>, Error>> {
        self.store.lease(had, now, length)
    }

    fn reload(&self, config: &Config, rules: Rules) {
        self.store.reload(config, rules);
    }

    fn ping(&self) -> Pending<'_, Result<(), Error>> {
        self.store.ping()
    }
}

/// Sidecars that seal sessions and keep the list of what has ended on an engine, with browsers before them.
fn listed(engine: impl Engine) -> Rig {
    let (engine, jar) = (Shared::new(engine), Arc::default());
    let rig = Rig::by_sidecars(Arc::new(move |config, codec, _| {
        let rules = rules(config, codec, secs(60));
        let store = cookie::Cookie::with_list(engine.clone(), rules, counts());
        Arc::new(Browsers { store, jar: Arc::clone(&jar) })
    }));
    rig.sealing(&[1], Unsealed::Read)
}

/// What does not hold where nothing is compared.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("n_changes_to_different_entries_all_count", "the last response wins"),
    ("n_increments_of_one_entry_all_count", "the last response wins: `X-Session-Increment` is refused"),
    ("n_increments_from_one_reading_all_count", "the last response wins: `X-Session-Increment` is refused"),
    ("a_touch_never_undoes_a_save", "the last response wins"),
    ("a_change_that_extends_nothing_never_undoes_a_touch", "the last response wins"),
    ("of_n_changes_under_one_version_exactly_one_wins", "`X-Session-If-Version` is refused"),
    ("a_change_under_a_version_that_is_no_more_is_a_conflict", "`X-Session-If-Version` is refused"),
    ("cycle_keys_and_writers_leave_exactly_one_live_token", "it counts increments of many at once"),
    (
        "a_flushed_token_is_remembered_and_any_change_begins_anew",
        "it is remembered for as long as its cookie would live, not for `session.ended_memory`",
    ),
];

#[test]
fn every_case_of_the_suite_holds_or_is_an_exception() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store/store.rs");
    let source = std::fs::read_to_string(path).unwrap();
    let (_, list) = source.split_once("@cases $name, $engine, $settings,").unwrap();
    let (list, _) = list.split_once(");").unwrap();
    let mut all: Vec<_> = list.split_whitespace().map(|case| case.rsplit(':').next().unwrap()).collect();
    let mut known: Vec<_> = CASES.iter().copied().chain(EXCEPTIONS.iter().map(|(case, _)| *case)).collect();
    all.sort_unstable();
    known.sort_unstable();
    assert!(all.len() > 50 && all == known, "{all:?}\n{known:?}");
}

/// Makes a test of each case of the suite that holds here.
macro_rules! cases {
    ($($module:ident :: $case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$module::$case(listed(memory())).await;
            }
        )*
        const CASES: &[&str] = &[$(stringify!($case)),*];
    };
}

cases! {
    store::a_session_that_nobody_began_is_empty
    store::a_request_that_asks_nothing_leaves_no_trace
    store::what_is_set_is_read_by_the_next_request
    store::a_set_of_nothing_saves_as_update_does
    store::entries_keep_the_order_in_which_they_came
    store::numbers_and_text_come_back_as_they_were
    store::a_deleted_entry_is_gone_and_the_others_stay
    store::deleting_what_is_not_there_is_no_change
    store::set_default_sets_what_is_absent_and_leaves_what_is_there
    store::saving_one_entry_keeps_the_others
    store::every_save_makes_a_new_version_and_reading_none
    store::save_alone_saves_and_changes_the_version
    store::clear_empties_a_session_and_keeps_it
    store::the_test_cookie_comes_and_goes
    store::flush_ends_a_session_and_removes_the_cookie
    store::flush_with_data_begins_a_session_of_its_own
    store::cycle_key_keeps_the_data_under_a_new_token
    store::a_made_up_token_is_never_adopted
    store::every_session_has_a_token_of_its_own
    store::two_realms_on_one_engine_cannot_read_each_other
    store::a_session_ends_an_age_after_its_last_change
    store::an_idle_expiry_counts_from_the_last_change
    store::a_fixed_date_ends_a_session_whatever_changes
    store::an_expiry_is_reset_by_default_and_by_clear
    store::expiry_at_browser_close_still_ends_in_the_store
    store::an_expiry_that_has_passed_ends_a_session_at_once
    store::an_expired_session_is_absent_and_counted_once
    store::clearing_removes_expired_sessions_only
    store::the_absolute_timeout_survives_cycle_key_and_flush_starts_anew
    store::a_touch_extends_life_once_an_interval_and_changes_no_version
    store::a_touch_never_moves_a_fixed_date
    store::a_change_to_a_gone_session_can_be_rejected
    store::nothing_is_decided_for_an_ambiguous_or_unknown_session
    store::the_store_answers_a_ping
    races::a_flush_during_a_slow_request_is_final
    races::a_flush_among_writers_is_final
    races::an_expiry_during_a_slow_request_is_final
    races::an_old_token_reads_on_for_the_grace_of_a_cycle
    races::an_old_token_reads_nothing_if_the_user_is_another
    races::an_old_token_reads_nothing_if_its_successor_was_flushed
    races::a_change_under_an_old_token_is_dropped
    races::a_double_clicked_login_gives_both_a_session
    races::a_slow_login_keeps_what_it_read_when_the_grace_is_over
    races::an_entry_that_was_read_and_is_set_again_is_no_login
    races::a_flush_under_an_old_token_ends_the_chain
    races::a_logout_at_the_end_of_a_chain_holds_for_who_read_its_beginning
    races::a_cycle_key_from_what_an_old_token_read_never_outlives_a_logout
    races::a_flush_among_cycle_keys_under_an_old_token_is_final
}

/// Sidecars that seal sessions, whose tokens tests hold themselves.
fn bare(list: Option<Spy<Memory>>) -> Rig {
    let rig = Rig::by_sidecars(Arc::new(move |config, codec, _| {
        let rules = rules(config, codec, secs(1));
        Arc::new(match &list {
            None => cookie::Cookie::new(rules, counts()),
            Some(list) => cookie::Cookie::with_list(list.clone(), rules, counts()),
        })
    }));
    rig.sealing(&[1], Unsealed::Read)
}

fn watched() -> (Spy<Memory>, Rig) {
    let spy = Spy::new(memory());
    (spy.clone(), bare(Some(spy)))
}

/// The error that a commit ends with.
async fn ill(rig: &Rig, found: Found, directive: Directive) -> Kind {
    match rig.commit(found, ask([directive])).await {
        Err(Failed::Store(error)) => error.kind,
        other => panic!("no failed store: {other:?}"),
    }
}

#[tokio::test]
async fn a_load_and_a_save_are_one_get_an_end_is_one_add_and_a_session_that_begins_costs_nothing() {
    let (spy, rig) = watched();
    let mut token = rig.begin(json!({"a": 1})).await;
    assert_eq!(spy.calls(), [], "nobody has shown it yet");
    let mut cost: Vec<(Row, Vec<Op>)> = Vec::new();
    for directives in [
        vec![],
        vec![set(json!({"a": 2}))],
        vec![Directive::CycleKey],
        vec![Directive::Flush, set(json!({"b": 1}))],
        vec![Directive::Flush],
    ] {
        let found = rig.load(&token).await;
        assert_eq!(spy.calls(), [Get]);
        let outcome = rig.commit(found, ask(directives)).await.unwrap();
        cost.push((outcome.row, spy.calls()));
        token = outcome.minted.unwrap_or(token);
    }
    let rows = cost.iter().map(|(row, _)| row.name()).collect::<Vec<_>>();
    assert_eq!(rows, ["nothing", "save", "cycle-key", "flush-with-data", "flush"]);
    let calls = cost.into_iter().map(|(_, calls)| calls).collect::<Vec<_>>();
    assert_eq!(calls, [vec![], vec![Get], vec![Add], vec![Add], vec![Add]]);
    let forged = Token::of_sealed(vec![b'c', b'1', 0]);
    assert_eq!(
        (rig.load(&forged).await, spy.calls()),
        (Found::No, vec![]),
        "what is not ours is asked of nobody"
    );
}

#[tokio::test]
async fn a_save_and_a_touch_make_another_token_of_the_same_session() {
    let rig = bare(None).with(|config| {
        config.save_every_request = true;
        config.touch_interval = Interval::Every(length(0));
    });
    let first = rig.begin(json!({"a": 1})).await;
    let before = live(rig.load(&first).await);
    rig.wait(secs(60));
    let touched = rig.request(&first, []).await;
    assert_eq!(touched.row, Row::Touch);
    let after = live(rig.load(&touched.minted.unwrap()).await);
    assert_eq!(after.until, rig.now().plus(AGE));
    assert_eq!((after.key, after.revision, &after.record), (before.key, before.revision, &before.record));
    let saved = rig.request(&first, [set(json!({"a": 2}))]).await.minted.unwrap();
    let after = live(rig.load(&saved).await);
    assert_eq!((after.key, after.revision == before.revision), (before.key, false));
    assert_eq!(
        live(rig.load(&first).await),
        before,
        "the old one is as it was: nobody has heard of the new one"
    );
}

#[tokio::test]
async fn no_session_lives_longer_than_a_browser_would_keep_it() {
    let rig = bare(None);
    let token = rig.begin(json!({"a": 1})).await;
    let far = Directive::Expiry(Wish::So(Expiry::At(rig.now().plus(secs(10_000 * 24 * 3600)))));
    let token = rig.request(&token, [far]).await.minted.unwrap();
    assert_eq!(live(rig.load(&token).await).until, rig.now().plus(secs(400 * 24 * 3600)));
}

#[tokio::test]
async fn a_session_that_browsers_would_not_take_is_refused_though_nothing_was_added() {
    let rig = bare(None);
    let token = rig.begin(json!({"a": 1})).await;
    let found = rig.load(&token).await;
    let large = rig.commit(found, ask([set(json!({"b": "x".repeat(8192)}))])).await;
    let Err(Failed::Denied(Denied::Refused(refusal))) = large else { panic!("{large:?}") };
    assert_eq!(refusal.reason, Reason::TooLarge);
}

/// The copy that is about longest is one that another response renewed.
#[tokio::test]
async fn a_revocation_lasts_until_the_last_copy_has_expired() {
    let (_, rig) = watched();
    let rig = rig.with(|config| {
        config.save_every_request = true;
        config.touch_interval = Interval::Every(length(0));
    });
    let first = rig.begin(json!({"a": 1})).await;
    rig.wait(AGE - secs(10));
    let found = rig.load(&first).await;
    let renewed = rig.request(&first, []).await.minted.unwrap();
    assert_eq!(rig.commit(found, ask([Directive::Flush])).await.unwrap().row, Row::Flush);
    rig.wait(AGE - secs(1));
    assert!(matches!(rig.load(&renewed).await, Found::Ended(_)));
    rig.wait(secs(1));
    assert_eq!(rig.load(&renewed).await, Found::No, "it expires before what is known of it does");
}

/// An expiry for so many days from the last change on; 0 is that of the settings.
fn days(days: u64) -> Directive {
    let expiry = if days == 0 { Expiry::Default } else { Expiry::Idle(days * 24 * 3600) };
    Directive::Expiry(Wish::So(expiry))
}

/// A logout reckons with cookies that the one it is shown tells nothing of: what came of it, and what it came of.
#[tokio::test]
async fn a_revocation_outlasts_a_cookie_that_was_made_longer_or_shorter_meanwhile() {
    for expiries in [&[0, 300][..], &[300, 1], &[1, 300], &[0, 300, 1], &[300, 1, 399]] {
        for fault in [None, Some(Fault::DoneBroken), Some(Fault::Broken)] {
            let (spy, rig) = watched();
            let begun = rig.commit(Found::No, ask([set(json!({"a": 1})), days(expiries[0])])).await;
            let mut copies = vec![begun.unwrap().minted.unwrap()];
            for expiry in &expiries[1..] {
                let last = copies.last().expect("one");
                copies.push(rig.request(last, [days(*expiry)]).await.minted.unwrap());
            }
            if let Some(fault) = fault {
                spy.fail(Add, fault.clone());
                spy.fail(Op::Replace, fault);
            }
            let [.., shown, made] = &copies[..] else { unreachable!("two at least") };
            let late = rig.load(shown).await;
            assert_eq!(rig.request(made, [Directive::Flush]).await.row, Row::Flush);
            assert_eq!(rig.commit(late, ask([days(399)])).await.unwrap().row, Row::Gone);
            for _ in 0..399 {
                rig.wait(secs(24 * 3600));
                for copy in &copies {
                    let found = rig.load(copy).await;
                    assert!(!matches!(found, Found::Live(_)), "{expiries:?}: {found:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_logout_under_the_cookie_of_before_ends_the_longer_one_too_whichever_comes_first() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    let (logout, longer) = (rig.load(&token).await, rig.load(&token).await);
    spy.calls();
    let long = rig.commit(longer.clone(), ask([days(300)])).await.unwrap().minted.unwrap();
    assert_eq!(spy.calls(), [Add], "it is noted, and nothing else is asked");
    assert_eq!(rig.commit(logout.clone(), ask([Directive::Flush])).await.unwrap().row, Row::Flush);
    assert_eq!(spy.calls(), [Add, Get, Op::Replace]);
    assert_eq!(rig.commit(longer, ask([days(300)])).await.unwrap().row, Row::Gone);
    rig.wait(secs(299 * 24 * 3600));
    assert!(matches!(rig.load(&long).await, Found::Ended(_)));
}

/// A cookie tells how long those of its time are good for, whatever `cookie.age` is when it is shown.
#[tokio::test]
async fn a_revocation_reckons_with_the_age_that_was_and_one_that_differs_is_noted() {
    let hour = secs(3600);
    for (age, noted) in [(secs(60), false), (AGE, false), (10 * AGE, true)] {
        let (spy, rig) = watched();
        let (old, saved) = (rig.begin(json!({"a": 1})).await, rig.begin(json!({"b": 1})).await);
        let mut reloaded = rules(&rig.config, &rig.codec, secs(60));
        reloaded.cookies.age = age;
        rig.store.reload(&Config::default(), reloaded);
        rig.wait(secs(10));
        let keys = [live(rig.load(&old).await).key, live(rig.load(&saved).await).key];
        assert_eq!(rig.request(&old, [Directive::Flush]).await.row, Row::Flush);
        assert_eq!(rig.request(&saved, [set(json!({"b": 2}))]).await.row, Row::Save);
        let [revoked, other] = [spy.engine().get(&keys[0]).await, spy.engine().get(&keys[1]).await];
        assert_eq!(revoked.unwrap().map(|there| there.until), Some(rig.now().plus(AGE + hour)));
        // The ends of these sessions are an hour away still, whatever age is sealed.
        assert_eq!(other.unwrap().is_some(), noted, "{age:?}");
    }
}

#[tokio::test]
async fn clocks_that_are_apart_make_no_difference_and_dates_that_are_do() {
    let (spy, rig) = watched();
    let behind = rig.clone().by(coatroom::time::Clock::stopped_at(rig.now().minus(secs(60))));
    let token = rig.begin(json!({"a": 1})).await;
    let token = behind.request(&token, [set(json!({"a": 2}))]).await.minted.unwrap();
    let token = rig.request(&token, [set(json!({"a": 3}))]).await.minted.unwrap();
    assert!(!spy.calls().contains(&Add));
    let until =
        |secs: u64| Directive::Expiry(Wish::So(Expiry::At(rig.now().plus(Duration::from_secs(secs)))));
    let token = rig.request(&token, [until(3600)]).await.minted.unwrap();
    spy.engine().clear_expired(Timestamp::MAX, usize::MAX).await.unwrap();
    spy.calls();
    rig.request(&token, [until(3601)]).await;
    assert!(spy.calls().contains(&Add), "a date that moves on a second at a time comes to be a year");
}

#[tokio::test]
async fn a_logout_whose_answer_was_lost_is_one() {
    for fault in [Fault::DoneBroken, Fault::DoneTimeout, Fault::Broken] {
        let (spy, rig) = watched();
        let token = rig.begin(json!({"a": 1})).await;
        let found = rig.load(&token).await;
        spy.fail(Add, fault);
        assert_eq!(rig.commit(found, ask([Directive::Flush])).await.unwrap().row, Row::Flush);
        assert!(spy.is_spent());
        assert!(matches!(rig.load(&token).await, Found::Ended(_)));
    }
}

#[tokio::test]
async fn a_logout_that_cannot_be_noted_is_none_and_one_of_which_nobody_knows_is_unknown() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    let found = rig.load(&token).await;
    for (faults, kind) in [
        (vec![Fault::Unreachable], Kind::Unreachable),
        (vec![Fault::Full], Kind::OutOfMemory),
        (vec![Fault::Broken, Fault::Broken], Kind::OutcomeUnknown),
        (vec![Fault::Broken, Fault::Unreachable], Kind::OutcomeUnknown),
    ] {
        for directive in [Directive::Flush, Directive::CycleKey] {
            faults.iter().for_each(|fault| spy.fail(Add, fault.clone()));
            assert_eq!(ill(&rig, found.clone(), directive).await, kind);
            assert!(spy.is_spent());
        }
    }
    assert!(matches!(rig.load(&token).await, Found::Live(_)), "nothing was done");
}

/// Of two who end a session at once one does; the other finds it ended, and a session of its own is made by nobody.
#[tokio::test]
async fn a_session_ends_once() {
    let (_, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    let found = rig.load(&token).await;
    assert_eq!(rig.commit(found.clone(), ask([Directive::Flush])).await.unwrap().row, Row::Flush);
    let late = rig.commit(found.clone(), ask([Directive::CycleKey])).await.unwrap();
    assert_eq!((late.row, late.minted), (Row::Gone, None));
    let again = rig.commit(found, ask([Directive::Flush])).await.unwrap();
    assert_eq!(again.row, Row::EndedFlush);
}

#[tokio::test]
async fn a_list_that_cannot_be_asked_makes_a_session_unknown() {
    let (spy, rig) = watched();
    let token = rig.begin(json!({"a": 1})).await;
    let found = rig.load(&token).await;
    spy.fail(Get, Fault::Broken);
    assert_eq!(rig.store.load(&token, rig.now()).await.unwrap_err().kind, Kind::Broken);
    spy.fail(Get, Fault::Unreachable);
    assert_eq!(ill(&rig, found, set(json!({"a": 2}))).await, Kind::Unreachable);
    assert_eq!(rig.data(&token).await, Some(json!({"a": 1})));
}

#[tokio::test]
async fn without_a_list_there_is_nothing_to_clear_and_nobody_to_ask() {
    let rig = bare(None);
    assert!(rig.store.clears_itself());
    assert_eq!(rig.store.clear_expired(rig.now(), 10).await, Ok(Cleared::default()));
    assert_eq!(rig.store.ping().await, Ok(()));
    let (spy, listed) = watched();
    assert!(!listed.store.clears_itself());
    spy.fail(Op::Ping, Fault::Unreachable);
    assert_eq!(listed.store.ping().await.unwrap_err().kind, Kind::Unreachable);
}
