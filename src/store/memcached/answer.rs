//! What a server says: the answers of the meta protocol, and which illness an error is.

use bytes::{Bytes, BytesMut};

use crate::store::{Error, Kind};

/// Bytes of a line at most, its value left out. Answers to us have less than a hundred.
const LONGEST_LINE: usize = 2048;
/// Bytes of an error that are repeated at most.
const QUOTED: usize = 100;
/// What it says where there is no room for an item.
const FULL: &str = "SERVER_ERROR out of memory storing object";
/// What it says of an item that is larger than its `-I`.
const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";

/// An answer.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// `VA`: it is there.
    Value {
        /// The number of what lies there.
        cas: u64,
        /// What lies there.
        value: Bytes,
    },
    /// `HD`: it was done.
    Done {
        /// The number of what lies there now; 0 after a removal.
        cas: u64,
    },
    /// `EN`, `NF`: nothing is there.
    Missing,
    /// `EX`: something with another number is there.
    Changed,
    /// `NS`: the key is taken.
    Taken,
    /// `MN`: the server is there.
    Here,
    /// It won't, or can't.
    Said(Said),
}

/// An answer, and to which call it is one.
#[derive(Debug, PartialEq)]
pub(super) struct Reply {
    /// What is said.
    pub(super) answer: Answer,
    /// The number that the call had (`O`); errors and `MN` have none.
    pub(super) number: Option<u64>,
}

impl Reply {
    /// May it be the answer to the call of that number?
    pub(super) fn is_to(&self, number: u64) -> bool {
        match self.number {
            Some(other) => other == number,
            None => matches!(self.answer, Answer::Said(_) | Answer::Here),
        }
    }
}

/// An error that a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said(String);

/// What came is no answer at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Said {
    /// The error in a line, if it is one.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let text: String = line.iter().take(QUOTED).map(|byte| char::from(*byte)).collect();
        let error = ["ERROR", "CLIENT_ERROR", "SERVER_ERROR"].contains(&text.split(' ').next()?);
        (error && text.chars().all(|c| c == ' ' || c.is_ascii_graphic())).then_some(Self(text))
    }

    /// The text, as it came.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The illness.
    pub(super) fn kind(&self) -> Kind {
        match &*self.0 {
            text if text.starts_with("SERVER_ERROR out of memory") => Kind::OutOfMemory,
            TOO_LARGE | "ERROR Too many open connections" => Kind::Refused,
            "CLIENT_ERROR unauthenticated" => Kind::NoAuth,
            // It was not understood, or the server has trouble of its own: who knows how much was done.
            _ => Kind::Broken,
        }
    }

    /// Is it all there is to say, so that the next answer is one to the next call? After any other error there may be
    /// more: a value that was not read as one, say, is answered as if it were calls.
    pub(super) fn is_whole(&self) -> bool {
        [FULL, TOO_LARGE].contains(&&*self.0)
    }

    /// The same for whoever asked the server of that name.
    pub(super) fn at(&self, server: &dyn std::fmt::Display) -> Error {
        let more = match &*self.0 {
            // It removes first what it was to replace.
            FULL => ": it is full (-m there), and has removed what lay under that key",
            TOO_LARGE => " (-I there), and has removed what lay under that key",
            _ => "",
        };
        Error::new(self.kind(), format!("{server} says {}{more}", self.0))
    }
}

/// Takes the first answer out of what came; `None` while it is not all there. `largest` is what a value may have.
///
/// # Errors
/// If it is none: nothing that comes behind it can be understood.
pub(super) fn take(buffer: &mut BytesMut, largest: usize) -> Result<Option<Reply>, Unreadable> {
    let Some(end) = line_end(buffer)? else { return Ok(None) };
    let mut words = buffer[..end].split(|byte| *byte == b' ');
    let code = words.next().unwrap_or_default();
    if code == b"VA" {
        let length = number(words.next().unwrap_or_default()).ok_or(Unreadable)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= largest).ok_or(Unreadable)?;
        let [cas, number] = flags(words);
        let begin = end + 2;
        let Some(behind) = buffer.get(begin + length..begin + length + 2) else { return Ok(None) };
        if behind != b"\r\n" {
            return Err(Unreadable);
        }
        let value = buffer.split_to(begin + length + 2).freeze().slice(begin..begin + length);
        return Ok(Some(Reply { answer: Answer::Value { cas: cas.unwrap_or(0), value }, number }));
    }
    let [cas, number] = flags(words);
    let answer = match code {
        b"HD" => Answer::Done { cas: cas.unwrap_or(0) },
        b"EN" | b"NF" => Answer::Missing,
        b"EX" => Answer::Changed,
        b"NS" => Answer::Taken,
        b"MN" => Answer::Here,
        _ => Answer::Said(Said::of(&buffer[..end]).ok_or(Unreadable)?),
    };
    drop(buffer.split_to(end + 2));
    Ok(Some(Reply { answer, number }))
}

