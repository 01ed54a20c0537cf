//! What is known of the CAS numbers under which records lie, so that a save needs no look before it.
//!
//! A number says more than a revision: a touch gives what it moves another number, and leaves the revision. It is known
//! as long as the connection that it came by, and no longer: a server that was started again counts from 1 once more,
//! and its connections are new ones.

use crate::session::{Key, Revision};

/// Records at most that are known: a power of two. Each takes 40 bytes.
const PLACES: usize = 1024;

/// The last numbers that were seen, at most one for each place; whoever comes to a place that is taken has it.
pub(super) struct Numbers(Vec<Option<Known>>);

#[derive(Clone, Copy)]
struct Known {
    key: Key,
    revision: Revision,
    cas: u64,
}

impl Numbers {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(vec![None; PLACES])
    }

    /// The number under which this revision lies there, as far as we know.
    pub(super) fn of(&self, key: &Key, revision: Revision) -> Option<u64> {
        let known = self.0[place(key)].as_ref()?;
        (known.key == *key && known.revision == revision).then_some(known.cas)
    }

    /// Remembers it.
    pub(super) fn learn(&mut self, key: &Key, revision: Revision, cas: u64) {
        self.0[place(key)] = Some(Known { key: *key, revision, cas });
    }

    /// Forgets what is known of a key.
    pub(super) fn forget(&mut self, key: &Key) {
        let place = &mut self.0[place(key)];
        if place.is_some_and(|known| known.key == *key) {
            *place = None;
        }
    }
}

/// Keys are hashes: any of their bits will do.
fn place(key: &Key) -> usize {
    let [.., a, b] = *key.as_bytes();
    usize::from(u16::from_be_bytes([a, b])) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_revision_that_lies_there_has_a_number_and_only_until_it_is_forgotten() {
        let [one, two] = [1, 2].map(|bits| Revision::from_bits(bits).unwrap());
        let (a, b) = (
            Key::from_bytes([7; 20]),
            Key::from_bytes([[8; 18].as_slice(), &[7; 2]].concat().try_into().unwrap()),
        );
        let mut numbers = Numbers::new();
        assert_eq!(numbers.of(&a, one), None);
        numbers.learn(&a, one, 5);
        assert_eq!((numbers.of(&a, one), numbers.of(&a, two), numbers.of(&b, one)), (Some(5), None, None));
        numbers.forget(&b);
        numbers.learn(&a, two, 6);
        assert_eq!((numbers.of(&a, one), numbers.of(&a, two)), (None, Some(6)));
        numbers.learn(&b, one, 7);
        assert_eq!((numbers.of(&a, two), numbers.of(&b, one)), (None, Some(7)), "one place");
        numbers.forget(&b);
        assert_eq!(numbers.of(&b, one), None);
    }
}
