//! Records as bytes: [`native`] text, sealed where there are `store.encryption_keys`.
//!
//! Sealed bytes are bytes, not text: Redis keeps them as they are, and base64 would add a third to every record of
//! every visitor. An engine whose medium takes text alone has to encode what does not begin with `1:`, which is text.

pub mod native;
pub(super) mod ring;
mod sealed;

use bytes::Bytes;

use self::native::Corrupt;
use self::ring::{KeyId, Ring, SealKey};
use super::{Config, Error, Kind, Unsealed};
use crate::secret::Material;
use crate::session::Key;
use crate::session::data::Data;
use crate::session::record::{Entry, History};

/// Writes records, and reads what was written. A clone shares the keys; new keys are a new codec.
#[derive(Clone, Debug, Default)]
pub struct Codec {
    ring: Ring,
    unsealed: Unsealed,
}

/// Why bytes can't be read as a record. They are kept, and their session is never taken for absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They are no record.
    #[error("is corrupt: {0}")]
    Corrupt(#[from] Corrupt),
    /// They are sealed, by a key that we have, and the seal is broken.
    #[error("is corrupt: it was changed after it was sealed, or is not of this key and realm")]
    Broken,
    /// They are sealed by a key that we don't have.
    #[error("is sealed with the key {0}, which is not in store.encryption_keys")]
    UnknownKey(KeyId),
    /// They are not sealed, and have to be.
    #[error("is not sealed, and store.unsealed is \"refuse\"")]
    Unsealed,
}

impl Unreadable {
    /// The error of a store that found this under a key.
    pub fn under(self, key: &Key) -> Error {
        let kind = match self {
            Self::Corrupt(_) | Self::Broken => Kind::Corrupt,
            Self::UnknownKey(_) => Kind::UnknownKey,
            Self::Unsealed => Kind::Unsealed,
        };
        Error::new(kind, format!("the record {key} {self}"))
    }
}

/// Are these bytes a session, not the memory of an ended one? For counting, without a key; nothing else is checked.
pub fn is_session(value: &[u8]) -> bool {
    kind(value).is_some_and(native::is_session)
}

/// Are they the memory of an ended one? Likewise.
pub fn is_end(value: &[u8]) -> bool {
    kind(value).is_some_and(native::is_end)
}

fn kind(value: &[u8]) -> Option<u8> {
    value.get(if sealed::is_sealed(value) { sealed::KIND } else { native::KIND }).copied()
}

impl Codec {
    /// The codec of the settings: the first of `store.encryption_keys` seals, all open; without one nothing is sealed,
    /// nor while `store.unsealed` is `write`. Reads their file, if they are in one.
    ///
    /// # Errors
    /// Says which key is none, or names the file that can't be read.
    pub fn of(config: &Config) -> Result<Self, String> {
        let keys = Material::all(&config.encryption_keys, &config.encryption_keys_file)?;
        Ok(Self { ring: Ring::new(&keys), unsealed: config.unsealed })
    }

    /// Writes what is to be kept under a key of a realm.
    ///
    /// # Errors
    /// If it is to be sealed and the system gives no random numbers.
    pub fn encode(&self, realm: &str, key: &Key, entry: &Entry, history: &History) -> Result<Bytes, Error> {
        match self.sealer() {
            None => Ok(native::encode(key, entry, history)),
            Some(first) => sealed::seal(first, realm, key, entry, history),
        }
    }

    /// Reads what was written under the same key of the same realm, sealed or not: setting or changing the keys logs
    /// nobody out. Anybody can make a checksum, so the data of what is not sealed is looked at, be it JSON.
    ///
    /// # Errors
    /// [`Unreadable`] for anything else: no byte of it is used.
    pub fn decode(&self, realm: &str, key: &Key, value: &Bytes) -> Result<(Entry, History), Unreadable> {
        let read = self.decode_own(realm, key, value)?;
        if !sealed::is_sealed(value) && !read.0.data().is_none_or(Data::is_object) {
            return Err(Corrupt::Data.into());
        }
        Ok(read)
    }

    /// The same from a medium that nobody but this process can write to, whose data is JSON as it always was.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    pub fn decode_own(&self, realm: &str, key: &Key, value: &Bytes) -> Result<(Entry, History), Unreadable> {
        if sealed::is_sealed(value) {
            return sealed::open(&self.ring, realm, key, value);
        }
        let read = native::decode(key, value)?;
        let refused = self.unsealed == Unsealed::Refuse && self.ring.first().is_some();
        if refused { Err(Unreadable::Unsealed) } else { Ok(read) }
    }

    /// The keys, for what is sealed and is no record.
    pub(super) const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The key that seals what is written.
    fn sealer(&self) -> Option<&SealKey> {
        self.ring.first().filter(|_| self.unsealed != Unsealed::Write)
    }

    /// Would this be written otherwise today: sealed by the first key, where another one sealed it or none?
    pub fn is_old(&self, value: &[u8]) -> bool {
        match self.sealer() {
            Some(first) => sealed::key_of(value) != Some(first.id),
            None => sealed::is_sealed(value),
        }
    }

    /// Can it read what it would not write? Then whatever prolongs a record's life writes it anew, or a key could never
    /// be given up.
    pub fn is_changing(&self) -> bool {
        self.ring.len() > 1 || (self.ring.len() == 1 && self.unsealed != Unsealed::Refuse)
    }

    /// The ids of the keys, the first one first. They are no secrets: every sealed record names its key's.
    pub fn keys(&self) -> Vec<String> {
        self.ring.ids().map(|id| id.to_string()).collect()
    }
}

#[cfg(test)]
mod tests;
