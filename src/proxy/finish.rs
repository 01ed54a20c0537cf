//! Exchanges that must finish although their client hung up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::drain::Guard;

/// Set once the request's head has gone to the backend: from here on the exchange runs to the end of its commit.
#[derive(Clone, Default)]
pub struct Begun(Arc<AtomicBool>);

impl Begun {
    /// There is no way back.
    pub fn begin(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A future that goes on in a task of its own when it is dropped after it has begun.
///
/// hyper drops the future of a request whose client hangs up. A logout with a closed tab must be final all the same,
/// and so must everything else whose outcome the backend takes for done.
pub struct Finish<F: Future + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    begun: Begun,
    guard: Option<Guard>,
}

impl<F: Future + Send + 'static> Finish<F> {
    /// Wraps `work`, which tells by `begun` that it must finish; `guard` lasts until it has.
    pub fn new(work: F, begun: Begun, guard: Guard) -> Self {
        Self { work: Some(Box::pin(work)), begun, guard: Some(guard) }
    }
}

impl<F: Future + Send + 'static> Future for Finish<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.work.as_mut() {
            None => Poll::Pending,
            Some(work) => {
                let polled = work.as_mut().poll(cx);
                if polled.is_ready() {
                    (self.work, self.guard) = (None, None);
                }
                polled
            }
        }
    }
}

impl<F: Future + Send + 'static> Drop for Finish<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let (Some(work), true, Ok(worker)) =
            (self.work.take(), self.begun.0.load(Relaxed), Handle::try_current())
        {
            let guard = self.guard.take();
            worker.spawn(async move {
                drop(work.await);
                drop(guard);
            });
        }
    }
}
