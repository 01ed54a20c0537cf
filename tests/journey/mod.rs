//! Journeys of requests through a sidecar to a backend and back.

mod budget;
mod conditions;
mod contract;
mod directives;
mod expiry;
mod received;
mod refusals;
mod stories;
