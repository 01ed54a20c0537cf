//! What a client asks and a backend answers, as inputs say it.

use arbitrary::Arbitrary;

use super::message::is_token;
use super::stage::{MARK, NONCE, TOSSED};

/// Names that matter; the fuzzer finds the others.
const NAMES: [&str; 40] = [
    "X-Session-Data",
    "X-Session-State",
    "X-Session-Id",
    "X-Session-Version",
    "X-Session-Expiry-Age",
    "X-Session-Nonce",
    "X-Session-Signature",
    "X-Session-Set",
    "X-Session-Merge",
    "X-Session-Flush",
    "X-Session-Key-Member-Id",
    "X-Session-Test-Cookie",
    "X-Session-Expires-At",
    "X-Session-",
    "Cookie",
    "Set-Cookie",
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Forwarded",
    "Via",
    "X-Request-Id",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "TE",
    "Trailer",
    "Upgrade",
    "Expect",
    "Max-Forwards",
    "Keep-Alive",
    "Proxy-Connection",
    "HTTP2-Settings",
    "Vary",
    "Cache-Control",
    "Surrogate-Control",
    "Accept",
    "Content-Type",
    "Date",
    "X-Other",
];
/// Values that matter.
const VALUES: [&str; 24] = [
    "",
    "1",
    "true",
    "{}",
    "{\"a\":\"spoofed\"}",
    "active",
    "0123456789abcdef",
    "NONCENONCENONCE0",
    "chunked",
    "trailers",
    "100-continue",
    "0",
    "websocket",
    "h2c",
    "*",
    "public, s-maxage=9",
    "sessionid=tossedtossedtossedtossedtossedto",
    "a=1; sessionid=x; b=2",
    "=sessionid=x",
    "sessionid=; Max-Age=0",
    "text/html",
    "x-session-set",
    "identity",
    "PT1H",
];
/// Session keys of the model; none says who the user is.
pub const KEYS: [&str; 3] = ["a", "b", "n"];
/// Values of the model.
pub const ENTRIES: [&str; 8] = ["1", "\"x\"", "null", "[1,2]", "{\"c\":1}", "1.50", "-7", "\"\\u00e9\\n\""];
/// Targets, and whether a client may send them as they are.
const TARGETS: [&str; 8] =
    ["/", "/off/a?b", "/read", "/poll/x", "/off/../a", "/%6fff", "http://shop.test/read", "/read/%2e%2e/b"];
