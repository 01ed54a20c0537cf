//! `store.next`, `store.previous` — from one store to another while both are in use, and sessions are saved and ended.
//!
//! A fleet moves in three rollouts: all know both stores and write the old one (`store.url` is the old one, `store.next`
//! the new one); all know both and write the new one (`store.url`, `store.previous`); the old one is given up. While one
//! rollout follows another, sidecars of two kinds write at once.
//!
//! The old store is asked first, and is the truth where it has anything; sessions go from the old one to the new one and
//! never back. So whoever finds nothing in the old store may go by the new one, now and for ever: the session has been
//! there from the beginning, or has come there, or is nowhere.
//!
//! A session moves when a sidecar of the second kind reads it:
//!
//! 1. In the new store there is something to put it over: a copy (`coatroom copy`), or a *place* that is added for it.
//! 2. In the old store the session, if nobody has changed it since, becomes one that is *leaving*: the same record, and
//!    the revision of the place. From now on nobody can change it there.
//! 3. In the new store the place, and nothing but this place, becomes the session, with the revision that it had.
//! 4. In the old store what was leaving is removed.
//!
//! Whoever meets one that is leaving does 3 and 4 before anything else. Two of them can't do harm, however long one of
//! them sleeps in between: a place can be replaced once only, since no revision comes twice, and nothing that came after
//! it is put over. If the place was lost (a new store that evicts), it gets another one, for as long as the old store
//! says that it is leaving still nobody can have changed it in the new one.
//!
//! A copy is a promise that the old store has the same. So a sidecar of the first kind that has saved a session looks
//! whether there is a copy of what was before, and removes it before it acknowledges; one that ends a session likewise,
//! and so does whoever finds it ended. What is removed from the old store leaves word of that behind for an hour, or a
//! copy that is being made at that moment could stay. A copy is made by adding a place first, then looking whether the
//! session is in the old store as it was, and replacing the place: whoever saves or ends it in between removes that.
//!
//! What it costs: a reading 1 round trip in the old store and, where it has nothing, 1 in the new one; a move 5; a save
//! 2 before the move and 1 after it; cycle-key takes two writes. Both stores have to be there.
//!
//! Before the first session moves the two are asked whether they are one (`apart.rs`), once a process.
//!
//! One thing can be lost, a touch: one that happens between the reading of a session and its leaving is moved without
//! it, and ends when it would have ended before.

mod apart;
mod copy;
pub mod copying;
mod entry;
mod stale;

use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::OnceCell;

pub use self::copy::Fate;
pub(super) use self::entry::is_nothing;
use self::entry::{Entry, Leaving};
use self::stale::Stale;
use super::engine::{Cleared, Engine, Stored, Swap, Worth};
use super::write::new_revision;
use super::{Config, Error, Kind, Part};
use crate::session::{Key, Revision};
use crate::time::{Clock, Timestamp};

/// How often somebody who meets others at one key tries to be the one.
const TRIES: usize = 16;
/// How long a place waits for its session, and word is left of one that was removed: longer than any call takes.
const MEANWHILE: Duration = Duration::from_secs(3600);

/// Which of two stores is `store.url`: the one that new sessions go to, and in which those are written that lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The first rollout: the old one.
    Old,
    /// The second one: the new one. Whatever is read moves there.
    New,
}

impl Home {
    /// What the other of the two is.
    pub const fn other(self) -> Part {
        match self {
            Self::Old => Part::Next,
            Self::New => Part::Previous,
        }
    }
}

/// An engine made of two.
pub struct Moving<O, N> {
    old: O,
    new: N,
    home: Home,
    clock: Clock,
    /// Sessions that were moved.
    moved: IntCounter,
    /// Are both the same one? Empty until they were asked.
    one: OnceCell<bool>,
}

impl<O: Engine, N: Engine> Moving<O, N> {
    /// From `old` to `new`.
    pub const fn new(old: O, new: N, home: Home, clock: Clock, moved: IntCounter) -> Self {
        Self { old, new, home, clock, moved, one: OnceCell::const_new() }
    }

    /// What is kept for a while and is no session.
    fn meanwhile(&self, value: bytes::Bytes) -> Result<Stored, Error> {
        Ok(Stored { value, revision: new_revision()?, until: self.clock.now().plus(MEANWHILE) })
    }

    /// What lies in the new store, where the old one has nothing.
    async fn arrived(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let found = self.new.get(key).await?;
        Ok(found.filter(|found| Entry::of(found) != Entry::Place))
    }

