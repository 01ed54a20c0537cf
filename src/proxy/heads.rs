//! The heads of requests as they came over the wire, for what hyper knows of them and doesn't tell.
//!
//! hyper drops a length that stands beside chunks, and says nothing of it; it takes lines that end in LF alone, and cuts
//! a target at its `#`. Each of them is something that another reader, before us or behind us, may understand otherwise
//! (RFC 9112 §2.2, §3.2 and §6.1; HAProxy CVE-2023-45539), and is refused.
//!
//! No framing is decided here: how long a body is that hyper has seen is counted, so that it is known where the next
//! head begins.

use http::Request;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};

/// More than hyper waits for the end of a head.
const MOST: usize = 1024 * 1024;
/// What may be kept between requests, in bytes.
const SPARE: usize = 8 * 1024;

/// What has come of a connection and has not been served yet.
#[derive(Default)]
pub struct Heads {
    /// From the beginning of a head.
    unread: Vec<u8>,
    body: Rest,
}

/// What is to come before the next head.
#[derive(Default)]
enum Rest {
    #[default]
    Nothing,
    /// So many bytes.
    Length(u64),
    Chunks(Chunks),
    /// There will be none.
    Tunnel,
}

impl Heads {
    /// Does it still listen?
    pub const fn listens(&self) -> bool {
        !matches!(self.body, Rest::Tunnel)
    }

    /// What comes from now on is no HTTP.
    pub fn end(&mut self) {
        *self = Self { unread: Vec::new(), body: Rest::Tunnel };
    }

    /// Hears what has come.
    pub fn hear(&mut self, bytes: &[u8]) {
        let skipped = self.body.skip(bytes);
        self.unread.extend_from_slice(&bytes[skipped..]);
        if self.unread.len() > MOST {
            self.end();
        }
    }

    /// Takes the head that hyper has made this request of, and says what is wrong with it.
    pub fn take<B>(&mut self, request: &Request<B>) -> Option<&'static str> {
        let headers = request.headers();
        let chunked = headers.contains_key(TRANSFER_ENCODING);
        let Some(head) = Head::of(&self.unread) else {
            // A tunnel, or nothing that hyper could have read.
            self.end();
            return None;
        };
        self.body = match headers.get(CONTENT_LENGTH).map(HeaderValue::to_str) {
            _ if chunked => Rest::Chunks(Chunks::default()),
            Some(length) => Rest::Length(length.ok().and_then(|length| length.parse().ok()).unwrap_or(0)),
            None => Rest::Nothing,
        };
        let body = self.body.skip(&self.unread[head.end..]);
        self.unread.drain(..head.end + body);
        if self.unread.is_empty() && self.unread.capacity() > SPARE {
            self.unread = Vec::new();
        }
        if head.bare {
            Some("a line ends in LF alone")
        } else if head.fragment {
            Some("the target has a fragment")
        } else if head.length && chunked {
            Some("there is Content-Length beside Transfer-Encoding")
        } else {
            None
        }
    }
}

/// What is seen of a head.
struct Head {
    /// How long it is, with what stands before it and its empty line.
    end: usize,
    /// Does a line end in LF alone?
    bare: bool,
    /// Is there a `#` in the target?
    fragment: bool,
    /// Is there a length?
    length: bool,
}

impl Head {
    /// The first one; `None` where it isn't whole.
    fn of(bytes: &[u8]) -> Option<Self> {
        const LENGTH: &[u8] = b"content-length:";
        let (mut begin, mut first) = (0, true);
        let mut head = Self { end: 0, bare: false, fragment: false, length: false };
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[begin..end];
            begin = end + 1;
            let Some((b'\r', line)) = line.split_last() else {
                head.bare = true;
                if line.is_empty() && !first {
                    return Some(Self { end: begin, ..head });
                }
                head.look(line, &mut first);
                continue;
            };
            if line.is_empty() && !first {
                return Some(Self { end: begin, ..head });
            }
            let named = line.len() >= LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH);
            head.length |= named;
            head.look(line, &mut first);
        }
        None
    }

    /// Looks at the first line. Empty ones before it count for nothing (RFC 9112 §2.2).
    fn look(&mut self, line: &[u8], first: &mut bool) {
        if *first && !line.is_empty() {
            // A method may have one.
            let target = memchr::memchr(b' ', line).map_or(line, |space| &line[space..]);
            self.fragment = memchr::memchr(b'#', target).is_some();
            *first = false;
        }
    }
}

impl Rest {
    /// How many of these bytes come before the next head.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Tunnel => bytes.len(),
            Self::Length(left) => {
                let some = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= some as u64;
                if *left == 0 {
                    *self = Self::Nothing;
                }
                some
            }
            Self::Chunks(chunks) => {
                let some = chunks.skip(bytes);
                if matches!(chunks, Chunks::Over) {
                    *self = Self::Nothing;
                }
                some
            }
        }
    }
}

/// Where in a chunked body we are. Whatever is no such body ends the connection in hyper.
enum Chunks {
    /// In the size of a chunk.
    Size(u64),
    /// Behind it, up to its LF.
    Extension(u64),
    /// In a chunk, with so much to come, and its CR LF.
    Data(u64),
    /// In a trailer, or at the beginning of its line.
    Trailer { empty: bool },
    /// Behind the empty line.
    Over,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size(0)
    }
}

