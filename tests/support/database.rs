//! Real servers of PostgreSQL and MariaDB, on free ports and in folders of their own.
//!
//! A server is the child of a shell that waits at a pipe whose other end this process holds: however this process
//! ends, the server ends with it, also one that all tests share and that nobody drops.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::authority::Signed;
use super::child::{stopped, until};

/// Runs a server until the pipe is closed; then it is killed, and its folder removed unless there is a word before.
const WATCHED: &str = r#"
folder=$1; shift
"$@" >>"$folder/log" 2>&1 </dev/null &
pid=$!
echo $pid
read -r word
kill -9 $pid 2>/dev/null
# PostgreSQL takes a process that nobody has waited for, for one that runs.
wait $pid 2>/dev/null
[ -n "$word" ] || until rm -rf "$folder"; do sleep 0.05; done
"#;

/// The superuser of both servers, without a password.
pub const ROOT: &str = "root";
/// The database that there is.
pub const DATABASE: &str = "coatroom";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brand {
    Postgres,
    MariaDb,
}

/// A running server, killed when it is dropped. What it has on disk goes too.
pub struct Database {
    brand: Brand,
    watcher: Child,
    pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
    folder: PathBuf,
    options: Vec<String>,
}

impl Database {
    /// A server that keeps what it acknowledges when it is killed (not when the machine is), with more options.
    pub fn start(brand: Brand, options: &[&str]) -> Self {
        Self::prepared(brand, options, |_| {})
    }

    fn prepared(brand: Brand, options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        brand.install(&folder);
        prepare(&folder);
        loop {
            // The system's choice; if somebody is quicker, another one.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            if let Some((watcher, pid)) = launch(brand, address, &folder, &options) {
                let server = Self { brand, watcher, pid, address, folder, options };
                server.make_database();
                return server;
            }
        }
    }

    /// A server that speaks TLS too, with this certificate.
    pub fn with_tls(brand: Brand, signed: &Signed) -> Self {
        if brand == Brand::MariaDb {
            let own = [format!("--ssl-cert={}", signed.cert), format!("--ssl-key={}", signed.key)];
            return Self::start(brand, &own.each_ref().map(String::as_str));
        }
        Self::prepared(brand, &["-c", "ssl=on"], |folder| {
            for (from, to) in [(&signed.cert, "server.crt"), (&signed.key, "server.key")] {
                let to = folder.join("data").join(to);
                fs::copy(from, &to).expect("a copy");
                fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("ours");
                if let Some((user, group)) = somebody() {
                    chown(&to, Some(user), Some(group)).expect("root may");
                }
            }
        })
    }

    /// The one that all tests share.
    pub fn shared(brand: Brand) -> &'static Self {
        static SERVERS: [OnceLock<Database>; 2] = [OnceLock::new(), OnceLock::new()];
        SERVERS[brand as usize].get_or_init(|| Self::start(brand, &[]))
    }

    fn make_database(&self) {
        if self.brand == Brand::MariaDb {
            let text = format!("CREATE DATABASE {DATABASE}");
            let done = self.client("mysql").args(["-e", &text]).output().expect("the client runs");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            return;
        }
        let text = format!("CREATE DATABASE {DATABASE}");
        let done = self.client("postgres").args(["-c", &text]).output().expect("the client runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Its URL for the superuser.
    pub fn url(&self) -> String {
        self.url_for(ROOT)
    }

    /// Its URL for a user (`user`, or `user:password`).
    pub fn url_for(&self, login: &str) -> String {
        self.url_at(login, &self.address.to_string())
    }

    /// The same for a server that is reached elsewhere.
    pub fn url_at(&self, login: &str, place: &str) -> String {
        format!("{}://{login}@{place}/{DATABASE}", self.brand.scheme())
    }

    /// Its URL by its Unix socket.
    pub fn url_by_socket(&self) -> String {
        let (scheme, folder) = (self.brand.scheme(), self.folder.display());
        match self.brand {
            Brand::Postgres => {
                format!("{scheme}://{ROOT}@/{DATABASE}?host={folder}&port={}", self.address.port())
            }
            Brand::MariaDb => format!("{scheme}://{ROOT}@/{DATABASE}?socket={folder}/socket"),
        }
    }

    /// Has it run a statement as the superuser, by its socket, and returns the rows: columns divided by tabs.
    pub fn ask(&self, text: &str) -> Vec<String> {
        let flag = if self.brand == Brand::Postgres { "-c" } else { "-e" };
        let done = self.client(DATABASE).args([flag, text]).output().expect("the client runs");
        assert!(done.status.success(), "{text}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
    }

    /// Holds what a statement locks.
    pub fn hold(&self, text: &str) -> Holder {
        let mut child = self
            .client(DATABASE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client runs");
        let pipe = child.stdin.as_mut().expect("piped");
        writeln!(pipe, "BEGIN; {text}; SELECT 'held';").expect("it reads");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        assert!(out.lines().map_while(Result::ok).any(|line| line == "held"), "{text}");
        Holder(child)
    }

    fn client(&self, database: &str) -> Command {
        client(self.brand, self.address, &self.folder, database)
    }

    /// Sends a signal to all of its processes: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let processes = fs::read_dir("/proc").expect("processes").filter_map(|entry| {
            let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let parent: u32 = stat.rsplit_once(')')?.1.split(' ').nth(2)?.parse().ok()?;
            (parent == self.pid).then(|| id.to_string())
        });
        let all: Vec<_> = std::iter::once(self.pid.to_string()).chain(processes).collect();
        // One of a connection may have ended by itself.
        drop(Command::new("kill").args(["-s", name]).args(&all).stderr(Stdio::null()).status());
        if name == "STOP" {
            until(|| all.iter().all(stopped).then_some(()));
        }
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        drop(self.watcher.stdin.take().map(|mut pipe| pipe.write_all(b"keep\n")));
        drop(self.watcher.wait());
    }

    /// Starts it again where it was, on what it has on disk, and waits until it serves.
    pub fn restart(&mut self) {
        self.kill();
        // Processes of the last one may have its memory still.
        (self.watcher, self.pid) = until(|| launch(self.brand, self.address, &self.folder, &self.options));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        drop(self.watcher.wait());
    }
}

