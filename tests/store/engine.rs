//! What every [`Engine`] must do: one suite, one line of [`engine_suite!`] for each.
//!
//! An engine whose medium ends values by its own clock (Redis, memcached) has nothing to clear: its line says
//! `clears itself`.

use std::sync::Arc;

use bytes::Bytes;
use coatroom::session::Key;
use coatroom::session::record::{Entry, How, Record, Revision, Tombstone};
use coatroom::store::codec::native;
use coatroom::store::engine::{Cleared, Engine, Stored, Swap, Worth};
use coatroom::time::{Clock, Timestamp};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::support::{SCOPE, key, revision, secs};

/// Makes a test of each case, each on an engine of its own: `$engine` is a function whose future is one.
macro_rules! engine_suite {
    ($name:ident, $engine:expr) => {
        engine_suite!(@with $name, $engine,
            clearing_removes_what_ended_at_exactly_now_and_keeps_the_rest
            clearing_takes_no_more_than_a_batch
            clearing_counts_sessions_apart_from_memories_of_ended_ones
            clearing_never_removes_what_was_touched_in_time
        );
    };
    ($name:ident, $engine:expr, clears itself) => {
        engine_suite!(@with $name, $engine,);
    };
    (@with $name:ident, $engine:expr, $($more:ident)*) => {
        engine_suite!(@cases $name, $engine,
            nothing_is_found_where_nothing_was_put
            what_was_added_is_found_as_it_was
            a_taken_key_is_refused_and_keeps_what_it_has
            replacing_what_was_seen_is_done
            what_is_written_anew_keeps_its_revision
            replacing_something_else_changes_nothing
            replacing_what_is_not_there_makes_nothing
            a_revision_of_before_never_writes_again
            a_touch_moves_the_end_and_nothing_else
            a_touch_of_something_else_moves_nothing
            a_touch_of_what_is_not_there_makes_nothing
            removing_what_was_seen_is_done
            removing_something_else_removes_nothing
            removing_what_is_not_there_is_gone
            a_removed_key_can_be_taken_again
            any_bytes_come_back
            a_mebibyte_comes_back
            keys_are_kept_apart
            what_has_ended_is_there_as_it_was_or_is_not_there
            an_end_in_the_far_future_is_kept
            increments_by_compare_and_swap_all_count
            of_concurrent_adds_of_one_key_exactly_one_wins
            of_concurrent_writes_on_one_revision_exactly_one_wins
            it_answers_a_ping
            $($more)*
        );
    };
    (@cases $name:ident, $engine:expr, $($case:ident)*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::store::engine::$case(($engine)().await).await;
                }
            )*
        }
    };
}

engine_suite!(memory, || async { crate::store::support::memory() });
engine_suite!(file, || async { crate::store::file::file() });
engine_suite!(moving_next, || async { crate::store::moving::between_next() });
engine_suite!(moving_previous, || async { crate::store::moving::between_previous() });
engine_suite!(file_behind_memory, || async { crate::store::cached::file_behind_memory() });
engine_suite!(file_behind_redis, || async { crate::store::cached::file_behind_redis() });
engine_suite!(redis, || async { crate::store::served::redis() }, clears itself);
engine_suite!(memcached, || async { crate::store::served::memcached(1) }, clears itself);
engine_suite!(three_memcached, || async { crate::store::served::memcached(3) }, clears itself);
engine_suite!(redis_over_tls, || async { crate::store::access::over_tls() }, clears itself);
engine_suite!(redis_by_sentinel, || async { crate::store::sentinel::shared() }, clears itself);
engine_suite!(redis_cluster, || async { crate::store::cluster::shared() }, clears itself);
engine_suite!(redis_cluster_waiting_for_a_replica, || async { crate::store::cluster::replicated() }, clears itself);
engine_suite!(redis_waiting_for_a_replica, || async { crate::store::sentinel::replicated() }, clears itself);
engine_suite!(sqlite, || async { crate::store::sql::sqlite() });
engine_suite!(postgres, || async { crate::store::sql::postgres() });
engine_suite!(mariadb, || async { crate::store::sql::mariadb() });

const ANONYMOUS: Worth = Worth::Anonymous;

/// An hour from now, to the second: some media keep no less.
fn soon() -> Timestamp {
    Timestamp::from_millis(Clock::system().now().as_secs() * 1000).plus(secs(3600))
}

fn stored(value: &'static [u8], bits: u64) -> Stored {
    Stored { value: Bytes::from_static(value), revision: revision(bits), until: soon() }
}

