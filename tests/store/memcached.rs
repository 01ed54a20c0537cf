//! What is memcached's own: how records lie there, for how long, what a call costs, which server has what, and what
//! becomes of calls when a server is ill.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use coatroom::session::data::Data;
use coatroom::session::record::{Entry, Record};
use coatroom::session::{Directive, Found};
use coatroom::store::codec::native;
use coatroom::store::engine::{Engine, Stored, Swap, Worth};
use coatroom::store::memcached::Memcached;
use coatroom::store::{Config, Error, Kind};
use coatroom::time::{Clock, Length, Stopwatch, Timestamp};
use prometheus::IntCounter;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::link::{Linked, until_good};
use super::served::memcached;
use super::spy::{Op, Spy};
use super::support::{AGE, Rig, SCOPE, ask, counter, key, revision, secs, set, stored};
use crate::support::Memcached as Server;
use crate::support::Pulse;

const KNOWN: Worth = Worth::Known;

fn engine(server: &Server) -> Memcached {
    counted(&[server.address]).0
}

/// An engine, and how many connections it has opened.
fn counted(servers: &[SocketAddr]) -> (Memcached, IntCounter) {
    let hosts: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let url = format!("memcache://{}", hosts.join(","));
    let config = Config { url: (&*url).into(), expired_memory: Length::secs(60), ..Config::default() };
    let opened = counter();
    let engine =
        Memcached::new(&config, opened.clone()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"));
    (engine, opened)
}

/// The same together.
pub(super) fn linked() -> Linked<Memcached, Server> {
    let server = Server::start();
    let (engine, opened) = counted(&[server.address]);
    Linked { server, engine, opened }
}

fn ill<T: std::fmt::Debug>(answer: Result<T, Error>) -> Kind {
    answer.expect_err("it must fail").kind
}

/// The revision that lies there.
async fn there(engine: &impl Engine, n: u64) -> Option<u64> {
    engine.get(&key(n)).await.unwrap().map(|there| there.revision.bits())
}

/// Seconds that a server keeps something still; its clock stands up to two behind.
fn lasts(server: &Server, place: &str, expected: Duration) {
    let left = Duration::from_secs(server.left(place).expect("not for ever"));
    assert!(left <= expected + secs(3) && left > expected - secs(10), "{left:?}");
}

#[tokio::test]
async fn a_record_lies_under_prefix_and_digits_and_outlives_its_end_for_a_while() {
    let server = Server::start();
    let rig = Rig::over(engine(&server));
    rig.begin(json!({"a": 1})).await;
    let place = server.key();
    assert!(place.starts_with("coat:") && place.len() == 45, "{place:?}");
    lasts(&server, &place, AGE + secs(60));
}

#[tokio::test]
async fn the_memory_of_an_ended_token_goes_when_it_ends() {
    let server = Server::start();
    let rig = Rig::over(engine(&server));
    let token = rig.begin(json!({"a": 1})).await;
    rig.request(&token, [Directive::Flush]).await;
    lasts(&server, &server.key(), rig.config.ended_memory.0);
}

#[tokio::test]
async fn a_touch_moves_the_end_at_the_server_too() {
    let server = Server::start();
    let engine = engine(&server);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    let later = stored(1).until.plus(AGE);
    assert_eq!(engine.touch(&key(1), revision(1), later).await, Ok(Swap::Done));
    // What is no session has no `store.expired_memory`.
    lasts(&server, &server.key(), 2 * AGE);
}

/// 32 bits of seconds end in 2038, and a length of more than 30 days would be taken for a date.
#[tokio::test]
async fn an_end_of_any_kind_is_never_taken_for_another_one() {
    let server = Server::start();
    let engine = engine(&server);
    let now = Clock::system().now();
    let days = |days: u64| now.plus(secs(days * 24 * 3600));
    let in_2038 = Timestamp::from_millis((i64::from(i32::MAX) + 1) * 1000);
    for (n, until, left) in [
        (1, days(29), Some(29)),
        (2, days(31), Some(31)),
        (3, days(400), Some(400)),
        (4, in_2038, None),
        (5, Timestamp::MAX, None),
    ] {
        let new = Stored { until, ..stored(n) };
        assert_eq!(engine.add(&key(n), new.clone(), KNOWN).await, Ok(true));
        assert_eq!(engine.get(&key(n)).await, Ok(Some(new)), "{n}");
        let place = server.key();
        match left {
            Some(days) => lasts(&server, &place, secs(days * 24 * 3600)),
            None => assert_eq!(server.left(&place), None, "{n}"),
        }
        assert_eq!(engine.remove(&key(n), revision(n)).await, Ok(Swap::Done));
    }
    for (n, until) in [(6, 0), (7, 1000), (8, 29 * 24 * 3_600_000), (9, now.as_millis() - 100_000)] {
        let new = Stored { until: Timestamp::from_millis(until), ..stored(n) };
        assert_eq!(engine.add(&key(n), new, KNOWN).await, Ok(true));
        assert_eq!(engine.get(&key(n)).await, Ok(None), "{n}");
    }
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
    assert_eq!(server.stat("curr_items"), 0);
}

/// What the server has been asked since the last time.
fn asked(server: &Server, before: &mut u64) -> u64 {
    let lines = ["cmd_get", "cmd_set", "delete_hits", "delete_misses"];
    let all: u64 = lines.iter().map(|name| server.stat(name)).sum();
    all - std::mem::replace(before, all)
}

#[tokio::test]
async fn load_save_and_create_are_one_round_trip_each() {
    let server = Server::start();
    let spy = Spy::new(engine(&server));
    let (rig, mut before) = (Rig::over(spy.clone()), 0);
    let mut cost = |calls: &[Op], trips| {
        assert_eq!(spy.calls(), calls);
        assert_eq!(asked(&server, &mut before), trips, "{calls:?}");
    };
    let token = rig.begin(json!({"a": 1})).await;
    cost(&[Op::Add], 1);
    let found = rig.load(&token).await;
    cost(&[Op::Get], 1);
    rig.commit(found, ask([set(json!({"a": 2}))])).await.unwrap();
    cost(&[Op::Replace], 1);
    let found = rig.load(&token).await;
    cost(&[Op::Get], 1);
    let token = rig.commit(found, ask([Directive::CycleKey])).await.unwrap().minted.unwrap();
    cost(&[Op::Add, Op::Replace], 2);
    let found = rig.load(&token).await;
    cost(&[Op::Get], 1);
    rig.commit(found, ask([Directive::Flush])).await.unwrap();
    cost(&[Op::Replace], 1);
}

/// What an engine has seen, written or touched it writes over at once; what it has not it looks at first.
#[tokio::test]
async fn a_write_costs_a_look_only_where_its_number_is_not_known() {
    let server = Server::start();
    let (one, other) = (engine(&server), engine(&server));
    let mut before = 0;
    assert_eq!(one.add(&key(1), stored(1), KNOWN).await, Ok(true));
    assert_eq!(asked(&server, &mut before), 1);
    for n in 2..5 {
        assert_eq!(one.replace(&key(1), revision(n - 1), stored(n), KNOWN).await, Ok(Swap::Done));
        assert_eq!(asked(&server, &mut before), 1, "its own writes follow each other");
    }
    assert_eq!(other.replace(&key(1), revision(4), stored(5), KNOWN).await, Ok(Swap::Done));
    assert_eq!(asked(&server, &mut before), 2, "nobody had told it the number");
    assert_eq!(one.replace(&key(1), revision(4), stored(6), KNOWN).await, Ok(Swap::Changed));
    assert_eq!(asked(&server, &mut before), 2, "refused, and then looked at");
    assert_eq!(other.touch(&key(1), revision(5), stored(5).until).await, Ok(Swap::Done));
    assert_eq!(asked(&server, &mut before), 2, "what is touched is written again");
    assert_eq!(one.replace(&key(1), revision(5), stored(6), KNOWN).await, Ok(Swap::Done));
    assert_eq!(asked(&server, &mut before), 3, "a touch by somebody else moves the number and is no change");
    assert_eq!(one.remove(&key(1), revision(6)).await, Ok(Swap::Done));
    assert_eq!(asked(&server, &mut before), 1);
    assert_eq!(one.remove(&key(1), revision(6)).await, Ok(Swap::Gone));
    assert_eq!(asked(&server, &mut before), 1);
}

/// A server that is started again counts from 1 once more: a number of before may be that of something else.
#[tokio::test]
async fn a_number_is_good_for_the_connection_that_it_came_by() {
    let mut server = Server::start();
    let (one, other) = (engine(&server), engine(&server));
    for n in 1..=5 {
        assert_eq!(one.add(&key(n), stored(n), KNOWN).await, Ok(true));
    }
    server.restart();
    until_good(&other).await;
    for n in 1..=5 {
        assert_eq!(other.add(&key(n), stored(n + 10), KNOWN).await, Ok(true));
    }
    let swap = loop {
        match one.replace(&key(5), revision(5), stored(99), KNOWN).await {
            Ok(swap) => break swap,
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    assert_eq!(swap, Swap::Changed);
    assert_eq!(there(&other, 5).await, Some(15), "whatever its number is");
}

/// memcached deals memory out in classes of sizes; this is the one that such a session is in.
#[tokio::test]
async fn a_session_of_200_bytes_of_data_takes_less_than_400_in_memcached() {
    let server = Server::start();
    let engine = engine(&server);
    let data = Data::from_text(Bytes::from(format!("{{\"pad\":\"{}\"}}", "x".repeat(190))));
    let record = Record { data, ..Record::new(SCOPE, Clock::system().now()) };
    let value = native::encode(&key(1), &Entry::Live(record), &[None; 3]);
    assert_eq!(engine.add(&key(1), Stored { value, ..stored(1) }, KNOWN).await, Ok(true));
    let lines = server.ask("stats slabs");
    let sizes = lines.iter().filter_map(|line| line.split_once(":chunk_size ")?.1.parse::<u64>().ok());
    let largest = sizes.max().expect("a class");
    assert!((300..400).contains(&largest), "{largest} bytes");
}

/// memcached would remove what lies there.
#[tokio::test]
async fn what_is_too_large_is_not_sent_and_the_old_record_stays() {
    let server = Server::with(&[]);
    let engine = engine(&server);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    let of = |length| Stored { value: Bytes::from(vec![b'x'; length]), ..stored(2) };
    // Its head, its key, and what memcached adds.
    let most = (1 << 20) - 14 - 45 - 59;
    for length in [most + 1, 1 << 20, 3 << 20] {
        let error = engine.replace(&key(1), revision(1), of(length), KNOWN).await.expect_err("too large");
        assert_eq!(error.kind, Kind::Refused);
        assert!(error.detail.contains("more than 1048576 bytes") && error.detail.contains("-I"), "{error}");
        assert_eq!(ill(engine.add(&key(2), of(length), KNOWN).await), Kind::Refused);
        assert_eq!(there(&engine, 1).await, Some(1));
    }
    assert_eq!(engine.replace(&key(1), revision(1), of(most), KNOWN).await, Ok(Swap::Done), "to the byte");
    assert_eq!(server.stat("store_too_large"), 0);
}

/// Fills a server with records of this length until it is `full`.
async fn fill(engine: &Memcached, full: impl Fn(Result<bool, Error>) -> bool) {
    for n in 100.. {
        let new = Stored { value: Bytes::from(vec![b'x'; 50_000]), ..stored(n) };
        if full(engine.add(&key(n), new, KNOWN).await) {
            return;
        }
    }
}

#[tokio::test]
async fn a_session_that_was_evicted_is_gone_and_nothing_brings_it_back() {
    let server = Server::with(&["-m", "2"]);
    let engine = engine(&server);
    let large = |n| Stored { value: Bytes::from(vec![b'x'; 50_000]), ..stored(n) };
    assert_eq!(engine.add(&key(1), large(1), KNOWN).await, Ok(true));
    fill(&engine, |added| {
        assert_eq!(added, Ok(true), "the oldest make room");
        server.stat("evictions") > 0
    })
    .await;
    while engine.get(&key(1)).await.unwrap().is_some() {
        fill(&engine, |_| true).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(engine.replace(&key(1), revision(1), stored(2), KNOWN).await, Ok(Swap::Gone));
    assert_eq!(engine.touch(&key(1), revision(1), stored(1).until).await, Ok(Swap::Gone));
    assert_eq!(engine.remove(&key(1), revision(1)).await, Ok(Swap::Gone));
    assert_eq!(there(&engine, 1).await, None);
}

/// With `-M` it refuses, and removes what was to be replaced, whoever named it: that is memcached's way of being full.
#[tokio::test]
async fn a_server_without_room_says_so_and_what_it_lost_stays_lost() {
    let server = Server::with(&["-m", "2", "-M"]);
    let engine = engine(&server);
    let large = |n| Stored { value: Bytes::from(vec![b'x'; 50_000]), ..stored(n) };
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    fill(&engine, |added| added.is_err()).await;
    let error = engine.add(&key(2), large(2), KNOWN).await.expect_err("full");
    assert_eq!(error.kind, Kind::OutOfMemory);
    assert!(error.detail.contains("-m there"), "{error}");
    assert_eq!(ill(engine.replace(&key(1), revision(1), large(3), KNOWN).await), Kind::OutOfMemory);
    assert_eq!(there(&engine, 1).await, None);
    assert_eq!(engine.replace(&key(1), revision(1), stored(3), KNOWN).await, Ok(Swap::Gone));
    assert!(there(&engine, 100).await.is_some(), "the connection is good still, and others are unharmed");
}

#[tokio::test]
async fn what_another_program_keeps_under_one_of_our_keys_is_corrupt_and_stays() {
    let server = Server::start();
    let engine = engine(&server);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    let place = server.key();
    for value in ["", "short", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        server.ask(&format!("ms {place} {}\r\n{value}", value.len()));
        assert_eq!(ill(engine.get(&key(1)).await), Kind::Corrupt, "{value:?}");
        assert_eq!(ill(engine.touch(&key(1), revision(1), stored(1).until).await), Kind::Corrupt);
        assert_eq!(server.ask(&format!("mg {place} v")), [value]);
    }
}

/// Somebody who greets as a memcached does, says one thing more to what is asked, and hangs up.
async fn impostor(says: &'static [u8]) -> SocketAddr {
    const GREETING: &[u8] = b"VERSION 1.6.18\r\nMN\r\nSTAT item_size_max 1048576\r\nEND\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(GREETING).await;
            if !says.is_empty() && stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(says).await;
                // Until whoever asked hangs up.
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            }
        }
    });
    address
}

