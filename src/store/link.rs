//! One worker's connection to a server: opened when it is first wanted, and opened again for as long as it is away.
//!
//! Calls share it: each is written behind the others, and answers come back in that order, so each finds its caller,
//! and one whose caller has left is thrown away. A connection that left a caller without an answer and has said
//! nothing since is given up as a whole: no later call is written to it, those in flight still get what comes.
//!
//! What is said on a connection is its engine's affair; this is how it is kept.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use prometheus::IntCounter;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Config, Error, Kind};
use crate::time::Stopwatch;

/// What an attempt to connect may take, TLS and password included.
pub(super) const ATTEMPT: Duration = Duration::from_secs(1);
/// The longest silence that speaks against no connection; half of `store.timeout` where that is less.
const SILENCE: Duration = Duration::from_millis(100);
/// The pause after the first attempt that fails; each next one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// With this, and attempts that fail fast, a server is found within a second of being back.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after connections that are lost as soon as they are open: whoever comes waits for the next one.
const SHORT_LIVED: Duration = Duration::from_millis(80);
/// What calls in flight on a connection that was given up may still take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What drives a connection: it ends when the connection does.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that can be connected to. It is shown as logs name it.
pub(super) trait Open: fmt::Display + Send + Sync + 'static {
    /// What calls are made by.
    type Connection: Clone + Send + Sync + 'static;

    /// Where it is, if that can change.
    type Place: Send + Sync;

    /// Opens a connection that is ready for calls.
    ///
    /// # Errors
    /// Why there is none. Nothing of anybody's was sent.
    fn open(&self) -> impl Future<Output = Result<(Self::Connection, Driver), Error>> + Send;

    /// Where a connection leads; without one, where the server was said to be last.
    fn place(&self, connection: Option<&Self::Connection>) -> Self::Place;

    /// Returns when the server is somewhere else.
    fn moved(&self, _: &Self::Place) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// A call that was left without an answer for so long, on a connection that said nothing since, speaks against it.
pub(super) fn silence(config: &Config) -> Duration {
    // Nobody waits longer than all of `store.timeout`.
    SILENCE.min(config.timeout.0 / 2)
}

/// Opens connections, and opens them again.
pub(super) struct Link<S: Open> {
    server: Arc<S>,
    opened: IntCounter,
    keeper: Mutex<Option<Keeper<S::Connection>>>,
}

/// The task that keeps a connection, and what it says of it.
struct Keeper<C> {
    state: watch::Receiver<State<C>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
enum State<C> {
    /// It is being opened for the first time, or again after it was lost: whoever comes may wait for it.
    Opening,
    /// It is there.
    Open(Line<C>),
    /// It could not be opened: whoever comes is told so at once.
    Away(Error),
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Line<C> {
    /// What calls are made by.
    pub(super) connection: C,
    /// What is known of it besides that it is open.
    pub(super) health: Arc<Health>,
}

/// What is known of a connection besides that it is open.
pub(super) struct Health {
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

    /// Begins a call: what is returned is to be told of its answer.
    pub(super) fn call(&self, silence: Duration) -> Waiting<'_> {
        let (heard, since) = (self.heard.load(Relaxed), Stopwatch::start());
        Waiting { health: self, silence, heard, since, answered: false }
    }

    /// Writes no call to it any longer, and has another one opened.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Relaxed);
        self.wake.notify_one();
    }

    /// How long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }
}

/// A call that is under way; if it is dropped so, its caller has left.
pub(super) struct Waiting<'a> {
    health: &'a Health,
    silence: Duration,
    heard: u64,
    since: Stopwatch,
    answered: bool,
}

impl Waiting<'_> {
    /// The server has answered.
    pub(super) fn answered(mut self) {
        self.answered = true;
        self.health.heard.fetch_add(1, Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let silent = self.health.heard.load(Relaxed) == self.heard;
        if !self.answered && silent && self.since.elapsed() >= self.silence {
            self.health.give_up();
        }
    }
}

impl<S: Open> Link<S> {
    /// A link to a server that is not open yet; `opened` counts its connections.
    pub(super) fn new(server: Arc<S>, opened: IntCounter) -> Self {
        Self { server, opened, keeper: Mutex::new(None) }
    }

