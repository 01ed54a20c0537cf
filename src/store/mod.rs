//! Keeps records; knows nothing of headers, cookies' attributes or proxies.
//!
//! A [`Store`] is what the rest of the program sees: it loads the session of a token and commits what became of it.
//! An [`engine::Engine`] is a shelf of bytes; [`keyed::Keyed`] makes a store of any engine. [`cookie::Cookie`] is the
//! store that keeps nothing, for its token is the session.

mod boxed;
pub mod cached;
pub mod codec;
mod commit;
mod config;
pub mod cookie;
pub mod engine;
mod error;
mod examine;
mod executor;
pub mod file;
mod host;
pub mod keyed;
mod lane;
mod lease;
mod link;
pub mod memcached;
pub mod memory;
pub mod moving;
mod open;
mod part;
pub mod redis;
pub mod sql;
mod write;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

pub use self::engine::Cleared;
pub use self::moving::copying::{Copying, Manner, Tally};
pub use config::{CacheOnError, Config, OnError, SCHEMES, Unsealed, Url};
pub use error::{Error, Kind};
pub use examine::{Finding, Weight, examine};
pub use open::{copying, open, open_existing};
pub use part::Part;

use crate::session::{Cookie, Denied, Found, Plan, Revision, Row, Token};
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
    fn clear_expired(&self, now: Timestamp, batch: usize) -> Pending<'_, Result<Cleared, Error>>;

    /// Does the store forget expired sessions by itself?
    fn clears_itself(&self) -> bool;

    /// Takes the lease of whoever clears the store for all, or goes on having it: `had` is what was returned the last
    /// time. `None` means that somebody else has it.
    ///
    /// # Errors
    /// If the store can't say.
    fn lease(
        &self,
        had: Option<Revision>,
        now: Timestamp,
        length: Duration,
    ) -> Pending<'_, Result<Option<Revision>, Error>>;

    /// Goes by these settings and rules from now on, as far as it can while it is in use.
    fn reload(&self, config: &Config, rules: keyed::Rules);

    /// Is the store there?
    ///
    /// # Errors
    /// If it is not.
    fn ping(&self) -> Pending<'_, Result<(), Error>>;
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
    /// Sessions that were moved from one store to another.
    pub moved: IntCounter,
    /// What became of what the cache was asked.
    pub cache: cached::Counts,
    /// Cookies that hold a session and were not taken.
    pub cookies: cookie::Counts,
}

impl Counts {
    /// What is counted for nobody.
    fn unseen() -> Self {
        let unseen = IntCounter::new("unseen", "What nobody looks at.").expect("it is a name");
        let count = || unseen.clone();
        Self {
            expiries: count(),
            evictions: count(),
            conflicts: count(),
            old_seals: count(),
            connections: count(),
            moved: count(),
            cache: cached::Counts {
                hits: count(),
                misses: count(),
                errors: count(),
                waits: count(),
                unsettled: count(),
            },
            cookies: cookie::Counts {
                expired: count(),
                forged: count(),
                unknown_key: count(),
                unreadable: count(),
                old_seals: count(),
            },
        }
    }
}

/// What was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The row of the decision table that was taken.
    pub row: Row,
    /// What the client is to be told.
    pub cookie: Cookie,
    /// The token of the session that was created, where one was, or of one whose token is what it holds; the cookie
    /// carries it instead of the one shown.
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
