//! What travels in headers and cookies: vocabulary only, no sockets and no store.

pub mod caching;
pub mod chunks;
pub mod cookie;
pub mod forwarded;
pub mod jar;
mod json;
pub mod lines;
pub mod names;
pub mod request;
pub mod response;
pub mod seen;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// `[headers]`: what the sidecar and the backend say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What all of our headers begin with: token characters, ends in `-`, at least 4 bytes.
    pub prefix: String,
    /// A secret that signs each request to a backend that can be reached past the sidecar.
    pub secret: Secret,
    /// A file with that secret.
    pub secret_file: String,
    /// More request headers to remove, whatever their spelling.
    pub also_strip: Vec<String>,
    /// Directives count only in a response that repeats `X-Session-Nonce`.
    pub require_nonce: bool,
    /// Entries that get a request header of their own, for backends that can't parse JSON.
    pub keys: Vec<String>,
    /// Reserved entries (`_…`) that a backend may read.
    pub expose: Vec<String>,
    /// Bytes that all our request headers together may take: name + value + 4 each.
    pub budget: usize,
    /// A session that doesn't fit: `refuse` the change that makes it grow, or `omit` entries, last inserted first.
    pub on_overflow: OnOverflow,
    /// Entries that are never omitted.
    pub required: Vec<String>,
    /// Bytes of one directive.
    pub max_directive_bytes: usize,
    /// A response whose directives can't be obeyed: `reject` it with 502, or `ignore` the directives.
    pub on_refused: OnRefused,
    /// Adds `X-Coatroom-Decision` to responses, for developers of backends.
    pub explain: bool,
    /// Adds `Vary: Cookie` to responses.
    pub vary: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: "X-Session-".to_owned(),
            secret: Secret::default(),
            secret_file: String::new(),
            also_strip: Vec::new(),
            require_nonce: false,
            keys: Vec::new(),
            expose: Vec::new(),
            budget: 6000,
            on_overflow: OnOverflow::Refuse,
            required: Vec::new(),
            max_directive_bytes: 16 * 1024,
            on_refused: OnRefused::Reject,
            explain: false,
            vary: true,
        }
    }
}

/// What happens to a session that the request headers have no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOverflow {
    /// The change that makes it grow is refused.
    Refuse,
    /// Entries are left out and named in `X-Session-Omitted`.
    Omit,
}

/// What happens to a response whose directives are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefused {
    /// The client gets 502.
    Reject,
    /// The client gets the response; nothing is applied.
    Ignore,
}
