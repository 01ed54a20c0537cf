//! What lies in two stores besides sessions while some are on their way from one to the other.

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::session::Revision;
use crate::store::codec;
use crate::store::engine::Stored;
use crate::time::Timestamp;

/// What each begins with: the form and its version. No record does, and none is taken for a session.
const FORM: &[u8; 9] = b"moving 1:";
/// Bytes of the place's revision, of the record's and of its end.
const HEAD: usize = 24;

/// What lies under a key, as far as moving is concerned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// A session.
    Session,
    /// The memory of an ended one, or something that is no session: it stays where it is.
    Other,
    /// In the old store: a session on its way.
    Leaving(Box<Leaving>),
    /// In the new store: the place of one that is to come, or that never came. Nothing yet.
    Place,
    /// In the old store: that there was a session. Nothing any longer.
    Nothing,
}

/// A session on its way. Whoever meets it can bring it there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaving {
    /// What it replaces in the new store. No revision comes twice, so it can be brought there once only.
    pub(super) place: Revision,
    /// The session.
    pub(super) record: Stored,
}

impl Entry {
    /// What was found.
    pub(super) fn of(stored: &Stored) -> Self {
        let Some((kind, rest)) = stored.value.strip_prefix(FORM).and_then(<[u8]>::split_first) else {
            return if codec::is_session(&stored.value) { Self::Session } else { Self::Other };
        };
        match kind {
            b'p' => Self::Place,
            b'n' => Self::Nothing,
            b'l' => Leaving::read(rest, &stored.value)
                .map_or(Self::Other, |leaving| Self::Leaving(Box::new(leaving))),
            _ => Self::Other,
        }
    }

    /// The bytes of a place.
    pub(super) fn place() -> Bytes {
        Bytes::from_static(b"moving 1:p")
    }

    /// The bytes of what was a session.
    pub(super) fn nothing() -> Bytes {
        Bytes::from_static(b"moving 1:n")
    }
}

impl Leaving {
    /// Its bytes.
    pub(super) fn encode(&self) -> Bytes {
        let Self { place, record: Stored { value, revision, until } } = self;
        let mut bytes = Vec::with_capacity(FORM.len() + 1 + HEAD + value.len());
        bytes.extend_from_slice(FORM);
        bytes.push(b'l');
        bytes.put_u64(place.bits());
        bytes.put_u64(revision.bits());
        bytes.put_i64(until.as_millis());
        bytes.extend_from_slice(value);
        Bytes::from(bytes)
    }

    fn read(mut rest: &[u8], whole: &Bytes) -> Option<Self> {
        if rest.len() < HEAD {
            return None;
        }
        let place = Revision::from_bits(rest.get_u64())?;
        let revision = Revision::from_bits(rest.get_u64())?;
        let until = Timestamp::from_millis(rest.get_i64());
        Some(Self { place, record: Stored { value: whole.slice_ref(rest), revision, until } })
    }
}

/// Is this nothing, though something lies there? To a sidecar that knows of one of two stores alone it is.
pub(in crate::store) fn is_nothing(value: &[u8]) -> bool {
    [Entry::place(), Entry::nothing()].iter().any(|nothing| **nothing == *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: Bytes) -> Stored {
        Stored { value, revision: Revision::from_bits(7).unwrap(), until: Timestamp::from_millis(1) }
    }

    #[test]
    fn each_comes_back_and_none_is_a_session() {
        let record = Stored {
            value: Bytes::from_static(b"1:abcdefL..."),
            revision: Revision::from_bits(8).unwrap(),
            until: Timestamp::from_millis(9),
        };
        let leaving = Leaving { place: Revision::from_bits(10).unwrap(), record: record.clone() };
        for (bytes, entry) in [
            (leaving.encode(), Entry::Leaving(Box::new(leaving))),
            (Entry::place(), Entry::Place),
            (Entry::nothing(), Entry::Nothing),
        ] {
            assert!(!codec::is_session(&bytes));
            assert_eq!(is_nothing(&bytes), matches!(entry, Entry::Place | Entry::Nothing));
            assert_eq!(Entry::of(&stored(bytes)), entry);
        }
        assert_eq!(Entry::of(&record), Entry::Session);
        for other in
            ["", "1:abcdefF...", "moving 1:", "moving 1:x", "moving 1:l12345678", "moving 2:p", "lease"]
        {
            assert_eq!(Entry::of(&stored(Bytes::from(other))), Entry::Other, "{other}");
            assert!(!is_nothing(other.as_bytes()));
        }
    }
}
