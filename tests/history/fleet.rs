//! Two sidecars before one backend, on one medium; where that is a server, behind a relay.

use std::net::SocketAddr;
use std::time::Duration;

use super::relay::Relay;
use super::wire;
use crate::support::Program;

/// `store.timeout` and `store.commit_timeout`, and what a request may take besides.
pub const BUDGET: Duration = Duration::from_millis(250 + 1000 + 50);

/// What sidecars share, and what a fault befalls.
pub trait Medium: Send + Sync + 'static {
    /// A replica of it may take over.
    const TAKES_OVER: bool = false;

    /// Where it listens, if it does.
    fn address(&self) -> Option<SocketAddr>;

    /// `store.url` of a sidecar that reaches it at this address.
    fn url(&self, address: Option<SocketAddr>) -> String;

    /// Settings besides, as variables, of the sidecar of this number; the first reaches what listens behind a relay,
    /// which may be at this address.
    fn settings(&self, _sidecar: usize, _address: Option<SocketAddr>) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

pub struct Fleet<M> {
    pub medium: M,
    /// Before a medium that listens.
    pub relay: Option<Relay>,
    pub sidecars: Vec<Program>,
}

impl<M: Medium> Fleet<M> {
    /// Starts everything; `settings` are variables of the sidecars' environment.
    pub async fn start(medium: M, settings: &[(&str, &str)]) -> Self {
        let relay = match medium.address() {
            Some(address) => Some(Relay::to(address).await),
            None => None,
        };
        let address = relay.as_ref().map(|relay| relay.address);
        let url = medium.url(address);
        let backend = wire::backend().await;
        let start = |n| {
            let own = medium.settings(n, address);
            let own = own.iter().map(|(name, value)| (*name, value.as_str()));
            let explain = [("COATROOM__HEADERS__EXPLAIN", "true")].into_iter();
            let all: Vec<_> = explain.chain(own).chain(settings.iter().copied()).collect();
            Program::sidecar(backend, &["--store", &url], &all)
        };
        let sidecars = (0..2).map(start).collect();
        Self { medium, relay, sidecars }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sidecars.iter().map(|sidecar| sidecar.address).collect()
    }

    /// The relay of a medium that listens.
    pub const fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("it listens")
    }
}
