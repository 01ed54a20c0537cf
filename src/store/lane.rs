//! Commits of one session inside this process: they queue up, and one at a time writes for all that wait.
//!
//! Without lanes, N requests that change one session would race for N² writes, and most would lose. With them the
//! first one leads. Its job is written, and in the same write as many of those who wait as can be; then the next who
//! waits leads. A leader works for nobody beyond its own write, so no request waits for those who came later.
//!
//! A job stays in the lane until a leader claims it, and is claimed only in the moment before the write is sent.
//! Until then nothing of it can have happened: it can be withdrawn, and no end of a leader loses it.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Decide, Error, Failed, Kind, Outcome};
use crate::session::{Key, Live};
use crate::time::Timestamp;

/// How a commit went.
pub(super) type Answer = Result<Outcome, Failed>;

/// Jobs that one write stands for at most: deciding them all is one turn of a worker, which nobody else gets meanwhile.
const BATCH: usize = 64;

/// One response's wish to write.
pub(super) struct Job {
    /// What it makes of the session.
    pub(super) decide: Decide,
    /// Its instant.
    pub(super) now: Timestamp,
    /// When it must be over.
    pub(super) deadline: Instant,
}

/// A job in a lane, and who waits for its answer.
pub(super) struct Waiting {
    pub(super) job: Job,
    turn: oneshot::Sender<Turn>,
    number: u64,
}

impl Waiting {
    /// Tells the one who waits how it went.
    pub(super) fn answer(self, answer: Answer) {
        drop(self.turn.send(Turn::Answered(answer)));
    }

    fn is_gone(&self) -> bool {
        self.turn.is_closed()
    }
}

/// What becomes of one who enters a lane.
pub(super) enum Turn {
    /// Another one wrote for it, or its time is over.
    Answered(Answer),
    /// It leads now, and this is its job.
    Lead(Lead, Job),
}

/// The lanes of a store: one for each session that is being written.
#[derive(Default)]
pub(super) struct Lanes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// A lane is here while somebody leads it; in it are those who wait, in the order in which they came.
    waiting: DashMap<Key, VecDeque<Waiting>>,
    /// The number of the next one who waits.
    numbers: AtomicU64,
}

/// The right to write a session. When it is dropped, wherever that is, the next one who waits has it.
pub(super) struct Lead {
    lanes: Arc<Shared>,
    /// The session's key.
    pub(super) key: Key,
    /// The session as the leader before left it, and then as this one leaves it.
    pub(super) left: Option<Box<Live>>,
    held: bool,
}

impl Lanes {
    /// Enters the lane of a session: returns when it is this job's turn, or when another leader has written it too.
    ///
    /// Past its deadline a job that nobody has claimed is withdrawn, and nothing of it was or will be applied.
    pub(super) async fn enter(&self, key: Key, job: Job) -> Turn {
        let deadline = job.deadline;
        let (number, mut answer) = match self.0.waiting.entry(key) {
            Entry::Vacant(lane) => {
                lane.insert(VecDeque::new());
                let lanes = Arc::clone(&self.0);
                return Turn::Lead(Lead { lanes, key, left: None, held: true }, job);
            }
            Entry::Occupied(mut lane) => {
                let (turn, answer) = oneshot::channel();
                let number = self.0.numbers.fetch_add(1, Release);
                lane.get_mut().push_back(Waiting { job, turn, number });
                (number, answer)
            }
        };
        if let Ok(turn) = timeout_at(deadline, &mut answer).await {
            return turn.unwrap_or_else(|_| abandoned());
        }
        if self.0.withdraw(key, number) {
            let detail = "others wrote the session for longer than store.commit_timeout";
            return Turn::Answered(Err(Error::new(Kind::Timeout, detail).into()));
        }
        // It was claimed, and its write was sent; or answered this very moment; or it was made the leader.
        answer.close();
        answer.try_recv().unwrap_or_else(|_| abandoned())
    }
}

