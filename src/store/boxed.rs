//! An engine of a kind that is known when the program runs: for those that cost more than a box does, and where each
//! kind together with each other one would be a program of its own.

use super::engine::{Cleared, Cycle, Engine, Page, Stored, Swap, Worth};
use super::{Config, Error, Pending};
use crate::session::{Key, Revision};
use crate::time::Timestamp;

/// Some engine.
pub(super) struct Boxed(Box<dyn Object>);

impl Boxed {
    /// Any engine.
    pub(super) fn new(engine: impl Engine) -> Self {
        Self(Box::new(engine))
    }
}

/// [`Engine`] with futures of one size.
trait Object: Send + Sync + 'static {
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Result<Option<Stored>, Error>>;
    fn add<'a>(&'a self, key: &'a Key, new: Stored, worth: Worth) -> Pending<'a, Result<bool, Error>>;
    fn replace<'a>(
        &'a self,
        key: &'a Key,
        seen: Revision,
        new: Stored,
        worth: Worth,
    ) -> Pending<'a, Result<Swap, Error>>;
    fn touch<'a>(
        &'a self,
        key: &'a Key,
        seen: Revision,
        until: Timestamp,
    ) -> Pending<'a, Result<Swap, Error>>;
    fn remove<'a>(&'a self, key: &'a Key, seen: Revision) -> Pending<'a, Result<Swap, Error>>;
    fn cycle<'a>(&'a self, cycle: &'a Cycle) -> Option<Pending<'a, Result<Swap, Error>>>;
    fn confirm<'a>(&'a self, key: &'a Key, seen: Option<Revision>) -> Pending<'a, Result<bool, Error>>;
    fn clear_expired(&self, now: Timestamp, batch: usize) -> Pending<'_, Result<Cleared, Error>>;
    fn clears_itself(&self) -> bool;
    fn scan<'a>(&'a self, after: Option<&'a str>) -> Pending<'a, Result<Page, Error>>;
    fn ping(&self) -> Pending<'_, Result<(), Error>>;
    fn is_own(&self) -> bool;
    fn reload(&self, config: &Config);
}

impl<E: Engine> Object for E {
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Result<Option<Stored>, Error>> {
        Box::pin(Engine::get(self, key))
    }

    fn add<'a>(&'a self, key: &'a Key, new: Stored, worth: Worth) -> Pending<'a, Result<bool, Error>> {
        Box::pin(Engine::add(self, key, new, worth))
    }

    fn replace<'a>(
        &'a self,
        key: &'a Key,
        seen: Revision,
        new: Stored,
        worth: Worth,
    ) -> Pending<'a, Result<Swap, Error>> {
        Box::pin(Engine::replace(self, key, seen, new, worth))
    }

    fn touch<'a>(
        &'a self,
        key: &'a Key,
        seen: Revision,
        until: Timestamp,
    ) -> Pending<'a, Result<Swap, Error>> {
        Box::pin(Engine::touch(self, key, seen, until))
    }

    fn remove<'a>(&'a self, key: &'a Key, seen: Revision) -> Pending<'a, Result<Swap, Error>> {
        Box::pin(Engine::remove(self, key, seen))
    }

    fn cycle<'a>(&'a self, cycle: &'a Cycle) -> Option<Pending<'a, Result<Swap, Error>>> {
        Some(Box::pin(Engine::cycle(self, cycle)?))
    }

    fn confirm<'a>(&'a self, key: &'a Key, seen: Option<Revision>) -> Pending<'a, Result<bool, Error>> {
        Box::pin(Engine::confirm(self, key, seen))
    }

    fn clear_expired(&self, now: Timestamp, batch: usize) -> Pending<'_, Result<Cleared, Error>> {
        Box::pin(Engine::clear_expired(self, now, batch))
    }

    fn clears_itself(&self) -> bool {
        Engine::clears_itself(self)
    }

    fn scan<'a>(&'a self, after: Option<&'a str>) -> Pending<'a, Result<Page, Error>> {
        Box::pin(Engine::scan(self, after))
    }

    fn ping(&self) -> Pending<'_, Result<(), Error>> {
        Box::pin(Engine::ping(self))
    }

    fn is_own(&self) -> bool {
        Engine::is_own(self)
    }

    fn reload(&self, config: &Config) {
        Engine::reload(self, config);
    }
}

impl Engine for Boxed {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.0.get(key).await
    }

    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        self.0.add(key, new, worth).await
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        self.0.replace(key, seen, new, worth).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.0.touch(key, seen, until).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.0.remove(key, seen).await
    }

    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        // Whether it can is known before its future is asked; that one lives no longer than what it is asked for.
        drop(self.0.cycle(cycle)?);
        let cycle = cycle.clone();
        Some(async move {
            match self.0.cycle(&cycle) {
                Some(step) => step.await,
                None => Ok(Swap::Changed),
            }
        })
    }

    async fn confirm(&self, key: &Key, seen: Option<Revision>) -> Result<bool, Error> {
        self.0.confirm(key, seen).await
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        self.0.clear_expired(now, batch).await
    }

    fn clears_itself(&self) -> bool {
        self.0.clears_itself()
    }

    async fn scan(&self, after: Option<&str>) -> Result<Page, Error> {
        self.0.scan(after).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.0.ping().await
    }

    fn is_own(&self) -> bool {
        self.0.is_own()
    }

    fn reload(&self, config: &Config) {
        self.0.reload(config);
    }
}
