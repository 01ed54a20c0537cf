//! The compare-and-swap loop, written once for all engines: from jobs to writes, from writes to answers.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aws_lc_rs::rand;
use tokio::time::{Instant, timeout_at};

use super::codec::native;
use super::engine::{Engine, Stored, Swap, Worth};
use super::keyed::Keyed;
use super::lane::{Answer, Job, Lead, Waiting};
use super::{Error, Kind, Outcome};
use crate::session::record::{Entry, How, Tombstone};
use crate::session::{Denied, Found, History, Key, Live, Old, Plan, Record, Revision, Token};
use crate::time::Timestamp;

/// How often a write is sent whose answers are lost.
const TRIES: u32 = 3;

/// How far a piece of work has come, for the case that it is cut off.
#[derive(Default)]
pub(super) struct Progress {
    /// A write was sent.
    sent: AtomicBool,
}

impl Progress {
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

/// What a leader goes by before it reads anything.
struct Believed {
    /// The session as it was loaded, or as the leader before left it.
    live: Live,
    /// What was decided of it, where that was asked already.
    planned: Option<Result<Plan, Denied>>,
}

/// What one job makes of a session, after those before it in the same write.
enum Step {
    /// Saved with the others, or nothing to write; the session as it then stands is in the hands of the caller.
    Joined(Answer),
    /// It needs a write of its own.
    Alone(Plan),
}

impl<E: Engine> Keyed<E> {
    /// Commits the job of a session's leader, and in the same write those of others who wait.
    pub(super) async fn lead(
        &self,
        mut lead: Lead,
        loaded: Live,
        planned: Result<Plan, Denied>,
        job: Job,
    ) -> Answer {
        let mut believed = Some(match lead.left.take() {
            Some(left) => Believed { live: *left, planned: None },
            None => Believed { live: loaded, planned: Some(planned) },
        });
        loop {
            let progress = Progress::default();
            let round = self.round(&mut lead, believed.take(), &job, &progress);
            if let Some(answer) = progress.until(job.deadline, round).await? {
                return answer;
            }
        }
    }

    /// One write at most: of the leader's save and those of others together, or of the leader's job alone. `None`
    /// means that the session was not what it seemed, and nothing was written.
    async fn round(
        &self,
        lead: &mut Lead,
        believed: Option<Believed>,
        job: &Job,
        progress: &Progress,
    ) -> Result<Option<Answer>, Error> {
        let believed = believed.filter(|believed| believed.live.until > job.now);
        let fresh = believed.is_none();
        let (seen, planned, before) = match believed {
            Some(Believed { live, planned }) => (Found::Live(Box::new(live)), planned, u64::MAX),
            None => {
                // Who enters later may have read something newer than what is read here.
                let before = lead.present();
                (self.again(lead.key, job.now).await?, None, before)
            }
        };
        let (mut at, mine) = (seen.clone(), revision()?);
        let planned = planned.unwrap_or_else(|| (job.decide)(&seen));
        let answer = match step(&mut at, planned, mine) {
            Step::Joined(answer) => answer,
            Step::Alone(plan) => return Ok(self.alone(&seen, plan, job.now, progress).await?.map(Ok)),
        };
        let (joined, answers) = join(lead, before, &mut at, mine);
        let told = |joined: Vec<Waiting>| {
            joined.into_iter().zip(answers).for_each(|(waiting, answer)| waiting.answer(answer));
        };
        let (seen, mut after) = match (&seen, at) {
            (Found::Live(seen), Found::Live(after)) if after.revision == mine => (seen, after),
            _ if fresh => {
                told(joined);
                return Ok(Some(answer));
            }
            _ => {
                // Nothing to write, or not allowed to: that is believed of a session only as it stands by now.
                lead.give_back(joined);
                return Ok(None);
            }
        };
        after.history = older(seen);
        let new = shelve(&Entry::Live(after.record.clone()), &after);
        progress.sent.store(true, Relaxed);
        match self.swap(lead.key, seen.revision, new, self.worth(&after.record)).await {
            Ok(Swap::Done) => {}
            Ok(Swap::Changed | Swap::Gone) => {
                lead.give_back(joined);
                self.counts.conflicts.inc();
                return Ok(None);
            }
            Err(error) => {
                joined.into_iter().for_each(|waiting| waiting.answer(Err(error.clone().into())));
                return Err(error);
            }
        }
        told(joined);
        lead.left = Some(after);
        Ok(Some(answer))
    }

