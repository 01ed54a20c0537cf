//! Journeys of requests through a sidecar to a backend and back.

mod contract;
mod stories;