/// Nobody gains by asking a server as fast as it can refuse.
#[tokio::test]
async fn a_server_that_ends_each_connection_is_not_stormed() {
    let (engine, opened) = counted(&[impostor(b"").await]);
    // Load only prolongs it.
    let watch = Stopwatch::start();
    while opened.get() < 16 {
        drop(timeout(Duration::from_millis(1), engine.get(&key(1))).await);
    }
    assert!(watch.elapsed() >= Duration::from_millis(500), "{:?}", watch.elapsed());
}

#[tokio::test]
async fn what_can_not_be_understood_ends_the_connection_and_reaches_nobody_else() {
    for says in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"CLIENT_ERROR bad data chunk\r\nERROR\r\n",
        b"SERVER_ERROR out of memory reading request\r\n",
        b"VA 5 c1\r\nlonger\r\n",
        b"VA 2000000 c1\r\n",
        b"VALUE key 0 5\r\n",
        b"STORED\r\n",
        b"\r\n",
    ] {
        let (engine, opened) = counted(&[impostor(says).await]);
        let shown = String::from_utf8_lossy(says);
        let kind = ill(engine.add(&key(1), stored(1), KNOWN).await);
        assert!(matches!(kind, Kind::Broken | Kind::OutOfMemory), "{shown:?}: {kind:?}");
        assert_eq!(ill(engine.add(&key(1), stored(1), KNOWN).await), kind);
        assert!(opened.get() >= 2, "{shown:?}: each by a connection of its own");
    }
    // It answers, and not what was asked.
    for says in [&b"MN\r\n"[..], b"HD\r\n", b"HD c1\r\n", b"HD c1 O7\r\n", b"EN\r\n", b"EN O1\r\n"] {
        let (engine, opened) = counted(&[impostor(says).await]);
        for _ in 0..2 {
            let shown = String::from_utf8_lossy(says);
            assert_eq!(ill(engine.add(&key(1), stored(1), KNOWN).await), Kind::Broken, "{shown:?}");
        }
        assert!(opened.get() >= 2);
    }
}

