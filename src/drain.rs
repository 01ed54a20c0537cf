//! Shutting down without dropping anybody: drained = all guards dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Tells everything that is in flight to finish, and knows when it has.
#[derive(Clone, Default)]
pub struct Drain {
    /// No new connections.
    pub closing: CancellationToken,
    finishing: CancellationToken,
    cut: CancellationToken,
    begun: Arc<AtomicBool>,
    leaving: Arc<AtomicBool>,
    tracker: TaskTracker,
}

/// Something is in flight for as long as this lives.
#[derive(Clone)]
pub struct Guard(#[expect(dead_code, reason = "its drop is what counts")] TaskTrackerToken);

impl Drain {
    /// Keeps the drain from ending.
    pub fn guard(&self) -> Guard {
        Guard(self.tracker.token())
    }

    /// Lets clients know by their responses that this is about to end.
    pub fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// Are clients to take their next requests elsewhere?
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Tells connections to take no further request.
    pub fn finish(&self) {
        self.begun.store(true, Relaxed);
        self.finishing.cancel();
    }

    /// A signal that costs nothing to look at until it comes.
    pub fn signal(&self) -> Signal {
        let begun = self.begun.clone();
        Signal { begun, wait: Box::pin(self.finishing.clone().cancelled_owned()), asked: false }
    }

    /// Cut when the time for finishing is over: what can't finish by itself ends then.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Ends what can't finish by itself.
    pub fn cut_off(&self) {
        self.cut.cancel();
    }

    /// Waits until everything that was in flight is over; nothing new may begin then.
    pub async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Comes once, when connections are to take no further request.
pub struct Signal {
    begun: Arc<AtomicBool>,
    wait: Pin<Box<WaitForCancellationFutureOwned>>,
    asked: bool,
}

impl Signal {
    /// Has it come? The first look registers the task, which must stay the same one; later looks are one load.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.asked && !self.begun.load(Relaxed) {
            return Poll::Pending;
        }
        self.asked = true;
        self.wait.as_mut().poll(cx)
    }
}
