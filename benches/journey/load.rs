//! The load: connections that are kept, each with one request under way at all times.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use coatroom::time::Stopwatch;
use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::origin::COUNTER;

/// What is asked, and how long.
pub struct Load {
    /// Whom.
    pub address: SocketAddr,
    /// For what.
    pub path: &'static str,
    /// Over how many connections.
    pub connections: usize,
    /// `name=value` pairs. Requests take turns through them, or each connection keeps its own.
    pub cookies: Vec<String>,
    /// Each connection keeps its cookie, and takes the one that a response sets.
    pub keeps: bool,
    /// Before anything is measured.
    pub warm: Duration,
    /// What is measured.
    pub length: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Measured {
    /// Answers within the measured time.
    pub requests: usize,
    /// That time, as it really was.
    pub elapsed: Duration,
    /// The time of each of those requests, in nanoseconds, in order.
    pub latencies: Vec<u64>,
    /// Why requests got no answer. Their connections were opened anew.
    pub faults: Vec<String>,
    /// Where each connection keeps its cookie: that cookie, and the counter that the last response to it held.
    pub last: Vec<(String, String)>,
}

impl Measured {
    /// A quantile of the latencies, in nanoseconds.
    pub fn quantile(&self, part: f64) -> u64 {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let at = (self.latencies.len() as f64 * part) as usize;
        self.latencies.get(at.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Warm,
    Measured,
    Over,
}

struct Shared {
    load: Load,
    phase: Cell<Phase>,
    turn: Cell<usize>,
    latencies: RefCell<Vec<u64>>,
    faults: RefCell<Vec<String>>,
}

/// Puts the load on; `edge` is called when the measured time begins and when it ends.
pub fn put(load: Load, mut edge: impl FnMut()) -> Measured {
    let shared = Rc::new(Shared {
        load,
        phase: Cell::new(Phase::Warm),
        turn: Cell::new(0),
        latencies: RefCell::new(Vec::with_capacity(1 << 20)),
        faults: RefCell::default(),
    });
    super::runtime().block_on(LocalSet::new().run_until(async {
        let visits = (0..shared.load.connections).map(|n| tokio::task::spawn_local(visit(shared.clone(), n)));
        let visits: Vec<_> = visits.collect();
        tokio::time::sleep(shared.load.warm).await;
        edge();
        let watch = Stopwatch::start();
        shared.phase.set(Phase::Measured);
        tokio::time::sleep(shared.load.length).await;
        shared.phase.set(Phase::Over);
        let mut measured = Measured { elapsed: watch.elapsed(), ..Measured::default() };
        edge();
        for visit in visits {
            match visit.await.expect("it does not panic") {
                Ok(last) => measured.last.extend(last),
                Err(fault) => measured.faults.push(fault),
            }
        }
        measured.faults.extend(shared.faults.take());
        measured.latencies = shared.latencies.take();
        measured.requests = measured.latencies.len();
        measured.latencies.sort_unstable();
        measured
    }))
}

/// One connection, to the end of the load.
async fn visit(shared: Rc<Shared>, number: usize) -> Result<Option<(String, String)>, String> {
    let load = &shared.load;
    let mut line = Line::to(load.address).await?;
    let mut cookie = load.cookies.get(number % load.cookies.len().max(1)).cloned();
    let mut counter = String::new();
    while shared.phase.get() != Phase::Over {
        if !load.keeps && !load.cookies.is_empty() {
            let turn = shared.turn.get();
            shared.turn.set((turn + 1) % load.cookies.len());
            cookie.clone_from(&load.cookies.get(turn).cloned());
        }
        let watch = Stopwatch::start();
        let reply = match line.ask(load.path, cookie.as_deref()).await {
            Ok(reply) => reply,
            // A proxy may close a connection that it keeps; the scenario says how often.
            Err(fault) => {
                shared.faults.borrow_mut().push(fault);
                line = Line::to(load.address).await?;
                // It may have been saved all the same.
                counter.clear();
                continue;
            }
        };
        if shared.phase.get() == Phase::Measured {
            shared.latencies.borrow_mut().push(u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        if load.keeps {
            cookie = reply.cookie.or(cookie);
            counter = reply.counter.ok_or("a response to a write has no counter")?;
        }
    }
    Ok(cookie.filter(|_| !counter.is_empty()).map(|cookie| (cookie, counter)))
}

/// A connection that is kept.
pub struct Line {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// What matters of a response.
#[derive(Default)]
pub struct Reply {
    /// The cookie that it sets.
    pub cookie: Option<String>,
    /// The counter that its body holds.
    pub counter: Option<String>,
}

impl Line {
    /// Opens one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn to(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("can't connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, request: Vec::new(), buffer: vec![0; 64 * 1024] })
    }

    /// Asks for a path, and reads the answer.
    ///
    /// # Errors
    /// Why there is none, or none with status 200.
    pub async fn ask(&mut self, path: &str, cookie: Option<&str>) -> Result<Reply, String> {
        self.request.clear();
        for part in ["GET ", path, " HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: journey\r\nAccept: */*\r\n"] {
            self.request.extend_from_slice(part.as_bytes());
        }
        for part in cookie.iter().flat_map(|cookie| ["Cookie: ", cookie, "\r\n"]) {
            self.request.extend_from_slice(part.as_bytes());
        }
        self.request.extend_from_slice(b"\r\n");
        self.stream.write_all(&self.request).await.map_err(|error| format!("can't send: {error}"))?;
        let mut have = 0;
        let body = loop {
            have += self.read(have).await?;
            if let Some(at) = memmem::find(&self.buffer[..have], b"\r\n\r\n") {
                break at + 4;
            }
        };
        let (mut reply, length) = head(&self.buffer[..body])?;
        let mut got = have - body;
        while got < length {
            // What is long is counted and thrown away.
            let at = if body + length <= self.buffer.len() { body + got } else { body };
            got += self.read(at).await?;
        }
        if got > length {
            return Err(format!("{got} bytes of a body of {length}"));
        }
        let start = self.buffer.get(body..body + COUNTER.len() + 8).unwrap_or_default();
        if let Some(digits) = start.strip_prefix(COUNTER.as_bytes()) {
            reply.counter = Some(String::from_utf8_lossy(digits).into_owned());
        }
        Ok(reply)
    }

    async fn read(&mut self, at: usize) -> Result<usize, String> {
        match self.stream.read(&mut self.buffer[at..]).await {
            Ok(0) => Err("the connection ended".to_owned()),
            Ok(count) => Ok(count),
            Err(error) => Err(format!("can't receive: {error}")),
        }
    }
}

/// The cookie that a response's head sets, and the length of its body.
fn head(head: &[u8]) -> Result<(Reply, usize), String> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    if !first.starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("the answer is {}", String::from_utf8_lossy(first).trim()));
    }
    let (mut reply, mut length) = (Reply::default(), None);
    for line in lines {
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        } else if name.eq_ignore_ascii_case(b"set-cookie") {
            let pair = value.split(|byte| *byte == b';').next().unwrap_or_default();
            reply.cookie = Some(String::from_utf8_lossy(pair).into_owned());
        } else if name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case(b"close") {
            return Err("the connection is not kept".to_owned());
        }
    }
    Ok((reply, length.ok_or("a response has no length")?))
}
