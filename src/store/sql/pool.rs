//! The connections of a process: so many at most, opened when they are wanted, and opened again for as long as the
//! database is away.
//!
//! A call has a connection to itself from its first word to its last, so no answer finds another caller. Whoever
//! leaves while it waits for one takes its wish along; from then on the call goes on to its end ([`super::Sql`]).
//! One that has passed its deadline takes its connection along, which is closed.
//!
//! The driver's own pool is not used: it goes on knocking at a server that is away as often as there are callers,
//! keeps what went wrong to itself, and can't read a password anew. Here one task knocks, in jittered pauses, and
//! whoever comes meanwhile is told at once what is wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::IntCounter;
use sqlx::Connection as _;
use tokio::sync::{Mutex as Turnstile, Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::database::{Database, Failure, Purpose};
use super::illness::{self, Illness};
use super::migrate;
use crate::store::link::jittered;
use crate::store::{Error, Kind};
use crate::time::Stopwatch;

/// What an attempt to connect may take, TLS and password included.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The pause after the first attempt that fails; each next one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// With this, and attempts that fail fast, a server is found within a second of being back.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A connection is not used for longer, so that a server that moved, or forgot to free something, is left some day.
const LIFETIME: Duration = Duration::from_secs(1800);
/// A server that takes no writes is left once we have been there for so long: another one may have its name by now.
const STAY: Duration = Duration::from_millis(500);

/// Connections for one purpose.
pub(super) struct Pool<D: Database> {
    database: Arc<D>,
    purpose: Purpose,
    places: Arc<Semaphore>,
    most: usize,
    idle: Mutex<Vec<Line<D>>>,
    /// One opens a connection at a time, and knows when the server last said that it takes no more of them.
    opening: Turnstile<Option<Stopwatch>>,
    state: watch::Sender<State>,
    /// Each connection that is open has one too.
    lines: Arc<()>,
    /// A connection came back.
    returned: Notify,
    /// What was opened before the last time that something went wrong has a smaller number.
    generation: AtomicU64,
    /// Answers so far.
    heard: AtomicU64,
    /// The table was looked at, and is as it must be.
    prepared: AtomicBool,
    create_table: bool,
    opened: IntCounter,
}

#[derive(Clone)]
enum State {
    /// It is there, as far as is known.
    Open,
    /// It is not: whoever comes is told so at once.
    Away(Error),
}

/// An open connection.
pub(super) struct Line<D: Database> {
    pub(super) connection: D::Connection,
    opened: Stopwatch,
    generation: u64,
    _counted: Arc<()>,
}

/// The right to one connection.
pub(super) type Place = OwnedSemaphorePermit;

/// Closes a connection, which nobody waits for.
fn goodbye<D: Database>(line: Line<D>) {
    tokio::spawn(line.connection.close());
}

impl<D: Database> Pool<D> {
    /// A pool of at most so many connections, none of which is open yet.
    pub(super) fn new(
        database: Arc<D>,
        purpose: Purpose,
        most: usize,
        create_table: bool,
        opened: IntCounter,
    ) -> Arc<Self> {
        Arc::new(Self {
            database,
            purpose,
            places: Arc::new(Semaphore::new(most)),
            most,
            idle: Mutex::default(),
            opening: Turnstile::new(None),
            state: watch::Sender::new(State::Open),
            lines: Arc::default(),
            returned: Notify::new(),
            generation: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            prepared: AtomicBool::new(false),
            create_table,
            opened,
        })
    }

    /// Waits for the right to a connection, in the order of coming.
    ///
    /// # Errors
    /// Why the database can't be asked, where that is known; that all connections are busy, once `patience` is over.
    pub(super) async fn enter(&self, patience: Duration) -> Result<Place, Error> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let mut state = self.state.subscribe();
        let free = async {
            tokio::select! {
                biased;
                place = Arc::clone(&self.places).acquire_owned() => place.map_err(|_| self.busy(patience)),
                away = async { state.wait_for(|state| matches!(state, State::Away(_))).await.map(|s| s.clone()) } => {
                    match away {
                        Ok(State::Away(error)) => Err(error),
                        _ => Err(self.busy(patience)),
                    }
                }
            }
        };
        timeout(patience, free).await.unwrap_or_else(|_| Err(self.busy(patience)))
    }

    fn busy(&self, patience: Duration) -> Error {
        let what = format!(
            "{}: all {} connections were busy for {} ms (store.max_connections)",
            self.database.place(),
            self.most,
            patience.as_millis()
        );
        Error::new(Kind::Busy, what)
    }

    /// A connection that nobody uses, or a new one.
    pub(super) async fn line(self: &Arc<Self>, deadline: Instant) -> Result<Line<D>, Error> {
        if let Some(line) = self.pop() {
            return Ok(line);
        }
        let away = || match &*self.state.borrow() {
            State::Away(error) => Err(error.clone()),
            State::Open => Ok(()),
        };
        away()?;
        let mut full = timeout_at(deadline, self.opening.lock()).await.map_err(|_| {
            let what = format!("{}: connections took too long to open", self.database.place());
            Error::new(Kind::Unreachable, what)
        })?;
        loop {
            if let Some(line) = self.pop() {
                return Ok(line);
            }
            away()?;
            let just_said = full.as_ref().is_some_and(|since| since.elapsed() < LONGEST_PAUSE);
            if !(just_said && self.has_lines()) {
                match self.open().await {
                    Err(error) if error.kind == Kind::Busy && self.has_lines() => {
                        *full = Some(Stopwatch::start());
                    }
                    opened => return opened.inspect_err(|error| self.lose(error, FIRST_PAUSE)),
                }
            }
            // One of those that are there comes back, or the server has room again.
            let again = deadline.min(Instant::now() + LONGEST_PAUSE);
            let returned = timeout_at(again, self.returned.notified()).await;
            if returned.is_err() && Instant::now() >= deadline {
                let what =
                    "takes no more connections (store.max_connections), and those that are there were busy";
                return Err(Error::new(Kind::Busy, format!("{}: {what}", self.database.place())));
            }
        }
    }

    fn has_lines(&self) -> bool {
        Arc::strong_count(&self.lines) > 1
    }

    /// Takes a connection back whose call was answered.
    pub(super) fn back(&self, line: Line<D>) {
        self.heard.fetch_add(1, Relaxed);
        self.rest(line);
    }

    /// Takes a connection back that nothing was asked by.
    pub(super) fn rest(&self, line: Line<D>) {
        let mut idle = self.idle();
        if line.generation == self.generation.load(Relaxed) && idle.len() < self.most {
            if line.opened.elapsed() < LIFETIME {
                idle.push(line);
                self.returned.notify_one();
            } else {
                goodbye(line);
            }
        }
    }

    /// The same from a server that takes no writes.
    pub(super) fn back_from_a_reader(&self, line: Line<D>) {
        if line.opened.elapsed() >= STAY {
            self.suspect();
        }
        self.back(line);
    }

    /// Hears that a connection was lost: others that were opened before are most likely lost too.
    pub(super) fn suspect(&self) {
        self.generation.fetch_add(1, Relaxed);
        self.idle().clear();
    }

    /// Answers so far, for [`Pool::silent`].
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    /// Hears that a call was left without an answer. If there was none since to anybody else's either, a new
    /// connection has to show first that somebody is there.
    pub(super) fn silent(self: &Arc<Self>, heard: u64) {
        if self.heard() == heard {
            self.suspect();
            let what = illness::late(self.database.place()).to_string();
            self.lose(&Error::new(Kind::Unreachable, what), Duration::ZERO);
        }
    }

    /// A connection that is still good. One that has lain there for too long, under others, is closed.
    fn pop(&self) -> Option<Line<D>> {
        loop {
            let line = self.idle().pop()?;
            if line.opened.elapsed() < LIFETIME {
                return Some(line);
            }
            goodbye(line);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Line<D>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> Result<Line<D>, Error> {
        let generation = self.generation.load(Relaxed);
        let work = async {
            let mut connection = self.database.open(self.purpose).await?;
            if !self.prepared.load(Relaxed) {
                migrate::prepare(&*self.database, &mut connection, self.create_table).await?;
                self.prepared.store(true, Relaxed);
            }
            D::settle(&mut connection).await?;
            Ok(connection)
        };
        let late = || Err(Failure::Driver(illness::late(self.database.place())));
        let opened = timeout(ATTEMPT, work).await.unwrap_or_else(|_| late());
        let connection = opened.map_err(|failure| Illness::unopened(&*self.database, &failure))?;
        self.opened.inc();
        Ok(Line { connection, opened: Stopwatch::start(), generation, _counted: Arc::clone(&self.lines) })
    }

    /// Tells whoever comes from now on, and has one task look when it is back.
    fn lose(self: &Arc<Self>, error: &Error, pause: Duration) {
        let first = self.state.send_if_modified(|state| match state {
            State::Open => {
                *state = State::Away(error.clone());
                true
            }
            State::Away(_) => false,
        });
        if first {
            warn!(kind = error.kind.label(), "can't use {}, and go on trying: {error}", D::NAME);
            tokio::spawn(knock(Arc::downgrade(self), pause));
        }
    }
}

/// Tries until a connection is open, or nobody wants one any longer.
async fn knock<D: Database>(pool: Weak<Pool<D>>, first: Duration) {
    let mut pause = first;
    loop {
        sleep(jittered(pause)).await;
        let Some(pool) = pool.upgrade() else { return };
        match pool.open().await {
            Ok(line) => {
                pool.rest(line);
                pool.state.send_replace(State::Open);
                info!("{} is back", D::NAME);
                return;
            }
            Err(error) => {
                pool.state.send_replace(State::Away(error));
                pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            }
        }
    }
}
