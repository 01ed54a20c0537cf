//! What is the file engine's alone: a folder, its modes, its locks, and disks that fail.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use coatroom::store::engine::{Cleared, Engine, Swap, Worth};
use coatroom::store::file::File;
use coatroom::store::{self, Config, Failed, Kind};
use coatroom::time::{Clock, Length, Timestamp};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::served::Served;
use super::support::{AGE, Rig, ask, key, revision, secs, set, stored};
use crate::support::Disk;

const KNOWN: Worth = Worth::Known;

/// An engine on a folder of its own, which goes with it.
pub(crate) fn file() -> Served<File, TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let engine = on(&folder.path().join("sessions"));
    Served::by(folder, engine)
}

/// An engine on a folder. A program that is being started somewhere in this process may have a copy of a lock for a while.
pub(crate) fn on(path: &Path) -> File {
    patient(path, secs(60))
}

/// An engine on a folder, which waits so long for others.
fn patient(path: &Path, patience: Duration) -> File {
    let url = format!("file://{}", path.display());
    let config = Config { url: (&*url).into(), commit_timeout: Length(patience), ..Config::default() };
    File::new(&config).unwrap_or_else(|what| panic!("{what}"))
}

/// The file of a key, and its shard.
fn place(folder: &Path, n: u64) -> PathBuf {
    let name = key(n).to_string();
    folder.join(&name[..2]).join(name)
}

/// Makes a pipe, whose other end nobody opens.
fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A folder with one record in it, and the engine that put it there.
async fn filled() -> (TempDir, PathBuf, File) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("sessions");
    let engine = on(&folder);
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    (parent, folder, engine)
}

async fn kind(engine: &File) -> (Kind, String) {
    let error = engine.get(&key(1)).await.expect_err("it is ill");
    let written = engine.replace(&key(1), revision(1), stored(2), KNOWN).await.expect_err("it is ill");
    assert_eq!(error.kind, written.kind, "{written}");
    (error.kind, error.detail)
}

