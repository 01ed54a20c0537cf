//! How many there may be of something at a time in the whole process, and the line of those who wait for a place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

/// Places that all workers share. Whoever waits is served in order: a place that becomes free is the first one's, and
/// nobody who comes later overtakes.
#[derive(Clone)]
pub struct Room(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// How many are in line, for those who only look.
    waiting: AtomicUsize,
    /// Tells those who hold places they could do without that somebody waits.
    call: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    taken: usize,
    line: VecDeque<oneshot::Sender<Seat>>,
}

/// A place, free for the next one when this is dropped.
pub struct Seat(Option<Room>);

impl Default for Room {
    fn default() -> Self {
        let call = watch::Sender::new(());
        Self(Arc::new(Inner { state: Mutex::default(), waiting: AtomicUsize::new(0), call }))
    }
}

impl Room {
    /// Takes one of so many places, if one is free that nobody waits for.
    pub fn enter(&self, places: usize) -> Option<Seat> {
        self.state().enter(self, places)
    }

    /// Takes one of so many places, as soon as it is this one's turn. Who no longer waits for it leaves the line.
    pub async fn wait(&self, places: usize) -> Seat {
        let mut waits = {
            let mut state = self.state();
            if let Some(seat) = state.enter(self, places) {
                return seat;
            }
            let (give, turn) = oneshot::channel();
            state.line.push_back(give);
            self.0.waiting.store(state.line.len(), Relaxed);
            Waits { room: self, turn }
        };
        self.0.call.send_replace(());
        (&mut waits.turn).await.expect("a line is never given up while a place is waited for")
    }

    /// How many are in line.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Relaxed)
    }

    /// Comes whenever one more waits.
    pub fn call(&self) -> watch::Receiver<()> {
        self.0.call.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first one in line who still waits.
    fn next(&self) -> Option<oneshot::Sender<Seat>> {
        let mut state = self.state();
        let next = state.line.pop_front();
        self.0.waiting.store(state.line.len(), Relaxed);
        if next.is_none() {
            state.taken -= 1;
        }
        next
    }
}

/// One in line, who leaves it when this is dropped.
struct Waits<'a> {
    room: &'a Room,
    turn: oneshot::Receiver<Seat>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.turn.close();
        let mut state = self.room.state();
        state.line.retain(|waiting| !waiting.is_closed());
        self.room.0.waiting.store(state.line.len(), Relaxed);
    }
}

impl State {
    fn enter(&mut self, room: &Room, places: usize) -> Option<Seat> {
        let free = self.taken < places && self.line.is_empty();
        free.then(|| {
            self.taken += 1;
            Seat(Some(room.clone()))
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(room) = self.0.take() else { return };
        while let Some(next) = room.next() {
            match next.send(Self(Some(room.clone()))) {
                Ok(()) => return,
                // Whoever it was has gone.
                Err(mut seat) => drop(seat.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn poll(waits: Pin<&mut impl Future<Output = Seat>>) -> Poll<Seat> {
        waits.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn there_are_as_many_places_as_there_are() {
        let room = Room::default();
        let seats = (room.enter(2), room.enter(2));
        assert!(seats.0.is_some() && seats.1.is_some() && room.enter(2).is_none());
        drop(seats.1);
        assert!(room.enter(2).is_some());
        assert!(room.enter(2).is_some(), "it was given back at once");
    }

    #[test]
    fn whoever_waits_is_served_in_order_and_not_overtaken() {
        let room = Room::default();
        let seat = room.enter(1);
        let (mut first, mut second) = (pin!(room.wait(1)), pin!(room.wait(1)));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert_eq!(room.waiting(), 2);
        drop(seat);
        assert!(room.enter(1).is_none(), "it is the first one's");
        assert!(poll(second.as_mut()).is_pending());
        let Poll::Ready(seat) = poll(first) else { panic!("it is its turn") };
        drop(seat);
        assert!(poll(second).is_ready());
        assert_eq!(room.waiting(), 0);
    }

    #[test]
    fn whoever_waits_no_longer_keeps_no_place() {
        let room = Room::default();
        let seat = room.enter(1);
        {
            let mut gone = pin!(room.wait(1));
            assert!(poll(gone.as_mut()).is_pending());
        }
        assert_eq!(room.waiting(), 0);
        drop(seat);
        let seat = room.enter(1);
        assert!(seat.is_some());
        {
            // It has its place, and goes before it has noticed.
            let mut late = pin!(room.wait(1));
            assert!(poll(late.as_mut()).is_pending());
            drop(seat);
        }
        assert!(room.enter(1).is_some());
    }

    #[test]
    fn places_may_become_more_or_less() {
        let room = Room::default();
        let seats: Vec<_> = (0..3).map_while(|_| room.enter(3)).collect();
        assert_eq!(seats.len(), 3);
        assert!(room.enter(2).is_none());
        let fourth = room.enter(4);
        assert!(fourth.is_some());
        drop(seats);
        assert!(room.enter(1).is_none(), "fewer places take nobody's away, and there is none");
        drop(fourth);
        assert!(room.enter(1).is_some());
    }

    #[test]
    fn a_call_comes_when_somebody_waits() {
        let room = Room::default();
        let call = room.call();
        let seat = room.enter(1);
        assert!(!call.has_changed().expect("the room is there"));
        let mut waits = pin!(room.wait(1));
        assert!(poll(waits.as_mut()).is_pending());
        assert!(call.has_changed().expect("the room is there"));
        drop(seat);
    }
}
