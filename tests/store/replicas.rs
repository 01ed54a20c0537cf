//! `store.wait_replicas`: what is acknowledged has reached them, and nothing else makes it so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use coatroom::session::{Directive, Found, Row};
use coatroom::store::engine::{Engine, Swap, Worth};
use coatroom::store::redis::Redis;
use coatroom::store::{Failed, Kind};
use coatroom::time::Length;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::link::until_good;
use super::redis::apart;
use super::support::{Rig, ask, increment, key, revision, secs, set, stored};
use crate::support::child::until;
use crate::support::{Puppet, Redis as Server};

const KNOWN: Worth = Worth::Known;

/// A master and its only replica.
struct Pair {
    master: Server,
    replica: Server,
}

impl Pair {
    fn start() -> Self {
        let master = Server::with(&["--repl-diskless-sync-delay", "0"]);
        let of = format!("127.0.0.1 {}", master.address.port());
        let replica = Server::with(&["--replicaof", &of]);
        let pair = Self { master, replica };
        until(|| pair.has_replica().then_some(()));
        pair
    }

    /// Has the master one that keeps up?
    fn has_replica(&self) -> bool {
        self.master.replicates("state=online") && self.master.ask::<i64>(&["WAIT", "1", "100"]) == 1
    }

    /// An engine whose writes wait for a fifth of so many seconds.
    fn engine(&self, replicas: usize, patience: u64) -> Redis {
        apart(&self.master.url(), |config| {
            (config.wait_replicas, config.commit_timeout) = (replicas, Length::secs(patience));
        })
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_on_the_replica() {
    let pair = Pair::start();
    let engine = pair.engine(1, 60);
    let there = |n: u64| {
        let keys: Vec<Vec<u8>> = pair.replica.ask(&["KEYS", "*"]);
        let of = |place: &Vec<u8>| pair.replica.ask::<Vec<u8>>(&[b"GET", &place[..]]);
        keys.iter().any(|place| of(place).starts_with(&n.to_be_bytes()))
    };
    for n in 1..50 {
        assert_eq!(engine.add(&key(n), stored(n), KNOWN).await, Ok(true));
        assert!(there(n));
        assert_eq!(engine.replace(&key(n), revision(n), stored(n + 100), KNOWN).await, Ok(Swap::Done));
        assert!(there(n + 100));
        assert_eq!(engine.remove(&key(n), revision(n + 100)).await, Ok(Swap::Done));
        assert!(!there(n + 100));
    }
}

/// It is written all the same: whoever reads it back must not take that for an acknowledgement.
#[tokio::test]
async fn a_write_that_too_few_replicas_have_is_no_success() {
    let pair = Pair::start();
    let (engine, sound) = (pair.engine(2, 5), pair.engine(0, 5));
    let unreplicated = |kind: Option<Kind>| assert_eq!(kind, Some(Kind::Unreplicated));
    unreplicated(engine.add(&key(1), stored(1), KNOWN).await.err().map(|error| error.kind));
    assert_eq!(
        engine.add(&key(1), stored(2), KNOWN).await,
        Ok(false),
        "nothing was written: nothing to wait for"
    );
    unreplicated(engine.replace(&key(1), revision(1), stored(2), KNOWN).await.err().map(|error| error.kind));
    let error = engine.touch(&key(1), revision(2), stored(1).until).await.expect_err("it must fail");
    assert_eq!(error.detail, "1 of 2 replicas (store.wait_replicas) have it");
    assert_eq!(engine.replace(&key(1), revision(1), stored(3), KNOWN).await, Ok(Swap::Changed));
    unreplicated(engine.confirm(&key(1), Some(revision(2))).await.err().map(|error| error.kind));
    assert_eq!(engine.confirm(&key(1), Some(revision(1))).await, Ok(false), "something else lies there");
    unreplicated(engine.remove(&key(1), revision(2)).await.err().map(|error| error.kind));
    unreplicated(engine.confirm(&key(1), None).await.err().map(|error| error.kind));
    assert_eq!(engine.confirm(&key(1), Some(revision(2))).await, Ok(false));
    assert_eq!(sound.get(&key(1)).await, Ok(None));
    assert_eq!(sound.confirm(&key(1), Some(revision(2))).await, Ok(true), "nobody waits for anybody");
}

#[tokio::test]
async fn a_commit_that_too_few_replicas_have_is_of_unknown_outcome() {
    let pair = Pair::start();
    let rig = Rig::within(pair.engine(1, 60), secs(1));
    let token = rig.begin(json!({"n": 0})).await;
    pair.replica.signal("STOP");
    let found = rig.load(&token).await;
    let failed = rig.commit(found, ask([increment("n")])).await.expect_err("it must fail");
    assert!(matches!(&failed, Failed::Store(error) if error.kind == Kind::OutcomeUnknown), "{failed:?}");
    let fresh = rig.commit(Found::No, ask([set(json!({"a": 1}))])).await.expect_err("it must fail");
    assert!(matches!(&fresh, Failed::Store(_)), "{fresh:?}");
    pair.replica.signal("CONT");
    assert_eq!(rig.data(&token).await, Some(json!({"n": 1})), "it was written");
}

/// Whoever asks for it again is told so when that is sure, and not because it lies there.
#[tokio::test]
async fn a_logout_that_too_few_replicas_have_is_no_success_the_second_time_either() {
    let pair = Pair::start();
    let rig = Rig::within(pair.engine(1, 60), secs(1));
    let token = rig.begin(json!({"n": 0})).await;
    pair.replica.signal("STOP");
    for _ in 0..2 {
        let found = rig.load(&token).await;
        let failed = rig.commit(found, ask([Directive::Flush])).await.expect_err("it must fail");
        assert!(matches!(&failed, Failed::Store(error) if error.kind == Kind::OutcomeUnknown), "{failed:?}");
    }
    pair.replica.signal("CONT");
    until(|| pair.has_replica().then_some(()));
    let found = rig.load(&token).await;
    assert!(matches!(found, Found::Ended(_)), "{found:?}");
    assert_eq!(rig.commit(found, ask([Directive::Flush])).await.unwrap().row, Row::EndedFlush);
    let of = |server: &Server| -> Vec<Vec<u8>> { server.ask(&["KEYS", "*"]) };
    assert_eq!(of(&pair.replica), of(&pair.master));
}

/// The write's own wait was in vain; what finds it there waits again.
#[tokio::test]
async fn a_commit_that_its_replica_gets_late_is_settled_by_another_wait() {
    let pair = Pair::start();
    let rig = Rig::over(pair.engine(1, 5));
    let token = rig.begin(json!({"n": 0})).await;
    pair.replica.signal("STOP");
    let found = rig.load(&token).await;
    let thaw = async {
        // Longer than one write waits, shorter than three do.
        sleep(Duration::from_millis(1500)).await;
        pair.replica.signal("CONT");
    };
    let (outcome, ()) = tokio::join!(rig.commit(found, ask([increment("n")])), thaw);
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(rig.data(&token).await, Some(json!({"n": 1})), "once");
    let of = |server: &Server| -> Vec<Vec<u8>> { server.ask(&["KEYS", "*"]) };
    assert_eq!(of(&pair.replica), of(&pair.master));
}

/// It may have been written, which somebody else has to be asked about.
#[tokio::test]
async fn a_write_whose_server_falls_silent_ends_of_itself() {
    let pair = Pair::start();
    let engine = pair.engine(1, 5);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    pair.master.signal("STOP");
    let key = key(1);
    let write = engine.replace(&key, revision(1), stored(2), KNOWN);
    let answer = timeout(secs(30), write).await.expect("it has an end");
    assert_eq!(answer.expect_err("it must fail").kind, Kind::Broken);
}

/// There are no more than sixteen under way, and the next one waits for a place.
#[tokio::test]
async fn a_write_that_waited_for_a_place_goes_to_whoever_is_the_master_by_then() {
    const PLACES: u64 = 16;
    let (old, new, moved) = (Server::start(), Server::start(), Arc::new(AtomicBool::new(false)));
    let (before, after, is_moved) = (old.address, new.address, Arc::clone(&moved));
    let named = move || if is_moved.load(Relaxed) { (after, 2) } else { (before, 1) };
    let sentinel = Puppet::sentinel(named);
    // Neither has a replica, so nobody's wait ends.
    let engine = Arc::new(apart(&format!("redis+sentinel://{}/main", sentinel.address), |config| {
        (config.wait_replicas, config.commit_timeout) = (1, Length::secs(600));
    }));
    let sizes = || [&old, &new].map(|server| server.ask::<u64>(&["DBSIZE"]));
    let reach = async |sizes_then: [u64; 2]| {
        while sizes() != sizes_then {
            sleep(Duration::from_millis(2)).await;
        }
    };
    until_good(&*engine).await;
    let mut writes = JoinSet::new();
    for n in 1..=PLACES + 1 {
        let engine = Arc::clone(&engine);
        writes.spawn(async move { engine.add(&key(n), stored(n), KNOWN).await });
    }
    timeout(secs(30), reach([PLACES, 0])).await.expect("the first ones are written");
    moved.store(true, Relaxed);
    while engine.get(&key(1)).await.unwrap().is_some() {
        sleep(Duration::from_millis(2)).await;
    }
    // That ends the waits.
    old.ask::<u64>(&["CLIENT", "KILL", "TYPE", "normal"]);
    timeout(secs(30), reach([PLACES, 1])).await.expect("the last one is written to the new master");
}

/// Writes that wait hold up nobody who reads, or writes over a connection of its own.
#[tokio::test]
async fn a_wait_stops_no_other_call() {
    let pair = Pair::start();
    let engine = pair.engine(2, 1);
    let _ = engine.add(&key(1), stored(1), KNOWN).await;
    let key = key(1);
    let (write, read) = (engine.replace(&key, revision(1), stored(2), KNOWN), engine.get(&key));
    let mut write = std::pin::pin!(write);
    tokio::select! {
        biased;
        answer = &mut write => panic!("it waits: {answer:?}"),
        found = read => assert!(found.unwrap().is_some()),
    }
    assert_eq!(write.await.expect_err("it must fail").kind, Kind::Unreplicated);
}
