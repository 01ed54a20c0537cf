//! `[store]`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::cookie;
use super::moving::Home;
use crate::secret::{HIDDEN, Secret};
use crate::session::policy::Interval;
use crate::time::Length;

/// The schemes that `store.url` may have, as they are written.
pub const SCHEMES: [&str; 15] = [
    "memory:",
    "cookie:",
    "file:",
    "sqlite:",
    "postgres:",
    "postgresql:",
    "mysql:",
    "memcache:",
    "redis:",
    "rediss:",
    "redis+unix:",
    "redis+sentinel:",
    "rediss+sentinel:",
    "redis+cluster:",
    "rediss+cluster:",
];

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
    /// `cookie:` cookies that one session may take.
    pub cookie_chunks: usize,
    /// `cookie:` where sessions are noted that ended before their cookies do: any other store's URL. Empty = nowhere.
    pub revocations: Url,
    /// Redis, memcached: what all keys begin with.
    pub key_prefix: String,
    /// Redis, PostgreSQL, MySQL: the password, if it is not in the URL.
    pub password: Secret,
    /// Redis, PostgreSQL, MySQL: a file with it.
    pub password_file: String,
    /// `redis+sentinel:` the Sentinels' own password.
    pub sentinel_password: Secret,
    /// `redis+sentinel:` a file with it.
    pub sentinel_password_file: String,
    /// Redis: replicas that an acknowledged write has reached; 0 = nobody waits for any.
    pub wait_replicas: usize,
    /// TLS: a file with the certificates (PEM) of those who may sign the server's; empty = the system's.
    pub tls_ca_file: String,
    /// TLS: a file with our own certificate and its chain (PEM), for a server that wants to know us.
    pub tls_cert_file: String,
    /// TLS: a file with the certificate's private key (PEM).
    pub tls_key_file: String,
    /// SQL: the table, perhaps with its schema (`schema.table`). Django's default is this one.
    pub table: String,
    /// SQL: makes the table where it is not there; without it `coatroom migrate` does.
    pub create_table: bool,
    /// SQL: connections of this process at most.
    pub max_connections: usize,
    /// SQL: what a statement may take on the server. `auto` = three quarters of `commit_timeout`.
    pub statement_timeout: Interval,
    /// How long an expired session is kept by a store that clears itself, so that it is counted when it is found.
    pub expired_memory: Length,
    /// `memory:` sessions at most; then the least worthy go first.
    pub max_sessions: usize,
    /// `memory:` bytes at most, keys and bookkeeping included.
    pub max_bytes: usize,
    /// A cache before a database or files: a Redis, or `memory:`. Django: the engine `cached_db`.
    pub cache: Url,
    /// The cache's password, if it is not in its URL.
    pub cache_password: Secret,
    /// A file with it.
    pub cache_password_file: String,
    /// How long something old may be in a cache that does not answer.
    pub cache_lease: Length,
    /// A save while the cache does not answer: `wait` until nothing old is in it, or be done at once (`fast`).
    pub cache_on_error: CacheOnError,
    /// The store that sessions will move to, once all instances name it here: until then they are written where they are.
    pub next: Url,
    /// The store that sessions move from to `url` whenever one is read.
    pub previous: Url,
    /// The password of `next` or `previous`, if it is not in that URL.
    pub move_password: Secret,
    /// A file with it.
    pub move_password_file: String,
    /// How often expired sessions are cleared, by one instance for all. `auto` = 10 s (`memory:`), 10 min.
    pub clear_interval: Interval,
    /// Expired sessions that are removed in one go; `memory:` all.
    pub clear_batch: usize,
    /// The pause after each batch.
    pub clear_pause: Length,
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
            cookie_chunks: 2,
            revocations: Url::from(""),
            key_prefix: "coat:".to_owned(),
            password: Secret::default(),
            password_file: String::new(),
            sentinel_password: Secret::default(),
            sentinel_password_file: String::new(),
            wait_replicas: 0,
            tls_ca_file: String::new(),
            tls_cert_file: String::new(),
            tls_key_file: String::new(),
            table: "django_session".to_owned(),
            create_table: true,
            max_connections: 8,
            statement_timeout: Interval::Auto,
            expired_memory: Length::secs(3600),
            max_sessions: 1_000_000,
            max_bytes: 512 * 1024 * 1024,
            cache: Url::from(""),
            cache_password: Secret::default(),
            cache_password_file: String::new(),
            cache_lease: Length::secs(2),
            cache_on_error: CacheOnError::Wait,
            next: Url::from(""),
            previous: Url::from(""),
            move_password: Secret::default(),
            move_password_file: String::new(),
            clear_interval: Interval::Auto,
            clear_batch: 1000,
            clear_pause: Length::millis(50),
        }
    }
}

