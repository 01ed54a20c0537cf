//! The 64 random bits that a response may have to repeat.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;

/// Nonces made at a time: asking the generator for eight bytes costs as much as for thousands.
const BATCH: usize = 512;
const BYTES: usize = 8;

/// A worker's supply of nonces.
#[derive(Default)]
pub struct Nonces(Mutex<Vec<u8>>);

/// What one response may have to repeat: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce {
    hex: [u8; 2 * BYTES],
    length: usize,
}

impl Nonce {
    /// As it is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.hex[..self.length]
    }
}

impl Nonces {
    /// One that nobody has had.
    ///
    /// Without random numbers there is no token either; an empty nonce then stands for one that matches nothing.
    pub fn next(&self) -> Nonce {
        let mut supply = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if supply.is_empty() {
            supply.resize(BATCH * BYTES, 0);
            if rand::fill(&mut supply).is_err() {
                supply.clear();
            }
        }
        let rest = supply.len().saturating_sub(BYTES);
        let mut hex = [0; 2 * BYTES];
        let bits = &supply[rest..];
        let length = 2 * bits.len();
        HEXLOWER.encode_mut(bits, &mut hex[..length]);
        supply.truncate(rest);
        Nonce { hex, length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_nonce_comes_twice() {
        let nonces = Nonces::default();
        let all: HashSet<Nonce> = (0..3 * BATCH).map(|_| nonces.next()).collect();
        assert_eq!(all.len(), 3 * BATCH);
        assert!(all.iter().all(|nonce| nonce.as_bytes().len() == 16));
    }
}
