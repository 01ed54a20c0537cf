//! Settings that change while requests are served, in the program itself.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use aws_lc_rs::hmac;
use coatroom::time::Stopwatch;
use tempfile::TempDir;

use crate::support::child::until;
use crate::support::{Backend, Browser, Child, Redis};

pub(super) const APPLIED: &str = "coatroom_config_reloads_total{result=\"applied\"}";
pub(super) const FAILED: &str = "coatroom_config_reloads_total{result=\"failed\"}";
const SUCCESSFUL: &str = "coatroom_config_last_reload_successful";
pub(super) const EXPLAIN: &str = "headers.explain = true\nreload.interval = 0\n";

/// A program with a file of settings that can be written anew.
pub(super) struct Running {
    folder: TempDir,
    pub(super) backend: Backend,
    pub(super) child: Child,
}

impl Running {
    /// One before an obedient backend.
    pub(super) fn with(text: &str) -> Self {
        Self::before(Backend::obedient(), text)
    }

    /// One before this backend.
    pub(super) fn before(backend: Backend, text: &str) -> Self {
        Self::after(":", backend, text)
    }

    /// The same after a command of the shell, `export NAME=…` say.
    fn after(first: &str, backend: Backend, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("coatroom.toml");
        fs::write(&file, text).expect("it is written");
        let flags = ["--config", file.to_str().expect("UTF-8")];
        let child = Child::limited(&format!("http://{}", backend.address), &flags, first);
        Self { folder, backend, child }
    }

    /// A file beside that of the settings.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, text: &str) {
        fs::write(self.path("coatroom.toml"), text).expect("it is written");
    }

    /// Asks it to read everything again, and waits until it has.
    pub(super) fn hang_up(&self, series: &str) {
        let before = self.child.metric(series);
        self.child.signal("HUP");
        self.until(series, before + 1);
    }

    pub(super) fn until(&self, series: &str, value: u64) {
        until(|| (self.child.metric(series) == value).then_some(()));
    }

    /// Waits until it has logged something.
    fn tells(&self, text: &str) {
        until(|| self.child.log().contains(text).then_some(()));
    }

    /// Waits until it has looked at its file, of so many bytes at least, some times more.
    fn looks(&self, bytes: usize) {
        let until_then = self.child.read() + 5 * bytes as u64;
        until(|| (self.child.read() >= until_then).then_some(()));
    }

    pub(super) fn browser(&self) -> Browser {
        Browser::new(self.child.address)
    }
}

/// A key of its own for each letter.
pub(super) fn key(letter: char) -> String {
    data_encoding::BASE64.encode(&[letter as u8; 32])
}

