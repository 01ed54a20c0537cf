//! `coatroom clear-expired`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::{coatroom, stderr, stdout};
use crate::support::database::table;
use crate::support::{Backend, Brand, Child, Database, Redis, Sidecar, child::until};

#[test]
fn expired_sessions_are_cleared_and_counted_and_live_ones_stay() {
    let parent = tempfile::tempdir().expect("a folder");
    let url = format!("file://{}/sessions", parent.path().display());
    let backend = Backend::obedient();
    let sidecar = Sidecar::keeping(&url, backend.address, |config| {
        config.session.keep_expired = coatroom::time::Length::secs(3600);
        config.session.ended_memory = coatroom::time::Length::secs(1);
        config.session.grace = coatroom::time::Length::secs(0);
    });
    let begin = |expiry: &str| {
        let mut browser = sidecar.browser();
        assert_eq!(
            browser.ask(&[("X-Session-Set", "{\"a\":1}"), ("X-Session-Expiry", expiry)]).row(),
            "create"
        );
        browser
    };
    let mut stays = begin("3600");
    (0..250).for_each(|_| drop(begin("1")));
    assert_eq!(begin("3600").ask(&[("X-Session-Flush", "true")]).row(), "flush");
    std::thread::sleep(Duration::from_millis(1100));
    let run = |flags: &[&str]| {
        let batches = [("COATROOM__STORE__CLEAR_BATCH", "100")];
        let output = coatroom(&[&["clear-expired", "--store", &url], flags].concat(), &batches);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), "", "no terminal, no progress");
        stdout(&output)
    };
    let none = run(&["--older-than", "1 h"]);
    assert!(none.starts_with("expired sessions removed: 0; memories of ended ones: 0; time: "), "{none}");
    let all = run(&[]);
    assert!(all.starts_with("expired sessions removed: 250; memories of ended ones: 1; time: "), "{all}");
    stays.get("/");
    assert_eq!(backend.last().data(), "{\"a\":1}");
}

#[test]
fn a_store_that_needs_none_says_so_and_one_that_is_ill_what_ails_it() {
    let redis = Redis::start();
    let output = coatroom(&["clear-expired", "--store", &redis.url()], &[]);
    assert!(output.status.success() && stdout(&output).starts_with("nothing to do"), "{}", stdout(&output));
    let output = coatroom(&["clear-expired", "--store", "file:///proc/sys"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("coatroom: store.url: /proc/sys "), "{said}");
    let output = coatroom(&["clear-expired", "--store", "memory:"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("lies in the sidecar's own process"), "{}", stderr(&output));
    let output = coatroom(&["clear-expired", "--older-than", "soon"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

/// A wrong name is no empty store.
#[test]
fn a_store_that_is_not_there_is_told_and_not_made() {
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().display();
    fs::create_dir(parent.path().join("empty")).expect("made");
    fs::set_permissions(parent.path().join("empty"), fs::Permissions::from_mode(0o700)).expect("ours");
    let (database, table) = (Database::shared(Brand::Postgres), table());
    for (url, what) in [
        (format!("file://{path}/absent"), "/absent is no store of sessions"),
        (format!("file://{path}/empty"), "/empty is no store of sessions"),
        (format!("sqlite://{path}/absent.db"), "/absent.db: there is no such file"),
        (database.url(), "there is no table"),
    ] {
        let settings = [("COATROOM__STORE__TABLE", &*table)];
        let to = format!("file://{path}/new");
        for (arguments, named) in [
            (&["clear-expired", "--store", &url][..], "coatroom: store.url: "),
            (&["copy", "--from", &url, "--to", &to], "coatroom: --from: "),
        ] {
            let output = coatroom(arguments, &settings);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.starts_with(named) && said.contains(what), "{said}");
        }
    }
    let left: Vec<_> =
        fs::read_dir(parent.path()).expect("a folder").map(|one| one.expect("one").path()).collect();
    assert_eq!(left, [parent.path().join("empty")]);
    assert_eq!(fs::read_dir(&left[0]).expect("a folder").count(), 0);
    let tables = format!("SELECT table_name FROM information_schema.tables WHERE table_name = '{table}'");
    assert!(database.ask(&tables).is_empty());
}

const FAILED: &str = "coatroom_store_errors_total{kind=\"unreachable\",operation=\"clear_expired\"}";
const ROUNDS: &str = "coatroom_store_operation_duration_seconds_count{operation=\"clear_expired\"}";

/// A sidecar that clears a folder ten times a second.
struct Clearing {
    folder: std::path::PathBuf,
    child: Child,
    _kept: (Backend, tempfile::TempDir, tempfile::NamedTempFile),
}

impl Clearing {
    fn start() -> Self {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("sessions");
        let url = format!("file://{}", folder.display());
        let backend = Backend::obedient();
        // A slow disk is no reason to refuse.
        let settings = "store.clear_interval = '100ms'\nstore.clear_batch = 7\nstore.clear_pause = '1ms'\n\
                        store.commit_timeout = '20 s'\n";
        let file = super::file(settings);
        let flags = ["--store", &url, "--config", super::path(&file)];
        let child = Child::before(&format!("http://{}", backend.address), &flags);
        Self { folder, child, _kept: (backend, parent, file) }
    }

    /// So many sessions that are good for a second.
    fn begin_and_end(&self, sessions: usize) {
        for _ in 0..sessions {
            let mut browser = crate::support::Browser::new(self.child.address);
            browser.ask(&[("X-Session-Set", "{\"a\":1}"), ("X-Session-Expiry", "1")]);
            assert!(browser.token().is_some());
        }
    }

    fn until(&self, series: &str, value: u64) {
        until(|| (self.child.metric(series) == value).then_some(()));
    }
}

/// Sidecars do it by themselves, and say so.
#[test]
fn a_sidecar_clears_in_the_background_and_logs_it() {
    let clearing = Clearing::start();
    clearing.begin_and_end(20);
    clearing.until("coatroom_session_expiries_total", 20);
    until(|| clearing.child.log().contains("expired sessions were cleared").then_some(()));
    assert_eq!(clearing.child.metric(FAILED), 0);
}

/// Where a round fails it is tried again, by the same sidecar: its lease does not keep itself from it.
#[test]
fn clearing_that_fails_is_told_and_tried_again_and_what_it_did_counts() {
    let clearing = Clearing::start();
    // Its lease lies in a folder by then.
    until(|| (clearing.child.metric(ROUNDS) > 0).then_some(()));
    clearing.begin_and_end(20);
    let shard = (0_u8..=255)
        .map(|number| clearing.folder.join(format!("{number:02x}")))
        .find(|shard| !shard.exists())
        .expect("fewer sessions than folders");
    fs::write(&shard, "no folder").expect("written");
    until(|| (clearing.child.metric(FAILED) > 2).then_some(()));
    let log = clearing.child.log();
    assert!(log.contains("expired sessions can't be cleared: "), "{log}");
    clearing.until("coatroom_session_expiries_total", 20);
    fs::remove_file(&shard).expect("removed");
    until(|| {
        let failed = clearing.child.metric(FAILED);
        let rounds = clearing.child.metric(ROUNDS);
        until(|| (clearing.child.metric(ROUNDS) > rounds + 2).then_some(()));
        (clearing.child.metric(FAILED) == failed).then_some(())
    });
}
