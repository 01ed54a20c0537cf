//! What a history must not show: a pure function over what clients asked and were told.

use std::collections::BTreeMap;

/// An instant, in microseconds since the round began.
pub type Instant = u64;

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Nothing: it only looks.
    Read,
    /// One more on the client's own counter.
    Add,
    /// The same under `X-Session-If-Version`.
    AddIf,
    /// The same, and a new token.
    Cycle,
    /// The end of the session.
    Logout,
}

/// What came of it, as the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// It was dropped, because the session had ended, or another token goes on.
    Dropped,
    /// It was not done: a condition did not hold, or the store could not.
    Refused,
    /// Nobody can say.
    Unknown,
}

/// What the backend read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// This session, with everybody's counters.
    Session { life: String, counts: BTreeMap<usize, u64> },
    /// No session.
    Empty,
    /// It was not asked.
    Nothing,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Event {
    pub client: usize,
    pub op: Op,
    pub invoked: Instant,
    pub completed: Instant,
    pub answer: Answer,
    pub seen: Seen,
    /// The response told the client to forget its cookie.
    pub cleared: bool,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A change that was acknowledged is not there.
    Lost { client: usize, there: u64, acknowledged: u64 },
    /// A change is there that was refused, or that nobody asked for.
    Phantom { client: usize, there: u64, possible: u64 },
    /// A read is older than a change that had been acknowledged before it was asked for.
    Stale { reader: usize, client: usize, read: u64, acknowledged: u64 },
    /// A session was read after its end had been acknowledged.
    Resurrected { reader: usize, ended: Instant, read: Instant },
    /// A session that nobody had ended was not there.
    LoggedOut { client: usize, at: Instant },
    /// Somebody else's session was read.
    Strange { client: usize, life: String },
    /// A cookie was removed although nobody had ended its session.
    Cleared { client: usize, at: Instant },
}

impl Event {
    /// Does it add to its client's counter, if it is done?
    const fn adds(&self) -> bool {
        matches!(self.op, Op::Add | Op::AddIf | Op::Cycle)
    }

    /// May it have been done?
    const fn may_be_done(&self) -> bool {
        matches!(self.answer, Answer::Done | Answer::Unknown)
    }
}

