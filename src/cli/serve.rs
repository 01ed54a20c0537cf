//! `coatroom serve`.

use std::error::Error;
use std::iter;
use std::process::ExitCode;

use tracing::warn;

use super::settings::Settings;
use super::{fail, refuse};
use crate::app;
use crate::app::reload::{Hangups, Origin};
use crate::config::{self, Reading};
use crate::telemetry::logging;

/// Serves until it is told to stop.
pub(super) fn run(settings: &Settings) -> ExitCode {
    // Before anything else: from here on SIGHUP is not the end.
    let hangups = match Hangups::heard() {
        Ok(hangups) => hangups,
        Err(error) => return fail(chain(&error)),
    };
    let sources = settings.sources();
    let Reading { config, print } = config::read(&sources);
    let config = match config {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let log = match logging::init(&config.log) {
        Ok(log) => log,
        Err(error) => return fail(chain(&error)),
    };
    config.warnings().iter().for_each(|warning| warn!("{warning}"));
    match app::run(&config, Origin { sources, print, log, hangups }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(chain(&error)),
    }
}

/// An error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (**error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
