//! Journeys of requests through a sidecar to a backend and back.

mod budget;
mod caching;
mod conditions;
mod contract;
mod decision;
mod directives;
mod expiry;
mod hangup;
mod received;
mod refusals;
mod stories;
mod touch;
