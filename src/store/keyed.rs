//! A store over any engine: what a token finds. What becomes of it is in `commit.rs`.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use tokio::time::Instant;

use super::codec::{self, Codec};
use super::engine::{Cleared, Engine, Stored, Swap};
use super::lane::{Job, Lanes, Turn};
use super::write::Progress;
use super::{Config, Decide, Error, Failed, Outcome, Pending, Store, cookie, lease, moving};
use crate::session::record::{Entry, How, Tombstone};
use crate::session::{Ended, Found, History, Key, Live, Record, Revision, Token};
use crate::time::Timestamp;

/// What a keyed store needs to know of the settings.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `session.realm`.
    pub realm: String,
    /// `session.cycle_on`.
    pub cycle_on: Vec<String>,
    /// `session.grace`.
    pub grace: Duration,
    /// `session.ended_memory`.
    pub ended_memory: Duration,
    /// `store.commit_timeout`.
    pub commit_timeout: Duration,
    /// `session.keep_expired`.
    pub keep_expired: Duration,
    /// How records are written: `store.encryption_keys`, `store.unsealed`.
    pub codec: Codec,
    /// `cookie:` what it needs to know of the cookies.
    pub cookies: cookie::Terms,
}

impl Rules {
    /// Did no entry of `session.cycle_on` become another one's?
    pub(super) fn is_same_user(&self, before: &Record, after: &Record) -> bool {
        let same = |name: &String| match before.data.non_null(name) {
            None => true,
            Some(value) => after.data.non_null(name) == Some(value),
        };
        self.cycle_on.iter().all(same)
    }
}

/// What a keyed store counts.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Sessions that were found expired, once each.
    pub expiries: IntCounter,
    /// Compare-and-swaps that lost and were tried again.
    pub conflicts: IntCounter,
    /// Records read that would be sealed otherwise today: by the first of `store.encryption_keys`, or not at all.
    pub old_seals: IntCounter,
}

/// Typed records on a shelf of bytes.
pub struct Keyed<E> {
    pub(super) engine: E,
    rules: ArcSwap<Rules>,
    pub(super) counts: Counts,
    lanes: Lanes,
}

impl<E: Engine> Keyed<E> {
    /// A store over `engine`.
    pub fn new(engine: E, rules: Rules, counts: Counts) -> Self {
        Self { engine, rules: ArcSwap::from_pointee(rules), counts, lanes: Lanes::default() }
    }

    /// What is in force.
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// The engine, for those who look over its shoulder.
    pub const fn engine(&self) -> &E {
        &self.engine
    }

    async fn find(&self, key: Key, now: Timestamp) -> Result<Found, Error> {
        let Some((entry, history, stored)) = self.read(key, now).await? else { return Ok(Found::No) };
        Ok(match entry {
            Entry::Live(record) => Found::Live(Box::new(live(key, record, history, &stored))),
            // In a box, for every load would have room for it.
            Entry::Ended(tombstone) => {
                Found::Ended(Box::new(Box::pin(self.ended(key, tombstone, now)).await?))
            }
        })
    }

    /// What lies under a key and has not expired. What has is removed, unless it is to be kept for a while, and counted
    /// by whoever removes it.
    pub(super) async fn read(
        &self,
        key: Key,
        now: Timestamp,
    ) -> Result<Option<(Entry, History, Stored)>, Error> {
        let Some(stored) = self.engine.get(&key).await? else { return Ok(None) };
        if stored.until <= now {
            // It has ended, be the medium able to remove it or not.
            let kept = stored.until.plus(self.rules.load().keep_expired) > now;
            if !kept
                && self.engine.remove(&key, stored.revision).await == Ok(Swap::Done)
                && codec::is_session(&stored.value)
            {
                self.counts.expiries.inc();
            }
            return Ok(None);
        }
        let rules = self.rules.load();
        let Rules { realm, codec, .. } = &**rules;
        let decoded = if self.engine.is_own() {
            codec.decode_own(realm, &key, &stored.value)
        } else {
            codec.decode(realm, &key, &stored.value)
        };
        let (entry, history) = match decoded {
            Ok(read) => read,
            Err(_) if moving::is_nothing(&stored.value) => return Ok(None),
            Err(unreadable) => return Err(unreadable.under(&key)),
        };
        if codec.is_old(&stored.value) {
            self.counts.old_seals.inc();
        }
        Ok(Some((entry, history, stored)))
    }

