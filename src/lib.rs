//! Coatroom.
pub mod app;
pub mod config;
pub mod drain;
pub mod manager;
pub mod proxy;
pub mod secret;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod wire;
