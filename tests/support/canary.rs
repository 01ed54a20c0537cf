//! Tokens that must never be seen: what the suite writes, and what it must not find there afterwards.
//!
//! Every sidecar of this process logs everything, at the finest level, into memory, where a test can look for its own
//! lines. `tests/run` names a folder in `COATROOM_CANARIES` besides: every token that a test was given is noted there, and
//! so is every line of the log; at the end `tests/run` looks for the one in the other, and in all that the tests printed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, Once};

use coatroom::session::Token;

/// What the sidecars of this process have logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

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

/// Notes a cookie's value if it is a token, or part of a sealed one; tests have other cookies too.
pub fn sing(token: &str) {
    let of_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_part = token.len() >= 80 && token.bytes().all(of_base64url);
    if Token::parse(token.as_bytes()).is_none() && !is_part {
        return;
    }
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

/// Where log lines go.
struct Ear(Option<File>);

impl Write for Ear {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.lock().expect("no panic while held").extend_from_slice(line);
        self.0.as_mut().map_or(Ok(()), |file| file.write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets every sidecar of this process log everything.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let everything = tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE);
        everything.with_writer(Mutex::new(Ear(open("sidecars.log")))).init();
    });
}

/// All lines so far that hold a text.
pub fn logged(text: &str) -> Vec<String> {
    let log = LOG.lock().expect("no panic while held");
    let log = String::from_utf8_lossy(&log);
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
