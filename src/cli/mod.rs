//! The command line: what the program is told to do, and the only layer that prints.
//!
//! Exit codes: 0, 1 when something failed, 2 for a command line that can't be read, 78 (`EX_CONFIG` of sysexits)
//! for settings with problems.

mod check;
mod clear;
mod copy;
pub mod demo;
mod healthcheck;
mod keys;
mod manual;
mod migrate;
mod progress;
mod serve;
mod settings;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::Problem;
use crate::telemetry::logging;
use settings::Settings;

/// `EX_CONFIG`: the settings are wrong, and trying again won't help.
const EX_CONFIG: u8 = 78;

/// Gives any HTTP application server-side sessions: a reverse proxy beside it.
#[derive(Parser)]
#[command(name = "coatroom", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM.
    Serve(Settings),
    /// Check the settings and print all problems, one a line; exit with 78 if there are any.
    CheckConfig(check::Check),
    /// Remove expired sessions from the store, and say how many (Django: clearsessions). Sidecars do it by themselves.
    ClearExpired(clear::Clear),
    /// Copy all sessions of a store to another one, or move them, while sidecars serve; go on where it was stopped.
    Copy(copy::Copy),
    /// Print the settings as they result from all sources, as TOML; secrets as (hidden).
    PrintConfig(Settings),
    /// Make the table of an SQL store, or what one that Django made lacks; print what was done.
    Migrate(Settings),
    /// Try it: a shop without any session code, and coatroom before it.
    Demo,
    /// Make keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Ask a sidecar with these settings whether it is ready; exit with 0 if it is.
    Healthcheck(healthcheck::Probe),
    /// Print a script that completes this command line in a shell.
    Completions(manual::Completions),
    /// Print the manual page.
    Man(manual::Pages),
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(settings) => serve::run(&settings),
        Command::CheckConfig(wanted) => check::run(&wanted),
        Command::ClearExpired(wanted) => clear::run(&wanted),
        Command::Copy(wanted) => copy::run(&wanted),
        Command::PrintConfig(settings) => check::print_config(&settings),
        Command::Migrate(settings) => migrate::run(&settings),
        Command::Demo => match logging::init(&logging::Config::default()) {
            Ok(_) => demo::run().map_or_else(fail, |()| ExitCode::SUCCESS),
            Err(error) => fail(error),
        },
        Command::Keys(command) => keys::run(&command),
        Command::Healthcheck(probe) => healthcheck::run(&probe),
        Command::Completions(completions) => manual::completions(&completions, Cli::command()),
        Command::Man(pages) => manual::man(&pages, Cli::command()),
    }
}

/// Writes to standard output. A reader that went away (`| head`) is no failure of ours.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(format_args!("standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes a line to standard error. Where that is closed there is nobody to tell.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says why something failed.
fn fail(what: impl Display) -> ExitCode {
    tell(format_args!("coatroom: {what}"));
    ExitCode::FAILURE
}

/// Says what is wrong with the settings.
fn refuse(problems: &[Problem]) -> ExitCode {
    problems.iter().for_each(tell);
    ExitCode::from(EX_CONFIG)
}
