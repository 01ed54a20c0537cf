//! Threads of their own, for media whose calls block (files) or whose connections belong to the reactor that opened
//! them (databases). Workers hand them work and go on with other requests.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::AbortOnDropHandle;

use super::{Error, Kind};

/// Threads that calls may block at most; more of them wait for one to be free.
const BLOCKED: usize = 32;

/// A runtime that workers share. It ends with its owner, and whatever is under way on it.
pub(super) struct Executor {
    runtime: Option<Runtime>,
    /// As many as there are threads for what blocks: whoever waits for one waits here, where nothing is left of those
    /// who have gone. The runtime keeps what it was given until a thread is free.
    free: Arc<Semaphore>,
}

impl Executor {
    /// One whose threads have this name.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(BLOCKED).thread_name(name).enable_all();
        Ok(Self { runtime: Some(builder.build()?), free: Arc::new(Semaphore::new(BLOCKED)) })
    }

    /// Does what blocks, on a thread of its own. Whoever leaves takes back what has not begun; what has goes on to its
    /// end.
    pub(super) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(runtime) = &self.runtime else { return Err(closed()) };
        let thread = Arc::clone(&self.free).acquire_owned().await.map_err(|_| closed())?;
        let work = move || {
            let done = work();
            drop(thread);
            done
        };
        told(AbortOnDropHandle::new(runtime.spawn_blocking(work)).await)
    }

    /// Runs what waits for the reactor. It goes on to its end, whoever leaves.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(runtime) = &self.runtime else { return Err(closed()) };
        let task: JoinHandle<_> = runtime.spawn(work);
        told(task.await)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Whoever drops it may be on a runtime too, where nobody may wait for another one to end.
        if let Some(runtime) = self.runtime.take() {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::{Mutex, mpsc};
    use std::task::Poll;

    use super::*;

    /// While a disk hangs, those who come and go must not pile up what they wanted of it.
    #[tokio::test]
    async fn of_those_who_wait_for_a_thread_and_leave_nothing_is_left() {
        let executor = Executor::new("test").unwrap();
        let (begun, begins) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let (gate, held) = (Arc::new(Mutex::new(gate)), Arc::new(()));
        let call = |number: usize| {
            let (begun, gate, held) = (begun.clone(), Arc::clone(&gate), Arc::clone(&held));
            Box::pin(executor.block(move || {
                begun.send(number).unwrap();
                drop(gate.lock().map(|gate| gate.recv()));
                drop(held);
                Ok(())
            }))
        };
        let mut calls: Vec<_> = (0..3 * BLOCKED).map(call).collect();
        poll_fn(|context| {
            let mut waiting = calls.iter_mut();
            assert!(waiting.all(|call| Pin::new(call).poll(context).is_pending()));
            Poll::Ready(())
        })
        .await;
        let mut first: Vec<_> = begins.iter().take(BLOCKED).collect();
        first.sort_unstable();
        assert_eq!(first, (0..BLOCKED).collect::<Vec<_>>());
        drop(calls.split_off(BLOCKED));
        assert_eq!(Arc::strong_count(&held), BLOCKED + 1, "theirs who have a thread, and ours");
        drop(open);
        for call in calls {
            assert_eq!(call.await, Ok(()));
        }
        assert_eq!(executor.block(|| Ok(())).await, Ok(()));
        assert_eq!(begins.try_iter().count(), 0, "nothing else has begun");
    }
}
