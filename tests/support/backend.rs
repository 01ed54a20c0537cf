//! A backend that does as it is told and remembers what it saw, to the byte.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::client::{PATIENCE, read_body, read_head};
use super::gate::Gate;

/// A request as the backend received it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// Name in lower case, value, in order.
    pub headers: Vec<(String, String)>,
    /// The body, without its chunks.
    pub body: Vec<u8>,
    /// Trailers, where the body was chunked.
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    /// The only value of a header; a second one fails the test.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value);
        let first = values.next();
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        first
    }

    /// The session's data.
    pub fn data(&self) -> &str {
        self.header("x-session-data").expect("always present")
    }
}

/// What the backend answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// 200 with headers and a short body.
    pub fn with(headers: &[(&str, &str)]) -> Self {
        Self::status(200, headers)
    }

    /// Any status, with headers and a short body.
    pub fn status(status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { status, headers, body: b"ok".to_vec() }
    }
}

/// Whoever plays the backend.
type Handler = dyn Fn(Seen) -> Answer + Send + Sync;
/// Whoever plays the backend down to its sockets.
type Raw = dyn Fn(TcpStream) + Send + Sync;

/// A backend, gone when it is dropped.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Backend {
    /// A backend that answers each request as `handler` says.
    pub fn new(handler: impl Fn(Seen) -> Answer + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (handler, log): (Arc<Handler>, _) = (Arc::new(handler), seen.clone());
        let address = listen(Arc::new(move |stream| converse(stream, &*handler, Some(&log))));
        Self { address, seen }
    }

    /// The same, which remembers nothing of what it has seen.
    pub fn forgetful(handler: impl Fn(Seen) -> Answer + Send + Sync + 'static) -> Self {
        let address = listen(Arc::new(move |stream| converse(stream, &handler, None)));
        Self { address, seen: Arc::default() }
    }

    /// A backend that answers with the headers that the request asks for: `Want-<Name>: a|b` becomes two lines of
    /// `<Name>`, `Want-Status: 500` the status.
    pub fn obedient() -> Self {
        Self::new(|seen| obey(&seen))
    }

    /// A backend that answers with the lines of the request's body as its headers, in their order.
    pub fn mirror() -> Self {
        Self::new(|seen| {
            let text = String::from_utf8(seen.body).expect("text");
            let lines = text.lines().map(|line| line.split_once(": ").expect("a header"));
            Answer::with(&lines.collect::<Vec<_>>())
        })
    }

    /// An obedient backend that keeps requests for `/slow…` behind a gate.
    pub fn slow() -> (Self, Gate) {
        let (gate, door) = super::gate::gate();
        let backend = Self::new(move |seen| {
            if seen.target.starts_with("/slow") {
                door.pass();
            }
            obey(&seen)
        });
        (backend, gate)
    }

    /// A backend that does what `raw` does with each connection.
    pub fn raw(raw: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self { address: listen(Arc::new(raw)), seen: Arc::default() }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic while held").clone()
    }

    /// The latest request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }
}

fn obey(seen: &Seen) -> Answer {
    let wanted = seen.headers.iter().filter_map(|(name, value)| Some((name.strip_prefix("want-")?, value)));
    let mut answer = Answer::with(&[]);
    for (name, value) in wanted {
        match name {
            "status" => answer.status = value.parse().expect("a status"),
            _ => answer.headers.extend(value.split('|').map(|line| (name.to_owned(), line.to_owned()))),
        }
    }
    answer
}

fn listen(raw: Arc<Raw>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let raw = raw.clone();
            thread::spawn(move || raw(stream));
        }
    });
    address
}

fn converse(mut stream: TcpStream, handler: &Handler, log: Option<&Mutex<Vec<Seen>>>) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    while let Some((first, headers)) = read_head(&mut stream) {
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (body, trailers) = read_body(&mut stream, &headers, false);
        let head = method == "HEAD";
        let seen = Seen { method, target, headers, body, trailers };
        if let Some(log) = log {
            log.lock().expect("no panic while held").push(seen.clone());
        }
        let answer = handler(seen);
        if write(&mut stream, &answer, head).is_err() {
            return;
        }
    }
}

fn write(stream: &mut TcpStream, answer: &Answer, head: bool) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {} Some Reason\r\n", answer.status);
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    let framed = answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let bodiless = answer.status == 204 || answer.status == 304;
    if !framed && !bodiless {
        text += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    text += "\r\n";
    let mut bytes = text.into_bytes();
    if !head && !bodiless {
        bytes.extend_from_slice(&answer.body);
    }
    stream.write_all(&bytes)
}