#[tokio::test]
async fn a_server_that_guards_nothing_or_wants_a_password_is_refused_by_name() {
    let server = Server::with(&["-C"]);
    let error = engine(&server).add(&key(1), stored(1), KNOWN).await.expect_err("no CAS");
    assert!(error.kind == Kind::Refused && error.detail.contains("no CAS numbers (-C)"), "{error}");
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "app:secret\n").unwrap();
    let server = Server::with(&["-Y", &users.path().display().to_string()]);
    assert_eq!(ill(engine(&server).get(&key(1)).await), Kind::NoAuth);
}

#[tokio::test]
async fn those_who_know_the_same_servers_agree_in_whatever_order() {
    let served = memcached(3);
    let mut addresses: Vec<_> = served.server.iter().map(|server| server.address).collect();
    for n in 1..=60 {
        assert_eq!(served.add(&key(n), stored(n), KNOWN).await, Ok(true));
    }
    let shares: Vec<_> = served.server.iter().map(|server| server.stat("curr_items")).collect();
    assert!(shares.iter().all(|share| *share > 0) && shares.iter().sum::<u64>() == 60, "{shares:?}");
    addresses.reverse();
    let (other, _) = counted(&addresses);
    for n in 1..=60 {
        assert_eq!(there(&other, n).await, Some(n));
    }
}

