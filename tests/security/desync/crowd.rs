//! Who takes part: a client that sends bytes, and a backend that keeps the bytes it gets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coatroom::time::Stopwatch;

use super::Sight;
use crate::support::child::until;
use crate::support::client::{connect, send};
use crate::support::strict::{self, Message, Read};
use crate::support::{Backend, Program};

/// Longer than any answer takes; who waits for more than was sent is found by it.
const LONG: Duration = Duration::from_secs(20);

/// What a backend got.
#[derive(Debug, Default)]
pub struct Saw {
    /// Whole requests, without the probes.
    pub whole: Vec<Message>,
    /// Did one begin that was not whole?
    pub broken: bool,
    /// What is no request.
    pub faults: Vec<String>,
}

/// A backend that reads strictly, answers each request with its target, and keeps all.
pub struct Capture {
    backend: Backend,
    saw: Arc<Mutex<Saw>>,
}

impl Capture {
    /// On a free port.
    pub fn start() -> Self {
        let saw = Arc::new(Mutex::new(Saw::default()));
        let log = saw.clone();
        Self { backend: Backend::raw(move |stream| listen(stream, &log)), saw }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// What it has got since it was last asked.
    pub fn take(&self) -> Saw {
        std::mem::take(&mut *self.saw.lock().expect("whole"))
    }
}

fn listen(mut stream: TcpStream, log: &Mutex<Saw>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = if bytes.is_empty() { Read::Partial(false) } else { strict::read(&bytes) };
        match read {
            Read::Whole(message, taken) => {
                bytes.drain(..taken);
                let mut answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", message.target.chars().count());
                if message.method != "HEAD" {
                    answer += &message.target;
                }
                let answer: Vec<u8> = answer.chars().map(|c| c as u8).collect();
                if !message.target.starts_with("/probe") {
                    log.lock().expect("whole").whole.push(*message);
                }
                if stream.write_all(&answer).is_err() {
                    return;
                }
                continue;
            }
            Read::Fault(what) => {
                let fault = format!("{what}: {:?}", strict::text(&bytes));
                return log.lock().expect("whole").faults.push(fault);
            }
            // Noted as soon as it has begun: nobody knows when it will break off.
            Read::Partial(true) => log.lock().expect("whole").broken = true,
            Read::Partial(false) => {}
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
}

/// A real server as the backend: what its witness has said of whole requests.
pub struct Witness(Program);

impl Witness {
    /// Hears a witness.
    pub const fn of(program: Program) -> Self {
        Self(program)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// All that it has said, once it has spoken of so many requests, without the probes. In order of their names.
    pub fn all(&self, count: usize) -> Vec<Sight> {
        let lines = || -> Vec<String> {
            let output = self.0.output();
            output.lines().filter(|line| line.starts_with("saw ")).map(str::to_owned).collect()
        };
        until(|| (lines().len() >= count).then_some(()));
        let sight = |line: String| {
            let mut words = line.split(' ').skip(1);
            let mut word = || words.next().unwrap_or_default().to_owned();
            let (method, target, length) = (word(), word(), word());
            (method, unescaped(&target), length.parse().unwrap_or(0))
        };
        let mut all: Vec<Sight> =
            lines().into_iter().map(sight).filter(|sight| sight.1 != "/probe").collect();
        all.sort();
        all
    }
}

/// A target as a witness writes it: `%XX` is itself, `\xXX` a byte.
fn unescaped(target: &str) -> String {
    let mut parts = target.split("\\x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let byte = u8::from_str_radix(&part[..2], 16).expect("two digits");
        text + &strict::text(&[byte]) + &part[2..]
    })
}

/// What came back.
#[derive(Debug, Default)]
pub struct Got {
    /// Statuses, in order.
    pub statuses: Vec<u16>,
    /// What is wrong with the answers.
    pub wrong: Vec<String>,
}

/// A client that sends bytes as they are.
pub struct Client(SocketAddr);

impl Client {
    /// A client of a sidecar.
    pub const fn of(address: SocketAddr) -> Self {
        Self(address)
    }

    /// Sends bytes that mean these requests and end so; then, on another connection, a probe.
    pub fn converse(&self, bytes: &[u8], meant: &[Message], end: Option<&Read>) -> Got {
        let mut stream = connect(self.0);
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        // It may be refused before it is sent.
        drop(stream.write_all(bytes));
        let (mut got, watch) = (Got::default(), Stopwatch::start());
        // An answer is due to what is no request, too.
        let due = meant.len() + usize::from(matches!(end, Some(Read::Fault(_))));
        if due == 0 {
            drop(stream.shutdown(std::net::Shutdown::Write));
        }
        let (mut answers, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            answers.extend_from_slice(&piece[..count]);
            loop {
                let asked = meant.get(got.statuses.len());
                let first = got.statuses.is_empty() && bytes.starts_with(b"HEAD ");
                let bodiless = asked.map_or(first, |asked| asked.method == "HEAD");
                let Some((status, body, taken)) = answer(&answers, bodiless) else { break };
                let ours = strict::text(&answers[..taken]).contains("application/problem+json");
                answers.drain(..taken);
                if status < 200 {
                    continue;
                }
                got.statuses.push(status);
                let echo = asked.map(|asked| super::path(&asked.target));
                if status == 200 && !bodiless && echo.as_ref() != Some(&strict::text(&body)) {
                    got.wrong.push(format!("{:?} instead of {echo:?}", strict::text(&body)));
                }
                if status >= 400 && !ours {
                    got.wrong.push(format!("the backend refuses {asked:?} with {status}"));
                }
                if got.statuses.len() == due {
                    drop(stream.shutdown(std::net::Shutdown::Write));
                }
                if status >= 400 && bodiless {
                    // Whoever could not read the method answers with a body.
                    answers.clear();
                }
            }
        }
        if watch.elapsed() >= LONG {
            got.wrong.push("more is waited for than was sent".to_owned());
        }
        let probe = send(self.0, "GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        if (probe.status, &*probe.body) != (200, b"/probe") {
            got.wrong.push(format!("the next client gets {probe:?}"));
        }
        got
    }
}

/// The first whole answer: its status, its body, and the bytes of both.
fn answer(bytes: &[u8], bodiless: bool) -> Option<(u16, Vec<u8>, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = strict::text(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {:?}", strict::text(bytes)));
    if head.contains("\r\ntransfer-encoding: chunked") && !bodiless {
        let body = bytes[end..].windows(5).position(|five| five == b"0\r\n\r\n")?;
        return Some((status, bytes[end..end + body].to_vec(), end + body + 5));
    }
    let length = head.split_once("\r\ncontent-length: ").and_then(|(_, rest)| rest.split_once('\r'));
    let length = length.filter(|_| !bodiless).map_or(0, |(length, _)| length.parse().expect("a length"));
    Some((status, bytes.get(end..end + length)?.to_vec(), end + length))
}
