//! A master that others name: a failover is followed, and what was acknowledged survives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use coatroom::store::engine::{Engine, Stored, Worth};
use coatroom::store::redis::Redis;
use coatroom::store::{Config, Error, Kind};
use coatroom::time::Length;
use tokio::time::timeout;

use super::link::until_good;
use super::redis::{apart, counted_at};
use super::support::{key, revision, stored};
use crate::support::child::until;
use crate::support::{Authority, Pulse, Puppet, Redis as Server, Stage, Watched};

const KNOWN: Worth = Worth::Known;

/// An engine on the servers that all share.
pub(crate) fn shared() -> Redis {
    apart(&Watched::shared().url(), |_| {})
}

/// The same, whose writes wait for a replica.
pub(crate) fn replicated() -> Redis {
    apart(&Watched::shared().url(), patiently)
}

/// With replicas that a busy machine may take its time to run.
fn patiently(config: &mut Config) {
    (config.wait_replicas, config.commit_timeout) = (1, Length::secs(60));
}

async fn refusal(engine: &Redis) -> Error {
    engine.get(&key(1)).await.expect_err("it must fail")
}

/// Somebody is always asking, and nobody waits longer than a request would.
async fn first_answer(engine: &Redis, n: u64) -> (Pulse, Option<Stored>) {
    loop {
        let key = key(n);
        let get = engine.get(&key);
        if let Ok(Ok(found)) = timeout(Duration::from_millis(250), get).await {
            return (Pulse::start(), found);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The master is killed, and the next one only falls silent: then its connection says nothing of its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed_without_a_restart() {
    let watched = Watched::start();
    let engine = apart(&watched.url(), patiently);
    for (round, signal) in [(1, "KILL"), (2, "STOP")] {
        // A replica that follows another master now may take a moment.
        let added = engine.add(&key(round), stored(round), KNOWN).await;
        while added != Ok(true) && engine.confirm(&key(round), Some(revision(round))).await != Ok(true) {}
        let old = watched.master();
        watched.servers[old].signal(signal);
        let is_new = |n: &usize| *n != old && watched.servers[*n].is_master();
        let look = || until(|| (0..3).find(is_new).map(|_| Pulse::start()));
        let ((answered, found), promoted) =
            tokio::join!(first_answer(&engine, round), async { tokio::task::block_in_place(look) });
        assert_eq!(
            found.map(|there| there.revision),
            Some(revision(round)),
            "what was acknowledged is there"
        );
        let late = promoted.elapsed().saturating_sub(answered.elapsed());
        assert!(late < Duration::from_secs(1), "{late:?} from the new master to the first answer");
    }
}

#[tokio::test]
async fn sentinels_and_their_master_are_reached_over_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let watched = Watched::tls(&authority);
    let believing = |ca: &Authority| {
        let ca = ca.own.cert.clone();
        apart(&watched.url(), |config| config.tls_ca_file = ca)
    };
    let engine = believing(&authority);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    assert_eq!(engine.get(&key(1)).await.unwrap().map(|there| there.revision), Some(revision(1)));
    let error = refusal(&believing(&stranger)).await;
    assert!(error.kind == Kind::Unreachable && error.detail.contains("TLS: "), "{error}");
}

#[tokio::test]
async fn a_sentinel_that_is_away_is_left_for_the_next() {
    let shared = Watched::shared();
    let url = shared.url().replace("://", "://127.0.0.1:1,");
    let engine = apart(&url, |_| {});
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
}

/// It names a master that is none any longer, for ever: only who has not heard of another one goes there.
#[tokio::test]
async fn a_sentinel_that_has_not_heard_of_a_failover_moves_nobody() {
    let watched = Watched::with(&[], "sentinel config-epoch main 5");
    let (_nobody, gone) = Stage::nobody();
    let stale = Puppet::sentinel(move || (gone, 4));
    let url = watched.url().replace("://", &format!("://{},", stale.address));
    let (engine, opened) = counted_at(&url);
    // It is asked first, so the first connection fails, and all of them are asked in turn for a while.
    until_good(&engine).await;
    let before = stale.asked();
    let again = async {
        while stale.asked() < before + 2 {
            assert_eq!(engine.get(&key(1)).await, Ok(None));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(30), again).await.expect("it is asked again");
    assert_eq!(opened.get(), 1);
}

/// They were set up anew, and count from the beginning: all that can be asked, or all that there are.
#[tokio::test]
async fn sentinels_that_know_of_no_failover_any_longer_are_believed_when_nobody_knows_better() {
    for is_one_away in [true, false] {
        let (mut first, second, anew) = (Server::start(), Server::start(), Arc::new(AtomicBool::new(false)));
        let (before, after, is_anew) = (first.address, second.address, Arc::clone(&anew));
        let named = move || if is_anew.load(Relaxed) { (after, 0) } else { (before, 7) };
        let sentinels = [Puppet::sentinel(named.clone()), Puppet::sentinel(named)];
        let asked = || sentinels[0].asked() + sentinels[1].asked();
        let (_nobody, away) = Stage::nobody();
        let third = if is_one_away { format!(",{away}") } else { String::new() };
        let url = format!("redis+sentinel://{},{}{third}/main", sentinels[0].address, sentinels[1].address);
        let (engine, opened) = counted_at(&url);
        assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
        anew.store(true, Relaxed);
        if is_one_away {
            let before = asked();
            while asked() < before + 12 {
                assert!(engine.get(&key(1)).await.unwrap().is_some());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(opened.get(), 1, "it may know of another one, and nobody doubts this one");
            first.kill();
        }
        let found = async {
            while engine.get(&key(1)).await != Ok(None) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(30), found).await.expect("the other one is found");
    }
}

#[tokio::test]
async fn sentinels_that_say_nothing_of_the_master_are_named_in_one_error() {
    let shared = Watched::shared();
    let place = shared.sentinels[0].address;
    let server = shared.servers[0].address;
    for (url, expected) in [
        ("redis+sentinel://127.0.0.1:1/main".to_owned(), "no Sentinel says where \"main\" is: 127.0.0.1:1: "),
        (format!("redis+sentinel://{place}/other"), "it knows no master \"other\""),
        (format!("redis+sentinel://{server}/main"), "ERR unknown command 'SENTINEL'"),
    ] {
        let engine = apart(&url, |_| {});
        let error = refusal(&engine).await;
        assert_eq!(error.kind, Kind::Unreachable);
        assert!(error.detail.contains(expected), "{error}");
    }
}
