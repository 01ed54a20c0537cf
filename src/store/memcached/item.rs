//! A record as memcached keeps it, and how it is put there.

use std::time::Duration;

use bytes::Bytes;

use super::connection::Command;
use super::place::Place;
use crate::session::Revision;
use crate::store::engine::Stored;
use crate::store::{Error, Kind, codec};
use crate::time::Timestamp;

/// Bytes of a revision at the beginning of a value.
const REVISION: usize = 8;
/// Where the codec's bytes begin: behind the revision and six bytes of the end.
pub(super) const HEAD: usize = REVISION + 6;
/// Bytes that memcached adds to the key and the value of an item, on a machine of 64 bits.
pub(super) const ITEM: usize = 59;
/// Seconds up to which memcached takes an instant for a length.
const LENGTHS: i64 = 30 * 24 * 3600;

/// The command that stores a record, where a server takes items of up to `largest` bytes; `how` is `C` and the number of
/// what it is to replace, or `ME` where the key must be free.
///
/// # Errors
/// If it is too large. It is not even sent then: memcached would remove what lies there.
pub(super) fn put(
    place: &Place<'_>,
    largest: usize,
    new: &Stored,
    how: &str,
    expired_memory: Duration,
) -> Result<Command, Error> {
    let length = HEAD + new.value.len();
    let item = ITEM + place.name.len() + length;
    if item > largest {
        let what = format!(
            "{} takes no items of more than {largest} bytes, and this record needs {item}: start it with a larger -I, \
             or lower session.max_bytes",
            place.server
        );
        return Err(Error::new(Kind::Refused, what));
    }
    let more = if codec::is_session(&new.value) { expired_memory } else { Duration::ZERO };
    let date = date(new.until.plus(more));
    let mut value = Vec::with_capacity(length);
    value.extend_from_slice(&new.revision.bits().to_be_bytes());
    value.extend_from_slice(&end(new.until));
    value.extend_from_slice(&new.value);
    Ok(Command { value: Some(value), ..place.command("ms", &format!("{length} {how} T{date} c")) })
}

/// The record in a value; `None` if it is too short for one.
pub(super) fn read(value: &Bytes) -> Option<Stored> {
    let (revision, rest) = value.split_first_chunk::<REVISION>()?;
    let end = rest.first_chunk::<{ HEAD - REVISION }>()?;
    let revision = Revision::from_bits(u64::from_be_bytes(*revision))?;
    let millis = end.iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
    Some(Stored { revision, until: Timestamp::from_millis(millis), value: value.slice(HEAD..) })
}

/// An end in six bytes, which last until the year 10889.
fn end(until: Timestamp) -> [u8; 6] {
    let [_, _, end @ ..] = u64::try_from(until.as_millis()).unwrap_or(0).to_be_bytes();
    end
}

/// When memcached is to forget something: seconds since 1970, at which it has always ended. 0 is never, -1 at once.
fn date(until: Timestamp) -> i64 {
    match until.as_secs() + 1 {
        ..=LENGTHS => -1,
        date if date > i64::from(i32::MAX) => 0,
        date => date,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_one_that_memcached_takes_for_one() {
        let month = LENGTHS * 1000;
        let last = i64::from(i32::MAX) * 1000;
        for (millis, expected) in [
            (-5000, -1),
            (0, -1),
            (month - 1, -1),
            (month, LENGTHS + 1),
            (1_700_000_000_001, 1_700_000_001),
            (last - 1, last / 1000),
            (last, 0),
            (Timestamp::MAX.as_millis(), 0),
        ] {
            assert_eq!(date(Timestamp::from_millis(millis)), expected, "{millis}");
        }
    }

    #[test]
    fn a_value_of_less_than_a_head_is_no_record() {
        let until = Timestamp::from_millis(1_700_000_000_123);
        let whole = [&7_u64.to_be_bytes()[..], &end(until), b"1:..."].concat();
        let revision = Revision::from_bits(7).unwrap();
        let stored = Stored { revision, until, value: Bytes::from_static(b"1:...") };
        assert_eq!(read(&Bytes::from(whole.clone())), Some(stored));
        assert_eq!(read(&Bytes::copy_from_slice(&whole[..HEAD - 1])), None);
        assert_eq!(read(&Bytes::from(vec![0; HEAD])), None, "no revision is 0");
    }
}
