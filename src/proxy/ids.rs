//! Names for requests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use data_encoding::HEXLOWER;
use http::HeaderValue;

use crate::time::Clock;

/// Request IDs: the worker's random beginning and a number.
pub struct Ids {
    start: [u8; 8],
    next: AtomicU64,
}

impl Default for Ids {
    /// Draws a beginning.
    fn default() -> Self {
        let mut bits = [0; 8];
        // IDs only have to differ; the time will do where there is no randomness.
        let start = match aws_lc_rs::rand::fill(&mut bits) {
            Ok(()) => bits,
            Err(_) => Clock::system().now().as_millis().to_be_bytes(),
        };
        Self { start, next: AtomicU64::new(0) }
    }
}

impl Ids {
    /// One that nobody has had.
    pub fn next(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Relaxed).to_be_bytes();
        let (mut bits, mut hex) = ([0; 12], [0; 24]);
        bits[..8].copy_from_slice(&self.start);
        bits[8..].copy_from_slice(&number[4..]);
        HEXLOWER.encode_mut(&bits, &mut hex);
        HeaderValue::from_bytes(&hex).unwrap_or(HeaderValue::from_static("-"))
    }
}
