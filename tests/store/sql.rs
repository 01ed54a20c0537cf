//! SQL engines on real databases: a file each for SQLite, a table each on one server of PostgreSQL and one of MariaDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use coatroom::store;
use coatroom::store::engine::{Engine, Stored, Swap, Worth};
use coatroom::store::sql::{MySql, Postgres, Sql, Sqlite};
use coatroom::store::{Error, Kind};
use coatroom::time::{Clock, Length, Timestamp};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::served::Served;
use super::support::{Rig, counter, key, live, revision, secs};
use crate::support::database::{ROOT, table};
use crate::support::{Brand, Database};

/// An engine on a file of its own, which ends with it.
pub(crate) fn sqlite() -> Served<Sql<Sqlite>, TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = patient(&format!("sqlite://{}/sessions.db", folder.path().display()));
    Served::by(folder, made(Sqlite::engine(&config, &counter())))
}

/// An engine on a table of its own.
pub(crate) fn postgres() -> Sql<Postgres> {
    made(Postgres::engine(&on(Brand::Postgres), &counter()))
}

/// An engine on a table of its own.
pub(crate) fn mariadb() -> Sql<MySql> {
    made(MySql::engine(&on(Brand::MariaDb), &counter()))
}

pub(super) fn made<E>(engine: Result<E, (&'static str, String)>) -> E {
    engine.unwrap_or_else(|(key, what)| panic!("{key}: {what}"))
}

fn on(brand: Brand) -> store::Config {
    store::Config { table: table(), ..patient(&Database::shared(brand).url()) }
}

/// Settings with the patience of a suite: whether an answer comes in time is another test's affair.
fn patient(url: &str) -> store::Config {
    let (timeout, commit_timeout) = (Length::secs(20), Length::secs(20));
    store::Config { url: url.into(), timeout, commit_timeout, ..store::Config::default() }
}

fn stored(n: u64) -> Stored {
    let until = Timestamp::from_millis(2_000_000_000_000);
    Stored { value: Bytes::from(format!("1:{n}")), revision: revision(n + 1), until }
}

fn ill<T: std::fmt::Debug>(answer: Result<T, Error>) -> Error {
    answer.expect_err("it is ill")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_a_row_that_sql_can_read() {
    for brand in [Brand::Postgres, Brand::MariaDb] {
        let (config, server) = (on(brand), Database::shared(brand));
        let rig = match brand {
            Brand::Postgres => Rig::over(made(Postgres::engine(&config, &counter()))),
            Brand::MariaDb => Rig::over(made(MySql::engine(&config, &counter()))),
        };
        let token = rig.begin(json!({"user": "Zoe"})).await;
        let key = live(rig.load(&token).await).key;
        let columns = "session_key, expire_date, session_data";
        let rows = server.ask(&format!("SELECT {columns} FROM {}", config.table));
        let (row, data) = (rows[0].replace("\\n", "\n"), rows.join("\n"));
        assert!(row.starts_with(&key.to_string()), "{row}");
        assert!(row.contains("\t1:") && data.contains(r#"{"user":"Zoe"}"#), "{data}");
        // It ends in an hour, by UTC.
        let hour = std::str::from_utf8(&rig.now().plus(secs(3600)).rfc3339()).unwrap().replace('T', " ");
        assert!(row.contains(&hour[..16]), "{row} ends at {hour}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_is_one_statement_of_mariadb() {
    let server = Database::start(Brand::MariaDb, &[]);
    let config = store::Config { max_connections: 1, ..patient(&server.url()) };
    let sent = || {
        let rows = server.ask("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'");
        rows[0].split('\t').nth(1).and_then(|count| count.parse().ok()).expect("a number")
    };
    each_call_is_one_statement(made(MySql::engine(&config, &counter())), sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_is_one_statement_of_postgresql() {
    let server = Database::start(Brand::Postgres, &["-c", "shared_preload_libraries=pg_stat_statements"]);
    server.ask("CREATE EXTENSION pg_stat_statements");
    let config = store::Config { max_connections: 1, ..patient(&server.url()) };
    let sent = || {
        let text =
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%django_session%'";
        server.ask(text)[0].parse().expect("a number")
    };
    each_call_is_one_statement(made(Postgres::engine(&config, &counter())), sent).await;
}

/// A server whose sessions begin without it would keep each write to itself, until it is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_committed_whatever_sessions_of_the_server_begin_with() {
    let server = Database::start(Brand::MariaDb, &["--autocommit=0"]);
    let config = patient(&server.url());
    let [one, other] = [(); 2].map(|()| made(MySql::engine(&config, &counter())));
    other.ping().await.unwrap();
    assert_eq!(one.add(&key(1), stored(1), Worth::Known).await, Ok(true));
    assert_eq!(other.get(&key(1)).await, Ok(Some(stored(1))));
    assert_eq!(one.replace(&key(1), revision(2), stored(2), Worth::Known).await, Ok(Swap::Done));
    assert_eq!(other.get(&key(1)).await, Ok(Some(stored(2))), "and nobody reads on in what was once");
}

/// Many sidecars may share a server that has no room for all the connections that each of them might open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_more_connections_is_asked_by_those_that_are_there() {
    let server = Database::start(Brand::Postgres, &["-c", "max_connections=8"]);
    let config = store::Config { max_connections: 16, ..patient(&server.url()) };
    let engine = Arc::new(made(Postgres::engine(&config, &counter())));
    engine.ping().await.unwrap();
    let mut calls = JoinSet::new();
    for n in 0..200 {
        let engine = Arc::clone(&engine);
        calls.spawn(async move {
            assert_eq!(engine.add(&key(n), stored(n), Worth::Known).await, Ok(true));
            assert_eq!(engine.get(&key(n)).await, Ok(Some(stored(n))));
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
}

/// `sent` is the server's own count.
async fn each_call_is_one_statement(engine: impl Engine, sent: impl Fn() -> u64) {
    // The connection, and the look at the table.
    engine.ping().await.unwrap();
    let mut before = sent();
    let mut cost = || {
        let after = sent();
        std::mem::replace(&mut before, after).abs_diff(after)
    };
    assert_eq!(engine.add(&key(1), stored(1), Worth::Anonymous).await, Ok(true));
    assert_eq!(cost(), 1, "create");
    assert!(engine.get(&key(1)).await.unwrap().is_some());
    assert_eq!(cost(), 1, "load");
    assert_eq!(engine.replace(&key(1), revision(2), stored(2), Worth::Anonymous).await, Ok(Swap::Done));
    assert_eq!(cost(), 1, "save");
    assert_eq!(engine.touch(&key(1), revision(3), stored(2).until.plus(secs(9))).await, Ok(Swap::Done));
    assert_eq!(cost(), 1, "touch");
    assert_eq!(engine.replace(&key(1), revision(9), stored(2), Worth::Anonymous).await, Ok(Swap::Changed));
    assert_eq!(cost(), 2, "a save that comes too late");
    assert_eq!(engine.remove(&key(1), revision(3)).await, Ok(Swap::Done));
    assert_eq!(cost(), 1, "flush");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_corrupt_and_stays() {
    for brand in [Brand::Postgres, Brand::MariaDb] {
        let (config, server) = (on(brand), Database::shared(brand));
        let kind = match brand {
            Brand::Postgres => of_django(&made(Postgres::engine(&config, &counter())), &config, server).await,
            Brand::MariaDb => of_django(&made(MySql::engine(&config, &counter())), &config, server).await,
        };
        assert_eq!(kind, Kind::Corrupt);
        assert_eq!(server.ask(&format!("SELECT session_data FROM {}", config.table)), ["e30:1abc"]);
    }
}

/// What comes back for a row of Django's under one of our keys.
async fn of_django(engine: &impl Engine, config: &store::Config, server: &Database) -> Kind {
    engine.ping().await.unwrap();
    server.ask(&format!(
        "INSERT INTO {} (session_key, session_data, expire_date) VALUES ('{}', 'e30:1abc', '2036-11-23 10:00:00')",
        config.table,
        key(1)
    ));
    assert_eq!(engine.add(&key(1), stored(1), Worth::Anonymous).await, Ok(false), "the key is taken");
    assert_eq!(engine.replace(&key(1), revision(1), stored(1), Worth::Anonymous).await, Ok(Swap::Changed));
    ill(engine.get(&key(1)).await).kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_not_there_or_lacks_something_is_named_with_what_to_do() {
    for brand in [Brand::Postgres, Brand::MariaDb] {
        let config = store::Config { create_table: false, ..on(brand) };
        let (server, table) = (Database::shared(brand), &config.table);
        let told = async |what: &str| {
            let error = match brand {
                Brand::Postgres => ill(made(Postgres::engine(&config, &counter())).get(&key(1)).await),
                Brand::MariaDb => ill(made(MySql::engine(&config, &counter())).get(&key(1)).await),
            };
            assert_eq!(error.detail, format!("store.table: {what}"));
        };
        told(&format!("there is no table {table}: run `coatroom migrate`")).await;
        let columns = "session_key varchar(40) PRIMARY KEY, session_data text";
        server.ask(&format!("CREATE TABLE {table} ({columns})"));
        let foreign = "has no column expire_date, revision: name another table: this one is somebody else's";
        told(&format!("{table} {foreign}")).await;
        server.ask(&format!("ALTER TABLE {table} ADD COLUMN expire_date timestamp"));
        told(&format!("{table} has no column revision: run `coatroom migrate`, which adds it")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_somebody_elses_is_busy_and_nothing_was_done() {
    for brand in [Brand::Postgres, Brand::MariaDb] {
        let config = store::Config { commit_timeout: Length::secs(4), ..on(brand) };
        match brand {
            Brand::Postgres => locked(made(Postgres::engine(&config, &counter())), brand, &config).await,
            Brand::MariaDb => locked(made(MySql::engine(&config, &counter())), brand, &config).await,
        }
    }
}

async fn locked(engine: impl Engine, brand: Brand, config: &store::Config) {
    assert_eq!(engine.add(&key(1), stored(1), Worth::Anonymous).await, Ok(true));
    let text = format!("SELECT session_key FROM {} FOR UPDATE", config.table);
    let mut holder = Database::shared(brand).hold(&text);
    let swap = engine.replace(&key(1), revision(2), stored(5), Worth::Anonymous).await;
    assert_eq!(ill(swap).kind, Kind::Busy, "{brand:?}");
    assert_eq!(engine.get(&key(1)).await, Ok(Some(stored(1))), "who reads waits for nobody");
    holder.release();
    assert_eq!(engine.replace(&key(1), revision(2), stored(5), Worth::Anonymous).await, Ok(Swap::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_taken_back_leaves_the_answers_of_others_alone() {
    taken_back(sqlite()).await;
    taken_back(postgres()).await;
    taken_back(mariadb()).await;
}

async fn taken_back(engine: impl Engine) {
    let engine = Arc::new(engine);
    for n in 0..50 {
        assert_eq!(engine.add(&key(n), stored(n), Worth::Anonymous).await, Ok(true));
    }
    let mut tasks = JoinSet::new();
    for n in 0..400_u64 {
        let engine = Arc::clone(&engine);
        tasks.spawn(async move {
            // Every other one leaves at some moment, most of them in the middle.
            let patience = if n % 2 == 0 { Duration::from_micros(n * 37 % 5000) } else { secs(20) };
            match timeout(patience, engine.get(&key(n % 50))).await {
                Ok(answer) => assert_eq!(answer, Ok(Some(stored(n % 50)))),
                Err(_) => assert_eq!(n % 2, 0, "the others get theirs"),
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_each_connection_is_not_stormed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://{ROOT}@{}/app", listener.local_addr().unwrap());
    let knocks = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&knocks);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            drop(stream);
        }
    });
    let engine = Arc::new(made(Postgres::engine(&patient(&url), &counter())));
    let begun = Clock::system().now();
    let mut calls = 0_u64;
    while knocks.load(Relaxed) < 5 {
        let mut tasks = JoinSet::new();
        for n in 0..20 {
            let engine = Arc::clone(&engine);
            tasks.spawn(async move { ill(engine.get(&key(n)).await).kind });
        }
        for kind in tasks.join_all().await {
            assert_eq!(kind, Kind::Unreachable);
        }
        calls += 20;
    }
    // The pauses before the third, fourth and fifth add up to 140 ms, or half of it; load only prolongs them.
    assert!(Clock::system().now().since(begun) >= Duration::from_millis(70), "{calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn illnesses_have_their_names() {
    let server = Database::shared(Brand::Postgres);
    let (config, user) = (on(Brand::Postgres), format!("ill_{}", table()));
    server.ask(&format!("CREATE USER {user}"));
    assert!(made(Postgres::engine(&config, &counter())).ping().await.is_ok(), "the table is there");
    let as_user = store::Config { url: (&*server.url_for(&user)).into(), ..config.clone() };
    let ping = async |config: &store::Config| {
        ill(made(Postgres::engine(config, &counter())).add(&key(1), stored(1), Worth::Anonymous).await).kind
    };
    assert_eq!(ping(&as_user).await, Kind::NoPermission);
    server.ask(&format!("GRANT ALL ON {} TO {user}", config.table));
    server.ask(&format!("ALTER ROLE {user} SET default_transaction_read_only = on"));
    assert_eq!(ping(&as_user).await, Kind::ReadOnly);
    server.ask(&format!("ALTER ROLE {user} CONNECTION LIMIT 0"));
    assert_eq!(ping(&as_user).await, Kind::Busy, "too many connections");
    let other = store::Config { url: (&*format!("{}_of_nobody", server.url())).into(), ..config.clone() };
    assert_eq!(ping(&other).await, Kind::Refused, "no such database");
    let nobody = store::Config { url: "postgres://a@127.0.0.1:1/a".into(), ..config.clone() };
    assert_eq!(ping(&nobody).await, Kind::Unreachable);

    let (server, config) = (Database::shared(Brand::MariaDb), on(Brand::MariaDb));
    let url = server.url_for(&format!("{user}:wrong"));
    let wrong = store::Config { url: (&*url).into(), ..config };
    let engine = made(MySql::engine(&wrong, &counter()));
    assert_eq!(ill(engine.get(&key(1)).await).kind, Kind::NoAuth);
    assert_eq!(ill(engine.get(&key(1)).await).kind, Kind::NoAuth, "and it is told at once");
}