/// Judges the history of one session. `end` is what was there when everybody had stopped, where that was looked at.
pub fn judge(life: &str, events: &[Event], end: Option<&BTreeMap<usize, u64>>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let done = |client: usize, before: Instant| {
        let counts = |event: &&Event| event.client == client && event.adds() && event.answer == Answer::Done;
        events.iter().filter(counts).filter(|event| event.completed < before).count() as u64
    };
    let possible = |client: usize, before: Instant| {
        let counts = |event: &&Event| event.client == client && event.adds() && event.may_be_done();
        events.iter().filter(counts).filter(|event| event.invoked < before).count() as u64
    };
    let mut clients: Vec<usize> = events.iter().map(|event| event.client).collect();
    clients.sort_unstable();
    clients.dedup();
    let ended = events.iter().filter(|event| event.op == Op::Logout && event.answer == Answer::Done);
    let ended = ended.map(|event| event.completed).min();
    // From here on it may have ended, or its token have been lost with an answer.
    let doubtful = events
        .iter()
        .filter(|event| event.op == Op::Logout || (event.op == Op::Cycle && event.answer == Answer::Unknown));
    let doubtful = doubtful.map(|event| event.invoked).min().unwrap_or(Instant::MAX);
    for event in events {
        let Event { client: reader, invoked, completed, .. } = *event;
        if event.cleared && completed < doubtful {
            violations.push(Violation::Cleared { client: reader, at: completed });
        }
        match &event.seen {
            Seen::Nothing => {}
            Seen::Empty if completed < doubtful => {
                violations.push(Violation::LoggedOut { client: reader, at: completed });
            }
            Seen::Empty => {}
            Seen::Session { life: other, .. } if other != life => {
                violations.push(Violation::Strange { client: reader, life: other.clone() });
            }
            Seen::Session { counts, .. } => {
                if let Some(ended) = ended.filter(|ended| *ended < invoked) {
                    violations.push(Violation::Resurrected { reader, ended, read: invoked });
                }
                for client in &clients {
                    let (client, read) = (*client, counts.get(client).copied().unwrap_or(0));
                    let (acknowledged, possible) = (done(client, invoked), possible(client, completed));
                    if read < acknowledged {
                        violations.push(Violation::Stale { reader, client, read, acknowledged });
                    }
                    if read > possible {
                        violations.push(Violation::Phantom { client, there: read, possible });
                    }
                }
            }
        }
    }
    for (client, there) in end
        .map(|end| clients.iter().map(|client| (*client, end.get(client).copied().unwrap_or(0))))
        .into_iter()
        .flatten()
    {
        let (acknowledged, possible) = (done(client, Instant::MAX), possible(client, Instant::MAX));
        if there < acknowledged {
            violations.push(Violation::Lost { client, there, acknowledged });
        }
        if there > possible {
            violations.push(Violation::Phantom { client, there, possible });
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asks what, what comes of it, and the counters that were read.
    type Step<'a> = (usize, Op, Answer, Option<&'a [u64]>);

    /// One request after the other, 10 µs each.
    fn history(steps: &[Step<'_>]) -> Vec<Event> {
        let event = |(n, (client, op, answer, read)): (usize, &Step<'_>)| {
            let counts = |read: &&[u64]| read.iter().copied().enumerate().collect();
            let seen = match read {
                Some(read) => Seen::Session { life: "a".to_owned(), counts: counts(read) },
                None => Seen::Nothing,
            };
            let invoked = n as u64 * 10;
            Event {
                client: *client,
                op: *op,
                invoked,
                completed: invoked + 5,
                answer: *answer,
                seen,
                cleared: false,
            }
        };
        steps.iter().enumerate().map(event).collect()
    }

    fn end(counts: &[u64]) -> BTreeMap<usize, u64> {
        counts.iter().copied().enumerate().collect()
    }

    use Answer::{Done, Dropped, Refused, Unknown};
    use Op::{Add, AddIf, Cycle, Logout, Read};

    #[test]
    fn a_history_as_it_should_be_is_not_complained_of() {
        let events = history(&[
            (0, Add, Done, Some(&[0, 0])),
            (1, Add, Done, Some(&[1, 0])),
            (0, Cycle, Done, Some(&[1, 1])),
            (1, AddIf, Refused, Some(&[2, 1])),
            (1, Add, Unknown, None),
            (0, Read, Done, Some(&[2, 1])),
            (1, Add, Dropped, Some(&[2, 2])),
        ]);
        assert_eq!(judge("a", &events, Some(&end(&[2, 1]))), []);
        assert_eq!(judge("a", &events, Some(&end(&[2, 2]))), [], "what is unknown may have happened");
    }

    #[test]
    fn a_change_that_is_not_there_any_longer_is_lost() {
        let events = history(&[(0, Add, Done, None), (0, Add, Done, None)]);
        let lost = Violation::Lost { client: 0, there: 1, acknowledged: 2 };
        assert_eq!(judge("a", &events, Some(&end(&[1]))), [lost]);
    }

    #[test]
    fn a_change_that_was_refused_or_dropped_and_is_there_is_a_phantom() {
        for (op, answer) in [(Add, Refused), (AddIf, Refused), (Add, Dropped)] {
            let events = history(&[(0, op, answer, None)]);
            let phantom = Violation::Phantom { client: 0, there: 1, possible: 0 };
            assert_eq!(judge("a", &events, Some(&end(&[1]))), [phantom]);
        }
        let events = history(&[(0, Add, Refused, None), (1, Read, Done, Some(&[1]))]);
        let phantom = Violation::Phantom { client: 0, there: 1, possible: 0 };
        assert_eq!(judge("a", &events, None), [phantom]);
    }

    #[test]
    fn a_read_that_lacks_what_was_acknowledged_before_it_is_stale() {
        let events = history(&[(0, Add, Done, None), (1, Read, Done, Some(&[0]))]);
        let stale = Violation::Stale { reader: 1, client: 0, read: 0, acknowledged: 1 };
        assert_eq!(judge("a", &events, None), [stale]);
        let mut overlapping = events;
        overlapping[1].invoked = 5;
        assert_eq!(judge("a", &overlapping, None), []);
    }

    #[test]
    fn a_session_that_is_read_after_its_logout_is_resurrected() {
        let events = history(&[(0, Logout, Done, Some(&[])), (1, Read, Done, Some(&[]))]);
        assert_eq!(judge("a", &events, None), [Violation::Resurrected { reader: 1, ended: 5, read: 10 }]);
        let events = history(&[(0, Logout, Unknown, Some(&[])), (1, Read, Done, Some(&[]))]);
        assert_eq!(judge("a", &events, None), []);
    }

    #[test]
    fn a_session_that_is_not_there_although_nobody_ended_it_was_logged_out() {
        let mut events = history(&[(0, Add, Done, None), (1, Read, Done, None), (0, Logout, Done, None)]);
        events[1].seen = Seen::Empty;
        assert_eq!(judge("a", &events, None), [Violation::LoggedOut { client: 1, at: 15 }]);
        events[2].invoked = 12;
        assert_eq!(judge("a", &events, None), []);
    }

    #[test]
    fn a_session_of_somebody_else_and_a_cookie_that_is_cleared_are_seen() {
        let mut events = history(&[(0, Read, Done, Some(&[]))]);
        events[0].cleared = true;
        let cleared = Violation::Cleared { client: 0, at: 5 };
        let strange = Violation::Strange { client: 0, life: "a".to_owned() };
        assert_eq!(judge("b", &events, None), [cleared, strange]);
    }
}
