//! `memory:` — sessions in this process. They die with it and are shared with nobody.
//!
//! Durable: no. A crash loses everything. Atomic: yes, per key. Round trips: none. When `store.max_sessions` or
//! `store.max_bytes` is reached the least worthy go: first anonymous sessions that have not come back, oldest first
//! (so a flood of new visitors evicts itself, not the people who are logged in), then anonymous ones that were not
//! seen for longest and memories of ended ones, and last, likewise, those of people who are logged in. A sixteenth of
//! the sessions may be new: else, where all others have come back, nobody new could stay for a second request, and so
//! nobody log in. Evictions are counted.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use prometheus::IntCounter;

use super::codec;
use super::engine::{Cleared, Cycle, Engine, PAGE, Page, Stored, Swap, Worth};
use super::{Config, Error};
use crate::session::{Key, Revision};
use crate::time::Timestamp;

/// What a session takes besides its value: key, slot, its places in the table and in a queue.
const OVERHEAD: usize = 200;
/// Each shard is locked by itself, so that clearing expired sessions holds up few readers at a time.
const SHARDS: usize = 256;

/// Sessions that get another chance, because they were seen, before one goes all the same.
const CHANCES: u32 = 64;
/// Stale places that are dropped at the front of each queue when one is added.
const STALE: usize = 4;

/// The memory engine.
pub struct Memory {
    slots: DashMap<Key, Slot, BuildHasherDefault<KeyHasher>>,
    bytes: AtomicUsize,
    count: AtomicUsize,
    births: AtomicU64,
    queues: Mutex<Queues>,
    max_sessions: AtomicUsize,
    max_bytes: AtomicUsize,
    evictions: IntCounter,
}

struct Slot {
    value: Bytes,
    revision: Revision,
    until: Timestamp,
    worth: Worth,
    /// Tells its place in a queue from an earlier one's, of another worth or another session of the same key.
    birth: u64,
    /// Read since it was last considered for eviction.
    seen: AtomicBool,
}

/// The order of eviction. A place may be stale: what counts is the slot.
#[derive(Default)]
struct Queues {
    /// Anonymous, and new.
    fresh: VecDeque<(Key, u64)>,
    /// Anonymous and came back, or ended.
    back: VecDeque<(Key, u64)>,
    /// Logged in.
    known: VecDeque<(Key, u64)>,
}

/// What a step of eviction came to.
enum Evicted {
    /// A stale place.
    Nothing,
    /// One that was seen stays for now.
    GivenAChance,
    /// A session.
    One,
}

impl Queues {
    fn len(&self) -> usize {
        self.fresh.len() + self.back.len() + self.known.len()
    }
}

/// A key is a hash already.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the memory engine holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Sessions and memories of ended ones.
    pub sessions: usize,
    /// Bytes as `store.max_bytes` counts them.
    pub bytes: usize,
    /// Places in the order of eviction, stale ones included.
    pub queued: usize,
}

