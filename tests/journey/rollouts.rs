//! A fleet moves from a Redis to a PostgreSQL in three rollouts, while its visitors come and go.
//!
//! `tests/run --long` (`COATROOM_LONG`) does it with 100,000 sessions, and writes a table.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use coatroom::time::Stopwatch;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::NamedTempFile;

use crate::support::backend::Answer;
use crate::support::client::metric;
use crate::support::process::binary;
use crate::support::{Backend, Brand, Browser, Child, Database, Redis};

/// Browsers at a time.
const WORKERS: u64 = 8;
/// Of a hundred visits so many are a logout.
const LOGOUTS: u32 = 3;

/// Whether an answer comes in time is another test's affair.
const PATIENCE: &str = "store.timeout = 20\nstore.commit_timeout = 20\n";

/// What a sidecar knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    Old,
    OldAndNext,
    NewAndPrevious,
    New,
}

/// The fleet while one rollout follows the other, and the part of all visitors who come by then.
const STAGES: [([Knows; 2], f64); 7] = [
    ([Knows::Old, Knows::OldAndNext], 0.3),
    ([Knows::OldAndNext, Knows::OldAndNext], 0.3),
    ([Knows::OldAndNext, Knows::NewAndPrevious], 0.3),
    ([Knows::NewAndPrevious, Knows::NewAndPrevious], 0.3),
    // All are moved now, and visitors come.
    ([Knows::NewAndPrevious, Knows::NewAndPrevious], 0.3),
    ([Knows::NewAndPrevious, Knows::New], 0.3),
    ([Knows::New, Knows::New], 1.0),
];
/// The stage in which everything is moved.
const MOVED_IN: usize = 4;

/// Somebody with a session, and what is known of it.
struct Visitor {
    browser: Browser,
    /// Visits, each of which adds one to `n`.
    visits: u64,
    /// The token of before the logout.
    ended: Option<String>,
}

/// What was seen that must not be.
#[derive(Default)]
struct Faults {
    lost: u64,
    resurrected: u64,
    failed: u64,
}

impl Visitor {
    fn new() -> Self {
        Self { browser: Browser::new(SocketAddr::from(([127, 0, 0, 1], 0))), visits: 0, ended: None }
    }

    fn visit(&mut self, at: SocketAddr, logs_out: bool, faults: &mut Faults) {
        self.browser.go(at);
        if let Some(token) = &self.ended {
            // Somebody else kept the cookie.
            self.browser.jar.insert("sessionid".to_owned(), token.clone());
            let reply = self.browser.get("/look");
            match (reply.status, reply.header("saw")) {
                (200, Some("{}")) => {}
                (200, _) => faults.resurrected += 1,
                _ => faults.failed += 1,
            }
            return;
        }
        let before = self.browser.token().map(str::to_owned);
        let reply = self.browser.get(if logs_out { "/logout" } else { "/add" });
        let expected = if self.visits == 0 { "{}".to_owned() } else { format!("{{\"n\":{}}}", self.visits) };
        match (reply.status, reply.header("saw")) {
            (200, Some(saw)) => faults.lost += u64::from(saw != expected),
            _ => faults.failed += 1,
        }
        if logs_out {
            self.ended = before;
        } else {
            self.visits += 1;
        }
    }
}

