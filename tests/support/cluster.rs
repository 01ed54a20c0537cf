//! A Redis Cluster: three masters, and a replica of each.

use std::sync::OnceLock;

use super::authority::Authority;
use super::child::until;
use super::guard::Guard;
use super::redis::{Redis, bus};

/// So many masters, and as many replicas.
const MASTERS: usize = 3;
/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// A cluster, which ends with it.
pub struct Cluster {
    /// First those that were masters when all began, then the replica of each.
    pub servers: Vec<Redis>,
    /// What they call each other.
    pub names: Vec<String>,
}

impl Cluster {
    /// One whose servers have on disk what they have acknowledged, and miss each other after a second.
    pub fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always", "--cluster-node-timeout", "1000"])
    }

    /// One with other options for its servers.
    pub fn with(options: &[&str]) -> Self {
        Self::of(options, Redis::with)
    }

    /// One that speaks TLS, also among its servers, whom this authority has signed.
    pub fn tls(authority: &Authority) -> Self {
        Self::of(&["--tls-cluster", "yes"], |options| Redis::tls_among(authority, options))
    }

    fn of(options: &[&str], start: impl Fn(&[&str]) -> Redis) -> Self {
        let own = ["--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0"];
        let options = [&own[..], options].concat();
        let servers: Vec<_> = (0..2 * MASTERS).map(|_| start(&options)).collect();
        let names = servers.iter().map(|server| server.ask(&["CLUSTER", "MYID"])).collect();
        let cluster = Self { servers, names };
        for (n, server) in cluster.servers.iter().enumerate() {
            server.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            if n < MASTERS {
                let (first, last) = (n * SLOTS / MASTERS, (n + 1) * SLOTS / MASTERS - 1);
                let (first, last) = (first.to_string(), last.to_string());
                server.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
            let port = server.address.port();
            let (port, bus) = (port.to_string(), bus(port).to_string());
            cluster.servers[0].ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let nodes = |server: &Redis| server.ask::<String>(&["CLUSTER", "NODES"]);
        let met =
            |text: &str| cluster.names.iter().all(|name| text.contains(name)) && !text.contains("handshake");
        until(|| cluster.servers.iter().all(|server| met(&nodes(server))).then_some(()));
        for n in 0..MASTERS {
            cluster.servers[MASTERS + n].ask::<()>(&["CLUSTER", "REPLICATE", &cluster.names[n]]);
        }
        until(|| cluster.is_whole().then_some(()));
        cluster
    }

    /// Do all servers serve, each replica with all that its master has?
    pub fn is_whole(&self) -> bool {
        self.servers.iter().all(|server| {
            server.pings()
                && server.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
                && server.ask::<String>(&["CLUSTER", "NODES"]).matches("slave ").count() == MASTERS
                && (server.is_master() || server.replicates("master_link_status:up"))
        })
    }

    /// One for all tests that do it no harm; it ends with this program.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<(Cluster, Guard)> = OnceLock::new();
        let (cluster, _) = SHARED.get_or_init(|| {
            let cluster = Self::with(&["--cluster-node-timeout", "15000"]);
            let guard = Guard::over(cluster.servers.iter().map(|server| (server.id(), server.folder())));
            (cluster, guard)
        });
        cluster
    }

    /// Its URL, by one of the masters and one of the replicas.
    pub fn url(&self) -> String {
        let (master, replica) = (&self.servers[0], &self.servers[2 * MASTERS - 1]);
        format!("{}+cluster://{},{}", master.scheme(), master.place(), replica.place())
    }

    /// Says that a slot is on its way. What lies there stays so far.
    pub fn begin_to_move(&self, slot: usize, from: usize, to: usize) {
        self.set_slot(to, slot, &["IMPORTING", &self.names[from]]);
        self.set_slot(from, slot, &["MIGRATING", &self.names[to]]);
    }

    /// Moves what lies in a slot, as `redis-cli --cluster reshard` does.
    pub fn migrate(&self, slot: usize, from: usize, to: usize) {
        let mut source = self.servers[from].connect();
        let port = self.servers[to].address.port();
        loop {
            let mut look = redis::cmd("CLUSTER");
            let keys: Vec<Vec<u8>> =
                look.arg("GETKEYSINSLOT").arg(slot).arg(20).query(&mut source).expect("it answers");
            if keys.is_empty() {
                return;
            }
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(port).arg("").arg(0).arg(5000).arg("KEYS").arg(keys);
            migrate.exec(&mut source).expect("it moves");
        }
    }

    /// Says that a slot has arrived, to whom it came from last.
    pub fn settle(&self, slot: usize, from: usize, to: usize) {
        for server in [to, from] {
            self.set_slot(server, slot, &["NODE", &self.names[to]]);
        }
    }

    fn set_slot(&self, server: usize, slot: usize, words: &[&str]) {
        let slot = slot.to_string();
        self.servers[server].ask::<()>(&[&["CLUSTER", "SETSLOT", &slot], words].concat());
    }

    /// How often they have said this so far: `MOVED`, `ASK`.
    pub fn said(&self, code: &str) -> u64 {
        let count = |server: &Redis| {
            let stats: String = server.ask(&["INFO", "errorstats"]);
            let line = format!("errorstat_{code}:count=");
            stats.lines().find_map(|told| told.strip_prefix(&line)?.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.servers.iter().map(count).sum()
    }
}
