//! What becomes of a session in its cookie: sealed anew, begun, or noted as ended.

use std::time::Duration;

use super::revocations::{MARGIN, Note, Revoked};
use super::{After, Cookie};
use crate::session::expiry::LONGEST_COOKIE;
use crate::session::{Ended, Expiry, Found, Key, Live, Old, Plan, Record, Token};
use crate::store::write::{Progress, new_revision, random};
use crate::store::{Decide, Error, Failed, Outcome};
use crate::time::Timestamp;

/// What a cookie tells of the others of its session: a logout has nothing else to reckon with.
#[derive(Clone, Copy)]
pub(super) struct Term {
    /// How long each of them is good for when it is renewed; `None` = all of them until the same date.
    length: Option<Duration>,
    /// When the last one of them expires, if they are renewed until now.
    last: Timestamp,
}

impl Term {
    /// What one tells that has this expiry and end, and was sealed while `cookie.age` was this.
    pub(super) fn of(expiry: Expiry, age: Duration, until: Timestamp, now: Timestamp) -> Self {
        let length = match expiry {
            Expiry::Default | Expiry::Browser => Some(age),
            Expiry::Idle(secs) => Some(Duration::from_secs(secs)),
            Expiry::At(_) => None,
        };
        let renewed = length.map_or(until, |length| now.plus(length));
        Self { length, last: renewed.max(until).min(now.plus(LONGEST_COOKIE)) }
    }

    /// Do both tell the same? Clocks that are apart make no difference.
    fn is_that_of(self, other: Self) -> bool {
        let renewed_alike = self.length.is_some() && self.length == other.length;
        let apart = if renewed_alike { MARGIN / 2 } else { Duration::ZERO };
        self.last <= other.last.plus(apart) && other.last <= self.last.plus(apart)
    }
}

/// What is done to the session that was found before the response may say so.
enum Step {
    /// It goes on, if it was not ended meanwhile, as a cookie that tells this.
    Goes(Term),
    /// It ends so.
    Ends(Revoked),
}

impl Cookie {
    /// How a session stands now that a request has read.
    async fn again(&self, live: &Live, now: Timestamp) -> Result<Found, Error> {
        if live.until <= now {
            return Ok(Found::Gone(None));
        }
        let mut ended = Ended { key: live.key, successor: None, reads: None };
        match self.revoked(&live.key, now).await? {
            None => return Ok(Found::Live(Box::new(live.clone()))),
            Some(Revoked::Cycled { successor, .. })
                if self.after(successor, now).await? != After::Nothing =>
            {
                (ended.successor, ended.reads) = (Some(successor), Some(live.clone()));
            }
            Some(Revoked::Cycled { .. } | Revoked::Flushed) => {}
        }
        Ok(Found::Gone(Some(Box::new(ended))))
    }

