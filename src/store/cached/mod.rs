//! `store.cache` — Django's `cached_db`: sessions in a database, and for a moment in a cache before it.
//!
//! The database is the truth: what it has acknowledged is saved, and durable and atomic as it is there. The cache spares
//! it most readings: load 1 round trip (to the cache; 3 more where it is not there, one of them to the database), save 4
//! (a look, a marker, the database, the new value), create 1. What the cache loses or evicts costs a reading and nothing
//! else.
//!
//! Django writes the database and then the cache, and goes on if the cache fails; so a value that was replaced, or a
//! session that was flushed, is read from the cache for as long as it lives there. Here, whatever the cache does, nobody
//! reads what is older than an acknowledged write. With L for `store.cache_lease`:
//!
//! - Whatever lies in the cache lies there for L/2, by the cache's own clock, which nobody can prolong.
//! - A reader who finds nothing puts a *claim*, then reads the database, then replaces the claim, and nothing but the
//!   claim, by what it read. So what it read began to be true no longer than L before it is gone from the cache.
//! - A writer puts a *marker* over whatever is there: claims are gone, and nobody may fill. Then it writes the database,
//!   and replaces the marker, and nothing but the marker, by what it wrote. Where that fails it removes what is there
//!   instead. Either way there was a moment after its write at which the cache held nothing older, and whoever fills
//!   after that has put its claim later, and so read later.
//! - Where it can't come to such a moment, because the cache doesn't answer, all that is older has gone of itself L after
//!   the write: that is when it is acknowledged (`store.cache_on_error = "wait"`), or at once (`"fast"`, counted).
//! - A write whose outcome the database leaves open is treated likewise by whoever reads it back, and so is one that is
//!   refused after that, for the first one may have been what it met.
//! - A new session is filled by who first reads it: nothing that arrives late can bring back what it was at first.
//!
//! A cache that fails over to a replica which has not seen everything is a cache that can bring something back: for up to
//! L what it shows may be old. One server, or one that loses everything when it fails, is the better cache.

mod counts;
mod entry;
mod shelf;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::{Instant, sleep};

pub use self::counts::Counts;
use self::entry::Entry;
use self::shelf::Shelf;
use super::engine::{Cleared, Cycle, Engine, Stored, Swap, Worth};
use super::write::new_revision;
use super::{CacheOnError, Config, Error};
use crate::session::{Key, Revision};
use crate::time::{Clock, Timestamp, millis};

/// How often somebody who meets others at one key tries to be the one.
const TRIES: usize = 4;
/// Keys whose reading is not left to the cache; of more than these the oldest are looked for that need it no longer.
const MANY: usize = 1024;
/// A part of `store.cache_lease`: how often a writer tries while it waits.
const STEPS: u32 = 16;

/// An engine made of two.
pub struct Cached<D, C> {
    database: D,
    cache: Shelf<C>,
    lease: Duration,
    on_error: CacheOnError,
    clock: Clock,
    counts: Counts,
    /// Keys whose next reading is not left to the cache.
    doubts: DashMap<Key, Doubt>,
    /// When the answer to a write of ours was lost last, which may be done later than the next one is refused.
    lost: DashMap<Key, Instant>,
    /// Milliseconds for which that counts: nobody sends a write again after `store.commit_timeout`.
    again: AtomicU64,
}

/// Why the cache is not asked.
#[derive(Clone, Copy, PartialEq)]
struct Doubt {
    since: Instant,
    /// A write of ours may have happened, and whoever reads that back acknowledges it; else it met another one's, and
    /// did not.
    open: bool,
}

impl<D: Engine, C: Engine> Cached<D, C> {
    /// `cache` before `database`. The clock is the one that `cache` goes by, if it doesn't end values by itself.
    pub fn new(database: D, cache: C, config: &Config, clock: Clock, counts: Counts) -> Self {
        Self {
            database,
            cache: Shelf::new(cache, config.timeout.0 / 4, counts.clone()),
            lease: config.cache_lease.0,
            on_error: config.cache_on_error,
            clock,
            counts,
            doubts: DashMap::new(),
            lost: DashMap::new(),
            again: AtomicU64::new(millis(config.commit_timeout.0)),
        }
    }