impl Chunks {
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            *self = match *self {
                Self::Over => return at,
                Self::Data(left) => {
                    let rest = bytes.len() - at;
                    let some = usize::try_from(left).map_or(rest, |left| left.min(rest));
                    at += some;
                    let left = left - some as u64;
                    if left == 0 { Self::Size(0) } else { Self::Data(left) }
                }
                Self::Size(size) | Self::Extension(size) if *byte == b'\n' => {
                    at += 1;
                    if size == 0 { Self::Trailer { empty: true } } else { Self::Data(size.saturating_add(2)) }
                }
                Self::Size(size) => {
                    at += 1;
                    let digit = char::from(*byte).to_digit(16);
                    digit.map_or(Self::Extension(size), |digit| {
                        Self::Size(size.saturating_mul(16).saturating_add(digit.into()))
                    })
                }
                Self::Extension(size) => {
                    at += 1;
                    Self::Extension(size)
                }
                Self::Trailer { empty } => {
                    at += 1;
                    match byte {
                        b'\n' if empty => Self::Over,
                        b'\n' => Self::Trailer { empty: true },
                        b'\r' => Self::Trailer { empty },
                        _ => Self::Trailer { empty: false },
                    }
                }
            };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `Heads` says of the requests that these bytes are, heard in pieces of this size.
    fn faults(bytes: &[u8], piece: usize, requests: &[Request<()>]) -> Vec<Option<&'static str>> {
        let mut heads = Heads::default();
        let mut pieces = bytes.chunks(piece);
        let mut faults = Vec::new();
        for request in requests {
            while Head::of(&heads.unread).is_none() {
                heads.hear(pieces.next().expect("a whole head"));
            }
            faults.push(heads.take(request));
        }
        pieces.for_each(|piece| heads.hear(piece));
        assert!(heads.unread.is_empty() && matches!(heads.body, Rest::Nothing), "all is over");
        faults
    }

    fn request(name: &str, value: &str) -> Request<()> {
        Request::builder().header(name, value).body(()).expect("a request")
    }

    #[test]
    fn what_hyper_keeps_to_itself_is_said() {
        let plain = || request("host", "a");
        let chunked = || request("transfer-encoding", "chunked");
        for (bytes, request, fault) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", plain(), None),
            ("\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", plain(), Some("a line ends in LF alone")),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", plain(), None),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", plain(), Some("a line ends in LF alone")),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", plain(), Some("a line ends in LF alone")),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", plain(), Some("the target has a fragment")),
            ("G#T /a HTTP/1.1\r\nHost: a\r\nA: #\r\n\r\n", plain(), None),
            (
                "GET / HTTP/1.1\r\nA: 1\r\nContent-Length:\r\n\r\n0\r\n\r\n",
                chunked(),
                Some("there is Content-Length beside Transfer-Encoding"),
            ),
            (
                "GET / HTTP/1.1\r\nCONTENT-LENGTH:2\r\nA: 1\r\n\r\n0\r\n\r\n",
                chunked(),
                Some("there is Content-Length beside Transfer-Encoding"),
            ),
            ("GET / HTTP/1.1\r\nContent-Lengths: 1\r\n\r\n0\r\n\r\n", chunked(), None),
        ] {
            for piece in 1..bytes.len() + 1 {
                assert_eq!(
                    faults(bytes.as_bytes(), piece, std::slice::from_ref(&request)),
                    [fault],
                    "{bytes:?} {piece}"
                );
            }
        }
    }

    #[test]
    fn what_comes_after_a_tunnel_has_begun_is_not_heard() {
        let mut heads = Heads::default();
        heads.end();
        heads.hear(b"GET / HTTP/1.1\n\n");
        assert!(!heads.listens() && heads.unread.is_empty() && heads.take(&request("a", "b")).is_none());
    }

    proptest! {
        /// Wherever the pieces of a connection are cut, each head is found where it begins.
        #[test]
        fn heads_are_found_behind_any_bodies(
            bodies in proptest::collection::vec((0..3_u8, proptest::collection::vec(any::<u8>(), 0..60)), 1..6),
            cut in 1..200_usize,
        ) {
            let (mut bytes, mut requests, mut expected) = (Vec::new(), Vec::new(), Vec::new());
            for (kind, body) in &bodies {
                bytes.extend_from_slice(b"POST / HTTP/1.1\r\nHost: a\r\n");
                let end: Vec<u8> = match kind {
                    0 => { requests.push(request("host", "a")); b"\r\n".to_vec() }
                    1 => {
                        requests.push(request("content-length", &body.len().to_string()));
                        [format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
                    }
                    _ => {
                        requests.push(request("transfer-encoding", "chunked"));
                        let mut end = b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                        for chunk in body.chunks(17) {
                            end.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
                            end.extend_from_slice(chunk);
                            end.extend_from_slice(b"\r\n");
                        }
                        end.extend_from_slice(b"000\r\nA: b\r\nC:\r\n\r\n");
                        end
                    }
                };
                expected.push((*kind == 2).then_some("there is Content-Length beside Transfer-Encoding"));
                bytes.extend_from_slice(&end);
            }
            prop_assert_eq!(faults(&bytes, cut, &requests), expected);
        }
    }
}
