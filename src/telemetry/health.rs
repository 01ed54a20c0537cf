//! Readiness by ownership: whoever is not ready yet holds a latch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Tells whether the process has started and wants requests; clones are one and the same.
///
/// A `Health` that nobody has latched yet has not started: a probe that comes first must not find an empty house open.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    open: Vec<&'static str>,
    started: bool,
    draining: bool,
}

impl Health {
    /// Makes one that waits for its first latch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds readiness back until the returned latch is dropped; `what` is the part that is not ready.
    ///
    /// Take all latches of the start before the first of them is dropped: the moment none is left is the start. A
    /// latch taken later closes the door again, but what has started stays started.
    pub fn latch(&self, what: &'static str) -> Latch {
        self.state().open.push(what);
        Latch { health: self.clone(), what }
    }

    /// Says whether all latches have been dropped once, whatever happened since; a process never un-starts, or
    /// Kubernetes would restart it for draining.
    pub fn started(&self) -> bool {
        self.state().started
    }

    /// Says whether requests are welcome: started, no latch held, not draining.
    pub fn ready(&self) -> bool {
        let state = self.state();
        state.started && state.open.is_empty() && !state.draining
    }

    /// Ends readiness for good: the process is about to stop, and there is no way back.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// Says whether [`Health::drain`] was called.
    pub fn draining(&self) -> bool {
        self.state().draining
    }

    /// Names the parts whose latches are held, in the order they were taken; one name a latch.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.state().open.clone()
    }

    /// The state, also after a panic: each change is one assignment, so it is never half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the process from being ready while it is held, and readies its part when it is dropped.
///
/// A part that panics on its way is not ready: a latch that is dropped while its thread unwinds stays shut.
#[derive(Debug)]
#[must_use = "dropping a latch says that its part is ready"]
pub struct Latch {
    health: Health,
    what: &'static str,
}

impl Drop for Latch {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let mut state = self.health.state();
        if let Some(at) = state.open.iter().position(|what| *what == self.what) {
            state.open.remove(at);
        }
        state.started |= state.open.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_all_latches_are_dropped() {
        let health = Health::new();
        assert!(!health.started() && !health.ready(), "nobody has come yet");
        let store = health.latch("store");
        let first = health.latch("worker");
        let same = health.clone();
        let second = same.latch("worker");
        assert_eq!(health.waiting_for(), ["store", "worker", "worker"]);
        drop(first);
        drop(store);
        assert_eq!(health.waiting_for(), ["worker"]);
        assert!(!health.started() && !health.ready());
        drop(second);
        assert!(health.started() && health.ready());
        assert!(health.waiting_for().is_empty());
    }

    #[test]
    fn what_has_started_stays_started() {
        let health = Health::new();
        drop(health.latch("listener"));
        let store = health.latch("store");
        assert!(health.started() && !health.ready());
        drop(store);
        assert!(health.ready());
        health.drain();
        assert!(health.started() && !health.ready() && health.draining());
        drop(health.latch("store"));
        assert!(!health.ready(), "draining is for good");
    }

    #[test]
    fn a_part_that_panicked_is_not_ready() {
        let health = Health::new();
        let latch = health.latch("store");
        let died = thread::spawn(move || {
            let _held = latch;
            panic!("on purpose: the store's part dies before it is ready");
        })
        .join();
        assert!(died.is_err());
        assert!(!health.started());
        assert_eq!(health.waiting_for(), ["store"]);
    }
}