#[tokio::test]
async fn a_record_lies_under_its_key_for_its_owner_alone() {
    let served = file();
    let folder = served.server.path().join("sessions");
    let rig = Rig::over(served);
    rig.begin(json!({"a": 1})).await;
    let mut files = Vec::new();
    for shard in fs::read_dir(&folder).unwrap().map(|shard| shard.unwrap().path()) {
        if shard.is_file() {
            assert_eq!((shard.file_name().unwrap().to_str(), mode(&shard)), (Some(".coatroom"), 0o600));
            continue;
        }
        assert_eq!(mode(&shard), 0o700);
        files.extend(fs::read_dir(&shard).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    let [lock, record] = &files[..] else { panic!("{files:?}") };
    assert_eq!(lock.file_name().unwrap(), ".lock");
    let name = record.file_name().unwrap().to_str().unwrap();
    assert!(name.len() == 40 && record.parent().unwrap().ends_with(&name[..2]), "{name}");
    assert_eq!((mode(&folder), mode(lock), mode(record)), (0o700, 0o600, 0o600));
    let text = fs::read_to_string(record).unwrap();
    let (head, rest) = text.split_once('\n').unwrap();
    let (bits, until) = head.split_once(' ').unwrap();
    assert!(bits.len() == 16 && rest.starts_with("1:") && rest.ends_with("{\"a\":1}"), "{text}");
    // The time of modification is the end, which clearing looks for.
    let modified = fs::metadata(record).unwrap();
    assert_eq!(until.parse::<i64>().unwrap() / 1000, modified.mtime());
}

#[tokio::test]
async fn a_folder_that_others_may_enter_is_none_and_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("sessions");
    for mode in [0o755, 0o770, 0o701] {
        let _ = fs::remove_dir_all(&folder);
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        let (kind, detail) = kind(&on(&folder)).await;
        assert_eq!(kind, Kind::NoPermission);
        assert!(detail.contains(&format!("mode 0{mode:o}")) && detail.contains("chmod 0700"), "{detail}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_folder_of_something_else_is_none_and_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("sessions");
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    fs::write(folder.join("thesis.tex"), "…").unwrap();
    let (kind, detail) = kind(&on(&folder)).await;
    assert!(kind == Kind::Refused && detail.contains("is not empty, and no store"), "{detail}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    fs::remove_file(folder.join("thesis.tex")).unwrap();
    fs::write(folder.join(".coatroom"), "form 2").unwrap();
    let detail = self::kind(&on(&folder)).await.1;
    assert!(detail.contains("another version's"), "{detail}");
}

/// Two sidecars begin on a folder that is not there yet, while two are asked whether it would do.
#[test]
fn a_new_folder_is_begun_and_tried_out_by_many_at_once() {
    for _ in 0..100 {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("sessions");
        let at_once = Barrier::new(4);
        thread::scope(|scope| {
            for number in 0..4 {
                let (folder, at_once) = (&folder, &at_once);
                scope.spawn(move || {
                    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                    let config = Config {
                        url: (&*format!("file://{}", folder.display())).into(),
                        ..Config::default()
                    };
                    at_once.wait();
                    if number % 2 == 0 {
                        let engine = on(folder);
                        assert_eq!(runtime.block_on(engine.ping()), Ok(()));
                        at_once.wait();
                        assert_eq!(runtime.block_on(engine.ping()), Ok(()), "both began the same store");
                    } else {
                        let found = runtime.block_on(store::examine(&config, 0));
                        at_once.wait();
                        assert!(found.iter().all(|finding| finding.what.contains("overlayfs")), "{found:?}");
                    }
                });
            }
        });
        let left = fs::read_dir(parent.path()).unwrap().chain(fs::read_dir(&folder).unwrap());
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["sessions", ".coatroom"], "and nothing is left");
    }
}

/// Not at the folder itself, nor at anything in it: whoever could plant one would have us write or read elsewhere.
#[tokio::test]
async fn no_symbolic_link_is_followed() {
    let (parent, folder, engine) = filled().await;
    let elsewhere = parent.path().join("elsewhere");
    let (record, shard) = (place(&folder, 1), place(&folder, 1).parent().unwrap().to_owned());
    // A record.
    fs::copy(&record, &elsewhere).unwrap();
    fs::remove_file(&record).unwrap();
    symlink(&elsewhere, &record).unwrap();
    assert_eq!(engine.get(&key(1)).await.unwrap_err().kind, Kind::Corrupt);
    assert_eq!(engine.remove(&key(1), revision(1)).await.unwrap_err().kind, Kind::Corrupt);
    assert_eq!(engine.add(&key(1), stored(2), KNOWN).await, Ok(false), "it is taken");
    fs::remove_file(&record).unwrap();
    // The lock.
    let lock = shard.join(".lock");
    fs::remove_file(&lock).unwrap();
    symlink(&elsewhere, &lock).unwrap();
    let before = fs::read(&elsewhere).unwrap();
    let refused = engine.add(&key(1), stored(2), KNOWN).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Refused);
    assert_eq!(fs::read(&elsewhere).unwrap(), before);
    fs::remove_file(&lock).unwrap();
    // A shard, and the folder.
    let moved = parent.path().join("moved");
    fs::rename(&shard, &moved).unwrap();
    symlink(&moved, &shard).unwrap();
    assert!(engine.get(&key(1)).await.is_err());
    fs::remove_file(&shard).unwrap();
    fs::rename(&folder, moved.with_extension("folder")).unwrap();
    symlink(moved.with_extension("folder"), &folder).unwrap();
    let (ill, detail) = kind(&engine).await;
    assert!(ill == Kind::Unreachable && detail.contains("symbolic link"), "{detail}");
    for end in ["/", "/.", "/.//"] {
        let engine = on(Path::new(&format!("{}{end}", folder.display())));
        assert!(kind(&engine).await.1.contains("symbolic link"), "{end}");
    }
}

/// Whatever has the name of what is being written: it is replaced, and nothing is written to it.
#[tokio::test]
async fn what_is_being_written_is_a_file_of_its_own() {
    let (parent, folder, engine) = filled().await;
    let (elsewhere, new) = (parent.path().join("elsewhere"), place(&folder, 1).with_file_name(".new"));
    fs::write(&elsewhere, "…").unwrap();
    let plants: [(&str, &dyn Fn()); 3] = [
        ("a symbolic link", &|| symlink(&elsewhere, &new).unwrap()),
        ("another name of a file", &|| fs::hard_link(&elsewhere, &new).unwrap()),
        ("a pipe", &|| pipe(&new)),
    ];
    for (n, (what, plant)) in (1..).zip(plants) {
        plant();
        let key = key(1);
        let written = engine.replace(&key, revision(n), stored(n + 1), KNOWN);
        assert_eq!(timeout(secs(60), written).await.expect(what), Ok(Swap::Done), "{what}");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "…", "{what}");
        assert!(fs::symlink_metadata(&new).is_err(), "{what}");
        assert_eq!(fs::symlink_metadata(place(&folder, 1)).unwrap().nlink(), 1, "{what}");
    }
}

/// What is not mounted any longer leaves an empty folder behind. Nobody is logged out by it.
#[tokio::test]
async fn a_folder_that_was_a_store_and_is_empty_now_is_ill_and_has_no_absent_sessions() {
    let (_parent, folder, engine) = filled().await;
    let away = folder.with_extension("away");
    fs::rename(&folder, &away).unwrap();
    assert_eq!(kind(&engine).await.0, Kind::Unreachable, "it is not made anew");
    assert!(!folder.exists());
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    let (kind, detail) = kind(&engine).await;
    assert!(kind == Kind::Unreachable && detail.contains("mount its disk again"), "{detail}");
    assert_eq!(engine.ping().await.unwrap_err().kind, Kind::Unreachable);
    fs::remove_dir(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    assert_eq!(engine.ping().await, Ok(()));
    assert_eq!(engine.replace(&key(1), revision(1), stored(2), KNOWN).await, Ok(Swap::Done));
}

/// A folder that is made anew may have the number of the old one, and so may what is mounted: it is known by its mark.
#[tokio::test]
async fn a_folder_that_is_made_anew_or_exchanged_is_not_taken_for_the_store_of_before() {
    let (_parent, folder, engine) = filled().await;
    let (away, mark) = (folder.with_extension("away"), folder.join(".coatroom"));
    fs::rename(&mark, &away).unwrap();
    for shard in fs::read_dir(&folder).unwrap() {
        fs::remove_dir_all(shard.unwrap().path()).unwrap();
    }
    let (ill, detail) = kind(&engine).await;
    assert!(ill == Kind::Unreachable && detail.contains("mount its disk again"), "{detail}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "and nothing is made there");
    // It is the store of before as soon as it has that one's mark.
    fs::rename(&away, &mark).unwrap();
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    fs::remove_dir_all(&folder).unwrap();
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    assert_eq!(kind(&engine).await.0, Kind::Unreachable);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

    let (_others, other, stranger) = filled().await;
    let (_parent, folder, engine) = filled().await;
    let away = folder.with_extension("away");
    assert_eq!(stranger.replace(&key(1), revision(1), stored(3), KNOWN).await, Ok(Swap::Done));
    fs::rename(&folder, &away).unwrap();
    fs::rename(&other, &folder).unwrap();
    let (ill, detail) = kind(&engine).await;
    assert!(ill == Kind::Unreachable && detail.contains("another store of sessions"), "{detail}");
    assert_eq!(
        on(&folder).get(&key(1)).await.unwrap().unwrap().revision,
        revision(3),
        "it is one all the same"
    );
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    assert_eq!(engine.replace(&key(1), revision(1), stored(2), KNOWN).await, Ok(Swap::Done));
}

/// Marks had no number once, and a crash could leave an empty one.
#[tokio::test]
async fn a_mark_without_a_number_is_one() {
    let (_parent, folder, _) = filled().await;
    let mark = folder.join(".coatroom");
    let text = fs::read_to_string(&mark).unwrap();
    let (form, number) = text.split_once('\n').unwrap();
    assert_eq!(number.trim_end().len(), 32);
    for old in ["", &*format!("{form}\n")] {
        fs::write(&mark, old).unwrap();
        let engine = on(&folder);
        assert!(engine.get(&key(1)).await.unwrap().is_some(), "{old:?}");
        assert_eq!(fs::read_to_string(&mark).unwrap(), old);
    }
    for other in
        [format!("{form}\n{number}more\n"), format!("{form}\n0\n"), format!("{form}\nx{}", &number[1..])]
    {
        fs::write(&mark, &other).unwrap();
        assert!(kind(&on(&folder)).await.1.contains("another version's"), "{other:?}");
    }
}

#[tokio::test]
async fn what_a_crash_left_half_written_means_nothing() {
    let (_parent, folder, engine) = filled().await;
    let left = place(&folder, 1).with_file_name(".new");
    fs::write(&left, vec![b'x'; 100_000]).unwrap();
    assert!(engine.get(&key(1)).await.unwrap().is_some());
    assert_eq!(engine.replace(&key(1), revision(1), stored(2), KNOWN).await, Ok(Swap::Done));
    assert!(!left.exists());
    assert_eq!(engine.get(&key(1)).await.unwrap().unwrap().value, stored(2).value);
}

#[tokio::test]
async fn a_file_that_is_no_record_is_corrupt_and_stays() {
    let (_parent, folder, engine) = filled().await;
    let record = place(&folder, 1);
    for text in ["", "garbage", "0000000000000001 17\u{7f}", "0000000000000000 1700000000000\n1:..."] {
        fs::write(&record, text).unwrap();
        let error = engine.get(&key(1)).await.unwrap_err();
        assert!(error.kind == Kind::Corrupt && error.detail.contains(&key(1).to_string()), "{error}");
        let written = engine.replace(&key(1), revision(1), stored(2), KNOWN).await;
        assert_eq!(written.unwrap_err().kind, Kind::Corrupt);
        assert_eq!(engine.clear_expired(Timestamp::MAX, 10).await, Ok(Cleared::default()));
        assert_eq!(fs::read_to_string(&record).unwrap(), text);
    }
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    assert_eq!(engine.get(&key(1)).await.unwrap_err().kind, Kind::Corrupt, "nor is a folder one");
    // Nor a pipe, whose other end nobody opens.
    fs::remove_dir(&record).unwrap();
    pipe(&record);
    assert_eq!(engine.get(&key(1)).await.unwrap_err().kind, Kind::Corrupt);
}

/// The time of a file is a hint and no more: a copy that has lost it is cleared when its first line says so.
#[tokio::test]
async fn clearing_goes_by_what_a_file_says_and_not_by_its_time() {
    let (_parent, folder, engine) = filled().await;
    let long_ago = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    let record = place(&folder, 1);
    fs::File::options().write(true).open(&record).unwrap().set_times(long_ago).unwrap();
    fs::write(folder.join("00-notes.txt"), "…").unwrap();
    let now = Clock::system().now();
    assert_eq!(engine.clear_expired(now, 10).await, Ok(Cleared::default()));
    assert!(record.exists());
    assert_eq!(engine.clear_expired(now.plus(AGE + secs(1)), 10).await.unwrap().removed, 1);
    assert!(!record.exists());
}

/// A shard that can't be cleared keeps nobody from the others, and what was done before it was met is told.
#[tokio::test]
async fn clearing_tells_what_it_did_before_it_failed_and_goes_past_what_it_failed_at() {
    let (_parent, folder, engine) = filled().await;
    for n in 2..=40 {
        assert_eq!(engine.add(&key(n), stored(n), KNOWN).await, Ok(true));
    }
    fs::write(folder.join("80"), "no folder").unwrap();
    let below = (1..=40).filter(|n| *key(*n).to_string() < *"80").count();
    let mut rounds = Vec::new();
    for _ in 0..4 {
        rounds.push(engine.clear_expired(Timestamp::MAX, 100).await.map(|round| (round.removed, round.more)));
    }
    assert_eq!(rounds[..2], [Ok((below, true)), Ok((40 - below, true))]);
    let error = rounds[2].clone().unwrap_err();
    assert!(error.kind == Kind::Unreachable && rounds[3].is_err(), "{error}");
}

/// Another process that has a lock, and is frozen: the sessions of one shard of 256 wait, for a bounded time.
#[tokio::test]
async fn a_lock_that_somebody_keeps_is_an_error_for_its_shard_alone() {
    let (_parent, folder, _) = filled().await;
    let engine = patient(&folder, Duration::from_millis(100));
    let lock = fs::File::open(place(&folder, 1).with_file_name(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let busy = engine.replace(&key(1), revision(1), stored(2), KNOWN).await.unwrap_err();
    assert!(busy.kind == Kind::Busy && busy.detail.contains("another process"), "{busy}");
    assert!(engine.get(&key(1)).await.unwrap().is_some(), "reading needs none");
    assert_eq!(engine.add(&key(2), stored(1), KNOWN).await, Ok(true));
    flock(&lock, FlockOperation::Unlock).unwrap();
    assert_eq!(engine.replace(&key(1), revision(1), stored(2), KNOWN).await, Ok(Swap::Done));
}

/// What became of a write is looked for under the lock, so that nobody is in the midst of changing it.
#[tokio::test]
async fn what_is_made_sure_of_is_what_lies_there() {
    let (_parent, folder, engine) = filled().await;
    assert_eq!(engine.confirm(&key(1), Some(revision(1))).await, Ok(true));
    for seen in [None, Some(revision(2))] {
        assert_eq!(engine.confirm(&key(1), seen).await, Ok(false), "{seen:?}");
    }
    let lock = fs::File::open(place(&folder, 1).with_file_name(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let hasty = patient(&folder, Duration::from_millis(100));
    assert_eq!(hasty.confirm(&key(1), Some(revision(1))).await.unwrap_err().kind, Kind::Busy);
    flock(&lock, FlockOperation::Unlock).unwrap();
    assert_eq!(engine.remove(&key(1), revision(1)).await, Ok(Swap::Done));
    assert_eq!(engine.confirm(&key(1), None).await, Ok(true));
    assert_eq!(engine.confirm(&key(1), Some(revision(1))).await, Ok(false));
}

/// On some file systems a list may miss what is renamed meanwhile.
#[tokio::test]
async fn keys_are_told_while_nobody_writes_and_no_shard_is_made_for_it() {
    let (_parent, folder, _) = filled().await;
    let engine = patient(&folder, Duration::from_millis(100));
    let shard = place(&folder, 1).parent().unwrap().to_owned();
    let lock = fs::File::open(shard.join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let number = shard.file_name().unwrap().to_str().unwrap();
    assert_eq!(engine.scan(Some(number)).await.unwrap_err().kind, Kind::Busy);
    flock(&lock, FlockOperation::Unlock).unwrap();
    assert_eq!(engine.scan(Some(number)).await.unwrap().keys, [key(1)]);
    let (mut after, mut keys) = (None, Vec::new());
    loop {
        let page = engine.scan(after.as_deref()).await.unwrap();
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(keys, [key(1)]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "its mark and its only shard");
}

/// A disk that nobody can write to is copied from all the same.
#[tokio::test]
async fn keys_are_told_on_a_disk_that_is_read_only() {
    let disk = Disk::new(1024);
    let engine = on(&disk.path().join("sessions"));
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    disk.seal(true);
    let number = &key(1).to_string()[..2];
    assert_eq!(engine.scan(Some(number)).await.unwrap().keys, [key(1)]);
    disk.seal(false);
}

/// There is time left to say so: whoever hears nothing would have to take it for an unknown outcome.
#[tokio::test]
async fn a_change_that_waits_for_a_frozen_process_is_refused_in_time_and_not_made_later() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, budget) = (parent.path().join("sessions"), secs(2));
    let rig = Rig::within(patient(&folder, budget), budget);
    let token = rig.begin(json!({"a": 1})).await;
    let shards = fs::read_dir(&folder).unwrap().map(|shard| shard.unwrap().path());
    let shard = shards.into_iter().find(|shard| shard.is_dir()).unwrap();
    let lock = fs::File::open(shard.join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let (one, other) = (rig.load(&token).await, rig.load(&token).await);
    let other_rig = rig.beside();
    let both = tokio::join!(
        rig.commit(one, ask([set(json!({"a": 2}))])),
        other_rig.commit(other, ask([set(json!({"b": 2}))]))
    );
    for refused in <[_; 2]>::from(both) {
        let Err(Failed::Store(error)) = refused else { panic!("{refused:?}") };
        assert!(error.kind == Kind::Busy && error.detail.contains("another process"), "{error}");
    }
    flock(&lock, FlockOperation::Unlock).unwrap();
    // Those who write to a shard take turns, so whatever was to come has come.
    rig.request(&token, [set(json!({"c": 3}))]).await;
    assert_eq!(rig.data(&token).await, Some(json!({"a": 1, "c": 3})));
}

/// However many writes wait, be it for locks or for the disk, sessions are read.
#[tokio::test]
async fn a_read_waits_for_no_write() {
    let (_parent, folder, engine) = filled().await;
    // Each in a shard of its own, and more of them than there are threads.
    let others = 2..=64;
    let mut locks = Vec::new();
    for n in others.clone() {
        assert_eq!(engine.add(&key(n), stored(n), KNOWN).await, Ok(true));
        let lock = fs::File::open(place(&folder, n).with_file_name(".lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        locks.push(lock);
    }
    let engine = Arc::new(engine);
    let replace = |n| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.replace(&key(n), revision(n), stored(n + 100), KNOWN).await })
    };
    let writes: Vec<_> = others.map(replace).collect();
    // All of them are sent.
    tokio::task::yield_now().await;
    assert!(engine.get(&key(1)).await.unwrap().is_some());
    assert_eq!(engine.ping().await, Ok(()));
    assert!(writes.iter().all(|write| !write.is_finished()));
    drop(locks);
    for write in writes {
        assert_eq!(write.await.unwrap(), Ok(Swap::Done));
    }
}

/// Whoever has left is not written for later on, when nobody waits for it.
#[tokio::test]
async fn a_write_that_nobody_waits_for_any_longer_is_not_begun() {
    let (_parent, folder, _) = filled().await;
    let lock = fs::File::open(place(&folder, 1).with_file_name(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    // The first has its turn and waits for the lock; the second, of the same shard, for its turn.
    let engine = patient(&folder, secs(60));
    let key = key(1);
    let first = engine.replace(&key, revision(1), stored(2), KNOWN);
    let second = engine.replace(&key, revision(1), stored(3), KNOWN);
    let gone = timeout(secs(1), async { tokio::join!(first, second) }).await;
    assert!(gone.is_err());
    flock(&lock, FlockOperation::Unlock).unwrap();
    // The turn is free when the first is done, for better or worse.
    let third = engine.replace(&key, revision(2), stored(4), KNOWN).await;
    assert_eq!(third, Ok(Swap::Done), "the first was written, the second never");
}

#[test]
fn a_url_must_name_a_folder() {
    for (url, what) in [
        ("file:", "names no folder"),
        ("file://", "names no folder"),
        ("file://host/sessions", "names no folder"),
        ("file:/sessions", "names no folder"),
        ("file:///", "is the root"),
        ("file:////.", "is the root"),
        ("file:///var/../sessions", "has .. in it"),
        ("file:///sessions/..", "has .. in it"),
        ("file:///sessions?mode=0700", "mean nothing here"),
        ("file:///my%20sessions", "mean nothing here"),
    ] {
        let said = File::check(&Config { url: url.into(), ..Config::default() }).unwrap_err();
        assert!(said.contains(what), "{url}: {said}");
    }
    assert_eq!(File::check(&Config { url: "file:///var/lib/coatroom".into(), ..Config::default() }), Ok(()));
}
