//! One worker's connection to a Redis, and the calls that are made by it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use redis::Value;

use super::Times;
use super::answer::{self, Said};
use super::call::Call;
use super::source::{Connected, Source};
use super::target::Target;
use super::waiters::Waiters;
use crate::store::link::{self, Health, LONGEST_PAUSE, Line};
use crate::store::{Error, Kind};

/// Makes calls.
pub(super) struct Link {
    source: Arc<Source>,
    kept: link::Link<Source>,
    times: Arc<ArcSwap<Times>>,
    /// For writes that wait for replicas.
    waiters: Waiters,
}

impl Link {
    /// A link that is not open yet.
    pub(super) fn new(source: Source, opened: IntCounter, times: Arc<ArcSwap<Times>>) -> Self {
        let (source, waiters) = (Arc::new(source), Waiters::new(opened.clone()));
        let kept = link::Link::new(Arc::clone(&source), opened);
        Self { source, kept, times, waiters }
    }

    /// Sends a command and returns the answer, be it one that the server won't. One that waits for replicas goes over
    /// a connection of its own.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] where nothing was sent, `Broken` where that is not known, `Unreplicated` where it was done,
    /// and too few replicas have it.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Value, Error> {
        if call.wait.is_some() {
            // In a box, for every call would have room for it.
            return Box::pin(self.call_and_wait(call)).await;
        }
        let Line { connection: Connected { mut connection, target }, health } = self.kept.line().await?;
        let waiting = health.call(self.times.load().silence);
        let answer = call.send(&mut connection).await;
        waiting.answered();
        let answer = answer.map_err(|error| answer::broken(&error))??;
        self.heed(&answer, &target, &health);
        Ok(answer)
    }

    async fn call_and_wait(&self, call: &Call<'_>) -> Result<Value, Error> {
        // What is known of the server when there is a place counts, not what was when it was waited for.
        let _place = self.waiters.place().await?;
        let Line { connection: Connected { target, .. }, health } = self.kept.line().await?;
        let answer = self.waiters.call(&health, &target, call).await?;
        self.heed(&answer, &target, &health);
        Ok(answer)
    }

    /// Another server may have its name by now, or we another password. It is looked for now and then.
    fn heed(&self, answer: &Value, target: &Arc<Target>, health: &Health) {
        let kind = Said::of(answer).map(|said| said.kind());
        if matches!(kind, Some(Kind::ReadOnly | Kind::NoAuth)) && health.age() >= LONGEST_PAUSE {
            health.give_up();
            self.source.left(target);
        }
    }
}
