//! Our own form of a record: `1:`, a checksum, a line of fields, the data as JSON.
//!
//! ```text
//! 1:YzV4lwLAAzAfZnb3pgA.A.d.gAAAAAAAACr
//! {"user_id":1}
//! ```
//! The fields of a session are, divided by dots: the scope (six digits) and the creation (milliseconds), the last
//! save (milliseconds after it), the expiry (`d`, `b`, `i` and seconds, `t` and milliseconds), up to three earlier
//! revisions (eleven digits each), and `~` with the subject; empty ones at the end are left out. Numbers are written
//! in the 64 digits of base64url, since a store keeps a record for each visitor. The data is the very text that the
//! backend reads, so a load parses no JSON and copies nothing.
//!
//! The checksum is over the record's key too: a record that comes back under another key, by whatever mistake of
//! whatever medium, is corrupt, and never somebody else's session.

use std::fmt::Write as _;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use crate::session::Expiry;
use crate::session::data::{Data, is_visible};
use crate::session::record::{Entry, History, How, Record, Revision, Scope, Tombstone};
use crate::session::token::Key;
use crate::time::Timestamp;

/// Where the checksum ends and the kind begins: `1:` and six digits.
pub(super) const KIND: usize = 8;
/// The digits of numbers, in the order of base64url.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What each byte stands for as a digit; 64 for what is none.
const VALUES: [u8; 256] = {
    let (mut values, mut digit) = ([64; 256], 0);
    while digit < 64 {
        values[DIGITS[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};
/// Digits of a checksum and of a scope: 32 bits.
const WORD: usize = 6;
/// Digits of a revision: 64 bits.
const REVISION: usize = 11;

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// They don't begin as a record does.
    #[error("it is not in a form that this version knows")]
    Form,
    /// Some byte is not what was written.
    #[error("its checksum is wrong")]
    Checksum,
    /// The checksum is right, and the fields make no sense: another version wrote them.
    #[error("its fields can't be read")]
    Fields,
    /// The checksum is right, and the data is no JSON: somebody else wrote it.
    #[error("its data is not a JSON object")]
    Data,
}

/// Is this the kind of a session?
pub(super) const fn is_session(kind: u8) -> bool {
    kind == b'L'
}

/// Is this the kind of the memory of an ended session?
pub(super) const fn is_end(kind: u8) -> bool {
    matches!(kind, b'F' | b'C')
}

/// Writes what is to be kept under a key.
pub fn encode(key: &Key, entry: &Entry, history: &History) -> Bytes {
    let mut bytes = write(KIND, entry, history);
    let mut head = "1:".to_owned();
    number(&mut head, checksum(key, &bytes[KIND..]).into(), WORD);
    bytes[..KIND].copy_from_slice(head.as_bytes());
    // Without the spare room of a vector: an engine in memory keeps this, and counts its length.
    Bytes::from(bytes.into_boxed_slice())
}

/// Writes kind, fields and data behind a head of so many bytes, which are left to be filled in.
pub(in crate::store) fn write(head: usize, entry: &Entry, history: &History) -> Vec<u8> {
    let mut text = String::with_capacity(320);
    text.extend(std::iter::repeat_n('\0', head));
    let data = match entry {
        Entry::Live(record) => {
            text.push('L');
            fields(&mut text, record, history);
            Some(record.data.text())
        }
        Entry::Ended(Tombstone { at, how: How::Flushed }) => {
            text.push('F');
            number(&mut text, bits(*at), 1);
            text.push('.');
            revisions(&mut text, history);
            None
        }
        Entry::Ended(Tombstone { at, how: How::Cycled { successor, before, revision } }) => {
            text.push('C');
            number(&mut text, bits(*at), 1);
            text.push('.');
            revisions(&mut text, history);
            write!(text, ".{successor}.").expect("writing into memory succeeds");
            number(&mut text, revision.bits(), REVISION);
            text.push('.');
            fields(&mut text, before, &[None; 3]);
            Some(before.data.text())
        }
    };
    text.push('\n');
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(data.map_or(&[], |data| &data[..]));
    bytes
}

/// The checksum of kind, fields and data under a key.
fn checksum(key: &Key, written: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key.as_bytes());
    sum.update(written);
    sum.finalize()
}

/// Writes a number in at least so many digits.
fn number(text: &mut String, bits: u64, least: usize) {
    let mut digits = [0; REVISION];
    let mut begin = REVISION;
    let mut rest = bits;
    while rest > 0 || begin > REVISION - least {
        begin -= 1;
        digits[begin] = DIGITS[(rest & 63) as usize];
        rest >>= 6;
    }
    text.push_str(std::str::from_utf8(&digits[begin..]).expect("the digits are ASCII"));
}

/// The bits of an instant; before 1970 there was no session.
fn bits(instant: Timestamp) -> u64 {
    u64::try_from(instant.as_millis()).unwrap_or(0)
}

fn revisions(text: &mut String, history: &History) {
    history.iter().flatten().for_each(|revision| number(text, revision.bits(), REVISION));
}

fn fields(text: &mut String, record: &Record, history: &History) {
    number(text, record.scope.0.into(), WORD);
    number(text, bits(record.created_at), 1);
    text.push('.');
    number(text, bits(record.modified_at).saturating_sub(bits(record.created_at)), 1);
    match record.expiry {
        Expiry::Default => text.push_str(".d"),
        Expiry::Browser => text.push_str(".b"),
        Expiry::Idle(secs) => {
            text.push_str(".i");
            number(text, secs, 1);
        }
        Expiry::At(at) => {
            text.push_str(".t");
            number(text, bits(at), 1);
        }
    }
    let known = history.iter().any(Option::is_some);
    if known || record.subject.is_some() {
        text.push('.');
        revisions(text, history);
    }
    // `~` stands for "a subject", so that an empty one is not none.
    if let Some(subject) = &record.subject {
        write!(text, ".~{}", utf8_percent_encode(subject, NON_ALPHANUMERIC))
            .expect("writing into memory succeeds");
    }
}

/// Reads what [`encode`] wrote under the same key.
///
/// # Errors
/// [`Corrupt`] for anything else: no byte of it is used.
pub fn decode(key: &Key, value: &Bytes) -> Result<(Entry, History), Corrupt> {
    let sum = value.strip_prefix(b"1:").and_then(|rest| rest.get(..WORD)).ok_or(Corrupt::Form)?;
    let sum = word(sum).ok_or(Corrupt::Form)?;
    if checksum(key, &value[KIND..]) != sum {
        return Err(Corrupt::Checksum);
    }
    read(&value.slice(KIND..)).filter(|(entry, _)| entry.data().is_none_or(is_text)).ok_or(Corrupt::Fields)
}

/// Can this be an object as [`Data::text`] writes it, for any backend to get? A right checksum tells who has not changed
/// the data, not who wrote it; what is sealed is ours. Whether it is JSON is asked by whoever can't know.
fn is_text(data: &Data) -> bool {
    let text = &data.text()[..];
    text.starts_with(b"{") && text.ends_with(b"}") && is_visible(text)
}

/// Reads the kind, fields and data that [`write()`] wrote; `None` if the fields make no sense.
pub(in crate::store) fn read(written: &Bytes) -> Option<(Entry, History)> {
    let end = memchr::memchr(b'\n', written)?;
    let data = Data::from_text(written.slice(end + 1..));
    let (kind, line) = written[..end].split_first()?;
    let mut fields = line.split(|byte| *byte == b'.');
    match kind {
        b'L' => {
            let (record, history) = live(&mut fields, data)?;
            Some((Entry::Live(record), history))
        }
        b'F' | b'C' => {
            let at = instant(fields.next()?)?;
            let history = past(fields.next()?)?;
            let how = if *kind == b'F' {
                How::Flushed
            } else {
                let successor = Key::from_hex(fields.next()?)?;
                let revision = Revision::from_bits(value(fields.next()?)?)?;
                How::Cycled { successor, revision, before: Box::new(live(&mut fields, data)?.0) }
            };
            Some((Entry::Ended(Tombstone { at, how }), history))
        }
        _ => None,
    }
}

fn live<'a>(fields: &mut impl Iterator<Item = &'a [u8]>, data: Data) -> Option<(Record, History)> {
    let (scope, created) = fields.next()?.split_at_checked(WORD)?;
    let (scope, created_at) = (Scope(word(scope)?), instant(created)?);
    let modified_at =
        Timestamp::from_millis(created_at.as_millis().checked_add(instant(fields.next()?)?.as_millis())?);
    let (kind, digits) = fields.next()?.split_first()?;
    let expiry = match kind {
        b'd' => Expiry::Default,
        b'b' => Expiry::Browser,
        b'i' => Expiry::Idle(value(digits)?),
        b't' => Expiry::At(instant(digits)?),
        _ => return None,
    };
    let history = past(fields.next().unwrap_or_default())?;
    let subject = match fields.next() {
        Some(subject) => Some(percent_decode(subject.strip_prefix(b"~")?).decode_utf8().ok()?.into_owned()),
        None => None,
    };
    Some((Record { data, created_at, modified_at, expiry, scope, subject }, history))
}

