//! Connections that wait for the next request: the last one used first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Terms;
use super::connection::Connection;
use crate::proxy::room::Room;
use crate::proxy::timer::Wheel;
use crate::time::millis;

/// A worker's idle connections.
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// Those that are one client's each, by its number.
    own: Mutex<HashMap<u64, Idle>>,
    numbers: AtomicU64,
    wheel: Wheel,
    /// Where the connections of all workers have their places.
    pub(super) room: Room,
}

struct Idle {
    connection: Box<Connection>,
    /// By the wheel's clock, in milliseconds.
    since: u64,
}

impl Idle {
    /// Has nobody used it for too long, or has anything come over it since?
    fn is_over(&self, oldest: u64) -> bool {
        self.since < oldest || !self.connection.is_quiet()
    }
}

impl Pool {
    /// None yet.
    pub fn new(wheel: Wheel, room: Room) -> Arc<Self> {
        let (idle, own) = Default::default();
        Arc::new(Self { idle, own, numbers: AtomicU64::new(0), wheel, room })
    }

    /// The time, by the clock that connections age by, in milliseconds.
    pub fn now(&self) -> u64 {
        self.wheel.now()
    }

    /// The connection used last that has not been idle for too long, nor come about too long ago, and that nothing has
    /// come over since.
    pub fn take(&self, terms: &Terms) -> Option<Box<Connection>> {
        let (oldest, eldest) = (self.before(terms.idle_timeout), self.eldest(terms));
        let mut idle = self.idle();
        loop {
            let kept = idle.pop()?;
            if kept.connection.born >= eldest && !kept.is_over(oldest) {
                return Some(kept.connection);
            }
        }
    }

    /// Makes a connection free for the next request. While anybody waits for a place it is closed: that one may be
    /// another worker's, which can't use it.
    pub fn give_back(&self, connection: Box<Connection>) {
        if self.room.waiting() > 0 {
            return;
        }
        let since = self.now();
        self.idle().push(Idle { connection, since });
    }

    /// A number for a client that has a connection of its own.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    /// A client's own connection. However old it is: with another one the client would have to log in again.
    pub fn take_own(&self, number: u64, terms: &Terms) -> Option<Box<Connection>> {
        let kept = self.own().remove(&number)?;
        (!kept.is_over(self.before(terms.idle_timeout))).then_some(kept.connection)
    }

    /// Keeps a client's own connection for its next request, unless anybody waits for a place.
    pub fn give_back_own(&self, number: u64, connection: Box<Connection>) {
        if self.room.waiting() > 0 {
            return;
        }
        let since = self.now();
        self.own().insert(number, Idle { connection, since });
    }

    /// Closes a client's own connection, for the client has gone.
    pub fn forget(&self, number: u64) {
        let gone = self.own().remove(&number);
        drop(gone);
    }

    /// Closes connections that nobody has used for too long, those that came about too long ago, and those that the
    /// backend has closed.
    pub fn close_idle(&self, terms: &Terms) {
        let (oldest, eldest) = (self.before(terms.idle_timeout), self.eldest(terms));
        self.idle().retain(|kept| kept.connection.born >= eldest && !kept.is_over(oldest));
        self.own().retain(|_, kept| !kept.is_over(oldest));
    }

    /// Closes connections that nobody uses, for those who wait to open one; last those that somebody has logged in over.
    pub fn make_room(&self) {
        let mut idle = self.idle();
        let count = self.room.waiting().min(idle.len());
        idle.drain(..count);
        drop(idle);
        let mut own = self.own();
        let others: Vec<u64> = own.keys().copied().take(self.room.waiting()).collect();
        others.iter().for_each(|number| drop(own.remove(number)));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, HashMap<u64, Idle>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before(&self, length: Duration) -> u64 {
        self.now().saturating_sub(millis(length))
    }

    /// When the oldest connection may have come about.
    fn eldest(&self, terms: &Terms) -> u64 {
        if terms.max_age.is_zero() { 0 } else { self.before(terms.max_age) }
    }
}
