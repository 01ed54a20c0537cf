//! Real programs as children of the test, on ports of the system's choice.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::client::{Browser, PATIENCE};

/// A program that ends, with its children, when the test does.
pub struct Program {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    output: Arc<Mutex<String>>,
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
            Ok(address) => Ok(Self { child, address, output }),
            Err(_) => {
                drop((child.kill(), child.wait()));
                Err(output.lock().expect("whole").clone())
            }
        }
    }

    /// The sidecar's binary before a backend, with more flags and with settings as variables; `COATROOM_BINARY` names another one than the
    /// tests' own build.
    pub fn sidecar(backend: SocketAddr, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        let binary =
            env::var("COATROOM_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_coatroom").to_owned());
        let mut command = Command::new(binary);
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

    /// The application in shell, behind lighttpd.
    pub fn cgi() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/cgi");
        loop {
            // The system's choice; if somebody is quicker, another one.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            // Debian keeps servers where only root looks.
            let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin";
            let mut command = Command::new("lighttpd");
            command.env("PATH", path);
            command.args(["-D", "-f", &format!("{folder}/lighttpd.conf")]);
            command.env("APP", folder).env("PORT", address.port().to_string());
            match Self::launch(&mut command, "server started", Some(address)) {
                Ok(program) => return program,
                Err(output) => assert!(output.contains("in use"), "lighttpd did not become ready:\n{output}"),
            }
        }
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
