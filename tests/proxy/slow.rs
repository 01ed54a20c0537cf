//! Those who are slow on purpose: what they cost, and slowhttptest's attacks with an honest client beside them.
//!
//! `tests/run --long` (`COATROOM_LONG`) attacks the release build with 5,000 connections, and writes a table.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use coatroom::time::Stopwatch;
use socket2::SockRef;

use super::GET;
use super::timers::{UPLOAD, patient};
use crate::support::child::until;
use crate::support::{Child, Line};

/// A client of `/long` that takes little of it.
const LONG: &str = "GET /long HTTP/1.1\r\nHost: a\r\n\r\n";
/// Another binary than the tests' own build, where there is one.
const BINARY: &str = "exec \"${COATROOM_BINARY:-$0}\" \"$@\"";

fn sidecar(backend: SocketAddr, settings: &[(&str, &str)]) -> Child {
    let settings: String =
        settings.iter().map(|(name, value)| format!("export COATROOM__PROXY__{name}={value}; ")).collect();
    Child::limited(&format!("http://{backend}"), &[], &format!("{settings}{BINARY}"))
}

/// Prints what the README says of it:
/// `COATROOM_BINARY=target/release/coatroom cargo test --test main what_a_connection_costs -- --nocapture`
#[test]
fn what_a_connection_costs() {
    const CLIENTS: u64 = 250;
    for (begin, answered, most) in
        [("", false, 64), (GET, true, 64), (&GET[..20], false, 64), (UPLOAD, false, 96), (LONG, false, 240)]
    {
        let backend = patient();
        let child = sidecar(backend.address, &[]);
        // What is made with the first connection is nobody's.
        let warm = |count: u64| (0..count).map(|_| Line::to(child.address).ask(GET).status).sum::<u16>();
        warm(4);
        let before = child.resident();
        let mut clients: Vec<Line> = (0..CLIENTS).map(|_| Line::to(child.address)).collect();
        for client in &mut clients {
            SockRef::from(&*client.stream()).set_recv_buffer_size(4096).expect("a socket");
            client.send(begin);
            if answered {
                client.reply();
            }
        }
        until(|| (child.metric("coatroom_http_connections") == CLIENTS).then_some(()));
        let under_way = if begin == UPLOAD || begin == LONG { CLIENTS } else { 0 };
        until(|| (child.metric("coatroom_backend_connections") >= under_way).then_some(()));
        // What is sent to a client that doesn't read fills what buffers there are.
        until(|| {
            let before = child.resident();
            thread::sleep(Duration::from_millis(200));
            (child.resident() == before).then_some(())
        });
        let each = child.resident().saturating_sub(before) as f64 / CLIENTS as f64;
        println!("{each:.1} KiB a connection: {begin:?}{}", if answered { ", answered" } else { "" });
        assert!(each < most as f64, "{each:.1} KiB: {begin:?}");
    }
}

/// One of slowhttptest's attacks, and the limit that it meets.
struct Attack {
    name: &'static str,
    flags: &'static [&'static str],
    path: &'static str,
    limit: &'static str,
}

const HEAD: Attack =
    Attack { name: "slow header", flags: &["-H", "-x", "24"], path: "/", limit: "header_timeout" };
const BODY: Attack =
    Attack { name: "slow body", flags: &["-B", "-s", "8192", "-x", "10"], path: "/", limit: "body_timeout" };
const READ: Attack = Attack {
    name: "slow read",
    flags: &["-X", "-w", "512", "-y", "1024", "-z", "32"],
    path: "/long",
    limit: "body_timeout",
};

impl Attack {
    /// What keeps so many connections open, each of which does something every so many seconds.
    fn on(&self, address: SocketAddr, connections: u64, every: &str) -> Command {
        let interval = if self.flags[0] == "-X" { "-n" } else { "-i" };
        let mut command = Command::new("slowhttptest");
        command.args(self.flags).args([interval, every, "-c", &connections.to_string(), "-r", "1000"]);
        command.args(["-l", "120", "-p", "10", "-u", &format!("http://{address}{}", self.path)]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// Asks until it is to stop, now and then over a new connection; how long each answer took.
fn be_honest(address: SocketAddr, stop: &AtomicBool) -> Vec<Duration> {
    let (mut line, mut took) = (Line::to(address), Vec::new());
    while !stop.load(Relaxed) {
        let watch = Stopwatch::start();
        if took.len() % 10 == 9 {
            line = Line::to(address);
        }
        assert_eq!(line.ask(GET).text(), "ok");
        took.push(watch.elapsed());
        // The attacker has the same machine.
        thread::sleep(Duration::from_millis(2));
    }
    took
}

/// What honest clients see for as long as `work` takes.
fn beside<T>(address: SocketAddr, work: impl FnOnce() -> T) -> (Vec<Duration>, T) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [(); 4].map(|()| scope.spawn(|| be_honest(address, &stop)));
        let done = work();
        stop.store(true, Relaxed);
        let mut took: Vec<Duration> =
            clients.into_iter().flat_map(|client| client.join().expect("all is well")).collect();
        took.sort_unstable();
        (took, done)
    })
}

