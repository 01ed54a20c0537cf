//! Engines that fail: nothing is lost, nothing counts twice, and no outage is taken for an absence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coatroom::manager::Manager;
use coatroom::session::data::Data;
use coatroom::session::record::Entry;
use coatroom::session::{
    Cookie, Directive, Ended, Found, Key, Mode, Reason, Record, Row, Scope, Shown, Token,
};
use coatroom::store::codec::Codec;
use coatroom::store::engine::{Engine, Stored, Swap, Worth};
use coatroom::store::memory::Memory;
use coatroom::store::{self, Failed, Kind, Outcome};
use coatroom::telemetry::metrics::Metrics;
use coatroom::time::Length;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::spy::Op::{self, Add, Clear, Get, Ping, Remove, Replace, Touch};
use super::spy::{Fault, Latch, Spy};
use super::support::{AGE, Rig, ask, increment, length, live, memory, revision, secs, set};

/// `store.commit_timeout` in these tests.
const BUDGET: Duration = Duration::from_secs(1);

/// A sidecar whose engine can fail, and one beside it on the same medium whose engine does not.
fn faulty() -> (Spy<Memory>, Rig, Rig) {
    let spy = Spy::new(memory());
    let rig = Rig::within(spy.clone(), BUDGET);
    let sound = Rig::within(spy.sound(), BUDGET).by_the_clock_of(&rig);
    (spy, rig, sound)
}

type Answer = Result<Outcome, Failed>;

/// Commits somewhere else.
fn later(rig: &Rig, found: Found, directives: impl IntoIterator<Item = Directive>) -> JoinHandle<Answer> {
    let (rig, asked) = (rig.clone(), ask(directives));
    tokio::spawn(async move { rig.commit(found, asked).await })
}

async fn n(sound: &Rig, token: &Token) -> u64 {
    sound.data(token).await.unwrap()["n"].as_u64().unwrap()
}

fn kind(answer: Answer) -> Kind {
    match answer {
        Err(Failed::Store(error)) => error.kind,
        other => panic!("no failed store: {other:?}"),
    }
}

#[tokio::test]
async fn a_save_whose_answer_was_lost_counts_once() {
    for fault in [Fault::DoneBroken, Fault::DoneTimeout] {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.calls();
        spy.fail(Replace, fault);
        assert_eq!(rig.commit(found, ask([increment("n")])).await.unwrap().row, Row::Save);
        assert_eq!(spy.calls(), [Replace, Get], "read back, not written again");
        assert_eq!(n(&sound, &token).await, 1);
    }
}

#[tokio::test]
async fn a_save_whose_answer_was_lost_is_recognised_behind_three_others_and_unknown_behind_four() {
    for others in 1..=5 {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let (found, latch) = (rig.load(&token).await, Latch::new());
        spy.fail(Replace, Fault::DoneHoldBroken(latch.clone()));
        let answer = later(&rig, found, [increment("n")]);
        latch.reached().await;
        for _ in 0..others {
            sound.request(&token, [increment("n")]).await;
        }
        latch.release();
        match answer.await.unwrap() {
            Ok(outcome) => assert_eq!((outcome.row, others <= 3), (Row::Save, true)),
            failed => assert_eq!((kind(failed), others > 3), (Kind::OutcomeUnknown, true)),
        }
        assert_eq!(n(&sound, &token).await, others + 1, "never twice");
    }
}

