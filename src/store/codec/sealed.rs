//! Sealed records: AES-256-GCM-SIV (RFC 8452) under keys that are derived from `store.encryption_keys`.
//!
//! ```text
//! s1 · key id (4 bytes) · nonce (12) · kind (1) · ciphertext of fields and data · tag (16)
//! ```
//! Kind, fields and data are those of the native form, whose checksum the tag replaces: 26 bytes more than unsealed.
//! The kind stays in sight, so that expired sessions are counted without a key. A broken random number generator, or a
//! machine whose snapshot was started twice, may repeat a nonce: GCM-SIV then tells that two records are equal and no
//! more (RFC 8452 §1), where GCM would give its key away.
//!
//! The seal covers, each with its length before it, what the bytes are for, the key id, the realm, the record's key and
//! the kind: a record that is moved, by whoever can write to the medium, is corrupt and never somebody else's session.
//! An older state of the same record is whole, though, and its end stands outside, where engines move it.
//!
//! From each configured secret HKDF (RFC 5869) derives the key and its id under labels of their own, so that a secret
//! that is used elsewhere too (`cookie.keys`) is never the same key.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use bytes::Bytes;

use super::native;
use super::{Corrupt, Unreadable};
use crate::secret::Material;
use crate::session::Key;
use crate::session::record::{Entry, History};
use crate::store::{Error, Kind};

/// What sealed bytes begin with: the form and its version. No native record does.
const FORM: &[u8; 2] = b"s1";
/// What is sealed, and in which version: what is sealed for this is good for nothing else.
const PURPOSE: &[u8] = b"coatroom store record 1";
/// Bytes of a key's id.
const ID: usize = 4;
/// Where the nonce stands.
const NONCE: usize = FORM.len() + ID;
/// Where the kind stands, before the ciphertext.
pub(super) const KIND: usize = NONCE + NONCE_LEN;
/// Bytes of the tag, at the end.
const TAG: usize = 16;

/// Names a key, in records and to people; derived from it, and no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; ID]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Do these bytes claim to be sealed?
pub(super) fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(FORM)
}

/// The id of the key that sealed these bytes.
pub(super) fn key_of(value: &[u8]) -> Option<KeyId> {
    value.strip_prefix(FORM)?.first_chunk().copied().map(KeyId)
}

/// The keys: the first seals, all open.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring(Arc<[SealKey]>);

impl Ring {
    pub(super) fn new(secrets: &[Material]) -> Self {
        Self(secrets.iter().map(SealKey::derive).collect())
    }

    /// The key that seals.
    pub(super) fn first(&self) -> Option<&SealKey> {
        self.0.first()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The ids of all keys, in their order.
    pub(super) fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|key| key.id)
    }

    /// Opens with whichever key has sealed.
    ///
    /// # Errors
    /// [`Unreadable`], and then no byte of the plain text was looked at.
    pub(super) fn open(&self, realm: &str, key: &Key, value: &Bytes) -> Result<(Entry, History), Unreadable> {
        let id = key_of(value).ok_or(Corrupt::Form)?;
        let (nonce, sealed) = value[NONCE..].split_first_chunk::<NONCE_LEN>().ok_or(Corrupt::Form)?;
        let kind = *sealed.first().ok_or(Corrupt::Form)?;
        let mut known = false;
        // Of two keys with one id each has its try.
        for with in self.0.iter().filter(|with| with.id == id) {
            known = true;
            let mut bytes = sealed.to_vec();
            let aad = Aad::from(bound(id, realm, key, kind));
            if with.key.open_in_place(Nonce::from(nonce), aad, &mut bytes[1..]).is_ok() {
                bytes.truncate(bytes.len() - TAG);
                return Ok(native::read(&Bytes::from(bytes)).ok_or(Corrupt::Fields)?);
            }
        }
        Err(if known { Unreadable::Broken } else { Unreadable::UnknownKey(id) })
    }
}

