//! Clients' connections, of which the one that nobody has used for longest goes when somebody else would like to come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::timer::Alarm;
use crate::time::millis;

/// How many of the idlest are remembered when all have been looked at: so many newcomers cost one look.
const REMEMBERED: usize = 64;
/// No time at all: the connection is in use.
const IN_USE: u64 = u64::MAX;

/// The connections of all workers.
#[derive(Clone, Default)]
pub struct Crowd(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    all: Vec<Weak<Guest>>,
    /// How many there may be of them, those that are gone included, before these are dropped.
    most: usize,
    /// Those that were idle for longest when all were looked at, and since when; the idlest is the last one.
    idlest: Vec<(u64, Weak<Guest>)>,
}

/// One connection.
pub struct Guest {
    /// Since when it is idle, in milliseconds by its worker's wheel: all of them begin to turn together, all but.
    since: AtomicU64,
    asked: AtomicBool,
    alarm: Alarm,
}

impl Crowd {
    /// One more; `alarm` wakes who serves it.
    pub fn join(&self, alarm: Alarm) -> Arc<Guest> {
        let guest = Arc::new(Guest { since: AtomicU64::new(IN_USE), asked: AtomicBool::new(false), alarm });
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.all.len() >= inner.most {
            inner.all.retain(|guest| guest.strong_count() > 0);
            inner.most = 2 * inner.all.len() + REMEMBERED;
        }
        inner.all.push(Arc::downgrade(&guest));
        guest
    }

    /// Asks the one to go that is idle for longest, if any is by `now`. It may turn out to be in use again, and stays.
    pub fn make_room(&self, now: u64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idlest = inner.idlest().or_else(|| {
            inner.look(now);
            inner.idlest()
        });
        drop(inner);
        if let Some(guest) = idlest {
            guest.asked.store(true, Relaxed);
            guest.alarm.nudge();
        }
    }
}

impl Inner {
    /// The next one of those remembered that has been idle ever since.
    fn idlest(&mut self) -> Option<Arc<Guest>> {
        let is_idle = |since, guest: &Guest| guest.since.load(Relaxed) == since && !guest.is_asked();
        std::iter::from_fn(|| self.idlest.pop())
            .find_map(|(since, guest)| guest.upgrade().filter(|guest| is_idle(since, guest)))
    }

    /// Looks at all, and remembers those that have been idle for longest.
    fn look(&mut self, now: u64) {
        let since = |guest: &Weak<Guest>| {
            let guest = guest.upgrade().filter(|guest| !guest.is_asked())?;
            Some(guest.since.load(Relaxed)).filter(|since| *since <= now)
        };
        let mut idle: Vec<_> = self.all.iter().filter_map(|guest| Some((since(guest)?, guest))).collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        idle.truncate(REMEMBERED);
        self.idlest = idle.into_iter().rev().map(|(since, guest)| (since, guest.clone())).collect();
    }
}

impl Guest {
    /// Nobody uses it from now on, or from when `grace` is over.
    pub fn is_idle(&self, grace: Duration) {
        self.asked.store(false, Relaxed);
        let grace = millis(grace);
        self.since.store(self.alarm.now().saturating_add(grace), Relaxed);
    }

    /// It is in use, and would not go if it were asked.
    pub fn is_busy(&self) {
        self.since.store(IN_USE, Relaxed);
    }

    /// Is it to go?
    pub fn is_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::timer::Wheel;
    use super::*;

    const SECOND: u64 = 1000;

    /// A crowd whose members became idle a second after one another.
    fn crowd(count: u64) -> (Crowd, Wheel, Vec<Arc<Guest>>) {
        let (crowd, wheel) = (Crowd::default(), Wheel::default());
        let guests = (0..count).map(|n| {
            wheel.tick(n * SECOND);
            let guest = crowd.join(wheel.alarm());
            guest.is_idle(Duration::ZERO);
            guest
        });
        let guests = guests.collect();
        (crowd, wheel, guests)
    }

    fn asked(guests: &[Arc<Guest>]) -> Vec<usize> {
        (0..guests.len()).filter(|n| guests[*n].is_asked()).collect()
    }

    #[test]
    fn whoever_is_idle_for_longest_is_asked_first() {
        let (crowd, wheel, guests) = crowd(200);
        guests[0].is_busy();
        wheel.tick(200 * SECOND);
        guests[1].is_idle(Duration::ZERO);
        for most in 2..200 {
            crowd.make_room(wheel.now());
            assert_eq!(asked(&guests), (2..=most).collect::<Vec<_>>());
        }
        crowd.make_room(wheel.now());
        assert_eq!(asked(&guests), (1..200).collect::<Vec<_>>(), "it was idle since the end");
        crowd.make_room(wheel.now());
        assert!(!guests[0].is_asked());
    }

    #[test]
    fn whoever_is_in_use_again_or_gone_is_left_alone() {
        let (crowd, wheel, mut guests) = crowd(5);
        crowd.make_room(wheel.now());
        guests[1].is_busy();
        guests[2].is_busy();
        guests[2].is_idle(Duration::ZERO);
        drop(guests.remove(3));
        crowd.make_room(wheel.now());
        assert_eq!(asked(&guests), [0, 2 + 1]);
        guests[0].is_idle(Duration::ZERO);
        assert!(!guests[0].is_asked(), "it has been asked before its last request");
    }

    #[test]
    fn whoever_has_some_grace_is_asked_when_that_is_over() {
        let (crowd, wheel, guests) = crowd(2);
        guests[0].is_idle(Duration::from_millis(300));
        guests[1].is_busy();
        let now = wheel.now();
        crowd.make_room(now + 299);
        assert!(asked(&guests).is_empty());
        crowd.make_room(now + 300);
        assert_eq!(asked(&guests), [0]);
    }

    #[test]
    fn those_who_are_gone_take_no_room() {
        let (crowd, wheel, guests) = crowd(100);
        for _ in 0..10_000 {
            drop(crowd.join(wheel.alarm()));
        }
        let inner = crowd.0.lock().unwrap();
        assert!(inner.all.len() <= 2 * guests.len() + REMEMBERED + 1, "{}", inner.all.len());
    }
}
