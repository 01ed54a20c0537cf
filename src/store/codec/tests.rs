use std::collections::HashSet;

use data_encoding::{BASE64, HEXLOWER};
use proptest::prelude::*;

use super::native::tests::entries;
use super::*;
use crate::secret::Secret;
use crate::session::record::{How, Revision, Tombstone};
use crate::time::Timestamp;

const REALM: &str = "shop";
const KEY: Key = Key::from_bytes([7; 20]);
const NO_HISTORY: History = [None; 3];

/// A codec with these keys, each of 32 equal bytes.
fn codec(keys: &[u8], unsealed: Unsealed) -> Codec {
    let encryption_keys = keys.iter().map(|byte| Secret::new(BASE64.encode(&[*byte; 32]))).collect();
    Codec::of(&Config { encryption_keys, unsealed, ..Config::default() }).unwrap()
}

fn sealing(keys: &[u8]) -> Codec {
    codec(keys, Unsealed::Refuse)
}

fn sealed(codec: &Codec, entry: &Entry) -> Bytes {
    codec.encode(REALM, &KEY, entry, &NO_HISTORY).unwrap()
}

fn open(codec: &Codec, value: impl Into<Bytes>) -> Result<Entry, Unreadable> {
    codec.decode(REALM, &KEY, &value.into()).map(|(entry, _)| entry)
}

#[test]
fn every_entry_comes_back_with_every_history() {
    let codec = sealing(&[1]);
    for entry in entries() {
        for known in 0..=3 {
            let history: History = std::array::from_fn(|n| {
                (n < known).then(|| Revision::from_bits(known as u64 + 40).expect("not 0"))
            });
            let value = codec.encode(REALM, &KEY, &entry, &history).unwrap();
            assert_eq!(codec.decode(REALM, &KEY, &value), Ok((entry.clone(), history)));
            assert_eq!(is_session(&value), matches!(entry, Entry::Live(_)));
            let plain = Codec::default().encode(REALM, &KEY, &entry, &history).unwrap();
            assert_eq!(is_session(&plain), matches!(entry, Entry::Live(_)));
            assert_eq!(value.len() - plain.len(), 26, "what sealing costs");
        }
    }
}

/// Made by another implementation (OpenSSL's GCM-SIV, HKDF of HMAC-SHA256 by hand): what is sealed today can be opened
/// by every later version.
#[test]
fn the_sealed_form_is_this_one_for_ever() {
    let hex = "73316669f973000102030405060708090a0b4666a3f91557def9e7982f340f4b7bcd55064c4ef7684df0c412";
    let value = HEXLOWER.decode(hex.as_bytes()).unwrap();
    let at = Timestamp::from_millis(1_700_000_100_000);
    let expected = Entry::Ended(Tombstone { at, how: How::Flushed });
    assert_eq!(open(&sealing(&[1]), value), Ok(expected));
    assert_eq!(sealing(&[1]).keys(), ["6669f973"]);
}

#[test]
fn nothing_of_a_sealed_record_can_be_read() {
    for entry in entries() {
        let plain = native::write(0, &entry, &NO_HISTORY);
        let value = sealed(&sealing(&[1]), &entry);
        for piece in plain[1..].windows(6) {
            assert!(memchr::memmem::find(&value, piece).is_none(), "{:?}", String::from_utf8_lossy(piece));
        }
    }
}

#[test]
fn a_changed_bit_or_a_missing_byte_breaks_the_seal() {
    let codec = codec(&[1, 2], Unsealed::Read);
    for entry in entries() {
        let value = sealed(&codec, &entry);
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut bytes = value.to_vec();
                bytes[at] ^= 1 << bit;
                let expected = match at {
                    0..2 => Unreadable::Corrupt(Corrupt::Form),
                    2..6 => Unreadable::UnknownKey(sealed::key_of(&bytes).unwrap()),
                    _ => Unreadable::Broken,
                };
                assert_eq!(open(&codec, bytes), Err(expected), "byte {at} bit {bit}");
            }
            assert!(open(&codec, value.slice(..at)).is_err(), "{at} bytes");
        }
        assert_eq!(open(&codec, [&value[..], b"}"].concat()), Err(Unreadable::Broken));
    }
}

#[test]
fn a_record_that_was_moved_or_is_of_another_kind_is_never_a_session() {
    let codec = sealing(&[1]);
    for entry in entries() {
        let value = sealed(&codec, &entry);
        for (realm, key) in [(REALM, Key::from_bytes([8; 20])), ("", KEY), ("shop2", KEY), ("sho", KEY)] {
            assert_eq!(codec.decode(realm, &key, &value), Err(Unreadable::Broken), "{realm:?} {key}");
        }
        for kind in *b"LFC" {
            let mut bytes = value.to_vec();
            bytes[sealed::KIND] = kind;
            assert_eq!(open(&codec, bytes).is_ok(), kind == value[sealed::KIND]);
        }
    }
}

#[test]
fn the_first_key_seals_and_all_open() {
    let entry = &entries()[0];
    let rings: [&[u8]; 5] = [&[1], &[1, 2], &[2, 1], &[2], &[3]];
    for by in rings {
        for with in rings {
            let (by, value) = (by[0], sealed(&sealing(by), entry));
            let opened = open(&sealing(with), value.clone());
            let unknown = || Err(Unreadable::UnknownKey(sealed::key_of(&value).unwrap()));
            let expected = if with.contains(&by) { Ok(entry.clone()) } else { unknown() };
            assert_eq!(opened, expected, "sealed by {by}, opened with {with:?}");
            assert_eq!(sealing(with).is_old(&value), with[0] != by);
        }
    }
}

