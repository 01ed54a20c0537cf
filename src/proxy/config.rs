//! The settings of the sockets on both sides.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::time::Length;
use crate::wire::forwarded::{Forwarded, Network};

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
    pub trusted: Vec<Network>,
    /// Which headers tell the backend about the client.
    pub forwarded: Forwarded,
    /// Our name in `Via`; empty = no `Via`.
    pub via: String,
    /// What a connection to the backend may take to come about.
    pub connect_timeout: Length,
    /// What the backend may take from the end of the request to the head of its response.
    pub head_timeout: Length,
    /// What a client may take to send the head of a request, from its first byte.
    pub header_timeout: Length,
    /// What a client may take to begin a request, its first one or the next.
    pub idle_timeout: Length,
    /// What a client may take to send more of a request's body, or to take more of a response that waits for it.
    pub body_timeout: Length,
    /// Bytes a second that a body must move at while its client is waited for, over `body_timeout`; 0 = any.
    pub min_body_rate: u64,
    /// Bytes that the head of a request may have, from its first byte to the empty line at its end.
    pub max_head_bytes: usize,
    /// Lines that the head of a request, or the trailers of its body, may have.
    pub max_headers: usize,
    /// Bytes that the body of a request may have; 0 = any.
    pub max_body_bytes: u64,
    /// Connections with clients, tunnels too, in the whole process; the one idle for longest goes for one more.
    pub max_connections: usize,
    /// Requests under way, to the end of their responses, in the whole process.
    pub max_requests: usize,
    /// Connections to the backend, unused ones and tunnels too, in the whole process.
    pub max_backend_connections: usize,
    /// How long an unused connection to the backend is kept.
    pub backend_idle_timeout: Length,
    /// How long a connection to the backend is used, from when it came about: a new one asks anew where the name of
    /// `backend` is; 0 = any time.
    pub backend_max_age: Length,
    /// Tunnels (upgraded connections, such as WebSockets) at most; a request for one more gets 503.
    pub max_tunnels: usize,
    /// How long a tunnel is kept that no byte passes through, either way.
    pub tunnel_idle_timeout: Length,
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
            header_timeout: Length::secs(10),
            idle_timeout: Length::secs(75),
            body_timeout: Length::secs(30),
            min_body_rate: 240,
            max_head_bytes: 64 * 1024,
            max_headers: 128,
            max_body_bytes: 0,
            max_connections: 1024,
            max_requests: 512,
            max_backend_connections: 1024,
            backend_idle_timeout: Length::secs(55),
            backend_max_age: Length::secs(300),
            max_tunnels: 512,
            tunnel_idle_timeout: Length::secs(3600),
            drain_delay: Length::secs(0),
            drain_timeout: Length::secs(25),
        }
    }
}