/// A client in the middle of a transaction.
pub struct Holder(Child);

impl Holder {
    /// Ends it, and what it held with it.
    pub fn release(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.release();
    }
}

/// A table that nobody else has.
pub fn table() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("sessions_{}", NEXT.fetch_add(1, Relaxed))
}

impl Brand {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mysql",
        }
    }

    /// Makes what a server has on disk before its first start.
    fn install(self, folder: &Path) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its own folder");
        let data = folder.join("data");
        let mut command = match self {
            Self::Postgres => {
                let mut command = as_somebody(folder, &postgres("initdb"));
                command.args(["-U", ROOT, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C", "-D"]);
                command.arg(&data);
                command
            }
            Self::MariaDb => {
                let mut command = Command::new("mariadb-install-db");
                command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                command.args(me()).arg(format!("--datadir={}", data.display()));
                command
            }
        };
        let done = command.output().unwrap_or_else(|error| missing(self, &error));
        assert!(done.status.success(), "{self:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

fn missing(brand: Brand, error: &std::io::Error) -> ! {
    panic!("{brand:?} can't be started: {error}; tests/run installs it")
}

/// A program of PostgreSQL's: Debian keeps them apart by version.
fn postgres(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| name.into())
}

fn id(of: &[&str]) -> String {
    let id = Command::new("id").args(of).output().expect("id runs");
    String::from_utf8_lossy(&id.stdout).trim().to_owned()
}

fn is_root() -> bool {
    id(&["-u"]) == "0"
}

/// MariaDB wants to be told that root is meant.
fn me() -> Option<&'static str> {
    is_root().then_some("--user=root")
}

/// Who runs PostgreSQL, which doesn't run as root: user and group.
fn somebody() -> Option<(u32, u32)> {
    let name = if id(&["-u", "postgres"]).is_empty() { "nobody" } else { "postgres" };
    let number = |flag| id(&[flag, name]).parse().expect("a number");
    is_root().then(|| (number("-u"), number("-g")))
}

/// A program as that user, who gets the folder.
fn as_somebody(folder: &Path, program: &Path) -> Command {
    let Some((user, group)) = somebody() else { return Command::new(program) };
    chown(folder, Some(user), Some(group)).expect("root may");
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups").arg(program);
    command
}

fn client(brand: Brand, address: SocketAddr, folder: &Path, database: &str) -> Command {
    match brand {
        Brand::Postgres => {
            let mut command = Command::new("psql");
            command.arg("-h").arg(folder).args([
                "-p",
                &address.port().to_string(),
                "-U",
                ROOT,
                "-d",
                database,
            ]);
            command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]);
            command
        }
        Brand::MariaDb => {
            let mut command = Command::new("mariadb");
            command.args(["--no-defaults", "-n", "-N", "-B", "-u", ROOT, "-D", database, "-S"]);
            command.arg(folder.join("socket"));
            command
        }
    }
}

fn serves(brand: Brand, address: SocketAddr, folder: &Path) -> bool {
    let (database, flag) =
        if brand == Brand::Postgres { ("postgres", "-c") } else { ("information_schema", "-e") };
    let asked = client(brand, address, folder, database).args([flag, "SELECT 1"]).output();
    asked.unwrap_or_else(|error| missing(brand, &error)).status.success()
}

/// Starts a server and waits until it serves. `None` if it ended instead: its port was taken.
fn launch(brand: Brand, address: SocketAddr, folder: &Path, options: &[String]) -> Option<(Child, u32)> {
    let port = address.port().to_string();
    let data = folder.join("data");
    let mut server = match brand {
        Brand::Postgres => {
            let mut server = as_somebody(folder, &postgres("postgres"));
            server.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port, "-k"]).arg(folder);
            // A process that is killed leaves to the kernel what it has written.
            server.args(["-c", "fsync=off", "-c", "max_connections=300", "-c", "shared_buffers=32MB"]);
            server
        }
        Brand::MariaDb => {
            let mut server = Command::new("mariadbd");
            server.arg("--no-defaults").args(me()).arg(format!("--datadir={}", data.display()));
            server.arg(format!("--socket={}", folder.join("socket").display()));
            server.arg(format!("--pid-file={}", folder.join("pid").display()));
            server.args([&format!("--port={port}"), "--bind-address=127.0.0.1", "--max-connections=300"]);
            server.args(["--innodb-buffer-pool-size=32M", "--innodb-flush-method=nosync"]);
            // As Debian's own configuration has it.
            server.arg("--character-set-server=utf8mb4");
            server
        }
    };
    server.args(options);
    let mut watcher = Command::new("sh")
        .args(["-c", WATCHED, "sh"])
        .arg(folder)
        .arg(server.get_program())
        .args(server.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut line = String::new();
    BufReader::new(watcher.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let pid = line.trim().parse().expect("its number");
    let started = until(|| {
        if serves(brand, address, folder) {
            return Some(true);
        }
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ended = state.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'));
        ended.then_some(false)
    });
    if started {
        return Some((watcher, pid));
    }
    drop(watcher.stdin.take().map(|mut pipe| pipe.write_all(b"keep\n")));
    drop(watcher.wait());
    // Its port may be taken, or its memory is not free yet.
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert!(log.contains("in use") || log.contains("already exists"), "{brand:?} ended: {log}");
    None
}
