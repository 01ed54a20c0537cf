//! `cookie:` — sessions in the client. The token is the session, sealed: nothing is kept here.
//!
//! Durable: as the browser keeps its cookies. A crash loses nothing. Atomic: no, nothing is compared with anything: of
//! two responses of one session the last one that the browser gets wins, and what the other changed is lost. Round trips:
//! none; with `store.revocations` load 1, save 1, create 0, flush and cycle-key 1. Evicted is whatever the browser gives
//! up when it has too many cookies; from the list of revocations nothing may be, for a session that was ended would be
//! there again.
//!
//! Section 5 of the contract does not hold here. `X-Session-Increment` and `X-Session-If-Version` need an engine that
//! compares, and are refused. What does hold is all that one request sees: a session is saved when it is modified, a
//! flush begins a new one, cycle-key gives it a new id, an expiry is the sidecar's word and not the browser's.
//!
//! # What has ended
//! A logout removes the cookie, and whoever has a copy of it goes on until that expires: this is what a store is for.
//! `store.revocations` names an engine that keeps the ids of sessions that were flushed, or that got another id, until
//! the last copy has expired. Every load asks it. If it can't be asked nobody knows whether the session lives, and
//! that is neither yes nor no: the request fares as with any store that is ill. A session that was revoked while a
//! request of its was under way is gone when that is to be saved. In the ten seconds of `session.grace` a request that
//! still has the cookie from before cycle-key reads what that holds.

mod commit;
mod revocations;
mod seal;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use tokio::time::Instant;

use self::commit::Term;
use self::revocations::{Revocations, Revoked};
pub use self::seal::fits;
use super::engine::{Cleared, Engine};
use super::keyed::Rules;
use super::write::{Progress, new_revision};
use super::{Config, Decide, Error, Failed, Kind, Outcome, Pending, Store, lease};
use crate::session::expiry::LONGEST_COOKIE;
use crate::session::{Denied, Ended, Found, Key, Live, Reason, Record, Refusal, Revision, Token};
use crate::time::Timestamp;

/// The scheme of `store.url`.
pub const SCHEME: &str = "cookie";

/// What the store needs to know of the cookies.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The names that sessions are sealed for: `cookie.name`, and those of `cookie.previous`, which only open.
    pub names: Vec<String>,
    /// `cookie.age`.
    pub age: Duration,
    /// Bytes of a sealed session that browsers take, in as many cookies as there can be.
    pub room: usize,
}

/// What is counted of cookies that hold a session and are not taken.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Their time is over.
    pub expired: IntCounter,
    /// Made up, changed, or made for another cookie.
    pub forged: IntCounter,
    /// Sealed with a key that is no more in `store.encryption_keys`.
    pub unknown_key: IntCounter,
    /// Ours and whole, in a form that this version doesn't know.
    pub unreadable: IntCounter,
    /// Taken, and sealed with another key than the first.
    pub old_seals: IntCounter,
}

/// The store that keeps nothing, perhaps with a list of what has ended.
pub struct Cookie {
    list: Option<Revocations>,
    rules: ArcSwap<Rules>,
    counts: Counts,
}

/// What goes on after a session that ended by cycle-key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// Nothing: that was flushed.
    Nothing,
    /// The same user's session.
    SameUser,
    /// The session of another user.
    AnotherUser,
}

impl Cookie {
    /// A store without a list.
    pub fn new(rules: Rules, counts: Counts) -> Self {
        Self { list: None, rules: ArcSwap::from_pointee(rules), counts }
    }

    /// A store whose list of what has ended lies on an engine.
    pub fn with_list(engine: impl Engine, rules: Rules, counts: Counts) -> Self {
        Self { list: Some(Revocations::on(engine)), ..Self::new(rules, counts) }
    }

    /// What a token holds, if it is ours and its time is not over.
    fn open(&self, token: &Token, now: Timestamp) -> Option<Live> {
        let rules = self.rules.load();
        let ring = rules.codec.ring();
        let opened = match seal::open(ring, &rules.realm, &rules.cookies.names, token.sealed()?) {
            Ok(opened) => opened,
            Err(refused) => {
                let count = match refused {
                    seal::Refused::Forged => &self.counts.forged,
                    seal::Refused::UnknownKey => &self.counts.unknown_key,
                    seal::Refused::Unreadable => &self.counts.unreadable,
                };
                count.inc();
                return None;
            }
        };
        if opened.live.until <= now {
            self.counts.expired.inc();
            return None;
        }
        if ring.first().is_some_and(|first| first.id != opened.by) {
            self.counts.old_seals.inc();
        }
        Some(opened.live)
    }

