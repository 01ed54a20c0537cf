//! A store tried out: what is wrong with it, and with the settings that lead there.

use std::time::Duration;

use tokio::time::timeout;

use super::write::random;
use super::{Config, Part, file, memcached, open, redis, sql};
use crate::time::Length;

/// What two stores may take to say whether they are one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the name of what is made beside a store begins, to see whether it can be.
pub(super) const TRIAL: &str = ".coatroom-trial-";

/// A name for that, at a time when others try the same.
pub(super) fn trial() -> String {
    format!("{TRIAL}{:016x}", random().map_or(0, u64::from_ne_bytes))
}

/// What was found, and what to do about it. It shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// The setting that leads there, or that would change it.
    pub key: &'static str,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// There would be no sessions.
    Problem,
    /// There would be sessions, and some would be lost some day.
    Warning,
    /// It is as it is, or not known, because nobody may look.
    Note,
}

impl Finding {
    /// There would be no sessions.
    pub(super) fn problem(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight: Weight::Problem, key, what: what.into(), remedy: remedy.into() }
    }

    /// There would be sessions, and some would be lost some day.
    pub(super) fn warning(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::problem(key, what, remedy) }
    }

    /// It is as it is, or not known, because nobody may look.
    pub(super) fn note(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight: Weight::Note, ..Self::problem(key, what, remedy) }
    }
}

/// Tries the store that `store.url` names as sessions would use it, within ten seconds, and leaves nothing there.
///
/// The settings are those that were checked: what is wrong with them as they stand is not found again. `largest` is
/// what a session may hold (`session.max_bytes`).
pub async fn examine(config: &Config, largest: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (part, of_part) in config.parts() {
        let found = of_store(&of_part, largest).await.into_iter();
        // A cache may forget what it likes.
        let counts = |finding: &Finding| part != Part::Cache || finding.weight == Weight::Problem;
        findings
            .extend(found.filter(counts).map(|finding| Finding { key: part.key(finding.key), ..finding }));
    }
    let ill = findings.iter().any(|finding| finding.weight == Weight::Problem);
    if !ill && let Some((home, _)) = config.other() {
        let patient =
            Config { timeout: Length(PATIENCE), commit_timeout: Length(PATIENCE), ..config.clone() };
        if timeout(PATIENCE, open::are_one(&patient)).await == Ok(true) {
            let (what, remedy) =
                ("is another name of what store.url is", "name the other store, or remove it");
            findings.push(Finding::problem(home.other().key("store.url"), what, remedy));
        }
    }
    findings
}

async fn of_store(config: &Config, largest: usize) -> Vec<Finding> {
    match config.url.scheme() {
        file::SCHEME => file::examine(config).await,
        scheme if redis::SCHEMES.contains(&scheme) => redis::examine(config).await,
        scheme if sql::SCHEMES.contains(&scheme) => sql::examine(config).await,
        memcached::SCHEME => memcached::examine(config, largest).await,
        _ => Vec::new(),
    }
}
