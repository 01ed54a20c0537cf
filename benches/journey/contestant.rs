//! Who takes part, and how each is set up: as somebody who knows it would, without logs, with connections kept.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use coatroom::time::Stopwatch;

use super::Scenario;
use super::origin::Dialect;
use super::scenario::Scenario::{S0, S0L, S1, S2, S3};

/// What a proxy may take to listen, or to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where Debian keeps Apache's modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// One who takes part.
pub struct Contestant {
    /// What the table calls it.
    pub name: &'static str,
    /// What it does there.
    pub scenarios: &'static [Scenario],
    /// How it is told what to keep.
    pub dialect: Dialect,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Direct,
    Coatroom,
    CoatroomRedis,
    Nginx,
    Haproxy,
    Apache(&'static str),
}

/// mod_session with the session in the cookie, which is the quickest it has.
const COOKIE: &str = "LoadModule session_module MODULES/mod_session.so
LoadModule session_cookie_module MODULES/mod_session_cookie.so
<Location \"/\">
  Session On
  SessionEnv On
  SessionCookieName sid path=/;HttpOnly
  SessionHeader X-Replace-Session
  RequestHeader set X-Session \"%{HTTP_SESSION}e\" env=HTTP_SESSION
</Location>
";

/// All of them.
pub const ALL: [Contestant; 7] = [
    Contestant { name: "direct", scenarios: &[S0, S0L], dialect: Dialect::Coatroom, kind: Kind::Direct },
    Contestant { name: "nginx", scenarios: &[S0, S0L], dialect: Dialect::Coatroom, kind: Kind::Nginx },
    Contestant { name: "haproxy", scenarios: &[S0, S0L], dialect: Dialect::Coatroom, kind: Kind::Haproxy },
    Contestant { name: "apache", scenarios: &[S0, S0L], dialect: Dialect::Apache, kind: Kind::Apache("") },
    Contestant {
        name: "apache-cookie",
        scenarios: &[S1, S3],
        dialect: Dialect::Apache,
        kind: Kind::Apache(COOKIE),
    },
    Contestant {
        name: "coatroom-mem",
        scenarios: &[S0, S0L, S1, S3],
        dialect: Dialect::Coatroom,
        kind: Kind::Coatroom,
    },
    Contestant {
        name: "coatroom-redis",
        scenarios: &[S2, S3],
        dialect: Dialect::Coatroom,
        kind: Kind::CoatroomRedis,
    },
];

/// What all are started with.
pub struct Place {
    /// Our own binary.
    pub binary: PathBuf,
    /// The backend.
    pub origin: SocketAddr,
    /// The Redis of those who need one.
    pub redis: String,
    /// Where settings and logs go.
    pub folder: PathBuf,
    /// Workers that each has.
    pub workers: usize,
    /// The core that they run on, where they are kept to one.
    pub core: Option<usize>,
}

/// A contestant that runs, until it is dropped.
pub struct Running {
    child: Option<Child>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Contestant {
    /// Does it keep its sessions in Redis?
    pub fn has_redis(&self) -> bool {
        self.kind == Kind::CoatroomRedis
    }

    /// Starts it and waits until it accepts connections.
    ///
    /// # Errors
    /// Says what it wrote where it ends instead.
    pub fn start(&self, place: &Place) -> Result<Running, String> {
        if self.kind == Kind::Direct {
            return Ok(Running { child: None, address: place.origin });
        }
        loop {
            // The system's choice; if somebody is quicker, another one.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            let log = place.folder.join(format!("{}.log", self.name));
            match Running::launch(self.command(place, address), address, &log) {
                Err(said) if !said.to_lowercase().contains("in use") => {
                    return Err(format!("{} does not start: {said}", self.name));
                }
                Err(_) => {}
                Ok(running) => return Ok(running),
            }
        }
    }

    fn command(&self, place: &Place, address: SocketAddr) -> Command {
        let folder = place.folder.display();
        let settings = place.folder.join(format!("{}.conf", self.name));
        let (origin, workers) = (place.origin, place.workers.to_string());
        let write = |text: String| fs::write(&settings, text).expect("the folder is ours");
        let settings = settings.display().to_string();
        let words: Vec<String> = match self.kind {
            Kind::Direct => unreachable!("it is not started"),
            Kind::Coatroom | Kind::CoatroomRedis => {
                let store = if self.has_redis() { &place.redis } else { "memory:" };
                let (listen, backend) = (address.to_string(), format!("http://{origin}"));
                let binary = place.binary.display().to_string();
                let words = [&*binary, "serve", "--listen", &listen, "--telemetry-listen", "127.0.0.1:0"];
                let more = ["--backend", &backend, "--store", store, "--workers", &workers];
                words.iter().chain(&more).map(|word| (*word).to_owned()).collect()
            }
            Kind::Nginx => {
                write(nginx(place, address));
                ["nginx", "-p", &folder.to_string(), "-e", "stderr", "-c", &settings]
                    .map(str::to_owned)
                    .to_vec()
            }
            Kind::Haproxy => {
                write(haproxy(place, address));
                ["haproxy", "-q", "-db", "-f", &settings].map(str::to_owned).to_vec()
            }
            Kind::Apache(session) => {
                write(apache(place, address, session));
                ["apache2", "-DFOREGROUND", "-f", &settings].map(str::to_owned).to_vec()
            }
        };
        let core = place.core.map(|core| ["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        let mut words = core.into_iter().flatten().chain(words);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        command
    }
}

impl Running {
    fn launch(mut command: Command, address: SocketAddr, log: &Path) -> Result<Self, String> {
        let said = |log: &Path| fs::read_to_string(log).unwrap_or_default();
        let file = File::create(log).expect("the folder is ours");
        // Debian keeps servers where only root looks.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        command.env("PATH", path).stdin(Stdio::null()).process_group(0);
        command.stdout(file.try_clone().expect("a file")).stderr(file);
        let mut child = command
            .spawn()
            .map_err(|error| format!("{command:?}: {error}; tests/run --speed installs it"))?;
        let watch = Stopwatch::start();
        while TcpStream::connect(address).is_err() {
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return Err(said(log));
            }
            if watch.elapsed() > PATIENCE {
                drop(Self { child: Some(child), address });
                return Err(format!("it does not listen: {}", said(log)));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { child: Some(child), address })
    }

    /// Its process and all that it has started; none where nobody stands in between.
    pub fn processes(&self) -> Vec<u32> {
        self.child.as_ref().map(|child| super::cpu::family(child.id())).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Politely first: Apache leaves semaphores behind where it is killed.
        let send = |words: [&str; 3]| drop(Command::new("kill").args(words).stderr(Stdio::null()).status());
        send(["-TERM", "--", &child.id().to_string()]);
        let watch = Stopwatch::start();
        while child.try_wait().is_ok_and(|ended| ended.is_none()) && watch.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        send(["-KILL", "--", &format!("-{}", child.id())]);
        drop(child.wait());
    }
}

fn nginx(place: &Place, address: SocketAddr) -> String {
    let Place { origin, workers, folder, .. } = place;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/nginx-{name};", folder.display()))
        .join(" ");
    let user = if super::is_root() { "user root;" } else { "" };
    format!(
        "worker_processes {workers}; daemon off; {user}
error_log stderr error; pid {}/nginx.pid;
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; server_tokens off; {temporary}
  keepalive_timeout 300s; keepalive_requests 1000000000;
  upstream origin {{ server {origin}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  server {{
    listen {address} reuseport backlog=4096;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_buffers 16 16k; proxy_buffer_size 16k;
    }}
  }}
}}
",
        folder.display()
    )
}

fn haproxy(place: &Place, address: SocketAddr) -> String {
    let Place { origin, workers, .. } = place;
    format!(
        "global
  nbthread {workers}
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  option http-keep-alive
  http-reuse always
frontend clients
  bind {address} backlog 4096
  default_backend origin
backend origin
  server origin {origin}
"
    )
}

fn apache(place: &Place, address: SocketAddr, session: &str) -> String {
    let Place { origin, workers, folder, .. } = place;
    let (folder, threads) = (folder.display(), 128 * workers);
    // More threads than connections: without one to spare Apache closes connections that it keeps.
    let user = if super::is_root() { "User www-data\nGroup www-data\n" } else { "" };
    format!(
        "ServerRoot \"{folder}\"
Listen {address}
ServerName 127.0.0.1
PidFile {folder}/apache.pid
Mutex sem default
DefaultRuntimeDir {folder}
ErrorLog /dev/stderr
LogLevel error
{user}LoadModule mpm_event_module MODULES/mod_mpm_event.so
LoadModule authz_core_module MODULES/mod_authz_core.so
LoadModule proxy_module MODULES/mod_proxy.so
LoadModule proxy_http_module MODULES/mod_proxy_http.so
LoadModule headers_module MODULES/mod_headers.so
{session}StartServers {workers}
ServerLimit {workers}
ThreadsPerChild 128
ThreadLimit 128
MinSpareThreads 128
MaxSpareThreads {threads}
MaxRequestWorkers {threads}
ListenBackLog 4096
AsyncRequestWorkerFactor 64
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 300
ProxyTimeout 300
ProxyPass \"/\" \"http://{origin}/\" keepalive=On disablereuse=Off max=128
"
    )
    .replace("MODULES", MODULES)
}
