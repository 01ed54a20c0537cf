//! `file:///folder` — sessions as files, on a disk that the sidecars of one machine share.
//!
//! Durable: yes. A change that was acknowledged has been forced to the disk (`fsync` of the file and of its folder), and
//! a crash at whatever moment leaves the record of before or the one after it. Atomic: yes, per key: each write compares
//! and replaces under a lock that the kernel frees with its holder. Nothing is evicted; a full disk refuses writes. Round
//! trips: none, but a write waits for the disk twice. Not for network file systems, whose caches would show what has been
//! replaced.
//!
//! ```text
//! /folder/.coatroom      says that this folder is a store (see `mark.rs`)
//! /folder/3f/.lock       whoever writes below 3f has it locked (flock)
//! /folder/3f/.new        what is being written; without a lock it means nothing
//! /folder/3f/3f786850e387550fdab836ed7e6dc881de23001b
//! ```
//! A record lies under the digits of its key, in a folder of the first two, as a line of its revision (16 digits) and its
//! end (milliseconds), and the codec's bytes. It is replaced by renaming, so readers need no lock. The time of
//! modification of a file is its end: clearing looks at nothing else before it looks closer.

mod clearing;
mod disk;
mod examine;
mod folder;
mod mark;
mod record;
mod shard;
mod system;
mod unfit;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub(super) use self::examine::examine;
use self::folder::Folder;
use self::record::Head;
use self::shard::{Shard, There};
pub(in crate::store) use self::system::remote_system;
use super::engine::{Cleared, Engine, Page, Stored, Swap, Worth};
use super::executor::Executor;
use super::{Config, Error, Kind};
use crate::session::{Key, Revision};
use crate::time::{Stopwatch, Timestamp, millis};

/// The scheme of `store.url` that is ours.
pub const SCHEME: &str = "file";

/// Folders below the store's: each has a lock of its own, so that many can write at once.
const SHARDS: usize = 256;

/// The file engine.
pub struct File {
    writers: Executor,
    /// Whoever only looks waits for nobody who waits for the disk, or for a lock.
    readers: Executor,
    folder: Arc<Folder>,
    /// One writer of this process at a time in each shard; whoever waits takes no thread.
    turns: Vec<Arc<Mutex<()>>>,
    /// Three quarters of `store.commit_timeout` in milliseconds: how long a write waits for its shard, be it for others of
    /// this process or for the lock that another process has. Then there is time left to say that nothing was written.
    patience: AtomicU64,
    /// The shard that is cleared next.
    next: AtomicUsize,
}

impl File {
    /// An engine on the folder of the settings, which is not looked at yet.
    ///
    /// # Errors
    /// What is wrong with `store.url`, or that the system gives no threads.
    pub fn new(config: &Config) -> Result<Self, String> {
        Self::on(Folder::new(path(config)?), config)
    }

    /// The same, if it is a store already: nothing is made of it otherwise, and every call says so.
    ///
    /// # Errors
    /// As [`File::new`].
    pub fn existing(config: &Config) -> Result<Self, String> {
        Self::on(Folder::existing(path(config)?), config)
    }

    fn on(folder: Folder, config: &Config) -> Result<Self, String> {
        let threads =
            |name| Executor::new(name).map_err(|error| format!("no thread can be started: {error}"));
        let file = Self {
            writers: threads("store")?,
            readers: threads("store-reads")?,
            folder: Arc::new(folder),
            turns: (0..SHARDS).map(|_| Arc::default()).collect(),
            patience: AtomicU64::default(),
            next: AtomicUsize::default(),
        };
        file.reload(config);
        Ok(file)
    }

