//! What the backend receives: first everything spoofed is stripped, then the session is injected.

use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

use super::names::Guard;
use super::{Config, OnOverflow};
use crate::session::data::{Map, to_ascii, to_bare};
use crate::session::directive::{Budget, TEST_COOKIE, TEST_COOKIE_VALUE};
use crate::session::{Data, Expiry, Id, Lifetimes, Live};
use crate::time::Timestamp;

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
    keys: Vec<(String, HeaderName)>,
    expose: Vec<String>,
    budget: Budget,
    omit: bool,
    /// Entries that are never left out.
    required: Vec<String>,
    lifetimes: Lifetimes,
    secret: Option<hmac::Key>,
}

#[derive(Debug)]
struct Names {
    data: HeaderName,
    state: HeaderName,
    id: HeaderName,
    version: HeaderName,
    expiry_age: HeaderName,
    expiry_date: HeaderName,
    expires_at: HeaderName,
    browser_close: HeaderName,
    test_cookie: HeaderName,
    nonce: HeaderName,
    omitted: HeaderName,
    signature: HeaderName,
}

impl Injector {
    /// Makes an injector of the settings; `secret` is what signs requests, empty for no signature.
    ///
    /// # Errors
    /// Says which name the prefix or an entry makes that no header can have.
    pub fn new(
        config: &Config,
        cycle_on: &[String],
        lifetimes: Lifetimes,
        secret: &[u8],
    ) -> Result<Self, String> {
        let name = |suffix: &str| {
            let name = format!("{}{suffix}", config.prefix).to_lowercase();
            HeaderName::try_from(&name).map_err(|_| format!("{name:?} can't be the name of a header"))
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
        let of_entry =
            |entry: &String| Ok((entry.clone(), name(&format!("Key-{}", super::names::fold(entry)))?));
        let keys = config.keys.iter().map(of_entry).collect::<Result<Vec<_>, String>>()?;
        let secret = (!secret.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, secret));
        let budget = Budget {
            bytes: config.budget,
            fixed: names.longest(secret.is_some()),
            keys: keys.iter().map(|(entry, name)| (entry.clone(), name.as_str().len() + LINE)).collect(),
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

    /// Injects the session. The request must have been stripped, and its hop-by-hop headers be gone.
    ///
    /// # Errors
    /// [`TooLarge`] if the session doesn't fit into `headers.budget`; such a request must not be forwarded, for
    /// the absence of an entry must never be an attacker's choice.
    pub fn inject(
        &self,
        headers: &mut HeaderMap,
        view: View<'_>,
        nonce: &HeaderValue,
        now: Timestamp,
    ) -> Result<(), TooLarge> {
        let live = match view {
            View::Active(live) => Some(live),
            View::Empty | View::Unavailable => None,
        };
        headers.reserve(10 + self.keys.len());
        let (data, omitted) = match live {
            None => (Bytes::from_static(b"{}"), None),
            Some(live) => self.fit(&live.record.data)?,
        };
        let full = live.map(|live| &live.record.data);
        if !self.keys.is_empty() || omitted.is_some() {
            let left_out = |entry: &String| omitted.as_ref().is_some_and(|names| names.contains(entry));
            for (entry, name) in &self.keys {
                let value = full.and_then(|data| data.map().get(entry)).filter(|_| !left_out(entry));
                if let Some(value) = value.and_then(|value| HeaderValue::try_from(to_bare(value)).ok()) {
                    headers.insert(name.clone(), value);
                }
            }
        }
        if let Some(names) = &omitted {
            let value = HeaderValue::try_from(to_ascii(names)).expect("ASCII JSON is a header value");
            headers.insert(self.names.omitted.clone(), value);
        }
        let value = HeaderValue::from_maybe_shared(data).expect("ASCII JSON is a header value");
        headers.insert(self.names.data.clone(), value);
        headers.insert(self.names.state.clone(), HeaderValue::from_static(view.state()));
        let expiry = live.map_or(Expiry::Default, |live| live.record.expiry);
        headers.insert(self.names.expiry_age.clone(), HeaderValue::from(expiry.age(&self.lifetimes, now)));
        headers.insert(self.names.expiry_date.clone(), text(&expiry.date(&self.lifetimes, now).rfc3339()));
        let browser = if expiry.at_browser_close(&self.lifetimes) { "true" } else { "false" };
        headers.insert(self.names.browser_close.clone(), HeaderValue::from_static(browser));
        headers.insert(self.names.nonce.clone(), nonce.clone());
        if let Some(live) = live {
            headers.insert(self.names.id.clone(), text(&Id::from(live.key).to_hex()));
            headers.insert(self.names.version.clone(), text(&live.revision.to_hex()));
            headers.insert(self.names.expires_at.clone(), text(&live.until.rfc3339()));
            // A look at the text spares the parsing of data that can't hold the entry.
            if memchr::memmem::find(live.record.data.text(), TEST_COOKIE.as_bytes()).is_some()
                && live.record.data.map().get(TEST_COOKIE).is_some_and(|value| value == TEST_COOKIE_VALUE)
            {
                headers.insert(self.names.test_cookie.clone(), HeaderValue::from_static(TEST_COOKIE_VALUE));
            }
        }
        Ok(())
    }

    /// Signs a request whose session was injected: `v1,<unix time>,<hex HMAC>` over time, method, target, id, data.
    pub fn sign(&self, headers: &mut HeaderMap, method: &Method, target: &Uri, now: Timestamp) {
        let Some(secret) = &self.secret else { return };
        let value = |name: &HeaderName| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        let target = target.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let time = now.as_secs().to_string();
        let parts = [
            time.as_bytes(),
            method.as_str().as_bytes(),
            target.as_bytes(),
            value(&self.names.id),
            value(&self.names.data),
        ];
        let signature = HEXLOWER.encode(hmac::sign(secret, &parts.join(&b'\n')).as_ref());
        headers.insert(self.names.signature.clone(), text(format!("v1,{time},{signature}").as_bytes()));
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
            let named = self.names.omitted.as_str().len() + LINE + to_ascii(&omitted).len();
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
        let signature =
            if signed { self.signature.as_str().len() + LINE + "v1,,".len() + 20 + 64 } else { 0 };
        lines.iter().map(|(name, value)| name.as_str().len() + value + LINE).sum::<usize>() + signature
    }
}

/// The least `headers.budget` that has room for a session without an entry.
pub fn least_budget(config: &Config) -> Result<usize, String> {
    let lifetimes = Lifetimes { age: Duration::ZERO, browser: false, absolute: None };
    Injector::new(config, &[], lifetimes, config.secret.expose().as_bytes()).map(|it| it.budget.fixed + 2)
}

fn text(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("digits and dates are ASCII")
}
