//! What the tests stand on: a sidecar in this process, a backend that does as it is told, a client to the byte.
//!
//! All of it on loopback and on ports of the system's choice; nothing waits for time to pass.

pub mod authority;
pub mod backend;
pub mod canary;
pub mod child;
pub mod client;
pub mod cluster;
pub mod database;
pub mod disk;
pub mod gate;
pub mod guard;
pub mod line;
pub mod memcached;
pub mod process;
pub mod pulse;
pub mod puppet;
pub mod redis;
pub mod sentinel;
pub mod sidecar;
pub mod strict;

pub use authority::{Authority, Signed};
pub use backend::{Answer, Backend, Seen};
pub use child::Child;
pub use client::{Browser, Reply, send};
pub use cluster::Cluster;
pub use database::{Brand, Database};
pub use disk::Disk;
pub use line::{End, Line, Stage};
pub use memcached::Memcached;
pub use process::Program;
pub use pulse::Pulse;
pub use puppet::Puppet;
pub use redis::Redis;
pub use sentinel::Watched;
pub use sidecar::Sidecar;
