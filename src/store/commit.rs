//! The compare-and-swap loop, written once for all engines: from jobs to writes, from writes to answers.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use aws_lc_rs::rand;
use tokio::time::{Instant, timeout_at};

use super::codec::native;
use super::engine::{Engine, Stored, Swap, Worth};
use super::keyed::Keyed;
use super::lane::{Answer, Job};
use super::{Error, Kind, Outcome};
use crate::session::record::{Entry, How, Tombstone};
use crate::session::{Found, History, Key, Live, Old, Plan, Record, Revision, Token};
use crate::time::Timestamp;

/// How far a piece of work has come, for the case that it is cut off.
#[derive(Default)]
pub(super) struct Progress {
    /// Jobs that one write stands for.
    jobs: AtomicUsize,
    /// A write was sent.
    sent: AtomicBool,
}

impl Progress {
    /// Runs `work` until `deadline`.
    pub(super) async fn until<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = |_| {
            let kind = if self.sent.load(Relaxed) { Kind::OutcomeUnknown } else { Kind::Timeout };
            Error::new(kind, "the store did not answer within store.commit_timeout")
        };
        timeout_at(deadline, work).await.map_err(late)?
    }
}

impl<E: Engine> Keyed<E> {
    /// Commits all jobs of one session, as many in one write as only save. Answers stand in the order of the jobs.
    pub(super) async fn serve(&self, loaded: Live, jobs: Vec<Job>) -> (Vec<Answer>, Option<Live>) {
        let key = loaded.key;
        let mut stands = Some(Found::Live(Box::new(loaded)));
        let mut answers: Vec<Answer> = Vec::with_capacity(jobs.len());
        while let Some(job) = jobs.get(answers.len()) {
            let progress = Progress::default();
            let round = self.round(key, &mut stands, &jobs[answers.len()..], &progress);
            match progress.until(job.deadline, round).await {
                Ok(more) => answers.extend(more),
                Err(error) => {
                    // A write that stood for several jobs failed for all of them: none may be tried a second time.
                    stands = None;
                    let failed = progress.jobs.load(Relaxed).max(1);
                    answers.extend((0..failed).map(|_| Err(error.clone().into())));
                }
            }
        }
        let left = match stands {
            Some(Found::Live(live)) => Some(*live),
            _ => None,
        };
        (answers, left)
    }

    /// One write at most: of the saves at the head of `jobs` together, or of the first job alone. No answer means
    /// that the record was not what it seemed, and nothing was written.
    async fn round(
        &self,
        key: Key,
        stands: &mut Option<Found>,
        jobs: &[Job],
        progress: &Progress,
    ) -> Result<Vec<Answer>, Error> {
        let now = jobs[0].now;
        let seen = match stands.take() {
            Some(Found::Live(live)) if live.until > now => Found::Live(live),
            Some(Found::Live(_)) | None => self.again(key, now).await?,
            Some(other) => other,
        };
        let mut at = seen.clone();
        let mut answers = Vec::new();
        for job in jobs {
            let plan = match (job.decide)(&at) {
                Ok(plan) => plan,
                Err(denied) => {
                    answers.push(Err(denied.into()));
                    continue;
                }
            };
            let (row, cookie) = (plan.row, plan.cookie);
            match (plan, &at) {
                (plan, _) if plan.is_nothing() => {}
                (Plan { old: Old::Save(record, until), new: None, .. }, Found::Live(before)) => {
                    let next = Live { record: *record, until, revision: revision()?, ..(**before).clone() };
                    at = Found::Live(Box::new(next));
                }
                (plan, _) if answers.is_empty() => return self.alone(&seen, plan, job.now, progress).await,
                _ => break,
            }
            answers.push(Ok(Outcome { row, cookie, minted: None }));
        }
        progress.jobs.store(answers.len(), Relaxed);
        if let (Found::Live(before), Found::Live(after)) = (&seen, &mut at)
            && before.revision != after.revision
        {
            after.history = older(before);
            let new = shelve(&Entry::Live(after.record.clone()), after);
            progress.sent.store(true, Relaxed);
            if self.swap(key, before.revision, new, self.worth(&after.record)).await? != Swap::Done {
                self.counts.conflicts.inc();
                return Ok(Vec::new());
            }
        }
        *stands = Some(at);
        Ok(answers)
    }

