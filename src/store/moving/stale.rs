//! Copies of what is no longer so: whoever saves or ends a session in the old store looks for one in the new store, and
//! removes it before anybody is told.

use super::entry::Entry;
use super::{Moving, TRIES, busy};
use crate::session::{Key, Revision};
use crate::store::engine::{Engine, Stored, Swap};
use crate::store::{Error, Kind};

/// Which session in the new store is one no longer, where the old store has nothing: it may have moved, but the old store
/// may also have forgotten by now what ended it there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stale {
    /// None that is known of: the session may have moved.
    None,
    /// The one of this revision, which was replaced in the old store.
    Only(Revision),
    /// Any: the session was in the old store when it ended.
    All,
}

impl Stale {
    /// After something was replaced in the old store by something new.
    pub(super) fn after(seen: Revision, new: &Stored) -> Self {
        if Entry::of(new) != Entry::Session {
            Self::All
        } else if new.revision == seen {
            // A touch that seals anew: what lies in the new store may be the same one.
            Self::None
        } else {
            Self::Only(seen)
        }
    }

    fn is(self, copy: Revision) -> bool {
        match self {
            Self::None => false,
            Self::Only(seen) => copy == seen,
            Self::All => true,
        }
    }
}

impl<O: Engine, N: Engine> Moving<O, N> {
    /// Removes a copy of something else than what lies in the old store; where nothing does, of what is `stale`.
    pub(super) async fn tidy(&self, key: &Key, stale: Stale) -> Result<(), Error> {
        for _ in 0..TRIES {
            let Some(copy) = self.new.get(key).await? else { return Ok(()) };
            if !matches!(Entry::of(&copy), Entry::Session | Entry::Place) {
                return Ok(());
            }
            let stays = match self.old.get(key).await? {
                None => !stale.is(copy.revision),
                Some(there) => match Entry::of(&there) {
                    Entry::Leaving(_) => true,
                    Entry::Session => there.revision == copy.revision,
                    _ => false,
                },
            };
            if stays {
                return Ok(());
            }
            if self.new.remove(key, copy.revision).await? != Swap::Changed {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// The same after a write that was done: where that can't be made sure of, nobody may say that nothing happened.
    pub(super) async fn tidied(&self, key: &Key, stale: Stale) -> Result<Swap, Error> {
        self.tidy(key, stale).await.map(|()| Swap::Done).map_err(|error| {
            let what =
                format!("it was written, and a copy of what was before may be in the new store: {error}");
            Error::new(Kind::Broken, what)
        })
    }
}