    /// What is put into the cache, and goes of itself.
    fn entry(&self, entry: &Entry) -> Result<Stored, Error> {
        let until = self.clock.now().plus(self.lease / 2);
        Ok(Stored { value: entry.encode(), revision: new_revision()?, until })
    }

    /// Puts something over what is there. `None` if the cache won't, or others were quicker again and again.
    async fn put_over(&self, key: &Key, entry: &Entry) -> Option<Revision> {
        for _ in 0..TRIES {
            let new = self.entry(entry).ok()?;
            let mine = new.revision;
            let done = match self.cache.get(key).await? {
                None => self.cache.add(key, new).await?,
                Some(there) => self.cache.replace(key, there.revision, new).await? == Swap::Done,
            };
            if done {
                return Some(mine);
            }
        }
        None
    }

    /// Sees to it that the cache held nothing older than what is in the database now, at some moment from now on; and
    /// that it holds `new`, if nobody else has been there since the marker. `false` if it doesn't answer.
    async fn publish(&self, key: &Key, marker: Option<Revision>, new: Option<&Stored>) -> bool {
        if let Some(marker) = marker {
            let swap = match new.map(|new| self.entry(&Entry::Record(new.clone()))) {
                Some(Ok(filled)) => self.cache.replace(key, marker, filled).await,
                _ => self.cache.remove(key, marker).await,
            };
            if swap == Some(Swap::Done) {
                return true;
            }
        }
        for _ in 0..TRIES {
            let Some(there) = self.cache.get(key).await else { return false };
            let Some(there) = there else { return true };
            // One that was put over ours is of a write that began later, and came later or not at all. Without one of
            // ours it may be of a write that came before, and fills what it wrote.
            if marker.is_some() && matches!(Entry::decode(&there.value), Some(Entry::Marker)) {
                return true;
            }
            match self.cache.remove(key, there.revision).await {
                Some(Swap::Done | Swap::Gone) => return true,
                Some(Swap::Changed) => {}
                None => return false,
            }
        }
        false
    }

    /// The same, and where the cache doesn't answer waits until whatever is older has gone of itself.
    async fn settle(&self, key: &Key, marker: Option<Revision>, new: Option<&Stored>) {
        let gone = Instant::now() + self.lease;
        if self.publish(key, marker, new).await {
            return;
        }
        if self.on_error == CacheOnError::Fast {
            self.counts.unsettled.inc();
            return;
        }
        self.counts.waits.inc();
        while Instant::now() < gone {
            sleep((self.lease / STEPS).min(gone - Instant::now())).await;
            if self.publish(key, None, None).await {
                return;
            }
        }
    }

    /// Writes the database behind a marker. `new` is what lies there if it is done.
    async fn write(
        &self,
        key: &Key,
        new: Option<&Stored>,
        write: impl Future<Output = Result<Swap, Error>>,
    ) -> Result<Swap, Error> {
        let marker = self.put_over(key, &Entry::Marker).await;
        let swap = write.await;
        match &swap {
            Ok(Swap::Done) => self.settle(key, marker, new).await,
            // Whoever reads now wants to know what is in the database.
            Ok(Swap::Changed | Swap::Gone) => self.doubt(key, false),
            Err(error) if error.kind.nothing_happened() => {}
            Err(_) => self.doubt(key, true),
        }
        swap
    }

    /// Leaves the next reading of a key to the database.
    fn doubt(&self, key: &Key, lost: bool) {
        if self.doubts.len() >= MANY {
            // By then the cache has nothing of that time, and nobody reads back any longer.
            self.doubts.retain(|_, doubt| doubt.since.elapsed() < self.lease);
        }
        if lost {
            if self.lost.len() >= MANY {
                self.lost.retain(|_, at| self.may_be_ours(*at));
            }
            self.lost.insert(*key, Instant::now());
        }
        self.doubts.insert(*key, Doubt { since: Instant::now(), open: self.lost_one(key) });
    }

    /// Was the answer to a write of this key lost that is perhaps being sent again?
    fn lost_one(&self, key: &Key) -> bool {
        self.lost.get(key).is_some_and(|at| self.may_be_ours(*at))
    }

