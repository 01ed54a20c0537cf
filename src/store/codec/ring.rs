//! The keys that are derived from `store.encryption_keys`, and AES-256-GCM-SIV (RFC 8452) under them.
//!
//! From each configured secret HKDF (RFC 5869) derives the key and its id under labels of their own, so that a secret
//! that is used elsewhere too (`cookie.keys`) is never the same key. What is sealed with one key for several purposes is
//! told apart by what the seal covers besides: see [`bound`].
//!
//! A broken random number generator, or a machine whose snapshot was started twice, may repeat a nonce: GCM-SIV then
//! tells that two texts are equal and no more (RFC 8452 §1), where GCM would give its key away.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::secret::Material;
use crate::store::{Error, Kind};

/// Bytes of a key's id.
pub(in crate::store) const ID: usize = 4;
/// Bytes of a nonce.
pub(in crate::store) const NONCE: usize = NONCE_LEN;
/// Bytes of a tag, which stands at the end.
pub(in crate::store) const TAG: usize = 16;

/// Names a key, in what it has sealed and to people; derived from it, and no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub(in crate::store) [u8; ID]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why something stays shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Shut {
    /// No key of ours has this id.
    UnknownKey,
    /// It was changed after it was sealed, or is meant for something else.
    Broken,
}

/// The keys: the first seals, all open.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Ring(Arc<[SealKey]>);

impl Ring {
    pub(in crate::store) fn new(secrets: &[Material]) -> Self {
        Self(secrets.iter().map(SealKey::derive).collect())
    }

    /// The key that seals.
    pub(in crate::store) fn first(&self) -> Option<&SealKey> {
        self.0.first()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The ids of all keys, in their order.
    pub(super) fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|key| key.id)
    }

    /// Opens with whichever key has sealed: what comes back are the `clear` bytes before the ciphertext as they are, and
    /// the text.
    ///
    /// # Errors
    /// [`Shut`], and then no byte of the text was looked at.
    #[inline]
    pub(in crate::store) fn open(
        &self,
        id: KeyId,
        nonce: &[u8; NONCE],
        bound: &[u8],
        sealed: &[u8],
        clear: usize,
    ) -> Result<Vec<u8>, Shut> {
        let mut shut = Shut::UnknownKey;
        // Of two keys with one id each has its try.
        for with in self.0.iter().filter(|with| with.id == id) {
            shut = Shut::Broken;
            let mut bytes = sealed.to_vec();
            if with.key.open_in_place(Nonce::from(nonce), Aad::from(bound), &mut bytes[clear..]).is_ok() {
                bytes.truncate(bytes.len() - TAG);
                return Ok(bytes);
            }
        }
        Err(shut)
    }
}

/// What a seal covers besides the text: what it is for, and whatever the text must not be moved away from. Each part
/// has its length before it, so that no two lists of parts are one.
#[inline]
pub(in crate::store) fn bound<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160);
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// A key as it is used.
pub(in crate::store) struct SealKey {
    pub(in crate::store) id: KeyId,
    key: RandomizedNonceKey,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

impl SealKey {
    pub(super) fn derive(secret: &Material) -> Self {
        let secret = Salt::new(HKDF_SHA256, b"coatroom store.encryption_keys").extract(secret.expose());
        let key: [u8; 32] = expand(&secret, b"AES-256-GCM-SIV 1");
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).expect("the key has the cipher's length");
        Self { id: KeyId(expand(&secret, b"key id 1")), key }
    }

    /// Seals a text where it stands, and returns its nonce and its tag.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    #[inline]
    pub(in crate::store) fn seal(
        &self,
        bound: &[u8],
        text: &mut [u8],
    ) -> Result<([u8; NONCE], [u8; TAG]), Error> {
        let failed = || Error::new(Kind::Unreachable, "the system gives no random numbers");
        let (nonce, tag) =
            self.key.seal_in_place_separate_tag(Aad::from(bound), text).map_err(|_| failed())?;
        let tag = tag.as_ref().try_into().map_err(|_| failed())?;
        Ok((*nonce.as_ref(), tag))
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

    /// One id in 2^32: too seldom to find, often enough to happen to somebody.
    #[test]
    fn of_two_keys_with_one_id_each_opens_its_own() {
        let made = |byte: u8| {
            let secret = data_encoding::BASE64.encode(&[byte; 32]);
            SealKey { id: KeyId([0; ID]), ..SealKey::derive(&Material::parse(&secret).unwrap()) }
        };
        let ring = Ring([made(1), made(2)].into());
        for (byte, opened) in [(1, true), (2, true), (3, false)] {
            let mut bytes = b"clear text".to_vec();
            let (nonce, tag) = made(byte).seal(b"for a test", &mut bytes[6..]).unwrap();
            bytes.extend_from_slice(&tag);
            let expected = if opened { Ok(b"clear text".to_vec()) } else { Err(Shut::Broken) };
            assert_eq!(ring.open(KeyId([0; ID]), &nonce, b"for a test", &bytes, 6), expected);
        }
    }

    /// Whoever has the key of cookies, as it is, has not the key of records.
    #[test]
    fn the_secret_itself_opens_nothing() {
        let secret = [1; 32];
        let derived = SealKey::derive(&Material::parse(&data_encoding::BASE64.encode(&secret)).unwrap());
        let raw = RandomizedNonceKey::new(&AES_256_GCM_SIV, &secret).unwrap();
        let mut bytes = b"text".to_vec();
        let (nonce, tag) = derived.seal(b"", &mut bytes).unwrap();
        bytes.extend_from_slice(&tag);
        let by_secret = Ring([SealKey { id: derived.id, key: raw }].into());
        assert_eq!(by_secret.open(derived.id, &nonce, b"", &bytes, 0), Err(Shut::Broken));
    }

    #[test]
    fn no_two_lists_of_parts_are_bound_alike() {
        let lists = [bound([]), bound([b""]), bound([b"", b""]), bound([b"ab", b"c"]), bound([b"a", b"bc"])];
        for (n, one) in lists.iter().enumerate() {
            assert!(lists[n + 1..].iter().all(|other| one != other), "{one:?}");
        }
    }
}
