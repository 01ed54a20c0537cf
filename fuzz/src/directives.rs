//! Directives: refused as a whole or parsed, printed and parsed the same; what they make of a session can be kept,
//! read back and injected.
//!
//! The first byte chooses the settings. The first line is the data of a session, or anything else where there is none;
//! the rest are lines of a response's head, `name: value`.

use std::sync::OnceLock;
use std::time::Duration;

use coatroom::session::data::{Data, Map, depth};
use coatroom::session::directive::{Condition, Effect, Wish};
use coatroom::session::record::Entry;
use coatroom::session::{
    Changes, Config as Sessions, Directive, Expiry, Key, Limits, Live, Policy, Record, Revision, Scope, Token,
};
use coatroom::store::codec::Codec;
use coatroom::time::Timestamp;
use coatroom::wire::lines::Lines;
use coatroom::wire::request::{Injector, Said, View};
use coatroom::wire::response::Reader;
use coatroom::wire::{Config, OnOverflow};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::json;
use super::names::{cgi, occurs_once, sent};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const NONCE: &str = "0123456789abcdef";
/// One for each first byte, made when it is asked for.
static SETTINGS: [OnceLock<Settings>; 256] = [const { OnceLock::new() }; 256];
/// serde_json reads an object with this key as a number; a model of it would be the same code once more.
const PRIVATE: &str = "$serde_json";
/// Names that only a request has.
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

/// Checks what directives are read, and what they do.
pub fn check(input: &[u8]) {
    let Some((flags, text)) = input.split_first() else { return };
    let settings = SETTINGS[usize::from(*flags)].get_or_init(|| Settings::of(*flags));
    let mut lines = text.split(|byte| *byte == b'\n');
    let base = lines.next().and_then(record);
    let head: Vec<(HeaderName, HeaderValue)> = lines.filter_map(header).collect();
    let mut headers: HeaderMap = HeaderMap::new();
    head.iter().for_each(|(name, value)| _ = headers.append(name.clone(), value.clone()));
    let taken = settings.reader.take(&mut headers, NONCE.as_bytes(), NOW);
    is_clean(&head, &headers);
    if let Some(accepted) = settings.accepts(&head) {
        assert_eq!(taken.changes.is_ok(), accepted, "{:?}", taken.changes);
    }
    match taken.changes {
        Err(refusal) => assert!(!refusal.detail.is_empty()),
        Ok(changes) => {
            is_what_was_said(&changes, &head);
            comes_back(&changes);
            settings.apply(&changes, base.as_ref());
            settings.apply(&changes, None);
        }
    }
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let at = line.iter().position(|byte| *byte == b':')?;
    let value = line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..]);
    // As hyper hands them over: blanks at both ends belong to the line.
    Some((HeaderName::from_bytes(&line[..at]).ok()?, HeaderValue::from_bytes(value.trim_ascii()).ok()?))
}

fn record(line: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(line).ok().filter(|text| !text.contains(PRIVATE))?;
    let Value::Object(map) = json::values(text)?.pop()? else { return None };
    Some(Record { data: Data::from_map(map), ..Record::new(Scope(1), NOW) })
}

/// Nothing of ours is left, and nothing else is gone.
fn is_clean(head: &[(HeaderName, HeaderValue)], left: &HeaderMap) {
    let others: Vec<_> =
        head.iter().filter(|(name, _)| !cgi(name.as_str()).starts_with("X_SESSION_")).collect();
    assert_eq!(others.len(), left.len());
    for name in left.keys() {
        let kept = others.iter().filter(|(other, _)| other == name).map(|(_, value)| value);
        assert!(left.get_all(name).iter().eq(kept), "{name}");
    }
}

/// Directives and their texts, in the order of the wire.
fn said(head: &[(HeaderName, HeaderValue)]) -> impl Iterator<Item = (&str, &HeaderValue)> {
    head.iter().filter_map(|(name, value)| {
        let suffix = name.as_str().strip_prefix("x-session-")?;
        let of_request = OF_REQUESTS.contains(&suffix) || suffix.starts_with("key-");
        (!of_request).then_some((suffix, value))
    })
}