impl Config {
    /// The settings of the cache, as if it were a store: `None` without one.
    pub fn cache(&self) -> Option<Self> {
        let cache = Self {
            url: self.cache.clone(),
            password: self.cache_password.clone(),
            password_file: self.cache_password_file.clone(),
            cache: Url::from(""),
            ..self.clone()
        };
        (!self.cache.is_empty()).then_some(cache)
    }

    /// The settings of the store that sessions move to or from, as if it were the only one, and which of the two is
    /// `url`; `None` where there is one store, and where both are named.
    pub fn other(&self) -> Option<(Home, Self)> {
        let (home, url) = match (self.next.is_empty(), self.previous.is_empty()) {
            (false, true) => (Home::Old, &self.next),
            (true, false) => (Home::New, &self.previous),
            _ => return None,
        };
        Some((home, self.alone(url.clone())))
    }

    /// The settings of a store that is not `url`, as if it were.
    pub fn alone(&self, url: Url) -> Self {
        Self {
            url,
            password: self.move_password.clone(),
            password_file: self.move_password_file.clone(),
            cache: Url::from(""),
            next: Url::from(""),
            previous: Url::from(""),
            ..self.clone()
        }
    }

    /// Are sessions in the cookies themselves?
    pub fn in_cookies(&self) -> bool {
        self.url.scheme() == cookie::SCHEME
    }

    /// The settings of the engine of `revocations`, as if it were the store: `None` without one.
    pub fn revocations(&self) -> Option<Self> {
        let list = Self {
            url: self.revocations.clone(),
            revocations: Url::from(""),
            cache: Url::from(""),
            ..self.clone()
        };
        (!self.revocations.expose().is_empty()).then_some(list)
    }

    /// How often expired sessions are cleared.
    pub fn clears_every(&self) -> Duration {
        match self.clear_interval {
            Interval::Every(length) => length.0,
            Interval::Auto if self.url.scheme() == "memory" => Duration::from_secs(10),
            Interval::Auto => Duration::from_secs(600),
        }
    }

    /// How many of them are removed in one go. What is in memory costs nobody a wait.
    pub fn batch(&self) -> usize {
        if self.url.scheme() == "memory" { usize::MAX } else { self.clear_batch }
    }

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

/// What a save does while the cache does not answer, and may hold something older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheOnError {
    /// It is acknowledged `store.cache_lease` later.
    Wait,
    /// It is acknowledged at once: for so long others may read what was before it.
    Fast,
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

    /// Is there none?
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
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

/// What a query may say of a store that is no secret.
const OPEN: [&str; 6] = ["db", "host", "port", "socket", "sslmode", "ssl-mode"];

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        // Whatever stands between the first colon of the user's part and its last @ may be a password.
        let user = text.find("://").map_or(0, |at| at + 3);
        let shown = text.rfind('@').filter(|at| *at >= user).and_then(|at| {
            let colon = text[user..at].find(':')? + user + 1;
            Some(format!("{}{HIDDEN}{}", &text[..colon], &text[at..]))
        });
        let shown = shown.as_deref().unwrap_or(text);
        let Some((before, query)) = shown.split_once('?') else { return f.write_str(shown) };
        // And so may what a query says that no store has asked for.
        let open = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if OPEN.contains(&name) => pair.to_owned(),
            Some((name, _)) => format!("{name}={HIDDEN}"),
            None => HIDDEN.to_owned(),
        });
        write!(f, "{before}?{}", open.collect::<Vec<_>>().join("&"))
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
            ("file://u:secret@h/x", "file://u:(hidden)@h/x"),
            ("postgres://u@h/db?sslmode=require&port=1", "postgres://u@h/db?sslmode=require&port=1"),
            ("postgres://u@h/db?password=se@cret&port=1", "postgres://u@h/db?password=(hidden)&port=1"),
            ("postgres://u@h/db?secret", "postgres://u@h/db?(hidden)"),
            ("postgres://u:se?cret@h/db?host=/run", "postgres://u:(hidden)@h/db?host=/run"),
        ] {
            let url = Url::from(url);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("{shown:?}"));
            assert_eq!(serde_json::to_value(&url).unwrap(), shown);
        }
    }
}
