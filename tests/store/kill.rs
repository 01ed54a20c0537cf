//! A process that is killed at a system call of a save, whichever: the session is the one of before or the one after it.
//! And system calls that fail, so that nobody knows what they have done.

use std::fs;
use std::io;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Backend, Browser, Program, Sidecar};

/// What a save does, call by call.
const CALLS: [&str; 10] =
    ["openat", "flock", "pread64", "fstat", "write", "utimensat", "fsync", "renameat", "close", "unlinkat"];
/// More calls of one kind than any save makes.
const MOST: usize = 30;

/// The file of the only session that is there.
fn record(folder: &Path) -> PathBuf {
    let files = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 40);
    // A lease is a record of another length.
    let mut found: Vec<_> = files(folder).iter().flat_map(|shard| files(shard)).filter(named).collect();
    found.retain(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("\n1:")));
    let [record] = &found[..] else { panic!("{found:?}") };
    record.clone()
}

/// What has to do with the only session that is there.
fn places(folder: &Path) -> Vec<PathBuf> {
    let record = record(folder);
    let shard = record.parent().expect("a shard");
    vec![shard.to_owned(), shard.join(".lock"), shard.join(".new"), record]
}

/// Asks a sidecar to do something with a session while something befalls its calls that have to do with these places, and
/// returns what it answers. It has these settings besides.
fn befall(
    folder: &Path,
    places: &[PathBuf],
    what: &str,
    settings: &[(&str, &str)],
    backend: SocketAddr,
    request: &str,
) -> io::Result<String> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={}", CALLS.join(","))]);
    command.args(["-e", &format!("inject={what}")]);
    for place in places {
        command.arg("-P").arg(place);
    }
    command.arg(env!("CARGO_BIN_EXE_coatroom"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--telemetry-listen", "127.0.0.1:0"]);
    command.args(["--backend", &format!("http://{backend}")]);
    command.args(["--store", &format!("file://{}", folder.display())]);
    // Watching is slow, and no reason to refuse.
    command.envs([("COATROOM__STORE__TIMEOUT", "60"), ("COATROOM__STORE__COMMIT_TIMEOUT", "60")]);
    command.envs(settings.iter().copied());
    let program = Program::start(&mut command, "\"address\":\"");
    let mut stream = TcpStream::connect(program.address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Has it killed before its so manyth call of a kind. Returns whether it lived to say that it was done.
fn tempt(folder: &Path, call: &str, n: usize, backend: SocketAddr, request: &str) -> bool {
    let kill = format!("{call}:signal=KILL:when={n}");
    let answer = befall(folder, &places(folder), &kill, &[], backend, request);
    let answer = answer.unwrap_or_default();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200 "), "killed, and nothing else: {answer}");
    !answer.is_empty()
}

/// Who asks, and what they see.
struct Visitor {
    backend: Backend,
    /// A sidecar that nobody kills, on the same folder.
    sidecar: Sidecar,
    browser: Browser,
}

impl Visitor {
    fn of(folder: &Path) -> Self {
        let backend = Backend::obedient();
        let url = format!("file://{}", folder.display());
        let sidecar = Sidecar::keeping(&url, backend.address, |_| {});
        let mut visitor = Self { browser: sidecar.browser(), backend, sidecar };
        visitor.begin();
        visitor
    }

    fn begin(&mut self) {
        self.browser = self.sidecar.browser();
        assert_eq!(self.browser.ask(&[("X-Session-Set", "{\"n\":0}")]).row(), "create");
    }

    /// A request that asks for a directive.
    fn request(&self, wanted: &str) -> String {
        let token = self.browser.token().expect("a session");
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: sessionid={token}\r\nWant-{wanted}\r\n\r\n"
        )
    }

    /// The number in the session, if there is one.
    fn number(&mut self) -> Option<u64> {
        self.browser.get("/");
        let data: serde_json::Value = serde_json::from_str(self.backend.last().data()).expect("JSON");
        data.get("n").and_then(serde_json::Value::as_u64)
    }
}

#[test]
fn a_save_that_is_killed_at_any_system_call_is_whole_or_was_never_begun() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("sessions");
    let mut visitor = Visitor::of(&folder);
    let (mut killed, mut old, mut new) = (Vec::new(), 0, 0);
    for call in CALLS {
        for n in 1.. {
            assert!(n < MOST, "{call}: a save makes fewer of them");
            let before = visitor.number().expect("a session");
            let request = visitor.request("X-Session-Increment: {\"n\":1}");
            let lived = tempt(&folder, call, n, visitor.backend.address, &request);
            let after = visitor.number();
            assert!(
                after == Some(before) || after == Some(before + 1),
                "{call} {n}: {before}, then {after:?}"
            );
            let saved = after == Some(before + 1);
            assert!(saved || !lived, "{call} {n}: it said that it had saved");
            if lived {
                break;
            }
            killed.push(format!("{call} {n}"));
            if saved { new += 1 } else { old += 1 }
        }
    }
    // What there is to be killed at: locking, comparing, writing, and twice the disk.
    for call in ["flock 1", "pread64 1", "write 1", "utimensat 1", "fsync 1", "renameat 1", "fsync 2"] {
        assert!(killed.iter().any(|killed| killed == call), "{call}: {killed:?}");
    }
    assert!(old > 5 && new > 1, "{old} before it, {new} after it: {killed:?}");
}

#[test]
fn a_logout_that_is_killed_at_any_system_call_is_one_or_none() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("sessions");
    let mut visitor = Visitor::of(&folder);
    let (mut out, mut in_still) = (0, 0);
    for call in ["write", "fsync", "renameat"] {
        for n in 1.. {
            assert!(n < MOST, "{call}: a logout makes fewer of them");
            let request = visitor.request("X-Session-Flush: true");
            let lived = tempt(&folder, call, n, visitor.backend.address, &request);
            let ended = visitor.number().is_none();
            assert!(ended || !lived, "{call} {n}: it said that nobody is logged in any longer");
            if ended {
                out += 1;
                fs::remove_file(record(&folder)).unwrap();
                visitor.begin();
            } else {
                in_still += 1;
            }
            if lived {
                break;
            }
        }
    }
    assert!(out > 3 && in_still > 1, "{out} and {in_still}");
}

