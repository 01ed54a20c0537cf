//! `coatroom keys`.

use std::process::ExitCode;

use aws_lc_rs::rand;
use clap::Subcommand;
use data_encoding::BASE64;

use super::{fail, print};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print a new key, 32 random bytes of the operating system as base64. For cookie.keys and
    /// store.encryption_keys.
    Generate,
}

/// Makes a key.
pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Generate => {
            let mut key = [0; 32];
            match rand::fill(&mut key) {
                Ok(()) => print(&format!("{}\n", BASE64.encode(&key))),
                Err(_) => fail("the operating system has no random bytes"),
            }
        }
    }
}
