//! The writes of a store, each of which finds out what became of it.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::{Instant, sleep, timeout_at};

use super::engine::{Cycle, Engine, Stored, Swap, Worth};
use super::keyed::{Keyed, Rules};
use super::{Error, Kind};
use crate::session::record::{Entry, How, Tombstone};
use crate::session::{History, Key, Live, Record, Revision, Token};
use crate::time::Timestamp;

/// How often a write is sent whose answers are lost.
const TRIES: u32 = 3;
/// The pause between two looks at what became of a write, while the store is away.
const LOOK: Duration = Duration::from_millis(20);

/// How far a piece of work has come, for the case that it is cut off.
#[derive(Default)]
pub(super) struct Progress {
    /// A write was sent.
    sent: AtomicBool,
}

impl Progress {
    /// Notes that a write goes out: from now on nobody knows what happened if no answer comes.
    pub(super) fn sends(&self) {
        self.sent.store(true, Relaxed);
    }

    /// Runs `work` until `deadline`; once that has passed, not at all.
    pub(super) async fn until<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = || {
            let kind = if self.sent.load(Relaxed) { Kind::OutcomeUnknown } else { Kind::Timeout };
            Error::new(kind, "the store did not answer within store.commit_timeout")
        };
        if deadline <= Instant::now() {
            return Err(late());
        }
        timeout_at(deadline, work).await.map_err(|_| late())?
    }
}

impl<E: Engine> Keyed<E> {
    /// Replaces what was seen by what it has become, and notes its revision in the history.
    pub(super) async fn save(
        &self,
        seen: &Live,
        next: &mut Live,
        progress: &Progress,
    ) -> Result<Swap, Error> {
        next.history = older(seen);
        let new = self.shelve(&Entry::Live(next.record.clone()), next)?;
        progress.sends();
        self.swap(seen.key, seen.revision, new, self.worth(&next.record)).await
    }

    /// Moves the end of a session.
    ///
    /// While keys change it is sealed anew besides, or one that is only ever read would need its old key for ever. That
    /// is no new state, data and revision are the same; where there is no room for it, it is put off.
    pub(super) async fn touch(
        &self,
        live: &Live,
        until: Timestamp,
        progress: &Progress,
    ) -> Result<Swap, Error> {
        let anew = if self.rules().codec.is_changing() {
            Some(self.shelve(&Entry::Live(live.record.clone()), &Live { until, ..live.clone() })?)
        } else {
            None
        };
        progress.sends();
        let send = async || {
            if let Some(new) = &anew {
                let worth = self.worth(&live.record);
                match self.engine.replace(&live.key, live.revision, new.clone(), worth).await {
                    Err(error) if error.kind == Kind::OutOfMemory => {}
                    swap => return swap,
                }
            }
            self.engine.touch(&live.key, live.revision, until).await
        };
        Ok(insist(send).await?.0)
    }