async fn filled<E: Engine>(engine: &E) -> Key {
    let key = key(1);
    assert_eq!(engine.add(&key, stored(b"one", 1), ANONYMOUS).await, Ok(true));
    key
}

/// What lies there, but for its end.
async fn there<E: Engine>(engine: &E, key: &Key) -> Option<(Bytes, Revision)> {
    engine.get(key).await.unwrap().map(|stored| (stored.value, stored.revision))
}

fn one() -> Option<(Bytes, Revision)> {
    Some((Bytes::from_static(b"one"), revision(1)))
}

pub(crate) async fn nothing_is_found_where_nothing_was_put(engine: impl Engine) {
    assert_eq!(engine.get(&key(1)).await, Ok(None));
}

pub(crate) async fn what_was_added_is_found_as_it_was(engine: impl Engine) {
    let new = stored(b"one", 1);
    assert_eq!(engine.add(&key(1), new.clone(), ANONYMOUS).await, Ok(true));
    assert_eq!(engine.get(&key(1)).await, Ok(Some(new)));
}

pub(crate) async fn a_taken_key_is_refused_and_keeps_what_it_has(engine: impl Engine) {
    let key = filled(&engine).await;
    let before = engine.get(&key).await;
    let mut other = stored(b"two", 2);
    other.until = other.until.plus(secs(60));
    assert_eq!(engine.add(&key, other, Worth::Known).await, Ok(false));
    assert_eq!(engine.get(&key).await, before);
}

pub(crate) async fn replacing_what_was_seen_is_done(engine: impl Engine) {
    let key = filled(&engine).await;
    let mut new = stored(b"another", 2);
    new.until = new.until.plus(secs(60));
    assert_eq!(engine.replace(&key, revision(1), new.clone(), ANONYMOUS).await, Ok(Swap::Done));
    assert_eq!(engine.get(&key).await, Ok(Some(new)), "value, revision and end are the new ones");
}

/// As when a record is sealed by another key.
pub(crate) async fn what_is_written_anew_keeps_its_revision(engine: impl Engine) {
    let key = filled(&engine).await;
    for _ in 0..2 {
        let anew = stored(b"other bytes", 1);
        assert_eq!(engine.replace(&key, revision(1), anew.clone(), ANONYMOUS).await, Ok(Swap::Done));
        assert_eq!(engine.get(&key).await, Ok(Some(anew)));
    }
}

pub(crate) async fn replacing_something_else_changes_nothing(engine: impl Engine) {
    let key = filled(&engine).await;
    let before = engine.get(&key).await;
    assert_eq!(engine.replace(&key, revision(9), stored(b"two", 2), ANONYMOUS).await, Ok(Swap::Changed));
    assert_eq!(engine.get(&key).await, before);
}

pub(crate) async fn replacing_what_is_not_there_makes_nothing(engine: impl Engine) {
    assert_eq!(engine.replace(&key(1), revision(1), stored(b"two", 2), ANONYMOUS).await, Ok(Swap::Gone));
    assert_eq!(engine.get(&key(1)).await, Ok(None), "a save is never an upsert");
}

pub(crate) async fn a_revision_of_before_never_writes_again(engine: impl Engine) {
    let key = filled(&engine).await;
    for bits in 2..10 {
        let seen = revision(bits - 1);
        assert_eq!(engine.replace(&key, seen, stored(b"new", bits), ANONYMOUS).await, Ok(Swap::Done));
        for stale in 1..bits {
            let stale = revision(stale);
            let late = stored(b"late", 99);
            assert_eq!(engine.replace(&key, stale, late, ANONYMOUS).await, Ok(Swap::Changed));
            assert_eq!(engine.touch(&key, stale, soon()).await, Ok(Swap::Changed));
            assert_eq!(engine.remove(&key, stale).await, Ok(Swap::Changed));
        }
        assert_eq!(there(&engine, &key).await, Some((Bytes::from_static(b"new"), revision(bits))));
    }
}

pub(crate) async fn a_touch_moves_the_end_and_nothing_else(engine: impl Engine) {
    let key = filled(&engine).await;
    let until = soon().plus(secs(600));
    assert_eq!(engine.touch(&key, revision(1), until).await, Ok(Swap::Done));
    let touched = Stored { until, ..stored(b"one", 1) };
    assert_eq!(engine.get(&key).await, Ok(Some(touched)));
    let saved = engine.replace(&key, revision(1), stored(b"two", 2), ANONYMOUS).await;
    assert_eq!(saved, Ok(Swap::Done), "who read before the touch can still save");
}

