//! Where a response's body ends (RFC 9112 §6.3 and §7.1).

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use memchr::memchr;

use super::head;

/// The longest line that says how long a chunk is, its extensions with it, in bytes.
const LINE: usize = 4 << 10;
/// The longest trailers, in bytes.
const TRAILERS: usize = 16 << 10;

/// How much of a body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes.
    Length(u64),
    /// All that comes before the connection's end.
    End,
    /// A chunk's line.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The end of a chunk's line.
    ChunkEnd,
    /// What follows the last chunk.
    Trailers,
    /// Nothing.
    Over,
}

/// What a decoder makes of what has come.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Bytes of the body.
    Data(Bytes),
    /// What follows a chunked body, which is over now.
    Trailers(HeaderMap),
    /// Nothing before more has come.
    More,
    /// The body is over.
    Over,
}

impl Decoder {
    /// A body of so many bytes.
    pub const fn length(bytes: u64) -> Self {
        Self(if bytes == 0 { State::Over } else { State::Length(bytes) })
    }

    /// A body in chunks.
    pub const fn chunked() -> Self {
        Self(State::Size)
    }

    /// A body that ends with the connection.
    pub const fn end() -> Self {
        Self(State::End)
    }

    /// Has the whole body come?
    pub fn is_over(self) -> bool {
        self.0 == State::Over
    }

    /// Does the body end well if the connection ends here?
    pub fn may_end(self) -> bool {
        matches!(self.0, State::End | State::Over)
    }

    /// How many bytes are to come, where that was said.
    pub const fn exact(self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            State::Over => Some(0),
            _ => None,
        }
    }

    /// How many bytes are awaited of what comes next.
    pub const fn awaited(self) -> u64 {
        match self.0 {
            State::Length(left) | State::Chunk(left) => left,
            State::End => u64::MAX,
            State::Size | State::ChunkEnd | State::Trailers | State::Over => 0,
        }
    }

    /// Takes the next piece of the body out of what has come.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn take(&mut self, inbox: &mut BytesMut) -> Result<Piece, &'static str> {
        loop {
            match self.0 {
                State::Over => return Ok(Piece::Over),
                _ if inbox.is_empty() => return Ok(Piece::More),
                State::End => return Ok(Piece::Data(inbox.split().freeze())),
                State::Length(left) => {
                    let (data, left) = portion(inbox, left);
                    self.0 = if left == 0 { State::Over } else { State::Length(left) };
                    return Ok(Piece::Data(data));
                }
                State::Chunk(left) => {
                    let (data, left) = portion(inbox, left);
                    self.0 = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(Piece::Data(data));
                }
                State::Size => match line(inbox, LINE)? {
                    None => return Ok(Piece::More),
                    Some(line) => {
                        let size = size(&line)?;
                        self.0 = if size == 0 { State::Trailers } else { State::Chunk(size) };
                    }
                },
                State::ChunkEnd => {
                    if !b"\r\n".starts_with(&inbox[..inbox.len().min(2)]) {
                        return Err("a chunk is longer than it says");
                    }
                    if inbox.len() < 2 {
                        return Ok(Piece::More);
                    }
                    inbox.advance(2);
                    self.0 = State::Size;
                }
                State::Trailers => {
                    if inbox.starts_with(b"\r\n") {
                        inbox.advance(2);
                        self.0 = State::Over;
                        return Ok(Piece::Over);
                    }
                    let end = memchr::memmem::find(inbox, b"\r\n\r\n");
                    // However many pieces it comes in: the end may be about to follow.
                    if end.unwrap_or(inbox.len().saturating_sub(3)) > TRAILERS {
                        return Err("its trailers are longer than 16 KiB");
                    }
                    let Some(end) = end else { return Ok(Piece::More) };
                    let bytes = inbox.split_to(end + 4).freeze();
                    self.0 = State::Over;
                    return head::trailers(&bytes).map(Piece::Trailers);
                }
            }
        }
    }
}

/// As much as there is of `left` bytes, and what is left then.
fn portion(inbox: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let length = usize::try_from(left).map_or(inbox.len(), |left| left.min(inbox.len()));
    (inbox.split_to(length).freeze(), left - length as u64)
}

/// A line without its CR LF, once it has come; a bare LF ends none.
fn line(inbox: &mut BytesMut, most: usize) -> Result<Option<BytesMut>, &'static str> {
    let Some(end) = memchr(b'\n', inbox) else {
        return if inbox.len() > most { Err("a chunk's line is too long") } else { Ok(None) };
    };
    let mut line = inbox.split_to(end + 1);
    if end > most || !line.ends_with(b"\r\n") {
        return Err("a chunk's line does not end as lines do");
    }
    line.truncate(end - 1);
    Ok(Some(line))
}

