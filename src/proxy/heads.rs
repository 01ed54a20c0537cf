//! The heads of requests as they came over the wire, for what hyper knows of them and doesn't tell.
//!
//! hyper drops a length that stands beside chunks, and says nothing of it; it takes lines that end in LF alone, in
//! heads and among trailers, and cuts a target at its `#`. Each of them is something that another reader, before us or
//! behind us, may understand otherwise (RFC 9112 §2.2, §3.2 and §6.1; HAProxy CVE-2023-45539), and is refused.
//!
//! No framing is decided here: how long a body is that hyper has seen is counted, so that it is known where the next
//! head begins.

use std::sync::LazyLock;

use http::Request;
use http::header::CONTENT_LENGTH;
use memchr::memchr;
use memchr::memmem::Finder;

use crate::wire::seen::{Seen, Sort};

/// Finds the end of a head.
static END: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
/// More than hyper waits for the end of a head, whatever `proxy.max_head_bytes` may be.
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

    /// Has any byte of the next head come?
    pub const fn have_begun(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Is anything to come of what has begun?
    pub const fn are_to_come(&self) -> bool {
        self.have_begun() || !matches!(self.body, Rest::Nothing)
    }

    /// What comes from now on is no HTTP.
    pub fn end(&mut self) {
        *self = Self { unread: Vec::new(), body: Rest::Tunnel };
    }

    /// Hears what has come.
    ///
    /// # Errors
    /// What is wrong with the end of a body.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if !self.listens() {
            return Ok(());
        }
        let skipped = self.body.skip(bytes).inspect_err(|_| self.end())?;
        self.unread.extend_from_slice(&bytes[skipped..]);
        if self.unread.len() > MOST {
            self.end();
        }
        Ok(())
    }

    /// Takes the head that hyper has made this request of, and says what is wrong with it.
    pub fn take<B>(&mut self, request: &Request<B>, seen: Seen) -> Option<&'static str> {
        let begin = self.unread.chunks_exact(2).take_while(|line| *line == b"\r\n").count() * 2;
        // hyper has found the end; if it isn't there, it is one of LF alone.
        let end = END.find(&self.unread[begin..]).map(|end| begin + end + 4);
        let head = &self.unread[begin..end.unwrap_or(self.unread.len())];
        if has_bare_lf(head) {
            return self.fault("a line ends in LF alone");
        }
        let Some(end) = end else {
            // A tunnel, or nothing that hyper could have read.
            return self.fault("its end is missing");
        };
        if has_fragment(head) {
            return self.fault("the target has a fragment");
        }
        self.body = if seen.has(Sort::Coding) {
            if has_length(head) {
                return self.fault("there is Content-Length beside Transfer-Encoding");
            }
            Rest::Chunks(Chunks::default())
        } else if seen.has(Sort::Length) {
            let length = request.headers().get(CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
            length.map_or(Rest::Nothing, Rest::Length)
        } else {
            Rest::Nothing
        };
        let body = match self.body.skip(&self.unread[end..]) {
            Ok(body) => body,
            Err(what) => return self.fault(what),
        };
        self.unread.drain(..end + body);
        if self.unread.is_empty() && self.unread.capacity() > SPARE {
            self.unread = Vec::new();
        }
        None
    }

    /// The connection ends with this request: nothing more is heard.
    fn fault(&mut self, what: &'static str) -> Option<&'static str> {
        let listened = self.listens();
        self.end();
        listened.then_some(what)
    }
}

/// Does a line end in LF alone?
fn has_bare_lf(head: &[u8]) -> bool {
    // All bytes are looked at, many at once: lines are too short for a search.
    let bare = |before: u8, byte: u8| u8::from(byte == b'\n') & u8::from(before != b'\r');
    let first = u8::from(head.first() == Some(&b'\n'));
    head.iter().zip(head.iter().skip(1)).fold(first, |found, (before, byte)| found | bare(*before, *byte))
        != 0
}

/// Is there a `#` in the target? A method may have one.
fn has_fragment(head: &[u8]) -> bool {
    let line = &head[..memchr(b'\n', head).unwrap_or(head.len())];
    memchr(b'#', &line[memchr(b' ', line).unwrap_or(line.len())..]).is_some()
}

/// Is there a length?
fn has_length(head: &[u8]) -> bool {
    const LENGTH: &[u8] = b"content-length:";
    let lines = head.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.get(..LENGTH.len())).any(|name| name.eq_ignore_ascii_case(LENGTH))
}

impl Rest {
    /// How many of these bytes come before the next head.
    ///
    /// # Errors
    /// As [`Chunks::skip`].
    fn skip(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        Ok(match self {
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
                let some = chunks.skip(bytes)?;
                if matches!(chunks, Chunks::Over) {
                    *self = Self::Nothing;
                }
                some
            }
        })
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
    /// In a trailer, or at the beginning of its line, or behind a CR.
    Trailer { empty: bool, cr: bool },
    /// Behind the empty line.
    Over,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size(0)
    }
}

