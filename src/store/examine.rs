//! A store tried out: what is wrong with it, and with the settings that lead there.

use super::{Config, redis};

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
    /// It is not known, because nobody may look.
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

    /// It is not known, because nobody may look.
    pub(super) fn note(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight: Weight::Note, ..Self::problem(key, what, remedy) }
    }
}

/// Tries the store that `store.url` names as sessions would use it, within ten seconds, and leaves nothing there.
///
/// The settings are those that were checked: what is wrong with them as they stand is not found again.
pub async fn examine(config: &Config) -> Vec<Finding> {
    match config.url.scheme() {
        scheme if redis::SCHEMES.contains(&scheme) => redis::examine(config).await,
        _ => Vec::new(),
    }
}
