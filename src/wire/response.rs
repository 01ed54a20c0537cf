//! What the backend answers: directives are taken out, and nothing of ours passes to the client.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::Config;
use super::json;
use super::names::{Guard, fold};
use crate::session::directive::{Condition, Wish, allowed};
use crate::session::{Changes, Directive, Expiry, Reason, Refusal, Revision};
use crate::time::Timestamp;

/// The names that only a request has: in a response they are stripped and counted, nothing more.
const OF_REQUESTS: [&str; 11] = [
    "data",
    "state",
    "id",
    "version",
    "expiry-age",
    "expiry-date",
    "expires-at",
    "expire-at-browser-close",
    "nonce",
    "omitted",
    "signature",
];

/// What a response's head held of ours.
#[derive(Debug)]
pub struct Taken {
    /// What it asks, or why that can't be obeyed.
    pub changes: Result<Changes, Refusal>,
    /// How many headers were removed that are no directives.
    pub stripped: usize,
}

/// Reads directives.
#[derive(Debug)]
pub struct Reader {
    prefix: String,
    guard: Guard,
    keys: Vec<(String, String)>,
    max_bytes: usize,
    require_nonce: bool,
    subject: bool,
}

impl Reader {
    /// Makes a reader of the settings; `subject` says whether `X-Session-Subject` is obeyed.
    pub fn new(config: &Config, subject: bool) -> Self {
        Self {
            prefix: config.prefix.to_lowercase(),
            guard: Guard::new(&config.prefix, &config.also_strip),
            keys: config.keys.iter().map(|entry| (fold(entry), entry.clone())).collect(),
            max_bytes: config.max_directive_bytes,
            require_nonce: config.require_nonce,
            subject,
        }
    }

    /// Removes all of our headers from a response's head and reads the directives among them.
    ///
    /// Only exact names are directives (case apart): another spelling is removed and counted.
    pub fn take(&self, headers: &mut HeaderMap, nonce: &HeaderValue, now: Timestamp) -> Taken {
        let names: Vec<HeaderName> =
            headers.keys().filter(|name| self.guard.is_ours(name.as_str())).cloned().collect();
        let mut taken = Taken { changes: Ok(Changes::default()), stripped: 0 };
        if names.is_empty() {
            return taken;
        }
        let mut repeated = !self.require_nonce;
        let mut directives: Vec<(String, Vec<HeaderValue>)> = Vec::new();
        for name in names {
            let values: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
            headers.remove(&name);
            match name.as_str().strip_prefix(&*self.prefix) {
                Some("nonce") if values.iter().all(|value| value == nonce) => repeated = true,
                Some(suffix) if !is_of_requests(suffix) => directives.push((suffix.to_owned(), values)),
                _ => taken.stripped += values.len(),
            }
        }
        taken.changes = match directives.first() {
            Some((suffix, _)) if !repeated => {
                let detail =
                    "the response does not repeat the request's nonce, and headers.require_nonce is on";
                Err(Refusal::new(&title(suffix), Reason::Nonce, detail))
            }
            _ => self.read(&directives, now),
        };
        taken
    }

    fn read(&self, directives: &[(String, Vec<HeaderValue>)], now: Timestamp) -> Result<Changes, Refusal> {
        let mut changes = Changes::default();
        for (suffix, values) in directives {
            let name = title(suffix);
            let refuse = |reason, detail: String| Refusal::new(&name, reason, detail);
            let mut texts: Vec<&str> = Vec::with_capacity(values.len());
            for value in values {
                if value.len() > self.max_bytes {
                    let detail = format!(
                        "it has {} bytes; headers.max_directive_bytes is {}",
                        value.len(),
                        self.max_bytes
                    );
                    return Err(refuse(Reason::TooLarge, detail));
                }
                let text = std::str::from_utf8(value.as_bytes());
                texts.push(text.map_err(|_| refuse(Reason::Malformed, "it is not UTF-8".to_owned()))?);
            }
            let wrong = |(reason, detail): json::Wrong| refuse(reason, detail);
            match &**suffix {
                "set" | "set-default" | "merge" | "increment" => {
                    for text in texts {
                        for map in json::object(text).map_err(wrong)? {
                            map.keys().try_for_each(|key| allowed(&name, key))?;
                            changes.push(match &**suffix {
                                "set" => Directive::Set(map),
                                "set-default" => Directive::SetDefault(map),
                                "merge" => Directive::Merge(map),
                                _ => Directive::Increment(steps(map).map_err(wrong)?),
                            });
                        }
                    }
                }
                "delete" => {
                    for text in texts {
                        let keys = keys(text).map_err(wrong)?;
                        keys.iter().try_for_each(|key| allowed(&name, key))?;
                        changes.push(Directive::Delete(keys));
                    }
                }
                _ => self.read_single(suffix, &name, one(&texts).map_err(wrong)?, now, &mut changes)?,
            }
        }
        Ok(changes)
    }

