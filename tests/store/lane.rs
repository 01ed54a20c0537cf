//! Commits of one session inside one process: they wait for each other, are written together, and nobody's end is
//! everybody's.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use coatroom::session::{Directive, Found, Row, Token};
use coatroom::store::memory::Memory;
use coatroom::store::{Failed, Kind, Outcome};
use serde_json::json;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::Instant;

use super::spy::Op::{Add, Get, Replace};
use super::spy::{Fault, Latch, Spy};
use super::support::{AGE, Rig, ask, delete, increment, live, memory, only_if, set};

const BUDGET: Duration = Duration::from_secs(1);

type Answer = Result<Outcome, Failed>;

/// A sidecar whose engine is watched, another one beside it, and a session that counts.
async fn watched() -> (Spy<Memory>, Rig, Rig, Token) {
    let spy = Spy::new(memory());
    let rig = Rig::within(spy.clone(), BUDGET);
    let beside = Rig::within(spy.sound(), BUDGET).by_the_clock_of(&rig);
    let token = rig.begin(json!({"n": 0})).await;
    spy.calls();
    (spy, rig, beside, token)
}

/// Commits in a task, and returns when it has begun. The runtime has one thread, so it is then in the lane.
async fn begun(
    rig: &Rig,
    found: Found,
    directives: impl IntoIterator<Item = Directive>,
) -> JoinHandle<Answer> {
    let (rig, asked) = (rig.clone(), ask(directives));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let task = tokio::spawn(async move {
        counted.store(1, SeqCst);
        rig.commit(found, asked).await
    });
    while count.load(SeqCst) == 0 {
        yield_now().await;
    }
    task
}

/// Begins a save that hangs in its write: the leader.
async fn leading(spy: &Spy<Memory>, rig: &Rig, token: &Token) -> (JoinHandle<Answer>, Latch) {
    let latch = spy.hold(Replace);
    let leader = begun(rig, rig.load(token).await, [increment("n")]).await;
    latch.reached().await;
    (leader, latch)
}

fn kind(answer: Answer) -> Kind {
    match answer {
        Err(Failed::Store(error)) => error.kind,
        other => panic!("no failed store: {other:?}"),
    }
}

fn row(answer: Result<Answer, tokio::task::JoinError>) -> Row {
    answer.unwrap().unwrap().row
}

async fn n(rig: &Rig, token: &Token) -> usize {
    live(rig.load(token).await).record.data.map()["n"].as_u64().unwrap().try_into().unwrap()
}

#[tokio::test]
async fn fifty_that_wait_are_written_in_two_writes_at_most() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let mut others = Vec::new();
    for _ in 0..50 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    for other in others {
        assert_eq!(row(other.await), Row::Save);
    }
    let writes = spy.calls().into_iter().filter(|call| *call == Replace).count();
    assert!(writes <= 3, "{writes}");
    assert_eq!(n(&beside, &token).await, 51);
}

#[tokio::test]
async fn many_that_wait_are_written_sixty_four_at_a_time() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let mut others = Vec::new();
    for _ in 0..300 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    for other in others {
        assert_eq!(row(other.await), Row::Save);
    }
    let writes = spy.calls().into_iter().filter(|call| *call == Replace).count();
    assert!((5..=6).contains(&writes), "{writes}: neither each for itself nor all in one long turn");
    assert_eq!(n(&beside, &token).await, 301);
}

#[tokio::test]
async fn those_who_wait_for_a_session_that_is_gone_learn_it_from_one_reading() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let mut others = Vec::new();
    for _ in 0..50 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    spy.calls();
    beside.request(&token, [Directive::Flush]).await;
    latch.release();
    assert_eq!(row(leader.await), Row::Gone);
    for other in others {
        assert_eq!(row(other.await), Row::Gone);
    }
    assert!(spy.calls().len() <= 3);
}

