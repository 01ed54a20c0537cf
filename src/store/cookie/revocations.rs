//! The sessions that ended before their cookies do: ids on any engine, until the last copy of each cookie has expired.
//!
//! What lies there is text for whoever looks, and no data of anybody's: `revoked F` of a session that was flushed,
//! `revoked C <id> <milliseconds>` of one that goes on under another id since then, and `revoked S …` of one that goes
//! on as another user's. `prolong P` is of a session that lives: one of its cookies expires later than another one would
//! make believe that is shown at its logout, so the id will stay for as long as any cookie can.

use std::time::Duration;

use bytes::Bytes;

use crate::session::Key;
use crate::session::expiry::LONGEST_COOKIE;
use crate::store::boxed::Boxed;
use crate::store::engine::{Engine, Stored, Swap, Worth};
use crate::store::write::{insist, new_revision, unknown};
use crate::store::{Error, Kind};
use crate::time::Timestamp;

/// What the values of sessions that ended begin with. As in a record the ninth byte is the kind, and it is none of a
/// session.
const FORM: &str = "revoked ";
/// A session that lives on.
const PROLONGED: &str = "prolong P";

/// How much longer than the last cookie a revocation lasts: for clocks that are apart, and for who sealed one while it
/// was written. A cookie that is good for a second longer than its revocation is good for ever.
pub(super) const MARGIN: Duration = Duration::from_secs(3600);

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

/// What is noted of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It ended.
    Revoked(Revoked),
    /// It lives, and has a cookie that others know nothing of.
    Prolonged,
}

impl Note {
    fn write(self) -> Bytes {
        match self {
            Self::Prolonged => Bytes::from_static(PROLONGED.as_bytes()),
            Self::Revoked(Revoked::Flushed) => format!("{FORM}F").into(),
            Self::Revoked(Revoked::Cycled { successor, at, same_user }) => {
                let kind = if same_user { 'C' } else { 'S' };
                format!("{FORM}{kind} {successor} {}", at.as_millis()).into()
            }
        }
    }

    fn read(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        if text == PROLONGED {
            return Some(Self::Prolonged);
        }
        let mut words = text.strip_prefix(FORM)?.split(' ');
        let read = match words.next()? {
            "F" => Revoked::Flushed,
            kind @ ("C" | "S") => Revoked::Cycled {
                successor: Key::from_hex(words.next()?.as_bytes())?,
                at: Timestamp::from_millis(words.next()?.parse().ok()?),
                same_user: kind == "C",
            },
            _ => return None,
        };
        words.next().is_none().then_some(Self::Revoked(read))
    }

    /// What lies under an id.
    fn of(there: &Stored, id: &Key) -> Result<Self, Error> {
        Self::read(&there.value)
            .ok_or_else(|| Error::new(Kind::Corrupt, format!("the revocation {id} is corrupt")))
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
        let there = self.0.get(id).await?.filter(|there| there.until > now);
        Ok(match there.map(|there| Note::of(&there, id)).transpose()? {
            Some(Note::Revoked(how)) => Some(how),
            Some(Note::Prolonged) | None => None,
        })
    }

    /// Notes something of a session; `false` if it was revoked before. A revocation is of one whose cookies have all
    /// expired by `until`, or, if it was prolonged, by when any has. That it is prolonged is noted for a cookie that is
    /// good until `until`, as its others don't tell: whoever ends it from now on reckons with that, from whichever of them.
    ///
    /// # Errors
    /// If the engine can't be written.
    pub(super) async fn note(
        &self,
        id: &Key,
        note: Note,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, Error> {
        let longest = now.plus(LONGEST_COOKIE + MARGIN);
        let first = if note == Note::Prolonged { longest } else { until.plus(MARGIN) };
        let mut new = Stored { value: note.write(), revision: new_revision()?, until: first };
        let mut doubtful = false;
        // It is the last that may go for want of room: without it a session that was ended is there again.
        let worth = Worth::Known;
        let mut seen = None;
        loop {
            let doubt = |error: Error| if doubtful { unknown(None, &error.detail) } else { error };
            let (done, lost) = match seen {
                None => insist(|| self.0.add(id, new.clone(), worth)).await.map_err(doubt)?,
                Some(seen) => {
                    let replace = || self.0.replace(id, seen, new.clone(), worth);
                    let (swap, lost) = insist(replace).await.map_err(doubt)?;
                    (swap == Swap::Done, lost)
                }
            };
            if done {
                return Ok(true);
            }
            doubtful |= lost;
            let doubt = |error: Error| if doubtful { unknown(None, &error.detail) } else { error };
            let there = self.0.get(id).await.map_err(doubt)?;
            seen = there.as_ref().map(|there| there.revision);
            match there {
                // The first try was ours, and its answer was lost.
                Some(there) if doubtful && there.revision == new.revision => {
                    return self.0.confirm(id, seen).await.map_err(doubt);
                }
                // What has ended, and was not cleared yet, still has the place.
                Some(there) if there.until > now => match Note::of(&there, id).map_err(doubt)? {
                    Note::Revoked(_) => return Ok(false),
                    Note::Prolonged if note == Note::Prolonged && there.until >= until.plus(MARGIN) => {
                        return Ok(true);
                    }
                    Note::Prolonged => new.until = longest,
                },
                _ => {}
            }
        }
    }

    /// The engine, for what is done to all of it.
    pub(super) const fn engine(&self) -> &Boxed {
        &self.0
    }
}

#[cfg(test)]
mod tests {
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
        let revoked = [Revoked::Flushed, cycled(true), cycled(false)].map(Note::Revoked);
        for note in revoked.into_iter().chain([Note::Prolonged]) {
            let value = note.write();
            assert_eq!(Note::read(&value), Some(note));
            assert!(!codec::is_session(&value), "clearing counts sessions, and it is none");
            for bad in [&value[1..], &[&value[..], b" x"].concat(), &value[..value.len() - 1]] {
                assert_ne!(Note::read(bad), Some(note), "{bad:?}");
            }
        }
        for bad in ["", "revoked", "revoked X", "revoked C", "revoked C 08 5", "lease", "1:AAAAAAL"] {
            assert_eq!(Note::read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn the_first_who_revokes_a_session_says_how() {
        let (list, last) = (list(), NOW.plus(Duration::from_secs(60)));
        let (until, flushed) = (last.plus(MARGIN), Note::Revoked(Revoked::Flushed));
        assert_eq!(list.look(&ID, NOW).await, Ok(None));
        assert_eq!(list.note(&ID, Note::Revoked(cycled(true)), NOW, last).await, Ok(true));
        assert_eq!(list.note(&ID, flushed, NOW, last).await, Ok(false));
        assert_eq!(list.look(&ID, last).await, Ok(Some(cycled(true))), "a clock may be behind");
        assert_eq!(list.look(&ID, until).await, Ok(None), "the cookie has expired by then");
        assert_eq!(list.note(&ID, flushed, until, until.plus(Duration::from_secs(1))).await, Ok(true));
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
