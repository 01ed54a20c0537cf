//! `coatroom clear-expired`.

use std::time::Duration;

use super::{coatroom, stderr, stdout};
use crate::support::{Backend, Child, Redis, Sidecar, child::until};

#[test]
fn expired_sessions_are_cleared_and_counted_and_live_ones_stay() {
    let parent = tempfile::tempdir().expect("a folder");
    let url = format!("file://{}/sessions", parent.path().display());
    let backend = Backend::obedient();
    let sidecar = Sidecar::keeping(&url, backend.address, |config| {
        config.session.keep_expired = coatroom::time::Length::secs(3600);
        config.session.ended_memory = coatroom::time::Length::secs(1);
        config.session.grace = coatroom::time::Length::secs(0);
        // A slow disk is no reason to refuse.
        config.store.commit_timeout = coatroom::time::Length::secs(60);
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
    let output = coatroom(&["clear-expired", "--store", "file:///proc/sessions"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("coatroom: store.url: /proc/sessions can't be made: "),
        "{}",
        stderr(&output)
    );
    let output = coatroom(&["clear-expired", "--store", "memory:"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("lies in the sidecar's own process"), "{}", stderr(&output));
    let output = coatroom(&["clear-expired", "--older-than", "soon"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

/// Sidecars do it by themselves, and say so.
#[test]
fn a_sidecar_clears_in_the_background_and_logs_it() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("sessions");
    let url = format!("file://{}", folder.display());
    let backend = Backend::obedient();
    let settings = "store.clear_interval = '100ms'\nstore.clear_batch = 7\nstore.clear_pause = '1ms'\n";
    let file = super::file(settings);
    let flags = ["--store", &url, "--config", super::path(&file)];
    let child = Child::before(&format!("http://{}", backend.address), &flags);
    for _ in 0..20 {
        let mut browser = crate::support::Browser::new(child.address);
        browser.ask(&[("X-Session-Set", "{\"a\":1}"), ("X-Session-Expiry", "1")]);
        assert!(browser.token().is_some());
    }
    until(|| (child.metric("coatroom_session_expiries_total") == 20).then_some(()));
    until(|| child.log().contains("expired sessions were cleared").then_some(()));
}