#[test]
fn routes_and_headers_follow_the_file_at_sighup() {
    let running = Running::with(EXPLAIN);
    let mut browser = running.browser();
    assert_eq!(browser.ask_at("/static/a", &[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    let routes = "routes = [{ path = \"/static\", session = \"off\" }]";
    running.write(&format!("{EXPLAIN}headers.secret = \"s\"\n{routes}"));
    running.hang_up(APPLIED);
    browser.get("/static/a");
    assert_eq!(running.backend.last().header("x-session-data"), None, "the route is off now");
    browser.get("/");
    assert!(running.backend.last().header("x-session-signature").is_some());
    assert_eq!(running.backend.last().data(), "{\"a\":1}", "sessions stay");
    assert!(running.child.metric("coatroom_config_last_reload_timestamp_seconds") > 1_700_000_000);
}

#[test]
fn a_file_with_a_mistake_leaves_everything_as_it_was_and_is_told_of() {
    let running = Running::with(&format!("{EXPLAIN}cookie.name = \"one\""));
    let set = [("X-Session-Set", "{\"a\":1}")];
    for (bad, told) in [
        ("cookie.name = \"two\"\ncookie.age = \"soon\"", "cookie.age ("),
        ("cookie.name = \"two\"\n[cookie", "coatroom.toml"),
        (
            "cookie.name = \"two\"\nheaders.secret = \"hunter2\"\nheaders.secret_file = \"/nowhere\"",
            "headers.secret_file",
        ),
    ] {
        running.write(&format!("{EXPLAIN}{bad}"));
        running.hang_up(FAILED);
        assert_eq!(running.child.metric(SUCCESSFUL), 0);
        let reply = running.browser().ask(&set);
        assert!(reply.header("set-cookie").expect("a session").starts_with("one="), "{reply:?}");
        running.tells(told);
    }
    fs::remove_file(running.path("coatroom.toml")).expect("it was there");
    running.hang_up(FAILED);
    running.write("\n");
    running.hang_up(FAILED);
    running.tells("coatroom.toml: is empty");
    assert!(running.browser().ask(&set).header("set-cookie").expect("a session").starts_with("one="));
    assert!(!running.child.log().contains("hunter2"));
    running.write(&format!("{EXPLAIN}cookie.name = \"two\""));
    running.hang_up(APPLIED);
    assert_eq!(running.child.metric(SUCCESSFUL), 1);
    let reply = running.browser().ask(&set);
    assert!(reply.header("set-cookie").expect("a session").starts_with("two="), "{reply:?}");
}

/// kubelet writes a new folder and swaps a link to it.
#[test]
fn a_config_map_that_changes_is_found_and_a_file_beside_it_too() {
    let running = Running::with("");
    let volume = running.folder.path().join("volume");
    fs::create_dir(&volume).expect("a folder");
    let version = |name: &str, toml: &str| -> PathBuf {
        let folder = volume.join(name);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("coatroom.toml"), toml).expect("it is written");
        fs::write(folder.join("secret"), name).expect("it is written");
        let link = volume.join("..next");
        symlink(name, &link).expect("a link");
        fs::rename(&link, volume.join("..data")).expect("it is swapped");
        volume.join("..data")
    };
    let toml = |age: u32| {
        format!(
            "reload.interval = \"20ms\"\ncookie.age = {age}\nheaders.secret_file = \"{}/secret\"\nheaders.explain = true",
            volume.display()
        )
    };
    version("..v1", &toml(1000));
    for name in ["coatroom.toml", "secret"] {
        symlink(format!("..data/{name}"), volume.join(name)).expect("a link");
    }
    let flags = ["--config", &volume.join("coatroom.toml").display().to_string()];
    let child = Child::before(&format!("http://{}", running.backend.address), &flags);
    let age = || {
        let reply = Browser::new(child.address).ask(&[("X-Session-Set", "{\"a\":1}")]);
        let cookie = reply.header("set-cookie").expect("a session").to_owned();
        (cookie.contains("Max-Age=1000"), cookie.contains("Max-Age=2000"))
    };
    assert_eq!(age(), (true, false));
    version("..v2", &toml(2000));
    until(|| (child.metric(APPLIED) == 1).then_some(()));
    assert_eq!(age(), (false, true));
    // What has not changed is not read again.
    fs::write(volume.join("..v2/secret"), "another").expect("it is written");
    until(|| (child.metric(APPLIED) == 2).then_some(()));
    assert_eq!(child.metric(FAILED), 0);
}

#[test]
fn the_page_for_errors_follows_its_file_and_a_bad_one_leaves_the_old_one() {
    let running = Running::with("");
    let page = running.folder.path().join("page.html");
    fs::write(&page, "one {{status}}").expect("it is written");
    let refused = || {
        let wants = [("Accept", "text/html"), ("Want-X-Session-Set", "no JSON")];
        running.browser().request("GET", "/", &wants, "").text()
    };
    assert!(refused().starts_with('{'));
    running.write(&format!("{EXPLAIN}errors.page = \"{}\"", page.display()));
    running.hang_up(APPLIED);
    assert_eq!(refused(), "one 502");
    fs::write(&page, "two {{status").expect("it is written");
    running.hang_up(FAILED);
    assert_eq!(refused(), "one 502");
    fs::write(&page, "two {{status}}").expect("it is written");
    running.hang_up(APPLIED);
    assert_eq!(refused(), "two 502");
}

#[test]
fn what_waits_for_a_restart_is_named_and_the_rest_is_in_force() {
    let running = Running::with(EXPLAIN);
    let waiting = "store.key_prefix = \"x\"\nproxy.workers = 3\nsession.realm = \"x\"";
    running.write(&format!("{EXPLAIN}{waiting}\ncookie.name = \"sid\""));
    running.hang_up(APPLIED);
    running.tells("wait for a restart: proxy.workers, session.realm, store.key_prefix\"");
    assert!(running.child.log().contains("\"changed\":\"cookie.name\""), "{}", running.child.log());
    let reply = running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]);
    assert!(reply.header("set-cookie").expect("a session").starts_with("sid="), "{reply:?}");
}

