//! A client that sends bytes as they are, and one with a cookie jar.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A test that hangs fails after this long instead.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A response, to the byte.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Name in lower case, value.
    pub headers: Vec<(String, String)>,
    /// The body, without its chunks.
    pub body: Vec<u8>,
    /// Trailers, where the body was chunked.
    pub trailers: Vec<(String, String)>,
}

impl Reply {
    /// The only value of a header; a second one fails the test.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value);
        let first = values.next();
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        first
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    /// The row of the decision table that was taken; where none was, a problem says why in a test's failure.
    pub fn row(&self) -> &str {
        let problem = self.header("content-type") == Some("application/problem+json");
        let instead = if problem { std::str::from_utf8(&self.body).unwrap_or("?") } else { "-" };
        self.header("x-coatroom-decision").unwrap_or(instead)
    }

    /// The end of an RFC 9457 problem's `type`.
    pub fn problem(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("a problem");
        problem["type"].as_str().and_then(|name| name.rsplit('/').next()).expect("its type").to_owned()
    }
}

/// Sends bytes on a connection of their own and reads one response.
pub fn send(address: SocketAddr, request: impl AsRef<[u8]>) -> Reply {
    let mut stream = connect(address);
    stream.write_all(request.as_ref()).expect("the request is taken");
    read_reply(&mut stream, request.as_ref().starts_with(b"HEAD "))
}

/// The value of a metric as a telemetry listener's `/metrics` has it, 0 where it isn't there: `name{label="value"}`.
pub fn metric(telemetry: SocketAddr, series: &str) -> u64 {
    let text = send(telemetry, "GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse::<f64>().expect("a number") as u64)
}

/// A connection whose reads fail a test that hangs.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Reads the head of a message as it is, up to its empty line; `None` where the connection ends before it begins.
pub fn read_raw_head(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ if head.is_empty() => return None,
            other => panic!("the head broke off ({other:?}) after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    Some(head)
}

/// Reads the head of a message: its first line and headers; `None` where the connection ends before it begins.
pub fn read_head(stream: &mut impl Read) -> Option<(String, Vec<(String, String)>)> {
    let head = read_raw_head(stream)?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
    });
    Some((first, headers.collect()))
}

/// Reads a body as its headers frame it; `to_end` where the connection's end is the body's.
pub fn read_body(
    stream: &mut impl Read,
    headers: &[(String, String)],
    to_end: bool,
) -> (Vec<u8>, Vec<(String, String)>) {
    let of = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if of("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = read_line(stream);
            let size =
                usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).expect("a chunk");
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).expect("a whole chunk");
            body.extend(chunk);
            if size == 0 {
                break;
            }
            read_line(stream);
        }
        let mut trailers = Vec::new();
        loop {
            let line = read_line(stream);
            let Some((name, value)) = line.split_once(':') else { break };
            trailers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        return (body, trailers);
    }
    if let Some(length) = of("content-length") {
        body = vec![0; length.parse().expect("a length")];
        stream.read_exact(&mut body).expect("the whole body");
    } else if to_end {
        stream.read_to_end(&mut body).expect("the body");
    }
    (body, Vec::new())
}

fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a line");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
}

/// Reads one response.
pub fn read_reply(stream: &mut impl Read, head_only: bool) -> Reply {
    let (first, headers) = read_head(stream).expect("a response");
    let status: u16 = first.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let bodiless = head_only || status < 200 || status == 204 || status == 304;
    let (body, trailers) = if bodiless { Default::default() } else { read_body(stream, &headers, true) };
    Reply { status, headers, body, trailers }
}

/// A client with a cookie jar, a connection for each request.
#[derive(Clone)]
pub struct Browser {
    address: SocketAddr,
    /// What it would send back, by name.
    pub jar: BTreeMap<String, String>,
}

impl Browser {
    /// A client that knows no cookie.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, jar: BTreeMap::new() }
    }

    /// Goes to another address; the cookies come along.
    pub fn go(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// `GET path`.
    pub fn get(&mut self, path: &str) -> Reply {
        self.request("GET", path, &[], "")
    }

    /// `POST path` with a form.
    pub fn post(&mut self, path: &str, form: &str) -> Reply {
        self.request("POST", path, &[("Content-Type", "application/x-www-form-urlencoded")], form)
    }

    /// `GET /`, to which the backend answers with these headers.
    pub fn ask(&mut self, wanted: &[(&str, &str)]) -> Reply {
        self.ask_at("/", wanted)
    }

    /// `GET path`, to which the backend answers with these headers.
    pub fn ask_at(&mut self, path: &str, wanted: &[(&str, &str)]) -> Reply {
        let wanted: Vec<(String, &str)> =
            wanted.iter().map(|(name, value)| (format!("Want-{name}"), *value)).collect();
        let headers: Vec<(&str, &str)> = wanted.iter().map(|(name, value)| (&**name, *value)).collect();
        self.request("GET", path, &headers, "")
    }

    /// `POST /` to a mirror, which answers with these headers, in this order.
    pub fn mirror(&mut self, wanted: &[(&str, &str)]) -> Reply {
        let lines: String = wanted.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        self.request("POST", "/", &[], &lines)
    }

    /// Any request; its cookies go along, and those of the response are kept.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n");
        if !self.jar.is_empty() {
            let pairs: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            text += &format!("Cookie: {}\r\n", pairs.join("; "));
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        let reply = send(self.address, format!("{text}\r\n{body}"));
        self.keep(&reply);
        reply
    }

    /// Keeps the cookies of a response as a browser would.
    pub fn keep(&mut self, reply: &Reply) {
        for line in reply.all("set-cookie") {
            let pair = line.split(';').next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            if line.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                super::canary::sing(value);
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The session cookie's value.
    pub fn token(&self) -> Option<&str> {
        self.jar.get("sessionid").map(String::as_str)
    }
}