/// Takes the first line out of what came, its end left out.
///
/// # Errors
/// If there is no end to it.
pub(super) fn take_line(buffer: &mut BytesMut) -> Result<Option<Bytes>, Unreadable> {
    let Some(end) = line_end(buffer)? else { return Ok(None) };
    let line = buffer.split_to(end + 2).freeze().slice(..end);
    Ok(Some(line))
}

/// Where the first line ends, before its `\r\n`.
fn line_end(buffer: &BytesMut) -> Result<Option<usize>, Unreadable> {
    let head = &buffer[..buffer.len().min(LONGEST_LINE)];
    match memchr::memchr(b'\n', head) {
        Some(at) if at > 0 && head[at - 1] == b'\r' => Ok(Some(at - 1)),
        Some(_) => Err(Unreadable),
        None if head.len() == LONGEST_LINE => Err(Unreadable),
        None => Ok(None),
    }
}

/// The numbers behind the flags `c` (CAS) and `O` (the call's). No item has the CAS number 0.
fn flags<'a>(words: impl Iterator<Item = &'a [u8]>) -> [Option<u64>; 2] {
    let mut found = [None; 2];
    for word in words {
        match word.split_first() {
            Some((b'c', digits)) => found[0] = number(digits),
            Some((b'O', digits)) => found[1] = number(digits),
            _ => {}
        }
    }
    found
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = Some(digits).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What memcached 1.6.18 says, to the letter.
    const SAID: &[u8] =
        b"VA 5 c17 O1\r\nhe\r\no\r\nVA 0 c18 O2\r\n\r\nHD c3 O3\r\nHD O4\r\nEN O5\r\nNF c0 O6\r\n\
        EX c0 O7\r\nNS c0 O8\r\nMN\r\nSERVER_ERROR out of memory storing object\r\n\
        CLIENT_ERROR bad data chunk\r\nERROR\r\n";

    #[test]
    fn answers_come_one_behind_the_other_in_whatever_pieces() {
        let said = |text: &str| Answer::Said(Said(text.to_owned()));
        let value = |cas, value| Answer::Value { cas, value: Bytes::from_static(value) };
        let answers = [
            value(17, b"he\r\no"),
            value(18, b""),
            Answer::Done { cas: 3 },
            Answer::Done { cas: 0 },
            Answer::Missing,
            Answer::Missing,
            Answer::Changed,
            Answer::Taken,
            Answer::Here,
            said(FULL),
            said("CLIENT_ERROR bad data chunk"),
            said("ERROR"),
        ];
        let numbered = |(n, answer)| Reply { answer, number: (n < 8).then_some(n as u64 + 1) };
        let expected: Vec<_> = answers.into_iter().enumerate().map(numbered).collect();
        for piece in [1, 2, 3, 7, SAID.len()] {
            let (mut buffer, mut replies) = (BytesMut::new(), Vec::new());
            for bytes in SAID.chunks(piece) {
                buffer.extend_from_slice(bytes);
                replies.extend(std::iter::from_fn(|| take(&mut buffer, 100).unwrap()));
            }
            assert_eq!((&replies[..], buffer.len()), (&expected[..], 0), "{piece}");
        }
        for (n, reply) in expected.iter().enumerate() {
            let n = n as u64 + 1;
            assert_eq!((reply.is_to(n), reply.is_to(n + 1)), (true, n > 8), "{reply:?}");
        }
        assert!(!Reply { answer: Answer::Missing, number: None }.is_to(1), "it could be anybody's");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let long = [b'x'; LONGEST_LINE];
        let lines = [
            &b"HD\n"[..],
            b"\n",
            b"VALUE a 0 1\r\n",
            b"VA x c1\r\n",
            b"VA -1\r\n",
            b"VA 101 c1\r\n",
            b"VA 99999999999999999999\r\n",
            b"VA 2 c1\r\nabcd",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"SERVER_ERROR \x1b[2J\r\n",
            b"STAT pid 1\r\n",
            &long,
        ];
        for line in lines {
            assert_eq!(take(&mut BytesMut::from(line), 100), Err(Unreadable), "{line:?}");
        }
    }

    #[test]
    fn an_illness_is_known_by_what_servers_say() {
        for (line, kind, whole) in [
            (FULL, Kind::OutOfMemory, true),
            ("SERVER_ERROR out of memory reading request", Kind::OutOfMemory, false),
            (TOO_LARGE, Kind::Refused, true),
            ("ERROR Too many open connections", Kind::Refused, false),
            ("CLIENT_ERROR unauthenticated", Kind::NoAuth, false),
            ("CLIENT_ERROR bad data chunk", Kind::Broken, false),
            ("SERVER_ERROR multiget unavailable", Kind::Broken, false),
            ("ERROR", Kind::Broken, false),
        ] {
            let said = Said::of(line.as_bytes()).unwrap();
            assert_eq!((said.kind(), said.is_whole()), (kind, whole), "{line}");
        }
    }
}
