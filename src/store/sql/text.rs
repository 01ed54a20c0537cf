//! Records and instants as the columns of the table hold them.
//!
//! A native record stands in `session_data` as it is: text that begins with `1:`, for whoever reads it by SQL. What is
//! no such text, a sealed record say, is base64 behind [`ENCODED`]: a column of text takes no other bytes.

use std::borrow::Cow;

use bytes::Bytes;
use data_encoding::BASE64_NOPAD;

use crate::store::codec;
use crate::time::Timestamp;

/// What native records begin with.
const NATIVE: &[u8] = b"1:";
/// What stands before base64.
const ENCODED: &str = "b:";
/// Characters at the beginning of `session_data` that tell a session from the memory of one: the marker, and base64 of
/// 21 bytes.
pub(super) const BEGINNING: usize = 30;

/// Bytes as text.
pub(super) fn written(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        // PostgreSQL has no text with a zero in it.
        Ok(text) if value.starts_with(NATIVE) && !value.contains(&0) => Cow::Borrowed(text),
        _ => Cow::Owned(ENCODED.to_owned() + &BASE64_NOPAD.encode(value)),
    }
}

/// The bytes that were written so; `None` for the text of somebody else.
pub(super) fn read(text: Vec<u8>) -> Option<Bytes> {
    if text.starts_with(NATIVE) {
        return Some(Bytes::from(text));
    }
    let encoded = text.strip_prefix(ENCODED.as_bytes())?;
    BASE64_NOPAD.decode(encoded).ok().map(Bytes::from)
}

/// Is it a session, not the memory of an ended one, that begins so? The end may be cut off.
pub(super) fn is_session(beginning: &[u8]) -> bool {
    let Some(encoded) = beginning.strip_prefix(ENCODED.as_bytes()) else {
        return beginning.starts_with(NATIVE) && codec::is_session(beginning);
    };
    let whole = if encoded.len() + ENCODED.len() < BEGINNING { encoded.len() } else { encoded.len() / 4 * 4 };
    BASE64_NOPAD.decode(&encoded[..whole]).is_ok_and(|value| codec::is_session(&value))
}

/// An instant as Django writes it where a database has no type for it: UTC, `2026-11-23 10:00:00.123000`.
pub(super) fn date(at: Timestamp) -> String {
    let utc = at.rfc3339();
    // The digits of an instant are ASCII.
    let of = |range: std::ops::Range<usize>| String::from_utf8_lossy(&utc[range]).into_owned();
    format!("{} {}.{:03}000", of(0..10), of(11..19), at.as_millis().rem_euclid(1000))
}

/// The instant that is written so, with or without a fraction.
pub(super) fn instant(date: &str) -> Option<Timestamp> {
    let date: jiff::civil::DateTime = date.parse().ok()?;
    let at = jiff::tz::Offset::UTC.to_timestamp(date).ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_come_back(value in proptest::collection::vec(any::<u8>(), 0..200), native in any::<bool>()) {
            let value = if native { [NATIVE, &value].concat() } else { value };
            let text = written(&value).into_owned();
            prop_assert!(!text.contains('\0'));
            prop_assert_eq!(read(text.into_bytes()), Some(Bytes::from(value)));
        }

        #[test]
        fn instants_come_back(millis in 0..=Timestamp::MAX.as_millis()) {
            let at = Timestamp::from_millis(millis);
            prop_assert_eq!(instant(&date(at)), Some(at));
        }
    }

    #[test]
    fn a_date_is_as_django_writes_it() {
        assert_eq!(date(Timestamp::from_millis(1_700_000_000_123)), "2023-11-14 22:13:20.123000");
        assert_eq!(date(Timestamp::from_millis(0)), "1970-01-01 00:00:00.000000");
        assert_eq!(date(Timestamp::MAX), "9999-12-30 22:00:00.000000");
        let of_django = "2023-11-14 22:13:20";
        assert_eq!(instant(of_django), Some(Timestamp::from_millis(1_700_000_000_000)));
        assert_eq!(instant("soon"), None);
    }

    #[test]
    fn what_somebody_else_wrote_is_none_of_ours() {
        for text in ["", "eyJhIjoxfQ:1abc:sig", "b:!", "2:"] {
            assert_eq!(read(text.as_bytes().to_vec()), None, "{text}");
        }
    }

    #[test]
    fn a_beginning_tells_a_session_from_the_memory_of_one() {
        let long = |kind: &str| format!("1:AAAAAA{kind}.{}", "x".repeat(100));
        let sealed = |kind: u8| [&b"s1"[..], &[7; 16], &[kind], &[9; 100]].concat();
        for (value, session) in [
            (long("L").into_bytes(), codec::is_session(long("L").as_bytes())),
            (long("F").into_bytes(), codec::is_session(long("F").as_bytes())),
            (sealed(b'L'), codec::is_session(&sealed(b'L'))),
            (sealed(b'F'), codec::is_session(&sealed(b'F'))),
            (b"short".to_vec(), false),
        ] {
            let text = written(&value).into_owned();
            assert_eq!(is_session(&text.as_bytes()[..text.len().min(BEGINNING)]), session, "{text}");
        }
        assert!(codec::is_session(long("L").as_bytes()) != codec::is_session(long("F").as_bytes()));
    }
}
