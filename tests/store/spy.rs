//! Engines for tests that watch: [`Spy`] writes down every call, and any call can be made to fail or to wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coatroom::session::Key;
use coatroom::session::record::Revision;
use coatroom::store::engine::{Cleared, Cycle, Engine, Stored, Swap, Worth};
use coatroom::store::{Error, Kind};
use coatroom::time::Timestamp;
use tokio::sync::Semaphore;

/// The calls of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Get,
    Add,
    Replace,
    Touch,
    Remove,
    Cycle,
    Clear,
    Ping,
}

/// What goes wrong with a call.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Nothing: the call passes. For those before the one that is meant.
    None,
    /// It is not done, and nothing was sent.
    Unreachable,
    /// It is not done, and the engine says why.
    Refused,
    /// It is not done, because there is no room.
    Full,
    /// It is not done, and nobody can tell.
    Broken,
    /// It is done, and nobody can tell.
    DoneBroken,
    /// It is done, and the answer came too late.
    DoneTimeout,
    /// It waits, and is then done.
    Hold(Latch),
    /// It is done, and the answer waits.
    DoneHold(Latch),
    /// It is done, and the answer waits, and is then lost.
    DoneHoldBroken(Latch),
    /// It waits, is not done, and the answer is lost.
    HoldBroken(Latch),
}

/// A place where a call waits until it is let go on.
#[derive(Clone)]
pub(crate) struct Latch(Arc<(Semaphore, Semaphore)>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    /// Until a call waits here.
    pub(crate) async fn reached(&self) {
        self.0.0.acquire().await.unwrap().forget();
    }

    /// Lets one call go on.
    pub(crate) fn release(&self) {
        self.0.1.add_permits(1);
    }

    async fn wait(&self) {
        self.0.0.add_permits(1);
        self.0.1.acquire().await.unwrap().forget();
    }
}

/// An engine that writes down what is asked of another one; clones share it all.
pub(crate) struct Spy<E> {
    engine: Arc<E>,
    calls: Arc<Mutex<Vec<Op>>>,
    faults: Arc<Mutex<VecDeque<(Op, Fault)>>>,
}

impl<E> Clone for Spy<E> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            calls: Arc::clone(&self.calls),
            faults: Arc::clone(&self.faults),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E> Spy<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self { engine: Arc::new(engine), calls: Arc::default(), faults: Arc::default() }
    }

    /// The same engine, where nobody looks and nothing fails.
    pub(crate) fn sound(&self) -> Self {
        Self { calls: Arc::default(), faults: Arc::default(), ..self.clone() }
    }

    pub(crate) fn engine(&self) -> &E {
        &self.engine
    }

    /// Lets the next call of a kind that has no fault yet fail so.
    pub(crate) fn fail(&self, op: Op, fault: Fault) {
        lock(&self.faults).push_back((op, fault));
    }

    /// Makes the next call of a kind wait before it is done.
    pub(crate) fn hold(&self, op: Op) -> Latch {
        let latch = Latch::new();
        self.fail(op, Fault::Hold(latch.clone()));
        latch
    }

    /// The calls since this was asked last.
    pub(crate) fn calls(&self) -> Vec<Op> {
        std::mem::take(&mut *lock(&self.calls))
    }

    /// Every fault has happened.
    pub(crate) fn is_spent(&self) -> bool {
        lock(&self.faults).is_empty()
    }

    async fn call<T>(&self, op: Op, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        lock(&self.calls).push(op);
        let fault = {
            let mut faults = lock(&self.faults);
            let at = faults.iter().position(|(of, _)| *of == op);
            at.and_then(|at| faults.remove(at)).map_or(Fault::None, |(_, fault)| fault)
        };
        let broken = || Err(Error::new(Kind::Broken, "the connection was reset"));
        match fault {
            Fault::None => work.await,
            Fault::Unreachable => Err(Error::new(Kind::Unreachable, "the connection was refused")),
            Fault::Refused => Err(Error::new(Kind::Refused, "ERR command not allowed")),
            Fault::Full => Err(Error::new(Kind::OutOfMemory, "OOM command not allowed")),
            Fault::Broken => broken(),
            Fault::DoneBroken => {
                work.await?;
                broken()
            }
            Fault::DoneTimeout => {
                work.await?;
                Err(Error::new(Kind::Timeout, "no answer"))
            }
            Fault::Hold(latch) => {
                latch.wait().await;
                work.await
            }
            Fault::DoneHold(latch) => {
                let done = work.await;
                latch.wait().await;
                done
            }
            Fault::DoneHoldBroken(latch) => {
                work.await?;
                latch.wait().await;
                broken()
            }
            Fault::HoldBroken(latch) => {
                latch.wait().await;
                broken()
            }
        }
    }
}

impl<E: Engine> Engine for Spy<E> {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.call(Op::Get, self.engine.get(key)).await
    }

    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        self.call(Op::Add, self.engine.add(key, new, worth)).await
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        self.call(Op::Replace, self.engine.replace(key, seen, new, worth)).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.call(Op::Touch, self.engine.touch(key, seen, until)).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.call(Op::Remove, self.engine.remove(key, seen)).await
    }

    /// The memory engine stands for those that take several steps.
    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        if self.engine.is_own() {
            return None;
        }
        let step = self.engine.cycle(cycle)?;
        Some(self.call(Op::Cycle, step))
    }

    /// Nobody's business: most engines do nothing here.
    async fn confirm(&self, key: &Key, seen: Option<Revision>) -> Result<bool, Error> {
        self.engine.confirm(key, seen).await
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        self.call(Op::Clear, self.engine.clear_expired(now, batch)).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.call(Op::Ping, self.engine.ping()).await
    }
}
