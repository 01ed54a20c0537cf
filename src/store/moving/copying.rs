//! Copying or moving all sessions of a store to another one, page by page, and going on where somebody stopped.
//!
//! The new store remembers how far it has come. A page that was begun is gone through again: what is there already
//! stays as it is.
//!
//! Whoever went on where somebody had stopped knows nothing of the pages before that: what could not be read there, and
//! what has come there since. So it goes through all of them once more before it says that it is done, and what it says
//! then is of all that is there. What has moved is gone by then, and what was copied costs two looks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::copy::Fate;
use super::{Home, Moving};
use crate::session::{Key, Revision};
use crate::store::boxed::Boxed;
use crate::store::engine::{Engine as _, Stored, Swap, Worth};
use crate::store::write::new_revision;
use crate::store::{Config, Error, Kind, lease};

/// Sessions that are under way at once.
const AT_ONCE: usize = 16;
/// Where the new store remembers: not the beginning of a hash that anybody will ever see.
const PLACE: Key = Key::from_bytes(*b"coatroom copies here");
/// What that begins with: no record, so that nothing takes it for a session.
const FORM: &str = "copy 1:";
/// How long it is remembered. Whoever goes on later than that begins again.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Sessions that can't be read, of which it is told why.
const TOLD: usize = 10;

/// What is to be done with each session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It is added to the new store, if there is nothing, and stays in the old one.
    Copy,
    /// It is in the new store then, and no longer in the old one.
    Move,
}

/// Two stores.
pub struct Copying {
    between: Arc<Moving<Boxed, Boxed>>,
    manner: Manner,
    /// Names the old store and the manner, and stands before what is remembered: in the new store, which needs no name.
    name: String,
    /// What is remembered lies under this revision.
    remembered: Option<Revision>,
}

/// What became of the sessions so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Copied, or moved.
    pub done: u64,
    /// There already.
    pub already: u64,
    /// Left as they are, for the new store has something else: another state of it, or the memory of its end.
    pub taken: u64,
    /// What is no session that lives: it has expired or ended, or was moved by a sidecar meanwhile.
    pub ended: u64,
    /// Sessions that can't be read, and stay where they are.
    pub unreadable: u64,
    /// Why, of the first ten, each once.
    pub why: Vec<String>,
    /// It went on where somebody had stopped.
    pub resumed: bool,
}

impl Tally {
    /// Everything that was looked at.
    pub const fn all(&self) -> u64 {
        self.done + self.already + self.taken + self.ended + self.unreadable
    }

    /// The same where all is gone through once more: what this run has done stays done, and why something can't be read
    /// stays told.
    fn again(&mut self) {
        let Self { done, why, resumed, .. } = std::mem::take(self);
        *self = Self { done, why, resumed, ..Self::default() };
    }

    fn count(&mut self, fate: Result<Fate, Error>) -> Result<(), Error> {
        let number = match fate {
            Ok(Fate::Done) => &mut self.done,
            Ok(Fate::Already) => &mut self.already,
            Ok(Fate::Taken) => &mut self.taken,
            Ok(Fate::Ended) => &mut self.ended,
            Err(error) if error.kind == Kind::Corrupt => {
                if self.why.len() < TOLD && !self.why.contains(&error.detail) {
                    self.why.push(error.detail);
                }
                &mut self.unreadable
            }
            Err(error) => return Err(error),
        };
        *number += 1;
        Ok(())
    }
}

impl Copying {
    /// `from` is the old store.
    pub(in crate::store) fn new(between: Moving<Boxed, Boxed>, manner: Manner, from: &Config) -> Self {
        debug_assert_eq!(between.home, Home::New);
        let name = name(manner, from);
        Self { between: Arc::new(between), manner, name, remembered: None }
    }

    /// Is the old store there, and can it list what it has? Nothing is asked of the new one yet, which may be made by that.
    ///
    /// # Errors
    /// What it said.
    pub async fn can_be_listed(&self) -> Result<(), Error> {
        self.between.old.scan(None).await.map(drop)
    }

    /// Are both the same store, in whatever words they were named?
    ///
    /// # Errors
    /// What a store said.
    pub async fn are_one(&self) -> Result<bool, Error> {
        self.between.are_one().await
    }

