//! What the backend receives: first everything spoofed is stripped, then the session is injected.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::HeaderName;
use memchr::memmem::Finder;

use super::lines::Lines;
use super::names::Guard;
use super::{Config, OnOverflow};
use crate::session::data::{Map, RESERVED, is_visible, to_ascii, to_bare};
use crate::session::directive::{TEST_COOKIE, TEST_COOKIE_VALUE};
use crate::session::limits::Budget;
use crate::session::{Data, Expiry, Id, Lifetimes, Live};
use crate::time::Timestamp;

/// Finds what the data of a session with a test cookie holds.
static TEST_COOKIE_ENTRY: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(TEST_COOKIE));

/// The data of no session.
const EMPTY: &[u8] = b"{}";

/// What a budget counts for each header besides its name and value: colon, space, CR, LF.
const LINE: usize = 4;

/// The session as one request reads it.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// A session was loaded, or an ended token still reads one.
    Active(&'a Live),
    /// There is none.
    Empty,
    /// The store could not say.
    Unavailable,
}

/// What a request says of its session besides its data.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// The session.
    pub view: View<'a>,
    /// What a response may have to repeat.
    pub nonce: &'a [u8],
    /// The request's method.
    pub method: &'a str,
    /// The request's target as the backend sees it.
    pub target: &'a str,
}

/// A session that the request headers have no room for, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// What the headers would take.
    pub takes: usize,
    /// `headers.budget`.
    pub budget: usize,
}

/// Writes the session into requests.
#[derive(Debug)]
pub struct Injector {
    guard: Guard,
    names: Names,
    keys: Vec<(String, String)>,
    expose: Vec<String>,
    budget: Budget,
    omit: bool,
    /// Entries that are never left out.
    required: Vec<String>,
    lifetimes: Lifetimes,
    /// The lines of a request without a session that are the same for all.
    empty: Vec<u8>,
    secret: Option<hmac::Key>,
}

/// What our headers are called, in lower case.
#[derive(Debug)]
struct Names {
    data: String,
    state: String,
    id: String,
    version: String,
    expiry_age: String,
    expiry_date: String,
    expires_at: String,
    browser_close: String,
    test_cookie: String,
    nonce: String,
    omitted: String,
    signature: String,
}