const STATUSES: [u16; 12] = [200, 200, 200, 201, 204, 302, 304, 404, 500, 503, 101, 226];
const METHODS: [&str; 10] =
    ["GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "X-Y"];
/// Whoever reads on where a message ends reads this.
pub const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nX-Poison: 1\r\nContent-Length: 0\r\n\r\n";

/// What happens to one visitor.
#[derive(Arbitrary, Debug)]
pub struct Story {
    /// Chooses the settings.
    pub settings: u8,
    /// One request after another.
    pub steps: Vec<Step>,
}

/// One request and its answer.
#[derive(Arbitrary, Debug)]
pub struct Step {
    /// On a connection of its own.
    pub fresh: bool,
    /// The request.
    pub ask: Ask,
    /// What the backend answers.
    pub answer: Reply,
}

/// A request.
#[derive(Arbitrary, Debug)]
pub enum Ask {
    /// One that is framed as it should be.
    Fair(Fair),
    /// Bytes.
    Raw(Vec<u8>),
    /// One with these lines in its head, and these bytes behind it.
    Odd(Vec<Line>, Vec<u8>),
}

/// A request that is framed as it should be, whatever else it says.
#[derive(Arbitrary, Debug)]
pub struct Fair {
    method: u8,
    target: Target,
    old: bool,
    lines: Vec<Line>,
    body: Option<Vec<u8>>,
    /// The body is chunked, with these trailers.
    chunked: Option<Vec<Line>>,
}

#[derive(Arbitrary, Debug)]
enum Target {
    Known(u8),
    Other(Vec<u8>),
}

/// A header.
#[derive(Arbitrary, Debug)]
pub struct Line {
    name: Name,
    value: Text,
}

#[derive(Arbitrary, Debug)]
enum Name {
    Known(u8),
    /// With other separators, and another case.
    Twisted(u8, u32),
    Other(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Text {
    Known(u8),
    Other(Vec<u8>),
}

/// What the backend answers.
#[derive(Arbitrary, Debug)]
pub enum Reply {
    /// A response that is framed as it should be.
    Fair(Response),
    /// Bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// A head with these lines, these bytes behind it, and the end of the connection.
    Odd(Vec<Line>, Vec<u8>),
}

/// A response that is framed as it should be, whatever else it says.
#[derive(Arbitrary, Debug)]
pub struct Response {
    status: u8,
    interim: Option<u8>,
    /// Repeats the nonce.
    pub nonce: bool,
    /// What is asked of the session.
    pub wishes: Vec<Wish>,
    lines: Vec<Line>,
    body: Vec<u8>,
    framing: Framing,
}

#[derive(Arbitrary, Debug)]
enum Framing {
    Length,
    Chunked(Vec<Line>),
    ToEnd,
    /// The length, and something behind it.
    Poisoned,
}

/// A directive.
#[derive(Arbitrary, Debug)]
pub enum Wish {
    Set(u8, u8),
    SetDefault(u8, u8),
    Merge(u8, u8),
    Delete(u8),
    Increment(i8),
    Flush,
    Clear,
    CycleKey,
    Save,
    /// Any other one, or any text.
    Other(u8, Vec<u8>),
}

fn of<T: Copy>(list: &[T], at: u8) -> T {
    list[usize::from(at) % list.len()]
}

impl Fair {
    /// The method.
    pub fn method(&self) -> &'static str {
        of(&METHODS, self.method)
    }

    /// The target as the client sends it.
    pub fn target(&self) -> String {
        match &self.target {
            Target::Known(at) => of(&TARGETS, *at).to_owned(),
            Target::Other(bytes) => {
                let visible =
                    bytes.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte));
                std::iter::once('/').chain(visible).take(200).collect()
            }
        }
    }

    /// Is there nothing about it that anybody could refuse?
    pub fn is_plain(&self) -> bool {
        const DOUBTFUL: [&str; 6] = ["host", "expect", "max-forwards", "via", "upgrade", "connection"];
        let doubtful = |line: &Line| {
            let name = String::from_utf8_lossy(&line.name()).to_ascii_lowercase();
            DOUBTFUL.contains(&&*name)
        };
        matches!(self.target, Target::Known(_))
            && !["TRACE", "CONNECT"].contains(&self.method())
            && !self.lines.iter().take(12).any(doubtful)
    }

    /// Does it come by HTTP/1.0?
    pub const fn is_old(&self) -> bool {
        self.old
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// The request as it is sent, with the visitor's own cookie.
    pub fn bytes(&self, mark: &str, token: Option<&str>) -> Vec<u8> {
        let version = if self.old { "1.0" } else { "1.1" };
        let mut bytes = format!(
            "{} {} HTTP/{version}\r\nHost: shop.test\r\n{MARK}: {mark}\r\n",
            self.method(),
            self.target()
        );
        if let Some(token) = token {
            bytes += &format!("Cookie: c=d; sessionid={token}; e=f\r\n");
        }
        let mut bytes = bytes.into_bytes();
        write(&mut bytes, &self.lines, true);
        match (&self.body, &self.chunked) {
            (Some(body), Some(trailers)) if !self.old => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                chunks(&mut bytes, body, trailers);
            }
            (Some(body), _) => {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(body);
            }
            (None, _) => bytes.extend_from_slice(b"\r\n"),
        }
        bytes
    }
}

impl Line {
    fn name(&self) -> Vec<u8> {
        match &self.name {
            Name::Known(at) => of(&NAMES, *at).into(),
            Name::Twisted(at, bits) => {
                let twist = |(n, byte): (usize, u8)| match (byte, bits >> (n % 31) & 1) {
                    (b'-', 1) => b"_.!~"[(bits >> 28) as usize % 4],
                    (byte, 1) if byte.is_ascii_lowercase() => byte.to_ascii_uppercase(),
                    (byte, _) => byte,
                };
                of(&NAMES, *at).bytes().enumerate().map(twist).collect()
            }
            Name::Other(bytes) => bytes.iter().copied().filter(|byte| is_token(&[*byte])).take(60).collect(),
        }
    }

    fn value(&self) -> Vec<u8> {
        match &self.value {
            Text::Known(at) => of(&VALUES, *at).into(),
            Text::Other(bytes) => {
                let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
                bytes.iter().copied().filter(is_text).take(300).collect()
            }
        }
    }

    /// A line as it is; what would confuse the story itself is `None`.
    fn written(&self, fair: bool) -> Option<Vec<u8>> {
        let (name, mut value) = (self.name(), self.value());
        let lower = String::from_utf8_lossy(&name).to_ascii_lowercase();
        let ours = [MARK, "x-poison", "x-coatroom-decision", ""].contains(&&*lower);
        let frames = ["content-length", "transfer-encoding"].contains(&&*lower);
        if ours || (fair && frames) {
            return None;
        }
        if lower == "connection" && fair {
            // It may name what it likes but the mark.
            let more: &[u8] = if value.len() % 2 == 0 { b"upgrade" } else { b"close" };
            value = [more, b", x-session-data, x-session-set, cookie, set-cookie, host, x-session-nonce"]
                .concat();
        }
        Some([&name[..], b": ", &value, b"\r\n"].concat())
    }
}

fn write(bytes: &mut Vec<u8>, lines: &[Line], fair: bool) {
    lines.iter().take(12).filter_map(|line| line.written(fair)).for_each(|line| bytes.extend(line));
}

