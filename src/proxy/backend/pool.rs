//! Connections that wait for the next request: the last one used first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use crate::proxy::room::Room;
use crate::proxy::timer::Wheel;

/// A worker's idle connections.
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
    wheel: Wheel,
    /// Where the connections of all workers have their places.
    pub(super) room: Room,
}

struct Idle {
    connection: Connection,
    /// By the wheel's clock, in milliseconds.
    since: u64,
}

impl Pool {
    /// None yet.
    pub fn new(wheel: Wheel, room: Room) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), wheel, room })
    }

    /// The connection used last that has not been idle for longer than this, and that nothing has come over since.
    pub fn take(&self, idle_timeout: Duration) -> Option<Connection> {
        let oldest = self.oldest(idle_timeout);
        let mut idle = self.idle();
        loop {
            let kept = idle.pop()?;
            if kept.since >= oldest && kept.connection.is_quiet() {
                return Some(kept.connection);
            }
        }
    }

    /// Makes a connection free for the next request. While anybody waits for a place it is closed: that one may be
    /// another worker's, which can't use it.
    pub fn give_back(&self, connection: Connection) {
        if self.room.waiting() > 0 {
            return;
        }
        let since = self.wheel.now();
        self.idle().push(Idle { connection, since });
    }

    /// Closes connections that nobody has used for this long, and those that the backend has closed.
    pub fn close_idle(&self, idle_timeout: Duration) {
        let oldest = self.oldest(idle_timeout);
        self.idle().retain(|kept| kept.since >= oldest && kept.connection.is_quiet());
    }

    /// Closes connections that nobody uses, for those who wait to open one.
    pub fn make_room(&self) {
        let mut idle = self.idle();
        let count = self.room.waiting().min(idle.len());
        idle.drain(..count);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oldest(&self, idle_timeout: Duration) -> u64 {
        self.wheel.now().saturating_sub(u64::try_from(idle_timeout.as_millis()).unwrap_or(u64::MAX))
    }
}
