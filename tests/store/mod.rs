//! What keeps sessions, held to its word: one suite a trait, one macro line an engine.
#![cfg(test)]

mod access;
mod cached;
mod cluster;
mod cookie;
mod costs;
mod engine;
mod faults;
mod file;
mod kill;
mod lane;
mod lease;
mod link;
mod memcached;
mod memory;
mod moving;
mod races;
mod redis;
mod replicas;
mod rollouts;
mod scan;
mod sealed;
mod sentinel;
mod served;
mod shaky;
mod spy;
mod sql;
#[allow(clippy::module_inception, reason = "the suite of the trait is named after it, as `engine` is")]
mod store;
mod support;
mod trips;