impl Memory {
    /// An empty engine with the limits of the settings.
    pub fn new(config: &Config, evictions: IntCounter) -> Self {
        Self {
            slots: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS),
            bytes: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            births: AtomicU64::new(0),
            queues: Mutex::default(),
            max_sessions: AtomicUsize::new(config.max_sessions),
            max_bytes: AtomicUsize::new(config.max_bytes),
            evictions,
        }
    }

    /// What is held now.
    pub fn usage(&self) -> Usage {
        let queued = self.queues().len();
        Usage { sessions: self.count.load(Relaxed), bytes: self.bytes.load(Relaxed), queued }
    }

    fn freed(&self, slot: &Slot) {
        self.bytes.fetch_sub(slot.value.len() + OVERHEAD, Relaxed);
        self.count.fetch_sub(1, Relaxed);
    }

    fn is_full(&self) -> bool {
        self.count.load(Relaxed) > self.max_sessions.load(Relaxed)
            || self.bytes.load(Relaxed) > self.max_bytes.load(Relaxed)
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Puts something under a key that is free, without a place in a queue so far; returns what that is to be known by.
    fn put(&self, key: Key, new: Stored, worth: Worth) -> Option<u64> {
        let birth = self.births.fetch_add(1, Relaxed);
        let Entry::Vacant(place) = self.slots.entry(key) else { return None };
        self.bytes.fetch_add(new.value.len() + OVERHEAD, Relaxed);
        self.count.fetch_add(1, Relaxed);
        let Stored { value, revision, until } = new;
        drop(place.insert(Slot { value, revision, until, worth, birth, seen: AtomicBool::new(false) }));
        Some(birth)
    }

    /// Puts something else where `seen` is; where its worth is another one, returns what its new place is to be known by.
    fn swap(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Option<u64>, Swap> {
        let Some(mut slot) = self.slots.get_mut(key) else { return Err(Swap::Gone) };
        if slot.revision != seen {
            return Err(Swap::Changed);
        }
        self.bytes.fetch_add(new.value.len(), Relaxed);
        self.bytes.fetch_sub(slot.value.len(), Relaxed);
        (slot.value, slot.revision, slot.until) = (new.value, new.revision, new.until);
        let moved = (slot.worth != worth).then(|| self.births.fetch_add(1, Relaxed));
        (slot.worth, slot.birth) = (worth, moved.unwrap_or(slot.birth));
        Ok(moved)
    }

    /// Gives a session its place: `back` if it was there before.
    fn enqueue(&self, key: Key, birth: u64, worth: Worth, back: bool) {
        let mut queues = self.queues();
        let queue = match worth {
            Worth::Anonymous if !back => &mut queues.fresh,
            Worth::Anonymous | Worth::Ended => &mut queues.back,
            Worth::Known => &mut queues.known,
        };
        queue.push_back((key, birth));
        self.tidy(&mut queues);
        self.make_room(&mut queues);
    }

    /// Drops stale places: a few at the fronts each time, because what is oldest mostly ends first, and all of them
    /// where that was not enough.
    fn tidy(&self, queues: &mut Queues) {
        let lives = |(key, birth): &(Key, u64)| self.slots.get(key).is_some_and(|slot| slot.birth == *birth);
        let crowded = queues.len() > 2 * self.count.load(Relaxed) + 1024;
        for queue in [&mut queues.fresh, &mut queues.back, &mut queues.known] {
            if crowded {
                queue.retain(lives);
            }
            for _ in 0..STALE {
                if queue.pop_front_if(|place| !lives(place)).is_none() {
                    break;
                }
            }
        }
    }

    /// Evicts until nothing is too much. Of many that were all seen the next one goes, or a worker would stand still
    /// until it had looked at all of them.
    fn make_room(&self, queues: &mut Queues) {
        let mut chances = CHANCES;
        while self.is_full() {
            match self.evict(queues, chances > 0) {
                Some(Evicted::Nothing) => {}
                Some(Evicted::GivenAChance) => chances -= 1,
                Some(Evicted::One) => chances = CHANCES,
                None => return,
            }
        }
    }

    /// Takes one step: evicts a session, or gives one that was seen another chance. `None` if none is left.
    fn evict(&self, queues: &mut Queues, chances: bool) -> Option<Evicted> {
        let Queues { fresh, back, known } = queues;
        let newcomers = (self.count.load(Relaxed) / 16).max(1);
        let (from, chance) = if fresh.len() > newcomers || (back.is_empty() && !fresh.is_empty()) {
            (fresh, Some(back))
        } else if !back.is_empty() {
            (back, None)
        } else {
            (known, None)
        };
        let (key, birth) = from.pop_front()?;
        let Entry::Occupied(slot) = self.slots.entry(key) else { return Some(Evicted::Nothing) };
        if slot.get().birth != birth {
            return Some(Evicted::Nothing);
        }
        if slot.get().seen.swap(false, Relaxed) && chances {
            chance.unwrap_or(from).push_back((key, birth));
            return Some(Evicted::GivenAChance);
        }
        self.freed(&slot.remove());
        self.evictions.inc();
        Some(Evicted::One)
    }
}

impl Engine for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        Ok(self.slots.get(key).map(|slot| {
            if !slot.seen.load(Relaxed) {
                slot.seen.store(true, Relaxed);
            }
            Stored { value: slot.value.clone(), revision: slot.revision, until: slot.until }
        }))
    }

    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        let Some(birth) = self.put(*key, new, worth) else { return Ok(false) };
        self.enqueue(*key, birth, worth, false);
        Ok(true)
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        let moved = match self.swap(key, seen, new, worth) {
            Ok(moved) => moved,
            Err(swap) => return Ok(swap),
        };
        if let Some(birth) = moved {
            self.enqueue(*key, birth, worth, true);
        } else if self.is_full() {
            self.make_room(&mut self.queues());
        }
        Ok(Swap::Done)
    }

    /// Nobody knows the new key before this returns, so nobody sees the one step from the other. Room is made when the old
    /// session is a memory: else it could be what goes, and with it the new one.
    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        Some(async {
            let Cycle { old, seen, ended, new, fresh, worth } = cycle;
            let Some(birth) = self.put(*new, fresh.clone(), *worth) else { return Ok(Swap::Changed) };
            match self.swap(old, *seen, ended.clone(), Worth::Ended) {
                Ok(moved) => {
                    if let Some(birth) = moved {
                        self.enqueue(*old, birth, Worth::Ended, true);
                    }
                    self.enqueue(*new, birth, *worth, false);
                    Ok(Swap::Done)
                }
                Err(swap) => {
                    if let Some((_, slot)) = self.slots.remove(new) {
                        self.freed(&slot);
                    }
                    Ok(swap)
                }
            }
        })
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        Ok(match self.slots.get_mut(key) {
            None => Swap::Gone,
            Some(slot) if slot.revision != seen => Swap::Changed,
            Some(mut slot) => {
                slot.until = until;
                Swap::Done
            }
        })
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        Ok(match self.slots.entry(*key) {
            Entry::Vacant(_) => Swap::Gone,
            Entry::Occupied(slot) if slot.get().revision != seen => Swap::Changed,
            Entry::Occupied(slot) => {
                self.freed(&slot.remove());
                Swap::Done
            }
        })
    }

    /// Looks at all of them: a pass over a million takes some tens of milliseconds, a shard at a time.
    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        let mut cleared = Cleared::default();
        self.slots.retain(|_, slot| {
            let stays = slot.until > now || cleared.removed >= batch;
            if !stays {
                cleared.removed += 1;
                cleared.sessions += usize::from(codec::is_session(&slot.value));
                self.freed(slot);
            }
            stays
        });
        cleared.more = cleared.removed >= batch;
        Ok(cleared)
    }

    /// In the order of the keys.
    async fn scan(&self, after: Option<&str>) -> Result<Page, Error> {
        let after = after.and_then(|after| Key::from_hex(after.as_bytes()));
        let mut keys: Vec<_> =
            self.slots.iter().map(|slot| *slot.key()).filter(|key| Some(*key) > after).collect();
        keys.sort_unstable();
        keys.truncate(PAGE);
        let next = keys.last().filter(|_| keys.len() == PAGE).map(ToString::to_string);
        Ok(Page { keys, next })
    }

    fn is_own(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    fn reload(&self, config: &Config) {
        self.max_sessions.store(config.max_sessions, Relaxed);
        self.max_bytes.store(config.max_bytes, Relaxed);
        self.make_room(&mut self.queues());
    }
}