#[tokio::test]
async fn sessions_do_not_wait_for_each_other() {
    let (spy, rig, _, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let other = rig.begin(json!({"n": 0})).await;
    assert_eq!(rig.request(&other, [increment("n")]).await.row, Row::Save);
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
}

/// Else one hanging write would hold up every image of the page.
#[tokio::test]
async fn who_changes_nothing_waits_for_nobody() {
    let (spy, rig, _, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    assert_eq!(rig.request(&token, []).await.row, Row::Nothing);
    assert_eq!(rig.request(&token, [delete("zz")]).await.row, Row::Nothing);
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
}

#[tokio::test]
async fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let mut others = Vec::new();
    for directives in [
        vec![set(json!({"a": 1}))],
        vec![set(json!({"a": 2})), increment("n")],
        vec![Directive::Flush],
        vec![set(json!({"a": 3}))],
    ] {
        others.push(begun(&rig, found.clone(), directives).await);
    }
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    let mut rows = Vec::new();
    for other in others {
        rows.push(row(other.await));
    }
    assert_eq!(rows, [Row::Save, Row::Save, Row::Flush, Row::Gone]);
    assert_eq!(beside.data(&token).await, None);
}

#[tokio::test]
async fn one_that_is_refused_takes_nobody_with_it() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let first = begun(&rig, found.clone(), [set(json!({"text": "t"}))]).await;
    let bad = begun(&rig, found.clone(), [increment("n"), increment("text")]).await;
    let last = begun(&rig, found, [increment("n")]).await;
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    assert_eq!(row(first.await), Row::Save);
    assert!(matches!(bad.await.unwrap(), Err(Failed::Denied(_))));
    assert_eq!(row(last.await), Row::Save);
    assert_eq!(n(&beside, &token).await, 2, "nothing of the refused one");
}

#[tokio::test]
async fn a_write_that_met_another_sidecars_is_done_again_for_all() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let second = spy.hold(Replace);
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    second.reached().await;
    beside.request(&token, [increment("n")]).await;
    second.release();
    for other in others {
        assert_eq!(row(other.await), Row::Save);
    }
    assert_eq!(n(&beside, &token).await, 7);
}

/// The leader before left the lane with the session as it had written it. Another sidecar wrote since, and that is
/// what the next one has read: to judge it by the older state would be to lose its wish.
#[tokio::test]
async fn what_a_request_has_read_is_never_judged_by_an_older_state() {
    for (directives, under_version, expected) in
        [(vec![delete("k")], false, json!({"n": 1})), (vec![increment("n")], true, json!({"n": 2, "k": 1}))]
    {
        let (spy, rig, beside, token) = watched().await;
        let latch = Latch::new();
        spy.fail(Replace, Fault::DoneHold(latch.clone()));
        let leader = begun(&rig, rig.load(&token).await, [increment("n")]).await;
        latch.reached().await;
        beside.request(&token, [set(json!({"k": 1}))]).await;
        let found = rig.load(&token).await;
        let asked =
            if under_version { only_if(live(found.clone()).revision, directives) } else { ask(directives) };
        let (sidecar, started) = (rig.clone(), Arc::new(AtomicUsize::new(0)));
        let begun = Arc::clone(&started);
        let next = tokio::spawn(async move {
            begun.store(1, SeqCst);
            sidecar.commit(found, asked).await
        });
        while started.load(SeqCst) == 0 {
            yield_now().await;
        }
        latch.release();
        assert_eq!(row(leader.await), Row::Save);
        assert_eq!(row(next.await), Row::Save);
        assert_eq!(beside.data(&token).await, Some(expected));
    }
}

/// The leader's reading was on its way back when another sidecar wrote; who enters then may have read that.
#[tokio::test]
async fn who_enters_during_a_reading_is_not_judged_by_it() {
    let (spy, rig, beside, _) = watched().await;
    let token = rig.begin(json!({"x": 1})).await;
    let (found, latch) = (rig.load(&token).await, Latch::new());
    beside.request(&token, [delete("x")]).await;
    spy.fail(Get, Fault::DoneHold(latch.clone()));
    let leader = begun(&rig, found, [delete("x")]).await;
    latch.reached().await;
    beside.request(&token, [set(json!({"k": 1}))]).await;
    let next = begun(&rig, rig.load(&token).await, [delete("k")]).await;
    latch.release();
    assert_eq!(row(leader.await), Row::Nothing);
    assert_eq!(row(next.await), Row::Save);
    assert_eq!(beside.data(&token).await, Some(json!({})));
}