    fn read_single(
        &self,
        suffix: &str,
        name: &str,
        text: &str,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Result<(), Refusal> {
        let refuse = |reason, detail: &str| Refusal::new(name, reason, detail);
        let flag = || match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(refuse(Reason::Malformed, "it is neither true nor false")),
        };
        match suffix {
            "flush" if flag()? => changes.push(Directive::Flush),
            "clear" if flag()? => changes.push(Directive::Clear),
            "cycle-key" if flag()? => changes.push(Directive::CycleKey),
            "flush" | "clear" | "cycle-key" => {}
            "save" => changes.save = flag()?,
            "test-cookie" => changes.push(match text {
                "set" => Directive::TestCookie(true),
                "delete" => Directive::TestCookie(false),
                _ => return Err(refuse(Reason::Malformed, "it is neither set nor delete")),
            }),
            "expiry" => {
                let help = "it is no number of seconds, date, duration such as PT1H, or default";
                let wish = wish(text, now).ok_or_else(|| refuse(Reason::Malformed, help))?;
                changes.push(Directive::Expiry(wish));
            }
            "if-version" => {
                changes.condition = Some(match text {
                    "0" => Condition::NoSession,
                    version => Condition::Version(Revision::parse(version)),
                });
            }
            "subject" if !self.subject => return Err(refuse(Reason::Disabled, "session.subject is off")),
            "subject" => changes.push(Directive::Subject(text.to_owned())),
            _ => {
                let listed = suffix.strip_prefix("set-key-").map(|folded| self.entry(folded));
                let entry = match listed {
                    Some(Some(entry)) => entry,
                    Some(None) => return Err(refuse(Reason::Unknown, "headers.keys lists no such entry")),
                    None => return Err(refuse(Reason::Unknown, "there is no such directive")),
                };
                allowed(name, entry)?;
                let text = percent_decode_str(text).decode_utf8();
                let text = text.map_err(|_| refuse(Reason::Malformed, "it is not UTF-8 when decoded"))?;
                changes.push(Directive::Set([(entry.to_owned(), Value::from(text))].into_iter().collect()));
            }
        }
        Ok(())
    }

    fn entry(&self, folded: &str) -> Option<&str> {
        self.keys.iter().find(|(name, _)| name == folded).map(|(_, entry)| &**entry)
    }
}

fn is_of_requests(suffix: &str) -> bool {
    OF_REQUESTS.contains(&suffix) || suffix.starts_with("key-")
}

/// `set-default` as it is written: `Set-Default`.
fn title(suffix: &str) -> String {
    let words = suffix.split('-').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

/// The one value of a directive that may not have several: equal repetitions count once.
fn one<'a>(texts: &[&'a str]) -> Result<&'a str, json::Wrong> {
    match texts {
        [first, rest @ ..] if rest.iter().all(|text| text == first) => Ok(first),
        _ => Err((Reason::Repeated, "it is repeated with another value".to_owned())),
    }
}

fn steps(map: crate::session::data::Map) -> Result<Vec<(String, i64)>, json::Wrong> {
    let step = |(key, value): (String, Value)| match value
        .as_number()
        .and_then(|number| number.as_str().parse().ok())
    {
        Some(step) => Ok((key, step)),
        None => Err((Reason::Malformed, format!("the step of {key:?} is no 64-bit integer"))),
    };
    map.into_iter().map(step).collect()
}

/// A JSON array of keys, or a bare list.
fn keys(text: &str) -> Result<Vec<String>, json::Wrong> {
    if !text.trim_start().starts_with('[') {
        let bare = text.split(',').map(|key| key.trim_matches([' ', '\t'])).filter(|key| !key.is_empty());
        return Ok(bare.map(str::to_owned).collect());
    }
    let strings = || (Reason::Malformed, "it is not a JSON array of strings".to_owned());
    let mut keys = Vec::new();
    for value in json::values(text)? {
        for key in value.as_array().ok_or_else(strings)? {
            keys.push(key.as_str().ok_or_else(strings)?.to_owned());
        }
    }
    Ok(keys)
}

/// Seconds, a date, a duration, or `default`.
fn wish(text: &str, now: Timestamp) -> Option<Wish> {
    if text == "default" {
        return Some(Wish::So(Expiry::Default));
    }
    if let Ok(secs) = text.parse::<i64>() {
        return Some(match u64::try_from(secs) {
            Err(_) => Wish::Past,
            Ok(0) => Wish::So(Expiry::Browser),
            Ok(secs) => Wish::So(Expiry::Idle(secs)),
        });
    }
    let at = |millis: i64| Timestamp::from_millis(millis.min(Timestamp::MAX.as_millis()));
    let date = if text.trim_start_matches(['-', '+']).starts_with(['P', 'p']) {
        let span: jiff::Span = text.parse().ok()?;
        let from = jiff::Timestamp::from_millisecond(now.as_millis()).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        let end = from.saturating_add(span);
        at(end.timestamp().as_millisecond())
    } else if let Ok(date) = text.parse::<jiff::Timestamp>() {
        at(date.as_millisecond())
    } else {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        at(i64::try_from(since.as_millis()).ok()?)
    };
    Some(if date <= now { Wish::Past } else { Wish::So(Expiry::At(date)) })
}
