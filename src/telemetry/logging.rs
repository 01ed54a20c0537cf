//! Logs by `tracing`: for people on a terminal, JSON otherwise.

use serde::{Deserialize, Serialize};

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,coatroom::store=debug`.
    pub level: String,
    /// `auto` (text on a terminal, JSON otherwise), `text` or `json`.
    pub format: Format,
    /// One event a request.
    pub access: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto, access: false }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}
