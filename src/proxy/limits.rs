//! How large and how many things may be.

use super::crowd::Crowd;
use super::room::Room;

/// What the settings allow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proxy.max_head_bytes`.
    pub head_bytes: usize,
    /// `proxy.max_headers`.
    pub headers: usize,
    /// `proxy.max_body_bytes`; [`u64::MAX`] where there is no limit.
    pub body_bytes: u64,
    /// `proxy.max_connections`.
    pub connections: usize,
    /// `proxy.max_requests`.
    pub requests: usize,
    /// `proxy.max_backend_connections`.
    pub backend_connections: usize,
    /// `proxy.max_tunnels`.
    pub tunnels: usize,
}

impl Limits {
    /// What the settings say.
    pub fn of(config: &super::Config) -> Self {
        Self {
            head_bytes: config.max_head_bytes,
            headers: config.max_headers,
            body_bytes: if config.max_body_bytes == 0 { u64::MAX } else { config.max_body_bytes },
            connections: config.max_connections,
            requests: config.max_requests,
            backend_connections: config.max_backend_connections,
            tunnels: config.max_tunnels,
        }
    }
}

/// The places that all workers share.
#[derive(Clone, Default)]
pub struct Rooms {
    /// Clients' connections, tunnels too.
    pub clients: Room,
    /// Those connections, but no tunnels.
    pub crowd: Crowd,
    /// Connections to the backend, tunnels too.
    pub backend: Room,
    /// Tunnels that are open, and those that a backend is being asked for.
    pub tunnels: Room,
}
