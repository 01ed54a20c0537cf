//! Joins deciding to keeping: loads the session of a token, commits what became of it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, info, warn};

use crate::session::{
    Asked, Changes, Cookie, Cycle, Denied, Found, Lifetime, Live, Mode, Plan, Policy, Row, Scope, Shown,
    Token, plan,
};
use crate::store::{self, Failed, Kind, OnError, Outcome, Store};
use crate::telemetry::logging::Limited;
use crate::telemetry::metrics::{CycleReason, Load, Metrics, Operation, Save};
use crate::time::{Stopwatch, Timestamp};

/// Loads and commits sessions for the doors.
pub struct Manager {
    store: Arc<dyn Store>,
    policy: Arc<Policy>,
    /// Scopes that count where none of today's does, best first.
    previous: Vec<Scope>,
    timeout: Duration,
    on_error: OnError,
    metrics: Arc<Metrics>,
    /// How often an ill store is logged, and what clients show that is none of an honest one.
    limited: Limited,
    strange: Limited,
}

/// One request's handle on its session.
#[derive(Clone, Debug)]
pub struct Session {
    mode: Mode,
    found: Found,
    /// The token whose session was found.
    token: Option<Token>,
    shown: bool,
    /// Previous scopes whose cookies the response is to remove.
    stale: Vec<Scope>,
    /// Chunks of tokens that were shown.
    chunks: u16,
}

/// What the client is to be told of its session.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The row of the decision table that was taken; `None` where the route has no session.
    pub row: Option<Row>,
    /// The cookie.
    pub cookie: Tell,
    /// Previous scopes whose cookies are to be removed besides.
    pub stale: Vec<Scope>,
    /// Chunks of tokens that it showed, as in [`Shown::chunks`]: those that are no more are to be removed.
    pub chunks: u16,
}

impl Told {
    /// What a client is told whose response's directives were refused and let through.
    pub const fn refused() -> Self {
        Self { row: Some(Row::Refused), cookie: Tell::Leave, stale: Vec::new(), chunks: 0 }
    }
}

/// What the client is to be told by cookie.
#[derive(Clone, Debug, PartialEq)]
pub enum Tell {
    /// Nothing.
    Leave,
    /// This token, for so long.
    Set(Token, Lifetime),
    /// To forget its token.
    Remove,
}

impl Session {
    /// What the backend reads; `None` is an empty session.
    pub fn reads(&self) -> Option<&Live> {
        self.found.reads()
    }

    /// Could the store not say what there is?
    pub const fn is_unknown(&self) -> bool {
        matches!(self.found, Found::Unknown)
    }

    /// Has this request no session at all?
    pub fn is_off(&self) -> bool {
        self.mode == Mode::Off
    }

    /// What its route does with the session.
    pub const fn mode(&self) -> Mode {
        self.mode
    }
}

impl Manager {
    /// A manager over `store`. `previous` are the scopes of `cookie.previous`.
    pub fn new(
        store: Arc<dyn Store>,
        policy: Arc<Policy>,
        previous: Vec<Scope>,
        config: &store::Config,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (timeout, on_error) = (config.timeout.0, config.on_error);
        Self {
            store,
            policy,
            previous,
            timeout,
            on_error,
            metrics,
            limited: Limited::new(),
            strange: Limited::new(),
        }
    }

    /// Finds the session that a client showed tokens for. A request without a token costs the store nothing.
    ///
    /// # Errors
    /// If the store can't say and `store.on_error` is `reject`.
    pub async fn load(&self, mode: Mode, shown: &Shown, now: Timestamp) -> Result<Session, store::Error> {
        let Shown { any, chunks, .. } = *shown;
        let stale = shown.stale.clone();
        let mut session = Session { mode, found: Found::No, token: None, shown: any, stale, chunks };
        if mode == Mode::Off || !shown.any {
            return Ok(session);
        }
        (0..shown.malformed).for_each(|_| self.metrics.load(Load::Malformed));
        (0..shown.forged).for_each(|_| self.metrics.load(Load::Forged));
        if let Err(problem) = self.find(shown, &mut session, now).await {
            if self.on_error == OnError::Reject {
                self.metrics.load(Load::Unknown);
                return Err(problem);
            }
            self.tell(Operation::Load, &problem);
            session.found = Found::Unknown;
        }
        self.metrics.load(match &session.found {
            Found::Live(_) => Load::Live,
            Found::Ended(_) | Found::Gone(_) => Load::Ended,
            Found::Ambiguous => Load::Ambiguous,
            Found::Unknown => Load::Unknown,
            Found::No if shown.is_empty() => return Ok(session),
            Found::No => Load::Absent,
        });
        Ok(session)
    }

