//! The settings of sessions, and what they resolve to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::expiry::{Expiry, Lifetime, Lifetimes};
use super::limits::Limits;
use super::record::{Record, Scope};
use crate::time::{Length, Timestamp};

/// `[session]`: how sessions live and end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Mixed into every key of the store, so that two products on one store can't read each other's sessions.
    pub realm: String,
    /// Cookies without `Max-Age` and `Expires`. Django: `SESSION_EXPIRE_AT_BROWSER_CLOSE`.
    pub expire_at_browser_close: bool,
    /// Every request extends the session's life. Django: `SESSION_SAVE_EVERY_REQUEST`.
    pub save_every_request: bool,
    /// With `save_every_request`: the least time between two touches of the store. `auto` = min(60 s, age / 10).
    pub touch_interval: Interval,
    /// A session ends this long after its creation, whatever happens; 0 = off.
    pub absolute_timeout: Length,
    /// Entries that say who the user is: when one appears or changes, the key is cycled (session fixation).
    pub cycle_on: Vec<String>,
    /// When one of `cycle_on` changes from one user to another: `flush` the old session first, or only `cycle`.
    pub on_switch: OnSwitch,
    /// A change to a session that was flushed meanwhile: `drop` it, or `reject` it with 409.
    pub on_gone: OnGone,
    /// How long after cycle-key requests in flight may still read under the old token.
    pub grace: Length,
    /// How long ended tokens are remembered.
    pub ended_memory: Length,
    /// Bytes that a session's data may have as JSON.
    pub max_bytes: usize,
    /// Entries that a session may have.
    pub max_keys: usize,
    /// Is `X-Session-Subject` obeyed?
    pub subject: bool,
    /// How long expired sessions are kept for those who look later, in stores that don't forget them by themselves.
    pub keep_expired: Length,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            realm: String::new(),
            expire_at_browser_close: false,
            save_every_request: false,
            touch_interval: Interval::Auto,
            absolute_timeout: Length::secs(0),
            cycle_on: ["user_id", "member_id", "account_id", "uid", "username", "_auth_user_id"]
                .map(str::to_owned)
                .to_vec(),
            on_switch: OnSwitch::Flush,
            on_gone: OnGone::Drop,
            grace: Length::secs(10),
            ended_memory: Length::secs(600),
            max_bytes: 64 * 1024,
            max_keys: 256,
            subject: false,
            keep_expired: Length::secs(0),
        }
    }
}

/// A length of time that can be left to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Chosen from other settings.
    Auto,
    /// This.
    Every(Length),
}

impl Serialize for Interval {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Every(length) => length.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Secs(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Secs(secs) => Ok(Self::Every(Length::secs(secs))),
            Either::Text(text) if text == "auto" => Ok(Self::Auto),
            Either::Text(text) => Length::parse(&text).map(Self::Every).map_err(serde::de::Error::custom),
        }
    }
}

/// What happens to a session whose user changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSwitch {
    /// The old user's data goes first, as in Django's `login()`.
    Flush,
    /// Only the key changes.
    Cycle,
}

/// What happens to a change whose session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnGone {
    /// It is dropped and counted.
    Drop,
    /// The client gets 409, Django's `SessionInterrupted`.
    Reject,
}

/// Everything that [`super::plan()`] depends on but the session and the response: settings, resolved.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Idle, absolute and cookie lifetimes.
    pub lifetimes: Lifetimes,
    /// `session.save_every_request`.
    pub save_every_request: bool,
    /// The least time between two touches of a session without an expiry of its own.
    pub touch_interval: Duration,
    /// `session.cycle_on`.
    pub cycle_on: Vec<String>,
    /// `session.on_switch`.
    pub on_switch: OnSwitch,
    /// `session.on_gone`.
    pub on_gone: OnGone,
    /// What a session may hold.
    pub limits: Limits,
    /// The scope that cookies are issued under now.
    pub scope: Scope,
}

impl Policy {
    /// Resolves the settings. `age` is `cookie.age`, `scope` the scope of today's cookies.
    pub fn new(config: &Config, age: Duration, scope: Scope, limits: Limits) -> Self {
        let auto = (age / 10).min(Duration::from_secs(60));
        let touch_interval = match config.touch_interval {
            Interval::Auto => auto,
            Interval::Every(length) => length.0,
        };
        let absolute = Some(config.absolute_timeout.0).filter(|length| !length.is_zero());
        Self {
            lifetimes: Lifetimes { age, browser: config.expire_at_browser_close, absolute },
            save_every_request: config.save_every_request,
            touch_interval,
            cycle_on: config.cycle_on.clone(),
            on_switch: config.on_switch,
            on_gone: config.on_gone,
            limits,
            scope,
        }
    }

    /// The least time between two touches of a session: a tenth of its own idle time, where that is less. One that
    /// lives for no longer than an interval would never be due for a touch while it lives.
    pub fn touch_interval(&self, record: &Record) -> Duration {
        match record.expiry {
            Expiry::Idle(secs) => self.touch_interval.min(Duration::from_secs(secs) / 10),
            Expiry::Default | Expiry::Browser | Expiry::At(_) => self.touch_interval,
        }
    }

    /// When a session ends that was to end at `until`: `session.absolute_timeout` may have been less, or there may have
    /// been none, when that was written.
    pub fn end(&self, record: &Record, until: Timestamp) -> Timestamp {
        self.lifetimes.end(record.created_at, until)
    }

    /// When a record saved at `now` ends.
    pub fn until(&self, record: &Record, now: Timestamp) -> Timestamp {
        record.expiry.until(&self.lifetimes, record.created_at, now)
    }

    /// How long the browser is to keep the cookie of a record that ends at `until`.
    pub const fn cookie(&self, record: &Record, until: Timestamp) -> Lifetime {
        if record.expiry.at_browser_close(&self.lifetimes) {
            Lifetime::Browser
        } else {
            Lifetime::Until(until)
        }
    }
}

/// What a route does with the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Loaded, injected, directives obeyed.
    #[default]
    On,
    /// As `on`, but nothing extends the session's life and no cookie is renewed (polling).
    NoTouch,
    /// Loaded and injected; directives are stripped and counted, never obeyed.
    Read,
    /// No store access, no session headers, no cookie.
    Off,
}
