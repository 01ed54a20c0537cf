//! New settings for a running program.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::{keyed_rules, rules};
use crate::config::{self, Config, Print, Sources};
use crate::proxy::Rules;
use crate::store::Store;
use crate::telemetry::logging;
use crate::telemetry::metrics::{Metrics, Reloaded};
use crate::time::Clock;

/// What has changed is looked at once more after this: whoever writes a file in several steps is not half understood.
const SETTLE: Duration = Duration::from_millis(200);

/// Where settings come from, for those who may change.
pub struct Origin {
    /// Where they are read from.
    pub sources: Sources,
    /// What `log.level` governs.
    pub log: logging::Reload,
}

/// Reads settings again, and puts good ones in force as a whole.
pub(super) struct Reloader {
    pub(super) origin: Origin,
    /// What the files said when they were last read.
    pub(super) seen: Print,
    /// What the program was started with.
    pub(super) started: Config,
    /// What is in force.
    pub(super) current: Arc<ArcSwap<Config>>,
    /// What of it requests go by.
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl Reloader {
    /// Reads the settings again if a file says something else than when it was last read.
    pub(super) async fn look(&mut self) {
        if self.print() == self.seen {
            return;
        }
        let changed = self.print();
        sleep(SETTLE).await;
        if self.print() == changed {
            self.read("a file has changed");
        }
    }

    fn print(&self) -> Print {
        Print::of(&self.origin.sources, &self.current.load())
    }

    /// Reads the settings again. Where anything is wrong with them everything stays as it is.
    pub(super) fn read(&mut self, why: &'static str) {
        // Before the files are read: what changes after that is seen by the next look.
        self.seen = self.print();
        let outcome = match self.apply() {
            Ok(waiting) => {
                info!(why, "the settings were read again and are in force");
                if !waiting.is_empty() {
                    warn!("these settings have changed and wait for a restart: {}", waiting.join(", "));
                }
                // It may name other files now.
                self.seen = self.print();
                Reloaded::Applied
            }
            Err(problems) => {
                problems.iter().for_each(|problem| error!("{problem}"));
                error!(why, "the settings were read again and are wrong: those of before stay in force");
                Reloaded::Failed
            }
        };
        self.metrics.reloaded(outcome, self.clock.now().as_secs());
    }

    /// Puts everything in force that can be, or nothing; returns what waits for a restart.
    fn apply(&self) -> Result<Vec<&'static str>, Vec<String>> {
        let told =
            |problems: Vec<config::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        let new = config::load(&self.origin.sources).map_err(told)?;
        let followed = self.started.followed_by(&new);
        let fresh = rules(&followed, &self.store, &self.metrics).map_err(|error| vec![error.to_string()])?;
        let keyed = keyed_rules(&followed).map_err(|error| vec![error.to_string()])?;
        self.origin.log.level(&followed.log.level).map_err(|error| vec![error.to_string()])?;
        self.store.reload(keyed);
        self.rules.store(Arc::new(fresh));
        self.current.store(Arc::new(followed));
        Ok(self.started.waiting(&new))
    }
}
