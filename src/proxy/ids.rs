//! Names for requests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::HeaderValue;

use crate::time::Clock;

/// Request IDs: the worker's random beginning and a number.
pub struct Ids {
    start: u64,
    next: AtomicU64,
}

impl Default for Ids {
    /// Draws a beginning.
    fn default() -> Self {
        let mut bits = [0; 8];
        // IDs only have to differ; the time will do where there is no randomness.
        let start = match aws_lc_rs::rand::fill(&mut bits) {
            Ok(()) => u64::from_ne_bytes(bits),
            Err(_) => Clock::system().now().as_millis().unsigned_abs(),
        };
        Self { start, next: AtomicU64::new(0) }
    }
}

impl Ids {
    /// One that nobody has had.
    pub fn next(&self) -> HeaderValue {
        let id = format!("{:016x}{:08x}", self.start, self.next.fetch_add(1, Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
    }
}