/// The directives that hold JSON are those of the wire, each object one.
fn is_what_was_said(changes: &Changes, head: &[(HeaderName, HeaderValue)]) {
    let objects = |name: &str| -> Option<Vec<Value>> {
        let texts: Vec<&str> = said(head)
            .filter(|(suffix, _)| *suffix == name)
            .map(|(_, value)| std::str::from_utf8(value.as_bytes()).ok())
            .collect::<Option<_>>()?;
        let private = texts.iter().any(|text| text.contains(PRIVATE) || text.contains("\\u"));
        (!private)
            .then(|| texts.into_iter().map(json::values).collect::<Option<Vec<_>>>())
            .flatten()
            .map(|all| all.concat())
    };
    let is = |name: &str, of: fn(&Directive) -> Option<&Map>| {
        let maps: Vec<Value> =
            changes.directives().iter().filter_map(of).cloned().map(Value::Object).collect();
        if let Some(expected) = objects(name) {
            assert_eq!(maps, expected, "{name}");
        }
    };
    is("merge", |directive| if let Directive::Merge(map) = directive { Some(map) } else { None });
    is("set-default", |directive| if let Directive::SetDefault(map) = directive { Some(map) } else { None });
    let keyed = said(head).any(|(suffix, _)| suffix.starts_with("set-key-"));
    if !keyed {
        is("set", |directive| if let Directive::Set(map) = directive { Some(map) } else { None });
    }
}

/// What is parsed can be said in one way, and that is parsed the same.
fn comes_back(changes: &Changes) {
    let mut headers = HeaderMap::new();
    for directive in changes.directives() {
        let text = match directive {
            Directive::Flush | Directive::Clear | Directive::CycleKey => "true".to_owned(),
            Directive::Delete(keys) => ascii(&Value::from(keys.clone())),
            Directive::Set(map) | Directive::SetDefault(map) | Directive::Merge(map) => {
                ascii(&map.clone().into())
            }
            Directive::Increment(steps) => {
                ascii(&steps.iter().map(|(key, step)| (key.clone(), (*step).into())).collect::<Map>().into())
            }
            Directive::TestCookie(set) => if *set { "set" } else { "delete" }.to_owned(),
            Directive::Expiry(wish) => wish_text(*wish),
            Directive::Subject(subject) => subject.clone(),
        };
        let name = HeaderName::try_from(format!("X-Session-{}", directive.name())).expect("a name");
        headers.append(
            name,
            HeaderValue::from_bytes(text.as_bytes()).expect("visible, or what came in a header"),
        );
    }
    if changes.save {
        headers.append("x-session-save", HeaderValue::from_static("true"));
    }
    let version = match changes.condition {
        None => None,
        Some(Condition::NoSession) => Some("0".to_owned()),
        Some(Condition::Version(version)) => {
            Some(version.map_or_else(|| "none".to_owned(), |version| version.to_string()))
        }
    };
    if let Some(version) = version {
        headers.append("x-session-if-version", HeaderValue::try_from(version).expect("digits"));
    }
    let config = Config { max_directive_bytes: usize::MAX, ..Config::default() };
    let again = Reader::new(&config, true).take(&mut headers, NONCE.as_bytes(), NOW);
    assert_eq!(again.changes.as_ref(), Ok(changes));
    assert_eq!(again.stripped, 0);
}

fn wish_text(wish: Wish) -> String {
    match wish {
        Wish::Past => "-1".to_owned(),
        Wish::So(Expiry::Default) => "default".to_owned(),
        Wish::So(Expiry::Browser) => "0".to_owned(),
        Wish::So(Expiry::Idle(secs)) => secs.to_string(),
        Wish::So(Expiry::At(at)) => {
            let whole = String::from_utf8(at.rfc3339().to_vec()).expect("ASCII");
            format!("{}.{:03}Z", whole.trim_end_matches('Z'), at.as_millis().rem_euclid(1000))
        }
    }
}

fn ascii(value: &Value) -> String {
    String::from_utf8(coatroom::session::data::to_ascii(value)).expect("ASCII")
}

struct Settings {
    reader: Reader,
    injector: Injector,
    policy: Policy,
    budget: usize,
    max_bytes: usize,
    require_nonce: bool,
    subject: bool,
    omit: bool,
    lists_keys: bool,
}

