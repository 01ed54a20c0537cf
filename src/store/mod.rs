//! Keeps records; knows nothing of headers, cookies' attributes or proxies.
//!
//! A [`Store`] is what the rest of the program sees: it loads the session of a token and commits what became of it.
//! An [`engine::Engine`] is a shelf of bytes; [`keyed::Keyed`] makes a store of any engine.

pub mod codec;
mod commit;
mod config;
pub mod engine;
mod error;
mod examine;
pub mod keyed;
mod lane;
pub mod memory;
pub mod redis;
mod write;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use prometheus::IntCounter;

pub use config::{Config, OnError, SCHEMES, Unsealed, Url};
pub use error::{Error, Kind};
pub use examine::{Finding, Weight, examine};

use crate::session::{Cookie, Denied, Found, Plan, Row, Token};
use crate::time::Timestamp;

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

    /// Goes by these settings and rules from now on, as far as it can while it is in use.
    fn reload(&self, config: &Config, rules: keyed::Rules);

    /// Is the store there?
    ///
    /// # Errors
    /// If it is not.
    fn ping(&self) -> Pending<'_, Result<(), Error>>;
}

/// Opens the store that `store.url` names. Nothing is asked of it yet.
///
/// # Errors
/// Names the schemes that exist where the URL has another one, and says what is wrong with its settings.
pub fn open(config: &Config, rules: keyed::Rules, counts: Counts) -> Result<Arc<dyn Store>, Error> {
    let keyed =
        keyed::Counts { expiries: counts.expiries, conflicts: counts.conflicts, old_seals: counts.old_seals };
    match config.url.scheme() {
        "memory" => {
            let engine = memory::Memory::new(config, counts.evictions);
            Ok(Arc::new(keyed::Keyed::new(engine, rules, keyed)))
        }
        scheme if redis::SCHEMES.contains(&scheme) => {
            let engine = redis::Redis::new(config, counts.connections)
                .map_err(|(key, what)| Error::new(Kind::Refused, format!("{key}: {what}")))?;
            Ok(Arc::new(keyed::Keyed::new(engine, rules, keyed)))
        }
        // The URL may hold a password.
        _ => Err(Error::new(Kind::Refused, format!("store.url: there are {}", SCHEMES.join(", ")))),
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
    /// Records read that would be sealed otherwise today: by the first of `store.encryption_keys`, or not at all.
    pub old_seals: IntCounter,
    /// Connections opened to a server.
    pub connections: IntCounter,
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