    /// Replaces a session by the memory of it.
    pub(super) async fn end(
        &self,
        live: &Live,
        how: How,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Swap, Error> {
        progress.sends();
        let flushed = how == How::Flushed;
        if !self.rules().ended_memory.is_zero() {
            let new = self.memory(live, how, now)?;
            match self.swap(live.key, live.revision, new, Worth::Ended).await {
                // A logout needs no room: without its memory it is one all the same.
                Err(error) if flushed && error.kind == Kind::OutOfMemory => {}
                swap => return swap,
            }
        }
        match insist(|| self.engine.remove(&live.key, live.revision)).await? {
            // Gone, perhaps by the first try: a flush wanted no more, but did this cycle end it or a flush?
            (Swap::Gone, true) if flushed => match Box::pin(self.engine.confirm(&live.key, None)).await {
                Ok(true) => Ok(Swap::Done),
                Ok(false) => Ok(Swap::Changed),
                Err(error) => Err(unknown(None, &error.detail)),
            },
            (Swap::Gone, true) => Err(unknown(None, "the record is gone, nobody knows by whom")),
            (swap, _) => Ok(swap),
        }
    }

    /// Moves a session to a new token in one step. `None` where that takes several: nothing was done.
    pub(super) async fn cycle(
        &self,
        live: &Live,
        record: &Record,
        until: Timestamp,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Option<(Swap, Token)>, Error> {
        if self.rules().ended_memory.is_zero() {
            return Ok(None);
        }
        let (token, new, fresh) = self.mint(record, until)?;
        let before = Box::new(live.record.clone());
        let ended =
            self.memory(live, How::Cycled { successor: new, before, revision: live.revision }, now)?;
        let (mine, worth) = (ended.revision, self.worth(record));
        let cycle = Cycle { old: live.key, seen: live.revision, ended, new, fresh, worth };
        if self.engine.cycle(&cycle).is_none() {
            return Ok(None);
        }
        progress.sends();
        let send = || async {
            match self.engine.cycle(&cycle) {
                Some(step) => step.await,
                None => Ok(Swap::Changed),
            }
        };
        Ok(Some((self.settle(live.key, live.revision, mine, send).await?, token)))
    }

    /// A token that nobody has, and what is filed under it.
    fn mint(&self, record: &Record, until: Timestamp) -> Result<(Token, Key, Stored), Error> {
        let token = Token::from_bits(&random()?);
        let rules = self.rules();
        let Rules { realm, codec, .. } = &*rules;
        let key = Key::of(realm, &token);
        let value = codec.encode(realm, &key, &Entry::Live(record.clone()), &[None; 3])?;
        Ok((token, key, Stored { value, revision: new_revision()?, until }))
    }

    /// What is remembered of a session that ends.
    fn memory(&self, live: &Live, how: How, now: Timestamp) -> Result<Stored, Error> {
        let mut next = live.clone();
        (next.revision, next.history, next.until) =
            (new_revision()?, older(live), now.plus(self.rules().ended_memory));
        self.shelve(&Entry::Ended(Tombstone { at: now, how }), &next)
    }

    /// What lies under a key that has come so far.
    fn shelve(&self, entry: &Entry, state: &Live) -> Result<Stored, Error> {
        let rules = self.rules();
        let Rules { realm, codec, .. } = &*rules;
        let value = codec.encode(realm, &state.key, entry, &state.history)?;
        Ok(Stored { value, revision: state.revision, until: state.until })
    }

    /// Files a record under a token that nobody has.
    pub(super) async fn create(
        &self,
        record: &Record,
        until: Timestamp,
        progress: &Progress,
    ) -> Result<(Token, Key, Revision), Error> {
        progress.sends();
        loop {
            let (token, key, new) = self.mint(record, until)?;
            let (mine, worth) = (new.revision, self.worth(record));
            let added = match self.engine.add(&key, new.clone(), worth).await {
                Ok(added) => added,
                Err(error) if error.kind.is_final() => return Err(error),
                // It may have been added all the same; then the key is taken, by us.
                Err(_) => {
                    self.engine.add(&key, new, worth).await?
                        || (self.engine.get(&key).await?.is_some_and(|there| there.revision == mine)
                            && Box::pin(self.engine.confirm(&key, Some(mine))).await?)
                }
            };
            if added {
                return Ok((token, key, mine));
            }
        }
    }

    /// Replaces, and where the outcome is unknown finds out.
    async fn swap(&self, key: Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        let send = || self.engine.replace(&key, seen, new.clone(), worth);
        self.settle(key, seen, new.revision, send).await
    }

    /// Sends a write that puts the revision `mine` where `seen` is, and where its outcome is unknown finds out.
    async fn settle<F>(
        &self,
        key: Key,
        seen: Revision,
        mine: Revision,
        send: impl Fn() -> F,
    ) -> Result<Swap, Error>
    where
        F: Future<Output = Result<Swap, Error>>,
    {
        let mut doubt: Option<Error> = None;
        for _ in 0..TRIES {
            // If it is not the first time: the first one may still arrive, but only one of them can find what was seen.
            doubt = match (send().await, doubt) {
                (Ok(Swap::Done), _) => return Ok(Swap::Done),
                (Ok(other), None) => return Ok(other),
                (Ok(_), doubt) => doubt,
                (Err(error), None) if error.kind.is_final() => return Err(error),
                (Err(error), _) if error.kind == Kind::OutcomeUnknown => return Err(error),
                (Err(error), _) => Some(error),
            };
            let unknown = |what| Err(unknown(doubt.as_ref(), what));
            let Some(there) = self.look(&key).await? else { return unknown("the record is gone") };
            let rules = self.rules();
            let history = match rules.codec.decode(&rules.realm, &key, &there.value) {
                Ok((_, history)) => history,
                Err(unreadable) => return unknown(&unreadable.under(&key).detail),
            };
            if there.revision == mine || history.contains(&Some(mine)) {
                // It lies there. Where a medium copies itself that alone is no answer.
                match Box::pin(self.engine.confirm(&key, Some(there.revision))).await {
                    Ok(true) => return Ok(Swap::Done),
                    Ok(false) => {}
                    Err(error) => doubt = Some(error),
                }
                continue;
            }
            if there.revision != seen {
                // Somebody else replaced what we saw, so ours came too late; unless that is too long ago to tell.
                let late = history.contains(&Some(seen));
                return if late { Ok(Swap::Changed) } else { unknown("too much was written since") };
            }
        }
        Err(unknown(doubt.as_ref(), "no other try fared better"))
    }

    /// Reads until there is an answer, since a write that was sent is worth waiting for; the caller's deadline ends
    /// it where there is none.
    async fn look(&self, key: &Key) -> Result<Option<Stored>, Error> {
        loop {
            match self.engine.get(key).await {
                Err(error) if error.kind != Kind::Corrupt => sleep(LOOK).await,
                answer => return answer.map_err(|error| unknown(None, &error.detail)),
            }
        }
    }

    fn worth(&self, record: &Record) -> Worth {
        let known = || self.rules().cycle_on.iter().any(|name| record.data.non_null(name).is_some());
        if record.subject.is_some() || known() { Worth::Known } else { Worth::Anonymous }
    }
}

pub(super) fn unknown(doubt: Option<&Error>, what: &str) -> Error {
    let first = doubt.map_or_else(String::new, |first| format!("{first}; "));
    Error::new(Kind::OutcomeUnknown, first + what)
}

/// Sends a write that may be sent twice, and says whether the answer to the first try was lost.
pub(super) async fn insist<T, F>(send: impl Fn() -> F) -> Result<(T, bool), Error>
where
    F: Future<Output = Result<T, Error>>,
{
    match send().await {
        Ok(done) => Ok((done, false)),
        Err(error) if error.kind.is_final() => Err(error),
        Err(error) => match send().await {
            Ok(done) => Ok((done, true)),
            Err(again) => Err(unknown(Some(&error), &again.detail)),
        },
    }
}

/// The history of what replaces a session.
fn older(live: &Live) -> History {
    let [first, second, _] = live.history;
    [Some(live.revision), first, second]
}

/// Random bits of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bits = [0; N];
    rand::fill(&mut bits).map_err(|_| Error::new(Kind::Unreachable, "the system gives no random numbers"))?;
    Ok(bits)
}

/// A revision that no write has had.
pub(super) fn new_revision() -> Result<Revision, Error> {
    loop {
        if let Some(revision) = Revision::from_bits(u64::from_ne_bytes(random()?)) {
            return Ok(revision);
        }
    }
}
