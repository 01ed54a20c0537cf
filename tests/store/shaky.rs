//! An engine that nobody can rely on.

use std::sync::Arc;
use std::time::Duration;

use coatroom::session::Key;
use coatroom::session::record::Revision;
use coatroom::store::engine::{Cleared, Engine, Page, Stored, Swap, Worth};
use coatroom::store::{Error, Kind};
use coatroom::time::Timestamp;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

/// An engine that takes its time, and fails now and then: before it has done something, or after it.
pub(crate) struct Shaky<E> {
    engine: Arc<E>,
    random: std::sync::Mutex<SmallRng>,
    /// Of a hundred calls so many are late by up to three seconds, and so many fail.
    late: u32,
    fails: u32,
}

impl<E: Engine> Shaky<E> {
    pub(crate) fn new(engine: &Arc<E>, seed: u64, late: u32, fails: u32) -> Self {
        let random = std::sync::Mutex::new(SmallRng::seed_from_u64(seed));
        Self { engine: Arc::clone(engine), random, late, fails }
    }

    fn roll(&self, sides: u32) -> u32 {
        self.random.lock().unwrap().random_range(0..sides)
    }

    async fn pass(&self) {
        let late = self.roll(100) < self.late;
        let millis = if late { self.roll(3000) } else { self.roll(8) };
        sleep(Duration::from_millis(millis.into())).await;
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let broken = || Err(Error::new(Kind::Broken, "the connection was reset"));
        self.pass().await;
        if self.roll(100) < self.fails {
            return broken();
        }
        let done = work.await;
        self.pass().await;
        if self.roll(100) < self.fails { broken() } else { done }
    }
}

impl<E: Engine> Engine for Shaky<E> {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.call(self.engine.get(key)).await
    }

    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        self.call(self.engine.add(key, new, worth)).await
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        self.call(self.engine.replace(key, seen, new, worth)).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.call(self.engine.touch(key, seen, until)).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.call(self.engine.remove(key, seen)).await
    }

    async fn scan(&self, after: Option<&str>) -> Result<Page, Error> {
        self.call(self.engine.scan(after)).await
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        self.engine.clear_expired(now, batch).await
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}
