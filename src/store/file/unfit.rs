//! Why a folder is no store, and what to do about it.

use std::fmt;

use rustix::io::Errno;

use crate::store::Kind;

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

    /// What callers are told.
    pub(super) const fn kind(&self) -> Kind {
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
