//! Names for requests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use data_encoding::HEXLOWER;
use http::HeaderValue;

use crate::time::Clock;

/// Request IDs: the worker's random beginning and a number.
pub struct Ids {
    /// In hexadecimal digits, for it is the same in all of them.
    start: [u8; 16],
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
        let mut hex = [0; 16];
        HEXLOWER.encode_mut(&start, &mut hex);
        Self { start: hex, next: AtomicU64::new(0) }
    }
}

impl Ids {
    /// One that nobody has had.
    pub fn next(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Relaxed).to_be_bytes();
        let mut hex = [0; 24];
        hex[..16].copy_from_slice(&self.start);
        HEXLOWER.encode_mut(&number[4..], &mut hex[16..]);
        HeaderValue::from_bytes(&hex).unwrap_or(HeaderValue::from_static("-"))
    }
}
