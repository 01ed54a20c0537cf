//! A master that others name: a failover is followed, and what was acknowledged survives it.

use std::time::Duration;

use coatroom::store::engine::{Engine, Stored, Worth};
use coatroom::store::redis::Redis;
use coatroom::store::{Config, Error, Kind};
use coatroom::time::Length;

use super::redis::apart;
use super::support::{key, revision, stored};
use crate::support::child::until;
use crate::support::{Authority, Pulse, Watched};

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
        if let Ok(Ok(found)) = tokio::time::timeout(Duration::from_millis(250), get).await {
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
