//! Journeys of requests through a sidecar to a backend and back.

mod budget;
mod caching;
mod conditions;
mod contract;
mod decision;
mod directives;
mod ended;
mod errors;
mod expiry;
mod following;
mod hangup;
mod ill;
mod log;
mod model;
mod outage;
mod page;
mod races;
mod received;
mod refusals;
mod reload;
mod routes;
mod scopes;
mod set_cookie;
mod stories;
mod touch;
