//! A sealed token in the cookies of one name: cut up where it is longer than one may be, and put together again.
//!
//! What fits into one cookie is its value, as it is. What doesn't begins in the cookie `<name>` and goes on in
//! `<name>.1`, `<name>.2` and so on:
//!
//! ```text
//! sessionid   = 2.k3J9fQ.YzF…      two more follow · the mark · the beginning
//! sessionid.1 =   k3J9fQ.q0b…      the mark · how it goes on
//! sessionid.2 =   k3J9fQ.XyA…
//! ```
//! The mark is a checksum of the whole token. A browser may send chunks of several tokens at once: of cookies under two
//! paths, of one that was cut into more chunks before, of one that somebody else on the domain has tossed in. Each
//! beginning finds its own by the mark, and what is left over counts for nothing. A token of which a chunk is missing,
//! or is there twice and differs, is malformed; whether what was put together is ours is for its seal to say.

use data_encoding::BASE64URL_NOPAD;

use crate::session::{Shown, Token};

/// Cookies that one token may be cut into.
pub const MOST: usize = 10;
/// Bytes that browsers keep of a cookie, its name and attributes included: RFC 6265bis §5.6 counts name and value, older
/// browsers all of the line.
pub const COOKIE: usize = 4096;
/// What stands before the beginning of a token that goes on: `2.k3J9fQ.`
const HEAD: usize = 2 + MARK + 1;
/// Characters of a mark.
const MARK: usize = 6;
/// Beginnings, and chunks, of which more can't be honest. Each costs a look at all others.
const CROWD: usize = 64;

/// The characters of a token that fit into one cookie whose name and attributes take so many bytes, the suffix of the
/// name included.
pub(super) const fn room(taken: usize) -> usize {
    COOKIE.saturating_sub(taken + HEAD)
}

