//! Whole fleets through outages: two sidecars, many clients, a real Redis that is made ill, and a judge.
//!
//! `tests/run` does a short round of each fault; `tests/run --long` a million acknowledged requests, and writes what
//! came of them to `long.md` beside this file.

mod faults;
mod fleet;
mod judge;
mod relay;
mod talk;
mod wire;
mod workload;
