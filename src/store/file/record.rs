//! One file: a line of what the engine has to know, and the codec's bytes.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::folder::Folder;
use super::{Stored, failed};
use crate::session::{Key, Revision};
use crate::store::{Error, Kind};
use crate::time::Timestamp;

/// The most that is read of a file. No session is larger; what is was put there by somebody else.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The most that the first line takes: 16 digits, a blank, a number, the end of the line.
const LINE: usize = 16 + 1 + 20 + 1;

/// The first line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The state of the record.
    pub(super) revision: Revision,
    /// When it ends.
    pub(super) until: Timestamp,
}

impl Head {
    /// That of what is to be stored.
    pub(super) const fn of(stored: &Stored) -> Self {
        Self { revision: stored.revision, until: stored.until }
    }

    /// The line.
    pub(super) fn line(self) -> String {
        let mut line = String::with_capacity(LINE);
        // A string takes whatever is written.
        let _ = writeln!(line, "{:016x} {}", self.revision.bits(), self.until.as_millis());
        line
    }

    /// Reads the line at the beginning, and says how long it is.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = bytes.iter().take(LINE).position(|byte| *byte == b'\n')?;
        let (revision, until) = std::str::from_utf8(&bytes[..end]).ok()?.split_once(' ')?;
        let bits = (revision.len() == 16).then(|| u64::from_str_radix(revision, 16).ok()).flatten()?;
        let head =
            Self { revision: Revision::from_bits(bits)?, until: Timestamp::from_millis(until.parse().ok()?) };
        Some((head, end + 1))
    }
}

/// What lies under a key, without any lock: what is there is whole.
pub(super) fn read(folder: &Folder, key: &Key) -> Result<Option<Stored>, Error> {
    let Some(shard) = folder.look(key.as_bytes()[0])? else { return Ok(None) };
    let Some(file) = open(&shard, key)? else { return Ok(None) };
    let (Head { revision, until }, value) = contents(file, key)?;
    Ok(Some(Stored { value, revision, until }))
}

/// Opens the file of a key, if there is one.
pub(super) fn open(shard: &OwnedFd, key: &Key) -> Result<Option<OwnedFd>, Error> {
    // Nobody is waited for who might open the other end of a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match rustix::fs::openat(shard, name(key), flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(corrupt(key, "is a symbolic link")),
        Err(errno) => Err(failed(format_args!("the file of {key}"), errno)),
    }
}

/// All that a file says.
pub(super) fn contents(file: OwnedFd, key: &Key) -> Result<(Head, Bytes), Error> {
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed(format_args!("the file of {key}"), errno))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(corrupt(key, "is no file"));
    }
    let mut bytes =
        Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).saturating_add(1).min(1 << 20));
    let read = fs::File::from(file).take(LARGEST).read_to_end(&mut bytes);
    read.map_err(|error| Error::new(Kind::Refused, format!("the file of {key} can't be read: {error}")))?;
    let Some((head, end)) = Head::read(&bytes) else {
        return Err(corrupt(key, "does not begin with a revision and an end"));
    };
    Ok((head, Bytes::from(bytes).slice(end..)))
}

/// What a file's first line says.
pub(super) fn head(file: impl AsFd, key: &Key) -> Result<Head, Error> {
    let mut line = [0; LINE];
    let read = rustix::io::pread(file, &mut line[..], 0);
    let read = read.map_err(|errno| failed(format_args!("the file of {key}"), errno))?;
    let head = Head::read(&line[..read]);
    head.map(|(head, _)| head).ok_or_else(|| corrupt(key, "does not begin with a revision and an end"))
}

/// The name of a key's file.
pub(super) fn name(key: &Key) -> String {
    key.to_string()
}

fn corrupt(key: &Key, what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("the file of {key} {what}; it is kept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_and_anything_else_is_none() {
        for until in [Timestamp::from_millis(0), Timestamp::from_millis(-1), Timestamp::MAX] {
            let head = Head { revision: Revision::from_bits(u64::MAX).unwrap(), until };
            let line = head.line();
            assert_eq!(Head::read(format!("{line}1:…\n").as_bytes()), Some((head, line.len())));
            assert!(line.len() <= LINE);
        }
        for bytes in [
            "",
            "\n",
            "0000000000000001",
            "0000000000000001 5",
            "0000000000000000 5\n",
            "1 5\n",
            "x 5\n",
            "0000000000000001 x\n",
        ] {
            assert_eq!(Head::read(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
