//! Everything that is no request: probes, the store's health, the end; clearing is in `clearing.rs`.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{error, info, warn};

use super::reload::Reloader;
use super::signals::{ENDING, Hangups, Signals};
use crate::config::Config;
use crate::drain::Drain;
use crate::proxy;
use crate::store::{self, Error, Finding, Kind, Store, Weight};
use crate::telemetry::health::{Health, Latch};
use crate::telemetry::metrics::{Metrics, Operation};
use crate::time::{Clock, Stopwatch};

/// What readiness waits for, in the words of the probe.
pub(super) const STORE: &str = "the store";
/// How often the store is asked whether it is there, where somebody depends on the answer: readiness, or those who
/// wait for it to come back.
const ASK: Duration = Duration::from_secs(1);
/// The same, where it is for the gauge only.
const LOOK: Duration = Duration::from_secs(5);

/// Everything that is no request: probes, clearing, the end.
pub(super) struct Control {
    pub(super) health: Health,
    pub(super) drain: Drain,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    /// What is in force.
    pub(super) config: Arc<ArcSwap<Config>>,
    /// Reads it again, where its origin is known.
    pub(super) reloader: Option<Reloader>,
    /// Tells when something else is in force.
    pub(super) told: Arc<Notify>,
}

/// How the store was when it was last asked.
struct Watched {
    /// Did it answer?
    up: Option<bool>,
    /// Holds readiness back.
    away: Option<Latch>,
}

fn unreached(problem: &Error) {
    error!(kind = problem.kind.label(), "the store can't be reached: {problem}");
}

impl Control {
    /// Runs to the end of the program. `reachable` holds readiness back until the store has answered.
    pub(super) fn run(
        self,
        telemetry: std::net::TcpListener,
        hangups: Hangups,
        reachable: Option<Latch>,
        stopped: oneshot::Receiver<()>,
    ) {
        let Hangups { runtime, signals } = hangups;
        runtime.block_on(self.watch(telemetry, signals, reachable, stopped));
    }

    async fn watch(
        mut self,
        telemetry: std::net::TcpListener,
        mut hangups: Signals<1>,
        reachable: Option<Latch>,
        stopped: oneshot::Receiver<()>,
    ) {
        let telemetry = match tokio::net::TcpListener::from_std(telemetry) {
            Ok(listener) => listener,
            Err(error) => return error!("the telemetry listener can't be used: {error}"),
        };
        let mut signals = Signals::new(ENDING);
        let reloader = self.reloader.take();
        let stop = tokio_util::sync::CancellationToken::new();
        let probes =
            crate::telemetry::serve(telemetry, self.metrics.clone(), self.health.clone(), stop.clone());
        let probes = tokio::spawn(probes);
        tokio::select! {
            () = self.clear() => {}
            () = self.look_after(reachable) => {}
            () = self.reload(reloader, &mut hangups) => {}
            () = signals.next() => {}
            _ = stopped => {}
        }
        tokio::select! {
            () = self.finish() => {}
            () = signals.next() => {
                warn!("asked to stop once more: whatever is in flight is cut off");
                self.drain.closing.cancel();
                self.drain.cut_off();
            }
        }
        stop.cancel();
        drop(probes.await);
    }

    /// Reads the settings again from time to time and at SIGHUP, for ever.
    async fn reload(&self, mut reloader: Option<Reloader>, hangups: &mut Signals<1>) {
        loop {
            let interval = self.config.load().reload.interval.0;
            let next = async {
                match reloader {
                    Some(_) if !interval.is_zero() => sleep(interval).await,
                    _ => pending().await,
                }
            };
            let asked = tokio::select! {
                () = next => false,
                () = hangups.next() => true,
            };
            match &mut reloader {
                Some(reloader) if asked => reloader.read("SIGHUP").await,
                Some(reloader) => reloader.look().await,
                None => {}
            }
        }
    }

    /// Waits for as long as the settings say, be they others meanwhile.
    pub(super) async fn pause(&self, length: impl Fn(&Config) -> Duration) {
        let began = Instant::now();
        loop {
            let other = self.told.notified();
            let until = began + length(&self.config.load());
            tokio::select! {
                () = sleep_until(until) => return,
                () = other => {}
            }
        }
    }

    /// Tries the store out once, as `check-config --connect` does, and asks it for ever whether it is there.
    async fn look_after(&self, away: Option<Latch>) {
        let mut state = Watched { up: None, away };
        let first = self.ask(&mut state).await;
        tokio::join!(self.examine(first.err()), async {
            loop {
                let ill = state.up == Some(false);
                let next =
                    |config: &Config| if ill || config.telemetry.ready_needs_store { ASK } else { LOOK };
                self.pause(next).await;
                let was_up = state.up;
                match self.ask(&mut state).await {
                    Ok(()) if was_up == Some(false) => info!("the store can be reached again"),
                    Err(problem) if was_up == Some(true) => unreached(&problem),
                    _ => {}
                }
            }
        });
    }

    /// Says what is wrong with the store and with the settings that lead there, a line each. `first` is what it said
    /// when it was first asked.
    async fn examine(&self, first: Option<Error>) {
        let config = self.config.load_full();
        let findings = store::examine(&config.store, config.session.max_bytes).await;
        let mut problems = findings.iter().filter(|finding| finding.weight == Weight::Problem).peekable();
        if let (None, Some(problem)) = (problems.peek(), first) {
            unreached(&problem);
        }
        for Finding { key, what, remedy, .. } in problems {
            error!(setting = key, "{what}: {remedy}");
        }
    }

    /// Asks the store whether it is there. Readiness follows, if it is to.
    async fn ask(&self, state: &mut Watched) -> Result<(), Error> {
        let watch = Stopwatch::start();
        let late = |_| Error::new(Kind::Timeout, "the store did not answer within store.timeout");
        let config = self.config.load_full();
        let answer = timeout(config.store.timeout.0, self.store.ping()).await;
        let answer = answer.map_err(late).and_then(|answer| answer);
        self.metrics.operation(Operation::Ping, watch.elapsed());
        self.metrics.store_up.set(answer.is_ok().into());
        state.away = match &answer {
            Ok(()) => None,
            Err(problem) => {
                self.metrics.store_error(Operation::Ping, problem.kind.label());
                match state.away.take() {
                    _ if !config.telemetry.ready_needs_store => None,
                    None => Some(self.health.latch(STORE)),
                    held => held,
                }
            }
        };
        state.up = Some(answer.is_ok());
        answer
    }

    /// Not ready; still accepting for a while; no more connections; what is in flight finishes, or is cut off.
    async fn finish(&self) {
        let config = self.config.load_full();
        let proxy::Config { drain_delay, drain_timeout, .. } = &config.proxy;
        self.health.drain();
        self.drain.leave();
        sleep(drain_delay.0).await;
        self.drain.closing.cancel();
        self.drain.finish();
        if timeout(drain_timeout.0, self.drain.drained()).await.is_err() {
            warn!("some requests did not finish within proxy.drain_timeout: they are cut off");
            self.drain.cut_off();
        }
    }
}
