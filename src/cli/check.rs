//! `coatroom check-config` and `coatroom print-config`.

use std::process::ExitCode;

use super::settings::Settings;
use super::{print, refuse, tell};

/// Says `ok`, or everything that is wrong. Warnings don't make settings wrong.
pub(super) fn check(settings: &Settings) -> ExitCode {
    match settings.load() {
        Ok(config) => {
            config.warnings().iter().for_each(|warning| tell(format_args!("warning: {warning}")));
            print("ok\n")
        }
        Err(problems) => refuse(&problems),
    }
}

/// Prints the settings as they result from all sources.
pub(super) fn print_config(settings: &Settings) -> ExitCode {
    match settings.load() {
        Ok(config) => print(&config.to_toml()),
        Err(problems) => refuse(&problems),
    }
}
