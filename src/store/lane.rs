//! Commits of one session inside this process: they queue up, and one at a time writes for all that wait.
//!
//! Without lanes, N requests that change one session would race for N² writes, and most would lose. With them the
//! first one leads; those that come while it writes leave their job with the lane, and the next leader writes all of
//! them at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Decide, Error, Failed, Kind, Outcome};
use crate::session::{Key, Live};
use crate::time::Timestamp;

/// How a commit went.
pub(super) type Answer = Result<Outcome, Failed>;

/// One response's wish to write.
pub(super) struct Job {
    /// What it makes of the session.
    pub(super) decide: Decide,
    /// Its instant.
    pub(super) now: Timestamp,
    /// When it must be over.
    pub(super) deadline: Instant,
}

struct Waiting {
    job: Job,
    turn: oneshot::Sender<Turn>,
    number: u64,
}

/// What one who waits is told.
enum Turn {
    Answered(Answer),
    /// It leads now, its own job first. With it comes the session as the leader before left it.
    Lead(Vec<Waiting>, Option<Box<Live>>),
}

/// The lanes of a store: one for each session that is being written.
#[derive(Default)]
pub(super) struct Lanes {
    /// A lane is here while somebody leads it.
    waiting: DashMap<Key, Vec<Waiting>>,
    numbers: AtomicU64,
}

/// Writes for a lane. When it is dropped the next one leads, whatever happened.
struct Leader<'a> {
    lanes: &'a Lanes,
    key: Key,
    left: Option<Box<Live>>,
}

impl Lanes {
    /// Commits a job of `key`: alone, as the leader of others, or by another leader.
    ///
    /// `serve` writes all the jobs it is given, from the state it is given, and returns as many answers and the
    /// state it left. Past its deadline a job that nobody has begun is withdrawn, and nothing of it was applied.
    pub(super) async fn commit<S, F>(&self, key: Key, loaded: Live, job: Job, serve: S) -> Answer
    where
        S: FnOnce(Live, Vec<Job>) -> F,
        F: Future<Output = (Vec<Answer>, Option<Live>)>,
    {
        let deadline = job.deadline;
        let (jobs, left, turns) = match self.enter(key, job) {
            Ok(job) => (vec![job], None, Vec::new()),
            Err((number, mut answer)) => match self.wait(key, number, deadline, &mut answer).await {
                Turn::Answered(result) => return result,
                Turn::Lead(all, left) => {
                    let (jobs, turns): (Vec<_>, Vec<_>) = all.into_iter().map(|w| (w.job, w.turn)).unzip();
                    (jobs, left, turns)
                }
            },
        };
        let mut leader = Leader { lanes: self, key, left: None };
        let (answers, left) = serve(left.map_or(loaded, |left| *left), jobs).await;
        leader.left = left.map(Box::new);
        let mut answers = answers.into_iter();
        let mine = answers.next().unwrap_or_else(|| Err(abandoned()));
        // The first turn is one's own, taken already.
        for (turn, answer) in turns.into_iter().skip(1).zip(answers) {
            drop(turn.send(Turn::Answered(answer)));
        }
        mine
    }

    /// Leads a free lane, or leaves the job with the one who leads.
    fn enter(&self, key: Key, job: Job) -> Result<Job, (u64, oneshot::Receiver<Turn>)> {
        match self.waiting.entry(key) {
            Entry::Vacant(lane) => {
                lane.insert(Vec::new());
                Ok(job)
            }
            Entry::Occupied(mut lane) => {
                let (turn, answer) = oneshot::channel();
                let number = self.numbers.fetch_add(1, Relaxed);
                lane.get_mut().push(Waiting { job, turn, number });
                Err((number, answer))
            }
        }
    }

    async fn wait(
        &self,
        key: Key,
        number: u64,
        deadline: Instant,
        answer: &mut oneshot::Receiver<Turn>,
    ) -> Turn {
        if let Ok(turn) = timeout_at(deadline, &mut *answer).await {
            return turn.unwrap_or_else(|_| Turn::Answered(Err(abandoned())));
        }
        if self.withdraw(key, number) {
            let detail = "others wrote the session for longer than store.commit_timeout";
            return Turn::Answered(Err(Failed::Store(Error::new(Kind::Timeout, detail))));
        }
        // Somebody is writing it, or has just written it, or has just made us the leader.
        answer.close();
        answer.try_recv().unwrap_or_else(|_| Turn::Answered(Err(abandoned())))
    }

    /// Takes a job back that nobody has begun.
    fn withdraw(&self, key: Key, number: u64) -> bool {
        self.waiting.get_mut(&key).is_some_and(|mut lane| {
            let at = lane.iter().position(|waiting| waiting.number == number);
            at.map(|at| lane.remove(at)).is_some()
        })
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let Entry::Occupied(mut lane) = self.lanes.waiting.entry(self.key) else { return };
        let mut all = std::mem::take(lane.get_mut());
        while !all.is_empty() {
            // The sender of the one who leads is spent on telling it so; a stand-in keeps its place.
            let (stand_in, _) = oneshot::channel();
            let turn = std::mem::replace(&mut all[0].turn, stand_in);
            match turn.send(Turn::Lead(all, self.left.take())) {
                Ok(()) => return,
                Err(Turn::Lead(rest, left)) => {
                    (all, self.left) = (rest, left);
                    all.remove(0);
                }
                Err(Turn::Answered(_)) => return,
            }
        }
        lane.remove();
    }
}

fn abandoned() -> Failed {
    Failed::Store(Error::new(Kind::OutcomeUnknown, "the commit was abandoned half-way"))
}