    /// Adds a place to the new store. `None` if there is something by now.
    async fn place(&self, key: &Key) -> Result<Option<Revision>, Error> {
        let place = self.meanwhile(Entry::place())?;
        let mine = place.revision;
        Ok(self.new.add(key, place, Worth::Known).await?.then_some(mine))
    }

    /// Moves a session, if it is in the old store as it was read. Says whether that is so by now, and by us.
    async fn depart(&self, key: &Key, record: Stored) -> Result<bool, Error> {
        self.apart().await?;
        let (seen, until) = (record.revision, record.until);
        let place = match self.new.get(key).await? {
            // Somebody who knows of the new store alone has ended it.
            Some(there) if Entry::of(&there) == Entry::Other => {
                self.old.remove(key, seen).await?;
                return Ok(false);
            }
            Some(there) => there.revision,
            None => match self.place(key).await? {
                Some(mine) => mine,
                None => return Ok(false),
            },
        };
        let leaving = Leaving { place, record };
        let new = Stored { value: leaving.encode(), revision: new_revision()?, until };
        let at = new.revision;
        match self.old.replace(key, seen, new, Worth::Known).await? {
            Swap::Done => self.arrive(key, at, &leaving).await,
            Swap::Changed | Swap::Gone => Ok(false),
        }
    }

    /// Brings a session to the new store that is leaving the old one, where it lies under the revision `at`. Says
    /// whether it is there by now, and by us.
    async fn arrive(&self, key: &Key, at: Revision, leaving: &Leaving) -> Result<bool, Error> {
        let Leaving { place, record } = leaving;
        let is_copied = *place == record.revision;
        if !is_copied && self.new.replace(key, *place, record.clone(), Worth::Known).await? == Swap::Done {
            return self.end(key, at).await;
        }
        let there = self.new.get(key).await?;
        match &there {
            Some(there) if there.revision == record.revision => {
                if there.until < record.until {
                    // A copy of before it was touched.
                    self.new.touch(key, record.revision, record.until).await?;
                }
                return self.end(key, at).await;
            }
            // It was ended, or changed, by somebody who knows of the new store alone, or of an old one that had let it go:
            // what was there before its place is known by its revision, and was put over.
            Some(there) if matches!(Entry::of(there), Entry::Other | Entry::Session) => {
                self.old.remove(key, at).await?;
                return Ok(false);
            }
            _ => {}
        }
        // Either somebody else has brought it, or its place is not what it was, and it gets another one. That is so if it
        // is leaving still, for then nobody has gone by what lies in the new store.
        let place = match there {
            Some(there) => there.revision,
            None => match self.place(key).await? {
                Some(mine) => mine,
                None => return Ok(false),
            },
        };
        let again = Leaving { place, record: record.clone() };
        let new = Stored { value: again.encode(), revision: new_revision()?, until: record.until };
        self.old.replace(key, at, new, Worth::Known).await.map(|_| false)
    }

    /// Takes from the old store what has come to the new one.
    async fn end(&self, key: &Key, seen: Revision) -> Result<bool, Error> {
        let ended = self.old.remove(key, seen).await? == Swap::Done;
        self.moved.inc_by(u64::from(ended));
        Ok(ended)
    }

    async fn replace_in_old(
        &self,
        key: &Key,
        seen: Revision,
        new: Stored,
        worth: Worth,
    ) -> Result<Swap, Error> {
        let stale = Stale::after(seen, &new);
        match self.old.replace(key, seen, new, worth).await? {
            Swap::Done => self.tidied(key, stale).await,
            other => self.met(key, other).await,
        }
    }

    async fn touch_in_old(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        let swap = self.old.touch(key, seen, until).await?;
        self.met(key, swap).await
    }

    /// Removes something from the old store, and leaves word of it.
    async fn bury(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        match self.replace_in_old(key, seen, self.meanwhile(Entry::nothing())?, Worth::Ended).await {
            // An end needs no room: then only a copy that is made at this very moment could stay.
            Err(error) if error.kind == Kind::OutOfMemory => {
                if let Some(copy) = self.new.get(key).await?.filter(|copy| copy.revision == seen) {
                    self.new.remove(key, copy.revision).await?;
                }
                self.old.remove(key, seen).await
            }
            other => other,
        }
    }

