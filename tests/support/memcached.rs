//! A real memcached, on a free port.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::child::{signal, until};
use super::client::PATIENCE;

/// A server that is killed when it is dropped; what it keeps goes with it.
pub struct Memcached {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    options: Vec<String>,
}

impl Memcached {
    /// A server that takes what any test puts there.
    pub fn start() -> Self {
        Self::with(&["-I", "2m"])
    }

    /// A server with more options than the tests' own.
    pub fn with(options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        loop {
            // The system's choice; if somebody is quicker, another one.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            if let Some(child) = launch(address, &options) {
                return Self { child, address, options };
            }
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("memcache://{}", self.address)
    }

    /// Asks it something, by a connection of its own: the lines of the answer up to `END`, where there are several.
    pub fn ask(&self, command: &str) -> Vec<String> {
        ask(self.address, command).unwrap_or_else(|| panic!("{command} is answered"))
    }

    /// A number that it says of itself.
    pub fn stat(&self, name: &str) -> u64 {
        stat(&self.ask("stats"), name).unwrap_or_else(|| panic!("{name} is a number"))
    }

    /// What it calls the only key that it has.
    pub fn key(&self) -> String {
        // One that moves from list to list meanwhile is named twice, or not at all.
        until(|| {
            let lines = self.ask("lru_crawler metadump all");
            let key = |line: &String| line.strip_prefix("key=")?.split(' ').next().map(str::to_owned);
            let mut keys: Vec<_> = lines.iter().filter_map(key).collect();
            keys.dedup();
            assert!(keys.len() < 2, "{lines:?}");
            keys.pop().map(|key| key.replace("%3A", ":"))
        })
    }

    /// Seconds for which it keeps a value still; `None` = for ever.
    pub fn left(&self, key: &str) -> Option<u64> {
        let line = self.ask(&format!("mg {key} t")).remove(0);
        let left = line.strip_prefix("HD t").unwrap_or_else(|| panic!("{line}"));
        left.parse().ok()
    }

    /// Sends it a signal: `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Kills it, as a crash would: it has forgotten everything.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again where it was, and waits until it serves.
    pub fn restart(&mut self) {
        self.kill();
        let (address, options) = (self.address, &self.options);
        self.child = until(|| launch(address, options));
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a server and waits until it serves. `None` if its port is taken.
fn launch(address: SocketAddr, options: &[String]) -> Option<Child> {
    let mut child = Command::new("memcached")
        // Whoever is root must say as whom it is to run.
        .args(["-u", "root", "-l", "127.0.0.1", "-U", "0", "-t", "2", "-p", &address.port().to_string()])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("memcached can't be started: {error}; tests/run installs it"));
    let serves = until(|| {
        // Another one may have had the port before it, and serve there.
        let serves = ask(address, "stats").is_some_and(|lines| match stat(&lines, "pid") {
            Some(pid) => pid == u64::from(child.id()),
            // It wants a password first, and doesn't say.
            None => lines[0].contains("unauthenticated"),
        });
        let ended = child.try_wait().expect("a child").is_some();
        if ended { Some(false) } else { serves.then_some(true) }
    });
    serves.then_some(child)
}

fn ask(address: SocketAddr, command: &str) -> Option<Vec<String>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_owned();
        if line == "END" {
            return Some(lines);
        }
        let more = line.starts_with("STAT ") || line.starts_with("key=");
        if let Some(length) = line.strip_prefix("VA ") {
            let length = length.split(' ').next()?.parse().expect("a length");
            let mut value = vec![0; length];
            reader.read_exact(&mut value).ok()?;
            lines.push(String::from_utf8_lossy(&value).into_owned());
            return Some(lines);
        }
        lines.push(line);
        if !more {
            return Some(lines);
        }
    }
}

fn stat(lines: &[String], name: &str) -> Option<u64> {
    let of = |line: &String| line.strip_prefix("STAT ")?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    lines.iter().find_map(of)
}