    /// Goes through all sessions; `told` is told again and again what has become of them so far, and before an error.
    ///
    /// # Errors
    /// What a store said. What was done stays so, and another run goes on from there.
    pub async fn run(mut self, mut told: impl FnMut(&Tally)) -> Result<Tally, Error> {
        let mut after = self.remembered().await?;
        let mut tally = Tally { resumed: after.is_some(), ..Tally::default() };
        // What this run has copied before it began from the beginning, and finds there already.
        let (mut whole, mut mine) = (after.is_none(), 0);
        loop {
            let page = self.between.old.scan(after.as_deref()).await?;
            // What sidecars and we keep for ourselves is no session that could be left behind.
            let mut keys = page.keys.into_iter().filter(|key| ![PLACE, lease::PLACE].contains(key));
            let mut tasks = JoinSet::new();
            loop {
                while tasks.len() < AT_ONCE
                    && let Some(key) = keys.next()
                {
                    let (between, manner) = (Arc::clone(&self.between), self.manner);
                    tasks.spawn(async move {
                        match manner {
                            Manner::Copy => between.copy(&key).await,
                            Manner::Move => between.bring(&key).await,
                        }
                    });
                }
                let Some(ended) = tasks.join_next().await else { break };
                let fate = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                tally.count(fate).inspect_err(|_| told(&tally))?;
            }
            told(&tally);
            after = page.next;
            match &after {
                Some(next) => self.remember(next).await?,
                None if whole => break,
                None => {
                    (whole, mine) = (true, tally.done);
                    tally.again();
                }
            }
        }
        tally.already = tally.already.saturating_sub(mine);
        if let Some(mine) = self.remembered {
            self.between.new.remove(&PLACE, mine).await?;
        }
        Ok(tally)
    }

    /// Where to go on.
    async fn remembered(&mut self) -> Result<Option<String>, Error> {
        let Some(there) = self.between.new.get(&PLACE).await? else { return Ok(None) };
        self.remembered = Some(there.revision);
        if there.until <= self.between.clock.now() {
            return Ok(None);
        }
        let text = std::str::from_utf8(&there.value).unwrap_or_default();
        Ok(text.strip_prefix(&self.name).map(str::to_owned))
    }

    async fn remember(&mut self, next: &str) -> Result<(), Error> {
        let new = Stored {
            value: Bytes::from(format!("{}{next}", self.name)),
            revision: new_revision()?,
            until: self.between.clock.now().plus(REMEMBERED),
        };
        let mine = new.revision;
        let done = match self.remembered {
            Some(seen) => self.between.new.replace(&PLACE, seen, new, Worth::Ended).await? == Swap::Done,
            None => self.between.new.add(&PLACE, new, Worth::Ended).await?,
        };
        // Somebody else copies too: which of us is remembered is no matter.
        self.remembered =
            if done { Some(mine) } else { self.between.new.get(&PLACE).await?.map(|there| there.revision) };
        Ok(())
    }
}

/// What a copy is known by. The table and the beginning of the keys are as much of a store's name as its URL is, and
/// none of it shows a password.
fn name(manner: Manner, from: &Config) -> String {
    let verb = match manner {
        Manner::Copy => "copy",
        Manner::Move => "move",
    };
    let Config { url, table, key_prefix, .. } = from;
    format!("{FORM}{verb} {url} {table} {key_prefix:?}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_part_of_the_same_server_is_another_copy() {
        let one = Config { url: "redis://:secret@a".into(), ..Config::default() };
        let others = [
            Config { url: "redis://b".into(), ..one.clone() },
            Config { table: "other".to_owned(), ..one.clone() },
            Config { key_prefix: "other\n".to_owned(), ..one.clone() },
        ];
        let known = name(Manner::Copy, &one);
        assert!(!known.contains("secret") && known.lines().count() == 1, "{known}");
        assert_ne!(known, name(Manner::Move, &one));
        for other in others {
            let known_by = name(Manner::Copy, &other);
            assert!(known != known_by && known_by.lines().count() == 1, "{known_by}");
        }
    }
}