#[tokio::test]
async fn who_comes_when_the_session_has_expired_is_not_taken_along() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let in_time = begun(&rig, found.clone(), [increment("n")]).await;
    rig.wait(AGE);
    let late = begun(&rig, found, [increment("n")]).await;
    latch.release();
    assert_eq!((row(leader.await), row(in_time.await)), (Row::Save, Row::Save));
    assert_eq!(row(late.await), Row::Gone);
    assert_eq!(beside.load(&token).await, Found::No);
}

/// One budget a request: what others want is theirs to wait for.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_writes_of_those_who_came_later() {
    let (spy, rig, _, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let second = begun(&rig, found.clone(), [increment("n")]).await;
    let cycle = begun(&rig, found.clone(), [Directive::CycleKey]).await;
    let last = begun(&rig, found, [increment("n")]).await;
    let hanging = spy.hold(Add);
    let start = Instant::now();
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    assert_eq!(row(second.await), Row::Save);
    assert_eq!(start.elapsed(), Duration::ZERO);
    hanging.reached().await;
    assert_eq!(kind(cycle.await.unwrap()), Kind::OutcomeUnknown);
    assert_eq!(start.elapsed().as_millis(), BUDGET.as_millis());
    assert_eq!(kind(last.await.unwrap()), Kind::Timeout, "its time is over too, and nothing of it was sent");
    assert_eq!(n(&rig, &token).await, 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_past_the_deadline_is_told_so_and_never_applied() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    let start = Instant::now();
    for other in others {
        assert_eq!(kind(other.await.unwrap()), Kind::Timeout, "nothing of it was sent");
    }
    assert_eq!(kind(leader.await.unwrap()), Kind::OutcomeUnknown);
    assert!(start.elapsed() < BUDGET + Duration::from_millis(5));
    latch.release();
    assert_eq!(rig.request(&token, [increment("n")]).await.row, Row::Save, "the lane goes on");
    assert_eq!(n(&beside, &token).await, 1, "and none of them came later");
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_hanging_write_of_many_is_told_that_it_is_unknown() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let together = spy.hold(Replace);
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    together.reached().await;
    for other in others {
        assert_eq!(kind(other.await.unwrap()), Kind::OutcomeUnknown);
    }
    assert_eq!(rig.request(&token, [increment("n")]).await.row, Row::Save, "the lane goes on");
    assert_eq!(n(&beside, &token).await, 2);
}

#[tokio::test]
async fn a_write_of_many_that_cannot_be_sent_fails_for_all_of_them() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    spy.fail(Replace, Fault::Unreachable);
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    for other in others {
        assert_eq!(kind(other.await.unwrap()), Kind::Unreachable);
    }
    assert_eq!(n(&beside, &token).await, 1);
}

#[tokio::test]
async fn a_leader_that_is_dropped_midway_blocks_nobody() {
    for op in [Replace, Get] {
        let (spy, rig, beside, token) = watched().await;
        let found = rig.load(&token).await;
        if op == Get {
            // It hangs in the reading after a write that met another's.
            beside.request(&token, [increment("n")]).await;
        }
        let latch = spy.hold(op);
        let leader = begun(&rig, found.clone(), [increment("n")]).await;
        latch.reached().await;
        let mut others = Vec::new();
        for _ in 0..5 {
            others.push(begun(&rig, found.clone(), [increment("n")]).await);
        }
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        for other in others {
            assert_eq!(row(other.await), Row::Save);
        }
        assert_eq!(n(&beside, &token).await, if op == Get { 6 } else { 5 });
    }
}