    async fn find(&self, shown: &Shown, session: &mut Session, now: Timestamp) -> Result<(), store::Error> {
        if shown.crowd {
            self.wonder("more cookies of our name than can be honest");
            session.found = Found::Ambiguous;
            return Ok(());
        }
        // How good what was found is: 0 = today's scope, then the previous ones, then ended tokens.
        let mut best = usize::MAX;
        // However many were shown, the request waits no longer for them than for one.
        let mut deadline = None;
        for token in shown.tokens() {
            let found = self.ask(token, now, &mut deadline).await?;
            let rank = match &found {
                Found::Live(live) if live.record.scope == self.policy.scope => 0,
                Found::Live(live) => match self.previous.iter().position(|scope| *scope == live.record.scope)
                {
                    Some(at) => {
                        if !session.stale.contains(&live.record.scope) {
                            session.stale.push(live.record.scope);
                        }
                        1 + at
                    }
                    None => continue,
                },
                Found::Ended(ended) if ended.reads.is_some() => usize::MAX - 2,
                Found::Ended(_) => usize::MAX - 1,
                _ => continue,
            };
            if rank == best && matches!(found, Found::Live(_)) {
                self.wonder("two live sessions of one scope were shown: somebody may be tossing cookies");
                (session.found, session.token) = (Found::Ambiguous, None);
                if rank == 0 {
                    return Ok(());
                }
            } else if rank < best {
                best = rank;
                (session.found, session.token) = (found, Some(token.clone()));
            }
        }
        Ok(())
    }

