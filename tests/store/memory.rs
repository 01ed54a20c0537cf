//! What `memory:` does when there is no room for everything, and that it forgets nothing of what it must give back.

use std::sync::Arc;

use bytes::Bytes;
use coatroom::session::directive::Cycle as Reason;
use coatroom::session::{Directive, Found, Row};
use coatroom::store::Config;
use coatroom::store::engine::{Cleared, Engine, Stored, Swap, Worth};
use coatroom::store::memory::{Memory, Usage};
use coatroom::time::Timestamp;
use prometheus::IntCounter;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::spy::Spy;
use super::support::{AGE, Rig, counter, key, memory, revision, secs, set};

/// What a session takes besides its value.
const OVERHEAD: usize = 200;

fn limited(max_sessions: usize, max_bytes: usize) -> (Memory, IntCounter) {
    let evictions = counter();
    let config = Config { max_sessions, max_bytes, ..Config::default() };
    (Memory::new(&config, evictions.clone()), evictions)
}

fn stored(length: usize, n: u64) -> Stored {
    let until = Timestamp::from_millis(1_000_000 + i64::try_from(n).unwrap());
    Stored { value: Bytes::from(vec![0; length]), revision: revision(n + 1), until }
}

/// One of the three.
fn worth(n: u64) -> Worth {
    match n % 3 {
        0 => Worth::Anonymous,
        1 => Worth::Ended,
        _ => Worth::Known,
    }
}

async fn add(memory: &Memory, n: u64, worth: Worth) {
    assert_eq!(memory.add(&key(n), stored(100, n), worth).await, Ok(true));
}

async fn holds(memory: &Memory, n: u64) -> bool {
    // A look that is no visit: who comes back is kept longer.
    memory.replace(&key(n), revision(u64::MAX), stored(0, 0), Worth::Anonymous).await != Ok(Swap::Gone)
}

async fn all(memory: &Memory, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let mut held = Vec::new();
    for n in numbers {
        if holds(memory, n).await {
            held.push(n);
        }
    }
    held
}

#[tokio::test]
async fn no_more_sessions_are_held_than_there_is_room_for() {
    let (memory, evictions) = limited(100, usize::MAX);
    for n in 0..250 {
        add(&memory, n, Worth::Anonymous).await;
        assert!(memory.usage().sessions <= 100);
    }
    assert_eq!((memory.usage().sessions, evictions.get()), (100, 150));
    assert_eq!(all(&memory, 0..250).await, (150..250).collect::<Vec<_>>(), "the oldest went");
}

