//! Our own form of a record: `1:`, a checksum, a line of fields, the data as JSON.
//!
//! ```text
//! 1:6b2f0c1aL18c5a3e0c80.1b7740.d.5f2c91aa.00000000000000ab.
//! {"user_id":1}
//! ```
//! The fields of a session are, divided by dots: creation (hexadecimal milliseconds), last save (milliseconds after
//! it), expiry (`d`, `b`, `i` and seconds, `t` and milliseconds), scope, up to three earlier revisions, subject. The
//! data is the very text that the backend reads, so a load parses no JSON and copies nothing.

use std::fmt::Write as _;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::session::Expiry;
use crate::session::data::Data;
use crate::session::record::{Entry, History, How, Record, Revision, Scope, Tombstone};
use crate::session::token::Key;
use crate::time::Timestamp;

/// Where the checksum ends and the kind begins: `1:` and eight digits.
const KIND: usize = 10;

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
}

/// Are these bytes a session, not the memory of an ended one? For counting; nothing else is checked.
pub fn is_session(value: &[u8]) -> bool {
    value.get(KIND) == Some(&b'L')
}

/// Writes what is to be kept under a key.
pub fn encode(entry: &Entry, history: &History) -> Bytes {
    let mut text = String::with_capacity(256);
    text.push_str("1:00000000");
    let data = match entry {
        Entry::Live(record) => {
            text.push('L');
            fields(&mut text, record, history);
            Some(record.data.text())
        }
        Entry::Ended(Tombstone { at, how: How::Flushed }) => {
            put(&mut text, format_args!("F{:x}.{}", at.as_millis(), revisions(history)));
            None
        }
        Entry::Ended(Tombstone { at, how: How::Cycled { successor, before, revision } }) => {
            let at = at.as_millis();
            put(&mut text, format_args!("C{at:x}.{}.{successor}.{revision}.", revisions(history)));
            fields(&mut text, before, &[None; 3]);
            Some(before.data.text())
        }
    };
    text.push('\n');
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(data.map_or(&[], |data| &data[..]));
    let sum = format!("{:08x}", crc32fast::hash(&bytes[KIND..]));
    bytes[2..KIND].copy_from_slice(sum.as_bytes());
    // Without the spare room of a vector: an engine in memory keeps this, and counts its length.
    Bytes::from(bytes.into_boxed_slice())
}

fn put(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args).expect("writing into memory succeeds");
}

fn revisions(history: &History) -> String {
    history.iter().flatten().map(Revision::to_string).collect()
}

fn fields(text: &mut String, record: &Record, history: &History) {
    let created = record.created_at.as_millis();
    put(text, format_args!("{created:x}.{:x}.", (record.modified_at.as_millis() - created).max(0)));
    match record.expiry {
        Expiry::Default => text.push('d'),
        Expiry::Browser => text.push('b'),
        Expiry::Idle(secs) => put(text, format_args!("i{secs:x}")),
        Expiry::At(at) => put(text, format_args!("t{:x}", at.as_millis())),
    }
    put(text, format_args!(".{:08x}.{}.", record.scope.0, revisions(history)));
    // `~` stands for "a subject", so that an empty one is not none.
    if let Some(subject) = &record.subject {
        put(text, format_args!("~{}", utf8_percent_encode(subject, NON_ALPHANUMERIC)));
    }
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`Corrupt`] for anything else: no byte of it is used.
pub fn decode(value: &Bytes) -> Result<(Entry, History), Corrupt> {
    let sum = value.strip_prefix(b"1:").and_then(|rest| rest.get(..8)).ok_or(Corrupt::Form)?;
    let sum = std::str::from_utf8(sum)
        .ok()
        .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        .ok_or(Corrupt::Form)?;
    if crc32fast::hash(&value[KIND..]) != sum {
        return Err(Corrupt::Checksum);
    }
    let end = memchr::memchr(b'\n', value).ok_or(Corrupt::Fields)?;
    let line = std::str::from_utf8(&value[KIND..end]).map_err(|_| Corrupt::Fields)?;
    let data = Data::from_text(value.slice(end + 1..));
    read(line, data).ok_or(Corrupt::Fields)
}

