//! `coatroom copy`: all sessions of a store to another one.

use std::process::ExitCode;

use clap::Args;
use indicatif::HumanCount;

use super::progress::spinner;
use super::settings::Settings;
use super::{fail, print, refuse, tell};
use crate::app::{self, Manner, Tally};
use crate::time::Stopwatch;

/// From where, and to where.
#[derive(Args)]
pub(super) struct Copy {
    #[command(flatten)]
    settings: Settings,
    /// The store that has the sessions. Its password may be in store.password (if it is store.url) or store.move_password.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The store that is to get them.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Leave nothing behind: what is in the new store then is no longer in the old one. For a fleet that has store.previous.
    #[arg(long = "move")]
    moves: bool,
}

/// Copies or moves them, and says how many.
pub(super) fn run(wanted: &Copy) -> ExitCode {
    let config = match wanted.settings.load() {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let watch = Stopwatch::start();
    let (manner, verb) = if wanted.moves { (Manner::Move, "moved") } else { (Manner::Copy, "copied") };
    let bar = spinner("looked at");
    let (mut looked_at, mut unread) = (0, Vec::new());
    let done = app::copy(&config, &wanted.from, &wanted.to, manner, |so_far| {
        looked_at = so_far.all();
        bar.set_position(looked_at);
        unread.clone_from(&so_far.why);
    });
    bar.finish_and_clear();
    unread.iter().for_each(tell);
    match done {
        Ok(tally) => report(&tally, verb, watch),
        Err(error) if looked_at == 0 => fail(error),
        Err(error) => {
            fail(format_args!("{error}\nWhat was {verb} stays so: the same command goes on from there."))
        }
    }
}

fn report(tally: &Tally, verb: &str, watch: Stopwatch) -> ExitCode {
    let Tally { done, already, taken, ended, unreadable, resumed, .. } = tally;
    let went_on = if *resumed { "went on where it had stopped, and through all once more; " } else { "" };
    let printed = print(&format!(
        "{went_on}sessions {verb}: {}; there already: {}; expired, ended or moved by others: {}; not {verb}, for something \
         else is there: {}; unreadable: {}; time: {:.1?}\n",
        HumanCount(*done),
        HumanCount(*already),
        HumanCount(*ended),
        HumanCount(*taken),
        HumanCount(*unreadable),
        watch.elapsed(),
    ));
    if *unreadable > 0 { fail("what can't be read stays where it is") } else { printed }
}