    /// The connection, once it is open.
    ///
    /// # Errors
    /// [`Kind::Unreachable`], or what the server has against us.
    pub(super) async fn line(&self) -> Result<Line<S::Connection>, Error> {
        let mut state = self.state();
        loop {
            match &*state.borrow_and_update() {
                State::Open(line) if !line.health.given_up.load(Relaxed) => return Ok(line.clone()),
                State::Away(error) => return Err(error.clone()),
                State::Open(_) | State::Opening => {}
            }
            if state.changed().await.is_err() {
                let what = format!("the connection to {} is being closed", self.server);
                return Err(Error::new(Kind::Unreachable, what));
            }
        }
    }

    /// What the keeper says. It is made when it is first asked, and anew when its runtime has taken it along.
    fn state(&self) -> watch::Receiver<State<S::Connection>> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        match &*keeper {
            Some(Keeper { state, task }) if !task.is_finished() => state.clone(),
            _ => {
                let (tell, state) = watch::channel(State::Opening);
                let task = tokio::spawn(keep(Arc::clone(&self.server), self.opened.clone(), tell));
                *keeper = Some(Keeper { state: state.clone(), task });
                state
            }
        }
    }
}

/// Keeps a connection open for as long as there is a link.
async fn keep<S: Open>(server: Arc<S>, opened: IntCounter, tell: watch::Sender<State<S::Connection>>) {
    let (mut pause, mut away) = (FIRST_PAUSE, false);
    loop {
        let known = server.place(None);
        let attempt = tokio::select! {
            attempt = server.open() => attempt,
            () = tell.closed() => return,
        };
        let rest = match attempt {
            Ok((connection, mut driver)) => {
                opened.inc();
                if away {
                    info!("connected to {server} again");
                }
                away = false;
                let (place, health) = (server.place(Some(&connection)), Arc::new(Health::new()));
                tell.send_replace(State::Open(Line { connection, health: Arc::clone(&health) }));
                let left = tokio::select! {
                    // Who says why it is given up comes first.
                    biased;
                    () = &mut driver => false,
                    () = health.wake.notified() => {
                        warn!("a connection to {server} is given up: it has gone silent, or the server its role");
                        true
                    }
                    () = server.moved(&place) => true,
                    () = tell.closed() => true,
                };
                if left {
                    health.given_up.store(true, Relaxed);
                    drop(tokio::spawn(timeout(LAST_WORDS, driver)));
                }
                tell.send_replace(State::Opening);
                // A server that takes connections only to end them is not asked again as fast as it can end them.
                if health.age() >= LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                    continue;
                }
                let rest = pause.min(SHORT_LIVED);
                pause = (pause * 2).min(SHORT_LIVED);
                rest
            }
            Err(error) => {
                if !away {
                    warn!(kind = error.kind.label(), "can't connect to {server}, and go on trying: {error}");
                }
                away = true;
                tell.send_replace(State::Away(error));
                let rest = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                rest
            }
        };
        tokio::select! {
            () = sleep(jittered(rest)) => {}
            // Whoever knows of another server need not wait.
            () = server.moved(&known) => {}
            () = tell.closed() => return,
        }
    }
}

/// Between half of it and all of it, so that a fleet doesn't knock in step.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without random numbers it knocks at the earliest moment.
    let _ = rand::fill(&mut random);
    pause / 2 + pause / 512 * u32::from(random[0])
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::Instant;

    use super::*;

    /// A server that is away for so many attempts, then ends a connection as soon as it is open, then serves.
    struct Shaky {
        away: u64,
        attempts: AtomicU64,
    }

    impl fmt::Display for Shaky {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a shaky server")
        }
    }

    impl Open for Shaky {
        type Connection = u64;
        type Place = ();

        async fn open(&self) -> Result<(u64, Driver), Error> {
            let attempt = self.attempts.fetch_add(1, Relaxed);
            if attempt < self.away {
                return Err(Error::new(Kind::Unreachable, "it is away"));
            }
            let driver: Driver = if attempt == self.away { Box::pin(ready(())) } else { Box::pin(pending()) };
            Ok((attempt, driver))
        }

        fn place(&self, _: Option<&u64>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_next_connection_waits_no_longer_for_what_failed_before() {
        let server = Shaky { away: 8, attempts: AtomicU64::new(0) };
        let link = Link::new(Arc::new(server), IntCounter::new("opened", "Opened.").unwrap());
        let waited = loop {
            let since = Instant::now();
            if let Ok(line) = link.line().await {
                assert_eq!(line.connection, 9, "the one before has ended");
                break since.elapsed();
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert!(waited <= SHORT_LIVED, "{waited:?}");
    }
}
