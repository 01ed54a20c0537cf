//! What is Redis' own: how records lie there, for how long, and what becomes of calls when the server is ill.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use coatroom::session::data::Data;
use coatroom::session::record::{Entry, Record};
use coatroom::session::{Directive, Found};
use coatroom::store::codec::native;
use coatroom::store::engine::{Engine, Stored, Swap, Worth};
use coatroom::store::redis::Redis;
use coatroom::store::{Config, Error, Kind};
use coatroom::time::{Clock, Length, Stopwatch};
use prometheus::IntCounter;
use redis::RedisResult;
use serde_json::json;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::link::{Linked, until_good};
use super::spy::{Op, Spy};
use super::support::{AGE, Rig, SCOPE, ask, counter, key, revision, secs, set, stored};
use crate::support::{Puppet, Redis as Server};

const KNOWN: Worth = Worth::Known;

fn engine(server: &Server) -> Redis {
    counted(server).0
}

/// An engine, and how many connections it has opened.
fn counted(server: &Server) -> (Redis, IntCounter) {
    counted_at(&server.url())
}

/// The same at this URL.
pub(super) fn counted_at(url: &str) -> (Redis, IntCounter) {
    let config = Config { url: url.into(), expired_memory: Length::secs(60), ..Config::default() };
    let opened = counter();
    let engine = Redis::new(&config, opened.clone()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"));
    (engine, opened)
}

/// The same together, on a server that has on disk what it has acknowledged.
pub(super) fn linked() -> Linked<Redis, Server> {
    let server = Server::durable();
    let (engine, opened) = counted(&server);
    Linked { server, engine, opened }
}

/// An engine with these settings, under a prefix that no other has.
pub(crate) fn apart(url: &str, change: impl FnOnce(&mut Config)) -> Redis {
    static TESTS: AtomicU64 = AtomicU64::new(0);
    let key_prefix = format!("{}:", TESTS.fetch_add(1, Relaxed));
    let mut config = Config { url: url.into(), key_prefix, ..Config::default() };
    change(&mut config);
    Redis::new(&config, counter()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"))
}

/// What kind of error an answer is.
fn ill<T: std::fmt::Debug>(answer: Result<T, Error>) -> Kind {
    answer.expect_err("it must fail").kind
}

#[tokio::test]
async fn a_record_lies_under_prefix_and_key_and_outlives_its_end_for_a_while() {
    let server = Server::start();
    let rig = Rig::over(engine(&server));
    rig.begin(json!({"a": 1})).await;
    let keys: Vec<Vec<u8>> = server.ask(&["KEYS", "*"]);
    let [place] = &keys[..] else { panic!("{keys:?}") };
    assert!(place.starts_with(b"coat:") && place.len() == 25, "{place:?}");
    let left = ttl(&server, place);
    assert!(left <= AGE + secs(60) && left > AGE + secs(50), "{left:?}");
}

/// How long the server keeps a value still.
fn ttl(server: &Server, place: &[u8]) -> Duration {
    Duration::from_millis(server.ask::<u64>(&[&b"PTTL"[..], place]))
}

#[tokio::test]
async fn the_memory_of_an_ended_token_goes_when_it_ends() {
    let server = Server::start();
    let rig = Rig::over(engine(&server));
    let token = rig.begin(json!({"a": 1})).await;
    rig.request(&token, [Directive::Flush]).await;
    let place = server.ask::<Vec<Vec<u8>>>(&["KEYS", "*"]).remove(0);
    let left = ttl(&server, &place);
    assert!(left <= rig.config.ended_memory.0 && left > rig.config.ended_memory.0 - secs(10), "{left:?}");
}

/// Whose clock stands in another year has sessions all the same.
#[tokio::test]
async fn a_clock_that_is_wrong_loses_nothing() {
    let server = Server::start();
    for years in [-3_i64, 3] {
        let rig = Rig::over(engine(&server)).at_another_time(years * 365 * 24 * 3_600_000);
        let token = rig.begin(json!({"a": 1})).await;
        assert_eq!(rig.data(&token).await, Some(json!({"a": 1})));
        rig.request(&token, [set(json!({"a": 2}))]).await;
        assert_eq!(rig.data(&token).await, Some(json!({"a": 2})), "{years}");
    }
}

#[tokio::test]
async fn a_touch_moves_the_end_at_the_server_too() {
    let server = Server::start();
    let engine = engine(&server);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    let later = stored(1).until.plus(AGE);
    assert_eq!(engine.touch(&key(1), revision(1), later).await, Ok(Swap::Done));
    let place = server.ask::<Vec<Vec<u8>>>(&["KEYS", "*"]).remove(0);
    let left = ttl(&server, &place);
    assert!(left > 2 * AGE + secs(50) && left <= 2 * AGE + secs(60), "{left:?}");
}

#[tokio::test]
async fn what_is_found_expired_is_counted_once_in_the_fleet() {
    let server = Server::start();
    let rig = Rig::over(engine(&server));
    let token = rig.begin(json!({"a": 1})).await;
    rig.wait(AGE);
    let other = rig.beside();
    for sidecar in [&rig, &other, &rig] {
        assert_eq!(sidecar.load(&token).await, Found::No);
    }
    assert_eq!(rig.counts.expiries.get(), 1);
    assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0);
}

#[tokio::test]
async fn each_step_of_a_session_is_one_call() {
    let server = Server::start();
    let spy = Spy::new(engine(&server));
    let rig = Rig::over(spy.clone());
    let token = rig.begin(json!({"a": 1})).await;
    assert_eq!(spy.calls(), [Op::Add]);
    let found = rig.load(&token).await;
    assert_eq!(spy.calls(), [Op::Get]);
    rig.commit(found, ask([set(json!({"a": 2}))])).await.unwrap();
    assert_eq!(spy.calls(), [Op::Replace]);
    let found = rig.load(&token).await;
    spy.calls();
    let token = rig.commit(found, ask([Directive::CycleKey])).await.unwrap().minted.unwrap();
    assert_eq!(spy.calls(), [Op::Cycle]);
    let found = rig.load(&token).await;
    spy.calls();
    rig.commit(found, ask([Directive::Flush])).await.unwrap();
    assert_eq!(spy.calls(), [Op::Replace]);
}

/// Each of those calls is one command that the server sees, so long as it knows the scripts.
#[tokio::test]
async fn a_call_is_one_command() {
    let server = Server::start();
    let rig = Rig::over(engine(&server));
    let token = rig.begin(json!({"a": 1})).await;
    let commands = || -> u64 {
        let stats: String = server.ask(&["INFO", "commandstats"]);
        let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
        let ours = ["cmdstat_get:", "cmdstat_evalsha:", "cmdstat_eval:", "cmdstat_set:"];
        stats.lines().filter(|line| ours.iter().any(|name| line.starts_with(name))).filter_map(calls).sum()
    };
    let before = commands();
    let found = rig.load(&token).await;
    assert_eq!(commands() - before, 1);
    rig.commit(found, ask([set(json!({"a": 2}))])).await.unwrap();
    // The script's own SET is counted besides the script.
    assert_eq!(commands() - before, 1 + 2);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_told_again() {
    let server = Server::start();
    let rig = Rig::over(engine(&server));
    let token = rig.begin(json!({"n": 0})).await;
    for n in 1..4 {
        server.ask::<()>(&["SCRIPT", "FLUSH"]);
        rig.request(&token, [set(json!({"n": n}))]).await;
        assert_eq!(rig.data(&token).await, Some(json!({"n": n})));
    }
}

/// What the server holds for each session of 200 bytes of data, what all of them share left out.
#[tokio::test]
async fn a_session_of_200_bytes_takes_less_than_400_there() {
    let server = Server::start();
    let engine = engine(&server);
    let now = Clock::system().now();
    let data = Data::from_text(Bytes::from(format!("{{\"pad\":\"{}\"}}", "x".repeat(190))));
    assert_eq!(data.text().len(), 200);
    let record = Record { data, ..Record::new(SCOPE, now) };
    let used = || -> u64 {
        let info: String = server.ask(&["INFO", "memory"]);
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it is there");
        line.parse().expect("a number")
    };
    let add = async |numbers: std::ops::Range<u64>| {
        for n in numbers {
            let value = native::encode(&key(n), &Entry::Live(record.clone()), &[None; 3]);
            let stored = Stored { value, ..stored(n + 1) };
            assert_eq!(engine.add(&key(n), stored, KNOWN).await, Ok(true));
        }
    };
    // Tables double their size at powers of two: from one such to the next their share is that of each session.
    add(0..2048).await;
    let before = used();
    add(2048..4096).await;
    let each = (used() - before) / 2048;
    assert!((300..400).contains(&each), "{each} bytes");
}

#[tokio::test]
async fn a_server_without_room_a_replica_and_one_that_cannot_save_are_told_apart() {
    let server = Server::start();
    let engine = engine(&server);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));

    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(ill(engine.add(&key(2), stored(2), KNOWN).await), Kind::OutOfMemory);
    assert_eq!(ill(engine.replace(&key(1), revision(1), stored(2), KNOWN).await), Kind::OutOfMemory);
    assert_eq!(engine.touch(&key(1), revision(9), stored(2).until).await, Ok(Swap::Changed));
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);

    // Nobody listens at port 1, so it keeps what it has.
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(ill(engine.replace(&key(1), revision(1), stored(2), KNOWN).await), Kind::ReadOnly);
    assert_eq!(ill(engine.add(&key(2), stored(2), KNOWN).await), Kind::ReadOnly);
    assert!(engine.get(&key(1)).await.unwrap().is_some(), "it can be read still");
    server.ask::<()>(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    assert_eq!(ill(engine.get(&key(1)).await), Kind::ReadOnly, "MASTERDOWN");
    server.ask::<()>(&["REPLICAOF", "NO", "ONE"]);

    // A folder where its snapshot should be.
    server.ask::<()>(&["CONFIG", "SET", "save", "3600 1000000"]);
    std::fs::create_dir(server.folder().join("dump.rdb")).unwrap();
    crate::support::child::until(|| {
        let _: RedisResult<()> = redis::cmd("BGSAVE").query(&mut server.connect());
        server.ask::<String>(&["INFO", "persistence"]).contains("last_bgsave_status:err").then_some(())
    });
    assert_eq!(ill(engine.add(&key(2), stored(2), KNOWN).await), Kind::Misconfigured);
    assert_eq!(ill(engine.replace(&key(1), revision(1), stored(2), KNOWN).await), Kind::Misconfigured);
    assert_eq!(engine.get(&key(1)).await.unwrap().map(|there| there.revision), Some(revision(1)));
}

