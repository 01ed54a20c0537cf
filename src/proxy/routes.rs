//! Which requests have a session: `routes`.

use serde::{Deserialize, Serialize};

/// One entry of `routes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Matches itself and everything below it, by whole segments, case-sensitive.
    pub path: String,
    /// Only these methods; empty = all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What happens to the session.
    #[serde(default)]
    pub session: Mode,
}

/// What a route does with the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Loaded, injected, directives obeyed.
    #[default]
    On,
    /// As `on`, but nothing extends the session's life and no cookie is renewed (polling).
    NoTouch,
    /// Loaded and injected; directives are stripped and counted, never obeyed.
    Read,
    /// No store access, no session headers, no cookie.
    Off,
}