    /// Carries out what `decide` makes of a session, and asks it again where that has ended meanwhile.
    pub(super) async fn work(
        &self,
        mut found: Found,
        decide: &Decide,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Outcome, Failed> {
        if let Found::Live(live) = &found
            && live.until <= now
        {
            found = Found::Gone(None);
        }
        loop {
            let plan = decide(&found)?;
            if plan.is_nothing() {
                return Ok(Outcome { row: plan.row, cookie: plan.cookie, minted: None });
            }
            let done = match &found {
                Found::Live(live) => self.here(live, plan, now, progress).await?,
                other => self.elsewhere(other, plan, now, progress).await?,
            };
            if let Some(outcome) = done {
                return Ok(outcome);
            }
            found = match &found {
                Found::Live(live) => self.again(live, now).await?,
                Found::Ended(ended) | Found::Gone(Some(ended)) => {
                    Found::Gone(Some(Box::new(Ended { key: ended.key, successor: None, reads: None })))
                }
                _ => Found::Gone(None),
            };
        }
    }

    /// Carries out a plan for a session that was found; `None` if it has ended meanwhile.
    async fn here(
        &self,
        live: &Live,
        plan: Plan,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Option<Outcome>, Failed> {
        let Plan { row, old, new, cookie, .. } = plan;
        let created = match &new {
            Some((record, until)) => Some(self.mint(record, *until, now)?),
            None => None,
        };
        let shown = Term::of(live.record.expiry, live.age, live.until, now);
        // What can be refused comes first, and what can't be taken back last.
        let (step, minted) = match (old, created) {
            (Old::Touch(until), _) => {
                let (token, term) = self.seal((&live.key, live.revision), &live.record, until, now)?;
                (Step::Goes(term), Some(token))
            }
            (Old::Save(record, until), _) => {
                let (token, term) = self.seal((&live.key, new_revision()?), &record, until, now)?;
                (Step::Goes(term), Some(token))
            }
            (Old::Cycle, Some((successor, token))) => {
                let after = new.as_ref().map(|(record, _)| &**record);
                let same_user =
                    after.is_some_and(|after| self.rules.load().is_same_user(&live.record, after));
                (Step::Ends(Revoked::Cycled { successor, at: now, same_user }), Some(token))
            }
            (Old::End | Old::Cycle, created) => {
                (Step::Ends(Revoked::Flushed), created.map(|(_, token)| token))
            }
            (Old::Keep, created) => (Step::Goes(shown), created.map(|(_, token)| token)),
        };
        let stands = match step {
            Step::Goes(term) if term.is_that_of(shown) => self.revoked(&live.key, now).await?.is_none(),
            Step::Goes(term) => {
                let last = term.last.max(shown.last);
                self.note(&live.key, Note::Prolonged, now, last, progress).await?
            }
            Step::Ends(how) => self.note(&live.key, Note::Revoked(how), now, shown.last, progress).await?,
        };
        Ok(stands.then_some(Outcome { row, cookie, minted }))
    }

    /// Carries out a plan where no session was found: ends what goes on after it, begins a new one. `None` if what goes
    /// on after it has ended in the meantime, so that what was read must not go on either.
    async fn elsewhere(
        &self,
        found: &Found,
        plan: Plan,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Option<Outcome>, Failed> {
        let Plan { row, old, new, cookie, .. } = plan;
        let ended = match found {
            Found::Ended(ended) | Found::Gone(Some(ended)) => Some(ended),
            _ => None,
        };
        let successor = ended.and_then(|ended| ended.successor);
        let minted = match &new {
            Some((record, until)) => Some(self.mint(record, *until, now)?.1),
            None => None,
        };
        match (old, successor, ended.and_then(|ended| ended.reads.as_ref())) {
            (Old::End, Some(successor), _) => self.end(successor, now, progress).await?,
            // A session of its own begins with what an old token read, unless a logout came before it.
            (Old::Keep, Some(successor), Some(_))
                if minted.is_some() && self.after(successor, now).await? == After::Nothing =>
            {
                return Ok(None);
            }
            _ => {}
        }
        Ok(Some(Outcome { row, cookie, minted }))
    }

    /// Ends what goes on after a session. Nobody has shown its cookie, so nobody knows when that expires.
    async fn end(&self, mut id: Key, now: Timestamp, progress: &Progress) -> Result<(), Error> {
        loop {
            match self.revoked(&id, now).await? {
                Some(Revoked::Flushed) => return Ok(()),
                Some(Revoked::Cycled { successor, .. }) => id = successor,
                None => {
                    let last = now.plus(LONGEST_COOKIE);
                    if self.note(&id, Note::Revoked(Revoked::Flushed), now, last, progress).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Seals a session that begins, or goes on under another id.
    fn mint(&self, record: &Record, until: Timestamp, now: Timestamp) -> Result<(Key, Token), Failed> {
        let id = Key::from_bytes(random()?);
        let (token, _) = self.seal((&id, new_revision()?), record, until, now)?;
        Ok((id, token))
    }

    /// Notes something of a session, where there is a list; `false` if it has ended before.
    async fn note(
        &self,
        id: &Key,
        note: Note,
        now: Timestamp,
        until: Timestamp,
        progress: &Progress,
    ) -> Result<bool, Error> {
        let Some(list) = &self.list else { return Ok(true) };
        progress.sends();
        list.note(id, note, now, until).await
    }
}