/// The number of a chunk whose cookie's name ends so behind the name of the first: `.1` to `.9`.
pub(super) fn number(suffix: &[u8]) -> Option<u8> {
    match suffix {
        [b'.', digit @ b'1'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

/// What the name of a chunk's cookie ends in.
pub(super) fn suffix(number: usize) -> String {
    format!(".{number}")
}

/// Does the name of a chunk's cookie end so, behind the name of the first?
pub fn is_suffix(suffix: &[u8]) -> bool {
    number(suffix).is_some()
}

/// Cuts the text of a token into the values of its cookies, of so many characters each.
pub(super) fn cut(text: &str, room: usize) -> Vec<String> {
    if text.len() <= room {
        return vec![text.to_owned()];
    }
    let mark = mark(text.as_bytes());
    let follow = text.len().div_ceil(room.max(1)) - 1;
    let chunks = text.as_bytes().chunks(room.max(1)).map(String::from_utf8_lossy).enumerate();
    chunks
        .map(|(n, chunk)| if n == 0 { format!("{follow}.{mark}.{chunk}") } else { format!("{mark}.{chunk}") })
        .collect()
}

fn mark(text: &[u8]) -> String {
    BASE64URL_NOPAD.encode(&crc32fast::hash(text).to_be_bytes())
}

/// The cookies of a request that hold tokens, or chunks of them; the name that they are of is a number.
#[derive(Default)]
pub(super) struct Chunks<'a> {
    heads: Vec<(usize, &'a [u8])>,
    others: Vec<(usize, u8, &'a [u8])>,
    crowd: bool,
}

impl<'a> Chunks<'a> {
    /// Notes a cookie: chunk 0 is the first. Equal ones count once.
    pub(super) fn add(&mut self, name: usize, number: u8, value: &'a [u8]) {
        if number == 0 {
            self.crowd |= push(&mut self.heads, (name, value));
        } else {
            self.crowd |= push(&mut self.others, (name, number, value));
        }
    }

    /// Adds the tokens to what a client showed, in the order of their beginnings.
    pub(super) fn join(&self, shown: &mut Shown, enough: usize) {
        for (name, value) in &self.heads {
            if shown.len() > enough {
                break;
            }
            match self.whole(*name, value) {
                Some(token) => shown.add(token),
                None => shown.malformed += 1,
            }
        }
        shown.crowd = self.crowd || shown.len() > enough;
    }

    /// The token that begins so.
    fn whole(&self, name: usize, value: &[u8]) -> Option<Token> {
        let Some((follow, mark, begin)) = head(value) else { return Token::parse_sealed(value) };
        let mut text = begin.to_vec();
        for number in 1..=follow {
            text.extend_from_slice(self.next(name, number, mark)?);
        }
        (self::mark(&text).as_bytes() == mark).then(|| Token::parse_sealed(&text)).flatten()
    }

    /// The only chunk of that number and mark.
    fn next(&self, name: usize, number: u8, mark: &[u8]) -> Option<&'a [u8]> {
        let mut chunks = self.others.iter().filter(|other| (other.0, other.1) == (name, number));
        let mut own = chunks.by_ref().filter_map(|(.., value)| value.strip_prefix(mark)?.strip_prefix(b"."));
        let first = own.next()?;
        own.next().is_none().then_some(first)
    }
}

/// Adds what is new; `true` if there are too many.
fn push<T: PartialEq>(list: &mut Vec<T>, new: T) -> bool {
    let full = list.len() == CROWD;
    if !list.contains(&new) && !full {
        list.push(new);
        return false;
    }
    full && !list.contains(&new)
}

/// How many chunks follow, the mark and the beginning; `None` of what stands alone.
fn head(value: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (begin, rest) = value.split_at_checked(HEAD)?;
    match begin {
        [follow @ b'1'..=b'9', b'.', mark @ .., b'.'] => Some((follow - b'0', mark, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(n: u8, bytes: usize) -> Token {
        Token::of_sealed(
            (0..=u8::MAX).cycle().map(|at| n.wrapping_mul(31).wrapping_add(at)).take(bytes).collect(),
        )
    }

    /// The cookies of a token, as a browser that was given them sends them back.
    fn cookies(token: &Token, room: usize) -> Vec<(u8, Vec<u8>)> {
        (0..).zip(cut(&token.expose(), room).into_iter().map(String::into_bytes)).collect()
    }

    fn joined(cookies: &[(u8, Vec<u8>)]) -> (Vec<Token>, u32, bool) {
        let (mut chunks, mut shown) = (Chunks::default(), Shown::default());
        cookies.iter().for_each(|(number, value)| chunks.add(0, *number, value));
        chunks.join(&mut shown, 8);
        (shown.tokens().cloned().collect(), shown.malformed, shown.crowd)
    }

    #[test]
    fn what_fits_into_one_cookie_is_its_value() {
        let text = token(1, 30).expose().into_owned();
        assert_eq!(cut(&text, 40), std::slice::from_ref(&text));
        let cut = cut(&text, 39);
        assert_eq!(cut.len(), 2);
        assert!(
            cut[0].starts_with("1.") && cut[0].len() == HEAD + 39 && cut[1].len() == MARK + 1 + 1,
            "{cut:?}"
        );
    }

    #[test]
    fn a_missing_or_changed_chunk_makes_a_token_malformed_and_no_other() {
        let (one, other) = (token(1, 90), token(2, 10));
        let whole = cookies(&one, 50);
        assert_eq!(whole.len(), 3);
        assert_eq!(joined(&whole), (vec![one], 0, false));
        for at in 0..3 {
            let mut less = whole.clone();
            less.remove(at);
            assert_eq!(joined(&less), (vec![], u32::from(at > 0), false), "without chunk {at}");
            let mut changed = whole.clone();
            let last = changed[at].1.last_mut().unwrap();
            *last = if *last == b'A' { b'B' } else { b'A' };
            assert_eq!(joined(&changed), (vec![], 1, false), "with another chunk {at}");
            let mut short = whole.clone();
            short[at].1.pop();
            assert_eq!(joined(&short), (vec![], 1, false), "with a chunk {at} cut short");
            less.extend(cookies(&other, 50));
            assert_eq!(joined(&less).0, std::slice::from_ref(&other));
        }
        let mut swapped = whole;
        (swapped[1].0, swapped[2].0) = (2, 1);
        assert_eq!(joined(&swapped), (vec![], 1, false));
    }

    #[test]
    fn what_is_left_of_other_tokens_counts_for_nothing() {
        let (long, short) = (token(1, 120), token(2, 60));
        let mut both = cookies(&short, 50);
        both.extend(cookies(&long, 50).into_iter().skip(1));
        assert_eq!(joined(&both), (vec![short.clone()], 0, false), "the beginning of the long one is gone");
        both.extend(cookies(&long, 50));
        assert_eq!(joined(&both), (vec![short, long.clone()], 0, false), "two whole tokens");
        let mut twice = cookies(&long, 50);
        twice.extend(cookies(&long, 50));
        assert_eq!(joined(&twice), (vec![long.clone()], 0, false), "equal cookies count once");
        let mut tossed = cookies(&long, 50);
        let mut other = tossed[1].clone();
        other.1.push(b'A');
        tossed.push(other);
        assert_eq!(joined(&tossed), (vec![], 1, false), "which of the two it is nobody knows");
    }

    #[test]
    fn chunks_of_another_name_are_not_taken() {
        let cookies = cookies(&token(1, 90), 50);
        let (mut chunks, mut shown) = (Chunks::default(), Shown::default());
        cookies.iter().for_each(|(number, value)| chunks.add(usize::from(*number > 0), *number, value));
        chunks.join(&mut shown, 8);
        assert_eq!((shown.len(), shown.malformed), (0, 1));
    }

    #[test]
    fn more_than_can_be_honest_are_a_crowd() {
        let many =
            |n: u8| (0..n).map(|n| (0, token(n, 20).expose().into_owned().into_bytes())).collect::<Vec<_>>();
        assert_eq!((joined(&many(8)).0.len(), joined(&many(8)).2), (8, false));
        assert_eq!((joined(&many(9)).0.len(), joined(&many(9)).2), (9, true));
        let junk: Vec<_> = (0..65_u8).map(|n| (1, vec![n])).collect();
        assert!(!joined(&junk[..64]).2 && joined(&junk).2);
    }

    #[test]
    fn names_of_chunks_end_in_a_dot_and_one_digit() {
        for n in 1..MOST {
            assert_eq!(number(format!(".{n}").as_bytes()).map(usize::from), Some(n));
        }
        for other in ["", ".", ".0", ".10", ".a", "1", "-1", ".1 "] {
            assert_eq!(number(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_cut_is_joined(bytes in proptest::collection::vec(any::<u8>(), 1..400), room in 55_usize..200, turn: u8) {
            let token = Token::of_sealed(bytes);
            let mut cookies = cookies(&token, room);
            prop_assert!(cookies.len() <= MOST);
            let count = cookies.len();
            cookies.rotate_left(usize::from(turn) % count);
            prop_assert_eq!(joined(&cookies), (vec![token], 0, false));
        }

        #[test]
        fn no_bytes_make_it_panic(values in proptest::collection::vec((0_u8..4, "[0-9A-Za-z._-]{0,12}"), 0..12)) {
            let values: Vec<_> = values.into_iter().map(|(number, value)| (number, value.into_bytes())).collect();
            prop_assert!(joined(&values).0.len() <= 12);
        }
    }
}
