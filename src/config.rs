//! The configuration.
use serde::{Deserialize, Serialize};
/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// x
    pub proxy: crate::proxy::Config,
    /// x
    pub cookie: crate::wire::cookie::Config,
    /// x
    pub session: crate::session::Config,
    /// x
    pub headers: crate::wire::Config,
    /// x
    pub store: crate::store::Config,
    /// x
    pub routes: Vec<crate::proxy::routes::Config>,
    /// x
    pub telemetry: crate::telemetry::Config,
    /// x
    pub log: crate::telemetry::logging::Config,
}
