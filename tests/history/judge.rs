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

/// The medium lost what it had, as one does that keeps nothing on disk: a session that is absent then is one that was
/// lost, and no logout of nobody's. It must not come back, and nothing else is forgiven.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// From here on the session may be gone.
    pub from: Instant,
    /// From here on it certainly is.
    pub gone: Instant,
}

/// What a medium is forgiven.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forgiven {
    /// The medium forgot.
    pub loss: Option<Loss>,
    /// A replica takes over. What has not reached it is not acknowledged, but may be read while it is under way, and is
    /// undone then: whoever asked for it may well be told that it was not done.
    pub takes_over: bool,
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
    /// A session was read after its end had been acknowledged, or after it was lost.
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
pub fn judge(
    life: &str,
    events: &[Event],
    end: Option<&BTreeMap<usize, u64>>,
    forgiven: Forgiven,
) -> Vec<Violation> {
    let Forgiven { loss, takes_over } = forgiven;
    let mut violations = Vec::new();
    let done = |client: usize, before: Instant| {
        let counts = |event: &&Event| event.client == client && event.adds() && event.answer == Answer::Done;
        events.iter().filter(counts).filter(|event| event.completed < before).count() as u64
    };
    let possible = |client: usize, before: Instant| {
        let counts = |event: &&Event| event.client == client && event.adds() && event.may_be_done();
        events.iter().filter(counts).filter(|event| event.invoked < before).count() as u64
    };
    let undone = |client: usize, read: &Event| {
        let counts = |event: &&Event| event.client == client && event.adds() && !event.may_be_done();
        let overlaps = |event: &&Event| event.invoked < read.completed && event.completed > read.invoked;
        if takes_over { events.iter().filter(counts).filter(overlaps).count() as u64 } else { 0 }
    };
    let mut clients: Vec<usize> = events.iter().map(|event| event.client).collect();
    clients.sort_unstable();
    clients.dedup();
    let ended = events.iter().filter(|event| event.op == Op::Logout && event.answer == Answer::Done);
    let gone = loss.map(|loss| loss.gone);
    let ended = ended.map(|event| event.completed).chain(gone).min();
    // From here on it may have ended, or its token have been lost with an answer.
    let doubtful = events
        .iter()
        .filter(|event| event.op == Op::Logout || (event.op == Op::Cycle && event.answer == Answer::Unknown));
    let from = loss.map(|loss| loss.from);
    let doubtful = doubtful.map(|event| event.invoked).chain(from).min().unwrap_or(Instant::MAX);
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
                    let acknowledged = done(client, invoked);
                    let possible = possible(client, completed) + undone(client, event);
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

    const STRICT: Forgiven = Forgiven { loss: None, takes_over: false };

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
        assert_eq!(judge("a", &events, Some(&end(&[2, 1])), STRICT), []);
        assert_eq!(judge("a", &events, Some(&end(&[2, 2])), STRICT), [], "what is unknown may have happened");
    }

    #[test]
    fn a_change_that_is_not_there_any_longer_is_lost() {
        let events = history(&[(0, Add, Done, None), (0, Add, Done, None)]);
        let lost = Violation::Lost { client: 0, there: 1, acknowledged: 2 };
        assert_eq!(judge("a", &events, Some(&end(&[1])), STRICT), [lost]);
    }

    #[test]
    fn a_change_that_was_refused_or_dropped_and_is_there_is_a_phantom() {
        for (op, answer) in [(Add, Refused), (AddIf, Refused), (Add, Dropped)] {
            let events = history(&[(0, op, answer, None)]);
            let phantom = Violation::Phantom { client: 0, there: 1, possible: 0 };
            assert_eq!(judge("a", &events, Some(&end(&[1])), STRICT), [phantom]);
        }
        let events = history(&[(0, Add, Refused, None), (1, Read, Done, Some(&[1]))]);
        let phantom = Violation::Phantom { client: 0, there: 1, possible: 0 };
        assert_eq!(judge("a", &events, None, STRICT), [phantom]);
    }

    #[test]
    fn a_read_that_lacks_what_was_acknowledged_before_it_is_stale() {
        let events = history(&[(0, Add, Done, None), (1, Read, Done, Some(&[0]))]);
        let stale = Violation::Stale { reader: 1, client: 0, read: 0, acknowledged: 1 };
        assert_eq!(judge("a", &events, None, STRICT), [stale]);
        let mut overlapping = events;
        overlapping[1].invoked = 5;
        assert_eq!(judge("a", &overlapping, None, STRICT), []);
    }

    #[test]
    fn a_session_that_is_read_after_its_logout_is_resurrected() {
        let events = history(&[(0, Logout, Done, Some(&[])), (1, Read, Done, Some(&[]))]);
        assert_eq!(
            judge("a", &events, None, STRICT),
            [Violation::Resurrected { reader: 1, ended: 5, read: 10 }]
        );
        let events = history(&[(0, Logout, Unknown, Some(&[])), (1, Read, Done, Some(&[]))]);
        assert_eq!(judge("a", &events, None, STRICT), []);
    }

    #[test]
    fn a_session_that_is_not_there_although_nobody_ended_it_was_logged_out() {
        let mut events = history(&[(0, Add, Done, None), (1, Read, Done, None), (0, Logout, Done, None)]);
        events[1].seen = Seen::Empty;
        assert_eq!(judge("a", &events, None, STRICT), [Violation::LoggedOut { client: 1, at: 15 }]);
        events[2].invoked = 12;
        assert_eq!(judge("a", &events, None, STRICT), []);
    }

    #[test]
    fn a_session_of_somebody_else_and_a_cookie_that_is_cleared_are_seen() {
        let mut events = history(&[(0, Read, Done, Some(&[]))]);
        events[0].cleared = true;
        let cleared = Violation::Cleared { client: 0, at: 5 };
        let strange = Violation::Strange { client: 0, life: "a".to_owned() };
        assert_eq!(judge("b", &events, None, STRICT), [cleared, strange]);
    }

    #[test]
    fn what_a_medium_lost_may_be_absent_from_then_on_and_must_not_come_back() {
        let mut events =
            history(&[(0, Add, Done, Some(&[0])), (1, Read, Done, None), (1, Read, Done, Some(&[1]))]);
        events[1].seen = Seen::Empty;
        events[1].cleared = true;
        let of = |from, gone| Forgiven { loss: Some(Loss { from, gone }), takes_over: false };
        assert_eq!(judge("a", &events, None, of(6, Instant::MAX)), [], "perhaps it was spared");
        let back = Violation::Resurrected { reader: 1, ended: 9, read: 20 };
        assert_eq!(judge("a", &events, None, of(6, 9)), [back]);
        let early = judge("a", &events[..2], None, of(16, 19));
        assert_eq!(
            early,
            [Violation::Cleared { client: 1, at: 15 }, Violation::LoggedOut { client: 1, at: 15 }]
        );
    }

    #[test]
    fn a_loss_forgives_no_stale_read_and_no_phantom() {
        let lost = Forgiven { loss: Some(Loss { from: 0, gone: Instant::MAX }), takes_over: false };
        let events = history(&[(0, Add, Done, None), (1, Read, Done, Some(&[0]))]);
        let stale = Violation::Stale { reader: 1, client: 0, read: 0, acknowledged: 1 };
        assert_eq!(judge("a", &events, None, lost), [stale]);
        let events = history(&[(0, Add, Refused, None), (1, Read, Done, Some(&[1]))]);
        let phantom = Violation::Phantom { client: 0, there: 1, possible: 0 };
        assert_eq!(judge("a", &events, None, lost), [phantom]);
    }

    #[test]
    fn what_a_failover_undid_may_have_been_read_while_it_was_under_way_and_no_longer() {
        let over = Forgiven { loss: None, takes_over: true };
        for answer in [Refused, Dropped] {
            let mut events = history(&[(0, Add, answer, None), (1, Read, Done, Some(&[1]))]);
            let phantom = [Violation::Phantom { client: 0, there: 1, possible: 0 }];
            assert_eq!(judge("a", &events, None, over), phantom);
            events[0].completed = 12;
            assert_eq!(judge("a", &events, None, over), []);
            assert_eq!(judge("a", &events, None, STRICT), phantom);
            assert_eq!(judge("a", &events, Some(&end(&[1])), over), phantom);
        }
    }
}