/// The length of a chunk; its extensions mean nothing to us and don't go on (RFC 9112 §7.1.1).
fn size(line: &[u8]) -> Result<u64, &'static str> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    let extensions = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t')).is_none_or(|byte| *byte == b';');
    let clean = !rest.contains(&b'\r') && !rest.contains(&0);
    let size = str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    size.filter(|_| (1..=16).contains(&end) && extensions && clean).ok_or("a chunk has no length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Data, names of trailers, whether it may end here, and how much is left.
    type Decoded = (Vec<u8>, Vec<String>, bool, usize);

    /// Everything that a decoder makes of bytes that come in pieces of so many.
    fn decode(mut decoder: Decoder, bytes: &[u8], step: usize) -> Result<Decoded, &'static str> {
        let (mut inbox, mut rest) = (BytesMut::new(), bytes);
        let (mut data, mut trailers) = (Vec::new(), Vec::new());
        loop {
            match decoder.take(&mut inbox)? {
                Piece::Data(piece) => {
                    assert!(!piece.is_empty());
                    data.extend_from_slice(&piece);
                }
                Piece::Trailers(map) => trailers.extend(map.keys().map(ToString::to_string)),
                Piece::Over => return Ok((data, trailers, true, inbox.len() + rest.len())),
                Piece::More if rest.is_empty() => {
                    return Ok((data, trailers, decoder.may_end(), inbox.len()));
                }
                Piece::More => {
                    let (piece, later) = rest.split_at(step.min(rest.len()));
                    inbox.extend_from_slice(piece);
                    rest = later;
                }
            }
        }
    }

    #[test]
    fn a_body_ends_where_it_says_and_what_follows_is_left() {
        let text = |text: &str| text.as_bytes().to_vec();
        for step in 1..20 {
            let all = |decoder, bytes: &str| decode(decoder, bytes.as_bytes(), step).unwrap();
            let (data, _, over, left) = all(Decoder::length(5), "helloHTTP");
            assert_eq!((data, over, left), (text("hello"), true, 4));
            let (data, _, over, _) = all(Decoder::length(5), "hell");
            assert_eq!((data, over), (text("hell"), false));
            assert_eq!(all(Decoder::length(0), "x"), (vec![], vec![], true, 1));
            assert_eq!(all(Decoder::end(), "hello"), (text("hello"), vec![], true, 0));
            let chunks = "5\r\nhello\r\n00A ; x=\"y\"\r\n, world!!!\r\n0\r\n\r\nHTTP";
            assert_eq!(all(Decoder::chunked(), chunks), (text("hello, world!!!"), vec![], true, 4));
            let (data, _, over, _) = all(Decoder::chunked(), "5\r\nhello\r\n0\r\n");
            assert_eq!((data, over), (text("hello"), false));
            let (_, trailers, over, left) = all(Decoder::chunked(), "0;a\r\nX-Sum: 1\r\nX-End: 2\r\n\r\nH");
            assert_eq!((trailers, over, left), (vec!["x-sum".to_owned(), "x-end".to_owned()], true, 1));
        }
    }

    #[test]
    fn chunks_that_can_be_read_in_two_ways_are_none() {
        for wrong in [
            "\r\n",
            "g\r\n",
            "-1\r\nx",
            "+1\r\nx",
            "0x1\r\nx",
            "1 1\r\nx",
            "1\nx\r\n",
            "1\r\nxy\r\n",
            "1\r\nx\n0",
            "10000000000000000\r\nx",
            "00000000000000001\r\nx",
            "1\r;a\r\nx",
            "1;\0\r\nx",
            "0\r\nX Y: 1\r\n\r\n",
            "0\r\n: 1\r\n\r\n",
            "0\r\n folded: 1\r\n\r\n",
            " 1\r\nx",
        ] {
            for step in 1..wrong.len() {
                assert!(decode(Decoder::chunked(), wrong.as_bytes(), step).is_err(), "{wrong:?} {step}");
            }
        }
    }

    #[test]
    fn what_never_ends_is_not_kept() {
        let long = format!("1;{}", "x".repeat(LINE));
        assert!(decode(Decoder::chunked(), long.as_bytes(), 100).is_err());
        let long = format!("0\r\nx: {}", "x".repeat(TRAILERS + 1));
        assert!(decode(Decoder::chunked(), long.as_bytes(), 100).is_err());
    }

    proptest! {
        /// However a body is cut into chunks, and these into pieces, it stays the same.
        #[test]
        fn chunks_make_up_the_body(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8), step in 1usize..50) {
            let mut bytes = Vec::new();
            for piece in &pieces {
                bytes.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(Decoder::chunked(), &bytes, step), Ok((pieces.concat(), vec![], true, 0)));
        }

        /// Nothing that a backend sends makes us panic, or ends a body before its end.
        #[test]
        fn anything_may_come(bytes in prop::collection::vec(prop::sample::select(b"0123af;\r\n x:".to_vec()), 0..60), step in 1usize..60) {
            let whole = decode(Decoder::chunked(), &bytes, bytes.len().max(1));
            let cut = decode(Decoder::chunked(), &bytes, step);
            prop_assert_eq!(whole, cut);
        }
    }
}
