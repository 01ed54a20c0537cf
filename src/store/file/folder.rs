//! The folder of `store.url`: whether it is a store, and the same one as before.
//!
//! A store is known by the file `.coatroom` in it, and which one it is by the number that this has. An empty folder
//! becomes one when the program first looks at it, and never later: a disk that is not mounted any longer leaves an empty
//! folder in its place, or another store, and whoever took that for one in which nobody has a session would log everybody
//! out.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, Stat, StatFs};
use rustix::io::Errno;

use super::shard::Shard;
use super::{Error, SHARDS, failed};
use crate::store::Kind;
use crate::store::examine::{TRIAL, trial};
use crate::store::write::random;

/// What says that a folder is a store.
const MARK: &str = ".coatroom";
/// What it says, and in which form the files are. A line with the number of the store follows: 32 digits.
const FORM: &str =
    "A store of sessions of coatroom, form 1. Remove it with the whole folder, or not at all.\n";
/// Modes of folders: their owner's alone.
const OWN: Mode = Mode::RWXU;
/// How a folder is opened.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// File systems that other machines write to, by the number that `statfs` gives: their caches show what has been
/// replaced, and their locks are others' affair.
const REMOTE: [(u64, &str); 18] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "CephFS"),
    (0x0bd0_0bd3, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x6b41_4653, "AFS"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
    (0xaad7_aaea, "PanFS"),
    (0x7375_7245, "Coda"),
    (0x786f_4256, "VirtualBox's shared folders"),
    (0xbacb_acbc, "VMware's shared folders"),
];

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

/// The mark of a store.
#[derive(Clone, Copy)]
struct Mark {
    /// The number of the store. Marks of before there were any have none.
    store: Option<u128>,
    /// What the system knew of the file. While it is the same file, unchanged, it says the same.
    file: Stat,
}

impl Mark {
    fn is(&self, file: &Stat) -> bool {
        let which = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
        which(&self.file) == which(file)
    }
}

/// Why a folder is no store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It can't be made.
    Unmade(String),
    /// It can't be opened: what the system says.
    Closed(Errno),
    /// It is a symbolic link, or no folder.
    NoFolder,
    /// It belongs to the user of this number.
    Foreign(u32),
    /// Others than its owner may do something there: its mode.
    Open(u32),
    /// It lies on a file system of this name, over a network.
    Remote(&'static str),
    /// There are files in it, and no mark.
    Filled,
    /// It has no mark, and had one before: is a disk not mounted?
    Emptied,
    /// It has the mark of another store than before.
    Exchanged,
    /// It is not there, or empty, and nobody may begin one.
    NoStore,
    /// It has a mark of another form.
    Form,
    /// It can't be written to: what the system says.
    Sealed(Errno),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = |errno: &Errno| std::io::Error::from(*errno);
        match self {
            Self::Unmade(what) => write!(f, "can't be made: {what}"),
            Self::Closed(errno) => write!(f, "can't be opened: {}", system(errno)),
            Self::NoFolder => f.write_str("is a symbolic link, or no folder at all"),
            Self::Foreign(user) => write!(f, "belongs to the user {user}, and not to the sidecar's"),
            Self::Open(mode) => {
                write!(f, "has mode {mode:04o}: others than its owner may look or write there")
            }
            Self::Remote(system) => write!(f, "lies on {system}, where a change is not seen at once by all"),
            Self::Filled => f.write_str("is not empty, and no store of sessions"),
            Self::Emptied => f.write_str("is no store of sessions any longer"),
            Self::Exchanged => f.write_str("is another store of sessions than before"),
            Self::NoStore => f.write_str("is no store of sessions"),
            Self::Form => f.write_str("is a store of another version's"),
            Self::Sealed(errno) => write!(f, "can't be written to: {}", system(errno)),
        }
    }
}

