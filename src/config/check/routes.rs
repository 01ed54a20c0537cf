//! The rules of `routes`: a route that no request can match, or that two entries claim, is a mistake.

use super::{Report, is_token};
use crate::proxy::routes::Config;

/// Methods are case-sensitive (RFC 9110 §9.1), and nobody defines `get`.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

pub(super) fn check(routes: &[Config], report: &mut Report) {
    for (n, route) in routes.iter().enumerate() {
        if let Some((what, remedy)) = path_fault(&route.path) {
            report.add(format!("routes[{n}].path"), what, remedy);
        }
        for (m, method) in route.methods.iter().enumerate() {
            let key = format!("routes[{n}].methods[{m}]");
            let upper = method.to_ascii_uppercase();
            if !is_token(method) {
                report.add(key, format!("{method:?} is no method"), "write one such as GET");
            } else if *method != upper && METHODS.contains(&&*upper) {
                report.add(key, format!("{method:?}: methods are case-sensitive"), format!("write {upper}"));
            }
        }
        let taken = routes[..n].iter().find_map(|other| shared(route, other));
        if let Some(methods) = taken {
            let what = format!("{:?} has an entry for {methods} before this one, which counts", route.path);
            report.add(format!("routes[{n}]"), what, "remove one of them, or put this one first");
        }
    }
}

/// What an entry claims that an earlier one has. An entry for all methods behind one for GET is the rest.
fn shared<'a>(one: &'a Config, earlier: &Config) -> Option<&'a str> {
    let bare = |path: &str| path.trim_end_matches('/').to_owned();
    match bare(&one.path) == bare(&earlier.path) {
        false => None,
        true if earlier.methods.is_empty() => Some("all methods"),
        true => one.methods.iter().find(|method| earlier.methods.contains(method)).map(String::as_str),
    }
}

/// Why no request can match a path. Paths are compared decoded, and a request's that backends disagree about is
/// always `on`, so that nobody gets around a route.
fn path_fault(path: &str) -> Option<(String, &'static str)> {
    let Some(inner) = path.strip_prefix('/') else {
        return Some((format!("{path:?} doesn't begin with /"), "begin it with /"));
    };
    if path.contains(['?', '#']) {
        return Some((
            format!("{path:?} has a query or fragment, which are never looked at"),
            "write the path only",
        ));
    }
    if path.contains('%') {
        let remedy = "write the characters themselves; a path with %2f, %5c or %2e is always on";
        return Some((format!("{path:?} is percent-encoded, but paths are compared decoded"), remedy));
    }
    let segments = inner.strip_suffix('/').unwrap_or(inner);
    let odd_segment =
        !inner.is_empty() && segments.split('/').any(|segment| matches!(segment, "" | "." | ".."));
    if odd_segment || path.contains([';', '\\']) || path.contains(char::is_control) {
        let what = format!("{path:?} has ; or \\ or an empty, . or .. segment: such a path is always on");
        return Some((what, "write a path without it"));
    }
    None
}