impl Injector {
    /// Makes an injector of the settings; `secret` is what signs requests, empty for no signature.
    ///
    /// # Errors
    /// Says which name the prefix or an entry makes that no header can have, or which two entries one header.
    pub fn new(
        config: &Config,
        cycle_on: &[String],
        lifetimes: Lifetimes,
        secret: &[u8],
    ) -> Result<Self, String> {
        let name = |suffix: &str| {
            let name = format!("{}{suffix}", config.prefix).to_lowercase();
            HeaderName::try_from(&name).map_err(|_| format!("{name:?} can't be the name of a header"))?;
            Ok::<_, String>(name)
        };
        let names = Names {
            data: name("Data")?,
            state: name("State")?,
            id: name("Id")?,
            version: name("Version")?,
            expiry_age: name("Expiry-Age")?,
            expiry_date: name("Expiry-Date")?,
            expires_at: name("Expires-At")?,
            browser_close: name("Expire-At-Browser-Close")?,
            test_cookie: name("Test-Cookie")?,
            nonce: name("Nonce")?,
            omitted: name("Omitted")?,
            signature: name("Signature")?,
        };
        let of_entry = |entry: &String| {
            let name = name(&format!("Key-{}", super::names::fold(entry)))?;
            Ok((entry.clone(), name))
        };
        // A reserved entry is injected where it is exposed, and nowhere else.
        let readable = |entry: &&String| !entry.starts_with(RESERVED) || config.expose.contains(entry);
        let keys = config.keys.iter().filter(readable).map(of_entry).collect::<Result<Vec<_>, String>>()?;
        for (at, (entry, name)) in keys.iter().enumerate() {
            if let Some((earlier, _)) = keys[..at].iter().find(|(_, other)| other == name) {
                return Err(format!("keys lists {earlier:?} and {entry:?}, and both would be {name}"));
            }
        }
        let mut empty = Lines::default();
        names.begin(&mut empty, EMPTY, Expiry::Default, &lifetimes, Timestamp::MAX);
        let secret = (!secret.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, secret));
        let budget = Budget {
            bytes: config.budget,
            fixed: names.longest(secret.is_some()),
            keys: keys.iter().map(|(entry, name)| (entry.clone(), name.len() + LINE)).collect(),
            expose: config.expose.clone(),
        };
        Ok(Self {
            guard: Guard::new(&config.prefix, &config.also_strip),
            names,
            keys,
            expose: config.expose.clone(),
            budget,
            omit: config.on_overflow == OnOverflow::Omit,
            required: cycle_on.iter().chain(&config.required).cloned().collect(),
            lifetimes,
            empty: empty.into_inner(),
            secret,
        })
    }

    /// What a change must fit into, where one that doesn't is to be refused.
    pub fn budget(&self) -> Option<Budget> {
        (!self.omit).then(|| self.budget.clone())
    }

    /// Which names may not pass.
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Injects the session into a request whose own headers have been stripped.
    ///
    /// # Errors
    /// [`TooLarge`] if the session doesn't fit into `headers.budget`; such a request must not be forwarded, for
    /// the absence of an entry must never be an attacker's choice.
    pub fn inject(&self, lines: &mut Lines, what: &Said<'_>, now: Timestamp) -> Result<(), TooLarge> {
        let live = match what.view {
            View::Active(live) => Some(live),
            View::Empty | View::Unavailable => None,
        };
        let names = &self.names;
        let expiry = live.map_or(Expiry::Default, |live| live.record.expiry);
        let (data, omitted) = match live {
            None => {
                lines.written(&self.empty);
                (Bytes::from_static(EMPTY), None)
            }
            Some(live) => {
                let (data, omitted) = self.fit(&live.record.data)?;
                assert!(is_visible(&data), "data is kept as visible ASCII");
                names.begin(lines, &data, expiry, &self.lifetimes, now);
                (data, omitted)
            }
        };
        lines.text(&names.state, what.view.state().as_bytes());
        lines.text(&names.expiry_date, &expiry.date(&self.lifetimes, now).rfc3339());
        lines.text(&names.nonce, what.nonce);
        let id = live.map(|live| Id::from(live.key).to_hex());
        if let (Some(live), Some(id)) = (live, &id) {
            lines.text(&names.id, id);
            lines.text(&names.version, &live.revision.to_hex());
            lines.text(&names.expires_at, &live.until.rfc3339());
            // A look at the text spares the parsing of data that can't hold the entry.
            if TEST_COOKIE_ENTRY.find(live.record.data.text()).is_some()
                && live.record.data.map().get(TEST_COOKIE).is_some_and(|value| value == TEST_COOKIE_VALUE)
            {
                lines.text(&names.test_cookie, TEST_COOKIE_VALUE.as_bytes());
            }
            self.inject_entries(lines, &live.record.data, omitted.as_deref());
        }
        if let Some(secret) = &self.secret {
            let signature = sign(secret, what, id.as_ref().map_or(&[][..], |id| id), &data, now);
            lines.text(&names.signature, signature.as_bytes());
        }
        Ok(())
    }

    /// Injects the entries that have headers of their own, and the names of those that were left out.
    fn inject_entries(&self, lines: &mut Lines, data: &Data, omitted: Option<&[String]>) {
        let left_out = |entry: &String| omitted.is_some_and(|names| names.contains(entry));
        for (entry, name) in self.keys.iter().filter(|(entry, _)| !left_out(entry)) {
            if let Some(value) = data.map().get(entry) {
                lines.text(name, to_bare(value).as_bytes());
            }
        }
        if let Some(names) = omitted {
            lines.text(&self.names.omitted, &to_ascii(&names));
        }
    }

    /// The data that fits, and the entries that were left out to make it fit.
    fn fit(&self, data: &Data) -> Result<(Bytes, Option<Vec<String>>), TooLarge> {
        let visible = data.visible(&self.expose);
        // The usual case without looking closer: no entry has a header of its own.
        if self.keys.is_empty() && self.budget.fixed + visible.len() <= self.budget.bytes {
            return Ok((visible, None));
        }
        let takes = self.budget.takes(data);
        if takes <= self.budget.bytes {
            return Ok((visible, None));
        }
        let too_large = Err(TooLarge { takes, budget: self.budget.bytes });
        if !self.omit {
            return too_large;
        }
        let mut map: Map = serde_json::from_slice(&visible).unwrap_or_default();
        let mut omitted: Vec<String> = Vec::new();
        while let Some(last) = map.keys().rev().find(|key| !self.required.contains(key)).cloned() {
            map.shift_remove(&last);
            omitted.push(last);
            let rest = Data::from_map(map.clone());
            let named = self.names.omitted.len() + LINE + to_ascii(&omitted).len();
            if self.budget.takes(&rest) + named <= self.budget.bytes {
                return Ok((rest.text().clone(), Some(omitted)));
            }
        }
        too_large
    }
}