#[tokio::test]
async fn a_save_that_did_not_happen_is_sent_again_and_counts_once() {
    let (spy, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let found = rig.load(&token).await;
    spy.calls();
    spy.fail(Replace, Fault::Broken);
    assert_eq!(rig.commit(found, ask([increment("n")])).await.unwrap().row, Row::Save);
    assert_eq!(spy.calls(), [Replace, Get, Replace]);
    assert_eq!(n(&sound, &token).await, 1);
}

#[tokio::test]
async fn a_save_that_did_not_happen_comes_after_three_others_and_is_unknown_behind_four() {
    for others in 1..=5 {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let (found, latch) = (rig.load(&token).await, Latch::new());
        spy.fail(Replace, Fault::HoldBroken(latch.clone()));
        let answer = later(&rig, found, [increment("n")]);
        latch.reached().await;
        for _ in 0..others {
            sound.request(&token, [increment("n")]).await;
        }
        latch.release();
        match answer.await.unwrap() {
            Ok(outcome) => {
                assert_eq!((outcome.row, others <= 3), (Row::Save, true));
                assert_eq!(n(&sound, &token).await, others + 1);
            }
            failed => {
                assert_eq!((kind(failed), others > 3), (Kind::OutcomeUnknown, true));
                assert_eq!(n(&sound, &token).await, others);
            }
        }
    }
}

/// The first try arrives after all, when the second one is already in: it was made for the revision of before.
#[tokio::test]
async fn a_save_that_arrives_late_counts_once() {
    let (spy, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let before = live(rig.load(&token).await);
    spy.fail(Replace, Fault::Broken);
    rig.request(&token, [increment("n")]).await;
    let after = live(rig.load(&token).await);
    let late = Stored { value: Bytes::from_static(b"late"), revision: after.revision, until: after.until };
    let arrived = spy.engine().replace(&before.key, before.revision, late, Worth::Known).await;
    assert_eq!(arrived, Ok(Swap::Changed));
    assert_eq!(n(&sound, &token).await, 1);
}

#[tokio::test]
async fn a_save_that_was_lost_and_then_flushed_was_saved() {
    let (spy, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let (found, latch) = (rig.load(&token).await, Latch::new());
    spy.fail(Replace, Fault::DoneHoldBroken(latch.clone()));
    let answer = later(&rig, found, [increment("n")]);
    latch.reached().await;
    sound.request(&token, [Directive::Flush]).await;
    latch.release();
    assert_eq!(answer.await.unwrap().unwrap().row, Row::Save, "and then somebody logged out");
    assert_eq!(sound.data(&token).await, None);
}

/// More looks at what became of a write than a budget has room for.
const ALL_LOOKS: usize = 1000;

#[tokio::test(start_paused = true)]
async fn a_save_that_cannot_be_read_back_within_the_budget_is_unknown() {
    for (replace, written) in [(Fault::DoneBroken, 1), (Fault::Broken, 0)] {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.fail(Replace, replace);
        (0..ALL_LOOKS).for_each(|_| spy.fail(Get, Fault::Unreachable));
        assert_eq!(hung(rig.commit(found, ask([increment("n")]))).await, Kind::OutcomeUnknown);
        assert_eq!(n(&sound, &token).await, written);
    }
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_save_is_asked_until_the_store_is_back() {
    for replace in [Fault::DoneBroken, Fault::Broken] {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.fail(Replace, replace);
        (0..10).for_each(|_| spy.fail(Get, Fault::Unreachable));
        assert_eq!(rig.commit(found, ask([increment("n")])).await.unwrap().row, Row::Save);
        assert!(spy.is_spent());
        assert_eq!(n(&sound, &token).await, 1);
    }
}

#[tokio::test]
async fn a_flush_holds_although_the_store_has_no_room_for_its_memory() {
    let (spy, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let found = rig.load(&token).await;
    spy.calls();
    spy.fail(Replace, Fault::Full);
    assert_eq!(rig.commit(found, ask([Directive::Flush])).await.unwrap().row, Row::Flush);
    assert_eq!(spy.calls(), [Replace, Remove]);
    assert_eq!(sound.load(&token).await, Found::No);
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_or_refuses_is_not_asked_again() {
    for (fault, expected) in [(Fault::Unreachable, Kind::Unreachable), (Fault::Refused, Kind::Refused)] {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.calls();
        spy.fail(Replace, fault);
        assert_eq!(kind(rig.commit(found, ask([increment("n")])).await), expected);
        assert_eq!((spy.calls(), n(&sound, &token).await), (vec![Replace], 0));
    }
}

/// Not for ever, and not as fast as it can.
#[tokio::test]
async fn a_write_that_breaks_each_time_is_given_up() {
    let (spy, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let found = rig.load(&token).await;
    spy.calls();
    (0..100).for_each(|_| spy.fail(Replace, Fault::Broken));
    assert_eq!(kind(rig.commit(found, ask([increment("n")])).await), Kind::OutcomeUnknown);
    assert!(spy.calls().len() < 10);
    assert_eq!(n(&sound, &token).await, 0);
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_makes_one_session() {
    for (fault, calls) in [(Fault::DoneBroken, vec![Add, Add, Get]), (Fault::Broken, vec![Add, Add])] {
        let (spy, rig, sound) = faulty();
        spy.fail(Add, fault);
        let outcome = rig.commit(Found::No, ask([set(json!({"n": 1}))])).await.unwrap();
        assert_eq!((outcome.row, spy.calls()), (Row::Create, calls));
        assert_eq!(n(&sound, &outcome.minted.unwrap()).await, 1);
        assert_eq!(spy.engine().usage().sessions, 1);
    }
}

#[tokio::test]
async fn a_create_that_failed_makes_none_and_is_sent_again_only_if_it_may_have_happened() {
    for (fault, calls, expected) in [
        (Fault::Unreachable, vec![Add], Kind::Unreachable),
        (Fault::Refused, vec![Add], Kind::Refused),
        (Fault::Broken, vec![Add, Add], Kind::Broken),
    ] {
        let (spy, rig, _) = faulty();
        calls.iter().for_each(|_| spy.fail(Add, fault.clone()));
        assert_eq!(kind(rig.commit(Found::No, ask([set(json!({"n": 1}))])).await), expected);
        assert_eq!((spy.calls(), spy.engine().usage().sessions), (calls, 0));
    }
}

#[tokio::test]
async fn a_cycle_whose_second_step_fails_leaves_the_old_token_and_no_other() {
    for fault in [Fault::Unreachable, Fault::Refused] {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.calls();
        spy.fail(Replace, fault);
        rig.commit(found.clone(), ask([Directive::CycleKey])).await.unwrap_err();
        assert_eq!(spy.calls(), [Add, Replace, Remove]);
        assert_eq!(spy.engine().usage().sessions, 1, "no second token");
        assert_eq!(sound.load(&token).await, found, "the old one is live as it was");
    }
}

#[tokio::test]
async fn a_cycle_whose_answer_was_lost_is_acknowledged_once() {
    for fault in [Fault::DoneBroken, Fault::Broken] {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.fail(Replace, fault);
        let outcome = rig.commit(found, ask([Directive::CycleKey])).await.unwrap();
        assert_eq!(n(&sound, &outcome.minted.unwrap()).await, 0);
        assert!(matches!(sound.load(&token).await, Found::Ended(_)));
        assert_eq!(spy.engine().usage().sessions, 2, "the new one, and the memory of the old one");
    }
}

/// It may have happened. The new record is then what the old token leads to, and to tidy it away would be to lose
/// the session; at worst it stays an orphan whose token nobody has.
#[tokio::test(start_paused = true)]
async fn a_cycle_of_unknown_outcome_never_loses_the_session() {
    for (fault, happened) in [(Fault::DoneBroken, true), (Fault::Broken, false)] {
        let (spy, rig, sound) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.fail(Replace, fault);
        (0..ALL_LOOKS).for_each(|_| spy.fail(Get, Fault::Unreachable));
        assert_eq!(hung(rig.commit(found, ask([Directive::CycleKey]))).await, Kind::OutcomeUnknown);
        let found = sound.load(&token).await;
        assert_eq!(matches!(found, Found::Ended(_)), happened);
        assert_eq!(n(&sound, &token).await, 0, "what it holds can be read");
    }
}

/// It holds, so nobody is told that nothing was done.
#[tokio::test]
async fn a_logout_after_which_no_session_can_begin_is_of_unknown_outcome() {
    let (spy, rig, sound) = faulty();
    let old = rig.begin(json!({"n": 0})).await;
    let new = rig.request(&old, [Directive::CycleKey]).await.minted.unwrap();
    let found = rig.load(&old).await;
    spy.fail(Add, Fault::Full);
    let answer = rig.commit(found, ask([Directive::Flush, set(json!({"n": 1}))])).await;
    assert_eq!(kind(answer), Kind::OutcomeUnknown);
    assert!(matches!(sound.load(&new).await, Found::Ended(_)));
}

/// As after a failover to a server that the first logout had not reached.
#[tokio::test]
async fn a_logout_that_was_forgotten_is_one_the_second_time() {
    let (_, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let ended = Ended { key: Key::of("", &token), successor: None, reads: None };
    let outcome = rig.commit(Found::Ended(Box::new(ended)), ask([Directive::Flush])).await.unwrap();
    assert_eq!((outcome.row, outcome.minted), (Row::EndedFlush, None));
    assert!(matches!(sound.load(&token).await, Found::Ended(_)));
}

#[tokio::test]
async fn a_cycle_without_memory_of_ended_tokens_never_loses_the_session_either() {
    for (fault, acknowledged) in
        [(Fault::DoneBroken, false), (Fault::Broken, true), (Fault::Unreachable, false)]
    {
        let (spy, rig, sound) = faulty();
        let without = |rig: &Rig| rig.with(|config| config.ended_memory = length(0));
        let (rig, sound) = (without(&rig), without(&sound));
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.fail(Remove, fault);
        let answer = rig.commit(found, ask([Directive::CycleKey])).await;
        assert_eq!(answer.is_ok(), acknowledged, "{answer:?}");
        assert!(spy.engine().usage().sessions > 0);
        if let Ok(outcome) = answer {
            assert_eq!(n(&sound, &outcome.minted.unwrap()).await, 0);
            assert_eq!(sound.load(&token).await, Found::No);
        }
    }
}

#[tokio::test]
async fn a_flush_whose_answer_was_lost_is_final() {
    for (memory_of_ended, op) in [(600, Replace), (0, Remove)] {
        for fault in [Fault::DoneBroken, Fault::Broken, Fault::DoneTimeout] {
            let (spy, rig, _) = faulty();
            let rig = rig.with(|config| config.ended_memory = length(memory_of_ended));
            let token = rig.begin(json!({"n": 0})).await;
            let found = rig.load(&token).await;
            spy.fail(op, fault);
            let outcome = rig.commit(found.clone(), ask([Directive::Flush])).await.unwrap();
            assert_eq!((outcome.row, outcome.cookie), (Row::Flush, Cookie::Remove));
            assert!(spy.is_spent());
            assert_eq!(rig.data(&token).await, None);
            let slow = rig.commit(found, ask([increment("n")])).await.unwrap();
            assert_eq!((slow.row, slow.cookie, slow.minted), (Row::Gone, Cookie::Leave, None));
        }
    }
}

#[tokio::test]
async fn a_flush_that_failed_says_so() {
    let (spy, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let found = rig.load(&token).await;
    spy.fail(Replace, Fault::Unreachable);
    assert_eq!(kind(rig.commit(found, ask([Directive::Flush])).await), Kind::Unreachable);
    assert_eq!(n(&sound, &token).await, 0, "and the session stands");
}

#[tokio::test]
async fn a_touch_whose_answer_was_lost_is_sent_again() {
    for fault in [Fault::DoneBroken, Fault::Broken] {
        let (spy, rig, sound) = faulty();
        let rig = rig.with(|config| config.save_every_request = true);
        let token = rig.begin(json!({"n": 0})).await;
        rig.wait(secs(120));
        spy.fail(Touch, fault);
        assert_eq!(rig.request(&token, []).await.row, Row::Touch);
        assert_eq!(live(sound.load(&token).await).until, rig.now().plus(AGE));
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_an_error_and_no_absence() {
    for (fault, expected) in [
        (Fault::Unreachable, Kind::Unreachable),
        (Fault::Broken, Kind::Broken),
        (Fault::Refused, Kind::Refused),
        (Fault::DoneTimeout, Kind::Timeout),
    ] {
        let (spy, rig, _) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let old = rig.begin(json!({"n": 0})).await;
        rig.request(&old, [Directive::CycleKey]).await;
        for (token, before) in [(token, 0), (Token::from_bits(&[1; 20]), 0), (old, 1)] {
            (0..before).for_each(|_| spy.fail(Get, Fault::None));
            spy.fail(Get, fault.clone());
            let error = rig.store.load(&token, rig.now()).await.unwrap_err();
            assert_eq!(error.kind, expected);
        }
    }
}

/// A logout must not find "nothing to end" because the store could not be read.
#[tokio::test]
async fn an_outage_at_commit_is_never_taken_for_a_session_that_is_gone() {
    let (spy, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let slow = rig.load(&token).await;
    let fresh = rig.request(&token, [Directive::CycleKey]).await.minted.unwrap();
    for gets in 0..2 {
        (0..gets).for_each(|_| spy.fail(Get, Fault::None));
        spy.fail(Get, Fault::Broken);
        assert_eq!(kind(rig.commit(slow.clone(), ask([Directive::Flush])).await), Kind::Broken);
        assert!(spy.is_spent());
        assert_eq!(n(&sound, &fresh).await, 0);
    }
}

#[tokio::test]
async fn an_expired_session_is_absent_though_it_cannot_be_removed() {
    let (spy, rig, _) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    rig.wait(AGE);
    spy.fail(Remove, Fault::Refused);
    assert_eq!(rig.store.load(&token, rig.now()).await, Ok(Found::No));
    assert!(spy.is_spent());
    assert_eq!(rig.counts.expiries.get(), 0, "who removes it counts it");
    rig.load(&token).await;
    assert_eq!(rig.counts.expiries.get(), 1);
}

/// Django reads `{}` here, and so logs a user out by a flipped bit.
#[tokio::test]
async fn a_corrupt_record_is_an_error_and_is_kept() {
    let (spy, rig, _) = faulty();
    let token = Token::from_bits(&[5; 20]);
    let (key, until) = (Key::of("", &token), rig.now().plus(AGE));
    // Its checksum is right, so whoever wrote it has read how that is done.
    let live = |data: &'static str| {
        let record = Record {
            data: Data::from_text(Bytes::from_static(data.as_bytes())),
            ..Record::new(Scope(1), rig.now())
        };
        Codec::default().encode("", &key, &Entry::Live(record), &[None; 3]).expect("nothing is sealed")
    };
    let none = [&b""[..], b"1:", b"1:AAAAAAL", b"2:AAAAAAL\n{}", b"flaskdj:alkdjf"];
    let none = none.into_iter().map(Bytes::from_static);
    for (n, value) in none.chain(["{nonsense}", "{\"a\":1,}"].map(live)).enumerate() {
        let stored = Stored { value, revision: revision(n as u64 + 1), until };
        assert_eq!(spy.engine().add(&key, stored.clone(), Worth::Known).await, Ok(true));
        let error = rig.store.load(&token, rig.now()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt);
        assert!(!error.detail.contains(&*token.expose()));
        assert_eq!(spy.engine().get(&key).await, Ok(Some(stored.clone())));
        spy.engine().remove(&key, stored.revision).await.unwrap();
    }
}

/// What a hanging engine answers within the budget, to the millisecond.
async fn hung(answer: impl Future<Output = Answer>) -> Kind {
    let start = Instant::now();
    let kind = kind(answer.await);
    assert!((BUDGET..BUDGET + Duration::from_millis(5)).contains(&start.elapsed()), "{:?}", start.elapsed());
    kind
}

#[tokio::test(start_paused = true)]
async fn a_hanging_write_is_of_unknown_outcome_when_the_budget_is_spent() {
    for (directive, op) in [
        (increment("n"), Replace),
        (Directive::Flush, Replace),
        (Directive::CycleKey, Add),
        (Directive::CycleKey, Replace),
    ] {
        let (spy, rig, _) = faulty();
        let token = rig.begin(json!({"n": 0})).await;
        let found = rig.load(&token).await;
        spy.hold(op);
        assert_eq!(hung(rig.commit(found, ask([directive]))).await, Kind::OutcomeUnknown);
    }
    let (spy, rig, _) = faulty();
    spy.hold(Add);
    assert_eq!(hung(rig.commit(Found::No, ask([set(json!({"a": 1}))]))).await, Kind::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_read_is_a_timeout_because_nothing_was_sent() {
    let (spy, rig, sound) = faulty();
    let token = rig.begin(json!({"n": 0})).await;
    let found = rig.load(&token).await;
    sound.request(&token, [increment("n")]).await;
    spy.hold(Get);
    let answer = rig.commit(found.clone(), ask([increment("n")]));
    assert_eq!(
        hung(answer).await,
        Kind::Timeout,
        "its first write was refused, of the second nothing was sent"
    );
    assert_eq!(n(&sound, &token).await, 1);
    sound.request(&token, [Directive::CycleKey]).await;
    let (ended, before) = (sound.load(&token).await, [Fault::None, Fault::None]);
    spy.hold(Get);
    let answer = rig.commit(ended, ask([Directive::Flush]));
    assert_eq!(hung(answer).await, Kind::Timeout, "the successor could not be read");
    before.into_iter().for_each(|fault| spy.fail(Get, fault));
    spy.hold(Get);
    assert_eq!(hung(rig.commit(found, ask([Directive::Flush]))).await, Kind::Timeout);
    assert!(sound.data(&token).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_spent_sends_nothing() {
    let (spy, _, sound) = faulty();
    let rig = Rig::within(spy.clone(), Duration::ZERO);
    let token = sound.begin(json!({"n": 0})).await;
    let found = sound.load(&token).await;
    spy.calls();
    assert_eq!(kind(rig.commit(found, ask([increment("n")])).await), Kind::Timeout);
    assert_eq!(kind(rig.commit(Found::No, ask([increment("n")])).await), Kind::Timeout);
    assert_eq!(spy.calls(), [] as [Op; 0]);
}

#[tokio::test]
async fn the_store_says_when_it_cannot_be_pinged_or_cleared() {
    let (spy, rig, _) = faulty();
    spy.fail(Ping, Fault::Unreachable);
    spy.fail(Clear, Fault::Unreachable);
    assert_eq!(rig.store.ping().await.unwrap_err().kind, Kind::Unreachable);
    assert_eq!(rig.store.clear_expired(rig.now(), 10).await.unwrap_err().kind, Kind::Unreachable);
}

/// However many cookies a client shows, its request has one budget for all of them.
#[tokio::test(start_paused = true)]
async fn many_tokens_share_the_budget_of_a_load() {
    let (spy, rig, _) = faulty();
    let metrics = Metrics::new(&Reason::ALL.map(Reason::label), &Kind::ALL.map(Kind::label));
    let config = store::Config { timeout: Length(BUDGET), ..store::Config::default() };
    let manager =
        Manager::new(Arc::clone(&rig.store), Arc::clone(&rig.policy), Vec::new(), &config, Arc::new(metrics));
    let mut shown = Shown::default();
    shown.any = true;
    let slow: Vec<_> = (0..8).map(|_| spy.hold(Get)).collect();
    (0..8).for_each(|n| shown.add(Token::from_bits(&[n; 20])));
    // Each is answered in time, but not all of them are.
    tokio::spawn(async move {
        for answer in slow {
            answer.reached().await;
            tokio::time::sleep(BUDGET / 2 - Duration::from_millis(1)).await;
            answer.release();
        }
    });
    let load = manager.load(Mode::On, &shown, rig.now());
    let start = Instant::now();
    assert_eq!(load.await.unwrap_err().kind, Kind::Timeout);
    assert_eq!(start.elapsed().as_secs(), BUDGET.as_secs());
}
