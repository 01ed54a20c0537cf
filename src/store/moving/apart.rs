//! Whether two stores are two. One that is named in two ways would have its sessions moved onto themselves, and each
//! would be left as one on its way that nobody can bring anywhere.
//!
//! Names don't tell: a server has many, and so has a folder. So the stores are asked.

use std::time::Duration;

use super::entry::Entry;
use super::{Moving, busy};
use crate::session::Key;
use crate::store::engine::{Engine, Stored, Worth};
use crate::store::write::new_revision;
use crate::store::{Error, Kind};

/// What a key of this begins with, before its revision: not the beginning of a hash that anybody will ever see, and in
/// the folder of files that the lease of whoever clears has made.
const NAME: &[u8; 12] = b"coatroom is ";
/// How long what is put there stays, should it not be removed: longer than the two calls take.
const MEANWHILE: Duration = Duration::from_secs(60);

impl<O: Engine, N: Engine> Moving<O, N> {
    /// Are both one store? They are asked once; from then on it is known.
    ///
    /// # Errors
    /// If one of them can't say.
    pub async fn are_one(&self) -> Result<bool, Error> {
        self.one.get_or_try_init(|| self.ask()).await.copied()
    }

    /// Sees to it that there are two, before anything goes from one to the other.
    pub(super) async fn apart(&self) -> Result<(), Error> {
        if self.are_one().await? {
            return Err(Error::new(Kind::Refused, "store.previous and store.url are the same store"));
        }
        Ok(())
    }

    /// Puts something into the new store that the old one can only have if it is the same, and removes it.
    async fn ask(&self) -> Result<bool, Error> {
        let mine = new_revision()?;
        let mut key = [0; 20];
        key[..NAME.len()].copy_from_slice(NAME);
        key[NAME.len()..].copy_from_slice(&mine.bits().to_be_bytes());
        let key = Key::from_bytes(key);
        let until = self.clock.now().plus(MEANWHILE);
        let probe = Stored { value: Entry::place(), revision: mine, until };
        if !self.new.add(&key, probe, Worth::Ended).await? {
            return Err(busy());
        }
        let seen = self.old.get(&key).await;
        // Where that fails it ends by itself.
        drop(self.new.remove(&key, mine).await);
        Ok(seen?.is_some_and(|there| there.revision == mine))
    }
}