fn read(line: &str, data: Data) -> Option<(Entry, History)> {
    let (kind, line) = line.split_at_checked(1)?;
    let mut fields = line.split('.');
    match kind {
        "L" => {
            let (record, history) = live(&mut fields, data)?;
            Some((Entry::Live(record), history))
        }
        "F" | "C" => {
            let at = instant(fields.next()?)?;
            let history = past(fields.next()?)?;
            let how = if kind == "F" {
                How::Flushed
            } else {
                let successor = Key::from_hex(fields.next()?.as_bytes())?;
                let revision = Revision::parse(fields.next()?)?;
                How::Cycled { successor, revision, before: Box::new(live(&mut fields, data)?.0) }
            };
            Some((Entry::Ended(Tombstone { at, how }), history))
        }
        _ => None,
    }
}

fn live<'a>(fields: &mut impl Iterator<Item = &'a str>, data: Data) -> Option<(Record, History)> {
    let created_at = instant(fields.next()?)?;
    let modified_at =
        Timestamp::from_millis(created_at.as_millis().checked_add(instant(fields.next()?)?.as_millis())?);
    let (kind, number) = fields.next()?.split_at_checked(1)?;
    let expiry = match kind {
        "d" => Expiry::Default,
        "b" => Expiry::Browser,
        "i" => Expiry::Idle(u64::from_str_radix(number, 16).ok()?),
        "t" => Expiry::At(instant(number)?),
        _ => return None,
    };
    let scope = Scope(u32::from_str_radix(fields.next()?, 16).ok()?);
    let history = past(fields.next()?)?;
    let subject = match fields.next()?.strip_prefix('~') {
        Some(subject) => Some(percent_decode_str(subject).decode_utf8().ok()?.into_owned()),
        None => None,
    };
    Some((Record { data, created_at, modified_at, expiry, scope, subject }, history))
}

fn instant(hex: &str) -> Option<Timestamp> {
    i64::from_str_radix(hex, 16).ok().map(Timestamp::from_millis)
}

fn past(hex: &str) -> Option<History> {
    let mut history = [None; 3];
    for (n, slot) in history.iter_mut().enumerate().take(hex.len() / 16) {
        *slot = Some(Revision::parse(hex.get(n * 16..n * 16 + 16)?)?);
    }
    Some(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn entries() -> Vec<Entry> {
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
                let value = encode(&entry, &history);
                assert_eq!(decode(&value), Ok((entry.clone(), history)), "{value:?}");
                assert_eq!(is_session(&value), matches!(entry, Entry::Live(_)));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_never_somebody_elses_data() {
        for entry in entries() {
            let value = encode(&entry, &[None; 3]);
            for at in 0..value.len() {
                for bit in 0..8 {
                    let mut bytes = value.to_vec();
                    bytes[at] ^= 1 << bit;
                    // Upper case digits of the checksum are the same number.
                    let same = (2..KIND).contains(&at) && bytes[at].eq_ignore_ascii_case(&value[at]);
                    assert_eq!(decode(&Bytes::from(bytes)).is_ok(), same, "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_session_of_200_bytes_stays_small() {
        let revision = Revision::from_bits(u64::MAX);
        let value = encode(&Entry::Live(record(Expiry::Default, None)), &[revision; 3]);
        let overhead = value.len() - record(Expiry::Default, None).data.text().len();
        assert!(overhead <= 100, "{overhead}");
    }

    #[test]
    fn a_record_takes_no_more_room_than_it_is_long() {
        for entry in entries() {
            let value = encode(&entry, &[None; 3]);
            let length = value.len();
            assert_eq!(value.try_into_mut().unwrap().capacity(), length);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), head in "1:[0-9a-f]{8}[LFC].{0,80}\n") {
            let _ = decode(&Bytes::from(bytes));
            let mut fitted = head.into_bytes();
            let sum = format!("{:08x}", crc32fast::hash(&fitted[KIND..]));
            fitted[2..KIND].copy_from_slice(sum.as_bytes());
            let _ = decode(&Bytes::from(fitted));
        }
    }
}