    /// How a write in the old store went: one that met word of what was removed met nothing.
    async fn met(&self, key: &Key, swap: Swap) -> Result<Swap, Error> {
        if swap != Swap::Changed {
            return Ok(swap);
        }
        let there = self.old.get(key).await?;
        let nothing = there.is_none_or(|there| Entry::of(&there) == Entry::Nothing);
        Ok(if nothing { Swap::Gone } else { Swap::Changed })
    }
}

/// Adds something where nothing is, or what means nothing.
async fn add(to: &impl Engine, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
    if to.add(key, new.clone(), worth).await? {
        return Ok(true);
    }
    match to.get(key).await? {
        Some(there) if is_nothing(&there.value) => {
            Ok(to.replace(key, there.revision, new, worth).await? == Swap::Done)
        }
        _ => Ok(false),
    }
}

fn busy() -> Error {
    Error::new(Kind::Busy, "others move or change this session again and again")
}

impl<O: Engine, N: Engine> Engine for Moving<O, N> {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        for _ in 0..TRIES {
            let Some(there) = self.old.get(key).await? else { return self.arrived(key).await };
            match Entry::of(&there) {
                Entry::Session if self.home == Home::New && there.until > self.clock.now() => {
                    if Box::pin(self.depart(key, there.clone())).await? {
                        return Ok(Some(there));
                    }
                }
                Entry::Session => return Ok(Some(there)),
                Entry::Leaving(leaving) => {
                    if Box::pin(self.arrive(key, there.revision, &leaving)).await? {
                        return Ok(Some(leaving.record));
                    }
                }
                // Whoever is told that it has ended must not find it later.
                Entry::Other => return Box::pin(self.tidy(key, Stale::All)).await.map(|()| Some(there)),
                Entry::Nothing | Entry::Place => {
                    return Box::pin(self.tidy(key, Stale::All)).await.map(|()| None);
                }
            }
        }
        Err(busy())
    }

    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        match self.home {
            Home::Old => add(&self.old, key, new, worth).await,
            Home::New => add(&self.new, key, new, worth).await,
        }
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        match self.home {
            Home::Old => match self.replace_in_old(key, seen, new.clone(), worth).await? {
                Swap::Gone => self.new.replace(key, seen, new, worth).await,
                other => Ok(other),
            },
            Home::New => match self.new.replace(key, seen, new.clone(), worth).await? {
                Swap::Gone => self.replace_in_old(key, seen, new, worth).await,
                other => Ok(other),
            },
        }
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        match self.home {
            Home::Old => match self.touch_in_old(key, seen, until).await? {
                Swap::Gone => self.new.touch(key, seen, until).await,
                other => Ok(other),
            },
            Home::New => match self.new.touch(key, seen, until).await? {
                Swap::Gone => self.touch_in_old(key, seen, until).await,
                other => Ok(other),
            },
        }
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        match self.home {
            Home::Old => match self.bury(key, seen).await? {
                Swap::Gone => self.new.remove(key, seen).await,
                other => Ok(other),
            },
            Home::New => match self.new.remove(key, seen).await? {
                Swap::Gone => self.bury(key, seen).await,
                other => Ok(other),
            },
        }
    }

    async fn confirm(&self, key: &Key, seen: Option<Revision>) -> Result<bool, Error> {
        let Some(there) = self.old.get(key).await? else {
            return Ok(self.old.confirm(key, None).await? && self.new.confirm(key, seen).await?);
        };
        let entry = Entry::of(&there);
        let stale = match entry {
            Entry::Leaving(_) => return Ok(false),
            Entry::Session => Stale::None,
            Entry::Nothing | Entry::Place | Entry::Other => Stale::All,
        };
        self.tidy(key, stale).await?;
        if entry == Entry::Nothing {
            return Ok(seen.is_none() && self.old.confirm(key, Some(there.revision)).await?);
        }
        self.old.confirm(key, seen).await
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        let cleared = self.old.clear_expired(now, batch).await?;
        if cleared.more {
            return Ok(cleared);
        }
        match self.new.clear_expired(now, batch.saturating_sub(cleared.removed)).await {
            Ok(next) => Ok(cleared.and(next)),
            Err(error) => cleared.until(Err(error)),
        }
    }

    fn clears_itself(&self) -> bool {
        self.old.clears_itself() && self.new.clears_itself()
    }

    async fn ping(&self) -> Result<(), Error> {
        self.old.ping().await?;
        self.new.ping().await
    }

    fn reload(&self, config: &Config) {
        self.old.reload(config);
        self.new.reload(config);
    }
}
