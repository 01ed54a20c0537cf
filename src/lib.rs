//! Coatroom gives any HTTP application server-side sessions. The coat stays here; the visitor holds a ticket.
//!
//! It stands as a sidecar in front of one backend, which may be written in anything: it takes the token out of the
//! session cookie, loads the session from a store, injects its data as request headers, forwards, applies the
//! directives that the backend put into response headers, saves, and sets the cookie. Its semantics are those of
//! Django's session framework.
//!
//! # The life of a request
//! ```text
//! client ──► listen ──► strip what is spoofed ──► take the token ──► load ──► inject ──► backend
//! client ◄── set the cookie ◄── save, acknowledged ◄── plan ◄── take the directives ◄── backend
//! ```
//! [`proxy::Proxy::exchange`] is that picture as code. From the moment the head has gone to the backend an exchange
//! runs to the end of its commit, even if the client hangs up.
//!
//! # The layers
//! `session` decides · `store` keeps · `wire` speaks headers and cookies · `manager` joins deciding to keeping ·
//! `proxy` is the door · `app` wires · `cli` starts. Who may import whom is a test, `tests/layers.rs`.
//!
//! # In reading order
//! 1. [`session`]: what a session is; [`session::plan()`] is the decision table.
//! 2. [`store`]: [`store::engine::Engine`], a shelf of bytes; [`store::keyed`], the compare-and-swap loop over any.
//! 3. [`wire`]: which headers are ours, what they say, what a cookie looks like.
//! 4. [`manager`]: load and commit.
//! 5. [`proxy`]: connections, the spine, errors.
//! 6. [`app`]: a [`config::Config`] becomes a running program.
//!
//! # The promises
//! - **No lost update**: a response's directives are operations on what stands in the store, not a new blob.
//! - **No resurrected logout**: a change to a session that was ended meanwhile is dropped.
//! - **No spoofed header**: no spelling of one of ours passes from a client to the backend, or back.
//! - **No saved change that was not saved**: the store has acknowledged before the client gets the first byte.
//!
//! The first two need something that compares: [`store::cookie`], where the client keeps its session, can't make them.

pub mod app;
pub mod cli;
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
