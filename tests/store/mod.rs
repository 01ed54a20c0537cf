//! What keeps sessions, held to its word: one suite a trait, one macro line an engine.
#![cfg(test)]

mod access;
mod costs;
mod engine;
mod faults;
mod lane;
mod memory;
mod races;
mod redis;
mod sealed;
mod spy;
#[allow(clippy::module_inception, reason = "the suite of the trait is named after it, as `engine` is")]
mod store;
mod support;