#[test]
fn an_unknown_key_and_a_broken_seal_are_told_apart() {
    let value = sealed(&sealing(&[1]), &entries()[0]);
    let told = |codec: &Codec, value: Bytes| {
        let error = open(codec, value).unwrap_err().under(&KEY);
        (error.kind, error.detail)
    };
    let (kind, detail) = told(&sealing(&[2]), value.clone());
    assert_eq!(kind, Kind::UnknownKey);
    let expected = "is sealed with the key 6669f973, which is not in store.encryption_keys";
    assert_eq!(detail, format!("the record {KEY} {expected}"));
    assert_eq!(told(&Codec::default(), value.clone()).0, Kind::UnknownKey, "without any key too");
    let broken = Bytes::from([&value[..value.len() - 1], &[!value[value.len() - 1]]].concat());
    assert_eq!(told(&sealing(&[1]), broken.clone()).0, Kind::Corrupt);
    assert_eq!(told(&sealing(&[2]), broken).0, Kind::UnknownKey, "who has no key can't tell");
}

#[test]
fn what_is_not_sealed_is_read_until_it_is_refused() {
    for entry in entries() {
        let plain = sealed(&Codec::default(), &entry);
        for (keys, unsealed, read) in [
            (&[][..], Unsealed::Read, true),
            (&[], Unsealed::Refuse, true), // there is nothing to seal with
            (&[1], Unsealed::Write, true),
            (&[1], Unsealed::Read, true),
            (&[1], Unsealed::Refuse, false),
        ] {
            let codec = codec(keys, unsealed);
            let expected = if read { Ok(entry.clone()) } else { Err(Unreadable::Unsealed) };
            assert_eq!(open(&codec, plain.clone()), expected, "{keys:?} {unsealed:?}");
            let written = sealed(&codec, &entry);
            let seals = !keys.is_empty() && unsealed != Unsealed::Write;
            assert_eq!((sealed::is_sealed(&written), codec.is_old(&written)), (seals, false));
            assert_eq!(codec.is_old(&plain), seals, "{keys:?} {unsealed:?}");
        }
        let refused = Unreadable::Unsealed.under(&KEY);
        assert_eq!(refused.kind, Kind::Unsealed);
    }
}

#[test]
fn keys_that_only_open_open_and_do_not_seal() {
    let (codec, entry) = (codec(&[2, 1], Unsealed::Write), &entries()[0]);
    for by in [1, 2] {
        let value = sealed(&sealing(&[by]), entry);
        assert_eq!(open(&codec, value.clone()), Ok(entry.clone()));
        assert!(codec.is_old(&value));
    }
    assert_eq!(sealed(&codec, entry), sealed(&Codec::default(), entry));
}

#[test]
fn keys_change_while_something_is_read_that_would_be_written_otherwise() {
    for (keys, unsealed, changing) in [
        (&[][..], Unsealed::Read, false),
        (&[1], Unsealed::Write, true),
        (&[1], Unsealed::Read, true),
        (&[1], Unsealed::Refuse, false),
        (&[2, 1], Unsealed::Refuse, true),
        (&[2, 1], Unsealed::Read, true),
    ] {
        assert_eq!(codec(keys, unsealed).is_changing(), changing, "{keys:?} {unsealed:?}");
    }
}

#[test]
fn no_two_seals_have_the_same_nonce_or_the_same_bytes() {
    let (codec, entry) = (sealing(&[1]), &entries()[0]);
    let (mut nonces, mut texts) = (HashSet::new(), HashSet::new());
    for _ in 0..10_000 {
        let value = sealed(&codec, entry);
        assert!(nonces.insert(value.slice(6..18)) && texts.insert(value.slice(19..)));
    }
}

#[test]
fn a_session_of_200_bytes_stays_small() {
    let Entry::Live(mut record) = entries().remove(0) else { panic!("a session") };
    record.data = Data::from_text(Bytes::from(format!("{{\"pad\":\"{}\"}}", "x".repeat(190))));
    let value = sealed(&sealing(&[1]), &Entry::Live(record));
    assert!(value.len() <= 200 + 32 + 26, "{}", value.len());
    let length = value.len();
    assert_eq!(value.try_into_mut().unwrap().capacity(), length, "and takes no more than that");
}

#[test]
fn data_that_is_no_json_is_corrupt_unless_nobody_else_can_have_written_it() {
    let codec = Codec::default();
    for (n, data) in ["{nonsense}", "{\"a\":1,}", "{\"a\":\"\\ud800\"}"].into_iter().enumerate() {
        let Entry::Live(mut record) = entries().remove(n) else { panic!("a session") };
        record.data = Data::from_text(Bytes::from_static(data.as_bytes()));
        let value = native::encode(&KEY, &Entry::Live(record), &[None; 3]);
        assert_eq!(codec.decode(REALM, &KEY, &value), Err(Corrupt::Data.into()), "{data}");
        assert!(codec.decode_own(REALM, &KEY, &value).is_ok(), "it isn't looked at");
    }
}

#[test]
fn a_codec_prints_ids_and_no_keys() {
    let text = format!("{:?}", sealing(&[1, 2]));
    assert!(text.contains("6669f973"), "{text}");
    for secret in [&BASE64.encode(&[1; 32])[..16], "1, 1, 1", "0101"] {
        assert!(!text.contains(secret), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let codec = codec(&[1], Unsealed::Read);
        let known = sealed(&codec, &entries()[0]);
        for head in 0..=sealed::KIND + 1 {
            prop_assert!(open(&codec, [&known[..head], &bytes].concat()).is_err());
        }
        let _ = is_session(&bytes);
    }
}