pub(crate) async fn a_touch_of_something_else_moves_nothing(engine: impl Engine) {
    let key = filled(&engine).await;
    let before = engine.get(&key).await;
    assert_eq!(engine.touch(&key, revision(2), soon().plus(secs(600))).await, Ok(Swap::Changed));
    assert_eq!(engine.get(&key).await, before);
}

pub(crate) async fn a_touch_of_what_is_not_there_makes_nothing(engine: impl Engine) {
    assert_eq!(engine.touch(&key(1), revision(1), soon()).await, Ok(Swap::Gone));
    assert_eq!(engine.get(&key(1)).await, Ok(None));
}

pub(crate) async fn removing_what_was_seen_is_done(engine: impl Engine) {
    let key = filled(&engine).await;
    assert_eq!(engine.remove(&key, revision(1)).await, Ok(Swap::Done));
    assert_eq!(engine.get(&key).await, Ok(None));
}

pub(crate) async fn removing_something_else_removes_nothing(engine: impl Engine) {
    let key = filled(&engine).await;
    assert_eq!(engine.remove(&key, revision(2)).await, Ok(Swap::Changed));
    assert_eq!(there(&engine, &key).await, one());
}

pub(crate) async fn removing_what_is_not_there_is_gone(engine: impl Engine) {
    assert_eq!(engine.remove(&key(1), revision(1)).await, Ok(Swap::Gone));
    let key = filled(&engine).await;
    assert_eq!(engine.remove(&key, revision(1)).await, Ok(Swap::Done));
    assert_eq!(engine.remove(&key, revision(1)).await, Ok(Swap::Gone), "a second time");
    assert_eq!(engine.replace(&key, revision(1), stored(b"two", 2), ANONYMOUS).await, Ok(Swap::Gone));
    assert_eq!(engine.touch(&key, revision(1), soon()).await, Ok(Swap::Gone));
    assert_eq!(engine.get(&key).await, Ok(None), "and what was removed stays removed");
}

pub(crate) async fn a_removed_key_can_be_taken_again(engine: impl Engine) {
    let key = filled(&engine).await;
    assert_eq!(engine.remove(&key, revision(1)).await, Ok(Swap::Done));
    assert_eq!(engine.add(&key, stored(b"two", 2), ANONYMOUS).await, Ok(true));
    assert_eq!(engine.remove(&key, revision(1)).await, Ok(Swap::Changed), "the old revision is nobody's");
}

pub(crate) async fn any_bytes_come_back(engine: impl Engine) {
    let every: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let values =
        [&b""[..], b"\0", b"\r\n\r\n", b"$-1\r\n", b"END\r\n", b"'; --", b"\\x00", b"\xff\xfe\0", &every];
    for (n, value) in values.into_iter().enumerate() {
        let (key, bits) = (key(n as u64), n as u64 + 1);
        let new = Stored { value: Bytes::copy_from_slice(value), ..stored(b"", bits) };
        assert_eq!(engine.add(&key, new.clone(), ANONYMOUS).await, Ok(true));
        assert_eq!(engine.get(&key).await, Ok(Some(new.clone())), "added: {value:?}");
        let again = Stored { revision: revision(bits + 100), ..new };
        assert_eq!(engine.replace(&key, revision(bits), again.clone(), ANONYMOUS).await, Ok(Swap::Done));
        assert_eq!(engine.get(&key).await, Ok(Some(again)), "replaced: {value:?}");
    }
}

pub(crate) async fn a_mebibyte_comes_back(engine: impl Engine) {
    let value: Bytes = (0..1 << 20).map(|n: u32| n.to_le_bytes()[usize::from(n.is_multiple_of(7))]).collect();
    let new = Stored { value, ..stored(b"", 1) };
    assert_eq!(engine.add(&key(1), new.clone(), ANONYMOUS).await, Ok(true));
    assert_eq!(engine.get(&key(1)).await, Ok(Some(new.clone())));
    let again = Stored { revision: revision(2), ..new };
    assert_eq!(engine.replace(&key(1), revision(1), again.clone(), ANONYMOUS).await, Ok(Swap::Done));
    assert_eq!(engine.get(&key(1)).await, Ok(Some(again)));
}

