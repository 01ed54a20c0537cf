//! The flags that every command with settings has.

use std::env;
use std::path::PathBuf;

use clap::Args;

use crate::config::{self, Config, Flag, Problem, Sources};

/// Where settings come from: defaults, then FILE, then environment variables such as `COATROOM__COOKIE__NAME`, then
/// flags.
#[derive(Args)]
#[command(after_help = "Settings are read from FILE, then from environment variables such as \
    COATROOM__COOKIE__NAME=sid, then from flags; the last one counts.")]
pub(super) struct Settings {
    /// The TOML file with the settings; without it none is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect, such as 127.0.0.1:8080. Overrides proxy.listen.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The application: http://host:port or unix:/path. Overrides proxy.backend.
    #[arg(long, value_name = "URL")]
    backend: Option<String>,
    /// Where sessions are kept. Overrides store.url.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Threads that serve; 0 = chosen by the number of cores. Overrides proxy.workers.
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// Where probes and /metrics are, such as 127.0.0.1:9400. Overrides telemetry.listen.
    #[arg(long, value_name = "ADDR")]
    telemetry_listen: Option<String>,
}

impl Settings {
    /// Reads the settings from all sources.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn load(&self) -> Result<Config, Vec<Problem>> {
        config::load(&self.sources())
    }

    /// Where they come from.
    pub(super) fn sources(&self) -> Sources {
        let flags = [
            ("proxy.listen", "--listen", &self.listen),
            ("proxy.backend", "--backend", &self.backend),
            ("store.url", "--store", &self.store),
            ("proxy.workers", "--workers", &self.workers),
            ("telemetry.listen", "--telemetry-listen", &self.telemetry_listen),
        ];
        let given = |(key, name, value): (_, _, &Option<String>)| {
            value.clone().map(|value| Flag { key, name, value })
        };
        Sources {
            file: self.config.clone(),
            environment: env::vars_os().collect(),
            flags: flags.into_iter().filter_map(given).collect(),
        }
    }
}
