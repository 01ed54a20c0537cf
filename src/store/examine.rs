//! A store tried out: what is wrong with it, and with the settings that lead there.

use super::{Config, file, memcached, redis, sql};

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
    let mut findings = of_store(config, largest).await;
    if let Some(cache) = config.cache() {
        let of_cache = of_store(&cache, largest).await.into_iter();
        // It may forget what it likes.
        findings.extend(
            of_cache
                .filter(|finding| finding.weight == Weight::Problem)
                .map(|finding| Finding { key: of_cache_key(finding.key), ..finding }),
        );
    }
    if let Some(list) = config.revocations() {
        let of_list = of_store(&list, largest).await.into_iter();
        findings.extend(of_list.map(|finding| Finding { key: of_revocations_key(finding.key), ..finding }));
    }
    if let Some((home, other)) = config.other() {
        let of_other = of_store(&other, largest).await.into_iter();
        findings.extend(of_other.map(|finding| Finding { key: home.key(finding.key), ..finding }));
    }
    findings
}

/// The setting of the list of revocations that is meant by one of a store.
pub fn of_revocations_key(key: &'static str) -> &'static str {
    if key == "store.url" { "store.revocations" } else { key }
}

/// The setting of a cache that is meant by one of a store.
pub fn of_cache_key(key: &'static str) -> &'static str {
    match key {
        "store.url" => "store.cache",
        "store.password" => "store.cache_password",
        "store.password_file" => "store.cache_password_file",
        other => other,
    }
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
