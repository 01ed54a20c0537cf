//! Exchanges that must finish although their client hung up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::drain::Guard;

/// Set once the request's head has gone to the backend: from here on the exchange runs to the end of its commit, and
/// the drain waits for it.
#[derive(Clone)]
pub struct Begun(Arc<Inner>);

struct Inner {
    begun: AtomicBool,
    _guard: Guard,
}

impl Begun {
    /// Not yet; `guard` is held for as long as anybody could go on.
    pub fn new(guard: Guard) -> Self {
        Self(Arc::new(Inner { begun: AtomicBool::new(false), _guard: guard }))
    }

    /// There is no way back.
    pub fn begin(&self) {
        self.0.begun.store(true, Relaxed);
    }

    /// The same for the next request of a connection, which comes when this one is over.
    pub fn anew(&self) -> Self {
        self.0.begun.store(false, Relaxed);
        self.clone()
    }
}

/// A future that goes on in a task of its own when it is dropped after it has begun.
///
/// hyper drops the future of a request whose client hangs up. A logout with a closed tab must be final all the same,
/// and so must everything else whose outcome the backend takes for done.
pub struct Finish<T: 'static> {
    work: Option<Work<T>>,
    begun: Begun,
}

/// What must finish.
type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T> Finish<T> {
    /// Wraps `work`, which tells by `begun` that it must finish.
    pub fn new(work: impl Future<Output = T> + Send + 'static, begun: Begun) -> Self {
        Self { work: Some(Box::pin(work)), begun }
    }
}

impl<T> Future for Finish<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.work.as_mut() {
            None => Poll::Pending,
            Some(work) => {
                let polled = work.as_mut().poll(cx);
                if polled.is_ready() {
                    self.work = None;
                }
                polled
            }
        }
    }
}

impl<T: 'static> Drop for Finish<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let (Some(work), true, Ok(worker)) =
            (self.work.take(), self.begun.0.begun.load(Relaxed), Handle::try_current())
        {
            let begun = self.begun.clone();
            worker.spawn(async move {
                drop(work.await);
                drop(begun);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Drain;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::oneshot;

    struct Bench {
        begun: Begun,
        drain: Drain,
        done: Arc<AtomicUsize>,
    }

    impl Bench {
        fn new() -> Self {
            let drain = Drain::default();
            Self { begun: Begun::new(drain.guard()), drain, done: Arc::default() }
        }

        /// Work that is done when it is told to go on.
        fn finish(&self) -> (Pin<Box<dyn Future<Output = ()> + Send>>, oneshot::Sender<()>) {
            let (go, wait) = oneshot::channel();
            let done = self.done.clone();
            let work = async move {
                wait.await.expect("it is told");
                done.fetch_add(1, Relaxed);
            };
            (Box::pin(Finish::new(work, self.begun.clone())), go)
        }

        /// How often work was done when all of it is over.
        async fn drained(self) -> usize {
            drop(self.begun);
            self.drain.drained().await;
            self.done.load(Relaxed)
        }
    }

    fn poll(work: &mut Pin<Box<dyn Future<Output = ()> + Send>>) -> Poll<()> {
        work.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test]
    async fn what_has_begun_goes_on_without_its_owner_and_keeps_the_drain_waiting() {
        let bench = Bench::new();
        let (mut work, go) = bench.finish();
        assert!(poll(&mut work).is_pending());
        bench.begun.begin();
        drop(work);
        let drained = tokio::spawn(bench.drained());
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        go.send(()).expect("somebody waits for it");
        assert_eq!(drained.await.expect("it is drained"), 1);
    }

    #[tokio::test]
    async fn what_has_not_begun_is_forgotten() {
        let bench = Bench::new();
        let (mut work, go) = bench.finish();
        assert!(poll(&mut work).is_pending());
        drop(work);
        assert!(go.send(()).is_err());
        assert_eq!(bench.drained().await, 0);
    }

    #[tokio::test]
    async fn what_is_done_is_not_done_again() {
        let bench = Bench::new();
        let (mut work, go) = bench.finish();
        bench.begun.begin();
        go.send(()).expect("somebody waits for it");
        assert!(poll(&mut work).is_ready());
        assert!(poll(&mut work).is_pending());
        drop(work);
        assert_eq!(bench.drained().await, 1);
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_task_only() {
        let bench = Bench::new();
        bench.begun.begin();
        let work = async { panic!("on purpose") };
        let work: Finish<()> = Finish::new(work, bench.begun.clone());
        let task: tokio::task::JoinHandle<()> = tokio::spawn(work);
        assert!(task.await.expect_err("it panics").is_panic());
        assert_eq!(bench.drained().await, 0);
    }

    #[test]
    fn without_a_runtime_nothing_goes_on() {
        let bench = Bench::new();
        let (work, _go) = bench.finish();
        bench.begun.begin();
        drop(work);
        assert_eq!(bench.done.load(Relaxed), 0);
    }
}
