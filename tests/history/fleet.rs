//! Two sidecars before one backend, on one Redis behind a relay.

use std::net::SocketAddr;
use std::process::Command;
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
    let binary =
        std::env::var("COATROOM_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_coatroom").to_owned());
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--telemetry-listen", "127.0.0.1:0"]);
    command.args([
        "--backend",
        &format!("http://{backend}"),
        "--store",
        &format!("redis://{}", relay.address),
    ]);
    command.env("COATROOM__HEADERS__EXPLAIN", "true").envs(settings.iter().copied());
    Program::start(&mut command, "\"address\":\"")
}
