//! Journeys of requests through a sidecar to a backend and back.

mod budget;
mod contract;
mod received;
mod stories;
