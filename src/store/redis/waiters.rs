//! Connections for writes that wait for replicas, one write in flight on each.
//!
//! `WAIT` stops its connection until the replicas have answered, and counts only what that connection wrote. So a
//! write and its `WAIT` have a connection to themselves, and everything else goes by the link meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntCounter;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::AbortOnDropHandle;

use super::answer;
use super::call::Call;
use super::source::{Connected, Source};
use super::target::Target;
use crate::store::link::{Health, Open as _};
use crate::store::{Error, Kind};

/// Connections of a worker at most; more writes wait for one of them. As many writes in a round trip and a half are
/// more than a server does in that time.
const CONNECTIONS: usize = 16;

/// A worker's connections for writes that wait.
pub(super) struct Waiters {
    opened: IntCounter,
    places: Semaphore,
    idle: Mutex<Vec<Waiter>>,
}

/// One of them.
struct Waiter {
    connection: MultiplexedConnection,
    driver: AbortOnDropHandle<()>,
    /// The link's connection in whose time it was opened: where that is given up, so is this.
    health: Arc<Health>,
}

impl Waiters {
    pub(super) fn new(opened: IntCounter) -> Self {
        Self { opened, places: Semaphore::new(CONNECTIONS), idle: Mutex::default() }
    }

    /// A place among those that are under way, to be kept until the end.
    ///
    /// # Errors
    /// That nobody gets one any longer.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, Error> {
        let closed = |_| Error::new(Kind::Unreachable, "the connection to Redis is being closed");
        self.places.acquire().await.map_err(closed)
    }

    /// Sends a write and waits for its replicas. Who leaves before the end takes the connection along; a server that
    /// leaves it without an answer, the link's too.
    ///
    /// # Errors
    /// As [`super::link::Link::call`].
    pub(super) async fn call(
        &self,
        health: &Arc<Health>,
        target: &Arc<Target>,
        call: &Call<'_>,
    ) -> Result<Value, Error> {
        let mut waiter = match self.take(health) {
            Some(waiter) => waiter,
            None => self.open(health, target).await?,
        };
        let answer = call.send(&mut waiter.connection).await.map_err(|error| answer::broken(&error))?;
        match &answer {
            Ok(_) => self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(waiter),
            // `WAIT` would have ended by itself.
            Err(error) if error.kind == Kind::Broken => health.give_up(),
            // Whose replicas were late may have them answer late too.
            Err(_) => {}
        }
        answer
    }

    /// One that nobody uses, the last to be used first. Those of another time are let go.
    fn take(&self, health: &Arc<Health>) -> Option<Waiter> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|waiter| Arc::ptr_eq(&waiter.health, health) && !waiter.driver.is_finished());
        idle.pop()
    }

    async fn open(&self, health: &Arc<Health>, target: &Arc<Target>) -> Result<Waiter, Error> {
        let (Connected { connection, .. }, driver) = Source::to(Arc::clone(target)).open().await?;
        self.opened.inc();
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(Waiter { connection, driver, health: Arc::clone(health) })
    }
}
