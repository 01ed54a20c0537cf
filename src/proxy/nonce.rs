//! The 64 random bits that a response may have to repeat.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;

/// Nonces made at a time: asking the generator for eight bytes, or writing them as digits, costs as much as for many.
const BATCH: usize = 512;
const BYTES: usize = 8;
/// Hexadecimal digits of a nonce.
const DIGITS: usize = 2 * BYTES;

/// A worker's supply of nonces, as digits.
#[derive(Default)]
pub struct Nonces(Mutex<Vec<u8>>);

/// What one response may have to repeat: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(Option<[u8; DIGITS]>);

impl Nonce {
    /// As it is written.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |digits| digits)
    }
}

impl Nonces {
    /// One that nobody has had.
    ///
    /// Without random numbers there is no token either; an empty nonce then stands for one that matches nothing.
    pub fn next(&self) -> Nonce {
        let mut supply = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if supply.is_empty() {
            let mut bits = [0; BATCH * BYTES];
            if rand::fill(&mut bits).is_ok() {
                supply.resize(2 * bits.len(), 0);
                HEXLOWER.encode_mut(&bits, &mut supply);
            }
        }
        let last = supply.last_chunk().copied();
        let rest = supply.len().saturating_sub(DIGITS);
        supply.truncate(rest);
        Nonce(last)
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
