//! The rules of `[cookie]`: RFC 6265bis, and what browsers make of it.

use std::time::Duration;

use super::{Report, is_token, keys};
use crate::session::expiry::LONGEST_COOKIE;
use crate::wire::cookie::{Config, SameSite, Secure};

/// Bytes that a name and value may have together (RFC 6265bis §5.6).
const PAIR: usize = 4096;
/// Bytes that the value of an attribute may have (the same).
const ATTRIBUTE: usize = 1024;
/// Bytes of a signed token. An unsigned one is shorter, but signing must not need a new name.
const SIGNED: usize = 32 + 1 + 52;

/// Names that begin so bind a cookie to rules, which browsers enforce (RFC 6265bis §4.1.3).
struct Prefix {
    text: &'static str,
    /// This host only: path `/` and no domain.
    host: bool,
    http_only: bool,
}

/// The longest first, as one begins with another.
const PREFIXES: [Prefix; 4] = [
    Prefix { text: "__Host-Http-", host: true, http_only: true },
    Prefix { text: "__Host-", host: true, http_only: false },
    Prefix { text: "__Secure-", host: false, http_only: false },
    Prefix { text: "__Http-", host: false, http_only: true },
];

pub(super) fn check(config: &Config, report: &mut Report) {
    scope("cookie", config, (&config.name, &config.domain, &config.path), report);
    let now = plain(&config.name, &config.domain, &config.path);
    for (n, old) in config.previous.iter().enumerate() {
        let key = format!("cookie.previous[{n}]");
        scope(&key, config, (&old.name, &old.domain, &old.path), report);
        let before = plain(&old.name, &old.domain, &old.path);
        if before == now {
            report.add(&key, "is the scope of today's cookies", "remove it");
        } else if config.previous[..n]
            .iter()
            .any(|other| plain(&other.name, &other.domain, &other.path) == before)
        {
            report.add(&key, "is listed twice", "remove it");
        }
    }
    if config.age.0 < Duration::from_secs(1) {
        report.add("cookie.age", "is less than a second", "set it to 1 or more");
    }
    if config.age.0 > LONGEST_COOKIE {
        let what = format!("{} is longer than 400 days, which browsers cut off", config.age);
        report.add("cookie.age", what, "set it to at most \"400 days\"");
    }
    if config.same_site == SameSite::None && config.secure == Secure::Never {
        let what = "browsers refuse SameSite=None without Secure";
        report.add("cookie.same_site", what, "set cookie.secure to true or \"auto\"");
    }
    if config.partitioned && config.secure != Secure::Always {
        let what = "browsers refuse Partitioned without Secure";
        report.add("cookie.partitioned", what, "set cookie.secure to true");
    }
    keys::check("cookie.keys", &config.keys, &config.keys_file, report);
}

/// What makes two scopes the same.
fn plain<'a>(name: &'a str, domain: &'a str, path: &'a str) -> (&'a str, String, &'a str) {
    (name, domain.strip_prefix('.').unwrap_or(domain).to_lowercase(), path)
}

fn scope(at: &str, config: &Config, (name, domain, path): (&str, &str, &str), report: &mut Report) {
    let key = |field: &str| format!("{at}.{field}");
    if !is_token(name) {
        let what = format!("{name:?} is no token");
        report.add(key("name"), what, "use letters, digits and !#$%&'*+-.^_`|~ only");
    }
    if name.len() + SIGNED > PAIR {
        let what = "is too long: browsers keep at most 4,096 bytes of name and value";
        report.add(key("name"), what, format!("use at most {} bytes", PAIR - SIGNED));
    }
    prefix(&key("name"), config, (name, domain, path), report);
    if let Some(what) = domain_fault(domain) {
        report.add(
            key("domain"),
            what,
            "write a host name such as example.com, or nothing for this host only",
        );
    }
    if let Some(what) = path_fault(path) {
        report.add(key("path"), what, "write a path such as /, other characters percent-encoded");
    }
}

fn prefix(key: &str, config: &Config, (name, domain, path): (&str, &str, &str), report: &mut Report) {
    let begins = |prefix: &&Prefix| {
        name.get(..prefix.text.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.text))
    };
    let Some(prefix) = PREFIXES.iter().find(begins) else { return };
    let Prefix { text, host, http_only } = prefix;
    if !name.starts_with(text) {
        let what = format!("looks like {text} in other letters, which browsers take for it or not");
        report.add(key, what, format!("write {text}, or begin the name otherwise"));
    }
    let mut needs = |broken: bool, what: &str| {
        if broken {
            report.add(key, format!("browsers refuse {text} without {what}"), format!("set {what}"));
        }
    };
    needs(config.secure != Secure::Always, "cookie.secure = true");
    needs(*http_only && !config.http_only, "cookie.http_only = true");
    needs(*host && path != "/", "path = \"/\"");
    needs(*host && !domain.is_empty(), "an empty domain");
}

fn domain_fault(domain: &str) -> Option<String> {
    let host = domain.strip_prefix('.').unwrap_or(domain);
    let letters = |label: &str| label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && letters(label) && !label.starts_with('-') && !label.ends_with('-')
    };
    if domain.is_empty() || (host.len() <= 253 && host.split('.').all(is_label)) {
        return None;
    }
    Some(match domain.len() {
        0..=ATTRIBUTE => format!("{domain:?} is no host name"),
        _ => "is too long: browsers ignore more than 1,024 bytes".to_owned(),
    })
}

fn path_fault(path: &str) -> Option<&'static str> {
    let visible = |byte: u8| (0x21..0x7f).contains(&byte) && byte != b';';
    match path {
        _ if !path.starts_with('/') => Some("doesn't begin with /"),
        _ if path.len() > ATTRIBUTE => Some("is too long: browsers ignore more than 1,024 bytes"),
        _ if !path.bytes().all(visible) => Some("has a character that no cookie's path can have"),
        _ => None,
    }
}
