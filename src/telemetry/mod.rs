//! What is told about the program: logs, metrics, health. No secrets, and no API.

mod book;
mod escape;
pub mod health;
mod label;
pub mod logging;
pub mod metrics;
mod requests;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `[telemetry]`: the listener for probes and Prometheus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where `/livez`, `/readyz`, `/startupz` and `/metrics` are; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9400)) }
    }
}
