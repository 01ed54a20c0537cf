//! The door for visitors.

pub mod routes;

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::time::Length;
use crate::wire::forwarded::Forwarded;

/// `[proxy]`: the sockets on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The application: `http://host:port` or `unix:/path`.
    pub backend: String,
    /// Threads that serve; 0 = the number of cores, at most 4.
    pub workers: usize,
    /// Peers whose `Forwarded`, `X-Forwarded-*` and `X-Request-Id` are believed: addresses or networks.
    pub trusted: Vec<IpNet>,
    /// Which headers tell the backend about the client.
    pub forwarded: Forwarded,
    /// Our name in `Via`; empty = no `Via`.
    pub via: String,
    /// What a connection to the backend may take to come about.
    pub connect_timeout: Length,
    /// What the backend may take from the end of the request to the head of its response.
    pub head_timeout: Length,
    /// What a client may take to send the head of a request, and to begin its next one.
    pub client_timeout: Length,
    /// How long an unused connection to the backend is kept.
    pub backend_idle_timeout: Length,
    /// After SIGTERM: how long new connections are still accepted.
    pub drain_delay: Length,
    /// After that: what requests and tunnels in flight may take to finish.
    pub drain_timeout: Length,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            backend: "http://127.0.0.1:8000".to_owned(),
            workers: 0,
            trusted: Vec::new(),
            forwarded: Forwarded::Both,
            via: "coatroom".to_owned(),
            connect_timeout: Length::secs(5),
            head_timeout: Length::secs(60),
            client_timeout: Length::secs(75),
            backend_idle_timeout: Length::secs(55),
            drain_delay: Length::secs(0),
            drain_timeout: Length::secs(25),
        }
    }
}
