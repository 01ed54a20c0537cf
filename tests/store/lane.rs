//! Commits of one session inside one process: they wait for each other, are written together, and nobody's end is
//! everybody's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use coatroom::session::{Directive, Found, Row, Token};
use coatroom::store::memory::Memory;
use coatroom::store::{Failed, Kind, Outcome};
use serde_json::json;
use tokio::task::{JoinHandle, yield_now};

use super::spy::Op::{Get, Replace};
use super::spy::{Fault, Latch, Spy};
use super::support::{Rig, ask, delete, increment, live, memory, set};

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

/// Tasks that come and go on real threads: what was acknowledged counts, and the lane is free in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_dropped_anywhere_lose_nothing_that_was_acknowledged() {
    let rig = Rig::over(memory());
    let token = rig.begin(json!({"n": 0})).await;
    let (mut acknowledged, mut dropped) = (0, 0);
    for round in 0..150 {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let rig = rig.clone();
                tokio::spawn(async move { rig.request(&token, [increment("n")]).await.row })
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
                Ok(row) => {
                    assert_eq!(row, Row::Save);
                    acknowledged += 1;
                }
                Err(error) => {
                    assert!(error.is_cancelled(), "{error}");
                    dropped += 1;
                }
            }
        }
    }
    let counted = n(&rig, &token).await;
    assert!((acknowledged..=acknowledged + dropped).contains(&counted), "{acknowledged} {counted} {dropped}");
}
