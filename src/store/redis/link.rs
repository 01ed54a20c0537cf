//! One worker's connection to a server: opened when it is first wanted, and opened again for as long as it is away.
//!
//! Calls share it: each is written behind the others, and answers come back in that order, so each finds its caller,
//! and one whose caller has left is thrown away. A connection that left a caller without an answer and has said
//! nothing since is given up as a whole: no later call is written to it, those in flight still get what comes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use prometheus::IntCounter;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::failure::{Failure, Step};
use super::script;
use super::target::{Driver, Target};
use super::{Times, answer};
use crate::store::{Error, Kind};
use crate::time::Stopwatch;

/// What an attempt to connect may take, TLS and password included.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The pause after the first attempt that fails; each next one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// With this, and attempts that fail fast, a server is found within a second of being back.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after connections that are lost as soon as they are open: whoever comes waits for the next one.
const SHORT_LIVED: Duration = Duration::from_millis(80);
/// What calls in flight on a connection that was given up may still take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Opens connections, and opens them again.
pub(super) struct Link {
    target: Arc<Target>,
    opened: IntCounter,
    times: Arc<ArcSwap<Times>>,
    keeper: Mutex<Option<Keeper>>,
}

/// The task that keeps a connection, and what it says of it.
struct Keeper {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
enum State {
    /// It is being opened for the first time, or again after it was lost: whoever comes may wait for it.
    Opening,
    /// It is there.
    Open(Line),
    /// It could not be opened: whoever comes is told so at once.
    Away(Error),
}

/// An open connection.
#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    health: Arc<Health>,
}

/// What is known of a connection besides that it is open.
struct Health {
    /// When it was opened.
    opened: Stopwatch,
    /// Answers so far.
    heard: AtomicU64,
    /// No call is to be written to it any longer.
    given_up: AtomicBool,
    /// Wakes its keeper to open another one.
    wake: Notify,
}

impl Health {
    fn new() -> Self {
        let (heard, given_up) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { opened: Stopwatch::start(), heard, given_up, wake: Notify::new() }
    }

    fn give_up(&self) {
        self.given_up.store(true, Relaxed);
        self.wake.notify_one();
    }
}

/// A call that is under way; if it is dropped so, its caller has left.
struct Waiting<'a> {
    health: &'a Health,
    silence: Duration,
    heard: u64,
    since: Stopwatch,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let silent = self.health.heard.load(Relaxed) == self.heard;
        if !self.answered && silent && self.since.elapsed() >= self.silence {
            self.health.give_up();
        }
    }
}

impl Link {
    /// A link to `target` that is not open yet.
    pub(super) fn new(target: Arc<Target>, opened: IntCounter, times: Arc<ArcSwap<Times>>) -> Self {
        Self { target, opened, times, keeper: Mutex::new(None) }
    }

    /// Sends a command and returns the answer, be it one that the server won't.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] where nothing was sent, [`Kind::Broken`] where that is not known.
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, Error> {
        let Line { mut connection, health } = self.line().await?;
        let heard = health.heard.load(Relaxed);
        let (since, silence) = (Stopwatch::start(), self.times.load().silence);
        let mut waiting = Waiting { health: &health, silence, heard, since, answered: false };
        let answer = connection.send_packed_command(command).await;
        waiting.answered = true;
        health.heard.fetch_add(1, Relaxed);
        let answer = answer.map_err(|error| answer::broken(&error))?;
        if let Value::ServerError(error) = &answer
            && matches!(error.code(), "READONLY" | "MASTERDOWN" | "NOAUTH")
            && health.opened.elapsed() >= LONGEST_PAUSE
        {
            // Another server may have its name by now, or we another password. It is looked for now and then.
            health.give_up();
        }
        Ok(answer)
    }

    /// The connection, once it is open.
    async fn line(&self) -> Result<Line, Error> {
        let mut state = self.state();
        loop {
            match &*state.borrow_and_update() {
                State::Open(line) if !line.health.given_up.load(Relaxed) => return Ok(line.clone()),
                State::Away(error) => return Err(error.clone()),
                State::Open(_) | State::Opening => {}
            }
            if state.changed().await.is_err() {
                return Err(Error::new(Kind::Unreachable, "the connection to Redis is being closed"));
            }
        }
    }

    /// What the keeper says. It is made when it is first asked, and anew when its runtime has taken it along.
    fn state(&self) -> watch::Receiver<State> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        match &*keeper {
            Some(Keeper { state, task }) if !task.is_finished() => state.clone(),
            _ => {
                let (tell, state) = watch::channel(State::Opening);
                let task = tokio::spawn(keep(Arc::clone(&self.target), self.opened.clone(), tell));
                *keeper = Some(Keeper { state: state.clone(), task });
                state
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        keeper.iter().for_each(|keeper| keeper.task.abort());
    }
}

/// Keeps a connection open for ever.
async fn keep(target: Arc<Target>, opened: IntCounter, tell: watch::Sender<State>) {
    let (mut pause, mut away) = (FIRST_PAUSE, false);
    loop {
        match open(&target).await {
            Ok((connection, driver)) => {
                opened.inc();
                if away {
                    info!("connected to Redis again");
                }
                away = false;
                let line = Line { connection, health: Arc::new(Health::new()) };
                let health = Arc::clone(&line.health);
                tell.send_replace(State::Open(line));
                let mut driver = driver;
                tokio::select! {
                    () = &mut driver => {}
                    () = health.wake.notified() => {
                        warn!("a connection to Redis is given up: it has gone silent, or the server its role");
                        drop(tokio::spawn(timeout(LAST_WORDS, driver)));
                    }
                }
                tell.send_replace(State::Opening);
                // A server that takes connections only to end them is not asked again as fast as it can end them.
                if health.opened.elapsed() >= LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                } else {
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(SHORT_LIVED);
                }
            }
            Err(error) => {
                if !away {
                    warn!(kind = error.kind.label(), "can't connect to Redis, and go on trying: {error}");
                }
                away = true;
                tell.send_replace(State::Away(error));
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Opens a connection, and sees to it that its server knows our scripts.
async fn open(target: &Target) -> Result<(MultiplexedConnection, Driver), Error> {
    let failed = |failure: Failure| failure.at(&target.place);
    let connected = timeout(ATTEMPT, target.connect(ATTEMPT)).await;
    let (mut connection, mut driver) =
        connected.unwrap_or(Err(Failure::Late(Step::Greet))).map_err(failed)?;
    let mut scripts = redis::pipe();
    for script in script::ALL {
        scripts.cmd("SCRIPT").arg("LOAD").arg(script.text);
    }
    // A server that refuses them refuses their calls too, and says why then.
    let teach = timeout(ATTEMPT, connection.send_packed_commands(&scripts, 0, script::ALL.len()));
    tokio::select! {
        _ = teach => {}
        () = &mut driver => return Err(failed(Failure::Lost("no reason was given".to_owned()))),
    }
    Ok((connection, driver))
}

/// Between half of it and all of it, so that a fleet doesn't knock in step.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without random numbers it knocks at the earliest moment.
    let _ = rand::fill(&mut random);
    pause / 2 + pause / 512 * u32::from(random[0])
}
