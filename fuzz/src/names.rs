//! Folding and stripping: a slow folding, as CGI does it, agrees; what is injected is all that a backend can read as
//! ours.
//!
//! The first byte chooses the settings; the rest are lines, each the name of a header.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use coatroom::session::Lifetimes;
use coatroom::time::Timestamp;
use coatroom::wire::Config;
use coatroom::wire::forwarded;
use coatroom::wire::lines::Lines;
use coatroom::wire::request::{Injector, Said, View};
use coatroom::wire::seen::Seen;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::exchange::message::Wire;

/// One for each of the settings, made when it is asked for.
static INJECTORS: [OnceLock<Injector>; 4] = [const { OnceLock::new() }; 4];
/// What the sidecar sets or replaces itself.
pub const GUARDED: [&str; 8] = [
    "FORWARDED",
    "VIA",
    "X_REQUEST_ID",
    "HOST",
    "CONTENT_LENGTH",
    "TRANSFER_ENCODING",
    "COOKIE",
    "CONNECTION",
];
/// What else no trailer may say (RFC 9110 §6.5.1).
const NO_TRAILER: [&str; 16] = [
    "AUTHORIZATION",
    "CACHE_CONTROL",
    "CONTENT_ENCODING",
    "CONTENT_RANGE",
    "CONTENT_TYPE",
    "EXPECT",
    "KEEP_ALIVE",
    "MAX_FORWARDS",
    "PROXY_AUTHORIZATION",
    "PROXY_CONNECTION",
    "RANGE",
    "SET_COOKIE",
    "TE",
    "TRAILER",
    "UPGRADE",
    "WWW_AUTHENTICATE",
];

/// A name as a CGI program reads it, behind `HTTP_` (RFC 3875 §4.1.18), by the most greedy of all folders.
pub fn cgi(name: &str) -> String {
    let fold = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' };
    name.chars().map(fold).collect()
}

/// A backend that folds names finds each once.
pub fn occurs_once(headers: &HeaderMap) {
    let mut environment: BTreeMap<String, &HeaderValue> = BTreeMap::new();
    for (name, value) in headers {
        assert!(environment.insert(cgi(name.as_str()), value).is_none(), "{name} twice");
    }
}

/// What a strict reader makes of a head.
pub fn sent(lines: Lines) -> HeaderMap {
    let bytes = lines.end();
    let mut wire = Wire::new(&bytes[..]);
    let head = wire.head().expect("a head");
    assert!(wire.rest().is_empty(), "two heads: {:?}", String::from_utf8_lossy(&bytes));
    let mut headers = HeaderMap::new();
    for (name, value) in head.headers {
        let name = HeaderName::try_from(name).expect("a name");
        headers.append(name, HeaderValue::from_bytes(&value).expect("a value"));
    }
    headers
}