    /// What an ended token still reads: its data of before, while its successor lives and is the same user's.
    async fn ended(&self, key: Key, tombstone: Tombstone, now: Timestamp) -> Result<Ended, Error> {
        let How::Cycled { successor, before, revision } = tombstone.how else {
            return Ok(Ended { key, successor: None, reads: None });
        };
        let mut ended = Ended { key, successor: Some(successor), reads: None };
        if now < tombstone.at.plus(self.rules().grace)
            && let Some(tip) = self.tip(successor, now).await?
            && self.rules().is_same_user(&before, &tip.record)
        {
            ended.reads = Some(before_cycle(key, *before, revision, &tip));
        }
        Ok(ended)
    }

    /// The live session at the end of a chain of successors.
    pub(super) async fn tip(&self, mut key: Key, now: Timestamp) -> Result<Option<Live>, Error> {
        loop {
            match self.read(key, now).await? {
                Some((Entry::Live(record), history, stored)) => {
                    return Ok(Some(live(key, record, history, &stored)));
                }
                Some((Entry::Ended(Tombstone { how: How::Cycled { successor, .. }, .. }), ..)) => {
                    key = successor
                }
                Some((Entry::Ended(Tombstone { how: How::Flushed, .. }), ..)) | None => return Ok(None),
            }
        }
    }

    /// How a session stands now that a request has read, be it under an old token.
    ///
    /// If it was cycled, what it read is what it held before, whatever time has passed since: against nothing, the
    /// user who is set again would look like one who logs in. If what goes on after it has ended too, it is as gone
    /// as if it had been flushed itself.
    pub(super) async fn again(&self, key: Key, now: Timestamp) -> Result<Found, Error> {
        let Some((entry, history, stored)) = self.read(key, now).await? else { return Ok(Found::Gone(None)) };
        Ok(match entry {
            Entry::Live(record) => Found::Live(Box::new(live(key, record, history, &stored))),
            Entry::Ended(tombstone) => {
                let mut ended = Ended { key, successor: None, reads: None };
                if let How::Cycled { successor, before, revision } = tombstone.how
                    && let Some(tip) = self.tip(successor, now).await?
                {
                    ended.successor = Some(successor);
                    ended.reads = Some(before_cycle(key, *before, revision, &tip));
                }
                Found::Gone(Some(Box::new(ended)))
            }
        })
    }
}

impl<E: Engine> Store for Keyed<E> {
    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Pending<'a, Result<Found, Error>> {
        Box::pin(self.find(Key::of(&self.rules.load().realm, token), now))
    }

    fn commit(&self, found: Found, decide: Decide, now: Timestamp) -> Pending<'_, Result<Outcome, Failed>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.rules().commit_timeout;
            let planned = decide(&found);
            if let Ok(plan) = &planned
                && plan.is_nothing()
            {
                // Who has nothing to write waits for nobody who does.
                return Ok(Outcome { row: plan.row, cookie: plan.cookie, minted: None });
            }
            match found {
                Found::Live(live) => match self.lanes.enter(live.key, Job { decide, now, deadline }).await {
                    Turn::Answered(answer) => answer,
                    Turn::Lead(lead, job) => self.lead(lead, *live, planned, job).await,
                },
                other => {
                    let progress = Progress::default();
                    let work = self.apart(other, planned, &decide, now, &progress);
                    progress.until(deadline, Box::pin(work)).await?
                }
            }
        })
    }

    fn clear_expired(&self, now: Timestamp, batch: usize) -> Pending<'_, Result<Cleared, Error>> {
        Box::pin(async move {
            let cleared = self.engine.clear_expired(now, batch).await?;
            self.counts.expiries.inc_by(cleared.sessions as u64);
            Ok(cleared)
        })
    }

    fn clears_itself(&self) -> bool {
        self.engine.clears_itself()
    }

    fn lease(
        &self,
        had: Option<Revision>,
        now: Timestamp,
        length: Duration,
    ) -> Pending<'_, Result<Option<Revision>, Error>> {
        Box::pin(lease::take(&self.engine, had, now, length))
    }

    fn reload(&self, config: &Config, rules: Rules) {
        self.rules.store(Arc::new(rules));
        self.engine.reload(config);
    }

    fn ping(&self) -> Pending<'_, Result<(), Error>> {
        Box::pin(self.engine.ping())
    }
}

/// A session as it lies there.
pub(super) fn live(key: Key, record: Record, history: History, stored: &Stored) -> Live {
    Live { key, record, revision: stored.revision, until: stored.until, history, age: Duration::ZERO }
}

/// A session as it was before it was cycled; it lives as long as what goes on after it.
const fn before_cycle(key: Key, record: Record, revision: Revision, tip: &Live) -> Live {
    Live { key, record, revision, until: tip.until, history: [None; 3], age: Duration::ZERO }
}
