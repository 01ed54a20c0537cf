//! Sealed records: AES-256-GCM-SIV (RFC 8452) under keys that are derived from `store.encryption_keys`.
//!
//! ```text
//! s1 · key id (4 bytes) · nonce (12) · kind (1) · ciphertext of fields and data · tag (16)
//! ```
//! Kind, fields and data are those of the native form, whose checksum the tag replaces: 26 bytes more than unsealed.
//! The kind stays in sight, so that expired sessions are counted without a key.
//!
//! The seal covers, each with its length before it, what the bytes are for, the key id, the realm, the record's key and
//! the kind: a record that is moved, by whoever can write to the medium, is corrupt and never somebody else's session.
//! An older state of the same record is whole, though, and its end stands outside, where engines move it.

use bytes::Bytes;

use super::native;
use super::ring::{ID, KeyId, NONCE as NONCE_LEN, Ring, SealKey, Shut, bound};
use super::{Corrupt, Unreadable};
use crate::session::Key;
use crate::session::record::{Entry, History};
use crate::store::Error;

/// What sealed bytes begin with: the form and its version. No native record does.
const FORM: &[u8; 2] = b"s1";
/// What is sealed, and in which version: what is sealed for this is good for nothing else.
const PURPOSE: &[u8] = b"coatroom store record 1";
/// Where the nonce stands.
const NONCE: usize = FORM.len() + ID;
/// Where the kind stands, before the ciphertext.
pub(super) const KIND: usize = NONCE + NONCE_LEN;

/// Do these bytes claim to be sealed?
pub(super) fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(FORM)
}

/// The id of the key that sealed these bytes.
pub(super) fn key_of(value: &[u8]) -> Option<KeyId> {
    value.strip_prefix(FORM)?.first_chunk().copied().map(KeyId)
}

/// Seals what is to be kept under a key of a realm.
///
/// # Errors
/// If the system gives no random numbers.
pub(super) fn seal(
    with: &SealKey,
    realm: &str,
    key: &Key,
    entry: &Entry,
    history: &History,
) -> Result<Bytes, Error> {
    let mut bytes = native::write(KIND, entry, history);
    let covers = covers(with.id, realm, key, bytes[KIND]);
    let (nonce, tag) = with.seal(&covers, &mut bytes[KIND + 1..])?;
    bytes[..FORM.len()].copy_from_slice(FORM);
    bytes[FORM.len()..NONCE].copy_from_slice(&with.id.0);
    bytes[NONCE..KIND].copy_from_slice(&nonce);
    bytes.extend_from_slice(&tag);
    Ok(Bytes::from(bytes.into_boxed_slice()))
}

/// Opens with whichever key has sealed.
///
/// # Errors
/// [`Unreadable`], and then no byte of the plain text was looked at.
pub(super) fn open(
    ring: &Ring,
    realm: &str,
    key: &Key,
    value: &Bytes,
) -> Result<(Entry, History), Unreadable> {
    let id = key_of(value).ok_or(Corrupt::Form)?;
    let (nonce, sealed) = value[NONCE..].split_first_chunk::<NONCE_LEN>().ok_or(Corrupt::Form)?;
    let kind = *sealed.first().ok_or(Corrupt::Form)?;
    let opened = ring.open(id, nonce, &covers(id, realm, key, kind), sealed, 1);
    let bytes = opened.map_err(|shut| match shut {
        Shut::UnknownKey => Unreadable::UnknownKey(id),
        Shut::Broken => Unreadable::Broken,
    })?;
    Ok(native::read(&Bytes::from(bytes)).ok_or(Corrupt::Fields)?)
}

/// What a seal covers besides the text.
fn covers(id: KeyId, realm: &str, key: &Key, kind: u8) -> Vec<u8> {
    bound([PURPOSE, &id.0, realm.as_bytes(), key.as_bytes(), &[kind]])
}
