//! New settings for a running program.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{error, info, warn};

pub use super::signals::Hangups;
use super::{Error, keyed_rules, rules};
use crate::config::{self, Config, ONLY_BY_RESTART, Print, Problem, Reading, Sources};
use crate::proxy::Rules;
use crate::store::{Store, keyed};
use crate::telemetry::logging;
use crate::telemetry::metrics::{Metrics, Reloaded};
use crate::time::Clock;

/// What has changed is looked at once more after this: whoever writes a file in several steps is not half understood.
const SETTLE: Duration = Duration::from_millis(200);
/// How often that is hoped for before it counts as a mistake that files change all the time.
const ATTEMPTS: usize = 10;

/// Where settings come from, for those who may change.
pub struct Origin {
    /// Where they are read from.
    pub sources: Sources,
    /// What the files said when they were read.
    pub print: Print,
    /// What `log.level` governs.
    pub log: logging::Reload,
    /// Asks to read them again.
    pub hangups: Hangups,
}

/// Reads settings again, and puts good ones in force as a whole.
pub(super) struct Reloader {
    pub(super) sources: Sources,
    /// What the files said when they were last read.
    pub(super) seen: Print,
    /// What they said when they last were right.
    pub(super) good: Print,
    pub(super) log: logging::Reload,
    /// What the program was started with.
    pub(super) started: Config,
    /// What is in force.
    pub(super) current: Arc<ArcSwap<Config>>,
    /// What of it requests go by.
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// Tells those who wait for a time of the settings that there are others.
    pub(super) told: Arc<Notify>,
}

/// Settings that are good, and all that is made of them.
struct Built {
    /// As they are written.
    new: Config,
    /// As they can be followed without a restart.
    followed: Config,
    rules: Rules,
    keyed: keyed::Rules,
}

impl Reloader {
    /// Reads the settings again if a file says something else than when it was last read, and has said it for a
    /// moment.
    pub(super) async fn look(&mut self) {
        let now = self.seen.again();
        if now == self.seen {
            return;
        }
        sleep(SETTLE).await;
        if now.again() == now {
            self.read("a file has changed").await;
        }
    }

    /// Reads the settings again. Where anything is wrong with them everything stays as it is.
    pub(super) async fn read(&mut self, why: &'static str) {
        let told = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        let said = |error: Error| vec![error.to_string()];
        let mut outcome =
            Err(vec!["the files change while they are read: try again when they are written".to_owned()]);
        for _ in 0..ATTEMPTS {
            let Reading { config, print } = config::read_again(&self.sources);
            let built = config.and_then(|config| self.followed(config)).map_err(told);
            let built = built.and_then(|(new, followed)| self.build(new, followed).map_err(said));
            // Each file was read more than once: to check it, and to go by it.
            if print.again() == print {
                self.seen = print;
                outcome = built;
                break;
            }
            sleep(SETTLE).await;
        }
        let result = match outcome.and_then(|built| self.apply(built, why).map_err(said)) {
            Ok(()) => Reloaded::Applied,
            Err(problems) => {
                problems.iter().for_each(|problem| error!("{problem}"));
                error!(why, "the settings were read again and are wrong: those of before stay in force");
                Reloaded::Failed
            }
        };
        self.metrics.reloaded(result, self.clock.now().as_secs());
    }

    /// New settings, and what comes into force of them beside those that wait for a restart, which has to be right too.
    fn followed(&self, new: Config) -> Result<(Config, Config), Vec<Problem>> {
        let followed = self.started.followed_by(&new);
        let mut problems = followed.validate();
        // Those were right together when the program started. Their files may have gone since, and whoever reads them says so.
        problems.retain(|problem| !ONLY_BY_RESTART.contains(&&*problem.key));
        let beside =
            |problem| Problem { source: "beside settings that wait for a restart".to_owned(), ..problem };
        let problems: Vec<_> = problems.into_iter().map(beside).collect();
        if problems.is_empty() { Ok((new, followed)) } else { Err(problems) }
    }

    /// Makes everything of new settings that requests go by. Nothing is in force yet.
    fn build(&self, new: Config, followed: Config) -> Result<Built, Error> {
        let rules = rules(&followed, &self.store, &self.metrics)?;
        let keyed = keyed_rules(&followed)?;
        Ok(Built { new, followed, rules, keyed })
    }

    /// Puts it in force.
    fn apply(&mut self, built: Built, why: &'static str) -> Result<(), Error> {
        let Built { new, followed, rules, keyed } = built;
        // It could be refused, so it comes first.
        self.log.level(&followed.log.level).map_err(|error| Error(error.to_string()))?;
        self.store.reload(&followed.store, keyed);
        self.rules.store(Arc::new(rules));
        let before = self.current.swap(Arc::new(followed.clone()));
        self.told.notify_waiters();

        let mut changed = before.following(&followed);
        changed.extend(self.seen.since(&self.good));
        self.good = self.seen.clone();
        let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
        if self.sources.file.is_some() {
            info!(why, changed, "the settings were read again and are in force");
        } else {
            info!(why, changed, "there is no --config: the files that settings name were read again");
        }
        let (old, waiting) = (before.warnings(), self.started.waiting(&new));
        followed.warnings().iter().filter(|text| !old.contains(text)).for_each(|text| warn!("{text}"));
        if !waiting.is_empty() {
            warn!("these settings have changed and wait for a restart: {}", waiting.join(", "));
        }
        Ok(())
    }
}
