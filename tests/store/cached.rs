//! A cache before a database: whatever it does, nobody reads what is older than an acknowledged write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use coatroom::session::policy::Interval;
use coatroom::session::record::Revision;
use coatroom::session::{Directive, Found, Key, Row};
use coatroom::store::cached::{Cached, Counts};
use coatroom::store::engine::{Cleared, Engine, Stored, Swap, Worth};
use coatroom::store::file::File;
use coatroom::store::memory::Memory;
use coatroom::store::redis::Redis;
use coatroom::store::sql::{Postgres, Sql};
use coatroom::store::{CacheOnError, Config, Error, Unsealed};
use coatroom::time::{Clock, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::served::Served;
use super::shaky::Shaky;
use super::spy::Op::{self, Add, Get, Remove, Replace};
use super::spy::{Fault, Spy};
use super::support::{AGE, Rig, ask, counter, key, length, memory, revision, secs, set};
use super::{file, sql};
use crate::support::Redis as Server;

/// `store.cache_lease` of all tests.
const LEASE: Duration = Duration::from_secs(2);

pub(super) fn counts() -> Counts {
    Counts { hits: counter(), misses: counter(), errors: counter(), waits: counter(), unsettled: counter() }
}

/// Files, and a cache in this process.
pub(crate) fn file_behind_memory() -> Served<Cached<File, Memory>, TempDir> {
    let (folder, database) = folder();
    Served::by(folder, Cached::new(database, memory(), &Config::default(), Clock::system(), counts()))
}

/// Files, and a Redis before them.
pub(crate) fn file_behind_redis() -> Served<Cached<File, Redis>, (TempDir, Server)> {
    let ((folder, database), server) = (folder(), Server::start());
    let config = Config { url: (&*server.url()).into(), ..Config::default() };
    let cache = Redis::new(&config, counter()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"));
    Served::by((folder, server), Cached::new(database, cache, &Config::default(), Clock::system(), counts()))
}

/// A table of PostgreSQL, and a Redis before it.
pub(crate) fn postgres_behind_redis() -> Served<Cached<Sql<Postgres>, Redis>> {
    let (database, server) = (sql::postgres(), Server::start());
    let config = Config { url: (&*server.url()).into(), ..Config::default() };
    let cache = Redis::new(&config, counter()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"));
    Served::by(server, Cached::new(database, cache, &Config::default(), Clock::system(), counts()))
}

fn folder() -> (TempDir, File) {
    let folder = tempfile::tempdir().unwrap();
    let database = file::on(&folder.path().join("sessions"));
    (folder, database)
}

/// A sidecar whose calls are watched, of the database and of the cache.
struct Watched {
    rig: Rig,
    database: Spy<Memory>,
    cache: Spy<Memory>,
    counts: Counts,
}

impl Watched {
    fn new(on_error: CacheOnError) -> Self {
        let clock = Clock::stopped_at(Clock::system().now());
        Self::on(Spy::new(memory()), Spy::new(memory()), on_error, clock)
    }

    fn on(database: Spy<Memory>, cache: Spy<Memory>, on_error: CacheOnError, clock: Clock) -> Self {
        let config = Config { cache_on_error: on_error, ..Config::default() };
        let counts = counts();
        let engine = Cached::new(database.clone(), cache.clone(), &config, clock.clone(), counts.clone());
        Self { rig: Rig::over(engine).by(clock), database, cache, counts }
    }

    /// Another sidecar on the same two, where nothing fails.
    fn beside(&self) -> Self {
        let (database, cache) = (self.database.sound(), self.cache.sound());
        Self::on(database, cache, CacheOnError::Wait, self.rig.clock.clone())
    }

    /// The calls of the database, and those of the cache, since this was asked last.
    fn calls(&self) -> (Vec<Op>, Vec<Op>) {
        (self.database.calls(), self.cache.calls())
    }

    /// Lets the cache answer nothing for now.
    fn cut_off(&self) {
        cut_off(&self.cache);
    }

    async fn forget(&self) {
        self.cache.engine().clear_expired(Timestamp::MAX, usize::MAX).await.unwrap();
    }
}

/// Lets a cache answer nothing for now.
fn cut_off(cache: &Spy<Memory>) {
    for op in [Get, Add, Replace, Remove] {
        (0..200).for_each(|_| cache.fail(op, Fault::Unreachable));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_costs_the_database_nothing_and_what_is_not_is_read_once() {
    let one = Watched::new(CacheOnError::Wait);
    let token = one.rig.begin(json!({"a": 1})).await;
    assert_eq!(
        one.calls(),
        (vec![Add], vec![]),
        "nothing that arrives late can be older than the first saving"
    );
    one.rig.load(&token).await;
    assert_eq!(one.calls(), (vec![Get], vec![Get, Add, Replace]), "a look, a claim, the reading, the value");
    let other = one.beside();
    for who in [&one, &other] {
        assert_eq!(who.rig.data(&token).await, Some(json!({"a": 1})));
        assert_eq!(who.calls(), (vec![], vec![Get]));
    }
    one.rig.request(&token, [set(json!({"a": 2}))]).await;
    assert_eq!(one.calls(), (vec![Replace], vec![Get, Get, Replace, Replace]), "load; look, marker, value");
    assert_eq!(other.rig.data(&token).await, Some(json!({"a": 2})));
    assert_eq!(other.calls(), (vec![], vec![Get]));
    // It stays for half of the lease.
    one.rig.wait(LEASE / 2);
    assert_eq!(one.rig.data(&token).await, Some(json!({"a": 2})));
    assert_eq!(one.calls().0, [Get]);
    assert_eq!((one.counts.hits.get(), one.counts.misses.get(), one.counts.errors.get()), (2, 2, 0));
}

/// Django's `cached_db` goes on where the cache's `set` fails, and reads the old value from then on.
#[tokio::test(start_paused = true)]
async fn a_value_that_could_not_be_set_is_removed_and_never_read_again() {
    for on_error in [CacheOnError::Wait, CacheOnError::Fast] {
        let one = Watched::new(on_error);
        let token = one.rig.begin(json!({"role": "admin"})).await;
        one.rig.load(&token).await;
        one.cache.fail(Replace, Fault::None);
        one.cache.fail(Replace, Fault::Unreachable);
        let before = Instant::now();
        one.rig.request(&token, [set(json!({"role": "user"}))]).await;
        assert!(one.cache.is_spent() && before.elapsed() < LEASE);
        for who in [&one, &one.beside()] {
            assert_eq!(who.rig.data(&token).await, Some(json!({"role": "user"})));
        }
    }
}

/// Django's `cached_db` goes on where the cache's `delete` fails: who has logged out stays logged in.
#[tokio::test(start_paused = true)]
async fn a_logout_that_the_cache_did_not_hear_of_is_one() {
    let one = Watched::new(CacheOnError::Wait);
    let token = one.rig.begin(json!({"user_id": 1})).await;
    let found = one.rig.load(&token).await;
    let other = one.beside();
    assert_eq!(other.rig.data(&token).await, Some(json!({"user_id": 1})));
    one.cut_off();
    let (rig, asked) = (one.rig.clone(), ask([Directive::Flush]));
    let before = Instant::now();
    let logout = tokio::spawn(async move { rig.commit(found, asked).await });
    while one.counts.waits.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(other.rig.data(&token).await, Some(json!({"user_id": 1})), "nobody has been told of it yet");
    // The clock that the cache goes by, and the one that the sidecar waits by.
    one.rig.wait(LEASE);
    assert_eq!(logout.await.unwrap().unwrap().row, Row::Flush);
    assert!(before.elapsed() >= LEASE);
    assert!(matches!(other.rig.load(&token).await, Found::Ended(_)));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_want_to_wait_is_counted() {
    let one = Watched::new(CacheOnError::Fast);
    let token = one.rig.begin(json!({"n": 0})).await;
    let found = one.rig.load(&token).await;
    one.cut_off();
    let before = Instant::now();
    one.rig.commit(found, ask([set(json!({"n": 1}))])).await.unwrap();
    assert!(before.elapsed() < LEASE && one.counts.unsettled.get() == 1);
    let other = one.beside();
    assert_eq!(other.rig.data(&token).await, Some(json!({"n": 0})), "this is what it means");
    one.rig.wait(LEASE / 2);
    assert_eq!(other.rig.data(&token).await, Some(json!({"n": 1})), "and for how long");
}

/// While a reader is between the database and the cache somebody writes: what it read is not filled.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_never_fills_over_a_write_be_the_cache_lost_meanwhile_or_not() {
    for lost in [false, true] {
        let one = Watched::new(CacheOnError::Wait);
        let token = one.rig.begin(json!({"n": 0})).await;
        let slow = one.beside();
        let latch = super::spy::Latch::new();
        slow.database.fail(Get, Fault::DoneHold(latch.clone()));
        let (rig, shown) = (slow.rig.clone(), token.clone());
        let read = tokio::spawn(async move { rig.data(&shown).await });
        latch.reached().await;
        one.rig.request(&token, [set(json!({"n": 1}))]).await;
        if lost {
            one.forget().await;
        }
        latch.release();
        assert_eq!(read.await.unwrap(), Some(json!({"n": 0})), "it began before");
        for who in [&one, &slow] {
            assert_eq!(who.rig.data(&token).await, Some(json!({"n": 1})), "lost: {lost}");
        }
    }
}

/// The answer of the database was lost, and the cache has the value of before: whoever reads back asks the database.
#[tokio::test(start_paused = true)]
async fn a_save_of_unknown_outcome_is_not_read_back_from_the_cache() {
    for marked in [true, false] {
        let one = Watched::new(CacheOnError::Wait);
        let token = one.rig.begin(json!({"n": 0})).await;
        let found = one.rig.load(&token).await;
        if !marked {
            one.cache.fail(Get, Fault::Unreachable);
        }
        one.database.fail(Replace, Fault::DoneBroken);
        one.rig.commit(found, ask([set(json!({"n": 1}))])).await.unwrap();
        assert!(one.database.is_spent() && one.cache.is_spent());
        for who in [&one, &one.beside()] {
            assert_eq!(who.rig.data(&token).await, Some(json!({"n": 1})), "marked: {marked}");
        }
    }
}

/// The same, of a session that leaves no memory: the second try finds nothing, and nobody reads anything back.
#[tokio::test(start_paused = true)]
async fn a_logout_of_unknown_outcome_is_not_acknowledged_while_the_cache_has_what_it_ended() {
    let one = Watched::new(CacheOnError::Wait);
    let forgetful = |rig: &Rig| rig.with(|config| config.ended_memory = length(0));
    let (rig, other) = (forgetful(&one.rig), one.beside());
    let token = rig.begin(json!({"user_id": 1})).await;
    let found = rig.load(&token).await;
    one.cut_off();
    one.database.fail(Remove, Fault::DoneBroken);
    let before = Instant::now();
    let logout = tokio::spawn(async move { rig.commit(found, ask([Directive::Flush])).await });
    while one.counts.waits.get() == 0 && !logout.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(other.rig.data(&token).await, Some(json!({"user_id": 1})), "nobody has been told of it yet");
    one.rig.wait(LEASE);
    assert_eq!(logout.await.unwrap().unwrap().row, Row::Flush);
    assert!(before.elapsed() >= LEASE && one.database.is_spent());
    assert_eq!(forgetful(&other.rig).load(&token).await, Found::No);
}

/// A write whose connection broke is done late, after it was looked for; the next try is refused, by itself so to say.
#[tokio::test(start_paused = true)]
async fn a_write_that_is_done_after_it_was_looked_for_is_not_read_back_before_others_read_it() {
    let (database, cache) = (Spy::new(memory()), Spy::new(memory()));
    let config = Config { commit_timeout: length(3), ..Config::default() };
    let engine = Cached::new(database.clone(), cache.clone(), &config, Clock::system(), counts());
    let there = |revision: Option<Stored>| revision.map(|there| there.revision);
    assert_eq!(database.add(&key(1), number(0, revision(1)), Worth::Known).await, Ok(true));
    cut_off(&cache);
    let at = key(1);
    let save = || engine.replace(&at, revision(1), number(1, revision(2)), Worth::Known);
    database.fail(Replace, Fault::Broken);
    assert!(save().await.is_err());
    assert_eq!(there(engine.get(&key(1)).await.unwrap()), Some(revision(1)));
    let late = database.sound();
    assert_eq!(
        late.replace(&key(1), revision(1), number(1, revision(2)), Worth::Known).await,
        Ok(Swap::Done)
    );
    assert_eq!(save().await, Ok(Swap::Changed));
    let before = Instant::now();
    assert_eq!(there(engine.get(&key(1)).await.unwrap()), Some(revision(2)));
    assert!(before.elapsed() >= LEASE, "{:?}", before.elapsed());
}

/// One that met another's write reads what that one wrote, whatever the cache says.
#[tokio::test(start_paused = true)]
async fn a_save_that_met_another_is_decided_on_what_is_in_the_database() {
    let one = Watched::new(CacheOnError::Wait);
    let token = one.rig.begin(json!({"n": 0})).await;
    let found = one.rig.load(&token).await;
    // Another sidecar, which the cache did not hear.
    let other = one.beside();
    other.cut_off();
    let theirs = other.rig.load(&token).await;
    let (rig, asked) = (other.rig.clone(), ask([super::support::increment("n")]));
    let slow = tokio::spawn(async move { rig.commit(theirs, asked).await });
    while other.counts.waits.get() == 0 {
        tokio::task::yield_now().await;
    }
    one.rig.commit(found, ask([super::support::increment("n")])).await.unwrap();
    one.rig.wait(LEASE);
    slow.await.unwrap().unwrap();
    assert_eq!(one.rig.data(&token).await, Some(json!({"n": 2})));
}

/// A touch that seals anew is a write under the revision that it met, so that one that began before may still be done
/// after it: what the touch wrote is not filled, or a logout would be undone for as long as that lies there.
#[tokio::test(start_paused = true)]
async fn a_touch_that_seals_anew_never_fills_over_a_write_that_came_after_it() {
    for logout in [true, false] {
        let one = Watched::new(CacheOnError::Wait);
        let other = one.beside();
        let sealing = |watched: &Watched| {
            let prolonging = watched.rig.with(|config| {
                config.save_every_request = true;
                config.touch_interval = Interval::Every(length(0));
            });
            prolonging.sealing(&[1], Unsealed::Read)
        };
        let (touches, writes) = (sealing(&one), sealing(&other));
        let token = touches.begin(json!({"n": 0})).await;
        touches.wait(secs(1));
        let (to_touch, to_write) = (touches.load(&token).await, writes.load(&token).await);
        let (marked, touched) = (other.database.hold(Replace), super::spy::Latch::new());
        let change = if logout { Directive::Flush } else { set(json!({"n": 1})) };
        let rig = writes.clone();
        let write = tokio::spawn(async move { rig.commit(to_write, ask([change])).await });
        marked.reached().await;
        one.cache.fail(Replace, Fault::None);
        for op in [Replace, Remove] {
            one.cache.fail(op, Fault::Hold(touched.clone()));
        }
        let rig = touches.clone();
        let touch = tokio::spawn(async move { rig.commit(to_touch, ask([])).await });
        touched.reached().await;
        marked.release();
        let row = write.await.unwrap().unwrap().row;
        assert_eq!(row, if logout { Row::Flush } else { Row::Save });
        touched.release();
        assert_eq!(touch.await.unwrap().unwrap().row, Row::Touch);
        for rig in [&touches, &writes] {
            match rig.load(&token).await {
                Found::Ended(_) if logout => {}
                Found::Live(_) if !logout => assert_eq!(rig.data(&token).await, Some(json!({"n": 1}))),
                found => panic!("{found:?}"),
            }
        }
    }
}

/// A write that could not put its marker finds that of another one, which came before it and fills what it wrote.
#[tokio::test(start_paused = true)]
async fn a_marker_of_an_earlier_write_is_no_word_for_a_later_one() {
    let one = Watched::new(CacheOnError::Wait);
    let other = one.beside();
    let token = one.rig.begin(json!({"n": 0})).await;
    let found = one.rig.load(&token).await;
    one.cache.fail(Replace, Fault::None);
    let latch = one.cache.hold(Replace);
    let rig = one.rig.clone();
    let first = tokio::spawn(async move { rig.commit(found, ask([set(json!({"n": 1}))])).await });
    latch.reached().await;
    // The load is answered, and the look before the marker is not.
    for fault in [Fault::None, Fault::Unreachable] {
        other.cache.fail(Get, fault);
    }
    assert_eq!(other.rig.request(&token, [set(json!({"n": 2}))]).await.row, Row::Save);
    assert!(other.cache.is_spent());
    latch.release();
    assert_eq!(first.await.unwrap().unwrap().row, Row::Save);
    for who in [&one, &other] {
        assert_eq!(who.rig.data(&token).await, Some(json!({"n": 2})));
    }
}

/// A cache that ends values by its own clock, as servers do.
struct Expiring(Memory, Clock);

impl Engine for Expiring {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.0.clear_expired(self.1.now(), usize::MAX).await?;
        self.0.get(key).await
    }

    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        self.0.clear_expired(self.1.now(), usize::MAX).await?;
        self.0.add(key, new, worth).await
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        self.0.clear_expired(self.1.now(), usize::MAX).await?;
        self.0.replace(key, seen, new, worth).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.0.touch(key, seen, until).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.0.remove(key, seen).await
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        self.0.clear_expired(now, batch).await
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn number(n: u64, mine: Revision) -> Stored {
    let until = Clock::system().now().plus(AGE);
    Stored { value: Bytes::copy_from_slice(&n.to_le_bytes()), revision: mine, until }
}

fn read(stored: &Stored) -> u64 {
    u64::from_le_bytes(stored.value[..].try_into().unwrap())
}

type Sidecar = Cached<Shaky<Memory>, Shaky<Expiring>>;

/// Adds one, and says so once it is certain; returns whether it was.
async fn add_one(sidecar: &Sidecar, acked: &AtomicU64, mine: Revision) -> bool {
    let Ok(Some(seen)) = sidecar.get(&key(1)).await else { return false };
    let n = read(&seen) + 1;
    let done = match sidecar.replace(&key(1), seen.revision, number(n, mine), Worth::Known).await {
        Ok(swap) => swap == Swap::Done,
        // As the store over an engine does: it is read back.
        Err(_) => {
            sidecar.get(&key(1)).await.is_ok_and(|there| there.is_some_and(|there| there.revision == mine))
        }
    };
    if done {
        acked.fetch_max(n, SeqCst);
    }
    done
}

/// Writes the same again under the same revision, as a touch does that seals anew.
async fn touch(sidecar: &Sidecar) {
    if let Ok(Some(seen)) = sidecar.get(&key(1)).await {
        let again = number(read(&seen), seen.revision);
        drop(sidecar.replace(&key(1), seen.revision, again, Worth::Known).await);
    }
}

/// Two sidecars, readers and writers, a database and a cache that are late and fail, a cache that loses everything now
/// and then: whatever happens when, nobody reads less than what was acknowledged before the reading began.
async fn history(seed: u64) -> (u64, u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let clock = Clock::stopped_at(Clock::system().now());
    let (database, cache) = (Arc::new(memory()), Arc::new(Expiring(memory(), clock.clone())));
    assert_eq!(database.add(&key(1), number(0, revision(1)), Worth::Known).await, Ok(true));
    let (late, fails) = (random.random_range(0..8), random.random_range(0..15));
    let sidecars: Vec<Arc<Sidecar>> = (0..2)
        .map(|_| {
            let database = Shaky::new(&database, random.random(), 1, 5);
            let cache = Shaky::new(&cache, random.random(), late, fails);
            Arc::new(Cached::new(database, cache, &Config::default(), clock.clone(), counts()))
        })
        .collect();
    let (acked, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for n in 0..6_u64 {
        let (sidecar, acked, reads) =
            (Arc::clone(&sidecars[usize::from(n % 2 == 0)]), Arc::clone(&acked), Arc::clone(&reads));
        let mut random = SmallRng::seed_from_u64(random.random());
        tasks.spawn(async move {
            let end = Instant::now() + secs(20);
            for turn in 0_u64.. {
                if Instant::now() > end {
                    break;
                }
                sleep(Duration::from_millis(random.random_range(0..60))).await;
                if n < 2 && random.random_range(0..3) == 0 {
                    touch(&sidecar).await;
                } else if n < 2 {
                    add_one(&sidecar, &acked, revision((n + 2) << 32 | turn)).await;
                } else {
                    let floor = acked.load(SeqCst);
                    if let Ok(found) = sidecar.get(&key(1)).await {
                        let found = read(&found.expect("nobody removes it"));
                        assert!(
                            found >= floor,
                            "seed {seed}: {found} was read, and {floor} acknowledged before"
                        );
                        reads.fetch_add(1, SeqCst);
                    }
                }
            }
        });
    }
    let ticking = tokio::spawn({
        let (clock, cache) = (clock.clone(), Arc::clone(&cache));
        async move {
            loop {
                sleep(Duration::from_millis(1)).await;
                clock.advance(Duration::from_millis(1));
                if random.random_range(0..700) == 0 {
                    cache.clear_expired(Timestamp::MAX, usize::MAX).await.unwrap();
                }
            }
        }
    });
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    ticking.abort();
    (acked.load(SeqCst), reads.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn nobody_reads_what_is_older_than_an_acknowledged_write_whatever_fails_when() {
    let (mut acked, mut reads) = (0, 0);
    for seed in 0..24 {
        let (more, read) = history(seed).await;
        (acked, reads) = (acked + more, reads + read);
    }
    assert!(acked > 400 && reads > 4000, "{acked} writes and {reads} readings are no history");
}
