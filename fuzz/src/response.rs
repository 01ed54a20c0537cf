//! The reader of a backend's responses: a slow reading of RFC 9112 agrees, in however many pieces the bytes come.
//!
//! The first byte chooses the method and the size of the pieces; the rest is what comes over the connection before it
//! ends.

use bytes::BytesMut;
use coatroom::proxy::backend::decoder::Piece;
use coatroom::proxy::backend::head;
use http::{HeaderMap, Method, StatusCode};

/// The most lines of a head or of trailers.
const LINES: usize = 128;
/// The longest head, in bytes.
const HEAD: usize = 384 << 10;
/// The longest line of a chunk, in bytes.
const CHUNK: usize = 4 << 10;
/// The longest trailers, in bytes.
const TRAILERS: usize = 16 << 10;

/// Checks one connection's response.
pub fn check(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    let method = if kind % 2 == 0 { Method::GET } else { Method::HEAD };
    let whole = read(&method, bytes, bytes.len().max(1));
    for step in [1 + usize::from(kind / 2), 1] {
        assert_eq!(read(&method, bytes, step), whole, "in pieces of {step}");
    }
    let mut slow = Slow { left: bytes, is_plain: true };
    let mut model = Outcome::default();
    model.end = match slow.response(&method, &mut model) {
        Ok(()) => End::Over(slow.left.len()),
        Err(Stop::More) => End::Early,
        Err(Stop::Wrong) => End::Refused,
    };
    // We may refuse what is odd, and before its line is over, but what we read we read as it does, up to where it does.
    let is_good = slow.is_plain && matches!(model.end, End::Over(_));
    if whole.end != End::Refused || is_good {
        assert_eq!(whole, model);
    } else {
        assert!(model.heads.starts_with(&whole.heads) && model.body.starts_with(&whole.body));
    }
}

/// What is made of a connection's bytes.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// Status and headers of each head, the interim ones first.
    heads: Vec<(u16, Fields)>,
    /// Could another request follow?
    kept: bool,
    body: Vec<u8>,
    trailers: Fields,
    end: End,
}

/// Names in lower case, and values; those of one name in their order.
type Fields = Vec<(String, Vec<u8>)>;

#[derive(Debug, Default, PartialEq)]
enum End {
    /// More had to come.
    #[default]
    Early,
    /// It is whole, and so many bytes follow that are none of it.
    Over(usize),
    Refused,
}

/// Reads as an exchange does.
fn read(method: &Method, bytes: &[u8], step: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut wire = Wire { inbox: BytesMut::new(), left: bytes, step };
    outcome.end = wire.response(method, &mut outcome).unwrap_or(End::Refused);
    outcome
}

/// A connection that bytes come over in pieces.
struct Wire<'a> {
    inbox: BytesMut,
    left: &'a [u8],
    step: usize,
}

impl Wire<'_> {
    /// Has another piece come?
    fn fill(&mut self) -> bool {
        let (piece, left) = self.left.split_at(self.step.min(self.left.len()));
        self.inbox.extend_from_slice(piece);
        self.left = left;
        !piece.is_empty()
    }

    fn response(&mut self, method: &Method, outcome: &mut Outcome) -> Result<End, &'static str> {
        let mut decoder = loop {
            let Some(head) = head::take(&mut self.inbox, method, &mut HeaderMap::new())? else {
                if self.fill() {
                    continue;
                }
                return Ok(End::Early);
            };
            let status = head.response.status();
            outcome.heads.push((status.as_u16(), fields(head.response.headers())));
            if is_final(status.as_u16()) {
                outcome.kept = head.kept;
                break head.decoder;
            }
        };
        let framed = decoder.exact();
        loop {
            let before = decoder.exact();
            match decoder.take(&mut self.inbox)? {
                Piece::Data(data) => {
                    assert!(!data.is_empty());
                    assert_eq!(decoder.exact(), before.map(|before| before - data.len() as u64));
                    outcome.body.extend_from_slice(&data);
                }
                Piece::Trailers(trailers) => {
                    assert!(decoder.is_over());
                    outcome.trailers = fields(&trailers);
                }
                Piece::Over => {
                    assert!(decoder.is_over() && decoder.may_end());
                    assert!(framed.is_none_or(|framed| framed == outcome.body.len() as u64));
                    return Ok(End::Over(self.inbox.len() + self.left.len()));
                }
                Piece::More if self.fill() => {}
                Piece::More if decoder.may_end() => return Ok(End::Over(0)),
                Piece::More => return Ok(End::Early),
            }
        }
    }
}

fn is_final(status: u16) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || status >= 200
}

fn fields(headers: &HeaderMap) -> Fields {
    let pairs = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    sorted(pairs.collect())
}

fn sorted(mut fields: Fields) -> Fields {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// A slow reader, which knows all bytes when it begins.
struct Slow<'a> {
    left: &'a [u8],
    /// Is everything as RFC 9112 would have it written, and within our limits?
    is_plain: bool,
}

/// Why a reader can't go on.
enum Stop {
    /// More has to come.
    More,
    /// It is no response.
    Wrong,
}

fn must(holds: bool) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(Stop::Wrong) }
}

