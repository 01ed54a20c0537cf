//! The races of the contract's section 5, run against every engine by [`super::store`].
//!
//! Where tasks race, they do so on two sidecars that share the engine, so that commits meet both in one lane and in
//! the compare-and-swap of the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use coatroom::session::directive::Wish;
use coatroom::session::policy::OnSwitch;
use coatroom::session::{Asked, Cookie, Directive, Expiry, Found, Key, Row, Token};
use coatroom::store::{Failed, Outcome};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::support::{AGE, Rig, ask, delete, increment, length, live, only_if, secs, set};

/// Runs so many tasks at once, every other one on a sidecar of its own, and returns what they made.
async fn at_once<T, F>(rig: &Rig, tasks: usize, task: impl Fn(Rig, usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (beside, start) = (rig.beside(), Arc::new(Barrier::new(tasks)));
    let mut set = JoinSet::new();
    for n in 0..tasks {
        let sidecar = if n % 2 == 0 { rig.clone() } else { beside.clone() };
        let (start, work) = (Arc::clone(&start), task(sidecar, n));
        set.spawn(async move {
            start.wait().await;
            work.await
        });
    }
    set.join_all().await
}

/// A response to a request that loaded earlier: nothing comes of it.
fn assert_gone(outcome: &Outcome) {
    assert_eq!((outcome.row, outcome.cookie, &outcome.minted), (Row::Gone, Cookie::Leave, &None));
}

fn number(data: Option<Value>, name: &str) -> u64 {
    data.unwrap()[name].as_u64().unwrap()
}

pub(crate) async fn n_changes_to_different_entries_all_count(rig: Rig) {
    let token = rig.begin(json!({"n": 0})).await;
    let found = rig.load(&token).await;
    let rows = at_once(&rig, 48, |rig, n| {
        let found = found.clone();
        async move { rig.commit(found, ask([set(json!({format!("k{n}"): n}))])).await.unwrap().row }
    });
    assert!(rows.await.iter().all(|row| *row == Row::Save));
    let data = rig.data(&token).await.unwrap();
    assert_eq!(data.as_object().unwrap().len(), 49);
    assert!((0..48).all(|n| data[format!("k{n}")] == n));
}

pub(crate) async fn n_increments_of_one_entry_all_count(rig: Rig) {
    let token = rig.begin(json!({"n": 0})).await;
    at_once(&rig, 32, |rig, _| {
        let token = token.clone();
        async move {
            for _ in 0..8 {
                assert_eq!(rig.request(&token, [increment("n")]).await.row, Row::Save);
            }
        }
    })
    .await;
    assert_eq!(number(rig.data(&token).await, "n"), 32 * 8);
}

pub(crate) async fn n_increments_from_one_reading_all_count(rig: Rig) {
    let token = rig.begin(json!({"n": 0})).await;
    for round in 1..=10 {
        let found = rig.load(&token).await;
        at_once(&rig, 16, |rig, _| {
            let found = found.clone();
            async move { rig.commit(found, ask([increment("n")])).await.unwrap() }
        })
        .await;
        assert_eq!(number(rig.data(&token).await, "n"), 16 * round);
    }
}

pub(crate) async fn a_touch_never_undoes_a_save(rig: Rig) {
    let rig = rig.with(|config| {
        config.save_every_request = true;
        config.touch_interval = coatroom::session::policy::Interval::Every(length(0));
    });
    let token = rig.begin(json!({"n": 0})).await;
    at_once(&rig, 16, |rig, n| {
        let token = token.clone();
        async move {
            for _ in 0..16 {
                let outcome = if n % 4 == 0 {
                    rig.request(&token, [increment("n")]).await
                } else {
                    // Each of these read a moment ago, and has a later instant than all before it.
                    let found = rig.load(&token).await;
                    rig.wait(std::time::Duration::from_millis(1));
                    rig.commit(found, ask([])).await.unwrap()
                };
                assert_eq!(outcome.row, if n % 4 == 0 { Row::Save } else { Row::Touch });
            }
        }
    })
    .await;
    assert_eq!(number(rig.data(&token).await, "n"), 4 * 16);
}

/// A long poll, which is no activity, while the visitor comes back: what it read of the end is not so any longer, and the
/// revision doesn't say so.
pub(crate) async fn a_change_that_extends_nothing_never_undoes_a_touch(rig: Rig) {
    let rig = rig.with(|config| config.save_every_request = true);
    let quiet = |directive| Asked { no_touch: true, ..ask([directive]) };
    for directive in [set(json!({"b": 1})), Directive::CycleKey] {
        let token = rig.begin(json!({"a": 1})).await;
        let slow = rig.load(&token).await;
        rig.wait(AGE / 2);
        assert_eq!(rig.beside().request(&token, []).await.row, Row::Touch);
        let until = rig.now().plus(AGE);
        assert_eq!(live(rig.load(&token).await).until, until);
        let outcome = rig.commit(slow, quiet(directive.clone())).await.unwrap();
        let token = outcome.minted.unwrap_or(token);
        assert_eq!(live(rig.load(&token).await).until, until, "{directive:?}");
    }
}

pub(crate) async fn of_n_changes_under_one_version_exactly_one_wins(rig: Rig) {
    let token = rig.begin(json!({"n": 0})).await;
    for round in 1..=10 {
        let read = live(rig.load(&token).await);
        let answers = at_once(&rig, 16, |rig, _| {
            let read = read.clone();
            async move {
                let asked = only_if(read.revision, [increment("n")]);
                rig.commit(Found::Live(Box::new(read)), asked).await
            }
        })
        .await;
        let won = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((won, number(rig.data(&token).await, "n")), (1, round));
        let lost = |answer: &Result<_, _>| matches!(answer, Ok(_) | Err(Failed::Denied(_)));
        assert!(answers.iter().all(lost), "{answers:?}");
    }
}

pub(crate) async fn a_flush_during_a_slow_request_is_final(rig: Rig) {
    let token = rig.begin(json!({"user_id": 1, "test_data": "value1"})).await;
    let slow = rig.load(&token).await;
    let sent = rig.beside().request(&token, [Directive::Flush]).await;
    assert_eq!(sent.cookie, Cookie::Remove);
    for directives in [
        vec![set(json!({"test_data": "value2"}))],
        vec![set(json!({"user_id": 1}))],
        vec![Directive::CycleKey],
        vec![Directive::Clear, set(json!({"user_id": 2}))],
        vec![Directive::Expiry(Wish::So(Expiry::Idle(60)))],
    ] {
        assert_gone(&rig.commit(slow.clone(), ask(directives)).await.unwrap());
        assert_eq!(rig.data(&token).await, None);
    }
    let nothing = rig.commit(slow.clone(), ask([])).await.unwrap();
    assert_eq!((nothing.row, nothing.cookie), (Row::Nothing, Cookie::Leave));
    let touch = rig.with(|config| config.save_every_request = true);
    rig.wait(secs(120));
    assert_eq!(touch.commit(slow.clone(), ask([])).await.unwrap().cookie, Cookie::Leave);
    assert_eq!(rig.data(&token).await, None);
    let flush = rig.commit(slow, ask([Directive::Flush, set(json!({"bye": 1}))])).await.unwrap();
    assert_eq!(flush.row, Row::EndedFlushWithData, "but a flush with data begins anew");
    assert_eq!(rig.data(&flush.minted.unwrap()).await, Some(json!({"bye": 1})));
}

pub(crate) async fn a_flush_among_writers_is_final(rig: Rig) {
    for _ in 0..10 {
        let token = rig.begin(json!({"user_id": 1, "n": 0})).await;
        let flushed = Arc::new(AtomicBool::new(false));
        let saved = at_once(&rig, 9, |rig, n| {
            let (token, flushed) = (token.clone(), Arc::clone(&flushed));
            async move {
                if n == 4 {
                    assert_eq!(rig.request(&token, [Directive::Flush]).await.row, Row::Flush);
                    flushed.store(true, SeqCst);
                    return 0;
                }
                let mut saved = 0;
                for _ in 0..6 {
                    let found = rig.load(&token).await;
                    let before = flushed.load(SeqCst);
                    let loaded = matches!(found, Found::Live(_));
                    let asked =
                        ask(if n % 2 == 0 { vec![increment("n")] } else { vec![set(json!({"user_id": 1}))] });
                    if !loaded {
                        assert!(matches!(found, Found::Ended(_)), "remembered");
                        return saved;
                    }
                    let outcome = rig.commit(found, asked).await.unwrap();
                    assert_eq!(outcome.minted, None);
                    match outcome.row {
                        Row::Save => assert!(!before, "saved after a flush that was acknowledged"),
                        _ => assert_gone(&outcome),
                    }
                    saved += usize::from(outcome.row == Row::Save);
                }
                saved
            }
        });
        drop(saved.await);
        assert!(matches!(rig.load(&token).await, Found::Ended(ended) if ended.successor.is_none()));
    }
}

pub(crate) async fn an_expiry_during_a_slow_request_is_final(rig: Rig) {
    let token = rig.begin(json!({"user_id": 1})).await;
    let slow = rig.load(&token).await;
    rig.wait(AGE);
    assert_gone(&rig.commit(slow.clone(), ask([set(json!({"a": 2}))])).await.unwrap());
    assert_gone(&rig.commit(slow, ask([Directive::CycleKey])).await.unwrap());
    assert_eq!(rig.load(&token).await, Found::No);
}

pub(crate) async fn a_flushed_token_is_remembered_and_any_change_begins_anew(rig: Rig) {
    let rig = rig.with(|config| config.ended_memory = length(600));
    let token = rig.begin(json!({"user_id": 1, "a": 1})).await;
    rig.request(&token, [Directive::Flush]).await;
    for _ in 0..2 {
        let found = rig.load(&token).await;
        assert!(matches!(&found, Found::Ended(ended) if ended.successor.is_none() && ended.reads.is_none()));
        let nothing = rig.commit(found.clone(), ask([])).await.unwrap();
        assert_eq!((nothing.row, nothing.cookie), (Row::Nothing, Cookie::Leave), "no cookie is removed");
        let outcome = rig.commit(found, ask([set(json!({"b": 2}))])).await.unwrap();
        assert_eq!(outcome.row, Row::EndedCreate);
        assert_eq!(rig.data(&outcome.minted.unwrap()).await, Some(json!({"b": 2})), "nothing of before");
        rig.wait(secs(599));
    }
    // Twice 599 seconds have passed.
    assert_eq!(rig.load(&token).await, Found::No);
    assert_eq!(rig.request(&token, [set(json!({"b": 2}))]).await.row, Row::Create);
}

pub(crate) async fn an_old_token_reads_on_for_the_grace_of_a_cycle(rig: Rig) {
    let rig = rig.with(|config| config.grace = length(10));
    let token = rig.begin(json!({"cart": 1})).await;
    let before = live(rig.load(&token).await);
    let login = [set(json!({"user_id": 7})), increment("cart")];
    let fresh = rig.request(&token, login).await.minted.unwrap();
    rig.wait(secs(10) - std::time::Duration::from_millis(1));
    let found = rig.load(&token).await;
    assert!(matches!(found, Found::Ended(_)));
    let reads = found.reads().unwrap();
    assert_eq!((reads.key, reads.revision), (before.key, before.revision), "id and version of before");
    assert_eq!(reads.record, before.record, "data of before");
    rig.wait(std::time::Duration::from_millis(1));
    assert!(matches!(rig.load(&token).await, Found::Ended(ended) if ended.reads.is_none()));
    assert_eq!(rig.data(&fresh).await, Some(json!({"cart": 2, "user_id": 7})));
}

pub(crate) async fn an_old_token_reads_nothing_if_the_user_is_another(rig: Rig) {
    let rig = rig.with(|config| config.on_switch = OnSwitch::Cycle);
    let token = rig.begin(json!({"user_id": 1})).await;
    let second = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
    assert_eq!(rig.data(&token).await, Some(json!({"user_id": 1})));
    let third = rig.request(&second, [set(json!({"user_id": 2}))]).await.minted.unwrap();
    assert_eq!(rig.data(&third).await, Some(json!({"user_id": 2})));
    assert_eq!((rig.data(&token).await, rig.data(&second).await), (None, None));
}

pub(crate) async fn an_old_token_reads_nothing_if_its_successor_was_flushed(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    let second = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
    let third = rig.request(&second, [Directive::CycleKey]).await.minted.unwrap();
    assert_eq!(rig.data(&token).await, Some(json!({"a": 1})));
    rig.request(&third, [Directive::Flush]).await;
    for token in [token, second, third] {
        assert_eq!(rig.data(&token).await, None);
    }
}

pub(crate) async fn a_change_under_an_old_token_is_dropped(rig: Rig) {
    let token = rig.begin(json!({"a": 1})).await;
    let slow = rig.load(&token).await;
    let fresh = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
    for found in [slow, rig.load(&token).await] {
        assert_gone(&rig.commit(found.clone(), ask([set(json!({"a": 2}))])).await.unwrap());
        assert_gone(&rig.commit(found, ask([delete("a")])).await.unwrap());
    }
    rig.wait(secs(11));
    let late = rig.load(&token).await;
    assert_gone(&rig.commit(late, ask([set(json!({"a": 3}))])).await.unwrap());
    assert_eq!(rig.data(&fresh).await, Some(json!({"a": 1})));
}

pub(crate) async fn a_double_clicked_login_gives_both_a_session(rig: Rig) {
    for _ in 0..10 {
        let token = rig.begin(json!({"cart": [1, 2]})).await;
        let found = rig.load(&token).await;
        let outcomes = at_once(&rig, 2, |rig, click| {
            let found = found.clone();
            async move {
                let login = ask([set(json!({"user_id": 7, "click": click}))]);
                rig.commit(found, login).await.unwrap()
            }
        })
        .await;
        let mut clicks = Vec::new();
        for outcome in &outcomes {
            assert!(matches!(outcome.cookie, Cookie::Set(_)));
            let data = rig.data(outcome.minted.as_ref().unwrap()).await.unwrap();
            assert_eq!((&data["cart"], &data["user_id"]), (&json!([1, 2]), &json!(7)));
            clicks.push(data["click"].clone());
        }
        clicks.sort_by_key(Value::as_u64);
        assert_eq!(clicks, [0, 1], "each is its own");
        let rows: Vec<Row> = outcomes.iter().map(|outcome| outcome.row).collect();
        assert!(rows.contains(&Row::EndedCycleKey), "{rows:?}");
    }
}

/// The backend took longer than the grace to check a password.
pub(crate) async fn a_slow_login_keeps_what_it_read_when_the_grace_is_over(rig: Rig) {
    let token = rig.begin(json!({"cart": [1, 2]})).await;
    let slow = rig.load(&token).await;
    rig.request(&token, [set(json!({"user_id": 7}))]).await;
    rig.wait(secs(11));
    let outcome = rig.commit(slow, ask([set(json!({"user_id": 7}))])).await.unwrap();
    assert_eq!(outcome.row, Row::EndedCycleKey);
    let data = rig.data(&outcome.minted.unwrap()).await;
    assert_eq!(data, Some(json!({"cart": [1, 2], "user_id": 7})));
}

/// Some backends set the user at each request. Against nothing that would look like a login, and begin a session
/// that has lost all the rest.
pub(crate) async fn an_entry_that_was_read_and_is_set_again_is_no_login(rig: Rig) {
    for wait in [0, 11] {
        let token = rig.begin(json!({"user_id": 7, "cart": [1, 2]})).await;
        let slow = rig.load(&token).await;
        let fresh = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
        rig.wait(secs(wait));
        assert_gone(&rig.commit(slow, ask([set(json!({"user_id": 7}))])).await.unwrap());
        assert_eq!(rig.data(&fresh).await, Some(json!({"user_id": 7, "cart": [1, 2]})));
    }
}

/// Cycles a session so many times; its tokens, the first to the last.
async fn chain(rig: &Rig, data: Value, cycles: usize) -> Vec<Token> {
    let mut tokens = vec![rig.begin(data).await];
    for _ in 0..cycles {
        let outcome = rig.request(&tokens[tokens.len() - 1], [Directive::CycleKey]).await;
        tokens.push(outcome.minted.unwrap());
    }
    tokens
}

pub(crate) async fn a_flush_under_an_old_token_ends_the_chain(rig: Rig) {
    for (under, with_data) in [(0, false), (3, false), (0, true)] {
        let tokens = chain(&rig, json!({"user_id": 1, "a": 1}), 5).await;
        let slow = rig.load(&tokens[5]).await;
        let mut asked = ask([Directive::Flush]);
        if with_data {
            asked = ask([Directive::Flush, set(json!({"bye": 1}))]);
        }
        let found = rig.load(&tokens[under]).await;
        let outcome = rig.beside().commit(found, asked).await.unwrap();
        for token in &tokens {
            assert_eq!(rig.data(token).await, None);
        }
        assert_gone(&rig.commit(slow, ask([set(json!({"a": 2}))])).await.unwrap());
        match outcome.minted {
            Some(fresh) => assert_eq!(rig.data(&fresh).await, Some(json!({"bye": 1}))),
            None => assert_eq!((outcome.row, outcome.cookie), (Row::EndedFlush, Cookie::Leave)),
        }
    }
    // One that loaded its token live, and finds at commit that it was cycled.
    let tokens = chain(&rig, json!({"a": 1}), 0).await;
    let slow = rig.load(&tokens[0]).await;
    let fresh = rig.request(&tokens[0], [Directive::CycleKey]).await.minted.unwrap();
    let outcome = rig.commit(slow, ask([Directive::Flush])).await.unwrap();
    assert_eq!((outcome.row, outcome.cookie), (Row::EndedFlush, Cookie::Leave));
    assert_eq!(rig.data(&fresh).await, None);
}

pub(crate) async fn a_logout_at_the_end_of_a_chain_holds_for_who_read_its_beginning(rig: Rig) {
    for directives in [
        vec![set(json!({"user_id": 1}))],
        vec![Directive::CycleKey],
        vec![Directive::CycleKey, set(json!({"user_id": 1}))],
        vec![increment("a")],
    ] {
        let token = rig.begin(json!({"user_id": 1, "a": 1})).await;
        let slow = rig.load(&token).await;
        let fresh = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
        rig.request(&fresh, [Directive::Flush]).await;
        assert_gone(&rig.commit(slow, ask(directives)).await.unwrap());
    }
}

pub(crate) async fn a_cycle_key_from_what_an_old_token_read_never_outlives_a_logout(rig: Rig) {
    let cycle = || [Directive::CycleKey, set(json!({"user_id": 1}))];
    let token = rig.begin(json!({"user_id": 1, "a": 1})).await;
    let fresh = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
    let slow = rig.load(&token).await;
    assert!(slow.reads().is_some());
    let own = rig.commit(slow.clone(), ask(cycle())).await.unwrap();
    assert_eq!(own.row, Row::EndedCycleKey, "while the successor lives it makes a session of its own");
    rig.request(&fresh, [Directive::Flush]).await;
    assert_gone(&rig.commit(slow, ask(cycle())).await.unwrap());
    let empty = rig.load(&token).await;
    assert!(empty.reads().is_none());
    let login = rig.commit(empty, ask([set(json!({"user_id": 1}))])).await.unwrap();
    assert_eq!(
        rig.data(&login.minted.unwrap()).await,
        Some(json!({"user_id": 1})),
        "who read nothing logs in"
    );
}

pub(crate) async fn a_flush_among_cycle_keys_under_an_old_token_is_final(rig: Rig) {
    for _ in 0..10 {
        let token = rig.begin(json!({"user_id": 1})).await;
        let fresh = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
        let slow = rig.load(&token).await;
        let flushed = Arc::new(AtomicBool::new(false));
        at_once(&rig, 8, |rig, n| {
            let (slow, fresh, flushed) = (slow.clone(), fresh.clone(), Arc::clone(&flushed));
            async move {
                if n == 3 {
                    assert_eq!(rig.request(&fresh, [Directive::Flush]).await.row, Row::Flush);
                    flushed.store(true, SeqCst);
                    return;
                }
                for _ in 0..4 {
                    let before = flushed.load(SeqCst);
                    let outcome = rig.commit(slow.clone(), ask([Directive::CycleKey])).await.unwrap();
                    if before {
                        assert_gone(&outcome);
                    }
                    if let Some(own) = outcome.minted {
                        assert_eq!(rig.data(&own).await, Some(json!({"user_id": 1})));
                    }
                }
            }
        })
        .await;
    }
}

/// Browsers that share a jar write and cycle. The chain of successors grows; at its end there is always one session,
/// of those before it none is live once its successor is known, and what was acknowledged is in the last.
pub(crate) async fn cycle_keys_and_writers_leave_exactly_one_live_token(rig: Rig) {
    let first = rig.begin(json!({"n": 0})).await;
    let jar = Arc::new(Mutex::new(vec![first.clone()]));
    let last = |jar: &Mutex<Vec<Token>>| {
        let jar = jar.lock().unwrap_or_else(PoisonError::into_inner);
        jar[jar.len() - 1].clone()
    };
    let saved = Arc::new(AtomicUsize::new(0));
    at_once(&rig, 12, |rig, n| {
        let (first, jar, saved) = (first.clone(), Arc::clone(&jar), Arc::clone(&saved));
        async move {
            for _ in 0..10 * usize::from(n == 11) {
                // Whoever still shows the first token reads on, so there is a live one at the end of the chain.
                assert!(rig.load(&first).await.reads().is_some(), "no live token");
            }
            for _ in 0..10 {
                let token = last(&jar);
                let found = rig.load(&token).await;
                let loaded = matches!(found, Found::Live(_));
                if n % 3 != 0 {
                    let outcome = rig.commit(found, ask([increment("n")])).await.unwrap();
                    saved.fetch_add(usize::from(outcome.row == Row::Save), SeqCst);
                    assert_eq!(outcome.minted, None);
                    continue;
                }
                let outcome = rig.commit(found, ask([Directive::CycleKey])).await.unwrap();
                match outcome.row {
                    Row::CycleKey(_) => {
                        assert!(loaded);
                        jar.lock().unwrap_or_else(PoisonError::into_inner).push(outcome.minted.unwrap());
                        assert!(!matches!(rig.load(&token).await, Found::Live(_)), "two live tokens");
                    }
                    Row::EndedCycleKey => assert!(outcome.minted.is_some(), "a session of its own"),
                    row => panic!("{row:?}"),
                }
            }
        }
    })
    .await;
    let tokens = std::mem::take(&mut *jar.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(tokens.len() > 1, "somebody cycled");
    // The jar has them in the order of their answers, not of their writes: follow the chain instead.
    let mut living = Vec::new();
    let mut successors: std::collections::HashMap<Key, Key> = std::collections::HashMap::new();
    for token in &tokens {
        let key = Key::of("", token);
        match rig.load(token).await {
            Found::Live(session) => living.push(session),
            Found::Ended(ended) => drop(successors.insert(key, ended.successor.unwrap())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(living.len(), 1, "exactly one is live");
    let mut at = Key::of("", &first);
    for _ in 0..successors.len() {
        at = successors[&at];
    }
    assert_eq!(at, living[0].key, "at the end of the one chain");
    assert_eq!(living[0].record.data.map()["n"], saved.load(SeqCst), "every acknowledged save is in it");
}
