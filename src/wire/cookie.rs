//! The settings of the session cookie (RFC 6265bis).

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::time::Length;

/// `[cookie]`: the session cookie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Its name. Django: `SESSION_COOKIE_NAME`.
    pub name: String,
    /// How long a session lives after its last change, and its cookie. Django: `SESSION_COOKIE_AGE`.
    pub age: Length,
    /// Its domain; empty = this host only. Django: `SESSION_COOKIE_DOMAIN`.
    pub domain: String,
    /// Its path. Django: `SESSION_COOKIE_PATH`.
    pub path: String,
    /// `true`, `false`, or `"auto"`: when the client came over TLS. Django: `SESSION_COOKIE_SECURE`.
    pub secure: Secure,
    /// Hidden from scripts. Django: `SESSION_COOKIE_HTTPONLY`.
    pub http_only: bool,
    /// `Lax`, `Strict`, `None`, or empty for no attribute. Django: `SESSION_COOKIE_SAMESITE`.
    pub same_site: SameSite,
    /// A cookie jar of its own for each top-level site (CHIPS).
    pub partitioned: bool,
    /// Shows the session cookie to the backend.
    pub forward: bool,
    /// Keys that sign tokens, base64 of at least 32 bytes each: the first signs, all verify.
    pub keys: Vec<Secret>,
    /// A file with such keys, one a line.
    pub keys_file: String,
    /// Scopes that cookies were issued under before: `{ name, domain, path }` each.
    pub previous: Vec<Previous>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "sessionid".to_owned(),
            age: Length::secs(1_209_600),
            domain: String::new(),
            path: "/".to_owned(),
            secure: Secure::Never,
            http_only: true,
            same_site: SameSite::Lax,
            partitioned: false,
            forward: false,
            keys: Vec::new(),
            keys_file: String::new(),
            previous: Vec::new(),
        }
    }
}

/// A scope that cookies were issued under before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// The cookie's name then.
    pub name: String,
    /// Its domain; empty = this host only.
    #[serde(default)]
    pub domain: String,
    /// Its path.
    #[serde(default = "root")]
    pub path: String,
}

fn root() -> String {
    "/".to_owned()
}

/// When the cookie is `Secure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// Never.
    Never,
    /// Always.
    Always,
    /// When the client came over TLS: to us, or to a proxy in `proxy.trusted`.
    Auto,
}

impl Serialize for Secure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Never => serializer.serialize_bool(false),
            Self::Always => serializer.serialize_bool(true),
            Self::Auto => serializer.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for Secure {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bool(bool),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Bool(true) => Ok(Self::Always),
            Either::Bool(false) => Ok(Self::Never),
            Either::Text(text) if text == "auto" => Ok(Self::Auto),
            Either::Text(_) => Err(serde::de::Error::custom("expected true, false or \"auto\"")),
        }
    }
}

/// The `SameSite` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SameSite {
    /// Sent on top-level navigation from other sites.
    Lax,
    /// Never sent from other sites.
    Strict,
    /// Always sent; needs `Secure`.
    None,
    /// No attribute.
    #[serde(rename = "")]
    Absent,
}
