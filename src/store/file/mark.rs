//! The mark of a store: the file `.coatroom` says that a folder is one, and the number in it which one.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::disk::{FOLDER, keep_name, write};
use super::unfit::Unfit;
use crate::store::examine::{TRIAL, trial};
use crate::store::write::random;

/// What says that a folder is a store.
const MARK: &str = ".coatroom";
/// What it says, and in which form the files are. A line with the number of the store follows: 32 digits.
const FORM: &str =
    "A store of sessions of coatroom, form 1. Remove it with the whole folder, or not at all.\n";

/// The mark of a store.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    /// The number of the store. Marks of before there were any have none.
    store: Option<u128>,
    /// What the system knew of the file. While it is the same file, unchanged, it says the same.
    file: Stat,
}

impl Mark {
    /// What the system knows of the file of the mark, if there is one.
    pub(super) fn stat(folder: &OwnedFd) -> Result<Option<Stat>, Unfit> {
        match rustix::fs::statat(folder, MARK, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Unfit::Closed(errno)),
        }
    }

    /// The mark of a folder, if it has one.
    pub(super) fn of(folder: &OwnedFd) -> Result<Option<Self>, Unfit> {
        // First the file, then what it says: one that is exchanged in between is looked at once more.
        let Some(file) = Self::stat(folder)? else { return Ok(None) };
        let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::openat(folder, MARK, read, Mode::empty()) {
            Ok(open) => {
                let text = std::io::read_to_string(File::from(open));
                // What is no text has no number of the system's.
                let unread = |error| Errno::from_io_error(&error).map_or(Unfit::Form, Unfit::Closed);
                let store = store(&text.map_err(unread)?).ok_or(Unfit::Form)?;
                Ok(Some(Self { store, file }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Unfit::Closed(errno)),
        }
    }

    /// Makes a folder a store. Of those who do at once one makes the mark, and the others find it.
    pub(super) fn begin(folder: &OwnedFd) -> Result<Self, Unfit> {
        // Locked until this is closed: for as long as it takes to write a file.
        let alone = rustix::fs::openat(folder, ".", FOLDER, Mode::empty()).map_err(Unfit::Closed)?;
        rustix::fs::flock(&alone, FlockOperation::LockExclusive).map_err(Unfit::Closed)?;
        if let Some(mark) = Self::of(folder)? {
            return Ok(mark);
        }
        beginnable(folder)?;
        let text =
            format!("{FORM}{:032x}\n", u128::from_ne_bytes(random().map_err(|_| Unfit::Sealed(Errno::IO))?));
        keep_name(folder).map_err(Unfit::Sealed)?;
        // Nobody sees half of it.
        let name = trial();
        let written = write(folder, &name, text.as_bytes());
        let placed = written.and_then(|()| rustix::fs::renameat(folder, &name, folder, MARK));
        if placed.is_err() {
            let _ = rustix::fs::unlinkat(folder, &name, AtFlags::empty());
        }
        placed.and_then(|()| rustix::fs::fsync(folder)).map_err(Unfit::Sealed)?;
        Self::of(folder)?.ok_or(Unfit::Emptied)
    }

    /// Is it the same file, unchanged?
    pub(super) fn is(&self, file: &Stat) -> bool {
        let which = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
        which(&self.file) == which(file)
    }

    /// Is it of the same store, in whatever file?
    pub(super) fn names(&self, other: &Self) -> bool {
        self.store == other.store
    }
}

/// The number of the store whose mark this is; `None` if it is none.
fn store(text: &str) -> Option<Option<u128>> {
    match text.strip_prefix(FORM) {
        // A crash may have left one that is empty, of before there were numbers.
        None => text.is_empty().then_some(None),
        Some("") => Some(None),
        Some(line) => {
            let digits = line.strip_suffix('\n').filter(|digits| digits.len() == 32)?;
            u128::from_str_radix(digits, 16).ok().map(Some)
        }
    }
}

/// May a store begin in a folder that has no mark?
pub(super) fn beginnable(folder: &OwnedFd) -> Result<(), Unfit> {
    if is_filled(folder).map_err(Unfit::Closed)? { Err(Unfit::Filled) } else { Ok(()) }
}

/// Is there anything but what a file system has at its root, and what others who begin now or try it out make?
fn is_filled(folder: impl AsFd) -> Result<bool, Errno> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let begins = name == MARK.as_bytes() || name.starts_with(TRIAL.as_bytes());
        if !begins && !matches!(name, b"." | b".." | b"lost+found") {
            return Ok(true);
        }
    }
    Ok(false)
}
