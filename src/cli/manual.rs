//! `coatroom completions` and `coatroom man`: what a shell and a reader want to know of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{fail, print};

/// What the program's exit code means.
const STATUS: [(&str, &str); 4] = [
    ("0", "Done; of healthcheck: the answer is yes."),
    ("1", "Something failed, and standard error says what."),
    ("2", "The command line can't be read."),
    (
        "78",
        "Something is wrong with the settings, and standard error says what, where and what to do, a line each.",
    ),
];

#[derive(Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

#[derive(Args)]
pub(super) struct Pages {
    /// Write a page for each command into this folder, instead of the first page to standard output.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints a script that completes our command line.
pub(super) fn completions(completions: &Completions, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(completions.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints our manual page, or writes all of them.
pub(super) fn man(pages: &Pages, mut command: Command) -> ExitCode {
    command.build();
    let written = match &pages.dir {
        None => page(&command).map(|text| print(&text)),
        Some(dir) => write(&command, dir).map(|()| ExitCode::SUCCESS),
    };
    written.unwrap_or_else(|error| fail(format_args!("the manual can't be written: {error}")))
}

fn page(command: &Command) -> io::Result<String> {
    let mut text = Vec::new();
    let man = Man::new(command.clone()).source(concat!("coatroom ", env!("CARGO_PKG_VERSION")));
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let mut more = Roff::new();
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(settings) = command.get_after_help() {
        more.control("SH", ["SETTINGS"]).text([roman(settings.to_string())]);
    }
    // The first page, which none is above.
    if command.get_version().is_some() {
        more.control("SH", ["EXIT STATUS"]);
        for (code, meaning) in STATUS {
            more.control("TP", []).text([bold(code)]).text([roman(meaning)]);
        }
    }
    more.to_writer(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `coatroom.1`, `coatroom-serve.1`, …: each command's page, and those of what is below it.
fn write(command: &Command, dir: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    fs::write(dir.join(format!("{name}.1")), page(command)?)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| write(below, dir))
}
