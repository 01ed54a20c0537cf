//! What the tests stand on: a sidecar in this process, a backend that does as it is told, a client to the byte.
//!
//! All of it on loopback and on ports of the system's choice; nothing waits for time to pass.

pub mod authority;
pub mod backend;
pub mod canary;
pub mod child;
pub mod client;
pub mod gate;
pub mod line;
pub mod process;
pub mod redis;
pub mod sidecar;
pub mod strict;

pub use authority::{Authority, Signed};
pub use backend::{Answer, Backend, Seen};
pub use child::Child;
pub use client::{Browser, Reply, send};
pub use line::{End, Line, Stage};
pub use process::Program;
pub use redis::Redis;
pub use sidecar::Sidecar;
