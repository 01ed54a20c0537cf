//! One binary for all integration tests: quicker to link, and they share what they stand on.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests"
)]

mod cli;
mod docs;
mod fuzz;
mod history;
mod journey;
mod proxy;
mod security;
mod store;
mod suites;
mod support;