/// The lead was given to it, and it is dropped before it learns of that.
#[tokio::test(start_paused = true)]
async fn a_lead_that_is_given_to_one_who_is_gone_goes_on_to_the_next() {
    let (spy, rig, beside, token) = watched().await;
    let (latch, found) = (spy.hold(Replace), rig.load(&token).await);
    let (sidecar, first) = (rig.clone(), found.clone());
    let (tell, told) = tokio::sync::oneshot::channel::<tokio::task::AbortHandle>();
    let leader = tokio::spawn(async move {
        let answer = sidecar.commit(first, ask([increment("n")])).await;
        // In this very turn the next one was woken, and has not run yet.
        told.await.unwrap().abort();
        answer
    });
    latch.reached().await;
    let next = begun(&rig, found.clone(), [increment("n")]).await;
    tell.send(next.abort_handle()).unwrap();
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    assert!(next.await.unwrap_err().is_cancelled());
    for other in others {
        assert_eq!(row(other.await), Row::Save);
    }
    assert_eq!(n(&beside, &token).await, 6);
    assert_eq!(rig.request(&token, [increment("n")]).await.row, Row::Save);
}

#[tokio::test]
async fn who_is_gone_while_waiting_is_never_applied() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    for gone in [3, 1] {
        let gone = others.remove(gone);
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
    }
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    for other in others {
        assert_eq!(row(other.await), Row::Save);
    }
    assert_eq!(n(&beside, &token).await, 3);
}

#[tokio::test]
async fn a_decision_that_panics_blocks_nobody() {
    let (spy, rig, beside, token) = watched().await;
    let (leader, latch) = leading(&spy, &rig, &token).await;
    let found = rig.load(&token).await;
    let mut others = vec![begun(&rig, found.clone(), [increment("n")]).await];
    let (store, now, loaded) = (Arc::clone(&rig.store), rig.now(), found.clone());
    let (plan, armed) = (rig.decide(ask([increment("n")])), Arc::new(AtomicUsize::new(0)));
    let bomb = Arc::clone(&armed);
    let panics = tokio::spawn(async move {
        let decide = Arc::new(move |found: &Found| match bomb.load(SeqCst) {
            0 => plan(found),
            _ => resume_unwind(Box::new("a panic of the test")),
        });
        store.commit(loaded, decide, now).await
    });
    yield_now().await;
    for _ in 0..5 {
        others.push(begun(&rig, found.clone(), [increment("n")]).await);
    }
    armed.store(1, SeqCst);
    latch.release();
    assert_eq!(row(leader.await), Row::Save);
    assert!(panics.await.unwrap_err().is_panic());
    for other in others {
        assert_eq!(row(other.await), Row::Save);
    }
    assert_eq!(n(&beside, &token).await, 7);
}

/// Tasks that come and go on real threads: what was acknowledged counts, what was in the write of one that went is
/// unknown, and the lane is free in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_dropped_anywhere_lose_nothing_that_was_acknowledged() {
    let rig = Rig::over(memory());
    let token = rig.begin(json!({"n": 0})).await;
    let (mut acknowledged, mut unknown) = (0, 0);
    for round in 0..150 {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (rig, token) = (rig.clone(), token.clone());
                tokio::spawn(async move { rig.commit(rig.load(&token).await, ask([increment("n")])).await })
            })
            .collect();
        for _ in 0..round % 7 {
            yield_now().await;
        }
        for task in tasks.iter().step_by(2) {
            task.abort();
        }
        for task in tasks {
            match task.await {
                Ok(Ok(outcome)) => {
                    assert_eq!(outcome.row, Row::Save);
                    acknowledged += 1;
                }
                Ok(failed) => {
                    assert_eq!(kind(failed), Kind::OutcomeUnknown);
                    unknown += 1;
                }
                Err(error) => {
                    assert!(error.is_cancelled(), "{error}");
                    unknown += 1;
                }
            }
        }
        assert_eq!(rig.request(&token, [increment("n")]).await.row, Row::Save, "nobody blocks the lane");
        acknowledged += 1;
    }
    let counted = n(&rig, &token).await;
    assert!((acknowledged..=acknowledged + unknown).contains(&counted), "{acknowledged} {counted} {unknown}");
}
