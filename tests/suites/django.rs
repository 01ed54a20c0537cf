//! Django with its sessions in SQLite behind a Redis (`cached_db`), and a sidecar with its sessions in the same two:
//! what each of them reads once a cache is back that did not hear of a change.
//!
//! Django writes the database, and goes on where the cache won't be written. So the change is acknowledged, and what was
//! before it is read for as long as the cache keeps it, two weeks.

use std::path::Path;
use std::process::Command;

use super::{installed, ours};
use crate::support::child::until;
use crate::support::{Backend, Browser, Program, Redis};

/// What is wrong with a cache while it is written past.
#[derive(Clone, Copy, Debug)]
enum Illness {
    /// It answers, and takes no writes: a master that has become a replica.
    Refuses,
    /// Nobody is there; it comes back with what it had.
    Away,
}

impl Illness {
    fn begin(self, cache: &mut Redis) {
        match self {
            // Of nobody who is there.
            Self::Refuses => cache.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]),
            Self::Away => cache.kill(),
        }
    }

    fn end(self, cache: &mut Redis) {
        match self {
            Self::Refuses => cache.ask::<()>(&["REPLICAOF", "NO", "ONE"]),
            Self::Away => {
                cache.restart();
                until(|| cache.pings().then_some(()));
            }
        }
    }
}

/// What whoever shows a session's cookie is shown: before, and after a change and a logout that a cache did not hear of.
#[derive(Debug, PartialEq)]
struct Story {
    /// The status of the change, and the role that is read then; `None` where nobody is logged in.
    change: (u16, Option<String>),
    /// The same of the logout.
    logout: (u16, Option<String>),
}

impl Story {
    fn new(change: (u16, Option<&str>), logout: (u16, Option<&str>)) -> Self {
        let owned = |(status, role): (u16, Option<&str>)| (status, role.map(str::to_owned));
        Self { change: owned(change), logout: owned(logout) }
    }
}

/// Whom the story is told of: how a role is set and read, and how one logs out.
trait Site {
    fn browser(&self) -> Browser;
    fn set(&self, browser: &mut Browser, role: &str) -> u16;
    fn role(&self, browser: &mut Browser) -> Option<String>;
    fn logout(&self, browser: &mut Browser) -> u16;
}

fn tell(site: &impl Site, cache: &mut Redis, illness: Illness) -> Story {
    let mut browser = site.browser();
    assert_eq!(site.set(&mut browser, "admin"), 200);
    // It is in the cache from now on.
    assert_eq!(site.role(&mut browser).as_deref(), Some("admin"));
    illness.begin(cache);
    let changed = site.set(&mut browser, "user");
    illness.end(cache);
    let change = (changed, site.role(&mut browser));

    let mut browser = site.browser();
    assert_eq!(site.set(&mut browser, "admin"), 200);
    assert_eq!(site.role(&mut browser).as_deref(), Some("admin"));
    // Somebody else has the cookie too.
    let mut other = browser.clone();
    illness.begin(cache);
    let left = site.logout(&mut browser);
    illness.end(cache);
    Story { change, logout: (left, site.role(&mut other)) }
}

/// A cache that has on its disk what it acknowledges.
fn cache() -> Redis {
    Redis::durable()
}

struct Django(Program);

impl Django {
    fn start(folder: &Path, cache: &Redis, kind: &str) -> Self {
        let mut command = Command::new(installed("the Python package Django", "python/bin/python"));
        command.arg(ours("cached_db.py")).arg(folder.join("django.db")).args([&cache.url(), kind]);
        Self(Program::start(&mut command, "listening on "))
    }
}

impl Site for Django {
    fn browser(&self) -> Browser {
        self.0.browser()
    }

    fn set(&self, browser: &mut Browser, role: &str) -> u16 {
        browser.get(&format!("/set?role={role}")).status
    }

    fn role(&self, browser: &mut Browser) -> Option<String> {
        let shown: serde_json::Value = serde_json::from_str(&browser.get("/").text()).expect("JSON");
        shown["role"].as_str().map(str::to_owned)
    }

    fn logout(&self, browser: &mut Browser) -> u16 {
        browser.get("/logout").status
    }
}

struct Ours {
    sidecar: Program,
    backend: Backend,
}

impl Ours {
    fn start(folder: &Path, cache: &Redis) -> Self {
        let backend = Backend::obedient();
        let store = format!("sqlite://{}/ours.db", folder.display());
        let settings = [
            ("COATROOM__STORE__CACHE", &*cache.url()),
            ("COATROOM__STORE__CACHE_LEASE", "1"),
            // A change waits for the cache to forget, and the disk may be slow.
            ("COATROOM__STORE__COMMIT_TIMEOUT", "10"),
            ("COATROOM__STORE__TIMEOUT", "10"),
        ];
        let sidecar = Program::sidecar(backend.address, &["--store", &store], &settings);
        Self { sidecar, backend }
    }
}

impl Site for Ours {
    fn browser(&self) -> Browser {
        self.sidecar.browser()
    }

    fn set(&self, browser: &mut Browser, role: &str) -> u16 {
        browser.ask(&[("X-Session-Set", &format!("{{\"role\":\"{role}\"}}"))]).status
    }

    fn role(&self, browser: &mut Browser) -> Option<String> {
        assert_eq!(browser.get("/").status, 200);
        let data: serde_json::Value = serde_json::from_str(self.backend.last().data()).expect("JSON");
        data["role"].as_str().map(str::to_owned)
    }

    fn logout(&self, browser: &mut Browser) -> u16 {
        browser.ask(&[("X-Session-Flush", "true")]).status
    }
}

/// The row of the database is gone all the same; only the one who logged out is told that something went wrong.
#[test]
fn django_reads_what_a_cache_that_refused_a_change_had_before_it() {
    let (folder, mut cache) = (tempfile::tempdir().expect("a folder"), cache());
    let django = Django::start(folder.path(), &cache, "own");
    let story = tell(&django, &mut cache, Illness::Refuses);
    assert_eq!(story, Story::new((200, Some("admin")), (500, Some("admin"))));
}

/// A client of the cache that ignores errors, as those of memcached are often told to: the logout is acknowledged too.
#[test]
fn django_reads_what_a_cache_that_was_away_comes_back_with() {
    let (folder, mut cache) = (tempfile::tempdir().expect("a folder"), cache());
    let django = Django::start(folder.path(), &cache, "ignoring");
    let story = tell(&django, &mut cache, Illness::Away);
    assert_eq!(story, Story::new((200, Some("admin")), (200, Some("admin"))));
}

#[test]
fn a_sidecar_reads_what_was_acknowledged_whatever_its_cache_comes_back_with() {
    for illness in [Illness::Refuses, Illness::Away] {
        let (folder, mut cache) = (tempfile::tempdir().expect("a folder"), cache());
        let ours = Ours::start(folder.path(), &cache);
        let story = tell(&ours, &mut cache, illness);
        assert_eq!(story, Story::new((200, Some("user")), (200, None)), "{illness:?}");
    }
}
