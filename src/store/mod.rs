//! Keeps records; knows nothing of headers, cookies' attributes or proxies.
//!
//! A [`Store`] is what the rest of the program sees: it loads the session of a token and commits what became of it.
//! An [`engine::Engine`] is a shelf of bytes; [`keyed::Keyed`] makes a store of any engine.

pub mod codec;
mod commit;
pub mod engine;
pub mod keyed;
mod lane;
pub mod memory;
mod write;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use prometheus::IntCounter;
use serde::{Deserialize, Serialize};

use crate::session::{Cookie, Denied, Found, Plan, Row, Token};
use crate::time::{Length, Timestamp};

/// A future that somebody else will poll, on whatever thread.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Decides, from what stands in the store, what is to be written. It is asked again at every attempt.
pub type Decide = Arc<dyn Fn(&Found) -> Result<Plan, Denied> + Send + Sync>;

/// Keeps sessions under tokens that it makes itself.
pub trait Store: Send + Sync + 'static {
    /// Finds the session of a token. One that is not there is no error.
    ///
    /// # Errors
    /// If the store can't say: the caller must then treat the session as unknown, never as absent.
    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Pending<'a, Result<Found, Error>>;

    /// Writes what `decide` makes of the session that was loaded, or of what stands there by now.
    ///
    /// # Errors
    /// [`Failed`], and then nothing was applied, but for [`Kind::OutcomeUnknown`].
    fn commit(&self, found: Found, decide: Decide, now: Timestamp) -> Pending<'_, Result<Outcome, Failed>>;

    /// Removes up to `batch` of what had ended by `now`.
    ///
    /// # Errors
    /// If the store can't be written.
    fn clear_expired(&self, now: Timestamp, batch: usize) -> Pending<'_, Result<engine::Cleared, Error>>;

    /// Is the store there?
    ///
    /// # Errors
    /// If it is not.
    fn ping(&self) -> Pending<'_, Result<(), Error>>;
}

/// Opens the store that `store.url` names.
///
/// # Errors
/// Names the schemes that exist where the URL has another one.
pub fn open(config: &Config, rules: keyed::Rules, counts: Counts) -> Result<Arc<dyn Store>, Error> {
    match config.url.as_str() {
        "memory:" => {
            let engine = memory::Memory::new(config, counts.evictions);
            let counts = keyed::Counts { expiries: counts.expiries, conflicts: counts.conflicts };
            Ok(Arc::new(keyed::Keyed::new(engine, rules, counts)))
        }
        // The URL may hold a password.
        _ => Err(Error::new(Kind::Refused, "store.url: only memory: exists")),
    }
}

/// What a store counts.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Sessions that were found expired, once each.
    pub expiries: IntCounter,
    /// Sessions that had to go for want of room.
    pub evictions: IntCounter,
    /// Compare-and-swaps that lost and were tried again.
    pub conflicts: IntCounter,
}

/// What was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The row of the decision table that was taken.
    pub row: Row,
    /// What the client is to be told.
    pub cookie: Cookie,
    /// The token of the session that was created, where one was; the cookie carries it instead of the one shown.
    pub minted: Option<Token>,
}

/// Why nothing was committed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failed {
    /// The decision table says so.
    Denied(Denied),
    /// The store is ill.
    Store(Error),
}

impl From<Denied> for Failed {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// An ill store. That something is not there is never an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind, for those who count.
    pub kind: Kind,
    /// What happened, for those who read.
    pub detail: String,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It can't be reached: nothing was sent.
    Unreachable,
    /// It hung up with an answer outstanding.
    Broken,
    /// It did not answer within the request's budget; nothing was written.
    Timeout,
    /// It answered that it won't.
    Refused,
    /// What it keeps can't be read; it is kept.
    Corrupt,
    /// A write was sent, and nobody can say whether it happened.
    OutcomeUnknown,
}

impl Error {
    /// Makes an error.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Error {}

/// `[store]`: where sessions are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `memory:`. Django: `SESSION_ENGINE`, `SESSION_FILE_PATH`.
    pub url: String,
    /// What a request may wait for its session to be loaded.
    pub timeout: Length,
    /// What a response may wait for its changes to be saved.
    pub commit_timeout: Length,
    /// A store that can't be asked: `reject` the request with 503, or go on as `anonymous`.
    pub on_error: OnError,
    /// `memory:` sessions at most; then the least worthy go first.
    pub max_sessions: usize,
    /// `memory:` bytes at most, keys and bookkeeping included.
    pub max_bytes: usize,
    /// `memory:` how often expired sessions are cleared.
    pub sweep_interval: Length,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            timeout: Length::millis(250),
            commit_timeout: Length::secs(1),
            on_error: OnError::Reject,
            max_sessions: 1_000_000,
            max_bytes: 512 * 1024 * 1024,
            sweep_interval: Length::secs(10),
        }
    }
}

/// What happens to a request whose session can't be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The client gets 503.
    Reject,
    /// The request goes on as `unavailable`.
    Anonymous,
}
