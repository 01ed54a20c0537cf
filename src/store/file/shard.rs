//! The folder of the keys that begin alike, while nobody else writes there.

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::folder::Folder;
use super::record::{self, Head};
use super::{Error, failed};
use crate::session::Key;
use crate::store::Kind;
use crate::time::{Stopwatch, Timestamp};

/// The lock of a shard.
const LOCK: &str = ".lock";
/// What is being written. Its name is free for whoever has the lock, be something there that a crash left.
const NEW: &str = ".new";
/// Modes of files: their owner's alone.
const OWN: Mode = Mode::RUSR.union(Mode::WUSR);
/// The first pause before a lock of another process's is tried again; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// A shard that is locked for as long as this lives, and no longer than its process.
pub(super) struct Shard {
    folder: OwnedFd,
    _lock: OwnedFd,
}

/// A record that is there.
pub(super) struct There {
    key: Key,
    file: OwnedFd,
    /// What its first line says.
    pub(super) head: Head,
}

impl There {
    /// The codec's bytes.
    pub(super) fn value(&self) -> Result<Bytes, Error> {
        let file = self.file.try_clone().map_err(|error| Error::new(Kind::Refused, error.to_string()))?;
        record::contents(file, &self.key).map(|(_, value)| value)
    }
}

impl Shard {
    /// Locks a shard; another process is waited for so long, be it frozen for ever.
    pub(super) fn lock(folder: OwnedFd, patience: Duration) -> Result<Self, Error> {
        let lock = lock(&folder, patience)?;
        Ok(Self { folder, _lock: lock })
    }

    /// Is there anything under a key?
    pub(super) fn has(&self, key: &Key) -> Result<bool, Error> {
        match rustix::fs::statat(&self.folder, record::name(key), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed(format_args!("the file of {key}"), errno)),
        }
    }

    /// What lies under a key.
    pub(super) fn find(&self, key: &Key) -> Result<Option<There>, Error> {
        let Some(file) = record::open(&self.folder, key)? else { return Ok(None) };
        let head = record::head(&file, key)?;
        Ok(Some(There { key: *key, file, head }))
    }

    /// Puts a record under a key, and returns when the disk has it.
    ///
    /// # Errors
    /// [`Kind::OutcomeUnknown`] where it is in its place, but the disk does not say that it has it, or where nobody says
    /// whether it is; anything else means that nothing was changed.
    pub(super) fn put(&self, key: &Key, head: &Head, value: &[u8]) -> Result<(), Error> {
        let written =
            self.write(head, value).map_err(|errno| failed(format_args!("the file of {key}"), errno));
        let placed = written.and_then(|()| {
            let renamed = rustix::fs::renameat(&self.folder, NEW, &self.folder, record::name(key));
            renamed.map_err(|errno| unsure(key, errno))
        });
        if placed.is_err() {
            // Half a record takes room that others need.
            let _ = rustix::fs::unlinkat(&self.folder, NEW, AtFlags::empty());
        }
        placed.and_then(|()| self.settle(key))
    }

    fn write(&self, head: &Head, value: &[u8]) -> Result<(), Errno> {
        // A file of our own: what else has that name may be a pipe, or have another name too.
        let create = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(&self.folder, NEW, flags, OWN)
        };
        let file = match create() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&self.folder, NEW, AtFlags::empty())?;
                create()?
            }
            created => created?,
        };
        let whole = [head.line().as_bytes(), value].concat();
        let mut file = fs::File::from(file);
        file.write_all(&whole).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        // A hint for clearing, which looks closer; a file system without room for such a time has another one.
        let _ = rustix::fs::futimens(&file, &times(head.until));
        rustix::fs::fsync(&file)
    }

    /// Removes what lies under a key, and returns when the disk knows.
    ///
    /// # Errors
    /// As [`Shard::put`].
    pub(super) fn remove(&self, key: &Key) -> Result<(), Error> {
        self.unlink(key)?;
        self.settle(key)
    }

    /// Removes what lies under a key, whenever the disk comes to know: it has ended anyway.
    pub(super) fn unlink(&self, key: &Key) -> Result<(), Error> {
        let unlinked = rustix::fs::unlinkat(&self.folder, record::name(key), AtFlags::empty());
        unlinked.map_err(|errno| unsure(key, errno))
    }

    /// Waits until the disk has what lies under a key, or that nothing does.
    pub(super) fn keep(&self, key: &Key, there: Option<&There>) -> Result<(), Error> {
        if let Some(there) = there {
            rustix::fs::fsync(&there.file).map_err(|errno| unkept(key, errno))?;
        }
        self.settle(key)
    }

    /// Waits until the disk knows which files there are.
    fn settle(&self, key: &Key) -> Result<(), Error> {
        rustix::fs::fsync(&self.folder).map_err(|errno| unkept(key, errno))
    }
}

fn unkept(key: &Key, errno: Errno) -> Error {
    let what = failed(format_args!("the disk does not say that it has the file of {key}"), errno);
    Error::new(Kind::OutcomeUnknown, what.detail)
}

/// A name that could not be changed, unless it was: a file system whose other half is away (FUSE), or whose journal ends
/// there, says only that something went wrong.
fn unsure(key: &Key, errno: Errno) -> Error {
    let error = failed(format_args!("the file of {key}"), errno);
    match errno {
        Errno::IO | Errno::INTR | Errno::TIMEDOUT | Errno::NOTCONN | Errno::CONNABORTED => {
            Error { kind: Kind::OutcomeUnknown, ..error }
        }
        _ => error,
    }
}

/// Nobody gets at a shard in time.
pub(super) fn busy() -> Error {
    let what = "another process has a part of the store locked for longer than three quarters of store.commit_timeout";
    Error::new(Kind::Busy, what)
}

/// The lock of a shard; another process is waited for so long.
fn lock(folder: &OwnedFd, patience: Duration) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::openat(folder, LOCK, flags, OWN);
    let lock = lock.map_err(|errno| failed("a lock of the store", errno))?;
    let (watch, mut pause) = (Stopwatch::start(), FIRST_PAUSE);
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK) if watch.elapsed() < patience => std::thread::sleep(pause),
            Err(Errno::WOULDBLOCK) => return Err(busy()),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(failed("a lock of the store", errno)),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The keys of a shard, while nobody writes there: on some file systems (btrfs) a file that is renamed may go behind the
/// end of a list that is being read. No shard is made for it.
pub(super) fn keys(folder: &Folder, number: u8, patience: Duration) -> Result<Vec<Key>, Error> {
    let Some(shard) = folder.look(number)? else { return Ok(Vec::new()) };
    let _lock = match lock(&shard, patience) {
        // Nobody writes where nobody can.
        Err(error) if error.kind == Kind::ReadOnly => None,
        lock => Some(lock?),
    };
    let failed = |errno| failed("a folder of the store", errno);
    let mut keys = Vec::new();
    for entry in Dir::read_from(&shard).map_err(failed)? {
        keys.extend(Key::from_hex(entry.map_err(failed)?.file_name().to_bytes()));
    }
    Ok(keys)
}

/// A file's times: both are its end.
fn times(until: Timestamp) -> Timestamps {
    let nanos = until.as_millis().rem_euclid(1000) * 1_000_000;
    let end = Timespec { tv_sec: until.as_secs(), tv_nsec: nanos };
    Timestamps { last_access: end, last_modification: end }
}