fn chunks(bytes: &mut Vec<u8>, body: &[u8], trailers: &[Line]) {
    for chunk in body.chunks(7) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n");
    write(bytes, trailers, true);
    bytes.extend_from_slice(b"\r\n");
}

/// The head of an odd message, which says of itself which exchange it belongs to, and what follows it.
pub fn odd(first: &str, mark: &str, lines: &[Line], rest: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{first}\r\n{MARK}: {mark}\r\n").into_bytes();
    write(&mut bytes, lines, false);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(rest);
    bytes
}

impl Response {
    /// Is there a directive among its other lines?
    pub fn says_more(&self) -> bool {
        let is_one = |line: &Line| line.name().to_ascii_lowercase().starts_with(b"x-session-");
        self.lines.iter().take(12).any(is_one)
    }

    /// The status.
    pub fn status(&self) -> u16 {
        of(&STATUSES, self.status)
    }

    /// The body that a client gets which did not ask by `HEAD`.
    pub fn body(&self) -> &[u8] {
        if [101, 204, 304].contains(&self.status()) { &[] } else { &self.body }
    }

    /// Does the connection end with it?
    pub fn closes(&self) -> bool {
        self.status() == 101
            || (matches!(self.framing, Framing::ToEnd) && ![204, 304].contains(&self.status()))
    }

    /// The response as it is sent.
    pub fn bytes(&self, mark: &str, head: bool) -> Vec<u8> {
        let mut text = match self.interim {
            None => String::new(),
            Some(at) => format!(
                "HTTP/1.1 {} Early\r\nX-Session-Set: {{\"early\":1}}\r\nSet-Cookie: sessionid={TOSSED}\r\n\r\n",
                of(&[100, 102, 103], at)
            ),
        };
        text += &format!("HTTP/1.1 {} Any\r\n{MARK}: {mark}\r\n", self.status());
        let mut bytes = text.into_bytes();
        if self.nonce {
            bytes.extend_from_slice(&[b"X-Session-Nonce: ", &NONCE[..], b"\r\n"].concat());
        }
        self.wishes.iter().take(8).for_each(|wish| bytes.extend(wish.line()));
        write(&mut bytes, &self.lines, true);
        if self.status() == 101 {
            bytes.extend_from_slice(b"Connection: upgrade\r\nUpgrade: websocket\r\n");
        }
        let bodiless = head || [101, 204, 304].contains(&self.status());
        match &self.framing {
            _ if bodiless => bytes.extend_from_slice(b"\r\n"),
            Framing::Chunked(trailers) => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                chunks(&mut bytes, &self.body, trailers);
            }
            Framing::ToEnd => {
                bytes.extend_from_slice(b"\r\n");
                bytes.extend_from_slice(&self.body);
            }
            Framing::Length | Framing::Poisoned => {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
                bytes.extend_from_slice(&self.body);
            }
        }
        if matches!(self.framing, Framing::Poisoned) && self.status() != 101 {
            bytes.extend_from_slice(POISON);
        }
        bytes
    }
}

impl Wish {
    /// The key and the JSON of one that has both.
    pub fn entry(key: u8, value: u8) -> (&'static str, &'static str) {
        (of(&KEYS, key), of(&ENTRIES, value))
    }

    fn line(&self) -> Vec<u8> {
        let object = |name: &str, key: u8, value: u8| {
            let (key, value) = Self::entry(key, value);
            format!("X-Session-{name}: {{\"{key}\":{value}}}\r\n")
        };
        let text = match self {
            Self::Set(key, value) => object("Set", *key, *value),
            Self::SetDefault(key, value) => object("Set-Default", *key, *value),
            Self::Merge(key, value) => object("Merge", *key, *value),
            Self::Delete(key) => format!("X-Session-Delete: {}\r\n", of(&KEYS, *key)),
            Self::Increment(step) => format!("X-Session-Increment: {{\"n\":{step}}}\r\n"),
            Self::Flush => "X-Session-Flush: true\r\n".to_owned(),
            Self::Clear => "X-Session-Clear: true\r\n".to_owned(),
            Self::CycleKey => "X-Session-Cycle-Key: true\r\n".to_owned(),
            Self::Save => "x-sEssion-save: true\r\n".to_owned(),
            Self::Other(name, text) => {
                const OTHERS: [&str; 8] = [
                    "Set",
                    "Merge",
                    "Expiry",
                    "If-Version",
                    "Set-Key-Member-Id",
                    "Delete",
                    "Test-Cookie",
                    "Subject",
                ];
                let text: Vec<u8> = text
                    .iter()
                    .copied()
                    .filter(|byte| (b' '..=0xff).contains(byte) && *byte != 0x7f)
                    .collect();
                let name = format!("X-Session-{}: ", of(&OTHERS, *name));
                return [name.as_bytes(), &text, b"\r\n"].concat();
            }
        };
        text.into_bytes()
    }
}
