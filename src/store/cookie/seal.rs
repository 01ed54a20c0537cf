//! A session as it travels in its cookie: sealed, with its end in sight and bound to it.
//!
//! ```text
//! c1 · key id (4 bytes) · nonce (12) · end (8: milliseconds since 1970) ·
//!     ciphertext of session id (20), revision (8), age (4: seconds), fields and data · tag (16)
//! ```
//! The age is `cookie.age` of whoever sealed it. Fields and data are those of a record (`codec/native.rs`). The seal (AES-256-GCM-SIV under the keys of
//! `store.encryption_keys`) covers, each with its length before it, what the bytes are for, the key id, the realm, the
//! name of the cookie and the end. So what was made for one cookie opens under no other name, a record of a store is no
//! cookie, and nobody lives longer than the sidecar said: `Max-Age` is advice to browsers, the end in here is the law.
//!
//! Nothing is compressed. The length of a cookie that holds a secret beside what a visitor chose would tell the secret
//! (CRIME, CVE-2012-4929).

use std::time::Duration;

use bytes::Bytes;

use crate::session::record::Entry;
use crate::session::{Key, Live, Record, Revision};
use crate::store::Error;
use crate::store::codec::native;
use crate::store::codec::ring::{ID, KeyId, NONCE, Ring, SealKey, Shut, TAG, bound};
use crate::time::Timestamp;

/// What a sealed session begins with: the form and its version.
const FORM: &[u8; 2] = b"c1";
/// What is sealed, and in which version: what is sealed for this is good for nothing else.
const PURPOSE: &[u8] = b"coatroom session cookie 1";
/// Where the end stands, behind form, key id and nonce.
const END: usize = FORM.len() + ID + NONCE;
/// Where the ciphertext begins.
const TEXT: usize = END + 8;
/// Bytes of the session id, the revision and the age, before the record.
const HEAD: usize = AGE + 4;
/// Where the age stands among them.
const AGE: usize = 20 + 8;
/// Bytes of a record's fields at their longest: kind, scope, creation, save, expiry, the dots between and the line's
/// end. A subject is none of them, for nothing here is filed under one.
const FIELDS: usize = 1 + 6 + 11 + 1 + 11 + 2 + 11 + 1;

/// Why a token holds no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No key that we have sealed it; or nobody did.
    UnknownKey,
    /// It was changed, made up, or made for another cookie.
    Forged,
    /// It is ours and whole, and a version that this one does not know wrote it.
    Unreadable,
}

/// A token that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// The session, whose key is its id.
    pub(super) live: Live,
    /// The key that sealed it.
    pub(super) by: KeyId,
}

/// How many bytes of data surely fit into a token that has so many characters.
pub const fn fits(characters: usize) -> usize {
    (characters / 4 * 3).saturating_sub(TEXT + HEAD + FIELDS + TAG)
}

/// Seals a session for the cookie of that name.
///
/// # Errors
/// If the system gives no random numbers.
pub(super) fn seal(
    with: &SealKey,
    realm: &str,
    name: &str,
    (key, revision): (&Key, Revision),
    record: Record,
    (until, age): (Timestamp, Duration),
) -> Result<Vec<u8>, Error> {
    let mut bytes = native::write(TEXT + HEAD, &Entry::Live(record), &[None; 3]);
    let end = until.as_millis().to_be_bytes();
    bytes[TEXT..TEXT + 20].copy_from_slice(key.as_bytes());
    bytes[TEXT + 20..TEXT + AGE].copy_from_slice(&revision.bits().to_be_bytes());
    let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    bytes[TEXT + AGE..TEXT + HEAD].copy_from_slice(&age.to_be_bytes());
    let (nonce, tag) = with.seal(&covers(with.id, realm, name, &end), &mut bytes[TEXT..])?;
    bytes[..FORM.len()].copy_from_slice(FORM);
    bytes[FORM.len()..FORM.len() + ID].copy_from_slice(&with.id.0);
    bytes[FORM.len() + ID..END].copy_from_slice(&nonce);
    bytes[END..TEXT].copy_from_slice(&end);
    bytes.extend_from_slice(&tag);
    Ok(bytes)
}

