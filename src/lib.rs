//! Coatroom.
pub mod app;
pub mod cli;
pub mod config;
pub mod proxy;
pub mod secret;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod wire;
