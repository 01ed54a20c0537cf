//! The folder of `store.url`: whether it is a store, and the same one as before.
//!
//! An empty folder becomes a store when the program first looks at it, and never later: a disk that is not mounted any
//! longer leaves an empty folder in its place, or another store, and whoever took that for one in which nobody has a
//! session would log everybody out.

use std::fmt;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;

use super::disk::{FOLDER, OWN, write};
use super::mark::{self, Mark};
use super::shard::Shard;
use super::system::{number, remote};
use super::unfit::Unfit;
use super::{Error, SHARDS, failed};
use crate::store::examine::trial;

/// A folder of sessions.
pub(super) struct Folder {
    path: PathBuf,
    /// May it become a store, if it is none yet?
    begins: bool,
    /// Which one it was when it was last looked at closely.
    known: Mutex<Option<Mark>>,
    /// Which shards the disk is known to have: whoever made one may have died before he made sure of it.
    kept: [AtomicBool; SHARDS],
}

impl Folder {
    /// A folder that is not looked at yet.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self::of(path, true)
    }

    /// One that is a store already, or nothing is made of it.
    pub(super) const fn existing(path: PathBuf) -> Self {
        Self::of(path, false)
    }

    const fn of(path: PathBuf, begins: bool) -> Self {
        Self { path, begins, known: Mutex::new(None), kept: [const { AtomicBool::new(false) }; SHARDS] }
    }

    /// Where it is.
    pub(super) fn place(&self) -> impl fmt::Display {
        self.path.display()
    }

    /// Opens the folder, which must be the one that it was; at first it may be made.
    pub(super) fn enter(&self) -> Result<OwnedFd, Error> {
        self.admit().map_err(|unfit| {
            let what = format!("{} {unfit}: {}", self.place(), unfit.remedy());
            Error::new(unfit.kind(), what)
        })
    }

    /// The same, and why not.
    pub(super) fn admit(&self) -> Result<OwnedFd, Unfit> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = match open(&self.path) {
            Err(Unfit::Closed(Errno::NOENT)) if !self.begins => return Err(Unfit::NoStore),
            Err(Unfit::Closed(Errno::NOENT)) if known.is_none() => {
                match DirBuilder::new().mode(OWN.bits()).create(&self.path) {
                    // Another sidecar was faster.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    made => made.map_err(|error| Unfit::Unmade(error.to_string()))?,
                }
                open(&self.path)?
            }
            // It was there, and nobody makes it anew.
            Err(Unfit::Closed(Errno::NOENT)) => return Err(Unfit::Emptied),
            opened => opened?,
        };
        let file = Mark::stat(&folder)?;
        if !known.zip(file).is_some_and(|(known, file)| known.is(&file)) {
            self.meet(&folder)?;
        }
        Ok(folder)
    }

    /// Looks at the folder closely, and begins a store in it if none was known.
    fn meet(&self, folder: &OwnedFd) -> Result<(), Unfit> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        inspect(folder)?;
        let mark = match (Mark::of(folder)?, *known) {
            (None, Some(_)) => return Err(Unfit::Emptied),
            (None, None) if !self.begins => return Err(Unfit::NoStore),
            (None, None) => Mark::begin(folder)?,
            (Some(mark), Some(known)) if !mark.names(&known) => return Err(Unfit::Exchanged),
            (Some(mark), _) => mark,
        };
        *known = Some(mark);
        Ok(())
    }

    /// The same without making anything that stays: is it a store, or could it become one? Returns it, if it is there.
    pub(super) fn try_out(&self) -> Result<Option<OwnedFd>, Unfit> {
        let folder = match open(&self.path) {
            Err(Unfit::Closed(Errno::NOENT)) => {
                // One beside it: somebody may be beginning to use the folder itself.
                let beside = self.path.with_file_name(trial());
                let made = DirBuilder::new().mode(OWN.bits()).create(&beside);
                made.map_err(|error| Unfit::Unmade(error.to_string()))?;
                let _ = std::fs::remove_dir(&beside);
                return Ok(None);
            }
            opened => opened?,
        };
        inspect(&folder)?;
        if Mark::of(&folder)?.is_none() {
            mark::beginnable(&folder)?;
        }
        write_something(&folder).map_err(Unfit::Sealed)?;
        Ok(Some(folder))
    }

    /// A shard for reading, if it was ever written to.
    pub(super) fn look(&self, number: u8) -> Result<Option<OwnedFd>, Error> {
        match rustix::fs::openat(self.enter()?, name(number), FOLDER, Mode::empty()) {
            Ok(shard) => Ok(Some(shard)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("a folder of the store", errno)),
        }
    }

    /// A shard for writing, locked; another process is waited for so long.
    pub(super) fn shard(&self, number: u8, patience: Duration) -> Result<Shard, Error> {
        let folder = self.enter()?;
        let shard =
            self.open_shard(&folder, number).map_err(|errno| failed("a folder of the store", errno))?;
        Shard::lock(shard, patience)
    }

    /// Opens a shard, makes it where there is none, and waits until the disk has it: what is in a folder that the disk
    /// doesn't know is lost with it.
    fn open_shard(&self, folder: &OwnedFd, number: u8) -> Result<OwnedFd, Errno> {
        let kept = &self.kept[usize::from(number)];
        let open = || rustix::fs::openat(folder, name(number), FOLDER, Mode::empty());
        let shard = match open() {
            Err(Errno::NOENT) => {
                kept.store(false, Relaxed);
                match rustix::fs::mkdirat(folder, name(number), OWN) {
                    Ok(()) | Err(Errno::EXIST) => open()?,
                    Err(errno) => return Err(errno),
                }
            }
            opened => opened?,
        };
        if !kept.load(Relaxed) {
            rustix::fs::fsync(folder)?;
            kept.store(true, Relaxed);
        }
        Ok(shard)
    }
}

fn open(path: &PathBuf) -> Result<OwnedFd, Unfit> {
    rustix::fs::openat(CWD, path, FOLDER, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP | Errno::NOTDIR => Unfit::NoFolder,
        errno => Unfit::Closed(errno),
    })
}

/// Is it ours, and ours alone?
fn inspect(folder: &OwnedFd) -> Result<(), Unfit> {
    let stat = rustix::fs::fstat(folder).map_err(Unfit::Closed)?;
    let system = rustix::fs::fstatfs(folder).map_err(Unfit::Closed)?;
    if let Some(name) = remote(number(&system)) {
        return Err(Unfit::Remote(name));
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Unfit::Foreign(stat.st_uid));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(Unfit::Open(mode)) }
}

/// Writes what a session may take at most, and removes it.
fn write_something(folder: &OwnedFd) -> Result<(), Errno> {
    let name = trial();
    let written = write(folder, &name, &[0; 64 * 1024]);
    let removed = rustix::fs::unlinkat(folder, &name, AtFlags::empty());
    written.and(removed)
}

fn name(number: u8) -> String {
    format!("{number:02x}")
}
