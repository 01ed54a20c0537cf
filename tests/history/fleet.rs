//! Two sidecars before one backend, on one Redis behind a relay.

use std::net::SocketAddr;
use std::time::Duration;

use super::relay::Relay;
use super::wire;
use crate::support::{Program, Redis};

/// `store.timeout` and `store.commit_timeout`, and what a request may take besides.
pub const BUDGET: Duration = Duration::from_millis(250 + 1000 + 50);

pub struct Fleet {
    pub redis: Redis,
    pub relay: Relay,
    pub sidecars: Vec<Program>,
}

impl Fleet {
    /// Starts everything; `settings` are variables of the sidecars' environment.
    pub async fn start(redis: Redis, settings: &[(&str, &str)]) -> Self {
        let relay = Relay::to(redis.address).await;
        let backend = wire::backend().await;
        let sidecars = (0..2).map(|_| sidecar(backend, &relay, settings)).collect();
        Self { redis, relay, sidecars }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sidecars.iter().map(|sidecar| sidecar.address).collect()
    }
}

fn sidecar(backend: SocketAddr, relay: &Relay, settings: &[(&str, &str)]) -> Program {
    let store = format!("redis://{}", relay.address);
    let settings = [&[("COATROOM__HEADERS__EXPLAIN", "true")], settings].concat();
    Program::sidecar(backend, &["--store", &store], &settings)
}
