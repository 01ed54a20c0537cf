//! Keeps records; knows nothing of headers, cookies' attributes or proxies.

use serde::{Deserialize, Serialize};

use crate::time::Length;

/// `[store]`: where sessions are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `memory:`. Django: `SESSION_ENGINE`, `SESSION_FILE_PATH`.
    pub url: String,
    /// What a request may wait for its session to be loaded.
    pub timeout: Length,
    /// What a response may wait for its changes to be saved.
    pub commit_timeout: Length,
    /// A store that can't be asked: `reject` the request with 503, or go on as `anonymous`.
    pub on_error: OnError,
    /// `memory:` sessions at most; then the least worthy go first.
    pub max_sessions: usize,
    /// `memory:` bytes at most, keys and bookkeeping included.
    pub max_bytes: usize,
    /// `memory:` how often expired sessions are cleared.
    pub sweep_interval: Length,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            timeout: Length::millis(250),
            commit_timeout: Length::secs(1),
            on_error: OnError::Reject,
            max_sessions: 1_000_000,
            max_bytes: 512 * 1024 * 1024,
            sweep_interval: Length::secs(10),
        }
    }
}

/// What happens to a request whose session can't be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The client gets 503.
    Reject,
    /// The request goes on as `unavailable`.
    Anonymous,
}