/// A ring that ejected the dead one would put its sessions elsewhere, and find the old ones when it is back.
#[tokio::test]
async fn a_dead_server_is_an_error_for_its_own_sessions_and_nothing_to_others() {
    let mut served = memcached(3);
    for n in 1..=60 {
        assert_eq!(served.add(&key(n), stored(n), KNOWN).await, Ok(true));
    }
    assert_eq!(served.ping().await, Ok(()));
    let share = served.server[1].stat("curr_items");
    served.server[1].kill();
    let mut dead = Vec::new();
    for n in 1..=60 {
        match served.get(&key(n)).await {
            Ok(there) => assert_eq!(there.map(|there| there.revision), Some(revision(n))),
            Err(_) => dead.push(n),
        }
    }
    assert_eq!(dead.len() as u64, share);
    let names = served.server[1].address.to_string();
    for n in &dead {
        assert!(served.add(&key(*n), stored(n + 100), KNOWN).await.is_err());
        let error = served.replace(&key(*n), revision(*n), stored(n + 100), KNOWN).await.expect_err("away");
        assert!(error.detail.contains(&names), "{error}");
    }
    assert!(served.ping().await.is_err_and(|error| error.detail.contains(&names)), "all must be there");
    served.server[1].restart();
    let watch = Pulse::start();
    while served.ping().await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(watch.elapsed() < secs(1), "{:?}", watch.elapsed());
    for n in 1..=60 {
        let expected = (!dead.contains(&n)).then_some(n);
        assert_eq!(there(&served, n).await, expected, "{n}: no other server has it");
    }
}
