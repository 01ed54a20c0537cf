//! What befalls a cluster.

use std::net::SocketAddr;

use tokio::task::block_in_place;

use super::faults::{self, Effect, Pace, rounds};
use super::fleet::{Fleet, Medium};
use super::workload::Round;
use crate::support::child::until;
use crate::support::{Cluster, Redis};

/// How often a slot goes from one master to another, and comes back.
const MOVES: usize = 4;
/// What all keys begin with where all sessions are to lie in one slot.
const TAG: &str = "{coat}:";

impl Medium for Cluster {
    const TAKES_OVER: bool = true;

    /// There are several, and a relay has one.
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn url(&self, _: Option<SocketAddr>) -> String {
        Self::url(self)
    }

    /// What a master has acknowledged is to survive it.
    fn settings(&self, _: usize, _: Option<SocketAddr>) -> Vec<(&'static str, String)> {
        vec![("COATROOM__STORE__WAIT_REPLICAS", "1".to_owned())]
    }
}

/// A master is killed; its replica takes over, and it comes back as a replica.
#[derive(Clone, Copy, Debug)]
struct Killed;

impl faults::Fault for Killed {
    type Medium = Cluster;

    fn medium() -> Cluster {
        Cluster::start()
    }

    fn name(self) -> String {
        "Redis Cluster, wait_replicas = 1: kill -9 of a master".to_owned()
    }

    fn effect(self) -> Effect {
        Effect::Some
    }

    async fn hurt(self, _: Pace, fleet: &mut Fleet<Cluster>, _: &Round) {
        let cluster = &mut fleet.medium;
        block_in_place(|| {
            let old = cluster.servers.iter().position(Redis::is_master).expect("one");
            let new = (old + 3) % 6;
            cluster.servers[old].kill();
            until(|| cluster.servers[new].is_master().then_some(()));
            // Writes wait for a replica, and it had one only.
            cluster.servers[old].restart();
            until(|| cluster.is_whole().then_some(()));
        });
    }
}

/// A cluster whose sessions all lie in one slot, so that each request meets one that is on its way.
struct Gathered(Cluster);

impl Medium for Gathered {
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn url(&self, _: Option<SocketAddr>) -> String {
        self.0.url()
    }

    fn settings(&self, _: usize, _: Option<SocketAddr>) -> Vec<(&'static str, String)> {
        vec![
            ("COATROOM__STORE__WAIT_REPLICAS", "1".to_owned()),
            ("COATROOM__STORE__KEY_PREFIX", TAG.to_owned()),
        ]
    }
}

/// The slot of all sessions goes from one master to another, and comes back. Whoever is sent on goes there, and no
/// client learns of it.
#[derive(Clone, Copy, Debug)]
struct Resharded;

impl faults::Fault for Resharded {
    type Medium = Gathered;

    /// Nobody takes a server that is kept waiting for one that is away.
    fn medium() -> Gathered {
        let options = ["--appendonly", "yes", "--appendfsync", "always", "--cluster-node-timeout", "60000"];
        Gathered(Cluster::with(&options))
    }

    fn name(self) -> String {
        "Redis Cluster, wait_replicas = 1: the slot of all sessions moved and moved back, four times"
            .to_owned()
    }

    fn effect(self) -> Effect {
        Effect::None
    }

    async fn hurt(self, _: Pace, fleet: &mut Fleet<Gathered>, _: &Round) {
        let cluster = &fleet.medium.0;
        block_in_place(|| {
            let slot: usize = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", TAG]);
            let home = slot * 3 / 16_384;
            let away = (home + 1) % 3;
            for n in 0..2 * MOVES {
                let (from, to) = if n % 2 == 0 { (home, away) } else { (away, home) };
                // Somebody is sent on while some of it has gone, when all has, and when it is there.
                let until_said = |code, before| until(|| (cluster.said(code) > before).then_some(()));
                let (asked, moved) = (cluster.said("ASK"), cluster.said("MOVED"));
                cluster.begin_to_move(slot, from, to);
                until_said("ASK", asked);
                cluster.migrate(slot, from, to);
                until_said("ASK", cluster.said("ASK"));
                cluster.settle(slot, from, to);
                until_said("MOVED", moved);
            }
        });
    }
}

rounds! {
    nothing_is_lost_when_a_master_of_a_cluster_is_killed Killed,
    nothing_is_lost_and_nobody_notices_when_slots_move Resharded,
}
