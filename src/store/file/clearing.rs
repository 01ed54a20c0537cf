//! Clearing expired sessions: names and times first, without any lock, and only what may have ended is opened.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir};

use super::folder::Folder;
use super::shard::There;
use super::{Error, failed};
use crate::session::Key;
use crate::store::codec;
use crate::store::engine::Cleared;
use crate::time::Timestamp;

/// Files that are looked at closer under one lock; then whoever wants to write may.
const HANDFUL: usize = 64;

/// Removes up to `room` records of a shard that had ended by `now`. What can't be read stays.
pub(super) fn clear(
    folder: &Folder,
    number: u8,
    patience: Duration,
    now: Timestamp,
    room: usize,
) -> Result<Cleared, Error> {
    let mut cleared = Cleared::default();
    let more = clear_into(&mut cleared, folder, number, patience, now, room);
    cleared.until(more)
}

/// The same, counted one by one. Is there more?
fn clear_into(
    cleared: &mut Cleared,
    folder: &Folder,
    number: u8,
    patience: Duration,
    now: Timestamp,
    room: usize,
) -> Result<bool, Error> {
    // Where nobody ever wrote there is no shard, and none is made.
    let Some(shard) = folder.look(number)? else { return Ok(false) };
    let mut names = Dir::read_from(&shard).map_err(|errno| failed("a folder of the store", errno))?;
    loop {
        let handful = candidates(&mut names, &shard, now, HANDFUL.min(room - cleared.removed))?;
        if handful.is_empty() {
            return Ok(cleared.removed == room);
        }
        let locked = folder.shard(number, patience)?;
        for key in handful {
            // Somebody may have touched it since.
            let ended = |there: &There| there.head.until <= now;
            if let Some(there) = locked.find(&key).ok().flatten().filter(ended) {
                let is_session = there.value().is_ok_and(|value| codec::is_session(&value));
                locked.unlink(&key)?;
                cleared.removed += 1;
                cleared.sessions += usize::from(is_session);
            }
        }
    }
}

/// The next keys whose files say by their time that they have ended.
fn candidates(names: &mut Dir, shard: &OwnedFd, now: Timestamp, most: usize) -> Result<Vec<Key>, Error> {
    let mut found = Vec::with_capacity(most);
    while found.len() < most
        && let Some(entry) = names.read()
    {
        let entry = entry.map_err(|errno| failed("a folder of the store", errno))?;
        let Some(key) = Key::from_hex(entry.file_name().to_bytes()) else { continue };
        // One that is gone by now was removed by somebody else.
        if let Ok(stat) = rustix::fs::statat(shard, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            && stat.st_mtime <= now.as_secs()
        {
            found.push(key);
        }
    }
    Ok(found)
}