/// The application: it adds one, or ends the session, and tells the browser what it has read.
fn application() -> Backend {
    Backend::forgetful(|seen| {
        let saw = ("Saw", seen.data());
        match &*seen.target {
            "/add" => Answer::with(&[("X-Session-Increment", r#"{"n":1}"#), saw]),
            "/logout" => Answer::with(&[("X-Session-Flush", "true"), saw]),
            _ => Answer::with(&[saw]),
        }
    })
}

/// Lets so many of the visitors come, at once and in any order.
fn visits(visitors: &mut [Visitor], at: [SocketAddr; 2], part: f64, seed: u64, logouts: u32) -> Faults {
    let share = visitors.len().div_ceil(usize::try_from(WORKERS).expect("few"));
    let all = thread::scope(|scope| {
        let workers: Vec<_> = visitors
            .chunks_mut(share)
            .enumerate()
            .map(|(n, mine)| {
                scope.spawn(move || {
                    let mut random = SmallRng::seed_from_u64(seed ^ n as u64);
                    let mut faults = Faults::default();
                    mine.shuffle(&mut random);
                    for visitor in mine {
                        if random.random_bool(part) {
                            let logs_out = random.random_range(0..100) < logouts && visitor.visits > 0;
                            visitor.visit(at[random.random_range(0..2)], logs_out, &mut faults);
                        }
                    }
                    faults
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
    });
    all.into_iter().fold(Faults::default(), |sum, faults| Faults {
        lost: sum.lost + faults.lost,
        resurrected: sum.resurrected + faults.resurrected,
        failed: sum.failed + faults.failed,
    })
}

#[test]
fn a_fleet_moves_to_another_store_and_loses_nobody() {
    let folder = env::var_os("COATROOM_LONG").map(PathBuf::from);
    let count = if folder.is_some() { 100_000 } else { 200 };
    let (redis, database) = (Redis::start(), Database::start(Brand::Postgres, &[]));
    let (old, new) = (redis.url(), database.url());
    let backend = application();
    let sidecar = |knows: Knows| {
        let (store, other) = match knows {
            Knows::Old => (&old, None),
            Knows::OldAndNext => (&old, Some(("store.next", &new))),
            Knows::NewAndPrevious => (&new, Some(("store.previous", &old))),
            Knows::New => (&new, None),
        };
        let other = other.map_or(String::new(), |(key, url)| format!("{key} = '{url}'\n"));
        let settings = NamedTempFile::new().expect("a file");
        fs::write(settings.path(), format!("{PATIENCE}store.url = '{store}'\n{other}")).expect("written");
        let file = settings.path().to_str().expect("text");
        Child::before(&format!("http://{}", backend.address), &["--config", file])
    };
    let mut visitors: Vec<_> = (0..count).map(|_| Visitor::new()).collect();
    let watch = Stopwatch::start();
    let first = [sidecar(Knows::Old), sidecar(Knows::Old)];
    let mut faults = visits(&mut visitors, first.each_ref().map(|one| one.address), 1.0, 1, 0);
    drop(first);
    let (mut moved_on_reading, mut report) = (0, String::new());
    for (n, (fleet, part)) in STAGES.into_iter().enumerate() {
        let fleet = fleet.map(sidecar);
        let at = fleet.each_ref().map(|one| one.address);
        let seed = 100 * n as u64;
        let more = thread::scope(|scope| {
            let moving = (n == MOVED_IN).then(|| scope.spawn(|| copy(&old, &new)));
            let more = visits(&mut visitors, at, part, seed, LOGOUTS);
            if let Some(moving) = moving {
                report = moving.join().expect("no panic");
            }
            more
        });
        faults.lost += more.lost;
        faults.resurrected += more.resurrected;
        faults.failed += more.failed;
        moved_on_reading +=
            fleet.iter().map(|one| metric(one.telemetry, "coatroom_sessions_moved_total")).sum::<u64>();
    }
    let took = watch.elapsed();
    let ended = visitors.iter().filter(|visitor| visitor.ended.is_some()).count();
    let Faults { lost, resurrected, failed } = faults;
    let row = format!(
        "| {count} | {} | {ended} | {moved_on_reading} | {} | {lost} | {resurrected} | {failed} | {} s |\n",
        visitors.iter().map(|visitor| visitor.visits).sum::<u64>(),
        report.trim(),
        took.as_secs(),
    );
    assert_eq!((lost, resurrected, failed), (0, 0, 0), "{row}");
    assert!(ended > 0 && moved_on_reading > 0, "{row}");
    assert!(report.starts_with("sessions moved: ") && !report.starts_with("sessions moved: 0"), "{report}");
    // What is left there are memories of ended ones, which end by themselves.
    let left: Vec<Vec<u8>> = redis.ask(&["KEYS", "*"]);
    assert!(left.len() <= ended + 1, "{} of {ended}", left.len());
    if let Some(folder) = folder {
        fs::write(folder.join("rollouts"), row).expect("the folder of tests/run");
    }
}

/// `coatroom copy --move`, and what it says.
fn copy(old: &str, new: &str) -> String {
    let mut command = Command::new(binary());
    command.args(["copy", "--from", old, "--to", new, "--move"]);
    command.envs([("COATROOM__STORE__TIMEOUT", "20"), ("COATROOM__STORE__COMMIT_TIMEOUT", "20")]);
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