/// Opens what was sealed for a cookie of one of these names, with whichever key has sealed it.
///
/// # Errors
/// [`Refused`], and then no byte of it is used.
pub(super) fn open(ring: &Ring, realm: &str, names: &[String], sealed: &[u8]) -> Result<Opened, Refused> {
    let (head, text) = sealed.split_at_checked(TEXT).ok_or(Refused::Forged)?;
    let id = head.strip_prefix(FORM).and_then(<[u8]>::first_chunk).ok_or(Refused::Forged)?;
    let nonce = head[FORM.len() + ID..].first_chunk().ok_or(Refused::Forged)?;
    let (by, end) = (KeyId(*id), head[END..].first_chunk().ok_or(Refused::Forged)?);
    let mut refused = Refused::Forged;
    for name in names {
        match ring.open(by, nonce, &covers(by, realm, name, end), text, 0) {
            Ok(text) => {
                let until = Timestamp::from_millis(i64::from_be_bytes(*end));
                let live = read(&Bytes::from(text), until).ok_or(Refused::Unreadable)?;
                return Ok(Opened { live, by });
            }
            Err(Shut::UnknownKey) => return Err(Refused::UnknownKey),
            Err(Shut::Broken) => refused = Refused::Forged,
        }
    }
    Err(refused)
}

/// Reads what was sealed.
fn read(text: &Bytes, until: Timestamp) -> Option<Live> {
    let (key, rest) = text.split_first_chunk()?;
    let (revision, rest) = rest.split_first_chunk()?;
    let revision = Revision::from_bits(u64::from_be_bytes(*revision))?;
    let age = Duration::from_secs(u32::from_be_bytes(*rest.first_chunk()?).into());
    let (Entry::Live(record), history) = native::read(&text.slice(HEAD..))? else { return None };
    Some(Live { key: Key::from_bytes(*key), record, revision, until, history, age })
}

