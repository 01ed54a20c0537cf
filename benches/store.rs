//! How long the store takes to load, save and create a session: in memory, in files, on a real Redis, and what the disk
//! and Redis themselves take. Before that, what a save costs the Redis (`store/server.rs`).
//!
//! `cargo bench --bench store` (criterion); redis-server is started on a free port and ends with the bench. One session
//! is asked for after the other, so that a figure is the time of one call; what many at once make of it is the matter of
//! `benches/journey.rs`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench"
)]

#[path = "store/server.rs"]
mod server;
#[allow(
    dead_code,
    unused_imports,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the tests need more of it"
)]
#[path = "../tests/support/mod.rs"]
mod support;

/// Memory comes from where the program has it from.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::fs::{self, File};
use std::future::Future;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coatroom::app;
use coatroom::config::Config;
use coatroom::session::data::Map;
use coatroom::session::{Asked, Changes, Directive, Found, Limits, Policy, Scope, Token, plan};
use coatroom::store::{Decide, Store};
use coatroom::telemetry::metrics::Metrics;
use coatroom::time::{Clock, Stopwatch};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use self::support::Redis;

/// Sessions that are loaded and saved in turns.
const SESSIONS: usize = 1000;
/// What each of them holds.
const DATA: &str = r#"{"uid":"7f3a","name":"Ada Lovelace","mail":"ada.lovelace@example.org","roles":"admin,editor,auditor","counter":"00000001","pad":"0123456789012345678901234567890123456789012345678901234567890123456789"}"#;

/// A store, and sessions in it.
struct Shelf {
    store: Arc<dyn Store>,
    policy: Arc<Policy>,
    tokens: Vec<Token>,
}

impl Shelf {
    async fn open(url: &str) -> Self {
        let mut config = Config::default();
        config.store.url = url.into();
        let store = app::open(&config, &Arc::new(Metrics::new(&[], &[]))).expect("a store");
        let limits =
            Limits { max_bytes: 64 * 1024, max_keys: 256, max_depth: 32, budget: None, cookies: None };
        let policy = Arc::new(Policy::new(&config.session, config.cookie.age.0, Scope(7), limits));
        let mut shelf = Self { store, policy, tokens: Vec::new() };
        for _ in 0..SESSIONS {
            let token = shelf.create().await;
            shelf.tokens.push(token);
        }
        shelf
    }

    async fn create(&self) -> Token {
        self.commit(Found::No, DATA).await.expect("a session was made")
    }

    async fn load(&self, turn: usize) -> Found {
        let found = self.store.load(&self.tokens[turn % SESSIONS], now()).await.expect("the store answers");
        assert!(matches!(found, Found::Live(_)), "the session is there");
        found
    }

    async fn save(&self, found: Found) {
        self.commit(found, r#"{"counter":"00000002"}"#).await;
    }

    async fn commit(&self, found: Found, set: &str) -> Option<Token> {
        let entries: Map = serde_json::from_str(set).expect("an object");
        let mut changes = Changes::default();
        changes.push(Directive::Set(entries));
        let asked = Asked { changes, server_error: false, no_touch: false, shown: true };
        let (policy, now) = (self.policy.clone(), now());
        let decide: Decide = Arc::new(move |found| plan(found, &asked, &policy, now));
        self.store.commit(found, decide, now).await.expect("it is committed").minted
    }
}

fn now() -> coatroom::time::Timestamp {
    Clock::system().now()
}

/// Times calls one after another within one runtime; `prepare` is not part of the time.
async fn each<P, F: Future<Output = P>, D: Future<Output = ()>>(
    calls: u64,
    mut prepare: impl FnMut(usize) -> F,
    mut work: impl FnMut(P) -> D,
) -> Duration {
    let mut took = Duration::ZERO;
    for turn in 0..usize::try_from(calls).expect("as many as there is time for") {
        let prepared = prepare(turn).await;
        let watch = Stopwatch::start();
        work(prepared).await;
        took += watch.elapsed();
    }
    took
}

fn store(criterion: &mut Criterion, runtime: &Runtime, name: &str, url: &str) {
    let shelf = runtime.block_on(Shelf::open(url));
    let shelf = &shelf;
    let mut group = criterion.benchmark_group(name);
    group.bench_function("load", |bencher| {
        bencher.iter_custom(|calls| {
            runtime.block_on(each(calls, async |turn| turn, async |turn| drop(shelf.load(turn).await)))
        });
    });
    group.bench_function("save", |bencher| {
        bencher.iter_custom(|calls| {
            runtime.block_on(each(calls, |turn| shelf.load(turn), |found| shelf.save(found)))
        });
    });
    group.bench_function("create", |bencher| {
        bencher.iter_custom(|calls| {
            runtime.block_on(each(
                calls,
                async |_| (),
                async |()| assert_ne!(shelf.create().await.expose(), ""),
            ))
        });
    });
    group.finish();
}

/// What a round trip to Redis takes whoever makes it: a socket, and nothing that understands the answer.
fn bare(criterion: &mut Criterion, runtime: &Runtime, server: &Redis) {
    let value = DATA.repeat(2);
    let value = &value[..300];
    let set = format!("*3\r\n$3\r\nSET\r\n$4\r\nbare\r\n$300\r\n{value}\r\n");
    let get = "*2\r\n$3\r\nGET\r\n$4\r\nbare\r\n".to_owned();
    let mut stream = runtime.block_on(async {
        let stream = TcpStream::connect(server.address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream
    });
    let mut group = criterion.benchmark_group("redis-bare");
    for (name, command, answer) in [("SET", set, "+OK\r\n".len()), ("GET", get, "$300\r\n\r\n".len() + 300)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|calls| {
                runtime.block_on(async {
                    let mut room = [0; 512];
                    let watch = Stopwatch::start();
                    for _ in 0..calls {
                        stream.write_all(command.as_bytes()).await.expect("it is taken");
                        let answered = stream.read_exact(&mut room[..answer]).await;
                        answered.expect("it answers as it does");
                    }
                    watch.elapsed()
                })
            });
        });
    }
    group.finish();
}

/// What the disk itself takes for as many bytes as a session's: write, fsync, rename, fsync of the folder.
fn bare_file(criterion: &mut Criterion, folder: &Path) {
    let (new, there) = (folder.join("new"), folder.join("there"));
    let bytes = &DATA.repeat(2)[..300];
    let mut group = criterion.benchmark_group("file-bare");
    group.bench_function("write-fsync-rename-fsync", |bencher| {
        bencher.iter(|| {
            let mut file = File::create(&new).expect("a file");
            file.write_all(bytes.as_bytes()).and_then(|()| file.sync_all()).expect("the disk takes it");
            fs::rename(&new, &there).expect("renamed");
            File::open(folder).and_then(|folder| folder.sync_all()).expect("the disk knows");
        });
    });
    group.finish();
}

fn stores(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    server::costs(&runtime);
    store(criterion, &runtime, "memory", "memory:");
    let folder = tempfile::tempdir().expect("a folder");
    bare_file(criterion, folder.path());
    store(criterion, &runtime, "file", &format!("file://{}/sessions", folder.path().display()));
    let server = Redis::start();
    bare(criterion, &runtime, &server);
    store(criterion, &runtime, "redis", &server.url());
}

criterion_group!(benches, stores);
criterion_main!(benches);
