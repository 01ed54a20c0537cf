//! `coatroom clear-expired`: Django's `clearsessions`.

use std::process::ExitCode;

use clap::Args;
use indicatif::HumanCount;

use super::progress::spinner;
use super::settings::Settings;
use super::{fail, print, refuse};
use crate::app;
use crate::time::{Length, Stopwatch};

/// What is to be cleared.
#[derive(Args)]
pub(super) struct Clear {
    #[command(flatten)]
    settings: Settings,
    /// Only what ended longer ago than this: seconds, or a text such as "30 days". Without it session.keep_expired counts.
    #[arg(long, value_name = "LENGTH", value_parser = Length::parse)]
    older_than: Option<Length>,
}

/// Removes expired sessions, batch by batch, and says how many.
pub(super) fn run(wanted: &Clear) -> ExitCode {
    let config = match wanted.settings.load() {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let older_than = wanted.older_than.unwrap_or(config.session.keep_expired).0;
    let watch = Stopwatch::start();
    let bar = spinner("removed");
    let cleared = app::clear_expired(&config, older_than, |so_far| bar.set_position(so_far.removed as u64));
    bar.finish_and_clear();
    match cleared {
        Ok(Some(cleared)) => {
            let (sessions, others) = (cleared.sessions as u64, (cleared.removed - cleared.sessions) as u64);
            print(&format!(
                "expired sessions removed: {}; memories of ended ones: {}; time: {:.1?}\n",
                HumanCount(sessions),
                HumanCount(others),
                watch.elapsed(),
            ))
        }
        Ok(None) => print("nothing to do: this store forgets expired sessions by itself\n"),
        Err(error) => fail(error),
    }
}
