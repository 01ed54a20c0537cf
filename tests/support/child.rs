//! The program itself, as a child process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use coatroom::time::Stopwatch;

use super::client::{self, PATIENCE};
use super::process::binary;

/// What makes the program serve. The rest are its flags.
const SERVE: &[&str] = &["serve"];

/// A running program, killed when it is dropped.
pub struct Child {
    process: std::process::Child,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where probes connect.
    pub telemetry: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Child {
    /// Starts it before `backend` on free ports, with more flags, and waits until it is ready.
    pub fn before(backend: &str, flags: &[&str]) -> Self {
        Self::limited(backend, flags, ":")
    }

    /// The same of another binary than the tests' own.
    #[allow(dead_code, reason = "the benches need it")]
    pub fn of(binary: &Path, backend: &str, flags: &[&str]) -> Self {
        Self::start(binary, [SocketAddr::from(([127, 0, 0, 1], 0)); 2], backend, flags, ":")
    }

    /// The same on these addresses.
    pub fn at(address: SocketAddr, telemetry: SocketAddr, backend: &str, flags: &[&str]) -> Self {
        Self::start(Path::new(&binary()), [address, telemetry], backend, flags, ":")
    }

    /// The same as [`Child::before`] after a command of the shell, `ulimit` say.
    pub fn limited(backend: &str, flags: &[&str], first: &str) -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start(Path::new(&binary()), [free; 2], backend, flags, first)
    }

    fn start(binary: &Path, addresses: [SocketAddr; 2], backend: &str, flags: &[&str], first: &str) -> Self {
        let [address, telemetry] = addresses.map(|address| address.to_string());
        let mut process = Command::new("sh")
            .args(["-c", &format!("{first}; exec \"$0\" \"$@\"")])
            .arg(binary)
            .args(SERVE)
            .args(["--listen", &address, "--telemetry-listen", &telemetry, "--backend", backend])
            .args(flags)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut before = String::new();
        let mut heard = lines.by_ref().inspect(|line| before += &format!("{line}\n"));
        let serves = heard.find(|line| line.contains("coatroom serves")).expect("it says where it serves");
        let serves: serde_json::Value = serde_json::from_str(&serves).expect("a line of JSON");
        let of = |key: &str| serves[key].as_str().and_then(|text| text.parse().ok()).expect("an address");
        let (address, telemetry) = (of("address"), of("telemetry"));
        // Whoever stops reading stops the writer in the end.
        let log = Arc::new(Mutex::new(before));
        let written = log.clone();
        thread::spawn(move || lines.for_each(|line| *written.lock().expect("whole") += &format!("{line}\n")));
        let child = Self { process, address, telemetry, log };
        until(|| (child.probe("/readyz").status == 200).then_some(()));
        child
    }

    /// Sends it a signal: `TERM`, `INT`, `HUP`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// The value of a metric.
    pub fn metric(&self, series: &str) -> u64 {
        client::metric(self.telemetry, series)
    }

    /// The telemetry listener's answer for a path.
    pub fn probe(&self, path: &str) -> client::Reply {
        client::send(self.telemetry, format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"))
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("whole").clone()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until(|| self.process.try_wait().expect("a child"))
    }

    /// Has it not ended yet?
    pub fn runs(&mut self) -> bool {
        self.process.try_wait().expect("a child").is_none()
    }

    /// The most memory that it had so far, in MiB.
    pub fn memory(&self) -> u64 {
        self.known("status", "VmHWM:") / 1024
    }

    /// The memory that it has now, in KiB.
    pub fn resident(&self) -> u64 {
        self.known("status", "VmRSS:")
    }

    /// Bytes that it has read so far, of files and everything else.
    pub fn read(&self) -> u64 {
        self.known("io", "rchar:")
    }

    /// A number that the system knows of it.
    fn known(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        super::canary::printed(&self.log());
    }
}

/// Sends a process a signal. After `STOP` it has stopped.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status();
    assert!(sent.expect("kill runs").success());
    if name == "STOP" {
        until(|| stopped(process).then_some(()));
    }
}

/// Does no thread of a process run, or has it ended? A signal stops each one as soon as it runs next.
pub fn stopped(process: impl std::fmt::Display) -> bool {
    let Ok(mut threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.all(|thread| {
        let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat")));
        stat.map_or(true, |stat| {
            stat.rsplit_once(") ").is_none_or(|(_, stat)| stat.starts_with(['T', 'Z', 'X']))
        })
    })
}

/// Waits until `look` finds something.
pub fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(watch.elapsed() < PATIENCE, "what was waited for did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}