/// Reads a number.
fn value(digits: &[u8]) -> Option<u64> {
    let more = |number: u64, byte: &u8| {
        let digit = VALUES[usize::from(*byte)];
        (number >> 58 == 0 && digit < 64).then_some(number << 6 | u64::from(digit))
    };
    (!digits.is_empty()).then(|| digits.iter().try_fold(0, more)).flatten()
}

fn word(digits: &[u8]) -> Option<u32> {
    value(digits).and_then(|number| u32::try_from(number).ok())
}

fn instant(digits: &[u8]) -> Option<Timestamp> {
    value(digits).and_then(|millis| i64::try_from(millis).ok()).map(Timestamp::from_millis)
}

fn past(digits: &[u8]) -> Option<History> {
    let mut history = [None; 3];
    for (n, slot) in history.iter_mut().enumerate().take(digits.len() / REVISION) {
        *slot = Some(Revision::from_bits(value(digits.get(n * REVISION..(n + 1) * REVISION)?)?)?);
    }
    Some(history)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = Key::from_bytes([7; 20]);

    fn record(expiry: Expiry, subject: Option<String>) -> Record {
        Record {
            data: Data::from_text(Bytes::from_static(b"{\"a\":\"\\u00e9.\\n\"}")),
            created_at: Timestamp::from_millis(1_700_000_000_000),
            modified_at: Timestamp::from_millis(1_700_000_060_000),
            expiry,
            scope: Scope(0xabcd),
            subject,
        }
    }

    /// One of each kind.
    pub(in super::super) fn entries() -> Vec<Entry> {
        let at = Timestamp::from_millis(1_700_000_100_000);
        let before = Box::new(record(Expiry::Idle(300), None));
        let successor = Key::from_bytes([7; 20]);
        let revision = Revision::from_bits(u64::MAX).unwrap();
        vec![
            Entry::Live(record(Expiry::Default, None)),
            Entry::Live(record(Expiry::Browser, Some(String::new()))),
            Entry::Live(record(Expiry::Idle(300), Some("a.b\n~é".to_owned()))),
            Entry::Live(record(Expiry::At(at), Some("u1".to_owned()))),
            Entry::Ended(Tombstone { at, how: How::Flushed }),
            Entry::Ended(Tombstone { at, how: How::Cycled { successor, before, revision } }),
        ]
    }

    #[test]
    fn every_entry_comes_back_with_every_history() {
        for entry in entries() {
            for known in 0..=3 {
                let mut history = [None; 3];
                history
                    .iter_mut()
                    .take(known)
                    .for_each(|slot| *slot = Revision::from_bits(known as u64 + 40));
                let value = encode(&KEY, &entry, &history);
                assert_eq!(decode(&KEY, &value), Ok((entry.clone(), history)), "{value:?}");
                assert_eq!(is_session(value[KIND]), matches!(entry, Entry::Live(_)));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_never_somebody_elses_data() {
        for entry in entries() {
            let value = encode(&KEY, &entry, &[None; 3]);
            for at in 0..value.len() {
                for bit in 0..8 {
                    let mut bytes = value.to_vec();
                    bytes[at] ^= 1 << bit;
                    assert!(decode(&KEY, &Bytes::from(bytes)).is_err(), "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_record_under_another_key_is_never_a_session() {
        for entry in entries() {
            let value = encode(&KEY, &entry, &[None; 3]);
            assert_eq!(decode(&Key::from_bytes([8; 20]), &value), Err(Corrupt::Checksum));
        }
    }

    #[test]
    fn data_that_no_header_can_carry_is_corrupt_however_right_its_checksum_is() {
        for data in ["", "{", "[]", "{\"a\":\"\r\n\"}", "{\"a\":\"\u{7f}\"}", "{\"a\":\"\u{e9}\"}", "{}\n"] {
            let data = Data::from_text(Bytes::from_static(data.as_bytes()));
            let record = Record { data, ..record(Expiry::Default, None) };
            let how = How::Cycled {
                successor: KEY,
                revision: Revision::from_bits(1).unwrap(),
                before: Box::new(record.clone()),
            };
            let at = Timestamp::from_millis(1_700_000_000_000);
            for entry in [Entry::Live(record), Entry::Ended(Tombstone { at, how })] {
                let value = encode(&KEY, &entry, &[None; 3]);
                assert_eq!(decode(&KEY, &value), Err(Corrupt::Fields), "{value:?}");
            }
        }
    }

    #[test]
    fn numbers_come_back_and_what_is_none_is_refused() {
        for bits in [0, 1, 63, 64, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            for least in [1, WORD, REVISION] {
                let mut text = String::new();
                number(&mut text, bits, least);
                assert!(text.len() >= least);
                assert_eq!(value(text.as_bytes()), Some(bits), "{text}");
            }
        }
        for none in ["", "=", "A.A", "é", "AAAAAAAAAAAA/", "Q__________"] {
            assert_eq!(value(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn a_session_of_200_bytes_stays_small() {
        let revision = Revision::from_bits(u64::MAX);
        for (history, limit) in [([None; 3], 32), ([revision; 3], 64)] {
            let value = encode(&KEY, &Entry::Live(record(Expiry::Default, None)), &history);
            let overhead = value.len() - record(Expiry::Default, None).data.text().len();
            assert!(overhead <= limit, "{overhead}");
        }
    }

    #[test]
    fn a_record_takes_no_more_room_than_it_is_long() {
        for entry in entries() {
            let value = encode(&KEY, &entry, &[None; 3]);
            let length = value.len();
            assert_eq!(value.try_into_mut().unwrap().capacity(), length);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), head in "1:[A-Z]{6}[LFC].{0,80}\n") {
            let _ = decode(&KEY, &Bytes::from(bytes));
            let mut fitted = head.into_bytes();
            let mut sum = String::new();
            number(&mut sum, checksum(&KEY, &fitted[KIND..]).into(), WORD);
            fitted[2..KIND].copy_from_slice(sum.as_bytes());
            let _ = decode(&KEY, &Bytes::from(fitted));
        }
    }
}
