//! What befalls a file of SQLite's.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::workload::Round;
use crate::support::Disk;

/// Holds the lock for writing until its input ends.
const HOLDER: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()
connection.execute('ROLLBACK')
";

/// Copies the log into the file, and gives its room away.
const EMPTIER: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
try:
    connection.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()
except sqlite3.OperationalError as error:
    print(error)
";

/// A file on a disk of its own, of a few MiB, so that it can become full.
struct Sqlite(Disk);

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.0.path().join("sessions.db")
    }
}

impl Medium for Sqlite {
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn url(&self, _: Option<SocketAddr>) -> String {
        format!("sqlite://{}", self.path().display())
    }
}

/// What happens to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Locked,
    Full,
}

impl faults::Fault for Fault {
    type Medium = Sqlite;

    const CLIENTS: usize = 16;

    fn medium() -> Sqlite {
        Sqlite(Disk::new(24 * 1024))
    }

    fn name(self) -> String {
        let what = match self {
            Self::None => "none",
            Self::Locked => "another process holds the lock for 5 s",
            Self::Full => "the disk is full",
        };
        format!("SQLite: {what}")
    }

    fn effect(self) -> Effect {
        match self {
            // Processes have no queue for the lock of the file: beside one that writes all the time another one's write
            // may come too late, and is refused.
            Self::None => Effect::Perhaps,
            _ => Effect::Some,
        }
    }

    async fn hurt(self, pace: Pace, fleet: &mut Fleet<Sqlite>, round: &Round) {
        let path = fleet.medium.path();
        match self {
            Self::None => {}
            Self::Locked => {
                let mut holder = block_in_place(|| hold(&path));
                sleep(pace.frozen).await;
                drop(holder.stdin.take());
                block_in_place(|| drop(holder.wait()));
            }
            Self::Full => {
                let filler = block_in_place(|| {
                    fleet.medium.0.fill();
                    // The log has room of its own, which it would use again.
                    empty_the_log(&path);
                    fleet.medium.0.fill()
                });
                faults::suffer(2 * pace.calm, round).await;
                fs::remove_file(filler).expect("it is there");
            }
        }
    }
}

/// Where that fails because there is no room, it is as full as can be.
fn empty_the_log(path: &Path) {
    let done = Command::new("python3").args(["-c", EMPTIER]).arg(path).status();
    assert!(done.expect("python3 runs; tests/run installs it").success());
}

fn hold(path: &Path) -> std::process::Child {
    let mut holder = Command::new("python3")
        .args(["-c", HOLDER])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs; tests/run installs it");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "held\n");
    holder
}

rounds! {
    nothing_is_lost_where_nothing_happens Fault::None,
    nothing_is_lost_when_another_process_holds_the_lock Fault::Locked,
    nothing_is_lost_when_the_disk_is_full Fault::Full,
}
