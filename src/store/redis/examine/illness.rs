//! A server that can't keep sessions: what is wrong with it, and what to do about it.

use super::URL;
use crate::store::redis::answer::Said;
use crate::store::redis::target::{Place, Target};
use crate::store::{Finding, Kind};

/// What a server means that won't do something.
pub(super) fn of(target: &Target, command: &str, said: &Said) -> Finding {
    let place = &target.place;
    let (what, remedy) = match (&*said.code, said.kind()) {
        ("MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT" | "TRYAGAIN", _) => return clustered(place),
        ("ERR", _) if said.detail.contains("not allowed in cluster mode") => return clustered(place),
        ("ERR", _) if said.detail.contains("unknown command") => {
            let what = format!("{place} has no command {command}");
            return Finding::problem(
                URL,
                what,
                "undo its rename-command, or take a Redis that has all commands",
            );
        }
        (_, Kind::ReadOnly) => return replica(place, None),
        (_, Kind::Loading) => return loading(place),
        (_, Kind::OutOfMemory) => ("has no room left", "raise maxmemory there, or remove what is not needed"),
        (_, Kind::Misconfigured) => {
            ("can't save to its disk, and so takes no writes", "make room there; see its log")
        }
        (_, Kind::Busy) => {
            ("is kept busy by a script", "run SCRIPT KILL there, and find out whose script it is")
        }
        ("NOREPLICAS", _) => {
            ("has fewer replicas than min-replicas-to-write", "see where they are (INFO replication)")
        }
        _ => {
            let what = format!("{place} won't {command}: {} {}", said.code, said.detail);
            return Finding::problem(URL, what.trim_end(), "take a Redis that does, 6.2 or newer");
        }
    };
    Finding::problem(URL, format!("{place} {what}"), remedy)
}

/// One of several that keep a part of the keys each.
pub(super) fn clustered(place: &Place) -> Finding {
    Finding::problem(URL, format!("{place} is part of a cluster"), "write redis+cluster://")
}

/// A server that copies another one.
pub(super) fn replica(place: &Place, master: Option<String>) -> Finding {
    let master = master.map_or_else(String::new, |master| format!(", {master}"));
    Finding::problem(
        URL,
        format!("{place} is a replica, and takes no writes"),
        format!("name its master{master}"),
    )
}

/// A server that others call a master still, or already.
pub(super) fn demoted(place: &Place) -> Finding {
    let what = format!("{place}, which others name as the master, is a replica");
    Finding::problem(URL, what, "wait until the failover is over, and try again")
}

/// A master that has fewer replicas than are to have each write.
pub(super) fn alone(place: &Place, reached: i64, wanted: usize) -> Finding {
    let what = format!(
        "is {wanted}, and what was written to {place} has reached {reached} replicas in half a second"
    );
    Finding::problem(
        "store.wait_replicas",
        what,
        "see where they are (INFO replication there), or make it smaller",
    )
}

/// A server that has just been started.
pub(super) fn loading(place: &Place) -> Finding {
    Finding::problem(
        URL,
        format!("{place} is reading its data from disk still"),
        "wait until it has, and try again",
    )
}

/// A server that doesn't know all that we use.
pub(super) fn old(place: &Place, version: &str) -> Finding {
    Finding::problem(URL, format!("{place} is a Redis {version}"), "take 6.2 or newer")
}