/// Checks what is stripped, and what is read after injection.
pub fn check(input: &[u8]) {
    let Some((flags, text)) = input.split_first() else { return };
    let named = flags & 4 == 0;
    let flags = flags & 3;
    let prefix = if flags & 1 == 0 { "X-Session-" } else { "Sess-" };
    let also = if flags & 2 == 0 { vec![] } else { vec!["X-User".to_owned(), "remote_user".to_owned()] };
    let injector = INJECTORS[usize::from(flags)].get_or_init(|| {
        let config = Config { prefix: prefix.to_owned(), also_strip: also.clone(), ..Config::default() };
        let lifetimes = Lifetimes { age: Duration::from_secs(60), browser: false, absolute: None };
        Injector::new(&config, &[], lifetimes, b"secret").expect("right settings")
    });
    let names: Vec<HeaderName> =
        text.split(|byte| *byte == b'\n').filter_map(|name| HeaderName::from_bytes(name).ok()).collect();

    let ours = |name: &str| cgi(name).starts_with(&cgi(prefix));
    let plain = |name: &str| name.chars().all(|char| char.is_ascii_alphanumeric() || char == '-');
    let guarded = |name: &str| GUARDED.contains(&&*cgi(name)) || cgi(name).starts_with("X_FORWARDED_");
    let listed = |name: &str| also.iter().any(|other| cgi(other) == cgi(name));
    let spoofed = |name: &str| ours(name) || listed(name) || (guarded(name) && !plain(name));
    let trailing =
        |name: &str| ours(name) || listed(name) || guarded(name) || NO_TRAILER.contains(&&*cgi(name));

    let guard = injector.guard();
    for name in &names {
        assert_eq!(guard.is_ours(name.as_str()), ours(name.as_str()), "{name}");
        assert_eq!(guard.is_spoofed(name.as_str()), spoofed(name.as_str()), "{name}");
    }
    let all: HeaderMap =
        names.iter().enumerate().map(|(n, name)| (name.clone(), HeaderValue::from(n))).collect();
    strips(&all, &names, spoofed, |headers| guard.strip_request(headers));
    strips(&all, &names, ours, |headers| guard.strip_response(headers));
    strips(&all, &names, trailing, |headers| guard.strip_trailers(headers));
    reaches(injector, &names, prefix, named);
}

/// What is doomed goes, all of it and nothing else, and the rest keeps its order and values.
fn strips(
    all: &HeaderMap,
    names: &[HeaderName],
    doomed: impl Fn(&str) -> bool,
    strip: impl Fn(&mut HeaderMap) -> usize,
) {
    let mut appended = HeaderMap::new();
    names.iter().enumerate().for_each(|(n, name)| _ = appended.append(name.clone(), HeaderValue::from(n)));
    assert_eq!(all.keys_len(), appended.keys_len());
    let stripped = strip(&mut appended);
    assert_eq!(stripped + appended.len(), names.len());
    for name in names {
        let places =
            names.iter().enumerate().filter(|(_, other)| *other == name).map(|(n, _)| HeaderValue::from(n));
        let expected: Vec<HeaderValue> = if doomed(name.as_str()) { vec![] } else { places.collect() };
        assert!(appended.get_all(name).iter().eq(expected.iter()), "{name}");
    }
}

/// Whatever a client says, and names in `Connection`, a backend that folds names reads the session that was injected.
fn reaches(injector: &Injector, names: &[HeaderName], prefix: &str, named: bool) {
    let mut headers = HeaderMap::new();
    names.iter().for_each(|name| _ = headers.append(name.clone(), HeaderValue::from_static("SPOOFED")));
    for name in names.iter().filter(|_| named) {
        headers.append("connection", HeaderValue::from(name.clone()));
    }
    headers.insert("cookie", HeaderValue::from_static("a=1"));
    headers.insert("content-length", HeaderValue::from_static("7"));
    injector.guard().strip_request(&mut headers);
    let seen = Seen::of(&headers);
    forwarded::take_hop(&mut headers, seen);
    assert!(headers["cookie"] == "a=1" && headers["content-length"] == "7");
    for hop in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ] {
        assert!(!headers.contains_key(hop), "{hop}");
    }
    let now = Timestamp::from_millis(1_700_000_000_000);
    let said = Said { view: View::Empty, nonce: b"0123456789abcdef", method: "GET", target: "/" };
    let mut lines = Lines::request("GET", "/", 0);
    lines.all(&headers);
    injector.inject(&mut lines, &said, now).expect("it fits");
    let headers = sent(lines);
    let mut read: BTreeMap<String, &HeaderValue> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| cgi(name.as_str()).starts_with(&cgi(prefix))) {
        assert!(read.insert(cgi(name.as_str()), value).is_none(), "{name} twice");
        assert_ne!(value, "SPOOFED", "{name}");
    }
    assert_eq!(read.len(), 7);
    assert_eq!(read[&cgi(&format!("{prefix}State"))], "empty");
}
