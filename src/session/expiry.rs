//! When a session ends, and how long its cookie lives: pure functions of `now`.

use std::time::Duration;

use crate::time::Timestamp;

/// Browsers keep no cookie longer than this (RFC 6265bis §5.5).
pub const LONGEST_COOKIE: Duration = Duration::from_secs(400 * 24 * 3600);

/// A session's own expiry: Django's `set_expiry()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// What the settings say; `set_expiry(None)`.
    #[default]
    Default,
    /// This many seconds after the last modification; `set_expiry(300)`.
    Idle(u64),
    /// When the browser closes, and for the server after `cookie.age`; `set_expiry(0)`.
    Browser,
    /// A fixed date; `set_expiry(datetime)`.
    At(Timestamp),
}

/// The settings that expiry depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// `cookie.age`: idle time of a session that has no expiry of its own.
    pub age: Duration,
    /// `session.expire_at_browser_close`.
    pub browser: bool,
    /// `session.absolute_timeout`: a session ends this long after its creation, whatever happens.
    pub absolute: Option<Duration>,
}

impl Lifetimes {
    /// When a session really ends that was created at `created_at` and would end at `date`.
    pub fn end(&self, created_at: Timestamp, date: Timestamp) -> Timestamp {
        self.absolute.map_or(date, |absolute| date.min(created_at.plus(absolute)))
    }
}

impl Expiry {
    /// Django's `get_expiry_date()`: when a session saved at `now` would end, its absolute timeout aside.
    pub fn date(self, lifetimes: &Lifetimes, now: Timestamp) -> Timestamp {
        match self {
            Self::Default | Self::Browser => now.plus(lifetimes.age),
            Self::Idle(secs) => now.plus(Duration::from_secs(secs)),
            Self::At(date) => date,
        }
    }

    /// Django's `get_expiry_age()`, in seconds, as if saved now; 0 for a date that has passed.
    pub fn age(self, lifetimes: &Lifetimes, now: Timestamp) -> u64 {
        match self {
            Self::Default | Self::Browser => lifetimes.age.as_secs(),
            Self::Idle(secs) => secs,
            Self::At(date) => date.since(now).as_secs(),
        }
    }

    /// Django's `get_expire_at_browser_close()`.
    pub const fn at_browser_close(self, lifetimes: &Lifetimes) -> bool {
        match self {
            Self::Default => lifetimes.browser,
            Self::Browser => true,
            Self::Idle(_) | Self::At(_) => false,
        }
    }

    /// The instant at which a session really ends that was created at `created_at` and is saved at `now`.
    pub fn until(self, lifetimes: &Lifetimes, created_at: Timestamp, now: Timestamp) -> Timestamp {
        lifetimes.end(created_at, self.date(lifetimes, now))
    }
}

/// How long the browser is to keep the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it closes: neither `Max-Age` nor `Expires`.
    Browser,
    /// Until this instant: both, at most 400 days from now.
    Until(Timestamp),
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn lifetimes() -> Lifetimes {
        Lifetimes { age: Duration::from_secs(1_209_600), browser: false, absolute: None }
    }

    #[test]
    fn each_expiry_ends_as_django_says() {
        let at = NOW.plus(Duration::from_secs(60));
        for (expiry, age, browser) in [
            (Expiry::Default, 1_209_600, false),
            (Expiry::Idle(300), 300, false),
            (Expiry::Browser, 1_209_600, true),
            (Expiry::At(at), 60, false),
            (Expiry::At(NOW), 0, false),
        ] {
            assert_eq!(expiry.age(&lifetimes(), NOW), age, "{expiry:?}");
            assert_eq!(expiry.at_browser_close(&lifetimes()), browser, "{expiry:?}");
            assert_eq!(expiry.date(&lifetimes(), NOW), NOW.plus(Duration::from_secs(age)), "{expiry:?}");
        }
        let closing = Lifetimes { browser: true, ..lifetimes() };
        assert!(Expiry::Default.at_browser_close(&closing));
        assert!(!Expiry::Idle(5).at_browser_close(&closing));
    }

    #[test]
    fn an_absolute_timeout_is_the_earlier_end() {
        let hour = Lifetimes { absolute: Some(Duration::from_secs(3600)), ..lifetimes() };
        let end = NOW.plus(Duration::from_secs(3600));
        assert_eq!(Expiry::Default.until(&hour, NOW, NOW.plus(Duration::from_secs(1000))), end);
        assert_eq!(Expiry::Idle(60).until(&hour, NOW, NOW), NOW.plus(Duration::from_secs(60)));
    }
}