impl Settings {
    fn of(flags: u8) -> Self {
        let is_set = |bit: u8| flags & (1 << bit) != 0;
        let (require_nonce, subject, omit) = (is_set(0), is_set(1), is_set(2));
        let (lists_keys, few) = (is_set(5), is_set(6));
        let budget = if is_set(3) { 900 } else { 6000 };
        let max_bytes = if is_set(4) { 60 } else { 16 * 1024 };
        let headers = Config {
            require_nonce,
            budget,
            max_directive_bytes: max_bytes,
            on_overflow: if omit { OnOverflow::Omit } else { OnOverflow::Refuse },
            keys: if lists_keys { vec!["member_id".to_owned(), "_uid".to_owned()] } else { Vec::new() },
            ..Config::default()
        };
        let sessions = Sessions { subject, ..Sessions::default() };
        let mut limits = Limits {
            max_bytes: if few { 200 } else { sessions.max_bytes },
            max_keys: if few { 5 } else { sessions.max_keys },
            max_depth: 32,
            budget: None,
            cookies: None,
        };
        let age = Duration::from_secs(1_209_600);
        let lifetimes = Policy::new(&sessions, age, Scope(1), limits.clone()).lifetimes;
        let injector = Injector::new(&headers, &sessions.cycle_on, lifetimes, b"").expect("right settings");
        limits.budget = injector.budget();
        let policy = Policy::new(&sessions, age, Scope(1), limits);
        Self {
            reader: Reader::new(&headers, subject),
            injector,
            policy,
            budget,
            max_bytes,
            require_nonce,
            subject,
            omit,
            lists_keys,
        }
    }

