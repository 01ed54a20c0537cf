//! A cache that may fail: whoever asks it gets an answer soon, or none.

use std::future::Future;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::warn;

use super::counts::Counts;
use crate::session::{Key, Revision};
use crate::store::engine::{Engine, Stored, Swap, Worth};
use crate::store::{Config, Error};
use crate::time::millis;

/// How long one that did not answer in time is left alone: else each request would wait for it.
const REST: Duration = Duration::from_secs(1);

/// An engine that is asked as a cache.
pub(super) struct Shelf<C> {
    engine: C,
    /// Milliseconds that an answer may take.
    patience: AtomicU64,
    /// When it may be asked again.
    rests: Mutex<Option<Instant>>,
    counts: Counts,
}

impl<C: Engine> Shelf<C> {
    pub(super) fn new(engine: C, patience: Duration, counts: Counts) -> Self {
        let shelf = Self { engine, patience: AtomicU64::default(), rests: Mutex::default(), counts };
        shelf.be_patient(patience);
        shelf
    }

    /// Goes by other settings.
    pub(super) fn reload(&self, config: &Config) {
        self.be_patient(config.timeout.0 / 4);
        self.engine.reload(config);
    }

    fn be_patient(&self, patience: Duration) {
        self.patience.store(millis(patience).max(1), Relaxed);
    }

    pub(super) async fn get(&self, key: &Key) -> Option<Option<Stored>> {
        self.ask(self.engine.get(key)).await
    }

    pub(super) async fn add(&self, key: &Key, new: Stored) -> Option<bool> {
        self.ask(self.engine.add(key, new, Worth::Anonymous)).await
    }

    pub(super) async fn replace(&self, key: &Key, seen: Revision, new: Stored) -> Option<Swap> {
        self.ask(self.engine.replace(key, seen, new, Worth::Anonymous)).await
    }

    pub(super) async fn remove(&self, key: &Key, seen: Revision) -> Option<Swap> {
        self.ask(self.engine.remove(key, seen)).await
    }

    /// The answer, if there is one in time.
    async fn ask<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Option<T> {
        if self.rests() {
            return None;
        }
        let patience = Duration::from_millis(self.patience.load(Relaxed));
        match timeout(patience, call).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(_)) => {}
            Err(_) => {
                *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
                warn!(
                    "the cache did not answer within a quarter of store.timeout: it is not asked for a second"
                );
            }
        }
        self.counts.errors.inc();
        None
    }

    fn rests(&self) -> bool {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        if rests.is_some_and(|until| until <= Instant::now()) {
            *rests = None;
        }
        rests.is_some()
    }
}
