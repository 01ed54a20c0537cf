//! `coatroom check-config` and `coatroom print-config`.

use std::process::ExitCode;

use clap::Args;
use tokio::runtime::Builder;

use super::settings::Settings;
use super::{fail, print, refuse, tell};
use crate::config::{self, Config, Weight};

/// What is to be checked.
#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    settings: Settings,
    /// Try the store too: connect as the sidecar would, write and remove a record, and look at how durable it is.
    #[arg(long)]
    connect: bool,
}

/// Says `ok`, or everything that is wrong. Warnings don't make settings wrong.
pub(super) fn run(wanted: &Check) -> ExitCode {
    if wanted.connect {
        return connect(&wanted.settings);
    }
    match wanted.settings.load() {
        Ok(config) => {
            warn(&config);
            print("ok\n")
        }
        Err(problems) => refuse(&problems),
    }
}

/// The same, and what the store says.
fn connect(settings: &Settings) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let examined = runtime.block_on(config::examine(&settings.sources()));
    // A name that is being looked up still would keep us.
    runtime.shutdown_background();
    let (config, found) = match examined {
        Ok(examined) => examined,
        Err(problems) => return refuse(&problems),
    };
    warn(&config);
    let mut problems = Vec::new();
    for (weight, finding) in found {
        match weight {
            Weight::Problem => problems.push(finding),
            Weight::Warning => tell(format_args!("warning: {finding}")),
            Weight::Note => tell(format_args!("note: {finding}")),
        }
    }
    if problems.is_empty() { print("ok\n") } else { refuse(&problems) }
}

fn warn(config: &Config) {
    config.warnings().iter().for_each(|warning| tell(format_args!("warning: {warning}")));
}

/// Prints the settings as they result from all sources.
pub(super) fn print_config(settings: &Settings) -> ExitCode {
    match settings.load() {
        Ok(config) => print(&config.to_toml()),
        Err(problems) => refuse(&problems),
    }
}