impl Shared {
    /// Takes a job back that nobody has claimed.
    fn withdraw(&self, key: Key, number: u64) -> bool {
        let withdrawn = self.waiting.get_mut(&key).and_then(|mut lane| {
            let at = lane.iter().position(|waiting| waiting.number == number)?;
            lane.remove(at)
        });
        withdrawn.is_some()
    }
}

impl Lead {
    /// The present, for [`Lead::claim`]: whoever enters from now on comes after it.
    pub(super) fn present(&self) -> u64 {
        self.lanes.numbers.load(Acquire)
    }

    /// Takes those who entered before an instant, wait, and can still be told, for a write that is sent at once.
    pub(super) fn claim(&self, before: u64) -> Vec<Waiting> {
        let Some(mut lane) = self.lanes.waiting.get_mut(&self.key) else { return Vec::new() };
        if lane.is_empty() {
            return Vec::new();
        }
        let (mut claimed, now) = (Vec::new(), Instant::now());
        let queue = mem::take(&mut *lane).into_iter().filter(|waiting| !waiting.is_gone());
        for waiting in queue {
            if claimed.len() < BATCH && waiting.number < before && waiting.job.deadline > now {
                claimed.push(waiting);
            } else {
                lane.push_back(waiting);
            }
        }
        claimed
    }

    /// Gives those back for whom nothing was written: they are the next again.
    pub(super) fn give_back(&self, claimed: Vec<Waiting>) {
        if claimed.is_empty() {
            return;
        }
        let mut lane = self.lanes.waiting.entry(self.key).or_default();
        claimed.into_iter().rev().for_each(|waiting| lane.push_front(waiting));
    }
}

impl Drop for Lead {
    /// Hands the lane over, together with the session as it was left.
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let Entry::Occupied(mut lane) = self.lanes.waiting.entry(self.key) else { return };
        // Told under the lane's lock: one who waits finds itself in the queue, or finds that it was told.
        while let Some(Waiting { job, turn, .. }) = lane.get_mut().pop_front() {
            let (lanes, left) = (Arc::clone(&self.lanes), self.left.take());
            let next = Lead { lanes, key: self.key, left, held: true };
            match turn.send(Turn::Lead(next, job)) {
                // If it is dropped before it looks, this drop runs again with what it was given.
                Ok(()) => return,
                Err(Turn::Lead(mut next, _)) => {
                    next.held = false;
                    self.left = next.left.take();
                }
                Err(Turn::Answered(_)) => {}
            }
        }
        lane.remove();
    }
}

fn abandoned() -> Turn {
    let detail = "the write that the commit was part of was abandoned";
    Turn::Answered(Err(Error::new(Kind::OutcomeUnknown, detail).into()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::Denied;

    fn job() -> Job {
        let decide: Decide = Arc::new(|_| Err(Denied::Gone));
        let deadline = Instant::now() + Duration::from_secs(1);
        Job { decide, now: Timestamp::from_millis(0), deadline }
    }

    #[tokio::test]
    async fn a_lane_is_there_as_long_as_somebody_leads_it() {
        let (lanes, key) = (Arc::new(Lanes::default()), Key::from_bytes([1; 20]));
        let Turn::Lead(first, _) = lanes.enter(key, job()).await else { panic!("nobody else is there") };
        let waiting: Vec<_> = (0..3)
            .map(|n| {
                let lanes = Arc::clone(&lanes);
                let task = tokio::spawn(async move {
                    let Turn::Lead(lead, _) = lanes.enter(key, job()).await else {
                        panic!("nobody claims it")
                    };
                    assert_eq!(lead.lanes.waiting.len(), 1);
                });
                if n == 1 {
                    task.abort();
                }
                task
            })
            .collect();
        while first.present() < 2 {
            tokio::task::yield_now().await;
        }
        drop(first);
        for (n, task) in waiting.into_iter().enumerate() {
            assert_eq!(task.await.is_ok(), n != 1);
        }
        assert!(lanes.0.waiting.is_empty());
    }
}
