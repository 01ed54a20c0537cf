//! What the store keeps of a session: a live record, or what is remembered of an ended one.

use std::fmt;
use std::num::NonZeroU64;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::data::Data;
use super::expiry::Expiry;
use super::token::Key;
use crate::time::Timestamp;

/// The state of a record in the store: 64 random bits, made before a write is sent, new at every write.
///
/// Never a counter: a counter repeats after a failover, and two writers would take each other's write for their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision(NonZeroU64);

impl Revision {
    /// Makes a revision from random bits; 0 stands for "no session" in `X-Session-Version` and is not one.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// The 64 bits.
    pub const fn bits(self) -> u64 {
        self.0.get()
    }

    /// The 16 hexadecimal digits of `X-Session-Version`.
    pub fn to_hex(self) -> [u8; 16] {
        let mut hex = [0; 16];
        HEXLOWER.encode_mut(&self.bits().to_be_bytes(), &mut hex);
        hex
    }

    /// Reads the 16 hexadecimal digits that [`fmt::Display`] writes, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 16 && digits)
            .then(|| u64::from_str_radix(text, 16).ok().and_then(Self::from_bits))
            .flatten()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The scope that a record's cookie was issued under: cookie name, domain and path, as 32 bits of their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(pub u32);

impl Scope {
    /// The scope of a cookie's name, domain and path.
    pub fn of(name: &str, domain: &str, path: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, format!("{name}\0{domain}\0{path}").as_bytes());
        Self(hash.as_ref().iter().take(4).fold(0, |bits, byte| bits << 8 | u32::from(*byte)))
    }
}

/// A live session as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The entries.
    pub data: Data,
    /// When the session began; cycle-key keeps it, flush starts anew.
    pub created_at: Timestamp,
    /// When its data was last saved; a touch moves the end of the record, not this.
    pub modified_at: Timestamp,
    /// Its own expiry, which counts as data.
    pub expiry: Expiry,
    /// The scope of its cookie.
    pub scope: Scope,
    /// The user that it is filed under, where the backend said so.
    pub subject: Option<String>,
}

impl Record {
    /// A session that begins now, without an entry.
    pub fn new(scope: Scope, now: Timestamp) -> Self {
        Self {
            data: Data::empty(),
            created_at: now,
            modified_at: now,
            expiry: Expiry::Default,
            scope,
            subject: None,
        }
    }

    /// Is there nothing worth keeping? A custom expiry counts as data, as in Django.
    pub fn is_empty(&self) -> bool {
        self.expiry == Expiry::Default && self.data.is_empty()
    }
}

/// How a token ended.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// By flush: nothing of it is left.
    Flushed,
    /// By cycle-key: another record goes on.
    Cycled {
        /// The key of the record that goes on.
        successor: Key,
        /// What the token read before, for requests that are in flight.
        before: Box<Record>,
        /// The revision that it had then.
        revision: Revision,
    },
}

/// What is remembered of a token that was ended, for `session.ended_memory`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// When it ended.
    pub at: Timestamp,
    /// By what.
    pub how: How,
}

/// The three revisions before a record's present one, newest first, so that a write whose outcome is unknown can
/// be recognised although others have written since.
pub type History = [Option<Revision>; 3];

/// What a key's value in the store says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A session.
    Live(Record),
    /// The memory of one.
    Ended(Tombstone),
}

impl Entry {
    /// The data that is kept: of a session, or of one that was cycled, for requests in flight.
    pub fn data(&self) -> Option<&Data> {
        match self {
            Self::Live(record) => Some(&record.data),
            Self::Ended(Tombstone { how: How::Cycled { before, .. }, .. }) => Some(&before.data),
            Self::Ended(Tombstone { how: How::Flushed, .. }) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_compared_as_text_that_it_wrote_itself() {
        let revision = Revision::from_bits(0xab).unwrap();
        assert_eq!(revision.to_string(), "00000000000000ab");
        assert_eq!(Revision::parse("00000000000000ab"), Some(revision));
        for bad in ["0", "", "00000000000000AB", "+0000000000000ab", "0000000000000000"] {
            assert_eq!(Revision::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_custom_expiry_counts_as_data() {
        let mut record = Record::new(Scope::of("sessionid", "", "/"), Timestamp::from_millis(0));
        assert!(record.is_empty());
        record.expiry = Expiry::Idle(300);
        assert!(!record.is_empty());
    }
}
