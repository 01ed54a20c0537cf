//! Settings that change while requests are served, in the program itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;

use crate::support::child::until;
use crate::support::{Backend, Browser, Child, Redis};

const APPLIED: &str = "coatroom_config_reloads_total{result=\"applied\"}";
const FAILED: &str = "coatroom_config_reloads_total{result=\"failed\"}";
const SUCCESSFUL: &str = "coatroom_config_last_reload_successful";
const EXPLAIN: &str = "headers.explain = true\nreload.interval = 0\n";

/// A program with a file of settings that can be written anew.
struct Running {
    folder: TempDir,
    backend: Backend,
    child: Child,
}

impl Running {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("coatroom.toml");
        fs::write(&file, text).expect("it is written");
        let backend = Backend::obedient();
        let flags = ["--config", file.to_str().expect("UTF-8")];
        let child = Child::before(&format!("http://{}", backend.address), &flags);
        Self { folder, backend, child }
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("coatroom.toml"), text).expect("it is written");
    }

    /// Asks it to read everything again, and waits until it has.
    fn hang_up(&self, series: &str) {
        let before = self.child.metric(series);
        self.child.signal("HUP");
        self.until(series, before + 1);
    }

    fn until(&self, series: &str, value: u64) {
        until(|| (self.child.metric(series) == value).then_some(()));
    }

    fn browser(&self) -> Browser {
        Browser::new(self.child.address)
    }
}

/// A key of its own for each letter.
fn key(letter: char) -> String {
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
        until(|| running.child.log().contains(told).then_some(()));
    }
    fs::remove_file(running.folder.path().join("coatroom.toml")).expect("it was there");
    running.hang_up(FAILED);
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
fn what_waits_for_a_restart_is_named_and_the_rest_is_in_force() {
    let running = Running::with(EXPLAIN);
    running.write(&format!("{EXPLAIN}store.max_sessions = 7\nproxy.head_timeout = 5\nsession.realm = \"x\"\ncookie.name = \"sid\""),
    );
    let mut browser = running.browser();
    browser.ask(&[("X-Session-Set", "{\"a\":1}")]);
    running.hang_up(APPLIED);
    let told = "wait for a restart: proxy.head_timeout, session.realm, store.max_sessions";
    until(|| running.child.log().contains(told).then_some(()));
    let reply = running.browser().ask(&[("X-Session-Set", "{\"a\":1}")]);
    assert!(reply.header("set-cookie").expect("a session").starts_with("sid="), "{reply:?}");
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

#[test]
fn a_program_without_a_file_survives_sighup() {
    let backend = Backend::obedient();
    let child = Child::before(&format!("http://{}", backend.address), &[]);
    child.signal("HUP");
    until(|| (child.metric(APPLIED) == 1).then_some(()));
    assert_eq!(Browser::new(child.address).get("/").status, 200);
}
