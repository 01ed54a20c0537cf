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
        for other in &routes[..n] {
            if let Some(method) = shared(route, other) {
                let what = format!("{:?} has an entry for {method} already", route.path);
                report.add(format!("routes[{n}]"), what, "remove one of them");
            }
        }
    }
}

/// What both entries claim. An entry for all methods and one for GET don't clash: the latter is the exception.
fn shared<'a>(one: &'a Config, other: &Config) -> Option<&'a str> {
    let bare = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
    match bare(&one.path) == bare(&other.path) {
        false => None,
        true if one.methods.is_empty() && other.methods.is_empty() => Some("all methods"),
        true => one.methods.iter().find(|method| other.methods.contains(method)).map(String::as_str),
    }
}

/// Why no request can match a path; those that look like this always have a session, so that nobody gets around it.
fn path_fault(path: &str) -> Option<(String, &'static str)> {
    let lower = path.to_ascii_lowercase();
    let Some(inner) = lower.strip_prefix('/') else {
        return Some((format!("{path:?} doesn't begin with /"), "begin it with /"));
    };
    if lower.contains(['?', '#']) {
        return Some((
            format!("{path:?} has a query or fragment, which are never looked at"),
            "write the path only",
        ));
    }
    if let Some(bad) = [";", "\\", "%2f", "%5c"].into_iter().find(|bad| lower.contains(bad)) {
        return Some((
            format!("{path:?} has {bad}, and such a path is always on"),
            "write a path without it",
        ));
    }
    if !path.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Some((format!("{path:?} has a character that no request line has"), "percent-encode it"));
    }
    let decoded = inner.replace("%2e", ".");
    let inner = decoded.strip_suffix('/').unwrap_or(&decoded);
    let is_odd = |segment: &str| matches!(segment, "" | "." | "..");
    if !decoded.is_empty() && inner.split('/').any(is_odd) {
        let what = format!("{path:?} has an empty, . or .. segment, and such a path is always on");
        return Some((what, "write a path without it"));
    }
    None
}