    fn may_be_ours(&self, at: Instant) -> bool {
        at.elapsed() < Duration::from_millis(self.again.load(Relaxed))
    }

    /// Reads the database, and has the cache forget what may be older. What is read back may be acknowledged then.
    async fn read_past(&self, key: &Key, doubt: Doubt) -> Result<Option<Stored>, Error> {
        let found = self.database.get(key).await?;
        if doubt.open {
            self.settle(key, None, None).await;
        } else if !self.publish(key, None, None).await && doubt.since.elapsed() < self.lease {
            return Ok(found);
        }
        self.doubts.remove_if(key, |_, now| *now == doubt);
        Ok(found)
    }

    /// Reads the database, and fills the cache if nobody writes meanwhile.
    async fn read_through(&self, key: &Key, over: Option<Revision>) -> Result<Option<Stored>, Error> {
        let claim = self.entry(&Entry::Claim)?;
        let mine = claim.revision;
        let claimed = match over {
            None => self.cache.add(key, claim).await == Some(true),
            Some(over) => self.cache.replace(key, over, claim).await == Some(Swap::Done),
        };
        let found = self.database.get(key).await?;
        if claimed {
            match &found {
                Some(found) => {
                    let filled = self.entry(&Entry::Record(found.clone()))?;
                    self.cache.replace(key, mine, filled).await;
                }
                None => drop(self.cache.remove(key, mine).await),
            }
        }
        Ok(found)
    }
}

impl<D: Engine, C: Engine> Engine for Cached<D, C> {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let doubt = self.doubts.get(key).map(|doubt| *doubt);
        if let Some(doubt) = doubt {
            return self.read_past(key, doubt).await;
        }
        let Some(there) = self.cache.get(key).await else { return self.database.get(key).await };
        let Some(there) = there else {
            self.counts.misses.inc();
            return self.read_through(key, None).await;
        };
        if there.until <= self.clock.now() {
            self.counts.misses.inc();
            return self.read_through(key, Some(there.revision)).await;
        }
        match Entry::decode(&there.value) {
            Some(Entry::Record(record)) => {
                self.counts.hits.inc();
                Ok(Some(record))
            }
            Some(Entry::Marker | Entry::Claim) => {
                self.counts.misses.inc();
                self.database.get(key).await
            }
            // Somebody else's, which goes of itself.
            None => self.database.get(key).await,
        }
    }

    /// Nobody can have read what was never there: there is nothing to mark, and nothing to forget.
    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        let added = self.database.add(key, new, worth).await;
        if added != Ok(true) {
            self.doubt(key, false);
        }
        added
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        // Under the same revision (a touch that seals anew) it hides from a write that began before and is done after
        // it: that one finds a marker and takes it for a later write's. So it is not filled.
        let fills = (new.revision != seen).then_some(&new);
        self.write(key, fills, self.database.replace(key, seen, new.clone(), worth)).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.write(key, None, self.database.touch(key, seen, until)).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.write(key, None, self.database.remove(key, seen)).await
    }

    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        let step = self.database.cycle(cycle)?;
        let (old, ended) = (cycle.old, cycle.ended.clone());
        Some(async move { self.write(&old, Some(&ended), step).await })
    }

    /// Whoever has found something has read it back. Of nothing a refused write has told, and where the answer to the
    /// one before it was lost, that one may have made it so.
    async fn confirm(&self, key: &Key, seen: Option<Revision>) -> Result<bool, Error> {
        let stands = self.database.confirm(key, seen).await?;
        if stands && seen.is_none() && self.lost_one(key) {
            self.settle(key, None, None).await;
        }
        Ok(stands)
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        self.database.clear_expired(now, batch).await
    }

    fn clears_itself(&self) -> bool {
        self.database.clears_itself()
    }

    /// Only the database: without its cache it is slower, and no more.
    async fn ping(&self) -> Result<(), Error> {
        self.database.ping().await
    }

    fn reload(&self, config: &Config) {
        self.database.reload(config);
        self.cache.reload(config);
        self.again.store(millis(config.commit_timeout.0), Relaxed);
    }
}