/// Each file is right, and what would be in force is neither.
#[test]
fn what_is_wrong_beside_settings_that_wait_for_a_restart_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = |lease: u32, timeout: u32, age: u32| {
        format!(
            "{EXPLAIN}store.url = 'file://{}/sessions'\nstore.cache = 'memory:'\nstore.cache_lease = {lease}\n\
             store.commit_timeout = {timeout}\ncookie.age = {age}\n",
            folder.path().display()
        )
    };
    let running = Running::with(&settings(9, 12, 3600));
    running.write(&settings(5, 8, 60));
    running.hang_up(FAILED);
    running.tells("store.commit_timeout (beside settings that wait for a restart): 8s is too short: ");
    running.tells("those of before stay in force");
    running.write(&settings(5, 12, 60));
    running.hang_up(APPLIED);
    running.tells("wait for a restart: store.cache_lease");
}

#[test]
fn keys_rotate_under_load_and_nobody_is_logged_out_before_theirs_is_gone() {
    let settings = format!("{EXPLAIN}cookie.keys = [\"{}\"]", key('a'));
    let running = Running::with(&settings);
    let keys = |keys: &[char]| {
        let keys: Vec<_> = keys.iter().map(|letter| format!("\"{}\"", key(*letter))).collect();
        running.write(&format!("{EXPLAIN}cookie.keys = [{}]", keys.join(", ")));
        running.hang_up(APPLIED);
    };
    let mut old = running.browser();
    assert_eq!(old.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    thread::scope(|scope| {
        let visit = || {
            let mut visitor = running.browser();
            visitor.ask(&[("X-Session-Set", "{\"n\":0}")]);
            for _ in 0..300 {
                let reply = visitor.ask(&[("X-Session-Increment", "{\"n\":1}")]);
                assert_eq!((reply.status, reply.row()), (200, "save"));
            }
        };
        (0..4).for_each(|_| drop(scope.spawn(visit)));
        [&['a', 'b'][..], &['b', 'a'], &['b', 'a', 'c']].into_iter().for_each(keys);
    });
    let mut still = old.clone();
    assert_eq!(still.ask(&[]).row(), "nothing", "an old key opens what it has signed");
    keys(&['b']);
    assert_eq!(old.ask(&[]).row(), "nothing-to-keep", "until it is gone");
    assert!(running.child.metric("coatroom_session_loads_total{result=\"forged\"}") > 0);
}

#[test]
fn seals_rotate_and_nobody_is_logged_out_before_theirs_is_gone() {
    let redis = Redis::start();
    let settings = format!("{EXPLAIN}store.url = \"{}\"\nstore.unsealed = \"refuse\"\n", redis.url());
    let ring = |keys: &[char]| {
        let keys: Vec<_> = keys.iter().map(|letter| format!("\"{}\"", key(*letter))).collect();
        format!("{settings}store.encryption_keys = [{}]", keys.join(", "))
    };
    let running = Running::with(&ring(&['a']));
    let (mut saved, mut only_read) = (running.browser(), running.browser());
    for browser in [&mut saved, &mut only_read] {
        assert_eq!(browser.ask(&[("X-Session-Set", "{\"n\":0}")]).row(), "create");
    }
    for keys in [&['a', 'b'][..], &['b', 'a']] {
        running.write(&ring(keys));
        running.hang_up(APPLIED);
        assert_eq!(saved.ask(&[("X-Session-Increment", "{\"n\":1}")]).row(), "save");
        assert_eq!(only_read.get("/").row(), "nothing");
    }
    running.write(&ring(&['b']));
    running.hang_up(APPLIED);
    assert_eq!(saved.get("/").row(), "nothing", "its last save sealed it anew");
    assert_eq!(running.backend.last().data(), "{\"n\":2}");
    let reply = only_read.get("/");
    assert_eq!((reply.status, reply.header("set-cookie")), (503, None), "unknown is not absent");
}

#[test]
fn the_level_of_the_log_follows_too() {
    let access = format!("{EXPLAIN}log.access = true\n");
    let running = Running::with(&access);
    for (level, path) in [("info", "/one"), ("warn", "/two"), ("info", "/three")] {
        running.write(&format!("{access}log.level = \"{level}\""));
        running.hang_up(APPLIED);
        running.browser().get(path);
    }
    until(|| running.child.log().contains("/three").then_some(()));
    assert!(running.child.log().contains("/one") && !running.child.log().contains("/two"));
}

/// The secret that signed the last request, of some.
fn signed_by<'a>(backend: &Backend, secrets: &[&'a str]) -> Option<&'a str> {
    let seen = backend.last();
    let signature = seen.header("x-session-signature")?;
    let [_, time, tag] = signature.split(',').collect::<Vec<_>>()[..] else { panic!("{signature}") };
    let id = seen.header("x-session-id").unwrap_or_default();
    let text = format!("{time}\n{}\n{}\n{id}\n{}", seen.method, seen.target, seen.data());
    let tag = data_encoding::HEXLOWER.decode(tag.as_bytes()).expect("hex");
    let fits = |secret: &&&str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, text.as_bytes(), &tag).is_ok()
    };
    secrets.iter().find(fits).copied()
}

