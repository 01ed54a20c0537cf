//! `[store]`.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::secret::{HIDDEN, Secret};
use crate::time::Length;

/// The schemes that `store.url` may have, as they are written.
pub const SCHEMES: [&str; 4] = ["memory:", "redis:", "rediss:", "redis+unix:"];

/// `[store]`: where sessions are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where sessions are kept. Django: `SESSION_ENGINE`, `SESSION_FILE_PATH`.
    pub url: Url,
    /// What a request may wait for its session to be loaded.
    pub timeout: Length,
    /// What a response may wait for its changes to be saved.
    pub commit_timeout: Length,
    /// A store that can't be asked: `reject` the request with 503, or go on as `anonymous`.
    pub on_error: OnError,
    /// Keys that seal records, base64 of at least 32 bytes each: the first seals, all open; none = not sealed.
    pub encryption_keys: Vec<Secret>,
    /// A file with such keys, one a line.
    pub encryption_keys_file: String,
    /// Records that are not sealed, where there are such keys: `write` them still, only `read` them, or `refuse` them.
    pub unsealed: Unsealed,
    /// Redis: what all keys begin with.
    pub key_prefix: String,
    /// Redis: the password, if it is not in the URL.
    pub password: Secret,
    /// Redis: a file with it.
    pub password_file: String,
    /// `rediss:` a file with the certificates (PEM) of those who may sign the server's; empty = the system's.
    pub tls_ca_file: String,
    /// `rediss:` a file with our own certificate and its chain (PEM), for a server that wants to know us.
    pub tls_cert_file: String,
    /// `rediss:` a file with the certificate's private key (PEM).
    pub tls_key_file: String,
    /// How long an expired session is kept by a store that clears itself, so that it is counted when it is found.
    pub expired_memory: Length,
    /// `memory:` sessions at most; then the least worthy go first.
    pub max_sessions: usize,
    /// `memory:` bytes at most, keys and bookkeeping included.
    pub max_bytes: usize,
    /// `memory:` how often expired sessions are cleared.
    pub sweep_interval: Length,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: Url::from("memory:"),
            timeout: Length::millis(250),
            commit_timeout: Length::secs(1),
            on_error: OnError::Reject,
            encryption_keys: Vec::new(),
            encryption_keys_file: String::new(),
            unsealed: Unsealed::Read,
            key_prefix: "coat:".to_owned(),
            password: Secret::default(),
            password_file: String::new(),
            tls_ca_file: String::new(),
            tls_cert_file: String::new(),
            tls_key_file: String::new(),
            expired_memory: Length::secs(3600),
            max_sessions: 1_000_000,
            max_bytes: 512 * 1024 * 1024,
            sweep_interval: Length::secs(10),
        }
    }
}

impl Config {
    /// Are there `encryption_keys`, here or in a file?
    pub const fn has_keys(&self) -> bool {
        !self.encryption_keys.is_empty() || !self.encryption_keys_file.is_empty()
    }
}

/// What happens to a request whose session can't be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The client gets 503.
    Reject,
    /// The request goes on as `unavailable`.
    Anonymous,
}

/// What becomes of records that are not sealed, where there are `store.encryption_keys`: the steps from none to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsealed {
    /// They are written still, and the keys only open: until each of a fleet has them, or before it gives them up.
    Write,
    /// They are read, and sealed when they are next written: setting keys logs nobody out.
    #[default]
    Read,
    /// They are as unreadable as corrupt ones: whoever can write to the medium can't make up a session.
    Refuse,
}

/// The URL of a store. A password in it is shown to nobody.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// What stands before the first colon; all of it where there is none.
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The text, for whoever connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Url {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        // Whatever stands between the first colon of the user's part and its last @ may be a password.
        let user = text.find("://").map_or(0, |at| at + 3);
        let shown = text.rfind('@').filter(|at| *at >= user).and_then(|at| {
            let colon = text[user..at].find(':')? + user + 1;
            Some(format!("{}{HIDDEN}{}", &text[..colon], &text[at..]))
        });
        f.write_str(shown.as_deref().unwrap_or(text))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_shown_to_nobody() {
        for (url, shown) in [
            ("memory:", "memory:"),
            ("redis://cache:6379/0", "redis://cache:6379/0"),
            ("redis://:secret@cache:6379/0", "redis://:(hidden)@cache:6379/0"),
            ("rediss://app:se:cr@et@cache", "rediss://app:(hidden)@cache"),
            ("redis://app@cache", "redis://app@cache"),
            ("redis+unix://:secret@/run/redis.sock", "redis+unix://:(hidden)@/run/redis.sock"),
            ("redis:secret@cache", "redis:(hidden)@cache"),
        ] {
            let url = Url::from(url);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("{shown:?}"));
            assert_eq!(serde_json::to_value(&url).unwrap(), shown);
        }
    }
}