    /// Carries out a plan that can't be combined with others.
    async fn alone(
        &self,
        seen: &Found,
        plan: Plan,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Vec<Answer>, Error> {
        progress.sent.store(true, Relaxed);
        let done = match seen {
            Found::Live(live) => self.here(live, plan, now).await?,
            _ => Some(self.elsewhere(seen, plan, now, progress).await?),
        };
        if done.is_none() {
            self.counts.conflicts.inc();
        }
        Ok(done.map(Ok).into_iter().collect())
    }

    /// Carries out a plan for a session that stands; `None` if it does not stand as it was seen.
    async fn here(&self, live: &Live, plan: Plan, now: Timestamp) -> Result<Option<Outcome>, Error> {
        let Plan { row, old, new, cookie } = plan;
        let created = match &new {
            Some((record, until)) => Some(self.create(record, *until).await?),
            None => None,
        };
        let swapped = match (old, &created) {
            (Old::Touch(until), _) => self.engine.touch(&live.key, live.revision, until).await,
            (Old::Cycle, Some((_, successor, _))) => {
                let before = Box::new(live.record.clone());
                let how = How::Cycled { successor: *successor, before, revision: live.revision };
                self.end(live, how, now).await
            }
            (Old::End | Old::Cycle, _) => self.end(live, How::Flushed, now).await,
            (Old::Keep | Old::Save(..), _) => Ok(Swap::Done),
        };
        if let (Err(_) | Ok(Swap::Changed | Swap::Gone), Some((_, key, revision))) = (&swapped, created) {
            // Nobody has seen its token. If this fails too it stays an orphan until it expires.
            drop(self.engine.remove(&key, revision).await);
        }
        let minted = created.map(|(token, ..)| token);
        Ok((swapped? == Swap::Done).then_some(Outcome { row, cookie, minted }))
    }

    /// Carries out a plan where no session stands under the token: ends what goes on after it, creates a new one.
    pub(super) async fn elsewhere(
        &self,
        found: &Found,
        plan: Plan,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Outcome, Error> {
        progress.sent.store(!plan.is_nothing(), Relaxed);
        let Plan { row, old, new, cookie } = plan;
        // Ending comes first: a logout must hold even if the new session can't be made.
        if let (Old::End, Found::Ended(ended) | Found::Gone(Some(ended))) = (&old, found)
            && let Some(successor) = ended.successor
        {
            while let Some(tip) = self.tip(successor, now).await? {
                if self.end(&tip, How::Flushed, now).await? == Swap::Done {
                    break;
                }
                self.counts.conflicts.inc();
            }
        }
        let minted = match new {
            Some((record, until)) => Some(self.create(&record, until).await?.0),
            None => None,
        };
        Ok(Outcome { row, cookie, minted })
    }

    /// Replaces a session by the memory of it.
    async fn end(&self, live: &Live, how: How, now: Timestamp) -> Result<Swap, Error> {
        if self.rules.ended_memory.is_zero() {
            return self.engine.remove(&live.key, live.revision).await;
        }
        let mut next = live.clone();
        (next.revision, next.history, next.until) =
            (revision()?, older(live), now.plus(self.rules.ended_memory));
        let new = shelve(&Entry::Ended(Tombstone { at: now, how }), &next);
        self.swap(live.key, live.revision, new, Worth::Ended).await
    }

    /// Files a record under a token that nobody has.
    async fn create(&self, record: &Record, until: Timestamp) -> Result<(Token, Key, Revision), Error> {
        loop {
            let token = Token::from_bits(&random()?);
            let key = Key::of(&self.rules.realm, &token);
            let value = native::encode(&Entry::Live(record.clone()), &[None; 3]);
            let new = Stored { value, revision: revision()?, until };
            let (mine, worth) = (new.revision, self.worth(record));
            let added = match self.engine.add(&key, new.clone(), worth).await {
                Ok(added) => added,
                // It may have been added all the same; then the key is taken, by us.
                Err(_) => {
                    self.engine.add(&key, new, worth).await?
                        || self.engine.get(&key).await?.is_some_and(|there| there.revision == mine)
                }
            };
            if added {
                return Ok((token, key, mine));
            }
        }
    }

    /// Replaces, and where the outcome is unknown finds out.
    async fn swap(&self, key: Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        let mine = new.revision;
        let mut sent = self.engine.replace(&key, seen, new.clone(), worth).await;
        let mut doubt: Option<Error> = None;
        loop {
            doubt = match (sent, doubt) {
                (Ok(Swap::Done), _) => return Ok(Swap::Done),
                (Ok(other), None) => return Ok(other),
                (Ok(_), Some(doubt)) => Some(doubt),
                (Err(error), None) if matches!(error.kind, Kind::Refused | Kind::Unreachable) => {
                    return Err(error);
                }
                (Err(error), _) => Some(error),
            };
            let unknown = |what: &str| {
                let first = doubt.as_ref().map_or_else(String::new, ToString::to_string);
                Error::new(Kind::OutcomeUnknown, format!("{first}; {what}"))
            };
            let Some(there) = self.engine.get(&key).await.map_err(|_| unknown("reading back failed too"))?
            else {
                return Err(unknown("and the record is gone"));
            };
            let history = native::decode(&there.value).map_err(|_| unknown("and the record is corrupt"))?.1;
            if there.revision == mine || history.contains(&Some(mine)) {
                return Ok(Swap::Done);
            }
            if there.revision != seen {
                // Somebody else replaced what we saw, so ours came too late; unless that is too long ago to tell.
                let late = history.contains(&Some(seen));
                return if late { Ok(Swap::Changed) } else { Err(unknown("and too much was written since")) };
            }
            // Not there yet. It may still come, but only once: the same revision is written again.
            sent = self.engine.replace(&key, seen, new.clone(), worth).await;
        }
    }

    fn worth(&self, record: &Record) -> Worth {
        let known = || self.rules.cycle_on.iter().any(|name| record.data.non_null(name).is_some());
        if record.subject.is_some() || known() { Worth::Known } else { Worth::Anonymous }
    }
}

fn shelve(entry: &Entry, state: &Live) -> Stored {
    Stored { value: native::encode(entry, &state.history), revision: state.revision, until: state.until }
}

/// The history of what replaces a session.
fn older(live: &Live) -> History {
    let [first, second, _] = live.history;
    [Some(live.revision), first, second]
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bits = [0; N];
    rand::fill(&mut bits).map_err(|_| Error::new(Kind::Unreachable, "the system gives no random numbers"))?;
    Ok(bits)
}

fn revision() -> Result<Revision, Error> {
    loop {
        if let Some(revision) = Revision::from_bits(u64::from_ne_bytes(random()?)) {
            return Ok(revision);
        }
    }
}
