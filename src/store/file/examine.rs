//! A folder tried out, before anybody's session depends on it.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::folder::Folder;
use super::path;
use super::system::number;
use crate::store::{Config, Finding};

/// The setting that says which folder it is.
const URL: &str = "store.url";
/// What a disk may take to answer: one that has gone keeps whoever asks.
const PATIENCE: Duration = Duration::from_secs(5);
/// Less than so many bytes of room is worth a warning.
const SMALL: u64 = 64 * 1024 * 1024;
/// Fewer free files than this, likewise.
const FEW: u64 = 10_000;

/// File systems that forget, by the number that `statfs` gives.
const FORGETFUL: [(u64, &str); 3] = [
    (0x0102_1994, "tmpfs, in memory: sessions are lost when the machine restarts"),
    (0x8584_58f6, "ramfs, in memory: sessions are lost when the machine restarts"),
    (0x794c_7630, "overlayfs, most likely the container's own layer: sessions are lost with the container"),
];

/// Looks at the folder, writes there, and leaves nothing.
pub(in crate::store) async fn examine(config: &Config) -> Vec<Finding> {
    let path = match path(config) {
        Ok(path) => path,
        Err(what) => return vec![Finding::problem(URL, what, "see its comment in config/coatroom.toml")],
    };
    let place = path.display().to_string();
    let looked = timeout(PATIENCE, spawn_blocking(move || look(&Folder::new(path)))).await;
    looked.ok().and_then(Result::ok).unwrap_or_else(|| {
        let what = format!("{place} did not answer within five seconds");
        vec![Finding::problem(URL, what, "see what keeps its disk")]
    })
}

fn look(folder: &Folder) -> Vec<Finding> {
    let place = folder.place();
    let open = match folder.try_out() {
        Ok(Some(open)) => open,
        Ok(None) => return Vec::new(),
        Err(unfit) => return vec![Finding::problem(URL, format!("{place} {unfit}"), unfit.remedy())],
    };
    let Ok(system) = rustix::fs::fstatfs(&open) else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some((_, what)) = FORGETFUL.iter().find(|(forgetful, _)| *forgetful == number(&system)) {
        let remedy = "name a folder on a disk (a volume)";
        findings.push(Finding::warning(URL, format!("{place} lies on {what}"), remedy));
    }
    let room = system.f_bavail.saturating_mul(system.f_bsize.unsigned_abs());
    if room < SMALL {
        let what = format!("{place} has room for {room} bytes more: then no session can be saved");
        findings.push(Finding::warning(URL, what, "make room, or name a folder on a larger disk"));
    }
    if system.f_files > 0 && system.f_ffree < FEW {
        let what = format!("{place} has room for {} files more, and each session is one", system.f_ffree);
        findings.push(Finding::warning(URL, what, "remove files, or name a folder on a larger disk"));
    }
    findings
}