pub(crate) async fn keys_are_kept_apart(engine: impl Engine) {
    // They differ in one byte each, the first to the last, so no engine can file by a part of a key.
    let keys: Vec<Key> =
        (0..20).map(|at| std::array::from_fn(|n| u8::from(n == at))).map(Key::from_bytes).collect();
    for (n, key) in keys.iter().enumerate() {
        let new = Stored { value: Bytes::from(vec![0; n]), ..stored(b"", n as u64 + 1) };
        assert_eq!(engine.add(key, new, ANONYMOUS).await, Ok(true));
    }
    assert_eq!(engine.remove(&keys[7], revision(8)).await, Ok(Swap::Done));
    for (n, key) in keys.iter().enumerate() {
        let found = engine.get(key).await.unwrap().map(|stored| stored.value.len());
        assert_eq!(found, (n != 7).then_some(n));
    }
}

/// The clock of the medium decides whether it is still there; in no case is it something else, and in no case can
/// somebody who saw it as it was write over something else.
pub(crate) async fn what_has_ended_is_there_as_it_was_or_is_not_there(engine: impl Engine) {
    let past = Timestamp::from_millis(Clock::system().now().as_secs() * 1000 - 60_000);
    let ended = Stored { until: past, ..stored(b"one", 1) };
    assert_eq!(engine.add(&key(1), ended.clone(), ANONYMOUS).await, Ok(true));
    let found = engine.get(&key(1)).await.unwrap();
    assert!(found.is_none() || found == Some(ended), "{found:?}");
    let swap = engine.replace(&key(1), revision(1), stored(b"two", 2), ANONYMOUS).await.unwrap();
    let expected = match swap {
        Swap::Done => Some((Bytes::from_static(b"two"), revision(2))),
        Swap::Gone => None,
        Swap::Changed => panic!("nobody changed it"),
    };
    assert_eq!(there(&engine, &key(1)).await, expected);
}

pub(crate) async fn an_end_in_the_far_future_is_kept(engine: impl Engine) {
    let new = Stored { until: Timestamp::MAX, ..stored(b"one", 1) };
    assert_eq!(engine.add(&key(1), new.clone(), ANONYMOUS).await, Ok(true));
    assert_eq!(engine.get(&key(1)).await, Ok(Some(new.clone())));
    assert_eq!(engine.touch(&key(1), revision(1), soon()).await, Ok(Swap::Done));
    assert_eq!(engine.touch(&key(1), revision(1), Timestamp::MAX).await, Ok(Swap::Done));
    assert_eq!(engine.get(&key(1)).await, Ok(Some(new)));
}

/// 64 tasks, each until its own increment is in.
pub(crate) async fn increments_by_compare_and_swap_all_count(engine: impl Engine) {
    const TASKS: u32 = 64;
    let engine = Arc::new(engine);
    assert_eq!(engine.add(&key(1), number(0, 1), ANONYMOUS).await, Ok(true));
    let start = Arc::new(Barrier::new(64));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (engine, start) = (Arc::clone(&engine), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            for attempt in 0_u64.. {
                let seen = engine.get(&key(1)).await.unwrap().unwrap();
                let next = u64::from_le_bytes(seen.value[..].try_into().unwrap()) + 1;
                let mine = (u64::from(task) + 2) << 32 | attempt;
                tokio::task::yield_now().await;
                if engine.replace(&key(1), seen.revision, number(next, mine), ANONYMOUS).await
                    == Ok(Swap::Done)
                {
                    return;
                }
            }
        });
    }
    tasks.join_all().await;
    let (value, _) = there(&*engine, &key(1)).await.unwrap();
    assert_eq!(u64::from_le_bytes(value[..].try_into().unwrap()), u64::from(TASKS));
}

fn number(n: u64, bits: u64) -> Stored {
    Stored { value: Bytes::copy_from_slice(&n.to_le_bytes()), ..stored(b"", bits) }
}

