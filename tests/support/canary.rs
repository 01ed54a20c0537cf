//! Tokens that must never be seen: what the suite writes, and what it must not find there afterwards.
//!
//! `tests/run` names a folder in `COATROOM_CANARIES`. Every token that a test was given is noted there, and so is every
//! line that any sidecar logged, at the finest level; at the end `tests/run` looks for the one in the other, and in all
//! that the tests printed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Once;

fn open(name: &str) -> Option<File> {
    let folder = PathBuf::from(std::env::var_os("COATROOM_CANARIES")?);
    Some(
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(name))
            .expect("the folder of tests/run"),
    )
}

/// Notes a token.
pub fn sing(token: &str) {
    if let Some(mut file) = open("tokens") {
        // One write, so that lines of parallel tests don't mix.
        file.write_all(format!("{token}\n").as_bytes()).expect("the token is noted");
    }
}

/// Notes what a program printed.
pub fn printed(output: &str) {
    if let Some(mut file) = open("programs.log") {
        file.write_all(output.as_bytes()).expect("the output is noted");
    }
}

/// Lets every sidecar of this process log everything.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(file) = open("sidecars.log") {
            let everything = tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE);
            everything.with_writer(std::sync::Mutex::new(file)).init();
        }
    });
}
