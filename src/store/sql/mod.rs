//! `sqlite:///file`, `postgres://`, `mysql://` — sessions in a table that any number of sidecars share.
//!
//! Durable: as the server is (`synchronous_commit`, `innodb_flush_log_at_trx_commit`); SQLite is told to be. Atomic:
//! yes, each write is one statement that names the revision it has seen. Round trips: load 1, save 1, create 1, touch
//! 1, flush 1; cycle-key 1 in PostgreSQL and 2 in MySQL; another one where nothing was written, to find out why.
//! Nothing is evicted; a full disk refuses what is new.
//!
//! The table is Django's `django_session` and one column of ours, `revision`, that Django leaves alone: 64 bits, NULL
//! in rows that are not ours. `session_key` is the key's 40 hexadecimal digits, `session_data` the record (`text.rs`),
//! `expire_date` its end. Expired rows stay until they are cleared.
//!
//! The connections belong to a thread of their own (`executor.rs`), with one pool a process (`pool.rs`). Whoever calls
//! waits for its turn on its own worker; once a statement is sent, it goes on to its end, whoever leaves.

mod call;
mod database;
mod examine;
mod illness;
mod migrate;
mod mysql;
mod pool;
mod postgres;
mod sqlite;
mod sweep;
mod table;
mod target;
mod text;
mod tls;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use tokio::time::{Instant, sleep, timeout};

use self::call::{Answer, Call};
use self::database::{Bounds, Database, Move, Purpose, Row, Shelved};
pub(super) use self::examine::examine;
use self::illness::Illness;
pub use self::migrate::migrate;
pub use self::mysql::MySql;
use self::pool::{Place, Pool};
pub use self::postgres::Postgres;
pub use self::sqlite::Sqlite;
use self::sweep::Sweep;
use self::table::Table;
pub use self::target::Exposure;
use super::engine::{Cleared, Cycle, Engine, PAGE, Page, Stored, Swap, Worth};
use super::executor::Executor;
use super::link::jittered;
use super::{Config, Error, Kind};
use crate::session::policy::Interval;
use crate::session::{Key, Revision};
use crate::time::Timestamp;

/// The schemes of `store.url` that are ours.
pub const SCHEMES: [&str; 4] = ["sqlite", "postgres", "postgresql", "mysql"];