/// Runs `attempt` 32 times at once, and says which of them returned true.
async fn winners<E: Engine, F>(engine: &Arc<E>, attempt: impl Fn(Arc<E>, u64) -> F) -> Vec<u64>
where
    F: Future<Output = bool> + Send + 'static,
{
    let start = Arc::new(Barrier::new(32));
    let mut tasks = JoinSet::new();
    for n in 1..=32 {
        let (start, attempt) = (Arc::clone(&start), attempt(Arc::clone(engine), n));
        tasks.spawn(async move {
            start.wait().await;
            attempt.await.then_some(n)
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

pub(crate) async fn of_concurrent_adds_of_one_key_exactly_one_wins<E: Engine>(engine: E) {
    let engine = Arc::new(engine);
    for round in 0..20 {
        let add = move |engine: Arc<E>, n| async move {
            engine.add(&key(round), number(n, n), ANONYMOUS).await.unwrap()
        };
        let won = winners(&engine, add).await;
        assert_eq!(won.len(), 1);
        assert_eq!(there(&*engine, &key(round)).await, Some((number(won[0], 1).value, revision(won[0]))));
    }
}

pub(crate) async fn of_concurrent_writes_on_one_revision_exactly_one_wins<E: Engine>(engine: E) {
    let engine = Arc::new(engine);
    for round in 0..20 {
        assert_eq!(engine.add(&key(round), number(0, 999), ANONYMOUS).await, Ok(true));
        // Even numbers replace, odd ones remove.
        let write = move |engine: Arc<E>, n| async move {
            let seen = revision(999);
            let swap = match n % 2 {
                0 => engine.replace(&key(round), seen, number(n, n), ANONYMOUS).await,
                _ => engine.remove(&key(round), seen).await,
            };
            swap.unwrap() == Swap::Done
        };
        let won = winners(&engine, write).await;
        assert_eq!(won.len(), 1);
        let left = (won[0] % 2 == 0).then(|| (number(won[0], 1).value, revision(won[0])));
        assert_eq!(there(&*engine, &key(round)).await, left);
    }
}

pub(crate) async fn it_answers_a_ping(engine: impl Engine) {
    assert_eq!(engine.ping().await, Ok(()));
}

/// Ends at `until`, and is what the codec makes of a session or of the memory of an ended one.
fn entry(is_session: bool, n: u64, until: Timestamp) -> Stored {
    let entry = if is_session {
        Entry::Live(Record::new(SCOPE, until))
    } else {
        Entry::Ended(Tombstone { at: until, how: How::Flushed })
    };
    Stored { value: native::encode(&key(n), &entry, &[None; 3]), revision: revision(n), until }
}

pub(crate) async fn clearing_removes_what_ended_at_exactly_now_and_keeps_the_rest(engine: impl Engine) {
    let now = soon();
    let at = |millis: i64| Timestamp::from_millis(now.as_millis() + millis);
    for (n, millis) in [(1, -60_000), (2, -1), (3, 0), (4, 1), (5, 60_000)] {
        assert_eq!(engine.add(&key(n), entry(true, n, at(millis)), ANONYMOUS).await, Ok(true));
    }
    let long_ago = Timestamp::from_millis(i64::MIN);
    assert_eq!(engine.clear_expired(long_ago, 100).await, Ok(Cleared::default()), "nothing is as old");
    assert_eq!(engine.clear_expired(now, 100).await, Ok(Cleared { removed: 3, sessions: 3, more: false }));
    for n in 1..=5 {
        assert_eq!(engine.get(&key(n)).await.unwrap().is_some(), n > 3, "{n}");
    }
    assert_eq!(engine.clear_expired(now, 100).await, Ok(Cleared::default()), "nothing twice");
}

pub(crate) async fn clearing_takes_no_more_than_a_batch(engine: impl Engine) {
    let now = soon();
    for n in 0..25 {
        assert_eq!(engine.add(&key(n), entry(true, n + 1, now), ANONYMOUS).await, Ok(true));
    }
    let mut rounds = Vec::new();
    for _ in 0..4 {
        let Cleared { removed, more, .. } = engine.clear_expired(now, 10).await.unwrap();
        rounds.push((removed, more));
    }
    assert_eq!(rounds, [(10, true), (10, true), (5, false), (0, false)]);
}

pub(crate) async fn clearing_counts_sessions_apart_from_memories_of_ended_ones(engine: impl Engine) {
    let now = soon();
    for n in 0..10 {
        let worth = if n < 6 { ANONYMOUS } else { Worth::Ended };
        assert_eq!(engine.add(&key(n), entry(n < 6, n + 1, now), worth).await, Ok(true));
    }
    assert_eq!(engine.clear_expired(now, 100).await, Ok(Cleared { removed: 10, sessions: 6, more: false }));
}

pub(crate) async fn clearing_never_removes_what_was_touched_in_time(engine: impl Engine) {
    let now = soon();
    assert_eq!(engine.add(&key(1), entry(true, 1, now), ANONYMOUS).await, Ok(true));
    assert_eq!(engine.touch(&key(1), revision(1), now.plus(secs(1))).await, Ok(Swap::Done));
    assert_eq!(engine.clear_expired(now, 100).await, Ok(Cleared::default()));
    assert!(engine.get(&key(1)).await.unwrap().is_some());
}
