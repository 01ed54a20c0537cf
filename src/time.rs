//! The clock: the only file that may ask what time it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// An instant of wall-clock time, in milliseconds since 1970-01-01T00:00:00Z.
///
/// Sessions expire by wall-clock time because the store, the cookie and other sidecars must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest instant that RFC 3339 can write: just before the end of the year 9999 in every time zone.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// Makes an instant from milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant plus `length`, at most [`Timestamp::MAX`].
    pub fn plus(self, length: Duration) -> Self {
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis).min(Self::MAX.0))
    }

    /// This instant less `length`.
    pub fn minus(self, length: Duration) -> Self {
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; zero if it is before it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with whole seconds, `2026-11-23T10:00:00Z`, for the years 0 to 9999.
    ///
    /// Written out by hand because each request carries one or two of them; a test holds it to jiff's.
    pub fn rfc3339(self) -> [u8; 20] {
        // Years begin in March here, so that the leap day is the last one; eras have 400 of them, and the first one is
        // that before the year 0. Days and seconds fit 32 bits, which are divided quickly.
        const DAY: i64 = 86_400;
        const TO_1970: i64 = 719_468 + 146_097;
        let secs = self.as_secs().clamp(-62_167_219_200, Self::MAX.0 / 1000) + TO_1970 * DAY;
        let from_era = u32::try_from(secs / DAY).unwrap_or(0);
        let second = u32::try_from(secs % DAY).unwrap_or(0);
        let (era, day) = (from_era / 146_097, from_era % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = (era * 400 + year + u32::from(month <= 2)).saturating_sub(400);
        let mut text = *b"0000-00-00T00:00:00Z";
        let mut put = |at: usize, number: u32| {
            let digit = |number: u32| b"0123456789"[(number % 10) as usize];
            (text[at], text[at + 1]) = (digit(number / 10), digit(number));
        };
        put(0, year / 100);
        put(2, year % 100);
        put(5, month);
        put(8, day);
        put(11, second / 3600);
        put(14, second / 60 % 60);
        put(17, second % 60);
        text
    }

    /// The date of HTTP (RFC 9110 §5.6.7), which cookies use too.
    pub fn http_date(self) -> String {
        let secs = u64::try_from(self.as_secs()).unwrap_or(0).min(Self::MAX.0.unsigned_abs() / 1000);
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs))
    }
}

/// Where the wall-clock time comes from: the system, or a test's hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `now` until somebody winds it with [`Clock::advance`].
    pub fn stopped_at(now: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now.0))))
    }

    /// The present instant.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(hand) => Timestamp(hand.load(Ordering::SeqCst)),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Winds a stopped clock forward. A system clock cannot be wound and stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(hand) = &self.0 {
            hand.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

/// The whole milliseconds of a length; `u64::MAX` of one that has more.
pub fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Measures how long something took, by the monotonic clock, which no administrator can set.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since [`Stopwatch::start`].
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// The monotonic instant at which the stopwatch was started.
    pub const fn started(self) -> Instant {
        self.0
    }
}

/// A length of time in a setting: an integer of seconds, or a text such as `"90s"`, `"10 min"`, `"2 weeks"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

impl Length {
    /// A length of whole seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A length of milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Reads a text such as `"90s"` or `"2 weeks"`; days have 24 hours.
    ///
    /// # Errors
    /// Says what a length looks like when the text is none, is negative, or counts months or years.
    pub fn parse(text: &str) -> Result<Self, String> {
        let help = || {
            format!(
                "{text:?} is no length of time: write seconds (90) or a text such as \"90s\", \"10 min\", \"2 weeks\""
            )
        };
        if let Ok(secs) = text.trim().parse::<u64>() {
            return Ok(Self::secs(secs));
        }
        let span: jiff::Span = text.trim().parse().map_err(|_| help())?;
        let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| help())?;
        Duration::try_from(exact).map(Self).map_err(|_| help())
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_nanos() {
            0 => write!(f, "{}s", self.0.as_secs()),
            nanos if nanos % 1_000_000 == 0 => write!(f, "{}ms", self.0.as_millis()),
            nanos if nanos % 1000 == 0 => write!(f, "{}us", self.0.as_micros()),
            _ => write!(f, "{}ns", self.0.as_nanos()),
        }
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.subsec_nanos() {
            0 => serializer.serialize_u64(self.0.as_secs()),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Length;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a length of time: seconds (90) or a text such as \"90s\", \"10 min\", \"2 weeks\"",
                )
            }
            fn visit_u64<E: de::Error>(self, secs: u64) -> Result<Length, E> {
                Ok(Length::secs(secs))
            }
            fn visit_i64<E: de::Error>(self, secs: i64) -> Result<Length, E> {
                u64::try_from(secs)
                    .map(Length::secs)
                    .map_err(|_| E::custom(format!("{secs} is negative: a length of time is not")))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Length, E> {
                Length::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dates_are_written_as_jiff_writes_them(secs in -62_135_596_800i64..=253_402_207_200) {
            let jiff = jiff::Timestamp::from_second(secs).unwrap().to_string();
            let ours = Timestamp::from_millis(secs * 1000).rfc3339();
            prop_assert_eq!(std::str::from_utf8(&ours).unwrap(), jiff);
        }
    }

    #[test]
    fn lengths_are_read_as_the_contract_writes_them() {
        assert_eq!(Length::parse("90"), Ok(Length::secs(90)));
        assert_eq!(Length::parse("90s"), Ok(Length::secs(90)));
        assert_eq!(Length::parse("10 min"), Ok(Length::secs(600)));
        assert_eq!(Length::parse("2 weeks"), Ok(Length::secs(1_209_600)));
        assert_eq!(Length::parse("250ms"), Ok(Length::millis(250)));
        for bad in ["", "-1", "-5s", "soon", "1 month", "2 years"] {
            assert!(Length::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_length_is_read_as_it_was_written_however_short() {
        for (text, written) in
            [("1.5s", "1500ms"), ("90 s", "90s"), ("500us", "500us"), ("1001us", "1001us"), ("1ns", "1ns")]
        {
            let length = Length::parse(text).unwrap();
            assert_eq!(length.to_string(), written);
            assert_eq!(Length::parse(written), Ok(length));
        }
        assert_eq!(serde_json::to_value(Length::parse("500us").unwrap()).unwrap(), "500us");
    }

    #[test]
    fn instants_are_written_for_people_and_for_http() {
        let at = Timestamp::from_millis(1_700_000_000_999);
        assert_eq!(&at.rfc3339(), b"2023-11-14T22:13:20Z");
        assert_eq!(at.http_date(), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(&Timestamp::MAX.rfc3339(), b"9999-12-30T22:00:00Z");
        assert_eq!(at.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(at.since(Timestamp::MAX), Duration::ZERO);
    }
}