    /// Checks `store.url`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(config: &Config) -> Result<(), String> {
        path(config).map(drop)
    }

    /// Does something in a shard, for whose lock there is still so much patience, while nobody else of this process does.
    async fn in_turn<T: Send + 'static>(
        &self,
        number: u8,
        work: impl FnOnce(&Folder, Duration) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (watch, patience) = (Stopwatch::start(), Duration::from_millis(self.patience.load(Relaxed)));
        let turn = Arc::clone(&self.turns[usize::from(number)]).lock_owned();
        let turn = timeout(patience, turn).await.map_err(|_| shard::busy())?;
        let folder = Arc::clone(&self.folder);
        let work = move || {
            let done = work(&folder, patience.saturating_sub(watch.elapsed()));
            drop(turn);
            done
        };
        self.writers.block(work).await
    }

    /// Does a write in the shard of a key, alone in the world.
    async fn write<T: Send + 'static>(
        &self,
        key: &Key,
        work: impl FnOnce(&Shard, &Key) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (number, key) = (key.as_bytes()[0], *key);
        self.in_turn(number, move |folder, patience| work(&folder.shard(number, patience)?, &key)).await
    }

    /// The same, where `seen` is.
    async fn swap(
        &self,
        key: &Key,
        seen: Revision,
        work: impl FnOnce(&Shard, &Key, &There) -> Result<(), Error> + Send + 'static,
    ) -> Result<Swap, Error> {
        let swap = move |shard: &Shard, key: &Key| match shard.find(key)? {
            None => Ok(Swap::Gone),
            Some(there) if there.head.revision != seen => Ok(Swap::Changed),
            Some(there) => work(shard, key, &there).map(|()| Swap::Done),
        };
        self.write(key, swap).await
    }

    /// Removes up to `batch` files, and counts them at once in `all`, whatever becomes of the next ones. Is there more?
    async fn clear(&self, now: Timestamp, batch: usize, all: &mut Cleared) -> Result<bool, Error> {
        for _ in 0..SHARDS {
            let number = self.next.load(Relaxed) % SHARDS;
            let (shard, room) = (u8::try_from(number).unwrap_or_default(), batch - all.removed);
            let clear = move |folder: &Folder, patience| clearing::clear(folder, shard, patience, now, room);
            let round = self.in_turn(shard, clear).await;
            // A shard that has more is looked at once more, and one that can't be cleared keeps nobody from the others.
            if !round.as_ref().is_ok_and(|round| round.more) {
                self.next.store(number + 1, Relaxed);
            }
            *all = all.and(round?);
            if all.removed >= batch {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The folder of `store.url`, spelled in one way: a slash or a dot at its end would have a symbolic link followed. What is
/// wrong is not quoted: somebody may have put a password there.
fn path(config: &Config) -> Result<PathBuf, String> {
    let url = config.url.expose();
    let path = url.strip_prefix("file://").filter(|path| path.starts_with('/')).ok_or_else(|| {
        "names no folder: write three slashes and its path, file:///var/lib/coatroom/sessions".to_owned()
    })?;
    if path.contains(['?', '#', '%']) {
        return Err("has one of ? # %, which mean nothing here: name a folder without them".to_owned());
    }
    let path: PathBuf = Path::new(path).components().collect();
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(
            "has .. in it, which a symbolic link would lead elsewhere: write the path without".to_owned()
        );
    }
    if path.parent().is_none() {
        return Err("is the root of the file system: name a folder of its own".to_owned());
    }
    Ok(path)
}

impl Engine for File {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let (folder, key) = (Arc::clone(&self.folder), *key);
        self.readers.block(move || record::read(&folder, &key)).await
    }

    async fn add(&self, key: &Key, new: Stored, _: Worth) -> Result<bool, Error> {
        let add = move |shard: &Shard, key: &Key| {
            if shard.has(key)? {
                return Ok(false);
            }
            shard.put(key, &Head::of(&new), &new.value).map(|()| true)
        };
        self.write(key, add).await
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, _: Worth) -> Result<Swap, Error> {
        self.swap(key, seen, move |shard, key, _| shard.put(key, &Head::of(&new), &new.value)).await
    }

    /// Writes the whole record anew: no other way to move its end leaves the one of before or the one after it.
    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        let touch = move |shard: &Shard, key: &Key, there: &There| {
            shard.put(key, &Head { until, ..there.head }, &there.value()?)
        };
        self.swap(key, seen, touch).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.swap(key, seen, |shard, key, _| shard.remove(key)).await
    }

    /// It may lie there, or not, while the disk does not know: whoever wrote it was not told that the disk does.
    async fn confirm(&self, key: &Key, seen: Option<Revision>) -> Result<bool, Error> {
        let confirm = move |shard: &Shard, key: &Key| {
            let there = shard.find(key)?;
            if there.as_ref().map(|there| there.head.revision) != seen {
                return Ok(false);
            }
            shard.keep(key, there.as_ref()).map(|()| true)
        };
        self.write(key, confirm).await
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        let mut all = Cleared::default();
        let more = self.clear(now, batch, &mut all).await;
        all.until(more)
    }

    /// A shard at a time.
    async fn scan(&self, after: Option<&str>) -> Result<Page, Error> {
        let number = match after {
            None => 0,
            Some(after) => u8::from_str_radix(after, 16).map_err(|_| {
                Error::new(Kind::Refused, format!("{after:?} is not the number of a folder: begin again"))
            })?,
        };
        let keys =
            self.in_turn(number, move |folder, patience| shard::keys(folder, number, patience)).await?;
        Ok(Page { keys, next: number.checked_add(1).map(|next| format!("{next:02x}")) })
    }

    async fn ping(&self) -> Result<(), Error> {
        let folder = Arc::clone(&self.folder);
        self.readers.block(move || folder.enter().map(drop)).await
    }

    fn reload(&self, config: &Config) {
        self.patience.store(millis(config.commit_timeout.0 * 3 / 4), Relaxed);
    }
}

/// What the system says when something can't be done with the file or folder `what`; nothing was changed.
fn failed(what: impl std::fmt::Display, errno: Errno) -> Error {
    let kind = match errno {
        Errno::NOSPC | Errno::DQUOT => Kind::OutOfMemory,
        Errno::ROFS => Kind::ReadOnly,
        Errno::ACCESS | Errno::PERM => Kind::NoPermission,
        Errno::NOENT | Errno::NOTDIR => Kind::Unreachable,
        _ => Kind::Refused,
    };
    Error::new(kind, format!("{what}: {}", io::Error::from(errno)))
}