#[tokio::test]
async fn no_more_bytes_are_held_than_there_is_room_for() {
    let (memory, evictions) = limited(usize::MAX, 10 * (100 + OVERHEAD));
    for n in 0..10 {
        add(&memory, n, Worth::Anonymous).await;
    }
    assert_eq!((memory.usage().bytes, evictions.get()), (3000, 0));
    add(&memory, 10, Worth::Anonymous).await;
    assert_eq!((memory.usage().bytes, evictions.get()), (3000, 1));
    let grown = memory.replace(&key(9), revision(10), stored(700, 99), Worth::Anonymous).await;
    assert_eq!(grown, Ok(Swap::Done));
    assert_eq!((memory.usage().bytes, evictions.get()), (3000, 3), "a value that grows makes others go");
    assert_eq!(all(&memory, 0..11).await, (3..11).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_hold_among_many_who_add() {
    for (sessions, bytes) in [(500, usize::MAX), (usize::MAX, 500 * (100 + OVERHEAD))] {
        let (memory, evictions) = limited(sessions, bytes);
        let (memory, start) = (Arc::new(memory), Arc::new(Barrier::new(8)));
        let mut tasks = JoinSet::new();
        for task in 0..8 {
            let (memory, start) = (Arc::clone(&memory), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                for n in task * 2000..(task + 1) * 2000 {
                    let worth = worth(n);
                    add(&memory, n, worth).await;
                    // What two threads have added and not yet made room for.
                    assert!(memory.usage().sessions <= 500 + 2);
                    if n % 5 == 0 {
                        drop(memory.get(&key(n)).await);
                    }
                    if n % 7 == 0 {
                        drop(memory.remove(&key(n), revision(n + 1)).await);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        tasks.join_all().await;
        let usage = memory.usage();
        assert!(usage.sessions <= 500 && usage.bytes == usage.sessions * (100 + OVERHEAD), "{usage:?}");
        assert!(evictions.get() > 10_000);
    }
}

/// Each that logs in pushes one out.
#[tokio::test]
async fn who_never_came_back_goes_first_then_who_is_anonymous_and_last_who_is_logged_in() {
    let (memory, evictions) = limited(12, usize::MAX);
    for n in 0..3 {
        add(&memory, n, Worth::Known).await;
    }
    for n in 3..9 {
        add(&memory, n, Worth::Anonymous).await;
    }
    for n in [5, 6] {
        memory.get(&key(n)).await.unwrap();
    }
    for n in 9..12 {
        add(&memory, n, Worth::Anonymous).await;
    }
    let mut left = all(&memory, 0..12).await;
    let mut order = Vec::new();
    for n in 100..112 {
        add(&memory, n, Worth::Known).await;
        let now = all(&memory, 0..12).await;
        order.extend(left.iter().copied().filter(|n| !now.contains(n)));
        left = now;
    }
    assert_eq!(order, [3, 4, 7, 8, 9, 10, 5, 6, 11, 0, 1, 2], "the one that is newest has its chance");
    assert_eq!(evictions.get(), 12);
}

/// Where everybody else has come back, the newest must not go the moment it comes, or nobody new could ever log in.
#[tokio::test]
async fn some_room_is_left_for_who_is_new() {
    let (memory, _) = limited(160, usize::MAX);
    for n in 0..160 {
        add(&memory, n, Worth::Anonymous).await;
        memory.get(&key(n)).await.unwrap();
    }
    for n in 200..210 {
        add(&memory, n, Worth::Anonymous).await;
    }
    assert_eq!(all(&memory, 200..210).await.len(), 10);
    for n in 210..1_000 {
        add(&memory, n, Worth::Anonymous).await;
    }
    assert_eq!(all(&memory, 200..1_000).await, (990..1_000).collect::<Vec<_>>(), "a sixteenth, and no more");
}

#[tokio::test]
async fn who_is_seen_again_and_again_stays_among_equals() {
    let (memory, _) = limited(10, usize::MAX);
    for n in 0..10 {
        add(&memory, n, Worth::Known).await;
    }
    for n in 10..100 {
        memory.get(&key(3)).await.unwrap();
        add(&memory, n, Worth::Known).await;
    }
    assert!(holds(&memory, 3).await);
}

/// Not the time that it takes to look at all of them.
#[tokio::test]
async fn an_eviction_takes_little_time_though_everybody_was_seen() {
    let (memory, evictions) = limited(1_000, usize::MAX);
    for n in 0..1_000 {
        add(&memory, n, Worth::Known).await;
        memory.get(&key(n)).await.unwrap();
    }
    add(&memory, 1_000, Worth::Known).await;
    assert_eq!(evictions.get(), 1);
    assert!(!holds(&memory, 64).await, "64 had another chance, and the next one has gone");
}

#[tokio::test]
async fn who_logs_in_counts_as_logged_in_and_who_logs_out_no_more() {
    let (memory, _) = limited(6, usize::MAX);
    for n in 0..2 {
        add(&memory, n, Worth::Anonymous).await;
        add(&memory, n + 2, Worth::Known).await;
    }
    let turns = async |n, worth| {
        let swap = memory.replace(&key(n), revision(n + 1), stored(100, n), worth).await;
        assert_eq!(swap, Ok(Swap::Done));
    };
    turns(0, Worth::Known).await;
    turns(1, Worth::Known).await;
    for n in 10..30 {
        add(&memory, n, Worth::Anonymous).await;
    }
    assert_eq!(all(&memory, 0..30).await, [0, 1, 2, 3, 28, 29]);
    turns(3, Worth::Ended).await;
    for n in 30..33 {
        add(&memory, n, Worth::Known).await;
    }
    let left = all(&memory, 0..33).await;
    assert_eq!(left, [0, 1, 2, 30, 31, 32], "a memory of a session is worth less than a session");
}

#[tokio::test]
async fn a_flood_of_new_visitors_evicts_nobody_who_is_logged_in() {
    let (memory, evictions) = limited(5_000, usize::MAX);
    for n in 0..1_000 {
        // They came as anybody does, and logged in.
        add(&memory, n, Worth::Anonymous).await;
        let swap = memory.replace(&key(n), revision(n + 1), stored(100, n), Worth::Known).await;
        assert_eq!(swap, Ok(Swap::Done));
    }
    for n in 1_000..101_000 {
        add(&memory, n, Worth::Anonymous).await;
    }
    assert_eq!(all(&memory, 0..1_000).await.len(), 1_000);
    assert_eq!((memory.usage().sessions, evictions.get()), (5_000, 96_000));
    assert!(memory.usage().queued <= 2 * 5_000 + 1024);
}

#[tokio::test]
async fn a_login_in_a_flood_holds() {
    let (memory, _) = limited(50, usize::MAX);
    let rig = Rig::over(memory);
    let token = rig.begin(json!({"cart": 1})).await;
    let outcome = rig.request(&token, [set(json!({"user_id": 1}))]).await;
    let (token, mut last) = (outcome.minted.unwrap(), None);
    for n in 0..500 {
        last = Some(rig.begin(json!({"n": n})).await);
    }
    assert_eq!(rig.data(&token).await, Some(json!({"cart": 1, "user_id": 1})));
    assert_eq!(rig.data(&last.unwrap()).await, Some(json!({"n": 499})));
}

/// They come with a session, a cart say, and have another one besides for a moment.
#[tokio::test]
async fn a_login_holds_where_everybody_else_is_logged_in() {
    let (memory, _) = limited(50, usize::MAX);
    let rig = Rig::over(memory);
    for n in 0..49 {
        rig.begin(json!({"user_id": n})).await;
    }
    let token = rig.begin(json!({"cart": 1})).await;
    let outcome = rig.request(&token, [set(json!({"user_id": 100}))]).await;
    assert_eq!(outcome.row, Row::CycleKey(Reason::Login));
    assert_eq!(rig.data(&outcome.minted.unwrap()).await, Some(json!({"cart": 1, "user_id": 100})));
}

#[tokio::test]
async fn what_was_evicted_is_absent_and_a_slow_request_of_it_is_gone() {
    let (memory, _) = limited(3, usize::MAX);
    let rig = Rig::over(memory);
    let token = rig.begin(json!({"n": 0})).await;
    let slow = rig.load(&token).await;
    for n in 0..10 {
        rig.begin(json!({"user_id": n})).await;
    }
    assert_eq!(rig.load(&token).await, Found::No);
    let outcome = rig.commit(slow, super::support::ask([set(json!({"n": 1}))])).await.unwrap();
    assert_eq!(outcome.row, Row::Gone);
}

#[tokio::test]
async fn every_byte_is_given_back() {
    let nothing = Usage { sessions: 0, bytes: 0, queued: 0 };
    let (memory, _) = limited(300, 200_000);
    for n in 0..2_000 {
        let size = usize::try_from(n * 37 % 900).unwrap();
        memory.add(&key(n), stored(size, n), Worth::Anonymous).await.unwrap();
        drop(memory.add(&key(n), stored(size, n), Worth::Known).await);
        if n % 3 == 0 {
            let worth = worth(n / 3);
            drop(memory.replace(&key(n / 2), revision(n / 2 + 1), stored(size / 2, n / 2), worth).await);
            drop(memory.touch(&key(n), revision(n + 1), stored(0, n).until).await);
        }
        if n % 5 == 0 {
            drop(memory.remove(&key(n / 2 + 1), revision(n / 2 + 2)).await);
        }
    }
    assert!(memory.usage().sessions > 100);
    for n in (0..2_000).step_by(2) {
        drop(memory.remove(&key(n), revision(n + 1)).await);
    }
    let cleared = memory.clear_expired(Timestamp::from_millis(2_000_000), usize::MAX).await.unwrap();
    assert!(cleared.removed > 50);
    assert_eq!(memory.clear_expired(Timestamp::MAX, usize::MAX).await, Ok(Cleared::default()));
    assert_eq!(Usage { queued: 0, ..memory.usage() }, nothing);
}

#[tokio::test]
async fn a_million_sessions_that_come_and_go_leave_no_queue_behind() {
    let (memory, evictions) = limited(1_000, usize::MAX);
    let value = Bytes::from_static(b"1:AAAAAAL");
    for n in 0..1_000_000 {
        let new = Stored { value: value.clone(), revision: revision(n + 1), until: Timestamp::MAX };
        let worth = if n % 2 == 0 { Worth::Anonymous } else { Worth::Known };
        assert_eq!(memory.add(&key(n), new, worth).await, Ok(true));
        if n >= 10 {
            assert_eq!(memory.remove(&key(n - 10), revision(n - 9)).await, Ok(Swap::Done));
        }
        if n % 1024 == 0 {
            assert!(memory.usage().queued <= 2 * 10, "{:?}", memory.usage());
        }
    }
    assert_eq!((memory.usage().sessions, evictions.get()), (10, 0));
}

/// The oldest ones stay, so that no stale place is ever at the front.
#[tokio::test]
async fn sessions_that_come_and_go_behind_one_that_stays_leave_no_queue_behind() {
    let (memory, _) = limited(1_000, usize::MAX);
    add(&memory, 0, Worth::Anonymous).await;
    add(&memory, 1, Worth::Known).await;
    for n in 2..50_000 {
        add(&memory, n, if n % 2 == 0 { Worth::Anonymous } else { Worth::Known }).await;
        assert_eq!(memory.remove(&key(n), revision(n + 1)).await, Ok(Swap::Done));
        assert!(memory.usage().queued <= 2 * 3 + 1024 + 1);
    }
}

/// Sessions that change hands between worths, as those of people who log in and out all day.
#[tokio::test]
async fn sessions_that_log_in_and_out_all_day_leave_no_queue_behind() {
    let (memory, _) = limited(1_000, usize::MAX);
    for n in 0..10 {
        add(&memory, n, Worth::Anonymous).await;
    }
    for round in 0..10_000 {
        let (n, worth) = (round % 10, if round / 10 % 2 == 0 { Worth::Known } else { Worth::Anonymous });
        let seen = revision(n + 1);
        assert_eq!(memory.replace(&key(n), seen, stored(100, n), worth).await, Ok(Swap::Done));
        assert!(memory.usage().queued <= 2 * 10 + 1024 + 1);
    }
}

#[tokio::test]
async fn an_expired_session_is_counted_by_whoever_removes_it() {
    let rig = Rig::over(memory());
    let (loaded, swept) = (rig.begin(json!({"a": 1})).await, rig.begin(json!({"a": 1})).await);
    let flushed = rig.begin(json!({"a": 1})).await;
    rig.request(&flushed, [Directive::Flush]).await;
    rig.wait(AGE + secs(600));
    for _ in 0..3 {
        rig.load(&loaded).await;
        rig.load(&flushed).await;
    }
    assert_eq!(rig.counts.expiries.get(), 1);
    for sessions in [1, 0] {
        assert_eq!(rig.store.clear_expired(rig.now(), 10).await.unwrap().sessions, sessions);
    }
    assert_eq!((rig.counts.expiries.get(), rig.load(&swept).await), (2, Found::No));
}

#[tokio::test]
async fn what_is_counted_is_what_is_kept() {
    let spy = Spy::new(memory());
    let rig = Rig::over(spy.clone());
    rig.begin(json!({"a": "x".repeat(1000)})).await;
    let bytes = spy.engine().usage().bytes;
    assert!((1000 + OVERHEAD..1000 + OVERHEAD + 100).contains(&bytes), "{bytes}");
}
