//! A real redis-server, on a free port and in a folder of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use redis::{Client, Connection, FromRedisValue, ToRedisArgs};
use tempfile::TempDir;

use super::authority::{Authority, Signed};
use super::child::{signal, until};

/// A server that is killed when it is dropped. What it has on disk goes too.
///
/// It has a Unix socket besides, by which tests ask it whatever its port wants.
pub struct Redis {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    /// It speaks TLS there, and nothing else.
    tls: bool,
    options: Vec<String>,
    /// Whose files are needed for as long.
    authority: Option<Authority>,
}

impl Redis {
    /// A server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server that has on disk whatever it has acknowledged.
    pub fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with more options than the tests' own.
    pub fn with(options: &[&str]) -> Self {
        Self::speaking(false, options)
    }

    /// A server that speaks TLS with this certificate, and believes clients whom `authority` has signed.
    pub fn tls(authority: &Authority, signed: &Signed, options: &[&str]) -> Self {
        let own = ["--tls-cert-file", &signed.cert, "--tls-key-file", &signed.key];
        let others = ["--tls-ca-cert-file", &authority.own.cert, "--tls-auth-clients", "no"];
        Self::speaking(true, &[&own[..], &others, options].concat())
    }

    /// One of several that speak TLS to each other too, whom `authority` has signed: `localhost`, or by their address.
    pub fn tls_among(authority: &Authority, options: &[&str]) -> Self {
        let signed = authority.sign(&["localhost", "127.0.0.1"]);
        Self::tls(authority, &signed, &[&["--tls-replication", "yes"], options].concat())
    }

    /// The same, and what its authority has signed is kept as long as it lives.
    pub fn keeping(self, authority: Authority) -> Self {
        let mut kept = self;
        kept.authority = Some(authority);
        kept
    }

    fn speaking(tls: bool, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        loop {
            // The system's choice; if somebody is quicker, another one.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            if let Some(child) = launch(address, folder.path(), tls, &options) {
                return Self { child, address, folder, tls, options, authority: None };
            }
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.place())
    }

    /// How its URL begins.
    pub const fn scheme(&self) -> &'static str {
        if self.tls { "rediss" } else { "redis" }
    }

    /// Its host and port; with TLS by the name that certificates are for.
    pub fn place(&self) -> String {
        if self.tls { format!("localhost:{}", self.address.port()) } else { self.address.to_string() }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        socket(self.folder())
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection that nobody else has.
    pub fn connect(&self) -> Connection {
        self.client().get_connection().expect("it listens")
    }

    fn client(&self) -> Client {
        Client::open(format!("redis+unix://{}", self.socket().display())).expect("a URL")
    }

    /// Asks it something, by a connection of its own.
    pub fn ask<T: FromRedisValue>(&self, words: &[impl ToRedisArgs]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.connect()).unwrap_or_else(|error| panic!("it answers: {error}"))
    }

    /// Does it serve, with all of its data?
    pub fn pings(&self) -> bool {
        self.client()
            .get_connection()
            .and_then(|mut connection| redis::cmd("PING").exec(&mut connection))
            .is_ok()
    }

    /// Asks it something; `None` if it is away, or has hung up: Sentinels end all connections to a server whose role
    /// they change.
    pub fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let mut connection = self.client().get_connection().ok()?;
        redis::Cmd::new().arg(words).query(&mut connection).ok()
    }

    /// Is it a master, as far as it says so itself?
    pub fn is_master(&self) -> bool {
        self.try_ask::<String>(&["INFO", "replication"]).is_some_and(|info| info.contains("role:master"))
    }

    /// Does it say this of its master, or its replicas: `state=online`, `master_link_status:up`?
    pub fn replicates(&self, word: &str) -> bool {
        self.try_ask::<String>(&["INFO", "replication"]).is_some_and(|info| info.contains(word))
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again where it was, on what it has on disk, and waits until it listens; it may be loading still.
    pub fn restart(&mut self) {
        self.kill();
        let (address, folder, options) = (self.address, self.folder.path(), &self.options);
        let tls = self.tls;
        self.child = until(|| launch(address, folder, tls, options));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port that other nodes of a cluster talk to: as free as the port itself, and outside of what the system gives away.
pub const fn bus(port: u16) -> u16 {
    if port > 32_000 { port - 30_000 } else { port + 20_000 }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// Starts a server and waits until it listens; it may be loading still. `None` if its port is taken.
fn launch(address: SocketAddr, folder: &Path, tls: bool, options: &[String]) -> Option<Child> {
    let port = address.port();
    let (plain, secure) = if tls { (0, port) } else { (port, 0) };
    let ports = [("--port", plain), ("--tls-port", secure), ("--cluster-port", bus(port))];
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1"])
        .args(ports.iter().flat_map(|(name, port)| [(*name).to_owned(), port.to_string()]))
        .arg("--unixsocket")
        .arg(socket(folder))
        .args(["--save", "", "--daemonize", "no", "--dir"])
        .arg(folder)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server can't be started: {error}; tests/run installs it"));
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    if lines.any(|line| line.contains("Server initialized")) {
        // Whoever stops reading stops the writer in the end.
        std::thread::spawn(move || lines.for_each(drop));
        return Some(child);
    }
    drop(child.wait());
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert!(TcpListener::bind(address).is_err(), "redis-server ended: {log}");
    None
}