/// Before version 7 what a script may not do stands in an error of another code.
#[tokio::test]
async fn a_server_that_runs_no_writing_script_any_longer_is_looked_for_anew() {
    let refusal = "-ERR Error running script (call to f_bd6f): @user_script:4: @user_script: 4: -READONLY You can't \
                   write against a read only replica.";
    let old = Puppet::new(|words| (words[0] == "EVALSHA").then(|| refusal.to_owned()));
    let (engine, opened) = counted_at(&format!("redis://{}", old.address));
    let again = async {
        while opened.get() < 2 {
            let answer = engine.replace(&key(1), revision(1), stored(2), KNOWN).await;
            assert_eq!(ill(answer), Kind::ReadOnly);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(secs(30), again).await.expect("its connection is given up");
}

/// It says that it has lost the server, which may have done what it was asked before.
#[tokio::test]
async fn a_write_that_a_proxy_has_no_answer_to_may_have_been_done() {
    let proxy = Puppet::new(|words| {
        ["GET", "SET", "EVALSHA"].contains(&&*words[0]).then(|| "-ERR Connection timed out".to_owned())
    });
    let engine = counted_at(&format!("redis://{}", proxy.address)).0;
    assert_eq!(ill(engine.get(&key(1)).await), Kind::Refused);
    assert_eq!(ill(engine.add(&key(1), stored(1), KNOWN).await), Kind::Broken);
    assert_eq!(ill(engine.replace(&key(1), revision(1), stored(2), KNOWN).await), Kind::Broken);
}

/// They would go on reading from it.
#[tokio::test]
async fn what_one_worker_hears_of_a_demoted_server_moves_the_others_too() {
    let server = Server::start();
    let (engine, opened) = counted(&server);
    let (engine, over) = (std::sync::Arc::new(engine), std::sync::Arc::new(Notify::new()));
    let (ready, is_ready) = oneshot::channel();
    let other = std::thread::spawn({
        let (engine, over) = (engine.clone(), over.clone());
        move || {
            let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            worker.block_on(async {
                until_good(&*engine).await;
                ready.send(()).unwrap();
                over.notified().await;
            });
        }
    });
    is_ready.await.unwrap();
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    let told = async {
        while opened.get() < 3 {
            assert_eq!(ill(engine.add(&key(1), stored(1), KNOWN).await), Kind::ReadOnly);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Nobody writes any longer.
        while opened.get() < 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(secs(30), told).await.expect("both open another one");
    over.notify_one();
    other.join().unwrap();
}

#[tokio::test]
async fn a_server_that_is_kept_busy_says_so() {
    let server = Server::with(&["--busy-reply-threshold", "1"]);
    let engine = engine(&server);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    let mut busy = server.connect();
    let endless = std::thread::spawn(move || {
        redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut busy).expect_err("it is killed")
    });
    let answer = loop {
        match timeout(secs(1), engine.get(&key(1))).await {
            Ok(Err(error)) => break error,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(answer.kind, Kind::Busy, "{answer}");
    server.ask::<()>(&["SCRIPT", "KILL"]);
    endless.join().unwrap();
    until_good(&engine).await;
}

#[tokio::test]
async fn a_server_that_is_loading_says_so_and_then_has_everything() {
    // It hears nobody before it has read 1,024 commands, a tenth of a millisecond each.
    let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "no", "--key-load-delay", "100"]);
    let engine = engine(&server);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    let mut others = redis::pipe();
    for n in 0..15_000 {
        others.set(n, n).ignore();
    }
    others.exec(&mut server.connect()).unwrap();
    server.restart();
    let first = loop {
        match engine.get(&key(1)).await {
            Err(error) if error.kind != Kind::Loading => tokio::time::sleep(Duration::from_millis(1)).await,
            answer => break answer,
        }
    };
    assert_eq!(ill(first), Kind::Loading);
    until_good(&engine).await;
    assert_eq!(engine.get(&key(1)).await.unwrap().map(|there| there.revision), Some(revision(1)));
}

#[tokio::test]
async fn what_another_program_keeps_under_one_of_our_keys_is_corrupt_and_stays() {
    let server = Server::start();
    let engine = engine(&server);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    let place = server.ask::<Vec<Vec<u8>>>(&["KEYS", "*"]).remove(0);
    for value in [&b""[..], b"short", &[0; 14]] {
        server.ask::<()>(&[b"SET", &place[..], value]);
        assert_eq!(ill(engine.get(&key(1)).await), Kind::Corrupt, "{value:?}");
    }
    server.ask::<()>(&[b"DEL", &place[..]]);
    server.ask::<()>(&[b"LPUSH", &place[..], b"a"]);
    assert_eq!(ill(engine.get(&key(1)).await), Kind::Corrupt);
    assert_eq!(ill(engine.replace(&key(1), revision(1), stored(2), KNOWN).await), Kind::Corrupt);
    assert_eq!(server.ask::<i64>(&[b"LLEN", &place[..]]), 1);
}

/// Nobody gains by asking a server as fast as it can refuse.
#[tokio::test]
async fn a_server_that_ends_each_connection_is_not_stormed() {
    let server = Server::start();
    let (engine, opened) = counted(&server);
    until_good(&engine).await;
    let (mut other, watch) = (server.connect(), Stopwatch::start());
    while opened.get() < 16 {
        let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
        redis::cmd("CLIENT").arg(&kill).exec(&mut other).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The first two come fast, then there are 40 ms between them and more; after one that lived for half a second it
    // begins anew.
    assert!(watch.elapsed() >= Duration::from_millis(500), "{:?}", watch.elapsed());
    until_good(&engine).await;
}
