//! The compare-and-swap loop, written once for all engines: from jobs to writes, from writes to answers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::engine::{Engine, Swap};
use super::keyed::{Keyed, live};
use super::lane::{Answer, Job, Lead, Waiting};
use super::write::{Progress, new_revision, unknown};
use super::{Decide, Error, Kind, Outcome};
use crate::session::record::Entry;
use crate::session::{Denied, Found, How, Key, Live, Old, Plan, Revision, Row};
use crate::time::Timestamp;

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
            // In a box, for it has kilobytes, which each future around it would have room for twice.
            let round = Box::pin(self.round(&mut lead, believed.take(), &job, &progress));
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
        let (mut at, mine) = (seen.clone(), new_revision()?);
        let planned = planned.unwrap_or_else(|| (job.decide)(&seen));
        if !fresh && planned.as_ref().is_ok_and(|plan| plan.looks_anew) {
            return Ok(None);
        }
        let answer = match step(&mut at, planned, mine) {
            Step::Joined(answer) => answer,
            Step::Alone(plan) => {
                return Ok(Box::pin(self.alone(&seen, plan, job.now, progress)).await?.map(Ok));
            }
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
        match self.save(seen, &mut after, progress).await {
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
        let done = match seen {
            Found::Live(live) => self.here(live, plan, now, progress).await?,
            _ => self.elsewhere(seen, plan, now, progress).await?,
        };
        if done.is_none() {
            self.counts.conflicts.inc();
        }
        Ok(done)
    }

    /// Carries out a plan for a session that stands; `None` if it does not stand as it was seen.
    async fn here(
        &self,
        live: &Live,
        plan: Plan,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Option<Outcome>, Error> {
        let Plan { row, old, new, cookie, .. } = plan;
        let cycles = old == Old::Cycle;
        if let (true, Some((record, until))) = (cycles, &new)
            && let Some((swap, token)) = self.cycle(live, record, *until, now, progress).await?
        {
            return Ok((swap == Swap::Done).then_some(Outcome { row, cookie, minted: Some(token) }));
        }
        let created = match &new {
            Some((record, until)) => Some(self.create(record, *until, progress).await?),
            None => None,
        };
        let swapped = match (old, &created) {
            (Old::Touch(until), _) => self.touch(live, until, progress).await,
            (Old::Cycle, Some((_, successor, _))) => {
                let before = Box::new(live.record.clone());
                let how = How::Cycled { successor: *successor, before, revision: live.revision };
                self.end(live, how, now, progress).await
            }
            (Old::End | Old::Cycle, _) => self.end(live, How::Flushed, now, progress).await,
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

    /// Commits what was not loaded live: nobody else writes there, so nothing queues up.
    pub(super) async fn apart(
        &self,
        mut found: Found,
        mut planned: Result<Plan, Denied>,
        decide: &Decide,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Answer, Error> {
        loop {
            let plan = match planned {
                Ok(plan) => plan,
                Err(denied) => return Ok(Err(denied.into())),
            };
            if let Some(outcome) = self.elsewhere(&found, plan, now, progress).await? {
                return Ok(Ok(outcome));
            }
            if let Found::Ended(ended) | Found::Gone(Some(ended)) = &found {
                found = match self.again(ended.key, now).await? {
                    // A medium that failed over may have forgotten the end. It was seen, and stays one.
                    Found::Live(_) => Found::Gone(None),
                    other => other,
                };
            }
            planned = decide(&found);
        }
    }

    /// Carries out a plan where no session stands under the token: ends what goes on after it, creates a new one.
    /// `None` if what goes on after it has ended in the meantime, so that what was read must not go on either.
    async fn elsewhere(
        &self,
        found: &Found,
        plan: Plan,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Option<Outcome>, Error> {
        let Plan { row, old, new, cookie, .. } = plan;
        let ended = match found {
            Found::Ended(ended) | Found::Gone(Some(ended)) => Some(ended),
            _ => None,
        };
        let successor = ended.and_then(|ended| ended.successor);
        let mut ends = false;
        // Ending comes first: a logout must hold even if the new session can't be made.
        if old == Old::End
            && let Some(successor) = successor
        {
            while let Some(tip) = self.tip(successor, now).await? {
                ends = self.end(&tip, How::Flushed, now, progress).await? == Swap::Done;
                if ends {
                    break;
                }
                self.counts.conflicts.inc();
            }
        }
        if let (Row::EndedFlush, Old::Keep, Some(ended)) = (row, &old, ended) {
            self.keep_ended(ended.key, now, progress).await?;
        }
        let Some((record, until)) = new else {
            return Ok(Some(Outcome { row, cookie, minted: None }));
        };
        let created = self.create(&record, until, progress).await;
        let (token, key, revision) = created.map_err(|error| {
            // Not nothing was done.
            if ends {
                unknown(Some(&error), "the session has ended, and no other one has begun")
            } else {
                error
            }
        })?;
        // A session of its own begins with what an old token read. A logout that came before it ends it too, so
        // that is looked for when it is there; one that comes later ends the other session only.
        if let (Old::Keep, Some(successor), Some(_)) =
            (old, successor, ended.and_then(|ended| ended.reads.as_ref()))
            && !matches!(self.tip(successor, now).await, Ok(Some(_)))
        {
            drop(self.engine.remove(&key, revision).await);
            return Ok(None);
        }
        Ok(Some(Outcome { row, cookie, minted: Some(token) }))
    }

    /// Makes sure that a session which was found ended stays so, for who asks for that is told that it has: the end may be
    /// one that its own caller was never sure of.
    async fn keep_ended(&self, key: Key, now: Timestamp, progress: &Progress) -> Result<(), Error> {
        progress.sends();
        loop {
            let sure = match self.read(key, now).await? {
                // A medium that failed over has forgotten it.
                Some((Entry::Live(record), history, stored)) => {
                    let live = live(key, record, history, &stored);
                    self.end(&live, How::Flushed, now, progress).await? == Swap::Done
                }
                ended => {
                    let seen = ended.map(|(_, _, stored)| stored.revision);
                    let sure = Box::pin(self.engine.confirm(&key, seen)).await;
                    sure.map_err(|error| unknown(None, &error.detail))?
                }
            };
            if sure {
                return Ok(());
            }
        }
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