/// Why a setting can't be obeyed: the setting, and what is wrong with it and what to do.
pub type Misfit = (&'static str, String);

/// `store.max_connections` at most: more than any server takes from one of its clients.
pub const MOST_CONNECTIONS: usize = 10_000;

/// How often a statement is sent that a deadlock or a lock undid.
const TRIES: u32 = 3;
/// The pause before the second try; twice as long before the third.
const PAUSE: Duration = Duration::from_millis(10);

/// A SQL engine.
pub struct Sql<D: Database> {
    inner: Arc<Inner<D>>,
    executor: Executor,
    /// Where clearing is.
    sweep: Mutex<Sweep>,
}

struct Inner<D: Database> {
    database: Arc<D>,
    /// All connections, or where only one writes, that one.
    writers: Arc<Pool<D>>,
    /// The others there.
    readers: Option<Arc<Pool<D>>>,
    patience: ArcSwap<Patience>,
}

/// Lengths of time that follow the settings.
struct Patience {
    /// `store.timeout`.
    read: Duration,
    /// `store.commit_timeout`.
    write: Duration,
}

impl Patience {
    const fn of(config: &Config) -> Self {
        Self { read: config.timeout.0, write: config.commit_timeout.0 }
    }

    /// What a statement may be left without an answer. It may be more than its caller waits: on a machine that has too
    /// much to do, giving up connections would only add to it.
    fn silence(&self) -> Duration {
        self.read.max(self.write)
    }
}

/// Checks these settings, and the files of TLS that they name.
///
/// # Errors
/// The first setting that can't be obeyed, and why.
pub fn check(config: &Config) -> Result<(), Misfit> {
    let target = match config.url.scheme() {
        "sqlite" => return Sqlite::new(config).map(drop),
        "mysql" => MySql::new(config)?.target,
        _ => Postgres::new(config)?.target,
    };
    target.tls.map_or(Ok(()), |tls| tls.files().map(drop))
}

/// What somebody between the server of these settings and us could do; `None` where nobody could do anything.
///
/// # Errors
/// As [`check`], but for the files.
pub fn exposure(config: &Config) -> Result<Option<Exposure>, Misfit> {
    match config.url.scheme() {
        "sqlite" => Ok(None),
        "mysql" => Ok(MySql::new(config)?.target.exposure()),
        _ => Ok(Postgres::new(config)?.target.exposure()),
    }
}

/// What a statement may take on the server: `store.statement_timeout`, or so much of `store.commit_timeout` that the
/// server's answer comes before we would give up waiting for it.
fn statement_timeout(config: &Config) -> Duration {
    match config.statement_timeout {
        Interval::Auto => config.commit_timeout.0 * 3 / 4,
        Interval::Every(length) => length.0,
    }
}

impl<D: Database> Sql<D> {
    fn over(database: D, config: &Config, connections: &IntCounter) -> Result<Self, Misfit> {
        let executor =
            Executor::new("sql").map_err(|error| ("store.url", format!("there are no threads: {error}")))?;
        let database = Arc::new(database);
        let pool = |purpose, most| {
            Pool::new(Arc::clone(&database), purpose, most, config.create_table, connections.clone())
        };
        let most = config.max_connections;
        let (writers, readers) = if D::ONE_WRITER {
            (pool(Purpose::Any, 1), Some(pool(Purpose::Reading, most.saturating_sub(1).max(1))))
        } else {
            (pool(Purpose::Any, most), None)
        };
        let patience = ArcSwap::from_pointee(Patience::of(config));
        let inner = Arc::new(Inner { database, writers, readers, patience });
        Ok(Self { inner, executor, sweep: Mutex::new(Sweep::new()) })
    }

    fn sweep(&self) -> MutexGuard<'_, Sweep> {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes up to `batch` rows, and counts them at once in `all`, whatever becomes of the next ones. Is there more?
    async fn clear(&self, now: Timestamp, batch: usize, all: &mut Cleared) -> Result<bool, Error> {
        let mut sweep = *self.sweep();
        while all.removed < batch {
            let asked = sweep.rows.min(batch - all.removed);
            let limit = i64::try_from(asked).unwrap_or(i64::MAX);
            let began = Instant::now();
            let swept = match self.call(Call::Clear(Bounds { now, from: sweep.from(), limit })).await {
                Ok(Answer::Cleared(swept)) => swept,
                Ok(_) => return Err(odd()),
                Err(error) if error.kind == Kind::Busy && sweep.goes_on() => continue,
                Err(error) => return Err(error),
            };
            let took = began.elapsed();
            *all = all.and(swept.cleared);
            let more = sweep.hear(asked, &swept, took);
            *self.sweep() = sweep;
            if D::ONE_WRITER && swept.cleared.removed > 0 {
                // Where it fails, whoever writes has to do it.
                drop(self.call(Call::Tidy).await);
            }
            if !more {
                return Ok(false);
            }
            sleep(took).await;
        }
        Ok(true)
    }

    async fn call(&self, call: Call) -> Result<Answer, Error> {
        let inner = &self.inner;
        let (pool, patience) = {
            let patience = inner.patience.load();
            match (call.only_reads(), &inner.readers) {
                (true, Some(readers)) => (readers, patience.read),
                (true, None) => (&inner.writers, patience.read),
                (false, _) => (&inner.writers, patience.write),
            }
        };
        let deadline = Instant::now() + patience;
        // Whoever has no connection by then is told so, rather than that nobody knows what became of its write.
        let place = pool.enter(patience * 3 / 4).await?;
        let pool = Arc::clone(pool);
        let work = Arc::clone(inner).work(pool, place, call, patience, deadline);
        self.executor.run(work).await
    }

    async fn swap(&self, call: Call) -> Result<Swap, Error> {
        match self.call(call).await? {
            Answer::Swapped(swap) => Ok(swap),
            _ => Err(odd()),
        }
    }
}

impl<D: Database> Inner<D> {
    /// Does what a call asks, on a connection that nobody else has meanwhile.
    async fn work(
        self: Arc<Self>,
        pool: Arc<Pool<D>>,
        _place: Place,
        call: Call,
        patience: Duration,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        // A statement that is sent later than that would be given up before the server gives it up.
        let last_try = deadline - patience * 3 / 4;
        let polls = self.database.polls().map(|length| Instant::now() + length);
        for tries in 1.. {
            let mut line = pool.line(deadline).await?;
            if Instant::now() >= deadline {
                // It took so long to open that nobody waits for an answer. The next one needs it.
                pool.rest(line);
                return Err(self.late(Kind::Timeout));
            }
            let heard = pool.heard();
            let silence = self.patience.load().silence();
            let Ok(done) = timeout(silence, call.on(&*self.database, &mut line.connection)).await else {
                // Its answer may come yet, and finds nobody there.
                drop(line);
                pool.silent(heard);
                // Nobody can say what became of a write.
                return Err(self.late(if call.only_reads() { Kind::Timeout } else { Kind::Broken }));
            };
            let Illness { error, again, lost } = match done {
                Ok(answer) => {
                    pool.back(line);
                    return Ok(answer);
                }
                Err(error) => Illness::of(&*self.database, &error),
            };
            if lost {
                drop(line);
                pool.suspect();
                // Reading twice harms nobody, and the connection may have been lost for reasons of its own.
                if call.only_reads() && tries == 1 {
                    continue;
                }
            } else if error.kind == Kind::ReadOnly {
                pool.back_from_a_reader(line);
            } else {
                pool.back(line);
            }
            let (may, pause) = match polls {
                Some(until) => (Instant::now() < until, PAUSE / 4),
                None => (tries < TRIES && Instant::now() < last_try, PAUSE * tries),
            };
            if !again || !may {
                return Err(error);
            }
            sleep(jittered(pause)).await;
        }
        Err(odd())
    }

    fn late(&self, kind: Kind) -> Error {
        Error::new(kind, illness::late(self.database.place()).to_string())
    }
}

fn odd() -> Error {
    Error::new(Kind::Refused, "the database gave no answer that fits")
}

/// 64 bits, where there are only signed ones.
const fn signed(revision: Revision) -> i64 {
    revision.bits().cast_signed()
}

fn shelved(stored: &Stored) -> Shelved {
    let data = text::written(&stored.value).into_owned();
    Shelved { data, revision: signed(stored.revision), until: stored.until }
}

/// What was found, if it is ours.
fn read(key: &Key, table: &Table, row: Row) -> Result<Stored, Error> {
    let corrupt =
        |what: &str| Err(Error::new(Kind::Corrupt, format!("the row {key} of {table} {what}; it is kept")));
    let revision = row.revision.and_then(|revision| Revision::from_bits(revision.cast_unsigned()));
    let Some(revision) = revision else { return corrupt("has no revision, as rows of Django's") };
    let Some(until) = row.until else { return corrupt("has no expire_date that can be read") };
    match text::read(row.data) {
        Some(value) => Ok(Stored { value, revision, until }),
        None => corrupt("has session_data that is none of ours"),
    }
}

impl<D: Database> Engine for Sql<D> {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        match self.call(Call::Get { key: key.to_string() }).await? {
            Answer::Found(None) => Ok(None),
            Answer::Found(Some(row)) => read(key, self.inner.database.table(), row).map(Some),
            _ => Err(odd()),
        }
    }

    async fn add(&self, key: &Key, new: Stored, _: Worth) -> Result<bool, Error> {
        match self.call(Call::Add { key: key.to_string(), new: shelved(&new) }).await? {
            Answer::Added(added) => Ok(added),
            _ => Err(odd()),
        }
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, _: Worth) -> Result<Swap, Error> {
        self.swap(Call::Replace { key: key.to_string(), seen: signed(seen), new: shelved(&new) }).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.swap(Call::Touch { key: key.to_string(), seen: signed(seen), until }).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.swap(Call::Remove { key: key.to_string(), seen: signed(seen) }).await
    }

    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        D::CYCLES.then(|| {
            let step = Move {
                old: cycle.old.to_string(),
                seen: signed(cycle.seen),
                ended: shelved(&cycle.ended),
                new: cycle.new.to_string(),
                fresh: shelved(&cycle.fresh),
            };
            self.swap(Call::Cycle(Box::new(step)))
        })
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        let mut all = Cleared::default();
        let more = self.clear(now, batch, &mut all).await;
        all.until(more)
    }

    /// In the order of the keys, by the primary key's index.
    async fn scan(&self, after: Option<&str>) -> Result<Page, Error> {
        let after = after.unwrap_or_default().to_owned();
        let Answer::Listed(rows) = self.call(Call::Scan { after }).await? else { return Err(odd()) };
        let text = |row: &Row| String::from_utf8_lossy(&row.data).into_owned();
        let next = rows.last().filter(|_| rows.len() == PAGE).map(text);
        // Others are not ours.
        let keys = rows.iter().filter_map(|row| Key::from_hex(&row.data)).collect();
        Ok(Page { keys, next })
    }

    async fn ping(&self) -> Result<(), Error> {
        self.call(Call::Ping).await.map(drop)
    }

    fn reload(&self, config: &Config) {
        self.inner.patience.store(Arc::new(Patience::of(config)));
    }
}
