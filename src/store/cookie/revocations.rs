//! The sessions that ended before their cookies do: ids on any engine, until the last copy of each cookie has expired.
//!
//! What lies there is text for whoever looks, and no data of anybody's: `revoked F` of a session that was flushed,
//! `revoked C <id> <milliseconds>` of one that goes on under another id since then, and `revoked S …` of one that goes
//! on as another user's.

use bytes::Bytes;

use crate::session::Key;
use crate::store::boxed::Boxed;
use crate::store::engine::{Engine, Stored, Swap, Worth};
use crate::store::write::{insist, new_revision, unknown};
use crate::store::{Error, Kind};
use crate::time::Timestamp;

/// What every value begins with. As in a record the ninth byte is the kind, and it is none of a session.
const FORM: &str = "revoked ";

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revoked {
    /// By flush: nothing of it is left.
    Flushed,
    /// By cycle-key: it goes on under another id.
    Cycled {
        /// That id.
        successor: Key,
        /// Since when.
        at: Timestamp,
        /// Is it the same user's still?
        same_user: bool,
    },
}

impl Revoked {
    fn write(self) -> Bytes {
        match self {
            Self::Flushed => format!("{FORM}F").into(),
            Self::Cycled { successor, at, same_user } => {
                let kind = if same_user { 'C' } else { 'S' };
                format!("{FORM}{kind} {successor} {}", at.as_millis()).into()
            }
        }
    }

    fn read(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.strip_prefix(FORM)?;
        let mut words = text.split(' ');
        let read = match words.next()? {
            "F" => Self::Flushed,
            kind @ ("C" | "S") => Self::Cycled {
                successor: Key::from_hex(words.next()?.as_bytes())?,
                at: Timestamp::from_millis(words.next()?.parse().ok()?),
                same_user: kind == "C",
            },
            _ => return None,
        };
        words.next().is_none().then_some(read)
    }
}

/// A list on whichever engine.
pub(super) struct Revocations(Boxed);

impl Revocations {
    /// The list that lies there.
    pub(super) fn on(engine: impl Engine) -> Self {
        Self(Boxed::new(engine))
    }

    /// Was this session revoked?
    ///
    /// # Errors
    /// If the engine can't say, or says what makes no sense: then nobody knows, of that session alone.
    pub(super) async fn look(&self, id: &Key, now: Timestamp) -> Result<Option<Revoked>, Error> {
        let Some(there) = self.0.get(id).await? else { return Ok(None) };
        if there.until <= now {
            return Ok(None);
        }
        let corrupt = || Error::new(Kind::Corrupt, format!("the revocation {id} is corrupt"));
        Revoked::read(&there.value).map(Some).ok_or_else(corrupt)
    }

    /// Revokes a session; `false` if it was before.
    ///
    /// # Errors
    /// If the engine can't be written.
    pub(super) async fn revoke(
        &self,
        id: &Key,
        how: Revoked,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, Error> {
        let new = Stored { value: how.write(), revision: new_revision()?, until };
        // It is the last that may go for want of room: without it a session that was ended is there again.
        let (added, lost) = insist(|| self.0.add(id, new.clone(), Worth::Known)).await?;
        if added {
            return Ok(true);
        }
        let doubt = |error: Error| if lost { unknown(None, &error.detail) } else { error };
        match self.0.get(id).await.map_err(doubt)? {
            // The first try was ours, and its answer was lost.
            Some(there) if lost && there.revision == new.revision => {
                self.0.confirm(id, Some(new.revision)).await.map_err(doubt)
            }
            // What has ended, and was not cleared yet, still has the place.
            Some(there) if there.until <= now => {
                Ok(self.0.replace(id, there.revision, new, Worth::Known).await.map_err(doubt)? == Swap::Done)
            }
            _ => Ok(false),
        }
    }

    /// The engine, for what is done to all of it.
    pub(super) const fn engine(&self) -> &Boxed {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::IntCounter;

    use super::*;
    use crate::store::memory::Memory;
    use crate::store::{Config, codec};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const ID: Key = Key::from_bytes([7; 20]);

    fn cycled(same_user: bool) -> Revoked {
        Revoked::Cycled { successor: Key::from_bytes([8; 20]), at: NOW, same_user }
    }

    fn list() -> Revocations {
        Revocations::on(Memory::new(&Config::default(), IntCounter::new("evictions", "None.").unwrap()))
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for revoked in [Revoked::Flushed, cycled(true), cycled(false)] {
            let value = revoked.write();
            assert_eq!(Revoked::read(&value), Some(revoked));
            assert!(!codec::is_session(&value), "clearing counts sessions, and it is none");
            for bad in [&value[1..], &[&value[..], b" x"].concat(), &value[..value.len() - 1]] {
                assert_ne!(Revoked::read(bad), Some(revoked), "{bad:?}");
            }
        }
        for bad in ["", "revoked", "revoked X", "revoked C", "revoked C 08 5", "lease", "1:AAAAAAL"] {
            assert_eq!(Revoked::read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn the_first_who_revokes_a_session_says_how() {
        let (list, until) = (list(), NOW.plus(Duration::from_secs(60)));
        assert_eq!(list.look(&ID, NOW).await, Ok(None));
        assert_eq!(list.revoke(&ID, cycled(true), NOW, until).await, Ok(true));
        assert_eq!(list.revoke(&ID, Revoked::Flushed, NOW, until).await, Ok(false));
        assert_eq!(list.look(&ID, NOW).await, Ok(Some(cycled(true))));
        assert_eq!(list.look(&ID, until).await, Ok(None), "the cookie has expired by then");
        assert_eq!(
            list.revoke(&ID, Revoked::Flushed, until, until.plus(Duration::from_secs(1))).await,
            Ok(true)
        );
        assert_eq!(list.look(&ID, until).await, Ok(Some(Revoked::Flushed)));
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_an_error_and_not_a_session_that_lives() {
        let (list, until) = (list(), NOW.plus(Duration::from_secs(60)));
        let strange = Stored { value: Bytes::from_static(b"?"), revision: new_revision().unwrap(), until };
        assert_eq!(list.0.add(&ID, strange, Worth::Known).await, Ok(true));
        assert_eq!(list.look(&ID, NOW).await.unwrap_err().kind, Kind::Corrupt);
        assert_eq!(list.look(&Key::from_bytes([9; 20]), NOW).await, Ok(None), "others are not concerned");
    }
}
