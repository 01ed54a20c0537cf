//! The rules of `[headers]`.

use std::collections::HashMap;

use super::{Report, is_token};
use crate::secret::Secret;
use crate::session::data::RESERVED;
use crate::wire::Config;
use crate::wire::names::{X_FORWARDED, fold};

/// Headers that the proxy sets, replaces or lives by, in either direction: the prefix must begin none of them, as
/// what begins with it is removed.
const TAKEN: [&str; 34] = [
    "Cache-Control",
    "CDN-Cache-Control",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Cookie",
    "Date",
    "Expect",
    "Expires",
    "Forwarded",
    "Host",
    "HTTP2-Settings",
    "Keep-Alive",
    "Location",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Retry-After",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Key",
    "Server",
    "Set-Cookie",
    "Surrogate-Control",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Vary",
    "Via",
    "WWW-Authenticate",
    "X-Accel-Expires",
    "X-Coatroom-Decision",
    "X-Request-Id",
];

/// Headers without which no request reaches the backend as it was meant.
const NEEDED: [&str; 6] = ["connection", "content-length", "cookie", "host", "transfer-encoding", "upgrade"];

/// The fixed headers of a session take about 500 bytes; less than this leaves no room for data.
const LEAST_BUDGET: usize = 1024;

pub(super) fn check(config: &Config, report: &mut Report) {
    if let Some((what, remedy)) = prefix_fault(&config.prefix) {
        report.add("headers.prefix", what, remedy);
    }
    secret(config, report);
    for (n, name) in config.also_strip.iter().enumerate() {
        let key = format!("headers.also_strip[{n}]");
        if !is_token(name) {
            report.add(key, format!("{name:?} is not the name of a header"), "write one such as X-Real-IP");
        } else if NEEDED.contains(&&*fold(name)) {
            report.add(key, format!("without {name} no request can be forwarded"), "remove it");
        }
    }
    report.named("headers.required", &config.required);
    keys(config, report);
    for (n, entry) in config.expose.iter().enumerate() {
        if !entry.starts_with(RESERVED) {
            let what = format!("{entry:?} doesn't begin with _: every backend reads it anyway");
            report.add(format!("headers.expose[{n}]"), what, "remove it");
        }
    }
    if config.budget < LEAST_BUDGET {
        let what = format!("{} bytes leave no room for data", config.budget);
        report.add("headers.budget", what, format!("set it to {LEAST_BUDGET} or more"));
    }
    report.positive("headers.max_directive_bytes", config.max_directive_bytes);
}

fn prefix_fault(prefix: &str) -> Option<(String, &'static str)> {
    const REMEDY: &str = "choose one such as X-Session-";
    let folded = fold(prefix);
    let begun = TAKEN.iter().find(|name| fold(name).starts_with(&folded));
    let what = if !is_token(prefix) {
        format!("{prefix:?} is no beginning of a header's name")
    } else if !prefix.ends_with('-') {
        return Some((format!("{prefix:?} doesn't end in -"), "add a -"));
    } else if prefix.len() < 4 {
        format!("{prefix:?} is shorter than 4 bytes")
    } else if X_FORWARDED.starts_with(&folded) || folded.starts_with(X_FORWARDED) {
        format!("{prefix:?} meets X-Forwarded-…, which the proxy sets itself")
    } else {
        format!("{prefix:?} is the beginning of {}, which the proxy needs itself", begun?)
    };
    Some((what, REMEDY))
}

fn secret(config: &Config, report: &mut Report) {
    report.not_hidden("headers.secret", &config.secret);
    if config.secret_file.is_empty() {
        return;
    }
    if !config.secret.is_empty() {
        return report.add("headers.secret_file", "headers.secret is set too", "remove one of them");
    }
    match Secret::of(&config.secret, &config.secret_file) {
        Err(what) => {
            report.add("headers.secret_file", format!("can't be read ({what})"), "name a file that can be")
        }
        // An empty secret would mean none, and requests would go unsigned.
        Ok(secret) if secret.is_empty() => {
            report.add("headers.secret_file", "the file is empty", "put a secret into it");
        }
        Ok(_) => {}
    }
}

fn keys(config: &Config, report: &mut Report) {
    report.named("headers.keys", &config.keys);
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (n, entry) in config.keys.iter().enumerate().filter(|(_, entry)| !entry.is_empty()) {
        let key = format!("headers.keys[{n}]");
        if let Some(other) = seen.insert(fold(entry), entry) {
            let what = format!("{entry:?} and {other:?} would have the same header");
            report.add(&key, what, "remove one of them");
        }
        if entry.starts_with(RESERVED) && !config.expose.contains(entry) {
            let what = format!("{entry:?} is reserved, and no backend reads it");
            report.add(&key, what, "list it in headers.expose too, or remove it");
        }
    }
}
