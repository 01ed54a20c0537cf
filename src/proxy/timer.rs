//! Coarse timers for the hot path: one wheel a worker, one look at all alarms a tick.
//!
//! A timer that nearly never fires should cost nothing to set. An alarm is one atomic store to set and to stop; only
//! the tick compares it with the time. So timeouts are late by up to a [`TICK`], which whole seconds don't notice.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::time::Stopwatch;

/// How often alarms are compared with the time.
pub const TICK: Duration = Duration::from_millis(50);
const NEVER: u64 = u64::MAX;

/// All alarms of one worker.
#[derive(Clone)]
pub struct Wheel(Arc<Inner>);

struct Inner {
    started: Stopwatch,
    /// Milliseconds since `started`, as of the last tick.
    now: AtomicU64,
    alarms: Mutex<Vec<Weak<Slot>>>,
}

struct Slot {
    wheel: Wheel,
    /// Milliseconds since the wheel was started.
    deadline: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

/// Can be set, moved and stopped for as long as it lives.
#[derive(Clone)]
pub struct Alarm(Arc<Slot>);

/// The time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl Default for Wheel {
    fn default() -> Self {
        let started = Stopwatch::start();
        Self(Arc::new(Inner { started, now: AtomicU64::new(0), alarms: Mutex::default() }))
    }
}

impl Wheel {
    /// Turns the wheel for as long as it is polled.
    pub async fn turn(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.tick(millis(self.0.started.elapsed()));
        }
    }

    pub(super) fn tick(&self, now: u64) {
        self.0.now.store(now, Relaxed);
        let mut due = Vec::new();
        self.alarms().retain(|alarm| match alarm.upgrade() {
            None => false,
            Some(slot) => {
                if slot.deadline.load(Relaxed) <= now {
                    due.extend(slot.waker().take());
                }
                true
            }
        });
        due.into_iter().for_each(Waker::wake);
    }

    /// Milliseconds since the wheel was started, as of the last tick.
    pub fn now(&self) -> u64 {
        self.0.now.load(Relaxed)
    }

    /// An alarm that is not set.
    pub fn alarm(&self) -> Alarm {
        let slot = Slot { wheel: self.clone(), deadline: AtomicU64::new(NEVER), waker: Mutex::default() };
        let slot = Arc::new(slot);
        self.alarms().push(Arc::downgrade(&slot));
        Alarm(slot)
    }

    fn alarms(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Slot>>> {
        self.0.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn waker(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alarm {
    /// Sets the alarm, or moves it: it rings after `length`.
    pub fn set(&self, length: Duration) {
        self.set_from(self.now(), length);
    }

    /// Sets the alarm, or moves it: it rings when `length` has passed since `start`, by [`Alarm::now`].
    pub fn set_from(&self, start: u64, length: Duration) {
        let deadline = start.saturating_add(millis(length)).saturating_add(millis(TICK));
        self.0.deadline.store(deadline, Relaxed);
    }

    /// One more of the same wheel, that is not set.
    pub fn another(&self) -> Self {
        self.0.wheel.alarm()
    }

    /// Stops the alarm.
    pub fn stop(&self) {
        self.0.deadline.store(NEVER, Relaxed);
    }

    /// Milliseconds since its wheel was started, as of the last tick.
    pub fn now(&self) -> u64 {
        self.0.wheel.now()
    }

    /// Wakes whoever waits for it, to look at what is the case now.
    pub fn nudge(&self) {
        let waker = self.0.waker().take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Is there a time at which it would ring?
    pub fn is_set(&self) -> bool {
        self.0.deadline.load(Relaxed) != NEVER
    }

    /// Is the time up? Whoever asks is woken when it is.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0.deadline.load(Relaxed) <= self.0.wheel.now() {
            return Poll::Ready(());
        }
        let mut waker = self.0.waker();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Runs `work`, but no longer than `length`, or than the alarm is moved to meanwhile.
    ///
    /// # Errors
    /// [`Elapsed`] when the time is up; `work` is dropped then.
    pub async fn limit<T>(&self, length: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        self.set(length);
        let mut work = std::pin::pin!(work);
        let result = std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(cx).map(|()| Err(Elapsed)),
        });
        let result = result.await;
        self.stop();
        result
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(NEVER)
}

/// What hyper sleeps on.
struct Nap(Alarm);

impl Future for Nap {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

impl Sleep for Nap {}

impl Timer for Wheel {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        let alarm = self.alarm();
        alarm.set(duration);
        Box::pin(Nap(alarm))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Timer::now(self)))
    }

    fn now(&self) -> Instant {
        self.0.started.started() + Duration::from_millis(self.0.now.load(Relaxed))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        let length = new_deadline.saturating_duration_since(Timer::now(self));
        match sleep.as_mut().downcast_mut_pin::<Nap>() {
            Some(nap) => nap.0.set(length),
            None => *sleep = self.sleep(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(work: Pin<&mut impl Future<Output = Result<(), Elapsed>>>) -> Poll<Result<(), Elapsed>> {
        work.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_alarm_rings_when_its_time_is_up_and_not_before() {
        let wheel = Wheel::default();
        let alarm = wheel.alarm();
        let mut work = std::pin::pin!(alarm.limit(Duration::from_secs(1), std::future::pending()));
        assert!(poll(work.as_mut()).is_pending());
        wheel.tick(1049);
        assert!(poll(work.as_mut()).is_pending());
        wheel.tick(1050);
        assert_eq!(poll(work.as_mut()), Poll::Ready(Err(Elapsed)));
    }

    #[test]
    fn an_alarm_can_be_moved_while_it_is_waited_for() {
        let wheel = Wheel::default();
        let alarm = wheel.alarm();
        let mut work = std::pin::pin!(alarm.limit(Duration::from_secs(1), std::future::pending()));
        assert!(poll(work.as_mut()).is_pending());
        wheel.tick(900);
        alarm.set(Duration::from_secs(1));
        wheel.tick(1500);
        assert!(poll(work.as_mut()).is_pending());
        wheel.tick(1950);
        assert!(poll(work.as_mut()).is_ready());
    }

    #[test]
    fn an_alarm_may_be_set_to_the_end_of_time() {
        let wheel = Wheel::default();
        wheel.tick(7);
        let alarm = wheel.alarm();
        let mut work = std::pin::pin!(alarm.limit(Duration::MAX, std::future::pending()));
        assert!(poll(work.as_mut()).is_pending());
        wheel.tick(u64::MAX - 1);
        assert!(poll(work.as_mut()).is_pending());
    }

    #[test]
    fn a_dropped_alarm_leaves_nothing_behind() {
        let wheel = Wheel::default();
        drop(wheel.alarm());
        let kept = wheel.alarm();
        wheel.tick(50);
        assert_eq!(wheel.alarms().len(), 1);
        drop(kept);
    }

    #[test]
    fn hyper_moves_one_alarm_instead_of_making_new_ones() {
        let wheel = Wheel::default();
        let mut sleep = wheel.sleep(Duration::from_secs(1));
        for second in 2..100 {
            wheel.reset(&mut sleep, Timer::now(&wheel) + Duration::from_secs(second));
        }
        assert_eq!(wheel.alarms().len(), 1);
        wheel.tick(98_000);
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        wheel.tick(99_050);
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