    /// Are these directives obeyed? `None` where this can't tell.
    fn accepts(&self, head: &[(HeaderName, HeaderValue)]) -> Option<bool> {
        let mut directives: Vec<(&str, Vec<&HeaderValue>)> = Vec::new();
        for (suffix, value) in said(head) {
            match directives.iter_mut().find(|(other, _)| *other == suffix) {
                Some((_, values)) => values.push(value),
                None => directives.push((suffix, vec![value])),
            }
        }
        let mut nonces =
            head.iter().filter(|(name, _)| name == "x-session-nonce").map(|(_, value)| value).peekable();
        let repeated = nonces.peek().is_some() && nonces.all(|nonce| nonce == NONCE);
        if self.require_nonce && !repeated && !directives.is_empty() {
            return Some(false);
        }
        let mut certain = true;
        for (name, values) in directives {
            let Ok(texts) = values
                .iter()
                .map(|value| std::str::from_utf8(value.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
            else {
                return Some(false);
            };
            if texts.iter().any(|text| text.len() > self.max_bytes) {
                return Some(false);
            }
            let private = texts.iter().any(|text| text.contains("$serde") || text.contains("\\u"));
            match self.accepts_one(name, &texts) {
                _ if private && texts.iter().any(|text| text.contains(['{', '['])) => certain = false,
                Some(true) => {}
                Some(false) => return Some(false),
                None => certain = false,
            }
        }
        certain.then_some(true)
    }

    fn accepts_one(&self, name: &str, texts: &[&str]) -> Option<bool> {
        let allowed = |key: &str| !key.starts_with('_');
        let objects = |of: &dyn Fn(&Map) -> bool| {
            let all = |text: &&str| {
                json::values(text)
                    .is_some_and(|all| all.iter().all(|value| value.as_object().is_some_and(of)))
            };
            texts.iter().all(all)
        };
        let one = texts.iter().all(|text| text == &texts[0]);
        Some(match name {
            "set" | "set-default" | "merge" => objects(&|map| map.keys().all(|key| allowed(key))),
            "increment" => objects(&|map| {
                let step = |value: &Value| {
                    value.as_number().is_some_and(|step| step.as_str().parse::<i64>().is_ok())
                };
                map.iter().all(|(key, value)| allowed(key) && step(value))
            }),
            "delete" => texts.iter().all(|text| {
                if !text.trim_start().starts_with('[') {
                    return text.split(',').all(|key| allowed(key.trim_matches([' ', '\t'])));
                }
                let key = |key: &Value| key.as_str().is_some_and(allowed);
                let keys = |value: &Value| value.as_array().is_some_and(|keys| keys.iter().all(key));
                json::values(text).is_some_and(|all| all.iter().all(keys))
            }),
            "flush" | "clear" | "cycle-key" | "save" => one && ["true", "false"].contains(&texts[0]),
            "test-cookie" => one && ["set", "delete"].contains(&texts[0]),
            "if-version" => one,
            "subject" => one && self.subject,
            "expiry" if !one => false,
            "expiry" if texts[0] == "default" || texts[0].parse::<i64>().is_ok() => true,
            "expiry" => return None,
            "set-key-member-id" => one && self.lists_keys && is_encoded(texts[0]),
            // `_uid` is listed, and reserved all the same.
            _ => false,
        })
    }

    /// What is applied can be kept, read back and injected.
    fn apply(&self, changes: &Changes, base: Option<&Record>) {
        let Ok(effect) = changes.apply(base, &self.policy, NOW) else { return };
        let Effect { record, .. } = &effect;
        let (map, text) = (record.data.map(), record.data.text());
        assert!(text.iter().all(|byte| (0x20..0x7f).contains(byte)));
        assert_eq!(Data::from_text(text.clone()).map(), map);
        self.spares_the_reserved(changes, base, &effect);

        let entry = Entry::Live(record.clone());
        let (codec, key) = (Codec::default(), Key::from_bytes([9; 20]));
        let kept = codec.encode("", &key, &entry, &[None; 3]).expect("it isn't sealed");
        assert_eq!(codec.decode("", &key, &kept), Ok((entry, [None; 3])));

        // Nothing is checked where nothing was asked: the data is that of the store.
        if changes.directives().is_empty() {
            return;
        }
        let limits = &self.policy.limits;
        assert!(text.len() <= limits.max_bytes && map.len() <= limits.max_keys);
        assert!(map.values().all(|value| depth(value) < limits.max_depth));
        let live = live(record.clone());
        let said = Said { view: View::Active(&live), nonce: NONCE.as_bytes(), method: "GET", target: "/" };
        let mut lines = Lines::request("GET", "/", 0);
        match self.injector.inject(&mut lines, &said, NOW) {
            Err(large) => assert!(self.omit && large.takes > self.budget, "refused too late: {large:?}"),
            Ok(()) => self.is_injected(&sent(lines), map),
        }
    }

    /// Directives name no reserved entry: it stays, or goes with all others.
    fn spares_the_reserved(&self, changes: &Changes, base: Option<&Record>, effect: &Effect) {
        let before = base.map(|record| record.data.map().clone()).unwrap_or_default();
        let after = effect.record.data.map();
        let gone = effect.flushed || changes.directives().contains(&Directive::Clear);
        for (key, value) in after.iter().filter(|(key, _)| key.starts_with('_')) {
            assert!(!gone && before.get(key) == Some(value), "{key:?} came from nowhere");
        }
        for key in before.keys().filter(|key| key.starts_with('_')) {
            assert!(gone || after.contains_key(key), "{key:?} is gone");
        }
    }

    fn is_injected(&self, headers: &HeaderMap, map: &Map) {
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        assert!(bytes <= self.budget, "{bytes}");
        occurs_once(headers);
        let data = &headers["x-session-data"];
        assert!(data.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte)));
        let read: Map = serde_json::from_slice(data.as_bytes()).expect("JSON");
        let omitted: Vec<String> = headers
            .get("x-session-omitted")
            .map(|names| serde_json::from_slice(names.as_bytes()).expect("JSON"))
            .unwrap_or_default();
        assert!(self.omit || omitted.is_empty());
        assert!(omitted.iter().all(|key| !self.policy.cycle_on.contains(key)));
        let visible: Map = map
            .iter()
            .filter(|(key, _)| !key.starts_with('_') && !omitted.contains(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        // Their order too.
        assert!(read.iter().eq(visible.iter()));
        assert!(!headers.contains_key("x-session-key--uid"));
    }
}

fn is_encoded(text: &str) -> bool {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else { return false };
        decoded.push(u8::try_from(high * 16 + low).expect("two digits"));
    }
    String::from_utf8(decoded).is_ok()
}

fn live(record: Record) -> Live {
    Live {
        key: Key::of("", &Token::from_bits(&[1; 20])),
        record,
        revision: Revision::from_bits(u64::MAX).expect("it is not 0"),
        until: Timestamp::MAX,
        history: [None; 3],
        age: Duration::ZERO,
    }
}
