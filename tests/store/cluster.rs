//! A cluster: every key finds its server, while slots move and servers go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use coatroom::session::{Directive, Key};
use coatroom::store::engine::{Engine, Swap, Worth};
use coatroom::store::redis::Redis;
use coatroom::store::{Config, Kind};
use coatroom::time::Length;
use serde_json::json;

use super::redis::apart;
use super::spy::{Op, Spy};
use super::support::{Rig, ask, counter, key, revision, stored};
use crate::support::child::until;
use crate::support::{Authority, Cluster, Pulse, Puppet, Redis as Server};

const KNOWN: Worth = Worth::Known;

/// An engine on the servers that all share.
pub(crate) fn shared() -> Redis {
    apart(&Cluster::shared().url(), |_| {})
}

/// The same, whose writes wait for a replica.
pub(crate) fn replicated() -> Redis {
    apart(&Cluster::shared().url(), patiently)
}

/// With replicas that a busy machine may take its time to run.
fn patiently(config: &mut Config) {
    (config.wait_replicas, config.commit_timeout) = (1, Length::secs(60));
}

/// An engine whose keys begin so.
fn under(prefix: &str, cluster: &Cluster) -> Redis {
    let config = Config { url: (&*cluster.url()).into(), key_prefix: prefix.to_owned(), ..Config::default() };
    Redis::new(&config, counter()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"))
}

async fn there(engine: &Redis, key: &Key) -> Option<u64> {
    engine.get(key).await.unwrap().map(|there| there.revision.bits())
}

/// The slot of a key, as a server has it.
fn slot(server: &Server, prefix: &str, key: &Key) -> usize {
    server.ask(&[b"CLUSTER", &b"KEYSLOT"[..], &[prefix.as_bytes(), key.as_bytes()].concat()])
}

#[tokio::test]
async fn keys_lie_on_all_servers_and_each_is_found_at_once() {
    let cluster = Cluster::with(&[]);
    let engine = under("coat:", &cluster);
    for n in 1..=300 {
        assert_eq!(engine.add(&key(n), stored(n), KNOWN).await, Ok(true));
        assert_eq!(there(&engine, &key(n)).await, Some(n));
    }
    let sizes: Vec<i64> = cluster.servers[..3].iter().map(|server| server.ask(&["DBSIZE"])).collect();
    assert!(sizes.iter().all(|size| *size > 50) && sizes.iter().sum::<i64>() == 300, "{sizes:?}");
    assert_eq!(cluster.said("MOVED"), 0, "nobody had to be sent on");
}

#[tokio::test]
async fn a_cluster_is_reached_over_tls_and_all_of_its_servers_too() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cluster = Cluster::tls(&authority);
    let believing = |ca: &Authority| {
        let ca = ca.own.cert.clone();
        apart(&cluster.url(), |config| config.tls_ca_file = ca)
    };
    let engine = believing(&authority);
    for n in 1..=50 {
        assert_eq!(engine.add(&key(n), stored(n), KNOWN).await, Ok(true));
        assert_eq!(there(&engine, &key(n)).await, Some(n));
    }
    let sizes: Vec<i64> = cluster.servers[..3].iter().map(|server| server.ask(&["DBSIZE"])).collect();
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
    let error = believing(&stranger).get(&key(1)).await.expect_err("nobody we believe");
    assert!(error.kind == Kind::Unreachable && error.detail.contains("TLS: "), "{error}");
}

/// Braces in the prefix, or in the key's own bytes, make a hash tag.
#[tokio::test]
async fn a_hash_tag_puts_a_key_where_servers_expect_it() {
    let cluster = Cluster::shared();
    let before = cluster.said("MOVED");
    for prefix in ["{tagged}:", "half{", "{}empty:", "}{"] {
        let engine = under(prefix, cluster);
        for n in 0..64 {
            let mut bytes = *key(n).as_bytes();
            (bytes[(n % 20) as usize], bytes[(n % 19) as usize]) = (b'{', b'}');
            let key = Key::from_bytes(bytes);
            assert_eq!(engine.add(&key, stored(n + 1), KNOWN).await, Ok(true));
            assert_eq!(there(&engine, &key).await, Some(n + 1));
            assert_eq!(engine.remove(&key, revision(n + 1)).await, Ok(Swap::Done));
        }
    }
    assert_eq!(cluster.said("MOVED"), before, "nobody had to be sent on");
}

#[tokio::test]
async fn a_cycle_takes_three_calls() {
    let spy = Spy::new(shared());
    let rig = Rig::over(spy.clone());
    let token = rig.begin(json!({"a": 1})).await;
    spy.calls();
    let found = rig.load(&token).await;
    rig.commit(found, ask([Directive::CycleKey])).await.unwrap();
    assert_eq!(spy.calls(), [Op::Get, Op::Add, Op::Replace]);
}

