//! `check-config --connect` on folders: each thing that can be wrong has its own line, its setting, its remedy.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::connect::said;
use crate::support::child::until;
use crate::support::{Backend, Child, Disk};

/// Where a container's own layer is the disk, that is a warning of its own.
fn told(folder: &Path) -> (bool, Vec<String>) {
    let (good, mut lines) = said(&format!("file://{}", folder.display()), &[]);
    lines.retain(|line| !line.contains("overlayfs"));
    (good, lines)
}

/// The one line about a folder that won't do.
fn problem(folder: &Path) -> String {
    let (good, mut lines) = told(folder);
    assert!(!good && lines.len() == 1, "{lines:?}");
    lines.remove(0)
}

fn folder() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("sessions");
    DirBuilder::new().mode(0o700).create(&folder).expect("made");
    (parent, folder)
}

/// What is in a folder, once nobody tries it out any longer: the sidecar does so itself when it starts.
fn kept(folder: &Path) -> BTreeSet<OsString> {
    until(|| {
        let entries = fs::read_dir(folder).expect("there");
        let names: BTreeSet<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        let tried = names.iter().any(|name| name.to_string_lossy().starts_with(".coatroom-trial-"));
        (!tried).then_some(names)
    })
}

#[test]
fn a_sound_folder_is_ok_and_nothing_is_left_there() {
    let (_parent, folder) = folder();
    assert_eq!(told(&folder), (true, vec![]));
    assert_eq!(fs::read_dir(&folder).expect("there").count(), 0);
    fs::remove_dir(&folder).expect("it is empty");
    assert_eq!(told(&folder), (true, vec![]), "one that is still to be made");
    assert!(!folder.exists());
    // One that is in use.
    let backend = Backend::obedient();
    let child = Child::before(
        &format!("http://{}", backend.address),
        &["--store", &format!("file://{}", folder.display())],
    );
    // Whoever clears has taken its lease, which is a file too.
    let cleared = "coatroom_store_operation_duration_seconds_count{operation=\"clear_expired\"}";
    until(|| (child.metric(cleared) > 0).then_some(()));
    let before = kept(&folder);
    assert_eq!(told(&folder), (true, vec![]));
    assert_eq!(kept(&folder), before);
    drop(child);
}

#[test]
fn each_thing_that_is_wrong_with_a_folder_is_told_with_its_remedy() {
    let (parent, folder) = folder();
    let is = |place: &Path, what: &str, remedy: &str| {
        let line = problem(place);
        let beginning = format!("store.url (--store): {} {what}", place.display());
        assert!(line.starts_with(&beginning) && line.contains(remedy), "{line}");
    };
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).expect("ours");
    is(&folder, "has mode 0750: others than its owner may look or write there", "chmod 0700 it");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("ours");
    fs::write(folder.join("notes"), "…").expect("written");
    is(&folder, "is not empty, and no store of sessions", "name an empty folder");
    let link = parent.path().join("link");
    symlink(&folder, &link).expect("made");
    is(&link, "is a symbolic link, or no folder at all", "name the folder itself");
    is(&folder.join("notes"), "is a symbolic link, or no folder at all", "name the folder itself");
    is(&folder.join("a/b"), "can't be made: ", "make it, owned by the sidecar's user");
    // Whoever runs the tests, somebody else's.
    let foreign = if geteuid().is_root() {
        fs::remove_file(folder.join("notes")).expect("there");
        chown(&folder, Some(65_534), None).expect("root may");
        folder
    } else {
        PathBuf::from("/root")
    };
    let line = problem(&foreign);
    assert!(line.contains("belongs to the user") || line.contains("can't be opened"), "{line}");
    let (good, lines) = said("file://sessions", &[]);
    assert!(!good && lines[0].contains("names no folder"), "{lines:?}");
}

#[test]
fn a_disk_that_is_full_or_read_only_or_forgets_is_told() {
    let disk = Disk::new(128 * 1024);
    let folder = disk.path().join("sessions");
    DirBuilder::new().mode(0o700).create(&folder).expect("made");
    let (good, lines) = told(&folder);
    assert!(good && lines.len() == 1 && lines[0].contains("tmpfs, in memory"), "{lines:?}");
    let filler = disk.fill();
    let line = problem(&folder);
    assert!(line.contains("can't be written to: No space left") && line.contains("large enough"), "{line}");
    fs::File::options().write(true).open(&filler).and_then(|file| file.set_len(100 << 20)).expect("shorter");
    let (good, lines) = told(&folder);
    assert!(good && lines.iter().any(|line| line.contains("has room for")), "{lines:?}");
    disk.seal(true);
    let line = problem(&folder);
    assert!(line.contains("can't be written to: Read-only file system"), "{line}");
    disk.seal(false);
}

/// At start too, and the sidecar serves all the same: what is wrong can be mended while it does.
#[test]
fn what_is_wrong_is_logged_at_start_with_its_setting_and_its_remedy() {
    let (_parent, folder) = folder();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("ours");
    let backend = Backend::obedient();
    let url = format!("file://{}", folder.display());
    let child = Child::before(&format!("http://{}", backend.address), &["--store", &url]);
    let line = until(|| child.log().lines().find(|line| line.contains("\"ERROR\"")).map(str::to_owned));
    assert!(line.contains("\"setting\":\"store.url\"") && line.contains("chmod 0700 it"), "{line}");
    assert_eq!(child.log().matches("\"ERROR\"").count(), 1, "{}", child.log());
}
