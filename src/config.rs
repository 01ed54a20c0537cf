//! All settings: the sections of every module, read in layers and checked as a whole.
//!
//! Later layers override earlier ones: defaults, the file (TOML), the environment (`COATROOM__SECTION__KEY`), the
//! flags. Nothing is read that was not asked for: no file is searched for. Whatever is wrong is reported at once,
//! each [`Problem`] with its key, its source and a remedy, so that a deployment fails once and not once a mistake.

pub mod address;
mod check;
mod fault;
mod file;
mod key;
mod layers;
mod problem;
mod restart;
mod schema;
mod warning;
mod watch;

use figment::Figment;
use serde::{Deserialize, Serialize};

pub use layers::{Flag, Sources};
pub use problem::Problem;
pub use restart::{FOLLOWING, ONLY_BY_RESTART};
pub use watch::Print;

pub use crate::store::Weight;

use crate::proxy::{self, page, routes};
use crate::store::Finding;
use crate::telemetry::{self, logging};
use crate::wire::{self, cookie};
use crate::{session, store};

/// The settings of the whole program.
///
/// `Debug` and [`Config::to_toml`] show no secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The sockets on both sides.
    pub proxy: proxy::Config,
    /// The session cookie.
    pub cookie: cookie::Config,
    /// How sessions live and end.
    pub session: session::Config,
    /// What the sidecar and the backend say to each other.
    pub headers: wire::Config,
    /// What clients are told where something fails.
    pub errors: page::Config,
    /// Where sessions are kept.
    pub store: store::Config,
    /// Which requests have a session; empty = all.
    pub routes: Vec<routes::Config>,
    /// The listener for probes and Prometheus.
    pub telemetry: telemetry::Config,
    /// What is written to standard error.
    pub log: logging::Config,
    /// Settings that change while requests are served.
    pub reload: watch::Config,
}

/// Reads the settings from all sources and checks them.
///
/// # Errors
/// Every problem there is, in the order of the sources: unknown keys, values that don't fit, and what
/// [`Config::validate`] says of those that do. Only where the file can't be read at all are settings not checked
/// against each other, since most of them are not known.
pub fn load(sources: &Sources) -> Result<Config, Vec<Problem>> {
    read(sources).config
}

/// Settings, and what the files said that they come from.
pub struct Reading {
    /// The settings, or what is wrong with them, as [`load`] has it.
    pub config: Result<Config, Vec<Problem>>,
    /// What the files said just before they were read: what changes after that is seen by another look. Settings that
    /// are wrong name files too, which may be what is wrong.
    pub print: Print,
}

/// Reads the settings, as [`load`] does, for somebody who wants to know when they change.
pub fn read(sources: &Sources) -> Reading {
    reading(sources, |_| Vec::new())
}

/// Reads the settings of a running program again: files that can't be read twice are left alone, and an empty one is
/// a mistake.
pub fn read_again(sources: &Sources) -> Reading {
    reading(sources, Print::faults)
}

fn reading(sources: &Sources, faults: fn(&Print) -> Vec<Problem>) -> Reading {
    let mut print = Print::of(sources);
    let config = trace(sources, &mut print, faults).map(|traced| traced.config);
    Reading { config, print }
}

/// Reads the settings as [`load`] does, and then tries the store that they name, which takes up to ten seconds.
///
/// What the store has against them are problems too, or less than that.
///
/// # Errors
/// As [`load`]: with settings that are wrong no store is tried.
pub async fn examine(sources: &Sources) -> Result<(Config, Vec<(Weight, Problem)>), Vec<Problem>> {
    let traced = trace(sources, &mut Print::of(sources), |_| Vec::new())?;
    let Config { store, session, .. } = &traced.config;
    let found = store::examine(store, session.max_bytes).await;
    let located =
        |Finding { weight, key, what, remedy }| (weight, traced.located(Problem::new(key, what, remedy)));
    let found = found.into_iter().map(located).collect();
    Ok((traced.config, found))
}

/// Makes the table of the store that these settings name, or what it lacks, and that of the one that sessions move to
/// or from, and says what was done.
///
/// # Errors
/// Why it can't be done.
pub async fn migrate(config: &Config) -> Result<Vec<String>, store::Error> {
    let is_sql = |(_, of): &(store::Part, store::Config)| store::sql::SCHEMES.contains(&of.url.scheme());
    let mut parts = config.store.parts();
    if parts.iter().any(is_sql) {
        parts.retain(is_sql);
    } else {
        parts.truncate(1);
    }
    let mut done = Vec::new();
    for (_, of_part) in parts {
        done.extend(store::sql::migrate(&of_part).await?);
    }
    Ok(done)
}

/// Settings, and where each came from.
struct Traced {
    config: Config,
    figment: Figment,
    layers: Vec<layers::Layer>,
}

/// `print` is of the file of the settings, and gets the files that they name; nothing is read that has `faults`.
fn trace(
    sources: &Sources,
    print: &mut Print,
    faults: fn(&Print) -> Vec<Problem>,
) -> Result<Traced, Vec<Problem>> {
    let passing = |print: &Print| Some(faults(print)).filter(|faults| !faults.is_empty());
    if let Some(faults) = passing(print) {
        return Err(faults);
    }
    let layers::Gathered { layers, mut problems, complete } = layers::gather(sources);
    let figment = layers.iter().fold(Figment::new(), Figment::merge);
    let config = match figment.extract::<Config>() {
        Ok(config) => config,
        // Every value was tried on its own before, so this is a mistake of ours; it must not stay unseen.
        Err(error) => {
            problems.push(Problem::new(error.path.join("."), error.kind.to_string(), "report this as a bug"));
            return Err(problems);
        }
    };
    print.and_those_of(&config);
    if let Some(faults) = passing(print) {
        problems.extend(faults);
        return Err(problems);
    }
    let traced = Traced { config, figment, layers };
    if complete {
        let found = traced.config.validate().into_iter().map(|problem| traced.located(problem));
        // A setting whose value didn't fit has its default now, and what that breaks is nobody's fault.
        let misfit = |problem: &Problem| problems.iter().any(|known| known.key.starts_with(&problem.key));
        let found: Vec<_> = found.filter(|problem| !misfit(problem)).collect();
        problems.extend(found);
    }
    if problems.is_empty() { Ok(traced) } else { Err(problems) }
}

impl Traced {
    /// The problem with the source that its value came from, and with the key as it is there.
    fn located(&self, problem: Problem) -> Problem {
        let setting = problem.key.split('[').next().unwrap_or_default();
        let name = self.figment.find_metadata(setting).map_or("", |metadata| &metadata.name);
        let Some(layer) = self.layers.iter().find(|layer| layer.name() == name) else { return problem };
        let key = layer.origin(&problem.key);
        let source = layer.place(&key);
        Problem { key, ..problem }.at(source)
    }
}

impl Config {
    /// Checks every rule that a value of the right type can still break, alone or together with others.
    ///
    /// Reads the files of the `…_file` settings. The problems name no source: only [`load`] knows it.
    pub fn validate(&self) -> Vec<Problem> {
        check::all(self)
    }

    /// Says what is allowed, but seldom meant.
    pub fn warnings(&self) -> Vec<String> {
        warning::all(self)
    }

    /// Writes all settings as TOML that [`load`] reads; secrets stand as `(hidden)`.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings are texts, numbers, lists and tables, which TOML has")
    }
}

#[cfg(test)]
mod tests;
