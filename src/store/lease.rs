//! Who of a fleet does what only one needs to do: whoever has the lease, a record like any other under a key that no
//! token has. It ends by itself, so nobody waits for one that has gone for longer than that.

use std::time::Duration;

use bytes::Bytes;

use super::Error;
use super::engine::{Engine, Stored, Swap, Worth};
use super::write::new_revision;
use crate::session::{Key, Revision};
use crate::time::Timestamp;

/// Where it lies: not the beginning of a hash that anybody will ever see.
pub(super) const PLACE: Key = Key::from_bytes(*b"coatroom clears here");
/// What lies there: no record, so that nothing takes it for a session.
const VALUE: &[u8] = b"lease";

/// Takes the lease for so long, or goes on having it: `had` is what was returned the last time. `None` means that
/// somebody else has it.
pub(super) async fn take(
    engine: &impl Engine,
    had: Option<Revision>,
    now: Timestamp,
    length: Duration,
) -> Result<Option<Revision>, Error> {
    let revision = new_revision()?;
    if engine.is_own() {
        return Ok(Some(revision));
    }
    let lease = Stored { value: Bytes::from_static(VALUE), revision, until: now.plus(length) };
    let taken = match engine.get(&PLACE).await? {
        None => engine.add(&PLACE, lease, Worth::Ended).await?,
        Some(there) if had == Some(there.revision) || there.until <= now => {
            engine.replace(&PLACE, there.revision, lease, Worth::Ended).await? == Swap::Done
        }
        Some(_) => false,
    };
    Ok(taken.then_some(revision))
}