/// What has left is asked for where it goes, what has not where it was, and a new key goes there at once.
#[tokio::test]
async fn a_slot_on_its_way_is_followed() {
    let cluster = Cluster::with(&[]);
    for replicas in [0, 1] {
        // All in one slot, so that some have left it and some have not.
        let prefix = format!("{{{replicas}}}:");
        let config = Config {
            url: (&*cluster.url()).into(),
            key_prefix: prefix.clone(),
            wait_replicas: replicas,
            commit_timeout: Length::secs(60),
            ..Config::default()
        };
        let engine = Redis::new(&config, counter()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"));
        for n in 1..=10 {
            assert_eq!(engine.add(&key(n), stored(n), KNOWN).await, Ok(true));
        }
        let slot = slot(&cluster.servers[0], &prefix, &key(1));
        let from = slot * 3 / 16_384;
        let to = (from + 1) % 3;
        let asked = cluster.said("ASK");
        cluster.begin_to_move(slot, from, to);
        assert_eq!(there(&engine, &key(1)).await, Some(1), "it is still there");
        assert_eq!(engine.replace(&key(1), revision(1), stored(101), KNOWN).await, Ok(Swap::Done));
        assert_eq!(engine.add(&key(11), stored(11), KNOWN).await, Ok(true), "it goes there at once");
        cluster.servers[to].ask::<()>(&["SCRIPT", "FLUSH"]);
        assert_eq!(engine.replace(&key(11), revision(11), stored(111), KNOWN).await, Ok(Swap::Done));
        cluster.migrate(slot, from, to);
        for n in 2..=10 {
            assert_eq!(engine.replace(&key(n), revision(n), stored(n + 100), KNOWN).await, Ok(Swap::Done));
            assert_eq!(there(&engine, &key(n)).await, Some(n + 100));
        }
        assert!(cluster.said("ASK") >= asked + 20);
        let moved = cluster.said("MOVED");
        cluster.settle(slot, from, to);
        for n in 1..=11 {
            assert_eq!(there(&engine, &key(n)).await, Some(n + 100));
        }
        assert!(cluster.said("MOVED") > moved);
        // What is known is read again: at last nobody has to be sent on.
        loop {
            let before = cluster.said("MOVED");
            assert_eq!(there(&engine, &key(1)).await, Some(101));
            if cluster.said("MOVED") == before {
                break;
            }
        }
    }
}

/// The master is killed, and another one only falls silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed_without_a_restart() {
    let cluster = Cluster::start();
    let engine = apart(&cluster.url(), patiently);
    for n in 1..=30 {
        assert_eq!(engine.add(&key(n), stored(n), KNOWN).await, Ok(true));
    }
    for (old, signal) in [(0, "KILL"), (1, "STOP")] {
        cluster.servers[old].signal(signal);
        let new = &cluster.servers[old + 3];
        let whole = || {
            let serves =
                |server: &Server| server.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            (new.is_master() && [2, 5].iter().all(|n| serves(&cluster.servers[*n]))).then(Pulse::start)
        };
        let all = async {
            let watch = Pulse::start();
            for n in 1..=30 {
                loop {
                    let key = key(n);
                    let get = tokio::time::timeout(Duration::from_millis(250), engine.get(&key));
                    if let Ok(Ok(found)) = get.await {
                        assert_eq!(found.map(|there| there.revision.bits()), Some(n));
                        break;
                    }
                    assert!(watch.elapsed() < Duration::from_secs(60), "it is never followed");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            Pulse::start()
        };
        let promoted = async { tokio::task::block_in_place(|| until(whole)) };
        let (answered, promoted) = tokio::join!(all, promoted);
        let late = promoted.elapsed().saturating_sub(answered.elapsed());
        assert!(late < Duration::from_secs(1), "{late:?} from the new master to all answers");
        if signal == "STOP" {
            cluster.servers[old].signal("CONT");
        }
    }
}

/// It was reset, and tells of nobody; those that served serve still.
#[tokio::test]
async fn a_server_that_has_left_the_cluster_leads_nobody_astray() {
    let (server, left) = (Server::start(), Arc::new(AtomicBool::new(false)));
    let (port, has_left) = (server.address.port(), Arc::clone(&left));
    let seed = Puppet::new(move |words| {
        let all = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}");
        let none = || "*0".to_owned();
        (words[0] == "CLUSTER").then(|| if has_left.load(Relaxed) { none() } else { all })
    });
    let engine = apart(&format!("redis+cluster://{}", seed.address), |_| {});
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    left.store(true, Relaxed);
    let asked = seed.asked();
    while seed.asked() < asked + 3 {
        assert_eq!(there(&engine, &key(1)).await, Some(1));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_is_no_cluster_or_not_whole_is_named() {
    let alone = Server::start();
    let engine = apart(&format!("redis+cluster://{}", alone.address), |_| {});
    let error = engine.get(&key(1)).await.expect_err("it must fail");
    assert_eq!(error.kind, Kind::Unreachable);
    assert!(error.detail.contains("ERR This instance has cluster support disabled"), "{error}");

    let empty = Server::with(&["--cluster-enabled", "yes"]);
    let engine = apart(&format!("redis+cluster://{}", empty.address), |_| {});
    let error = engine.get(&key(1)).await.expect_err("it must fail");
    assert_eq!(error.kind, Kind::ClusterDown, "{error}");

    let shared = Cluster::shared();
    let plain = apart(&shared.servers[0].url(), |_| {});
    let mut errors = Vec::new();
    for n in 0..32 {
        errors.extend(plain.get(&key(n)).await.err());
    }
    let error = errors.first().expect("some are elsewhere");
    assert!(error.detail.ends_with("(it is part of a cluster: write redis+cluster://)"), "{error}");
}
