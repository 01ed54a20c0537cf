//! A reader of HTTP/1.1 requests that accepts nothing but what RFC 9112 defines, and shares no line with the sidecar's.
//!
//! It says what a client's bytes are, and whether what the sidecar sends on can be read in one way only.

/// A whole request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The method.
    pub method: String,
    /// The target, a byte a character.
    pub target: String,
    /// Name in lower case, value, in order; a byte a character.
    pub headers: Vec<(String, String)>,
    /// The body, without its chunks.
    pub body: Vec<u8>,
    /// Trailers, where the body was chunked.
    pub trailers: Vec<(String, String)>,
    /// Does the connection end after it?
    pub last: bool,
}

/// What bytes begin with.
#[derive(Debug)]
pub enum Read {
    /// A request of so many bytes.
    Whole(Box<Message>, usize),
    /// What may become a request; is its head whole?
    Partial(bool),
    /// No request, and why.
    Fault(&'static str),
}

/// How a body is framed.
enum Framing {
    Length(usize),
    Chunks,
}

/// Reads the first request.
pub fn read(bytes: &[u8]) -> Read {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        // A line that can't begin a request is one without its end, too.
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        return match line.iter().all(|byte| *byte == b'\r' || is_visible(*byte) || *byte == b' ') {
            true => Read::Partial(false),
            false => Read::Fault("the request line"),
        };
    };
    let mut message = match head(&bytes[..end + 2]) {
        Ok(message) => Box::new(message),
        Err(what) => return Read::Fault(what),
    };
    let rest = &bytes[end + 4..];
    let framing = match framing(&message) {
        Ok(framing) => framing,
        Err(what) => return Read::Fault(what),
    };
    let taken = match framing {
        Framing::Length(length) if rest.len() < length => return Read::Partial(true),
        Framing::Length(length) => {
            message.body = rest[..length].to_vec();
            length
        }
        Framing::Chunks => match chunks(rest) {
            Err(what) => return Read::Fault(what),
            Ok(None) => return Read::Partial(true),
            Ok(Some((body, trailers, taken))) => {
                (message.body, message.trailers) = (body, trailers);
                taken
            }
        },
    };
    Read::Whole(message, end + 4 + taken)
}

/// Reads all whole requests of a connection, and how it goes on behind them.
pub fn all(mut bytes: &[u8]) -> (Vec<Message>, Option<Read>) {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        match read(bytes) {
            Read::Whole(message, taken) => {
                let last = message.last;
                messages.push(*message);
                if last {
                    return (messages, None);
                }
                bytes = &bytes[taken..];
            }
            other => return (messages, Some(other)),
        }
    }
    (messages, None)
}

/// A byte a character: nothing is lost, whatever the bytes are.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

const fn is_visible(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn head(bytes: &[u8]) -> Result<Message, &'static str> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"\r\n").ok_or("a line without CR LF")?;
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    if lines.iter().any(|line| line.iter().any(|byte| b"\r\n\0".contains(byte))) {
        return Err("a bare CR, LF or NUL");
    }
    let mut words = lines[0].split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
        return Err("the request line");
    };
    if !is_token(method) || !(version == b"HTTP/1.1" || version == b"HTTP/1.0") {
        return Err("the request line");
    }
    // Bytes beyond ASCII have no place in a target (RFC 3986), but everybody sends and takes them.
    let absolute = target.starts_with(b"http://") || target.starts_with(b"https://");
    let form = target.starts_with(b"/") || absolute || (target == b"*" && method == b"OPTIONS");
    if !form || !target.iter().all(|byte| is_visible(*byte) && *byte != b'#') {
        return Err("the target");
    }
    let mut headers = Vec::new();
    for line in &lines[1..] {
        headers.push(field(line)?);
    }
    let values = |name: &str| -> Vec<&str> {
        headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect()
    };
    let hosts = values("host").len();
    if hosts > 1 || (hosts == 0 && version == b"HTTP/1.1") {
        return Err("the Host");
    }
    let close = values("connection").iter().any(|list| {
        list.split(',').any(|option| option.trim_matches([' ', '\t']).eq_ignore_ascii_case("close"))
    });
    let last = close || version == b"HTTP/1.0";
    Ok(Message { method: text(method), target: text(target), headers, last, ..Message::default() })
}

fn field(line: &[u8]) -> Result<(String, String), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
    let value = text(&line[colon + 1..]);
    let value = value.trim_matches([' ', '\t']);
    if !is_token(&line[..colon]) {
        return Err("a name that is no token");
    }
    if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
        return Err("a value with a control character");
    }
    Ok((text(&line[..colon]).to_ascii_lowercase(), value.to_owned()))
}

fn framing(message: &Message) -> Result<Framing, &'static str> {
    let of = |name: &str| -> Vec<&str> {
        message.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect()
    };
    match (&of("transfer-encoding")[..], &of("content-length")[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [length]) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map(Framing::Length).map_err(|_| "the length")
        }
        ([], _) => Err("the length"),
        // Another coding than chunks is none that anybody here understands.
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunks),
        _ => Err("the transfer coding"),
    }
}

type Chunked = (Vec<u8>, Vec<(String, String)>, usize);

/// A chunked body with its trailers and length; `None` where it goes on.
fn chunks(bytes: &[u8]) -> Result<Option<Chunked>, &'static str> {
    let line =
        |at: usize| bytes[at..].windows(2).position(|two| two == b"\r\n").map(|end| &bytes[at..at + end]);
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(size) = line(at) else {
            let begun = bytes.get(at).is_none_or(u8::is_ascii_hexdigit);
            return if begun { Ok(None) } else { Err("the size of a chunk") };
        };
        at += size.len() + 2;
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default();
        if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("the size of a chunk");
        }
        let size = usize::from_str_radix(&text(digits), 16).map_err(|_| "the size of a chunk")?;
        if size == 0 {
            break;
        }
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&bytes[at..at + size]);
        at += size;
        if &bytes[at..at + 2] != b"\r\n" {
            return Err("the end of a chunk");
        }
        at += 2;
    }
    let mut trailers = Vec::new();
    loop {
        let Some(trailer) = line(at) else { return Ok(None) };
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Ok(Some((body, trailers, at)));
        }
        trailers.push(field(trailer)?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_the_standard_defines_and_nothing_else() {
        let whole = |bytes: &[u8]| matches!(read(bytes), Read::Whole(_, taken) if taken == bytes.len());
        assert!(whole(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(whole(b"POST /\xc3\xa9?a HTTP/1.1\r\nHost: a\r\nX:\xff\tb\r\nContent-Length: 2\r\n\r\nhi"));
        assert!(whole(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\n"));
        assert!(whole(b"OPTIONS * HTTP/1.0\r\n\r\n"));
        for fault in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        ] {
            assert!(matches!(read(fault), Read::Fault(_)), "{:?}", text(fault));
        }
        assert!(matches!(read(b"GET / HT"), Read::Partial(false)));
        assert!(matches!(
            read(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na"),
            Read::Partial(true)
        ));
    }
}