#[test]
fn a_program_without_a_file_of_settings_reads_the_files_that_they_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, "one").expect("it is written");
    let backend = Backend::obedient();
    let first =
        format!("export COATROOM__HEADERS__SECRET_FILE={} COATROOM__RELOAD__INTERVAL=0", file.display());
    let child = Child::limited(&format!("http://{}", backend.address), &[], &first);
    let signed = || {
        assert_eq!(Browser::new(child.address).get("/").status, 200);
        signed_by(&backend, &["one", "two"])
    };
    assert_eq!(signed(), Some("one"));
    fs::write(&file, "two\n").expect("it is written");
    assert_eq!(signed(), Some("one"), "nobody has asked to read it");
    child.signal("HUP");
    until(|| (child.metric(APPLIED) == 1).then_some(()));
    assert_eq!(signed(), Some("two"));
    let told = "\"changed\":\"headers.secret_file\"";
    until(|| child.log().contains(told).then_some(()));
    assert!(child.log().contains("there is no --config"), "{}", child.log());
}

#[test]
fn what_overrides_the_file_still_does() {
    let first = "export COATROOM__COOKIE__NAME=fixed";
    let running = Running::after(first, Backend::obedient(), EXPLAIN);
    running.write(&format!(
        "{EXPLAIN}cookie = {{ name = 'other', age = 1000 }}\nproxy.backend = 'http://127.0.0.1:9'"
    ));
    running.hang_up(APPLIED);
    let reply = running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]);
    let cookie = reply.header("set-cookie").expect("a session");
    assert!(cookie.starts_with("fixed=") && cookie.contains("Max-Age=1000"), "{cookie}");
    running.tells("\"changed\":\"cookie.age\"");
    assert!(!running.child.log().contains("restart"), "{}", running.child.log());
}

#[test]
fn what_has_been_told_of_is_not_told_of_again_but_when_asked() {
    // So large that what is read of it can't be taken for anything else.
    let large = format!("reload.interval = '5ms'\n# {}\n", "-".repeat(100_000));
    let counts = |running: &Running| (running.child.metric(APPLIED), running.child.metric(FAILED));
    let running = Running::with(&large);
    running.looks(large.len());
    assert_eq!(counts(&running), (0, 0));
    running.write(&format!("{large}cookie.nme = 'one'"));
    running.until(FAILED, 1);
    running.looks(large.len());
    assert_eq!(counts(&running), (0, 1));
    running.hang_up(FAILED);
    running.looks(large.len());
    assert_eq!(counts(&running), (0, 2));
    running.write(&format!("{large}cookie.name = 'one'"));
    running.until(APPLIED, 1);
    running.looks(large.len());
    assert_eq!(counts(&running), (1, 2));
    assert_eq!(running.child.log().matches("cookie.nme").count(), 2);
}

#[test]
fn a_file_that_is_being_written_is_not_read_before_it_is_whole() {
    let settings =
        |age: u32| format!("reload.interval = '5ms'\n# {}\ncookie.age = {age}", "-".repeat(100_000));
    let running = Running::with(&settings(1_000_000));
    // Always of the same length, so that it is never empty in between.
    let mut file =
        fs::OpenOptions::new().write(true).open(running.path("coatroom.toml")).expect("it is there");
    let mut age = 1_000_000;
    // If the machine stands still for as long as the program waits, the test writes too slowly to say anything.
    let said = (0..10).any(|_| {
        let done = AtomicBool::new(false);
        let applied = running.child.metric(APPLIED);
        let longest = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut longest, mut watch) = (Duration::ZERO, Stopwatch::start());
                while !done.load(Relaxed) {
                    age += 1;
                    file.rewind().expect("it is a file");
                    file.write_all(settings(age).as_bytes()).expect("it is written");
                    longest = longest.max(watch.elapsed());
                    watch = Stopwatch::start();
                }
                longest
            });
            running.looks(100_000);
            let early = running.child.metric(APPLIED) - applied;
            done.store(true, Relaxed);
            let longest = writer.join().expect("it writes");
            assert!(early == 0 || longest > Duration::from_millis(150), "{longest:?}");
            longest
        });
        longest < Duration::from_millis(150)
    });
    assert!(said, "the machine stands still");
    let whole = format!("Max-Age={age};");
    until(|| {
        let reply = running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]);
        reply.header("set-cookie").expect("a session").contains(&whole).then_some(())
    });
    assert_eq!(running.child.metric(FAILED), 0);
}

