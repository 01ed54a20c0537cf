//! What befalls a folder of sessions.

use std::fs::{self, File};
use std::net::SocketAddr;

use rustix::fs::{FlockOperation, flock};
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::workload::Round;
use crate::support::Disk;

impl Medium for Disk {
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn url(&self, _: Option<SocketAddr>) -> String {
        format!("file://{}/sessions", self.path().display())
    }
}

/// What happens to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Full,
    Sealed,
    Locked,
}

impl faults::Fault for Fault {
    type Medium = Disk;

    fn medium() -> Disk {
        Disk::new(64 * 1024)
    }

    fn name(self) -> String {
        let what = match self {
            Self::None => "none",
            Self::Full => "a full disk",
            Self::Sealed => "a file system that becomes read-only",
            Self::Locked => "a process that is frozen for 5 s with all of its locks",
        };
        format!("files: {what}")
    }

    fn effect(self) -> Effect {
        if self == Self::None { Effect::None } else { Effect::Some }
    }

    async fn hurt(self, pace: Pace, fleet: &mut Fleet<Disk>, round: &Round) {
        let disk = &fleet.medium;
        match self {
            Self::None => {}
            Self::Full => {
                let filler = block_in_place(|| disk.fill());
                faults::suffer(2 * pace.calm, round).await;
                fs::remove_file(filler).expect("it is there");
            }
            Self::Sealed => {
                block_in_place(|| disk.seal(true));
                faults::suffer(2 * pace.calm, round).await;
                block_in_place(|| disk.seal(false));
            }
            Self::Locked => {
                let locks = block_in_place(|| locked(disk));
                sleep(pace.frozen).await;
                drop(locks);
            }
        }
    }
}

/// Every lock that there is, for as long as these live.
fn locked(disk: &Disk) -> Vec<File> {
    let shards = fs::read_dir(disk.path().join("sessions")).expect("a store");
    let open =
        |shard: std::io::Result<fs::DirEntry>| File::open(shard.expect("an entry").path().join(".lock"));
    let locks: Vec<_> = shards.filter_map(|shard| open(shard).ok()).collect();
    for lock in &locks {
        flock(lock, FlockOperation::LockExclusive).expect("nobody has it for long");
    }
    locks
}

rounds! {
    nothing_is_lost_where_nothing_happens Fault::None,
    nothing_is_lost_when_the_disk_is_full Fault::Full,
    nothing_is_lost_when_the_file_system_becomes_read_only Fault::Sealed,
    nothing_is_lost_when_somebody_keeps_every_lock Fault::Locked,
}