impl Chunks {
    /// How many of these bytes come before the end.
    ///
    /// # Errors
    /// A trailer ends in LF alone: to hyper that is a byte of it, to others it may be the end of the body.
    fn skip(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            *self = match *self {
                Self::Over => return Ok(at),
                Self::Data(left) => {
                    let rest = bytes.len() - at;
                    let some = usize::try_from(left).map_or(rest, |left| left.min(rest));
                    at += some;
                    let left = left - some as u64;
                    if left == 0 { Self::Size(0) } else { Self::Data(left) }
                }
                Self::Size(size) | Self::Extension(size) if *byte == b'\n' => {
                    at += 1;
                    if size == 0 {
                        Self::Trailer { empty: true, cr: false }
                    } else {
                        Self::Data(size.saturating_add(2))
                    }
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
                Self::Trailer { empty, cr } => {
                    at += 1;
                    match byte {
                        b'\n' if cr && empty => Self::Over,
                        b'\n' if cr => Self::Trailer { empty: true, cr: false },
                        b'\n' => return Err("a trailer ends in LF alone"),
                        b'\r' => Self::Trailer { empty, cr: true },
                        _ => Self::Trailer { empty: false, cr: false },
                    }
                }
            };
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(heads: &mut Heads, request: &Request<()>) -> Option<&'static str> {
        heads.take(request, Seen::of(request.headers()))
    }

    /// What `Heads` says of requests whose heads end at these bytes, heard in pieces of this size.
    fn faults(bytes: &[u8], piece: usize, requests: &[(Request<()>, usize)]) -> Vec<Option<&'static str>> {
        let (mut heads, mut faults, mut heard) = (Heads::default(), Vec::new(), 0);
        let mut hear = |heads: &mut Heads, until: usize| {
            while heard < until {
                let next = bytes.len().min(heard + piece);
                heads.hear(&bytes[heard..next]).expect("trailers are sound");
                heard = next;
            }
        };
        for (request, end) in requests {
            hear(&mut heads, *end);
            faults.push(take(&mut heads, request));
        }
        hear(&mut heads, bytes.len());
        assert!(heads.unread.is_empty() && heads.are_to_come() != heads.listens(), "all is over");
        assert!(matches!(heads.body, Rest::Nothing) || !heads.listens());
        faults
    }

    fn request(name: &str, value: &str) -> Request<()> {
        Request::builder().header(name, value).body(()).expect("a request")
    }

    /// Another reader may take it for the end, and what follows for a head.
    #[test]
    fn a_bare_lf_among_trailers_is_a_fault_wherever_pieces_are_cut() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, sound) in [
            ("0\r\nX: y\r\n\r\n", true),
            ("0\r\n\n", false),
            ("0\r\n\nX: y\r\n\r\n", false),
            ("0\r\nX: y\n\r\n", false),
            ("0\r\nX: y\r\n\nGET", false),
        ] {
            for piece in 1..=body.len() {
                let mut heads = Heads::default();
                assert_eq!(heads.hear(head.as_bytes()), Ok(()));
                assert_eq!(take(&mut heads, &request("transfer-encoding", "chunked")), None);
                let heard = body.as_bytes().chunks(piece).try_for_each(|piece| heads.hear(piece));
                assert_eq!(heard.is_ok(), sound, "{body:?} {piece}");
                assert_eq!(heads.listens(), sound);
            }
            let mut heads = Heads::default();
            assert_eq!(heads.hear(format!("{head}{body}").as_bytes()), Ok(()));
            let fault = take(&mut heads, &request("transfer-encoding", "chunked"));
            assert_eq!(fault, (!sound).then_some("a trailer ends in LF alone"), "{body:?}");
        }
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
            ("GET / HTTP/1.1\r\nHost: a\r\n\n\rA\r\n\r\n", plain(), Some("a line ends in LF alone")),
            ("GET / HTTP/1.1\r\nHost: a\r\n\nGET / HTTP/1.1\r", plain(), Some("a line ends in LF alone")),
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
            let end = bytes.find("0\r\n").unwrap_or(bytes.len());
            let request = (request, end);
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
        assert_eq!(heads.hear(b"GET / HTTP/1.1\n\n"), Ok(()));
        assert!(
            !heads.listens() && heads.unread.is_empty() && take(&mut heads, &request("a", "b")).is_none()
        );
    }

    proptest! {
        /// Wherever the pieces of a connection are cut, each head is found where it begins.
        #[test]
        fn heads_are_found_behind_any_bodies(
            bodies in proptest::collection::vec((0..4_u8, proptest::collection::vec(any::<u8>(), 0..60)), 1..6),
            cut in 1..200_usize,
        ) {
            let (mut bytes, mut requests, mut expected) = (Vec::new(), Vec::new(), Vec::new());
            for (kind, body) in &bodies {
                let length = format!("Content-Length: {}\r\n", if *kind == 1 { body.len() } else { 1 });
                let (framing, sent) = match kind {
                    0 => (String::new(), Vec::new()),
                    1 => (length, body.clone()),
                    2 => ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(body)),
                    _ => (format!("Transfer-Encoding: chunked\r\n{length}"), chunked(body)),
                };
                bytes.extend_from_slice(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n").as_bytes());
                let made = match kind {
                    0 => request("host", "a"),
                    1 => request("content-length", &body.len().to_string()),
                    _ => request("transfer-encoding", "chunked"),
                };
                requests.push((made, bytes.len()));
                bytes.extend_from_slice(&sent);
                let ended = expected.iter().any(Option::is_some);
                expected.push((*kind == 3 && !ended).then_some("there is Content-Length beside Transfer-Encoding"));
            }
            prop_assert_eq!(faults(&bytes, cut, &requests), expected);
        }
    }

    fn chunked(body: &[u8]) -> Vec<u8> {
        let chunks = body.chunks(17);
        let mut all = chunks.fold(Vec::new(), |mut all, chunk| {
            all.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
            all.extend_from_slice(chunk);
            all.extend_from_slice(b"\r\n");
            all
        });
        all.extend_from_slice(b"000\r\nA: b\r\nC:\r\n\r\n");
        all
    }
}
