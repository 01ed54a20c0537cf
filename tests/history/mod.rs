//! Whole fleets through outages: two sidecars, many clients, a real server that is made ill, and a judge.
//!
//! `tests/run` does a short round of each fault; `tests/run --long` a million acknowledged requests, and writes what
//! came of them to `long.md` beside this file.

mod cached;
mod cluster;
mod faults;
mod file;
mod fleet;
mod judge;
mod mariadb;
mod memcached;
mod postgres;
mod redis;
mod relay;
mod sentinel;
mod sqlite;
mod talk;
mod tally;
mod wire;
mod workload;
