//! What befalls a master that Sentinels watch.

use std::net::SocketAddr;

use tokio::task::block_in_place;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::workload::Round;
use crate::support::Watched;
use crate::support::child::until;

impl Medium for Watched {
    const TAKES_OVER: bool = true;

    /// There are several, and a relay has one.
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn url(&self, _: Option<SocketAddr>) -> String {
        Self::url(self)
    }

    /// What the master has acknowledged is to survive it.
    fn settings(&self, _: usize, _: Option<SocketAddr>) -> Vec<(&'static str, String)> {
        vec![("COATROOM__STORE__WAIT_REPLICAS", "1".to_owned())]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The master is killed; another one takes over.
    Killed,
}

impl faults::Fault for Fault {
    type Medium = Watched;

    fn medium() -> Watched {
        Watched::start()
    }

    fn name(self) -> String {
        "Redis, Sentinel, wait_replicas = 1: kill -9 of the master".to_owned()
    }

    fn effect(self) -> Effect {
        Effect::Some
    }

    async fn hurt(self, _: Pace, fleet: &mut Fleet<Watched>, _: &Round) {
        block_in_place(|| {
            let watched = &mut fleet.medium;
            // In a long round it is not the first one.
            for dead in watched.servers.iter_mut().filter(|server| !server.pings()) {
                dead.restart();
                until(|| dead.replicates("link_status:up").then_some(()));
            }
            let old = watched.master();
            watched.servers[old].kill();
            let new = watched.master();
            // Writes wait for a replica, which follows the new master once the Sentinels have told it to.
            let master = &watched.servers[new];
            until(|| master.replicates("state=online").then_some(()));
        });
    }
}

rounds! {
    nothing_is_lost_when_the_master_is_killed_and_a_replica_takes_over Fault::Killed,
}