/// What a seal covers besides the text. Each part has its length before it, so that no two lists of parts are one.
fn bound(id: KeyId, realm: &str, key: &Key, kind: u8) -> Vec<u8> {
    let parts = [PURPOSE, &id.0, realm.as_bytes(), key.as_bytes(), &[kind]];
    let mut bytes = Vec::with_capacity(96 + realm.len());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// A key as it is used.
pub(super) struct SealKey {
    pub(super) id: KeyId,
    key: RandomizedNonceKey,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

impl SealKey {
    fn derive(secret: &Material) -> Self {
        let secret = Salt::new(HKDF_SHA256, b"coatroom store.encryption_keys").extract(secret.expose());
        let key: [u8; 32] = expand(&secret, b"AES-256-GCM-SIV 1");
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).expect("the key has the cipher's length");
        Self { id: KeyId(expand(&secret, b"key id 1")), key }
    }

    /// Seals what is to be kept under a key of a realm.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub(super) fn seal(
        &self,
        realm: &str,
        key: &Key,
        entry: &Entry,
        history: &History,
    ) -> Result<Bytes, Error> {
        let failed = |_| Error::new(Kind::Unreachable, "the system gives no random numbers");
        let mut bytes = native::write(KIND, entry, history);
        let aad = Aad::from(bound(self.id, realm, key, bytes[KIND]));
        let (nonce, tag) =
            self.key.seal_in_place_separate_tag(aad, &mut bytes[KIND + 1..]).map_err(failed)?;
        bytes[..FORM.len()].copy_from_slice(FORM);
        bytes[FORM.len()..NONCE].copy_from_slice(&self.id.0);
        bytes[NONCE..KIND].copy_from_slice(nonce.as_ref());
        bytes.extend_from_slice(tag.as_ref());
        Ok(Bytes::from(bytes.into_boxed_slice()))
    }
}

/// A length, as HKDF wants it.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// What HKDF makes of a secret for one purpose.
fn expand<const N: usize>(secret: &Prk, label: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let filled = secret.expand(&[label], Length(N)).and_then(|made| made.fill(&mut bytes));
    filled.expect("HKDF makes up to 255 hashes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::{How, Tombstone};
    use crate::time::Timestamp;

    /// One id in 2^32: too seldom to find, often enough to happen to somebody.
    #[test]
    fn of_two_keys_with_one_id_each_opens_its_own() {
        let made = |byte: u8| {
            let secret = data_encoding::BASE64.encode(&[byte; 32]);
            SealKey { id: KeyId([0; ID]), ..SealKey::derive(&Material::parse(&secret).unwrap()) }
        };
        let (ring, key) = (Ring([made(1), made(2)].into()), Key::from_bytes([7; 20]));
        let entry = Entry::Ended(Tombstone { at: Timestamp::from_millis(1), how: How::Flushed });
        for (byte, opened) in [(1, true), (2, true), (3, false)] {
            let value = made(byte).seal("", &key, &entry, &[None; 3]).unwrap();
            let expected = if opened { Ok((entry.clone(), [None; 3])) } else { Err(Unreadable::Broken) };
            assert_eq!(ring.open("", &key, &value), expected);
        }
    }

    /// Whoever has the key of cookies, as it is, has not the key of records.
    #[test]
    fn the_secret_itself_opens_nothing() {
        let (secret, key) = ([1; 32], Key::from_bytes([7; 20]));
        let derived = SealKey::derive(&Material::parse(&data_encoding::BASE64.encode(&secret)).unwrap());
        let raw = RandomizedNonceKey::new(&AES_256_GCM_SIV, &secret).unwrap();
        let entry = Entry::Ended(Tombstone { at: Timestamp::from_millis(1), how: How::Flushed });
        let value = derived.seal("", &key, &entry, &[None; 3]).unwrap();
        let by_secret = Ring([SealKey { id: derived.id, key: raw }].into());
        assert_eq!(by_secret.open("", &key, &value), Err(Unreadable::Broken));
    }
}
