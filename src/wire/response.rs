//! What the backend answers: directives are taken out, and nothing of ours passes to the client.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::fmt::temporal::Pieces;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::Config;
use super::json;
use super::names::{Guard, fold};
use crate::session::directive::{Condition, Wish};
use crate::session::refusal::allowed;
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
    compares: bool,
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
            compares: true,
        }
    }

    /// A reader for a store that compares nothing before it writes, if it doesn't: what needs that is refused.
    pub const fn comparing(mut self, compares: bool) -> Self {
        self.compares = compares;
        self
    }

    /// Removes all of our headers from a response's head and reads the directives among them.
    ///
    /// Only exact names are directives (case apart): another spelling is removed and counted.
    pub fn take(&self, headers: &mut HeaderMap, nonce: &[u8], now: Timestamp) -> Taken {
        let mut names: Vec<HeaderName> =
            headers.keys().filter(|name| self.guard.is_ours(name.as_str())).cloned().collect();
        // The order of the names must not depend on the wire: Set-Key-… of an entry comes after Set.
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
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
                // An empty nonce is none: there were no random bits.
                Some("nonce")
                    if !nonce.is_empty() && values.iter().all(|value| value.as_bytes() == nonce) =>
                {
                    repeated = true;
                }
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
                "increment" | "if-version" if !self.compares => {
                    let detail = "store.url is cookie:, which compares nothing: the last response wins";
                    return Err(refuse(Reason::Disabled, detail.to_owned()));
                }
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
        let flag = || match text {
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
                if !is_percent_encoded(text) {
                    return Err(refuse(
                        Reason::Malformed,
                        "a % stands before what are not two hexadecimal digits",
                    ));
                }
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

/// Does each `%` begin the code of a byte? A backend that forgot to encode must not store something else in silence.
fn is_percent_encoded(text: &str) -> bool {
    let code =
        |rest: &[u8]| matches!(rest, [one, two, ..] if one.is_ascii_hexdigit() && two.is_ascii_hexdigit());
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'%', bytes).all(|at| code(&bytes[at + 1..]))
}

fn steps(map: crate::session::data::Map) -> Result<Vec<(String, i64)>, json::Wrong> {
    let step = |(key, value): (String, Value)| match value
        .as_number()
        .and_then(|number| number.as_str().parse().ok())
    {
        Some(step) => Ok((key, step)),
        None => Err((Reason::Malformed, "a step is no 64-bit integer".to_owned())),
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
    } else if let Some(millis) = rfc3339(text) {
        at(millis)
    } else {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        at(i64::try_from(since.as_millis()).ok()?)
    };
    Some(if date <= now { Wish::Past } else { Wish::So(Expiry::At(date)) })
}

/// An instant in milliseconds; one that is beyond the calendar of `jiff` is as far as it can be.
fn rfc3339(text: &str) -> Option<i64> {
    let pieces = Pieces::parse(text).ok().filter(|pieces| pieces.time_zone_annotation().is_none())?;
    let (time, offset) = (pieces.time()?, pieces.to_numeric_offset()?);
    let date = pieces.date().to_datetime(time);
    let beyond = if date.year() > 0 { i64::MAX } else { i64::MIN };
    Some(offset.to_timestamp(date).map_or(beyond, jiff::Timestamp::as_millisecond))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const CANARY: &str = "ca\u{f1}ary";

    fn reader(change: impl FnOnce(&mut Config)) -> Reader {
        let mut config = Config { keys: vec!["member_no".to_owned()], ..Config::default() };
        change(&mut config);
        Reader::new(&config, true)
    }

    fn take(reader: &Reader, lines: &[(&str, &str)]) -> (Taken, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        let taken = reader.take(&mut headers, b"n0nce", NOW);
        (taken, headers)
    }

    fn reason(lines: &[(&str, &str)]) -> Result<usize, Reason> {
        let (taken, left) = take(&reader(|_| {}), lines);
        assert!(left.is_empty());
        taken.changes.map(|changes| changes.asked()).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn directives_are_taken_in_their_exact_names_and_the_rest_of_ours_is_stripped() {
        let lines = [
            ("X-SESSION-Set", r#"{"a":1}"#),
            ("x_session_set", r#"{"b":1}"#),
            ("X-Session-Data", "{"),
            ("X-Session-Data", "{"),
            ("X-Session-Nonce", "other"),
            ("X-Custom", "stays"),
        ];
        let (taken, left) = take(&reader(|_| {}), &lines);
        assert_eq!((taken.changes.unwrap().asked(), taken.stripped, left.len()), (1, 4, 1));
    }

    #[test]
    fn a_nonce_must_be_this_requests_wherever_it_stands() {
        let strict = reader(|config| config.require_nonce = true);
        let set = ("x-session-set", "{}");
        for (nonces, obeyed) in [
            (&["n0nce"][..], true),
            (&["n0nce", "n0nce"], true),
            (&[], false),
            (&["other"], false),
            (&["n0nce", "other"], false),
            (&["N0NCE"], false),
        ] {
            let nonces = nonces.iter().map(|nonce| ("x-session-nonce", *nonce));
            for lines in
                [nonces.clone().chain([set]).collect::<Vec<_>>(), [set].into_iter().chain(nonces).collect()]
            {
                let refused = take(&strict, &lines).0.changes.map(|_| ()).map_err(|refusal| refusal.reason);
                assert_eq!(refused, if obeyed { Ok(()) } else { Err(Reason::Nonce) }, "{lines:?}");
            }
        }
        assert!(take(&strict, &[("x-session-data", "{}")]).0.changes.is_ok(), "nothing is asked");
        let mut headers: HeaderMap = [("x-session-set", "{}"), ("x-session-nonce", "")]
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let without = strict.take(&mut headers, b"", NOW).changes;
        assert!(without.is_err(), "without random bits no response can repeat them");
    }

    #[test]
    fn the_order_does_not_depend_on_the_wire() {
        let mut lines = [
            ("x-session-increment", r#"{"n":1}"#),
            ("x-session-set-key-member-no", "key"),
            ("x-session-set", r#"{"member_no":"set"}"#),
            ("x-session-flush", "true"),
            ("x-session-set-default", r#"{"n":1}"#),
        ];
        let first = take(&reader(|_| {}), &lines).0.changes.unwrap();
        for turn in 0..lines.len() {
            lines.rotate_left(1);
            assert_eq!(take(&reader(|_| {}), &lines).0.changes.unwrap(), first, "{turn}");
        }
        let names: Vec<_> = first.directives().iter().map(Directive::name).collect();
        assert_eq!(names, ["Flush", "Set", "Set", "Set-Default", "Increment"]);
    }

    #[test]
    fn each_kind_of_refusal_has_its_reason() {
        for (lines, expected) in [
            (&[("x-session-set", "{")][..], Reason::Malformed),
            (&[("x-session-clear", "TRUE")], Reason::Malformed),
            (&[("x-session-set", r#"{"a":1,"a":1}"#)], Reason::DuplicateKey),
            (&[("x-session-delete", "_a")], Reason::ReservedKey),
            (&[("x-session-set-key-other", "1")], Reason::Unknown),
            (&[("x-session-set_default", "{}")], Reason::Unknown),
            (&[("x-session-expiry", "1"), ("x-session-expiry", "2")], Reason::Repeated),
        ] {
            assert_eq!(reason(lines), Err(expected), "{lines:?}");
        }
        assert_eq!(reason(&[("x-session-expiry", "1"), ("x-session-expiry", "1")]), Ok(1));
        let off = Reader::new(&Config::default(), false);
        let refused = take(&off, &[("x-session-subject", "a")]).0.changes.unwrap_err();
        assert_eq!((refused.reason, &*refused.directive), (Reason::Disabled, "Subject"));
        let last_wins = reader(|_| {}).comparing(false);
        for (line, name) in [("x-session-increment", "Increment"), ("x-session-if-version", "If-Version")] {
            let refused = take(&last_wins, &[(line, "{}"), ("x-session-set", "{}")]).0.changes.unwrap_err();
            assert_eq!((refused.reason, &*refused.directive), (Reason::Disabled, name));
        }
        assert!(take(&last_wins, &[("x-session-set", "{}")]).0.changes.is_ok());
        let short = reader(|config| config.max_directive_bytes = 7);
        assert!(take(&short, &[("x-session-set", r#"{"a":1}"#)]).0.changes.is_ok());
        let long = take(&short, &[("x-session-set", r#"{"a":10}"#)]).0.changes.unwrap_err();
        assert_eq!(long.reason, Reason::TooLarge);
    }

    #[test]
    fn an_expiry_has_the_forms_of_the_contract() {
        let at = |millis| Some(Wish::So(Expiry::At(Timestamp::from_millis(millis))));
        for (text, wish) in [
            ("default", Some(Wish::So(Expiry::Default))),
            ("0", Some(Wish::So(Expiry::Browser))),
            ("300", Some(Wish::So(Expiry::Idle(300)))),
            ("-1", Some(Wish::Past)),
            ("2023-11-14T22:13:21Z", at(1_700_000_001_000)),
            ("2023-11-14T23:13:20.250+01:00", at(1_700_000_000_250)),
            ("2023-11-14T22:13:20Z", Some(Wish::Past)),
            ("9999-12-31T23:59:59Z", Some(Wish::So(Expiry::At(Timestamp::MAX)))),
            ("Tue, 14 Nov 2023 22:13:21 GMT", at(1_700_000_001_000)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(Wish::So(Expiry::At(Timestamp::MAX)))),
            ("PT1H", at(1_700_003_600_000)),
            ("-PT1H", Some(Wish::Past)),
            ("P19998Y", Some(Wish::So(Expiry::At(Timestamp::MAX)))),
            ("2023-11-14T22:13:21", None),
            ("2023-11-14T22:13:21+01:00[Europe/Berlin]", None),
            ("1h", None),
            ("", None),
        ] {
            assert_eq!(super::wish(text, NOW), wish, "{text}");
        }
    }

    proptest! {
        /// Whatever CGI would call `HTTP_X_SESSION_…` goes from a response, and nothing else does.
        #[test]
        fn nothing_that_folds_to_ours_is_left(
            names in proptest::collection::vec("[Xx][-_.!~][Ss]ession[-_.*+][a-zA-Z_]{0,8}|[a-z][a-z_-]{0,12}", 0..6)
        ) {
            let lines: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
            let (_, left) = take(&reader(|_| {}), &lines);
            let is_ours = |name: &str| fold(name).starts_with("x-session-");
            let others = names.iter().filter(|name| !is_ours(name)).count();
            prop_assert_eq!(left.len(), others);
            prop_assert!(left.keys().all(|name| !is_ours(name.as_str())));
        }

        #[test]
        fn no_text_makes_the_reader_panic_or_repeat_it(
            name in "set|set-default|merge|increment|delete|clear|expiry|test-cookie|save|subject|if-version|set-key-member-no",
            text in "\\PC{0,40}",
        ) {
            let secret = format!("{text}{CANARY}");
            let value = HeaderValue::from_bytes(secret.as_bytes());
            prop_assume!(value.is_ok());
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::try_from(format!("x-session-{name}")).unwrap(), value.unwrap());
            let taken = reader(|_| {}).take(&mut headers, b"n0nce", NOW);
            if let Err(refusal) = taken.changes {
                prop_assert!(!refusal.to_string().contains(CANARY), "{}", refusal);
            }
        }
    }
}
