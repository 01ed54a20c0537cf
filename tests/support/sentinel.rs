//! A Redis with replicas, and the Sentinels that watch them.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use redis::FromRedisValue;
use tempfile::TempDir;

use super::authority::{Authority, Signed};
use super::child::until;
use super::guard::Guard;
use super::redis::Redis;

/// What the master is called.
pub const NAME: &str = "main";
/// So many of them; two agree that the master is gone.
const SENTINELS: usize = 3;

/// A master, its replicas, and three Sentinels. All end with it.
pub struct Watched {
    /// The first was the master when all began.
    pub servers: Vec<Redis>,
    pub sentinels: Vec<Sentinel>,
}

/// One of the Sentinels, killed when it is dropped.
pub struct Sentinel {
    child: Child,
    pub address: SocketAddr,
    folder: TempDir,
}

impl Watched {
    /// A master with two replicas, all of which have on disk what they have acknowledged.
    pub fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"], "")
    }

    /// The same, with other options for the servers, and more lines in the Sentinels' settings.
    pub fn with(options: &[&str], settings: &str) -> Self {
        Self::of(options, Redis::with, settings)
    }

    /// Servers and Sentinels that speak TLS, also to each other, whom this authority has signed.
    pub fn tls(authority: &Authority) -> Self {
        let Signed { cert, key } = authority.sign(&["localhost", "127.0.0.1"]);
        let settings = format!(
            "tls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {}\ntls-auth-clients no\ntls-replication yes\n",
            authority.own.cert
        );
        Self::of(&[], |options| Redis::tls_among(authority, options), &settings)
    }

    fn of(options: &[&str], start: impl Fn(&[&str]) -> Redis, settings: &str) -> Self {
        let quick = ["--repl-diskless-sync-delay", "0", "--repl-diskless-sync", "yes"];
        let options = [&quick[..], options].concat();
        let mut servers = vec![start(&options)];
        let master = servers[0].address;
        let of = format!("127.0.0.1 {}", master.port());
        for _ in 0..2 {
            servers.push(start(&[&options[..], &["--replicaof", &of]].concat()));
        }
        for replica in &servers[1..] {
            until(|| replica.replicates("link_status:up").then_some(()));
        }
        let sentinels: Vec<_> = (0..SENTINELS).map(|_| Sentinel::start(master, settings)).collect();
        let watched = Self { servers, sentinels };
        until(|| watched.sentinels.iter().all(Sentinel::knows_everybody).then_some(()));
        watched
    }

    /// One for all tests that do it no harm; it ends with this program.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<(Watched, Guard)> = OnceLock::new();
        let (watched, _) = SHARED.get_or_init(|| {
            // A master that stands still on a loaded machine is none that is away.
            let watched = Self::with(&[], &format!("sentinel down-after-milliseconds {NAME} 60000"));
            let servers = watched.servers.iter().map(|server| (server.id(), server.folder()));
            let sentinels = watched.sentinels.iter().map(|one| (one.child.id(), one.folder.path()));
            let guard = Guard::over(servers.chain(sentinels));
            (watched, guard)
        });
        watched
    }

    /// Their URL.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        format!("{}+sentinel://{}/{NAME}", self.servers[0].scheme(), hosts.join(","))
    }

    /// Which of the servers is the master.
    pub fn master(&self) -> usize {
        until(|| self.servers.iter().position(Redis::is_master))
    }
}

impl Sentinel {
    /// One that watches this master.
    pub fn start(master: SocketAddr, settings: &str) -> Self {
        // In memory: one that has waited two seconds for a disk, to write down what it knows, elects nobody for thirty.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        loop {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            if let Some(child) = launch(address, folder.path(), master, settings) {
                return Self { child, address, folder };
            }
        }
    }

    /// Asks it something.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let socket = self.folder.path().join("socket");
        let client = redis::Client::open(format!("redis+unix://{}", socket.display())).expect("a URL");
        let mut connection = client.get_connection().expect("it listens");
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query(&mut connection).unwrap_or_else(|error| panic!("it answers: {error}"))
    }

    /// Before that it would elect nobody.
    fn knows_everybody(&self) -> bool {
        let count = |what| self.ask::<Vec<redis::Value>>(&["SENTINEL", what, NAME]).len();
        count("SENTINELS") == SENTINELS - 1 && count("REPLICAS") == 2
    }

    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts one and waits until it watches. `None` if its port is taken.
fn launch(address: SocketAddr, folder: &Path, master: SocketAddr, settings: &str) -> Option<Child> {
    let (host, port) = (master.ip(), master.port());
    let port_of = if settings.contains("tls-") { "port 0\ntls-port" } else { "port" };
    let (own, folder_of) = (address.port(), folder.display());
    let mut text =
        format!("{port_of} {own}\nbind 127.0.0.1\nunixsocket {folder_of}/socket\ndir {folder_of}\n");
    let _ = write!(
        text,
        "sentinel monitor {NAME} {host} {port} 2\n\
         sentinel down-after-milliseconds {NAME} 500\n\
         sentinel failover-timeout {NAME} 3000\n\
         sentinel parallel-syncs {NAME} 2\n{settings}\n"
    );
    let file = folder.join("sentinel.conf");
    fs::write(&file, text).expect("written");
    let mut child = Command::new("redis-server")
        .arg(&file)
        .arg("--sentinel")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server can't be started: {error}; tests/run installs it"));
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let mut said = String::new();
    if lines.any(|line| {
        said += &format!("{line}\n");
        line.contains("+monitor")
    }) {
        // Whoever stops reading stops the writer in the end.
        std::thread::spawn(move || lines.for_each(drop));
        return Some(child);
    }
    drop(child.wait());
    assert!(TcpListener::bind(address).is_err(), "the Sentinel ended: {said}");
    None
}
