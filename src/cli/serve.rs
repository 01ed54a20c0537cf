//! `coatroom serve`.

use std::error::Error;
use std::iter;
use std::process::ExitCode;

use tracing::warn;

use super::settings::Settings;
use super::{fail, refuse};
use crate::app;
use crate::app::reload::Origin;
use crate::telemetry::logging;

/// Serves until it is told to stop.
pub(super) fn run(settings: &Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let log = match logging::init(&config.log) {
        Ok(log) => log,
        Err(error) => return fail(chain(&error)),
    };
    config.warnings().iter().for_each(|warning| warn!("{warning}"));
    match app::run(&config, Origin { sources: settings.sources(), log }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(chain(&error)),
    }
}

/// An error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (**error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
