//! A shelf of bytes with deadlines: what a medium must be able to do.

use std::future::Future;

use bytes::Bytes;

use super::{Config, Error, Kind};
use crate::session::{Key, Revision};
use crate::time::Timestamp;

/// What lies on the shelf under a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The bytes, whose meaning is the codec's alone.
    pub value: Bytes,
    /// Their state, for compare-and-swap.
    pub revision: Revision,
    /// When they end. An engine may still return what has ended, and its caller must look.
    pub until: Timestamp,
}

/// What to keep longer when there is no room for everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// A session of nobody in particular: it goes first if it has not even come back.
    Anonymous,
    /// The memory of an ended token.
    Ended,
    /// A session of somebody who logged in.
    Known,
}

/// A session's move from one key to another, in one step.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// The key that it has.
    pub old: Key,
    /// What must lie there.
    pub seen: Revision,
    /// What lies there then.
    pub ended: Stored,
    /// The key that it gets, which must be free.
    pub new: Key,
    /// What lies there then.
    pub fresh: Stored,
    /// What that is worth.
    pub worth: Worth,
}

/// How a conditional write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It was written.
    Done,
    /// Something else than what was seen is there: nothing was written.
    Changed,
    /// Nothing is there: nothing was written.
    Gone,
}

/// What a round of clearing removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Values of any kind.
    pub removed: usize,
    /// Those that were sessions, not memories of ended ones.
    pub sessions: usize,
    /// There may be more: the batch was full, or the medium failed after it had removed some, and says why next time.
    pub more: bool,
}

impl Cleared {
    /// This round, and the one after it.
    #[must_use]
    pub const fn and(self, next: Self) -> Self {
        let (removed, sessions) = (self.removed + next.removed, self.sessions + next.sessions);
        Self { removed, sessions, more: next.more }
    }

    /// What a round removed that knew at its end whether there is more, or failed: a failure is told only where there
    /// is nothing else to be told.
    pub(super) fn until(self, more: Result<bool, Error>) -> Result<Self, Error> {
        match more {
            Err(error) if self.removed == 0 => Err(error),
            more => Ok(Self { more: more.unwrap_or(true), ..self }),
        }
    }
}

/// Keys that are told at a time, where the medium lets us choose.
pub(super) const PAGE: usize = 500;

/// Some of the keys that something lies under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Sessions, memories of ended ones, and what else is kept, expired or not. One may be told twice.
    pub keys: Vec<Key>,
    /// Where to go on, in the engine's own words; `None` if that was all.
    pub next: Option<String>,
}

/// A medium that keeps bytes under keys until they end.
///
/// Nothing is blind: every write but `add` names the revision it has seen, and `add` refuses a key that is taken.
/// Compare-and-swap is part of the trait, so no engine can lose an update. A write that fails with an [`Error`] may
/// or may not have happened; the revision, made before it is sent, lets the caller recognise it later.
pub trait Engine: Send + Sync + 'static {
    /// Reads what lies under `key`.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Stored>, Error>> + Send;

    /// Puts `new` under `key`; `false` if the key is taken.
    fn add(&self, key: &Key, new: Stored, worth: Worth) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Puts `new` where `seen` is. Its revision may be the same: then it is the same record, sealed by another key.
    fn replace(
        &self,
        key: &Key,
        seen: Revision,
        new: Stored,
        worth: Worth,
    ) -> impl Future<Output = Result<Swap, Error>> + Send;

    /// Moves the end of what is `seen`; neither the bytes nor the revision change.
    fn touch(
        &self,
        key: &Key,
        seen: Revision,
        until: Timestamp,
    ) -> impl Future<Output = Result<Swap, Error>> + Send;

    /// Removes what is `seen`.
    fn remove(&self, key: &Key, seen: Revision) -> impl Future<Output = Result<Swap, Error>> + Send;

    /// Moves a session to another key in one step, all of it or nothing; a new key that is taken is
    /// [`Swap::Changed`]. `None` from an engine that can't: then it takes an `add` and a `replace`.
    fn cycle(&self, _: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        None::<std::future::Ready<_>>
    }

    /// Makes sure of what was found when the outcome of a write was looked for: `seen` lies there, `None` for nothing.
    /// `false` if that is so no longer.
    ///
    /// A medium that copies itself may show what would not survive the loss of a server, and a disk what would not
    /// survive a crash. An acknowledged write is told to all the copies that it has to reach, one whose answer was lost
    /// perhaps to none: here it is told again. Other media have nothing to do.
    fn confirm(&self, _: &Key, _: Option<Revision>) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Ok(true))
    }

    /// Removes up to `batch` values that had ended by `now`.
    ///
    /// # Errors
    /// If the medium fails before anything was removed; later, [`Cleared::more`] says that it is worth asking again.
    fn clear_expired(
        &self,
        now: Timestamp,
        batch: usize,
    ) -> impl Future<Output = Result<Cleared, Error>> + Send;

    /// Does the medium end values by its own clock, so that nobody has to clear them?
    fn clears_itself(&self) -> bool {
        false
    }

    /// Tells some hundreds of the keys at a time, each that is there from the first page to the last at least once:
    /// `after` is [`Page::next`] of the page before, be it another process that was told.
    ///
    /// # Errors
    /// If the medium can't say what lies in it; or what `after` is meant to be.
    fn scan(&self, _after: Option<&str>) -> impl Future<Output = Result<Page, Error>> + Send {
        std::future::ready(Err(Error::new(Kind::Refused, "this store can't list what lies in it")))
    }

    /// Is the medium there?
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Can nobody but this process write to the medium?
    fn is_own(&self) -> bool {
        false
    }

    /// Goes by these settings from now on, as far as it can while it is in use.
    fn reload(&self, _: &Config) {}
}