/// A ConfigMap and a Secret are swapped at times of their own.
#[test]
fn a_file_that_comes_after_the_settings_that_name_it_is_found() {
    let base = "reload.interval = '20ms'\n";
    let running = Running::with(base);
    let file = running.path("keys");
    running.write(&format!("{base}cookie.keys_file = '{}'", file.display()));
    running.until(FAILED, 1);
    fs::write(&file, "no key").expect("it is written");
    running.until(FAILED, 2);
    fs::write(&file, key('a')).expect("it is written");
    running.until(APPLIED, 1);
    let reply = running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]);
    assert!(reply.header("set-cookie").is_some_and(|cookie| cookie.contains('.')), "{reply:?}");
    running.tells("\"changed\":\"cookie.keys_file\"");
}

#[test]
fn a_request_under_way_goes_on_by_what_it_began_with() {
    let (backend, gate) = Backend::slow();
    let running = Running::before(backend, EXPLAIN);
    thread::scope(|scope| {
        let ask = || running.browser().ask_at("/slow", &[("X-Session-Set", "{\"a\":1}")]);
        let begun = scope.spawn(ask);
        gate.wait();
        let other = "cookie.name = 'other'\nheaders.prefix = 'X-Other-'\nheaders.on_refused = 'ignore'";
        running.write(&format!("{EXPLAIN}{other}"));
        running.hang_up(APPLIED);
        gate.open();
        let reply = begun.join().expect("it is answered");
        assert_eq!(reply.row(), "create");
        assert!(reply.header("set-cookie").expect("a session").starts_with("sessionid="), "{reply:?}");
    });
    let reply = running.browser().ask(&[("X-Other-Set", "{\"a\":1}")]);
    assert!(reply.header("set-cookie").expect("a session").starts_with("other="), "{reply:?}");
    let seen = running.backend.last();
    assert_eq!((seen.header("x-other-data"), seen.header("x-session-data")), (Some("{}"), None));
}

#[test]
fn what_is_seldom_meant_is_warned_of_when_it_is_new() {
    let warning = "store.unsealed is";
    let running = Running::with(EXPLAIN);
    let settings = format!("{EXPLAIN}store.encryption_keys = ['{}']\nstore.unsealed = 'write'", key('a'));
    running.write(&settings);
    running.hang_up(APPLIED);
    running.tells(warning);
    running.write(&format!("{settings}\ncookie.age = 1000"));
    running.hang_up(APPLIED);
    running.tells("\"changed\":\"cookie.age\"");
    assert_eq!(running.child.log().matches(warning).count(), 1);
}

/// Settings from a pipe hold the program up at its very beginning, for as long as the test likes.
#[test]
fn sighup_is_not_the_end_before_the_settings_are_read_and_a_pipe_is_not_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pipe, pid) = (folder.path().join("pipe"), folder.path().join("pid"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let backend = Backend::obedient();
    let first = format!("echo $$ > {}", pid.display());
    let flags = ["--config", pipe.to_str().expect("UTF-8")];
    let child = thread::scope(|scope| {
        scope.spawn(|| {
            let mut pipe = fs::OpenOptions::new().write(true).open(&pipe).expect("it is being read");
            let pid = fs::read_to_string(&pid).expect("written before");
            let sent = Command::new("kill").args(["-s", "HUP", pid.trim()]).status().expect("kill runs");
            assert!(sent.success());
            pipe.write_all(b"cookie.name = 'one'").expect("it is read");
        });
        Child::limited(&format!("http://{}", backend.address), &flags, &first)
    });
    until(|| (child.metric(FAILED) == 1).then_some(()));
    until(|| child.log().contains("is a pipe or a device").then_some(()));
    let reply = Browser::new(child.address).ask(&[("X-Session-Set", "{\"a\":1}")]);
    assert!(reply.header("set-cookie").expect("a session").starts_with("one="), "{reply:?}");
}
