//! Folders and files of a store, and that the disk has them.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Modes of folders: their owner's alone.
pub(super) const OWN: Mode = Mode::RWXU;
/// How a folder is opened.
pub(super) const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// Waits until the disk has the name of a folder, whoever made it.
pub(super) fn keep_name(folder: &OwnedFd) -> Result<(), Errno> {
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

/// Writes a file, and waits until the disk has it.
pub(super) fn write(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(folder, name, new, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::fs::fsync(&file)?;
    rustix::fs::fsync(folder)
}
