//! Real programs as children of the test, on ports of the system's choice.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use super::client::{Browser, PATIENCE};

/// The sidecar's own: the tests' own build, or the one that `COATROOM_BINARY` names.
pub fn binary() -> String {
    env::var("COATROOM_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_coatroom").to_owned())
}

/// A program that ends, with its children, when the test does.
pub struct Program {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    output: Arc<Mutex<String>>,
    /// Where it keeps its files.
    folder: Option<TempDir>,
}

impl Program {
    /// Starts a program and waits until a line of its output holds the address that follows `ready`.
    pub fn start(command: &mut Command, ready: &str) -> Self {
        Self::launch(command, ready, None)
            .unwrap_or_else(|output| panic!("{command:?} did not become ready:\n{output}"))
    }

    /// Starts a program and waits for that line, which need not name the address where it is known. What the program
    /// said instead is the error.
    fn launch(command: &mut Command, ready: &str, address: Option<SocketAddr>) -> Result<Self, String> {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} can't be started: {error}; tests/run installs it"));
        let output = Arc::new(Mutex::new(String::new()));
        let (tell, told) = channel();
        follow(child.stdout.take().expect("piped"), ready, address, tell.clone(), output.clone());
        follow(child.stderr.take().expect("piped"), ready, address, tell, output.clone());
        // Its output ends where it does.
        match told.recv_timeout(PATIENCE) {
            Ok(address) => Ok(Self { child, address, output, folder: None }),
            Err(_) => {
                drop((child.kill(), child.wait()));
                Err(output.lock().expect("whole").clone())
            }
        }
    }

    /// The sidecar's binary before a backend, with more flags and with settings as variables.
    pub fn sidecar(backend: SocketAddr, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--telemetry-listen", "127.0.0.1:0"]);
        command.args(["--backend", &format!("http://{backend}")]).args(flags);
        command.envs(settings.iter().copied());
        Self::start(&mut command, "\"address\":\"")
    }

    /// The application in PHP, with the shim that keeps its sessions.
    pub fn php() -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let mut command = Command::new("php");
        command.env("PHP_CLI_SERVER_WORKERS", "8");
        command.args([
            "-d",
            &format!("auto_prepend_file={root}/clients/php/coatroom.php"),
            "-S",
            "127.0.0.1:0",
        ]);
        command.args(["-t", &format!("{root}/tests/backends/php")]);
        Self::start(&mut command, "Development Server (http://")
    }

    /// The application in Python.
    pub fn python() -> Self {
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/python/app.py")).arg("0");
        Self::start(&mut command, "listening on ")
    }

    /// The application in JavaScript.
    pub fn node() -> Self {
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/node/app.js")).arg("0");
        Self::start(&mut command, "listening on ")
    }

    /// A backend that authenticates connections.
    pub fn ntlm() -> Self {
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/ntlm/app.js"));
        Self::start(&mut command, "listening on ")
    }

    /// The application in shell, behind lighttpd.
    pub fn cgi() -> Self {
        Self::lighttpd("cgi")
    }

    /// The `app.sh` of a folder of backends, behind lighttpd.
    pub fn lighttpd(folder: &str) -> Self {
        let backends = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends");
        Self::on_a_free_port("server started", |port| {
            let mut command = Command::new("lighttpd");
            command.args(["-D", "-f", &format!("{backends}/cgi/lighttpd.conf")]);
            command.env("APP", format!("{backends}/{folder}")).env("PORT", port.to_string());
            command
        })
    }

    /// A server that has to be told its port, and says when it is ready.
    fn on_a_free_port(ready: &str, command: impl Fn(u16) -> Command) -> Self {
        loop {
            // The system's choice; if somebody is quicker, another one.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            let mut command = command(address.port());
            // Debian keeps servers where only root looks.
            command.env("PATH", env::var("PATH").unwrap_or_default() + ":/usr/sbin");
            match Self::launch(&mut command, ready, Some(address)) {
                Ok(program) => return program,
                Err(output) => {
                    assert!(output.contains("in use"), "{command:?} did not become ready:\n{output}");
                }
            }
        }
    }

    /// A witness in JavaScript: it says what it saw of each whole request.
    pub fn node_witness() -> Self {
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/witness/witness.js"));
        Self::start(&mut command, "listening on ")
    }

    /// A witness in Python, under gunicorn.
    pub fn gunicorn_witness() -> Self {
        Self::gunicorn("witness", "witness:app")
    }

    /// A WSGI application of a folder of backends, under gunicorn.
    pub fn gunicorn(folder: &str, app: &str) -> Self {
        let mut command = Command::new("gunicorn");
        command.current_dir(format!("{}/tests/backends/{folder}", env!("CARGO_MANIFEST_DIR")));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        // As open as it can be: what it would drop by itself is ours to drop.
        command.args(["--bind", "127.0.0.1:0", "--worker-class", "gthread", "--threads", "8"]);
        command.args(["--keep-alive", "60", "--limit-request-fields", "200", "--header-map", "dangerous"]);
        command.args(["--no-control-socket", app]);
        Self::start(&mut command, "Listening at: http://")
    }

    /// A mirror in PHP: it shows every header as the application has it.
    pub fn php_mirror() -> Self {
        let mut command = Command::new("php");
        command.env("PHP_CLI_SERVER_WORKERS", "4").args(["-S", "127.0.0.1:0"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/mirror/mirror.php"));
        Self::start(&mut command, "Development Server (http://")
    }

    /// The same in JavaScript.
    pub fn node_mirror() -> Self {
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/mirror/mirror.js"));
        Self::start(&mut command, "listening on ")
    }

    /// The same in Python, by ASGI under uvicorn.
    pub fn uvicorn_mirror() -> Self {
        let mut command = Command::new("uvicorn");
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/mirror"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["mirror:asgi", "--host", "127.0.0.1", "--port", "0", "--http", "h11"]);
        command.args(["--timeout-keep-alive", "60", "--no-access-log", "--no-proxy-headers"]);
        command.args(["--h11-max-incomplete-event-size", "65536"]);
        Self::start(&mut command, "Uvicorn running on http://")
    }

    /// A witness behind nginx, which passes on to itself what is whole.
    pub fn nginx_witness() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let template = include_str!("../backends/witness/nginx.conf");
        let mut nginx = Self::on_a_free_port("start worker process", |port| {
            let behind = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let behind = behind.expect("a free port").port();
            let place = folder.path().display().to_string();
            let settings = template.replace("FOLDER", &place).replace("FRONT", &port.to_string());
            let file = folder.path().join("nginx.conf");
            fs::write(&file, settings.replace("BEHIND", &behind.to_string())).expect("written");
            let mut command = Command::new("nginx");
            command.arg("-c").arg(file).args(["-p", &place]);
            command
        });
        nginx.folder = Some(folder);
        nginx
    }

    /// HAProxy with these settings, but for its port, and with its state at `/haproxy;csv`.
    pub fn haproxy(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut haproxy = Self::on_a_free_port("Loading success", |port| {
            let front = format!("bind 127.0.0.1:{port}\n  stats enable\n  stats uri /haproxy");
            let file = folder.path().join("haproxy.cfg");
            fs::write(&file, settings.replace("bind :80", &front)).expect("written");
            let mut command = Command::new("haproxy");
            command.args(["-W", "-db", "-f"]).arg(file);
            command
        });
        haproxy.folder = Some(folder);
        haproxy
    }

    /// A client with an empty cookie jar.
    pub fn browser(&self) -> Browser {
        Browser::new(self.address)
    }

    /// All that it has written so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("whole").clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The group: a server's workers are not to outlive it.
        drop(Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status());
        drop(self.child.wait());
        super::canary::printed(&self.output());
        drop(self.folder.take());
    }
}

fn follow(
    stream: impl Read + Send + 'static,
    ready: &str,
    known: Option<SocketAddr>,
    tell: Sender<SocketAddr>,
    output: Arc<Mutex<String>>,
) {
    let ready = ready.to_owned();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once(&ready) {
                let end = rest
                    .find(|c: char| !matches!(c, '0'..='9' | 'a'..='f' | '.' | ':' | '[' | ']'))
                    .unwrap_or(rest.len());
                if let Some(address) = known.or_else(|| rest[..end].parse().ok()) {
                    let _ = tell.send(address);
                }
            }
            *output.lock().expect("whole") += &format!("{line}\n");
        }
    });
}