impl<'a> Slow<'a> {
    fn response(&mut self, method: &Method, outcome: &mut Outcome) -> Result<(), Stop> {
        loop {
            let before = self.left.len();
            let (version, status) = self.status_line()?;
            let fields = self.fields(true)?;
            must(status >= 100)?;
            self.is_plain &= before - self.left.len() <= HEAD;
            let is_empty = *method == Method::HEAD || status < 200 || [204, 304].contains(&status);
            let values = |name: &str| -> Vec<&[u8]> {
                fields.iter().filter(|(other, _)| other == name).map(|(_, value)| &value[..]).collect()
            };
            let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
            must(lengths.len() + codings.len() < 2)?;
            must(codings.is_empty() || version == 1)?;
            must(codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked")))?;
            let length = match lengths.first() {
                Some(length) => {
                    must(!length.is_empty() && length.iter().all(u8::is_ascii_digit))?;
                    let length = str::from_utf8(length).ok().and_then(|length| length.parse::<u64>().ok());
                    Some(length.ok_or(Stop::Wrong)?)
                }
                None => None,
            };
            let closes = values("connection").iter().any(|line| {
                // A line that is not visible ASCII says nothing to us.
                line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
                    && line
                        .split(|byte| *byte == b',')
                        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
            });
            let is_framed = is_empty || length.is_some() || !codings.is_empty();
            let is_chunked = !codings.is_empty();
            outcome.heads.push((status, fields.clone()));
            if !is_final(status) {
                continue;
            }
            outcome.kept = version == 1 && !closes && is_framed;
            return match length {
                _ if is_empty => Ok(()),
                _ if is_chunked => self.chunks(outcome),
                Some(length) => self.data(length, outcome),
                None => self.data(self.left.len() as u64, outcome),
            };
        }
    }

    /// So many bytes, or as many of them as there are.
    fn data(&mut self, length: u64, outcome: &mut Outcome) -> Result<(), Stop> {
        for _ in 0..length {
            let (byte, left) = self.left.split_first().ok_or(Stop::More)?;
            outcome.body.push(*byte);
            self.left = left;
        }
        Ok(())
    }

    fn chunks(&mut self, outcome: &mut Outcome) -> Result<(), Stop> {
        loop {
            let end = self.left.iter().position(|byte| *byte == b'\n');
            must(end.unwrap_or(self.left.len()) <= CHUNK)?;
            let line = &self.left[..end.ok_or(Stop::More)?];
            self.left = &self.left[line.len() + 1..];
            let line = line.strip_suffix(b"\r").ok_or(Stop::Wrong)?;
            must(!line.contains(&b'\r') && !line.contains(&0))?;
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            must((1..=16).contains(&digits))?;
            let behind = line[digits..].trim_ascii_start();
            must(behind.is_empty() || behind[0] == b';')?;
            // A form feed is a space to Rust, and none to HTTP.
            must(line[digits..].iter().take_while(|byte| **byte != b';').all(|byte| b" \t".contains(byte)))?;
            let size =
                str::from_utf8(&line[..digits]).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
            let size = size.ok_or(Stop::Wrong)?;
            if size == 0 {
                break;
            }
            self.data(size, outcome)?;
            for wanted in *b"\r\n" {
                let (byte, left) = self.left.split_first().ok_or(Stop::More)?;
                must(*byte == wanted)?;
                self.left = left;
            }
        }
        if let Some(left) = self.left.strip_prefix(b"\r\n") {
            self.left = left;
            return Ok(());
        }
        let end = self.left.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        must(end.unwrap_or(self.left.len().saturating_sub(3)) <= TRAILERS)?;
        let (trailers, left) = self.left.split_at(end.ok_or(Stop::More)? + 4);
        self.left = trailers;
        outcome.trailers = self.fields(false)?;
        must(self.left.is_empty())?;
        self.left = left;
        Ok(())
    }

    /// A line, which a bare LF ends too.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let end = self.left.iter().position(|byte| *byte == b'\n').ok_or(Stop::More)?;
        let line = &self.left[..end];
        self.left = &self.left[end + 1..];
        self.is_plain &= line.ends_with(b"\r");
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        must(!line.contains(&b'\r'))?;
        Ok(line)
    }

    fn status_line(&mut self) -> Result<(u8, u16), Stop> {
        let line = loop {
            let line = self.line()?;
            if !line.is_empty() {
                break line;
            }
            self.is_plain = false;
        };
        let rest = line.strip_prefix(b"HTTP/1.").ok_or(Stop::Wrong)?;
        must(rest.len() >= 5 && rest[1] == b' ' && rest[2..5].iter().all(u8::is_ascii_digit))?;
        must(b"01".contains(&rest[0]))?;
        let status = rest[2..5].iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        match rest.get(5) {
            None => self.is_plain = false,
            Some(space) => must(*space == b' ')?,
        }
        must(rest.iter().skip(5).all(is_text))?;
        Ok((rest[0] - b'0', status))
    }

    /// Fields up to and with an empty line.
    fn fields(&mut self, is_head: bool) -> Result<Fields, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                self.is_plain &= fields.len() <= LINES;
                return Ok(sorted(fields));
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Wrong)?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let bare = name.trim_ascii_end();
            if bare.len() < name.len() {
                self.is_plain = false;
                must(is_head)?;
            }
            must(!bare.is_empty() && bare.iter().all(is_token) && value.iter().all(is_text))?;
            must(name[bare.len()..].iter().all(|byte| b" \t".contains(byte)))?;
            let name = bare.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect();
            fields.push((name, value.trim_ascii().to_vec()));
        }
    }
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// What may stand in a value or a reason.
fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}
