//! Copying sessions one by one, whoever saves and ends them meanwhile.

use super::entry::Entry;
use super::{Moving, TRIES, busy};
use crate::session::Key;
use crate::store::engine::{Engine, Stored, Swap, Worth};
use crate::store::{Error, Kind, codec};

/// What became of one that was to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was copied, or moved.
    Done,
    /// It was there already.
    Already,
    /// There is no such session, or no longer: it has expired, or ended, or has been moved.
    Ended,
    /// Something else is there: another state of it, or the memory of its end. That is left as it is.
    Taken,
}

impl<O: Engine, N: Engine> Moving<O, N> {
    /// Adds a session of the old store to the new one, if there is nothing. The old store keeps it.
    ///
    /// # Errors
    /// If one of them can't say: then it may have been copied. [`Kind::Corrupt`] of what can't be read, and stays.
    pub async fn copy(&self, key: &Key) -> Result<Fate, Error> {
        for _ in 0..TRIES {
            let Some(session) = self.session(key).await? else { return Ok(Fate::Ended) };
            let place = match self.new.get(key).await? {
                None => match self.place(key).await? {
                    Some(mine) => mine,
                    None => continue,
                },
                Some(there) if there.revision == session.revision => {
                    if there.until < session.until {
                        self.new.touch(key, there.revision, session.until).await?;
                    }
                    return Ok(Fate::Already);
                }
                Some(there) if Entry::of(&there) == Entry::Place => there.revision,
                Some(_) => return Ok(Fate::Taken),
            };
            // From here on whoever saves or ends it removes the place.
            let session = match self.session(key).await? {
                Some(again) if again.revision == session.revision => again,
                _ => {
                    self.new.remove(key, place).await?;
                    continue;
                }
            };
            if self.new.replace(key, place, session, Worth::Known).await? == Swap::Done {
                return Ok(Fate::Done);
            }
        }
        Err(busy())
    }

    /// Moves a session of the old store to the new one, whatever copy of it is there.
    ///
    /// # Errors
    /// If one of them can't say: then it may have been moved. [`Kind::Corrupt`] of what can't be read, and stays.
    pub async fn bring(&self, key: &Key) -> Result<Fate, Error> {
        for _ in 0..TRIES {
            let Some(there) = self.old.get(key).await? else { return Ok(Fate::Ended) };
            match Entry::of(&there) {
                Entry::Session if there.until > self.clock.now() => {
                    if self.depart(key, there).await? {
                        return Ok(Fate::Done);
                    }
                }
                Entry::Leaving(leaving) => {
                    if self.arrive(key, there.revision, &leaving).await? {
                        return Ok(Fate::Done);
                    }
                }
                Entry::Other if there.until > self.clock.now() => {
                    return ended(key, &there).map(|()| Fate::Ended);
                }
                _ => return Ok(Fate::Ended),
            }
        }
        Err(busy())
    }

    /// A session that lives in the old store.
    async fn session(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let now = self.clock.now();
        let Some(found) = self.old.get(key).await?.filter(|found| found.until > now) else { return Ok(None) };
        match Entry::of(&found) {
            Entry::Session => Ok(Some(found)),
            Entry::Other => ended(key, &found).map(|()| None),
            Entry::Leaving(_) | Entry::Place | Entry::Nothing => Ok(None),
        }
    }
}

/// What is no session has to be the memory of one, or nobody can say what it was.
fn ended(key: &Key, found: &Stored) -> Result<(), Error> {
    if codec::is_end(&found.value) {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, format!("the record {key} is neither a session nor the memory of one")))
}
