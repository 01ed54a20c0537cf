//! `coatroom migrate`.

use std::process::ExitCode;

use tokio::runtime::Builder;

use super::settings::Settings;
use super::{fail, print, refuse};
use crate::config;

/// Makes the table of the store, or what it lacks. Whoever runs it needs the right to, which the sidecar does not.
pub(super) fn run(settings: &Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    match runtime.block_on(config::migrate(&config)) {
        Ok(done) => print(&(done.join("\n") + "\n")),
        Err(error) => fail(error),
    }
}