/// What the seal covers besides the text.
fn covers(by: KeyId, realm: &str, name: &str, end: &[u8; 8]) -> Vec<u8> {
    bound([PURPOSE, &by.0, realm.as_bytes(), name.as_bytes(), end])
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use proptest::prelude::*;

    use super::*;
    use crate::secret::Material;
    use crate::session::{Data, Expiry, Scope, Token};
    use crate::store::codec::Codec;
    use crate::store::{Config, Unsealed};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const KEY: Key = Key::from_bytes([7; 20]);
    const DAY: Duration = Duration::from_secs(86_400);

    fn ring(keys: &[u8]) -> Ring {
        let made = |byte: &u8| Material::parse(&BASE64.encode(&[*byte; 32])).unwrap();
        Ring::new(&keys.iter().map(made).collect::<Vec<_>>())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn record(data: &'static str) -> Record {
        Record { data: Data::from_text(data.as_bytes().into()), ..Record::new(Scope(9), NOW) }
    }

    fn until() -> Timestamp {
        NOW.plus(Duration::from_secs(60))
    }

    fn sealed(key: u8) -> Vec<u8> {
        let (ring, revision) = (ring(&[key]), Revision::from_bits(5).unwrap());
        seal(ring.first().unwrap(), "shop", "sid", (&KEY, revision), record("{\"a\":1}"), (until(), DAY))
            .unwrap()
    }

    fn refused(ring: &Ring, realm: &str, under: &[&str], sealed: &[u8]) -> Option<Refused> {
        open(ring, realm, &names(under), sealed).err()
    }

    #[test]
    fn what_was_sealed_comes_back_whole() {
        let opened = open(&ring(&[1]), "shop", &names(&["sid"]), &sealed(1)).unwrap();
        let revision = Revision::from_bits(5).unwrap();
        let live = Live {
            key: KEY,
            record: record("{\"a\":1}"),
            revision,
            until: until(),
            history: [None; 3],
            age: DAY,
        };
        assert_eq!(opened.live, live);
        assert_ne!(sealed(1), sealed(1), "a nonce of its own each time");
    }

    #[test]
    fn a_changed_bit_or_a_missing_byte_opens_nothing() {
        let (ring, whole) = (ring(&[1]), sealed(1));
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let key_id = (FORM.len()..FORM.len() + ID).contains(&at);
                let expected = if key_id { Refused::UnknownKey } else { Refused::Forged };
                assert_eq!(refused(&ring, "shop", &["sid"], &bytes), Some(expected), "byte {at} bit {bit}");
            }
            assert!(refused(&ring, "shop", &["sid"], &whole[..at]).is_some(), "{at} bytes");
        }
        assert!(refused(&ring, "shop", &["sid"], &[&whole[..], &[0]].concat()).is_some());
    }

    #[test]
    fn it_opens_under_its_own_name_and_realm_alone() {
        let (ring, whole) = (ring(&[1]), sealed(1));
        for (realm, under, expected) in [
            ("shop", &["sid"][..], None),
            ("shop", &["new", "sid"], None),
            ("shop", &["si"], Some(Refused::Forged)),
            ("shop", &["sid.1", "Sid"], Some(Refused::Forged)),
            ("", &["sid"], Some(Refused::Forged)),
            // The same letters, cut elsewhere.
            ("shops", &["id"], Some(Refused::Forged)),
        ] {
            assert_eq!(refused(&ring, realm, under, &whole), expected, "{realm} {under:?}");
        }
    }

    #[test]
    fn a_later_end_than_was_sealed_opens_nothing() {
        let mut later = sealed(1);
        later[END..TEXT].copy_from_slice(&until().plus(Duration::from_secs(60)).as_millis().to_be_bytes());
        assert_eq!(refused(&ring(&[1]), "shop", &["sid"], &later), Some(Refused::Forged));
    }

    /// The key is the same, the purpose is not: what lies in a store can't be shown as a cookie, nor the other way.
    #[test]
    fn a_record_of_a_store_is_no_cookie() {
        let (ring, revision) = (ring(&[1]), Revision::from_bits(5).unwrap());
        let first = ring.first().unwrap();
        let mut text = [&KEY.as_bytes()[..], &revision.bits().to_be_bytes(), b"L"].concat();
        let end = until().as_millis().to_be_bytes();
        let other = bound([b"coatroom store record 1", &first.id.0, b"shop", b"sid", &end]);
        let (nonce, tag) = first.seal(&other, &mut text).unwrap();
        let posed = [&FORM[..], &first.id.0, &nonce, &end, &text, &tag].concat();
        assert_eq!(refused(&ring, "shop", &["sid"], &posed), Some(Refused::Forged));

        let encryption_keys = vec![crate::secret::Secret::new(BASE64.encode(&[1; 32]))];
        let config = Config { encryption_keys, unsealed: Unsealed::Refuse, ..Config::default() };
        let codec = Codec::of(&config).unwrap();
        assert!(codec.decode("shop", &KEY, &Bytes::from(sealed(1))).is_err());
    }

    #[test]
    fn any_key_of_the_list_opens_and_others_are_told_apart() {
        for (keys, by, expected) in [
            (&[2, 1][..], 1, None),
            (&[2, 1], 2, None),
            (&[2], 1, Some(Refused::UnknownKey)),
            (&[], 1, Some(Refused::UnknownKey)),
        ] {
            assert_eq!(refused(&ring(keys), "shop", &["sid"], &sealed(by)), expected, "{by} by {keys:?}");
        }
        let opened = open(&ring(&[2, 1]), "shop", &names(&["sid"]), &sealed(1)).unwrap();
        assert_ne!(Some(opened.by), ring(&[2, 1]).first().map(|first| first.id), "it is one of before");
    }

    #[test]
    fn what_is_whole_and_makes_no_sense_is_no_session() {
        let ring = ring(&[1]);
        let first = ring.first().unwrap();
        let end = until().as_millis().to_be_bytes();
        for text in [&b""[..], &[1; HEAD], &[&[1; HEAD][..], b"X\n{}"].concat()] {
            let mut text = text.to_vec();
            let (nonce, tag) = first.seal(&covers(first.id, "", "sid", &end), &mut text).unwrap();
            let whole = [&FORM[..], &first.id.0, &nonce, &end, &text, &tag].concat();
            assert_eq!(refused(&ring, "", &["sid"], &whole), Some(Refused::Unreadable), "{text:?}");
        }
    }

    proptest! {
        /// What is said to fit does, whatever the fields are; and not much room is left over.
        #[test]
        fn what_is_said_to_fit_fits(
            characters in 200_usize..40_000,
            created in 0_i64..253_402_207_200_000,
            saved in 0_i64..253_402_207_200_000,
            expiry in prop_oneof![
                Just(Expiry::Default),
                any::<u64>().prop_map(Expiry::Idle),
                (0_i64..253_402_207_200_000).prop_map(|at| Expiry::At(Timestamp::from_millis(at))),
            ],
        ) {
            let bytes = fits(characters);
            prop_assume!(bytes >= 8);
            let data = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
            let record = Record {
                data: Data::from_text(data.into()),
                created_at: Timestamp::from_millis(created),
                modified_at: Timestamp::from_millis(saved),
                expiry,
                ..Record::new(Scope(u32::MAX), NOW)
            };
            let ring = ring(&[1]);
            let revision = Revision::from_bits(u64::MAX).unwrap();
            let sealed = seal(ring.first().unwrap(), "", "sid", (&KEY, revision), record, (until(), DAY)).unwrap();
            let text = Token::of_sealed(sealed).expose().len();
            prop_assert!(text <= characters, "{} in {}", text, characters);
            prop_assert!(text + 80 > characters, "{} in {}", text, characters);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let claims = [&FORM[..], &ring(&[1]).first().unwrap().id.0, &bytes].concat();
            prop_assert!(open(&ring(&[1]), "", &names(&["sid"]), &bytes).is_err());
            prop_assert!(open(&ring(&[1]), "", &names(&["sid"]), &claims).is_err());
        }
    }
}
