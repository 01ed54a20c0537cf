//! Sidecars behind HAProxy that are stopped and started again one after the other, while clients go on.
//!
//! `tests/run --long` (`COATROOM_LONG`) does it 50 times.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use crate::support::child::until;
use crate::support::client::{PATIENCE, read_reply};
use crate::support::{Answer, Backend, Child, Program, Reply, client, send};

/// The README's.
const HAPROXY: &str = include_str!("../../config/examples/haproxy.cfg");
/// What is shorter here than there, and still longer than two checks.
const DELAY: &str = "1s";
const CHECKS: (&str, &str) = ("inter 500ms fall 1 rise 2", "inter 100ms fall 1 rise 1");
/// Shows that a sidecar has its share.
const ACCEPTED: &str = "coatroom_http_connections_total";
/// Clients of each kind.
const CLIENTS: usize = 4;

/// Two sidecars before one backend, and HAProxy before both.
struct Fleet {
    backend: Backend,
    settings: tempfile::NamedTempFile,
    sidecars: [Child; 2],
    haproxy: Program,
}

impl Fleet {
    fn new() -> Self {
        // Says what it was asked and was sent.
        let backend = Backend::new(|seen| {
            let mut answer = Answer::with(&[]);
            answer.body = [format!("{} {} ", seen.method, seen.target).into_bytes(), seen.body].concat();
            answer
        });
        let settings = tempfile::NamedTempFile::new().expect("a file");
        fs::write(settings.path(), format!("proxy.drain_delay = \"{DELAY}\"\n")).expect("written");
        // Not where the system takes ports for anybody's connections: a sidecar comes back on its own.
        let any = "127.0.0.2:0".parse().expect("an address");
        let sidecars = [(); 2].map(|()| sidecar(&backend, &settings, any, any));
        let mut config = HAPROXY.replace(CHECKS.0, CHECKS.1);
        for (name, child) in
            ["10.0.0.1:8080 check port 9400", "10.0.0.2:8080 check port 9400"].iter().zip(&sidecars)
        {
            let server = format!("{} check port {}", child.address, child.telemetry.port());
            assert!(config.contains(name));
            config = config.replace(name, &server);
        }
        let haproxy = Program::haproxy(&config);
        let fleet = Self { backend, settings, sidecars, haproxy };
        fleet.until_up();
        fleet
    }

    /// Waits until HAProxy takes both sidecars for ready.
    fn until_up(&self) {
        until(|| {
            let state = send(self.haproxy.address, "GET /haproxy;csv HTTP/1.1\r\nHost: a\r\n\r\n").text();
            let up = |name: &str| {
                let line = state.lines().find(|line| line.starts_with(&format!("sidecars,{name},")));
                line.is_some_and(|line| line.split(',').any(|field| field == "UP"))
            };
            (up("one") && up("two")).then_some(())
        });
    }

    /// Stops a sidecar as the system does, and starts it again where it was.
    fn restarts(&mut self, at: usize) {
        let child = &mut self.sidecars[at];
        until(|| (child.metric(ACCEPTED) > 0).then_some(()));
        child.signal("TERM");
        assert_eq!(child.wait().code(), Some(0));
        assert!(!child.log().contains("cut off"), "{}", child.log());
        *child = sidecar(&self.backend, &self.settings, child.address, child.telemetry);
        self.until_up();
    }
}

fn sidecar(
    backend: &Backend,
    settings: &tempfile::NamedTempFile,
    address: SocketAddr,
    telemetry: SocketAddr,
) -> Child {
    let settings = settings.path().to_str().expect("UTF-8");
    let flags = ["--config", settings, "--workers", "2"];
    Child::at(address, telemetry, &format!("http://{}", backend.address), &flags)
}

/// Clients, what they met, and when they may go.
struct Load {
    haproxy: SocketAddr,
    asked: AtomicU64,
    failed: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Load {
    /// A client that keeps its connection, or makes a new one for each request.
    fn client(&self, name: usize, keeps: bool) {
        let mut kept = None;
        for n in 0.. {
            if self.over.load(Relaxed) {
                return;
            }
            let (method, body) =
                if n % 2 == 0 { ("GET", String::new()) } else { ("POST", "x".repeat(n % 9000)) };
            let close = if keeps { "" } else { "Connection: close\r\n" };
            let request = format!(
                "{method} /{name}/{n} HTTP/1.1\r\nHost: a\r\n{close}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut stream = kept.take().unwrap_or_else(|| client::connect(self.haproxy));
            let reply = ask(&mut stream, &request);
            let wanted = format!("{method} /{name}/{n} {body}");
            match reply {
                Ok(reply) if reply.status == 200 && reply.text() == wanted => {
                    let goes_on = keeps && reply.header("connection") != Some("close");
                    kept = goes_on.then_some(stream);
                }
                Ok(reply) => self.fails(format!("{method} {n}: {} {}", reply.status, reply.text())),
                Err(error) => self.fails(format!("{method} {n}: {error}")),
            }
            self.asked.fetch_add(1, Relaxed);
        }
    }

    fn fails(&self, what: String) {
        self.failed.lock().expect("whole").push(what);
    }
}

/// Sends a request and reads its response, if there is one.
fn ask(stream: &mut std::net::TcpStream, request: &str) -> std::io::Result<Reply> {
    use std::io::Write as _;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    if stream.peek(&mut [0])? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(read_reply(stream, false))
}

#[test]
fn no_request_fails_while_sidecars_behind_haproxy_are_restarted() {
    let drains = if env::var_os("COATROOM_LONG").is_some() { 50 } else { 4 };
    let mut fleet = Fleet::new();
    let load = Load {
        haproxy: fleet.haproxy.address,
        asked: AtomicU64::new(0),
        failed: Mutex::default(),
        over: AtomicBool::new(false),
    };
    let asked = || load.asked.load(Relaxed);
    thread::scope(|scope| {
        for name in 0..2 * CLIENTS {
            let load = &load;
            scope.spawn(move || load.client(name, name % 2 == 0));
        }
        until(|| (asked() > 100).then_some(()));
        let drained = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 0..drains {
                let before = asked();
                fleet.restarts(n % 2);
                // Clients went on, however slow the machine is.
                until(|| (asked() > before + 50).then_some(()));
            }
        }));
        load.over.store(true, Relaxed);
        drained.expect("each is stopped and started");
    });
    let failed = load.failed.into_inner().expect("whole");
    println!("{drains} drains, {} requests, {} failed", load.asked.into_inner(), failed.len());
    assert!(failed.is_empty(), "{failed:?}");
}
