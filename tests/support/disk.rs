//! A small disk of its own, in memory, that can be filled and be made read-only.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;
use tempfile::TempDir;

use super::child::until;

/// A file system that is unmounted when it is dropped.
pub struct Disk(TempDir);

impl Disk {
    /// One of so many KiB.
    pub fn new(kib: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = format!("size={kib}k,mode=0700,uid={}", geteuid().as_raw());
        let mounted = as_root(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs"], folder.path());
        assert!(mounted, "a tmpfs can't be mounted: the tests need root, or sudo that asks nothing");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no room for anything, or for nothing that was freed since; what takes it goes when the file that is returned is removed.
    pub fn fill(&self) -> PathBuf {
        let filler = self.path().join("filler");
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&filler).expect("a file");
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        filler
    }

    /// Lets nobody write any longer, or everybody again.
    pub fn seal(&self, sealed: bool) {
        let options = if sealed { "remount,ro" } else { "remount,rw" };
        // Not while somebody has a file open for writing.
        until(|| as_root(&["mount", "-o", options], self.path()).then_some(()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        as_root(&["umount", "--lazy"], self.path());
    }
}

fn as_root(command: &[&str], path: &Path) -> bool {
    let root = if geteuid().is_root() { &[][..] } else { &["sudo", "-n"] };
    let words = [root, command].concat();
    let done = Command::new(words[0]).args(&words[1..]).arg(path).output();
    done.is_ok_and(|done| done.status.success())
}