    /// Asks the store for one token's session, until the deadline, which is set as soon as anything has to be waited for.
    async fn ask(
        &self,
        token: &Token,
        now: Timestamp,
        deadline: &mut Option<Instant>,
    ) -> Result<Found, store::Error> {
        let watch = Stopwatch::start();
        let late = |_| store::Error::new(Kind::Timeout, "the store did not answer within store.timeout");
        let mut load = self.store.load(token, now);
        let found = match poll_fn(|cx| Poll::Ready(load.as_mut().poll(cx))).await {
            Poll::Ready(found) => found,
            Poll::Pending => {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.timeout);
                Box::pin(timeout_at(deadline, load)).await.map_err(late).and_then(|found| found)
            }
        };
        self.metrics.operation(Operation::Load, watch.elapsed());
        found
            .map(|found| self.in_time(found, now))
            .inspect_err(|error| self.metrics.store_error(Operation::Load, error.kind.label()))
    }

    /// A session by today's settings: one that is older than it may become is none.
    fn in_time(&self, found: Found, now: Timestamp) -> Found {
        let Found::Live(mut live) = found else { return found };
        live.until = self.policy.end(&live.record, live.until);
        if live.until > now { Found::Live(live) } else { Found::No }
    }

    /// Commits what a response asks. The answer is not sent before this returns.
    ///
    /// # Errors
    /// [`Failed`], and then nothing was applied, but for an unknown outcome.
    pub async fn commit(
        &self,
        session: Session,
        changes: Changes,
        server_error: bool,
        now: Timestamp,
    ) -> Result<Told, Failed> {
        let Session { mode, mut found, token, shown, mut stale, chunks } = session;
        if mode == Mode::Off {
            return Ok(Told { row: None, cookie: Tell::Leave, stale: Vec::new(), chunks: 0 });
        }
        let changes = if mode == Mode::Read { Changes::default() } else { changes };
        let sure = changes.condition.is_some();
        let asked = Asked { changes, server_error, no_touch: mode == Mode::NoTouch, shown };
        if !matches!(found, Found::Live(_) | Found::No) || server_error {
            stale.clear();
        }
        let decide = |found: &Found| plan(found, &asked, &self.policy, now);
        let mut first = decide(&found);
        if let (Ok(plan @ Plan { cookie: Cookie::Set(_), .. }), Some(token)) = (&first, &token)
            && plan.is_nothing()
        {
            found = Box::pin(self.again(token, now)).await;
            first = decide(&found);
        }
        // What may not be done to the session as it was read may be to what it has become, and the other way round.
        let spared = first.as_ref().map_or(!matches!(found, Found::Live(_)), Plan::is_nothing);
        let written = match &first {
            Ok(first) if spared => Ok(Outcome { row: first.row, cookie: first.cookie, minted: None }),
            Err(denied) if spared => Err(Failed::Denied(denied.clone())),
            _ => Box::pin(self.write(found, asked, now)).await,
        };
        let outcome = match written.inspect_err(|failed| self.count_failed(failed)) {
            // What must not be lost in silence: an ended session, a changed key, and what the backend wants to be sure of.
            Err(Failed::Store(problem))
                if self.on_error == OnError::Anonymous
                    && first.as_ref().is_ok_and(|plan| !plan.vital)
                    && !sure =>
            {
                self.tell(Operation::Commit, &problem);
                Outcome { row: Row::Unavailable, cookie: Cookie::Leave, minted: None }
            }
            other => other?,
        };
        self.count(&outcome, spared);
        // A session that was ended meanwhile, or could not be moved, keeps the cookies that there are.
        let ended = matches!(outcome.row, Row::Gone | Row::EndedFlush | Row::Unavailable);
        if ended || (outcome.row == Row::Nothing && first.is_ok_and(|first| first.row != Row::Nothing)) {
            stale.clear();
        }
        let cookie = match (outcome.cookie, outcome.minted.or(token)) {
            (Cookie::Set(lifetime), Some(token)) => Tell::Set(token, lifetime),
            (Cookie::Remove, _) => Tell::Remove,
            (Cookie::Leave | Cookie::Set(_), _) => Tell::Leave,
        };
        Ok(Told { row: Some(outcome.row), cookie, stale, chunks })
    }

    /// How a session that was loaded live stands now.
    ///
    /// A touch that is not due writes nothing and so finds out nothing. But its cookie would put a token back into the
    /// browser that a login or a logout has replaced or removed there while the backend was busy.
    async fn again(&self, token: &Token, now: Timestamp) -> Found {
        match self.ask(token, now, &mut None).await {
            Ok(Found::Live(live)) => Found::Live(live),
            Ok(Found::Ended(ended)) => Found::Gone(Some(ended)),
            Ok(_) => Found::Gone(None),
            // There is nothing to be lost but a renewed cookie.
            Err(problem) => {
                self.tell(Operation::Load, &problem);
                Found::Unknown
            }
        }
    }

    async fn write(&self, found: Found, asked: Asked, now: Timestamp) -> Result<Outcome, Failed> {
        let policy = self.policy.clone();
        let decide = Arc::new(move |found: &Found| plan(found, &asked, &policy, now));
        let watch = Stopwatch::start();
        let outcome = self.store.commit(found, decide, now).await;
        self.metrics.operation(Operation::Commit, watch.elapsed());
        outcome
    }

    fn count(&self, outcome: &Outcome, spared: bool) {
        let metrics = &self.metrics;
        // A session that goes on may have a token of its new state.
        if outcome.minted.is_some() && !matches!(outcome.row, Row::Save | Row::Rescope | Row::Touch) {
            metrics.creates.inc();
        }
        match outcome.row {
            Row::Save | Row::Rescope => metrics.save(Save::Saved),
            Row::Touch if !spared => metrics.save(Save::Touched),
            Row::Gone => {
                metrics.save(Save::Gone);
                info!("a change was dropped: its session was ended meanwhile");
            }
            Row::Flush | Row::FlushWithData | Row::Past | Row::EndedFlush | Row::EndedFlushWithData => {
                metrics.flushes.inc();
            }
            Row::CycleKey(Cycle::Asked) => metrics.cycle(CycleReason::Asked),
            Row::CycleKey(Cycle::Login) => metrics.cycle(CycleReason::Login),
            Row::Ambiguous
            | Row::ServerError
            | Row::Create
            | Row::EndedCreate
            | Row::EndedCycleKey
            | Row::Touch
            | Row::NothingToKeep
            | Row::Nothing
            | Row::Refused
            | Row::Unavailable => {}
        }
    }

    fn count_failed(&self, failed: &Failed) {
        match failed {
            Failed::Denied(Denied::Refused(refusal)) => {
                self.metrics.save(Save::Refused);
                self.metrics.refused(refusal.reason.label());
            }
            Failed::Denied(Denied::Conflict) => self.metrics.save(Save::Conflict),
            Failed::Denied(Denied::Gone) => self.metrics.save(Save::Gone),
            Failed::Denied(Denied::Unavailable) => self.metrics.save(Save::Failed),
            Failed::Store(error) => {
                let unknown = error.kind == Kind::OutcomeUnknown;
                self.metrics.save(if unknown { Save::Unknown } else { Save::Failed });
                self.metrics.store_error(Operation::Commit, error.kind.label());
            }
        }
    }

    /// May an ill store be logged now? At most once a second, whoever asks; says how often not since the last time.
    pub fn may_tell(&self) -> Option<u64> {
        self.limited.allow()
    }

    /// Logs what anybody can make happen as often as they like.
    fn wonder(&self, what: &str) {
        match self.strange.allow() {
            Some(suppressed) => warn!(suppressed, "{what}"),
            None => debug!("{what}"),
        }
    }

    /// Logs an ill store where the client gets no error, which would be logged.
    fn tell(&self, operation: Operation, problem: &store::Error) {
        let (operation, kind) = (operation.label(), problem.kind.label());
        match self.may_tell() {
            Some(suppressed) => error!(operation, kind, suppressed, "the store is ill: {problem}"),
            None => debug!(operation, kind, "the store is ill: {problem}"),
        }
    }
}
