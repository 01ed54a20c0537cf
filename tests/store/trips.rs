//! What load, save and create cost in round trips, counted on the wire, is what the README's table says.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use coatroom::store::cached::Cached;
use coatroom::store::engine::Engine;
use coatroom::store::memcached::Memcached;
use coatroom::store::redis::Redis;
use coatroom::store::sql::{MySql, Postgres};
use coatroom::store::{CacheOnError, Config};
use coatroom::time::{Clock, Length};
use serde_json::json;

use super::cached::counts;
use super::sql::made;
use super::support::{Rig, ask, counter, set};
use crate::docs::round_trips;
use crate::support::database::{ROOT, table};
use crate::support::{Brand, Database, Memcached as MemcachedServer, Redis as RedisServer};

/// A relay that counts how often a server is spoken to after it has spoken.
#[derive(Clone)]
struct Counting {
    address: SocketAddr,
    trips: Arc<AtomicU64>,
}

impl Counting {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let counting = Self { address: listener.local_addr().expect("its address"), trips: Arc::default() };
        let trips = Arc::clone(&counting.trips);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(server).expect("it listens");
                let asked = Arc::new(AtomicBool::new(false));
                let (trips, answered) = (Arc::clone(&trips), Arc::clone(&asked));
                let pair = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                thread::spawn(move || {
                    carry(client, server, || {
                        trips.fetch_add(u64::from(!asked.swap(true, SeqCst)), SeqCst);
                    });
                });
                thread::spawn(move || carry(pair.1, pair.0, || answered.store(false, SeqCst)));
            }
        });
        counting
    }

    fn count(&self) -> u64 {
        self.trips.load(SeqCst)
    }
}

/// Carries one direction to its end; `told` hears of each piece before it goes on.
fn carry(mut from: TcpStream, mut to: TcpStream, told: impl Fn()) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        told();
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop((to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read)));
}

/// What a load of a session that was loaded before costs, a save, a create; and then the first load after that.
async fn cost(engine: impl Engine, relays: &[Counting]) -> ([u64; 3], u64) {
    let rig = Rig::over(engine);
    // Connections, prepared statements, scripts.
    let token = rig.begin(json!({"a": 1})).await;
    for n in 2..5 {
        rig.request(&token, [set(json!({"a": n}))]).await;
    }
    let mut before = 0;
    let mut spent = || {
        let now = relays.iter().map(Counting::count).sum();
        now - std::mem::replace(&mut before, now)
    };
    spent();
    let token = rig.begin(json!({"a": 1})).await;
    let create = spent();
    rig.load(&token).await;
    let first = spent();
    let found = rig.load(&token).await;
    let load = spent();
    rig.commit(found, ask([set(json!({"a": 2}))])).await.unwrap();
    ([load, spent(), create], first)
}

/// Of a database: with one connection, so that it is the one whose statements are prepared.
fn alone(url: &str) -> Config {
    Config {
        url: url.into(),
        table: table(),
        max_connections: 1,
        timeout: Length::secs(20),
        commit_timeout: Length::secs(20),
        ..Config::default()
    }
}

/// A database of all tests, by a relay.
fn database(brand: Brand) -> (Config, Counting) {
    let server = Database::shared(brand);
    let relay = Counting::before(server.address);
    (alone(&server.url_at(ROOT, &relay.address.to_string())), relay)
}

/// A Redis of its own, by a relay.
fn redis() -> (RedisServer, Redis, Counting) {
    let server = RedisServer::start();
    let relay = Counting::before(server.address);
    let config = Config { url: (&*format!("redis://{}", relay.address)).into(), ..Config::default() };
    let engine = made(Redis::new(&config, counter()));
    (server, engine, relay)
}

#[tokio::test]
async fn a_redis_is_asked_as_often_as_the_readme_says() {
    let (_server, engine, relay) = redis();
    assert_eq!(cost(engine, &[relay]).await.0, round_trips("`redis://`"));
}

#[tokio::test]
async fn a_memcached_is_asked_as_often_as_the_readme_says() {
    let server = MemcachedServer::start();
    let relay = Counting::before(server.address);
    let config = Config { url: (&*format!("memcache://{}", relay.address)).into(), ..Config::default() };
    let engine = made(Memcached::new(&config, counter()));
    assert_eq!(cost(engine, &[relay]).await.0, round_trips("`memcache://`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_is_asked_as_often_as_the_readme_says() {
    let (config, relay) = database(Brand::Postgres);
    let engine = made(Postgres::engine(&config, &counter()));
    assert_eq!(cost(engine, &[relay]).await.0, round_trips("`postgres://`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_is_asked_as_often_as_the_readme_says() {
    let (config, relay) = database(Brand::MariaDb);
    let engine = made(MySql::engine(&config, &counter()));
    assert_eq!(cost(engine, &[relay]).await.0, round_trips("`mysql://`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_and_its_database_are_asked_as_often_as_the_readme_says() {
    let (config, of_database) = database(Brand::Postgres);
    let (_server, cache, of_cache) = redis();
    let config = Config { cache_on_error: CacheOnError::Wait, ..config };
    let database = made(Postgres::engine(&config, &counter()));
    let engine = Cached::new(database, cache, &config, Clock::system(), counts());
    let (costs, first) = cost(engine, &[of_database, of_cache]).await;
    assert_eq!(costs, round_trips("files or a database behind `store.cache`"));
    assert_eq!(first, costs[1], "as many as a save, the README says");
}