/// It may have happened all the same: who is told that nothing was changed would do it again.
#[test]
fn a_name_that_could_not_be_changed_for_no_known_reason_is_an_unknown_outcome() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("sessions");
    let visitor = Visitor::of(&folder);
    let save = visitor.request("X-Session-Increment: {\"n\":1}");
    let logout = visitor.request("X-Session-Flush: true");
    let forget = [("COATROOM__SESSION__ENDED_MEMORY", "0"), ("COATROOM__SESSION__GRACE", "0")];
    for (call, errno, settings, request, expected) in [
        ("renameat", "EIO", &[][..], &save, "/outcome-unknown"),
        ("renameat", "ETIMEDOUT", &[], &save, "/outcome-unknown"),
        ("unlinkat", "EINTR", &forget, &logout, "/outcome-unknown"),
        ("unlinkat", "EIO", &forget, &logout, "/outcome-unknown"),
        ("renameat", "EACCES", &[], &save, "/store-unavailable"),
        ("unlinkat", "EACCES", &forget, &logout, "/store-unavailable"),
    ] {
        let fault = format!("{call}:error={errno}:when=1");
        let places = places(&folder);
        let answer = befall(&folder, &places, &fault, settings, visitor.backend.address, request).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(expected), "{fault}: {answer}");
    }
}

/// Whoever made a folder may have died before the disk had it: what is in it would be lost with it.
#[test]
fn nothing_is_acknowledged_in_a_folder_that_the_disk_does_not_say_it_has() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("sessions");
    let mut visitor = Visitor::of(&folder);
    let address = visitor.backend.address;
    let save = visitor.request("X-Session-Increment: {\"n\":1}");
    let on = |folder: &Path, place: &Path| {
        befall(folder, &[place.to_owned()], "fsync:error=EIO", &[], address, &save).unwrap()
    };
    let answer = on(&folder, &folder);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("/store-unavailable"), "{answer}");
    assert_eq!(visitor.number(), Some(0));
    // A store that is just made knows nobody, and can't say so yet.
    let answer = on(&parent.path().join("new"), parent.path());
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("/store-unavailable"), "{answer}");
}