    /// Seals a session, and says what its cookie tells. It ends no later than any browser would keep it, so that it is
    /// known when the last copy does.
    fn seal(
        &self,
        id: (&Key, Revision),
        record: &Record,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(Token, Term), Failed> {
        let rules = self.rules.load();
        let no_key = || Error::new(Kind::Refused, "there is no key to seal a session with");
        let with = rules.codec.ring().first().ok_or_else(no_key)?;
        let name = rules.cookies.names.first().map_or("", String::as_str);
        let (until, age) = (until.min(now.plus(LONGEST_COOKIE)), rules.cookies.age);
        let sealed = seal::seal(with, &rules.realm, name, id, record.clone(), (until, age))?;
        if sealed.len() > rules.cookies.room {
            // Changes that grow too large were refused before: the cookies have less room than they had.
            let detail = format!(
                "the session takes {} bytes; cookies have room for {}",
                sealed.len(),
                rules.cookies.room
            );
            return Err(Denied::Refused(Refusal::new("Save", Reason::TooLarge, detail)).into());
        }
        Ok((Token::of_sealed(sealed), Term::of(record.expiry, age, until, now)))
    }

    /// How a session ended; `None` of one that goes on, and always without a list.
    async fn revoked(&self, id: &Key, now: Timestamp) -> Result<Option<Revoked>, Error> {
        match &self.list {
            None => Ok(None),
            Some(list) => list.look(id, now).await,
        }
    }

    /// What goes on at the end of a chain of successors.
    async fn after(&self, mut id: Key, now: Timestamp) -> Result<After, Error> {
        let mut after = After::SameUser;
        loop {
            match self.revoked(&id, now).await? {
                None => return Ok(after),
                Some(Revoked::Flushed) => return Ok(After::Nothing),
                Some(Revoked::Cycled { successor, same_user, .. }) => {
                    after = if same_user { after } else { After::AnotherUser };
                    id = successor;
                }
            }
        }
    }

    async fn find(&self, token: &Token, now: Timestamp) -> Result<Found, Error> {
        let Some(live) = self.open(token, now) else { return Ok(Found::No) };
        let key = live.key;
        let (successor, reads) = match self.revoked(&key, now).await? {
            None => return Ok(Found::Live(Box::new(live))),
            Some(Revoked::Flushed) => (None, None),
            Some(Revoked::Cycled { successor, at, same_user }) => {
                let in_grace = same_user && now < at.plus(self.rules.load().grace);
                let reads = in_grace && self.after(successor, now).await? == After::SameUser;
                (Some(successor), reads.then_some(live))
            }
        };
        Ok(Found::Ended(Box::new(Ended { key, successor, reads })))
    }
}

impl Store for Cookie {
    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Pending<'a, Result<Found, Error>> {
        Box::pin(self.find(token, now))
    }

    fn commit(&self, found: Found, decide: Decide, now: Timestamp) -> Pending<'_, Result<Outcome, Failed>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.rules.load().commit_timeout;
            let progress = Progress::default();
            let work = async { Ok(self.work(found, &decide, now, &progress).await) };
            progress.until(deadline, Box::pin(work)).await?
        })
    }

    fn clear_expired(&self, now: Timestamp, batch: usize) -> Pending<'_, Result<Cleared, Error>> {
        match &self.list {
            None => Box::pin(std::future::ready(Ok(Cleared::default()))),
            Some(list) => Box::pin(list.engine().clear_expired(now, batch)),
        }
    }

    fn clears_itself(&self) -> bool {
        self.list.as_ref().is_none_or(|list| list.engine().clears_itself())
    }

    fn lease(
        &self,
        had: Option<Revision>,
        now: Timestamp,
        length: Duration,
    ) -> Pending<'_, Result<Option<Revision>, Error>> {
        match &self.list {
            None => Box::pin(std::future::ready(new_revision().map(Some))),
            Some(list) => Box::pin(lease::take(list.engine(), had, now, length)),
        }
    }

    fn reload(&self, config: &Config, rules: Rules) {
        self.rules.store(Arc::new(rules));
        if let (Some(list), Some(config)) = (&self.list, config.revocations()) {
            list.engine().reload(&config);
        }
    }

    fn ping(&self) -> Pending<'_, Result<(), Error>> {
        match &self.list {
            None => Box::pin(std::future::ready(Ok(()))),
            Some(list) => Box::pin(list.engine().ping()),
        }
    }
}