    /// Carries out a plan that can't be combined with others.
    async fn alone(
        &self,
        seen: &Found,
        plan: Plan,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Option<Outcome>, Error> {
        progress.sent.store(true, Relaxed);
        let done = match seen {
            Found::Live(live) => self.here(live, plan, now).await?,
            _ => Some(self.elsewhere(seen, plan, now, progress).await?),
        };
        if done.is_none() {
            self.counts.conflicts.inc();
        }
        Ok(done)
    }

    /// Carries out a plan for a session that stands; `None` if it does not stand as it was seen.
    async fn here(&self, live: &Live, plan: Plan, now: Timestamp) -> Result<Option<Outcome>, Error> {
        let Plan { row, old, new, cookie } = plan;
        let cycles = old == Old::Cycle;
        let created = match &new {
            Some((record, until)) => Some(self.create(record, *until).await?),
            None => None,
        };
        let swapped = match (old, &created) {
            (Old::Touch(until), _) => {
                let touch = || self.engine.touch(&live.key, live.revision, until);
                insist(touch).await.map(|(swap, _)| swap)
            }
            (Old::Cycle, Some((_, successor, _))) => {
                let before = Box::new(live.record.clone());
                let how = How::Cycled { successor: *successor, before, revision: live.revision };
                self.end(live, how, now).await
            }
            (Old::End | Old::Cycle, _) => self.end(live, How::Flushed, now).await,
            (Old::Keep | Old::Save(..), _) => Ok(Swap::Done),
        };
        // Where the new record certainly has no part in it, it is tidied away: nobody has seen its token, and if this
        // fails too it stays an orphan until it expires. Of a cycle that may have happened it is what goes on.
        let stays = match &swapped {
            Ok(swap) => *swap == Swap::Done,
            Err(error) => cycles && error.kind == Kind::OutcomeUnknown,
        };
        if let Some((_, key, revision)) = created
            && !stays
        {
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
            return match insist(|| self.engine.remove(&live.key, live.revision)).await? {
                // Gone, perhaps by the first try: a flush wanted no more, but did this cycle end it or a flush?
                (Swap::Gone, true) if how == How::Flushed => Ok(Swap::Done),
                (Swap::Gone, true) => {
                    Err(Error::new(Kind::OutcomeUnknown, "the record is gone, nobody knows by whom"))
                }
                (swap, _) => Ok(swap),
            };
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
        let mut doubt: Option<Error> = None;
        for _ in 0..TRIES {
            // If it is not the first time: the first one may still arrive, but only one of them can find what was seen.
            doubt = match (self.engine.replace(&key, seen, new.clone(), worth).await, doubt) {
                (Ok(Swap::Done), _) => return Ok(Swap::Done),
                (Ok(other), None) => return Ok(other),
                (Ok(_), doubt) => doubt,
                (Err(error), None) if nothing_happened(&error) => return Err(error),
                (Err(error), _) => Some(error),
            };
            let unknown = |what| Err(unknown(doubt.as_ref(), what));
            let Ok(there) = self.engine.get(&key).await else { return unknown("reading back failed too") };
            let Some(there) = there else { return unknown("the record is gone") };
            let Ok((_, history)) = native::decode(&there.value) else {
                return unknown("the record is corrupt");
            };
            if there.revision == mine || history.contains(&Some(mine)) {
                return Ok(Swap::Done);
            }
            if there.revision != seen {
                // Somebody else replaced what we saw, so ours came too late; unless that is too long ago to tell.
                let late = history.contains(&Some(seen));
                return if late { Ok(Swap::Changed) } else { unknown("too much was written since") };
            }
        }
        Err(unknown(doubt.as_ref(), "no other try fared better"))
    }

    fn worth(&self, record: &Record) -> Worth {
        let known = || self.rules.cycle_on.iter().any(|name| record.data.non_null(name).is_some());
        if record.subject.is_some() || known() { Worth::Known } else { Worth::Anonymous }
    }
}

/// Takes the step of one job: `at` is then the session with what it saves, under the revision of the common write.
fn step(at: &mut Found, planned: Result<Plan, Denied>, mine: Revision) -> Step {
    let plan = match planned {
        Ok(plan) => plan,
        Err(denied) => return Step::Joined(Err(denied.into())),
    };
    let outcome = Outcome { row: plan.row, cookie: plan.cookie, minted: None };
    match (plan, at) {
        (plan, _) if plan.is_nothing() => {}
        (Plan { old: Old::Save(record, until), new: None, .. }, Found::Live(live)) => {
            (live.record, live.until, live.revision) = (*record, until, mine);
        }
        (plan, _) => return Step::Alone(plan),
    }
    Step::Joined(Ok(outcome))
}

/// Lets those who wait take their steps too, the first to come first, up to one that needs a write of its own.
fn join(lead: &Lead, before: u64, at: &mut Found, mine: Revision) -> (Vec<Waiting>, Vec<Answer>) {
    let (mut claimed, mut answers) = (lead.claim(before), Vec::new());
    for Waiting { job, .. } in &claimed {
        if matches!(at, Found::Live(live) if live.until <= job.now) {
            break;
        }
        // One whose decision panics is to do so when it leads, in a task of its own.
        let planned = catch_unwind(AssertUnwindSafe(|| (job.decide)(at)));
        match planned.map(|planned| step(at, planned, mine)) {
            Ok(Step::Joined(answer)) => answers.push(answer),
            Ok(Step::Alone(_)) | Err(_) => break,
        }
    }
    lead.give_back(claimed.split_off(answers.len()));
    (claimed, answers)
}

fn shelve(entry: &Entry, state: &Live) -> Stored {
    Stored { value: native::encode(entry, &state.history), revision: state.revision, until: state.until }
}

fn unknown(doubt: Option<&Error>, what: &str) -> Error {
    let first = doubt.map_or_else(String::new, |first| format!("{first}; "));
    Error::new(Kind::OutcomeUnknown, first + what)
}

/// Does an error say that its write did not happen?
const fn nothing_happened(error: &Error) -> bool {
    matches!(error.kind, Kind::Unreachable | Kind::Refused)
}

/// Sends a write that may be sent twice, and says whether the answer to the first try was lost.
async fn insist<T, F>(send: impl Fn() -> F) -> Result<(T, bool), Error>
where
    F: Future<Output = Result<T, Error>>,
{
    match send().await {
        Ok(done) => Ok((done, false)),
        Err(error) if nothing_happened(&error) => Err(error),
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