/// Lets an attack of so many connections run until the last of them has met its limit, or it gives up; how many
/// connections there were at once, and how many met it.
fn suffer(child: &Child, attack: &Attack, connections: u64, every: &str) -> (u64, u64) {
    let spawned = attack.on(child.address, connections, every).spawn();
    let mut attacker = spawned.expect("slowhttptest can be started; tests/run installs it");
    let series = format!("coatroom_limits_reached_total{{limit=\"{}\"}}", attack.limit);
    let (mut most, mut met) = (0, 0);
    while met < connections && attacker.try_wait().expect("a child").is_none() {
        most = most.max(child.metric("coatroom_http_connections"));
        met = child.metric(&series);
        thread::sleep(Duration::from_millis(20));
    }
    // One that reads slowly takes its time to notice.
    drop((attacker.kill(), attacker.wait()));
    (most, child.metric(&series))
}

fn survive(attack: &Attack) {
    if let Some(folder) = env::var_os("COATROOM_LONG") {
        return measure(attack, Path::new(&folder));
    }
    const CONNECTIONS: u64 = 150;
    // As long as all of them need to come, on a machine that does much else.
    const SECONDS: &str = "3";
    let backend = patient();
    let child = sidecar(backend.address, &[("HEADER_TIMEOUT", SECONDS), ("BODY_TIMEOUT", SECONDS)]);
    Line::to(child.address).ask(GET);
    let before = child.resident();
    let (took, (most, met)) = beside(child.address, || suffer(&child, attack, CONNECTIONS, "1"));
    assert!(took.len() > 10 && most > CONNECTIONS, "{} answers, {most} connections", took.len());
    assert_eq!(met, CONNECTIONS, "all of them were cut off, and nobody else");
    until(|| (child.metric("coatroom_http_connections") == 0).then_some(()));
    let took = 1024 * child.memory() - before;
    assert!(took < CONNECTIONS * 200, "{took} KiB");
}

/// Writes a row of the table. What the attacker and the backend take of the machine is not the sidecar's: it is seen
/// while another sidecar on the same machine is attacked.
fn measure(attack: &Attack, folder: &Path) {
    const CONNECTIONS: u64 = 5000;
    let backend = patient();
    let many = ["MAX_CONNECTIONS", "MAX_REQUESTS", "MAX_BACKEND_CONNECTIONS"].map(|name| (name, "6000"));
    let (child, other) = (sidecar(backend.address, &many), sidecar(backend.address, &many));
    let p99 = |took: &[Duration]| took[took.len() * 99 / 100].as_secs_f64() * 1000.0;
    let (alone, ()) = beside(child.address, || thread::sleep(Duration::from_secs(10)));
    let before = child.resident();
    let (elsewhere, _) = beside(child.address, || suffer(&other, attack, CONNECTIONS, "10"));
    drop(other);
    let (during, (most, met)) = beside(child.address, || suffer(&child, attack, CONNECTIONS, "10"));
    until(|| (child.metric("coatroom_http_connections") == 0).then_some(()));
    let (alone, elsewhere, answers, during) = (p99(&alone), p99(&elsewhere), during.len(), p99(&during));
    let row = format!(
        "| {} | {most} | {met} | {answers} | {alone:.2} | {elsewhere:.2} | {during:.2} | {:.1} | {} | {} |\n",
        attack.name,
        during / elsewhere,
        before / 1024,
        child.memory(),
    );
    fs::write(folder.join(attack.name.replace(' ', "-")), row).expect("written");
}

#[test]
fn heads_that_never_end_are_cut_off() {
    survive(&HEAD);
}

#[test]
fn bodies_that_never_end_are_cut_off() {
    survive(&BODY);
}

#[test]
fn responses_that_nobody_takes_are_cut_off() {
    survive(&READ);
}
