//! What lies in a cache.

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::session::Revision;
use crate::store::engine::Stored;
use crate::time::Timestamp;

/// What each begins with: the form and its version. No record does, so that nobody takes one for the other.
const FORM: &[u8; 9] = b"cached 1:";
/// Bytes of a record's revision and end.
const HEAD: usize = 16;

/// What lies in a cache under a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// Somebody writes: nobody may fill.
    Marker,
    /// Somebody reads the database, and will fill.
    Claim,
    /// What the database had when somebody read or wrote it.
    Record(Stored),
}

impl Entry {
    /// Its bytes.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(FORM.len() + 1 + HEAD + 256);
        bytes.extend_from_slice(FORM);
        match self {
            Self::Marker => bytes.push(b'm'),
            Self::Claim => bytes.push(b'c'),
            Self::Record(Stored { value, revision, until }) => {
                bytes.push(b'r');
                bytes.put_u64(revision.bits());
                bytes.put_i64(until.as_millis());
                bytes.extend_from_slice(value);
            }
        }
        Bytes::from(bytes)
    }

    /// Reads them; `None` from what is somebody else's.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let (kind, rest) = bytes.strip_prefix(FORM)?.split_first()?;
        match kind {
            b'm' => Some(Self::Marker),
            b'c' => Some(Self::Claim),
            b'r' if rest.len() >= HEAD => {
                let mut head = rest;
                let revision = Revision::from_bits(head.get_u64())?;
                let until = Timestamp::from_millis(head.get_i64());
                Some(Self::Record(Stored { value: bytes.slice_ref(head), revision, until }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec;

    #[test]
    fn each_comes_back_and_is_no_session() {
        let record = Stored {
            value: Bytes::from_static(b"1:abcdefL..."),
            revision: Revision::from_bits(7).unwrap(),
            until: Timestamp::MAX,
        };
        for entry in [Entry::Marker, Entry::Claim, Entry::Record(record)] {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes), Some(entry));
            assert!(!codec::is_session(&bytes), "or an engine would keep it for longer");
        }
        for other in ["", "1:abcdefL", "cached 1:", "cached 1:x", "cached 1:r12345678", "cached 2:m"] {
            assert_eq!(Entry::decode(&Bytes::from(other)), None, "{other}");
        }
    }
}