impl View<'_> {
    const fn state(self) -> &'static str {
        match self {
            Self::Active(_) => "active",
            Self::Empty => "empty",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Names {
    /// Writes what depends on nothing but the session's data and the way it expires; on `now` only for a fixed date.
    fn begin(&self, lines: &mut Lines, data: &[u8], expiry: Expiry, lifetimes: &Lifetimes, now: Timestamp) {
        let mut digits = [0; 20];
        let browser = if expiry.at_browser_close(lifetimes) { "true" } else { "false" };
        lines.text(&self.data, data);
        lines.text(&self.expiry_age, decimal(expiry.age(lifetimes, now), &mut digits));
        lines.text(&self.browser_close, browser.as_bytes());
    }

    /// What all headers take at their longest, but for the data itself and the entries of `headers.keys`.
    fn longest(&self, signed: bool) -> usize {
        let date = "9999-12-30T22:00:00Z".len();
        let lines = [
            (&self.data, 0),
            (&self.state, "unavailable".len()),
            (&self.id, 40),
            (&self.version, 16),
            (&self.expiry_age, 20),
            (&self.expiry_date, date),
            (&self.expires_at, date),
            (&self.browser_close, "false".len()),
            (&self.test_cookie, TEST_COOKIE_VALUE.len()),
            (&self.nonce, 16),
        ];
        let signature = if signed { self.signature.len() + LINE + "v1,,".len() + 20 + 64 } else { 0 };
        lines.iter().map(|(name, value)| name.len() + value + LINE).sum::<usize>() + signature
    }
}

/// Signs a request: `v1,<unix time>,<hex HMAC>` over time, method, target, id and data.
fn sign(secret: &hmac::Key, what: &Said<'_>, id: &[u8], data: &[u8], now: Timestamp) -> String {
    let time = now.as_secs().to_string();
    let parts = [time.as_bytes(), what.method.as_bytes(), what.target.as_bytes(), id, data];
    let signature = HEXLOWER.encode(hmac::sign(secret, &parts.join(&b'\n')).as_ref());
    format!("v1,{time},{signature}")
}

/// A number's digits, at the end of `room`.
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b"0123456789"[usize::try_from(number % 10).unwrap_or(0)];
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::session::{Key, Record, Revision, Scope, Token};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn injector(change: impl FnOnce(&mut Config)) -> Injector {
        let mut config = Config::default();
        change(&mut config);
        let lifetimes = Lifetimes { age: Duration::from_secs(1_209_600), browser: false, absolute: None };
        Injector::new(&config, &["user_id".to_owned()], lifetimes, config.secret.expose().as_bytes()).unwrap()
    }

    #[allow(clippy::needless_pass_by_value, reason = "so that a test can say json!(…) as it stands")]
    fn session(data: Value) -> Live {
        let data = Data::from_map(serde_json::from_value(data).unwrap());
        Live {
            key: Key::of("", &Token::from_bits(&[1; 20])),
            record: Record { data, ..Record::new(Scope(1), NOW) },
            revision: Revision::from_bits(u64::MAX).unwrap(),
            until: Timestamp::MAX,
            history: [None; 3],
            age: Duration::ZERO,
        }
    }

    fn inject(injector: &Injector, view: View<'_>) -> Result<HeaderMap, TooLarge> {
        let mut lines = Lines::request("GET", "/", 0);
        let said = Said { view, nonce: b"0123456789abcdef", method: "GET", target: "/" };
        injector.inject(&mut lines, &said, NOW)?;
        Ok(lines.read())
    }

    fn bytes(headers: &HeaderMap) -> usize {
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE).sum()
    }

    #[test]
    fn each_view_has_its_state_and_only_an_active_one_names_the_session() {
        let (injector, live) = (injector(|_| {}), session(json!({"a": 1})));
        for (view, state, data, named) in [
            (View::Active(&live), "active", r#"{"a":1}"#, true),
            (View::Empty, "empty", "{}", false),
            (View::Unavailable, "unavailable", "{}", false),
        ] {
            let headers = inject(&injector, view).unwrap();
            assert_eq!(
                (&headers["x-session-state"], &headers["x-session-data"]),
                (&state.parse().unwrap(), &data.parse().unwrap())
            );
            for name in ["x-session-id", "x-session-version", "x-session-expires-at"] {
                assert_eq!(headers.contains_key(name), named, "{state} {name}");
            }
        }
    }

    #[test]
    fn a_reserved_entry_is_injected_where_it_is_exposed_only() {
        let live = session(json!({"_auth_user_id": "7", "_csrf": "s3cret", "a": {"_b": 1}}));
        let keys = || vec!["_auth_user_id".to_owned(), "_csrf".to_owned(), "a".to_owned()];
        let hidden = inject(&injector(|config| config.keys = keys()), View::Active(&live)).unwrap();
        assert_eq!(hidden["x-session-data"], r#"{"a":{"_b":1}}"#);
        assert_eq!(hidden.keys().filter(|name| name.as_str().starts_with("x-session-key-")).count(), 1);
        let exposing = injector(|config| {
            (config.keys, config.expose) = (keys(), vec!["_auth_user_id".to_owned()]);
        });
        let exposed = inject(&exposing, View::Active(&live)).unwrap();
        assert_eq!(exposed["x-session-data"], r#"{"_auth_user_id":"7","a":{"_b":1}}"#);
        assert_eq!(exposed["x-session-key--auth-user-id"], "7");
        assert!(exposed.iter().all(|(_, value)| !value.to_str().unwrap().contains("s3cret")));
    }

    #[test]
    fn a_record_that_does_not_fit_is_not_forwarded() {
        let full = |n: usize| session(json!({"a": 1, "pad": "x".repeat(n)}));
        let injector = injector(|config| config.budget = 1000);
        let most = (0..1000).rev().find(|n| inject(&injector, View::Active(&full(*n))).is_ok()).unwrap();
        let over = inject(&injector, View::Active(&full(most + 1))).unwrap_err();
        assert_eq!(over, TooLarge { takes: 1001, budget: 1000 });
        assert!(bytes(&inject(&injector, View::Active(&full(most))).unwrap()) <= 1000);
    }

    #[test]
    fn what_is_required_or_says_who_the_user_is_is_never_omitted() {
        let injector = injector(|config| {
            (config.budget, config.on_overflow, config.required) =
                (1000, OnOverflow::Omit, vec!["r".to_owned()]);
        });
        let pad = "x".repeat(300);
        let live = session(json!({"r": 1, "a": pad, "b": pad, "user_id": 7, "c": pad}));
        let headers = inject(&injector, View::Active(&live)).unwrap();
        assert_eq!(headers["x-session-omitted"], r#"["c","b"]"#);
        assert!(headers["x-session-data"].to_str().unwrap().ends_with(r#""user_id":7}"#));
        for stuck in [json!({"r": "x".repeat(1000)}), json!({"user_id": "x".repeat(1000), "a": 1})] {
            assert!(inject(&injector, View::Active(&session(stuck))).is_err());
        }
    }

    #[test]
    fn listed_entries_with_the_same_header_are_no_configuration() {
        let lifetimes = Lifetimes { age: Duration::ZERO, browser: false, absolute: None };
        let keys = ["member_id", "x", "MEMBER-ID"].map(str::to_owned).to_vec();
        let config = Config { keys, ..Config::default() };
        let why = Injector::new(&config, &[], lifetimes, b"").unwrap_err();
        assert!(why.contains("member_id") && why.contains("MEMBER-ID"), "{why}");
    }

    proptest! {
        #[test]
        fn whatever_is_injected_stays_within_the_budget_and_parses(
            entries in proptest::collection::vec((any::<String>(), any::<String>()), 0..8),
            signed: bool, omit: bool, test_cookie: bool, budget in 600_usize..1500,
        ) {
            let injector = injector(|config| {
                config.budget = budget;
                config.on_overflow = if omit { OnOverflow::Omit } else { OnOverflow::Refuse };
                config.keys = vec!["k".to_owned()];
                config.secret = crate::secret::Secret::new(if signed { "s" } else { "" });
            });
            let mut map: Map = entries.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
            if test_cookie {
                map.insert(TEST_COOKIE.to_owned(), TEST_COOKIE_VALUE.into());
            }
            if let Some((key, value)) = entries.first() {
                map.insert("k".to_owned(), format!("{key}{value}").into());
            }
            let live = session(map.clone().into());
            match inject(&injector, View::Active(&live)) {
                Ok(headers) => {
                    prop_assert!(bytes(&headers) <= budget);
                    let read: Map = serde_json::from_slice(headers["x-session-data"].as_bytes()).unwrap();
                    map.retain(|key, _| !key.starts_with(RESERVED));
                    let omitted: Vec<String> = headers
                        .get("x-session-omitted")
                        .map(|names| serde_json::from_slice(names.as_bytes()).unwrap())
                        .unwrap_or_default();
                    prop_assert!(omit || omitted.is_empty());
                    map.retain(|key, _| !omitted.contains(key));
                    prop_assert_eq!(read, map);
                }
                // With `omit`: the names of what was left out may take more room than there is.
                Err(large) => prop_assert!(large.takes > budget),
            }
        }
    }
}