impl Unfit {
    /// What to do about it.
    pub(super) const fn remedy(&self) -> &'static str {
        match self {
            Self::Unmade(_) | Self::Closed(_) => "make it, owned by the sidecar's user and with mode 0700",
            Self::NoFolder => "name the folder itself",
            Self::Foreign(_) => {
                "give it to the sidecar's user (chown), or name a folder in it that is still to be made"
            }
            Self::Open(_) => "chmod 0700 it, or name a folder in it that is still to be made",
            Self::Remote(_) => {
                "name a folder on a disk of this machine, or use a store that several machines can share"
            }
            Self::Filled => "name an empty folder, or one that is still to be made",
            Self::Emptied => "mount its disk again, or restart to begin with an empty store",
            Self::Exchanged => "put the one of before back in its place, or restart to go on with this one",
            Self::NoStore => "name the folder that the sidecars have as store.url",
            Self::Form => "name another folder, or run the version that wrote it",
            Self::Sealed(_) => "make it writable, and its disk large enough",
        }
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Sealed(Errno::NOSPC | Errno::DQUOT) => Kind::OutOfMemory,
            Self::Sealed(Errno::ROFS) => Kind::ReadOnly,
            Self::Foreign(_)
            | Self::Open(_)
            | Self::Sealed(_)
            | Self::Closed(Errno::ACCESS | Errno::PERM) => Kind::NoPermission,
            Self::Remote(_) | Self::Filled | Self::Form => Kind::Refused,
            Self::Unmade(_)
            | Self::Closed(_)
            | Self::NoFolder
            | Self::Emptied
            | Self::Exchanged
            | Self::NoStore => Kind::Unreachable,
        }
    }
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
        let file = stat_mark(&folder)?;
        if !known.zip(file).is_some_and(|(known, file)| known.is(&file)) {
            self.meet(&folder)?;
        }
        Ok(folder)
    }

    /// Looks at the folder closely, and begins a store in it if none was known.
    fn meet(&self, folder: &OwnedFd) -> Result<(), Unfit> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        inspect(folder)?;
        let mark = match (mark(folder)?, *known) {
            (None, Some(_)) => return Err(Unfit::Emptied),
            (None, None) if !self.begins => return Err(Unfit::NoStore),
            (None, None) => begin(folder)?,
            (Some(mark), Some(known)) if mark.store != known.store => return Err(Unfit::Exchanged),
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
        if mark(&folder)?.is_none() {
            beginnable(&folder)?;
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

/// The number of a file system's kind. Some come with the sign of 32 bits before them.
pub(super) const fn number(system: &StatFs) -> u64 {
    system.f_type.cast_unsigned() & 0xffff_ffff
}

fn remote(number: u64) -> Option<&'static str> {
    REMOTE.iter().find(|(remote, _)| *remote == number).map(|(_, name)| *name)
}

/// The kind of file system that a path is on, where other machines write to it too.
pub(in crate::store) fn remote_system(path: &Path) -> Option<&'static str> {
    rustix::fs::statfs(path).ok().and_then(|system| remote(number(&system)))
}

/// What the system knows of the file of the mark, if there is one.
fn stat_mark(folder: &OwnedFd) -> Result<Option<Stat>, Unfit> {
    match rustix::fs::statat(folder, MARK, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Unfit::Closed(errno)),
    }
}

/// The mark of a folder, if it has one.
fn mark(folder: &OwnedFd) -> Result<Option<Mark>, Unfit> {
    // First the file, then what it says: one that is exchanged in between is looked at once more.
    let Some(file) = stat_mark(folder)? else { return Ok(None) };
    let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match rustix::fs::openat(folder, MARK, read, Mode::empty()) {
        Ok(open) => {
            let text = std::io::read_to_string(File::from(open));
            // What is no text has no number of the system's.
            let unread = |error| Errno::from_io_error(&error).map_or(Unfit::Form, Unfit::Closed);
            let store = store(&text.map_err(unread)?).ok_or(Unfit::Form)?;
            Ok(Some(Mark { store, file }))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Unfit::Closed(errno)),
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

/// Makes a folder a store. Of those who do at once one makes the mark, and the others find it.
fn begin(folder: &OwnedFd) -> Result<Mark, Unfit> {
    // Locked until this is closed: for as long as it takes to write a file.
    let alone = rustix::fs::openat(folder, ".", FOLDER, Mode::empty()).map_err(Unfit::Closed)?;
    rustix::fs::flock(&alone, FlockOperation::LockExclusive).map_err(Unfit::Closed)?;
    if let Some(mark) = mark(folder)? {
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
    mark(folder)?.ok_or(Unfit::Emptied)
}

/// Waits until the disk has the name of a folder, whoever made it.
fn keep_name(folder: &OwnedFd) -> Result<(), Errno> {
    let parent = match rustix::fs::openat(folder, "..", FOLDER, Mode::empty()) {
        // One that may not be read can be waited for by nobody of ours.
        Err(Errno::ACCESS) => return Ok(()),
        parent => parent?,
    };
    // Where a disk is mounted is another one's affair.
    if rustix::fs::fstat(&parent)?.st_dev == rustix::fs::fstat(folder)?.st_dev {
        rustix::fs::fsync(&parent)?;
    }
    Ok(())
}

/// May a store begin in a folder that has no mark?
fn beginnable(folder: &OwnedFd) -> Result<(), Unfit> {
    if is_filled(folder).map_err(Unfit::Closed)? { Err(Unfit::Filled) } else { Ok(()) }
}

/// Writes a file, and waits until the disk has it.
fn write(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(folder, name, new, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::fs::fsync(&file)?;
    rustix::fs::fsync(folder)
}

/// Writes what a session may take at most, and removes it.
fn write_something(folder: &OwnedFd) -> Result<(), Errno> {
    let name = trial();
    let written = write(folder, &name, &[0; 64 * 1024]);
    let removed = rustix::fs::unlinkat(folder, &name, AtFlags::empty());
    written.and(removed)
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

fn name(number: u8) -> String {
    format!("{number:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_known_by_their_numbers() {
        assert_eq!(remote(0x6969), Some("NFS"));
        assert_eq!(remote(0xff53_4d42), Some("CIFS"));
        assert_eq!(remote(0x1983_0326), Some("BeeGFS"));
        assert_eq!(remote(0x2003_0528), Some("OrangeFS"));
        assert_eq!(remote(0xaad7_aaea), Some("PanFS"));
        assert_eq!(remote(0x7375_7245), Some("Coda"));
        assert_eq!(remote(0x786f_4256), Some("VirtualBox's shared folders"));
        assert_eq!(remote(0xbacb_acbc), Some("VMware's shared folders"));
        assert_eq!(remote(0xef53), None, "ext4");
        assert_eq!(remote(0x0102_1994), None, "tmpfs");
    }
}
