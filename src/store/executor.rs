//! Threads of their own, for media whose calls block (files) or whose connections belong to the reactor that opened
//! them (databases). Workers hand them work and go on with other requests.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::AbortOnDropHandle;

use super::{Error, Kind};

/// Threads that calls may block at most; more of them wait for one to be free.
const BLOCKED: usize = 32;

/// A runtime that workers share. It ends with its owner, and whatever is under way on it.
pub(super) struct Executor(Option<Runtime>);

impl Executor {
    /// One whose threads have this name.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(BLOCKED).thread_name(name).enable_all();
        Ok(Self(Some(builder.build()?)))
    }

    /// Does what blocks, on a thread of its own. Whoever leaves takes back what has not begun; what has goes on to its
    /// end.
    pub(super) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(runtime) = &self.0 else { return Err(closed()) };
        told(AbortOnDropHandle::new(runtime.spawn_blocking(work)).await)
    }

    /// Runs what waits for the reactor. It goes on to its end, whoever leaves.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(runtime) = &self.0 else { return Err(closed()) };
        let task: JoinHandle<_> = runtime.spawn(work);
        told(task.await)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Whoever drops it may be on a runtime too, where nobody may wait for another one to end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn told<T>(ended: Result<Result<T, Error>, JoinError>) -> Result<T, Error> {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(closed()),
    })
}

fn closed() -> Error {
    Error::new(Kind::Unreachable, "the store is being closed")
}
