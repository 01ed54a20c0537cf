//! Which requests have a session: `routes`.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::session::Mode;

/// One entry of `routes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Matches itself and everything below it, by whole segments, case-sensitive.
    pub path: String,
    /// Only these methods; empty = all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What happens to the session.
    #[serde(default)]
    pub session: Mode,
}

/// The routes, longest path first.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Config>);

impl Routes {
    /// Orders routes by the length of their paths; of equal ones the first counts.
    pub fn new(routes: &[Config]) -> Self {
        let mut routes = routes.to_vec();
        for route in &mut routes {
            route.path.truncate(route.path.trim_end_matches('/').len());
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        Self(routes)
    }

    /// What a request does with the session: what the longest matching route says, else `on`.
    ///
    /// What we match must be what the backend serves. So the path is decoded as a backend would decode it, and one
    /// that backends disagree about (an empty, `.` or `..` segment, an encoded separator, `\\`, `;`) is always `on`.
    pub fn of(&self, method: &Method, path: &str) -> Mode {
        if self.0.is_empty() || is_doubtful(path) {
            return Mode::On;
        }
        let Some(path) = decode(path) else { return Mode::On };
        let matches = |route: &&Config| {
            let below =
                path.strip_prefix(&*route.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            below && (route.methods.is_empty() || route.methods.iter().any(|name| name == method.as_str()))
        };
        self.0.iter().find(matches).map_or(Mode::On, |route| route.session)
    }
}

fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    // Encoded twice, an encoded dot or slash, a control character, or no encoding at all: backends disagree.
    let odd = decoded.contains('%') || decoded.contains(char::is_control) || is_doubtful(&decoded);
    (!odd && decoded.matches('/').count() == path.matches('/').count()).then_some(decoded)
}

fn is_doubtful(path: &str) -> bool {
    if !path.starts_with('/') || path.contains(['\\', ';']) {
        return true;
    }
    let segments = path[1..].strip_suffix('/').unwrap_or(&path[1..]);
    path != "/" && segments.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let route = |path: &str, methods: &[&str], session| Config {
            path: path.to_owned(),
            methods: methods.iter().map(|name| (*name).to_owned()).collect(),
            session,
        };
        Routes::new(&[
            route("/static", &[], Mode::Off),
            route("/static/private/", &[], Mode::Read),
            route("/poll", &["GET", "HEAD"], Mode::NoTouch),
        ])
    }

    #[test]
    fn the_longest_path_wins_by_whole_segments() {
        for (path, mode) in [
            ("/static", Mode::Off),
            ("/static/", Mode::Off),
            ("/static/a/b", Mode::Off),
            ("/statics", Mode::On),
            ("/Static/a", Mode::On),
            ("/", Mode::On),
            ("/static/private", Mode::Read),
            ("/static/private/x", Mode::Read),
            ("/static/privat", Mode::Off),
            ("/%73tatic/a", Mode::Off),
            ("/static/%C3%A9", Mode::Off),
        ] {
            assert_eq!(routes().of(&Method::GET, path), mode, "{path}");
        }
    }

    #[test]
    fn a_method_that_is_not_listed_does_not_match() {
        assert_eq!(routes().of(&Method::GET, "/poll"), Mode::NoTouch);
        assert_eq!(routes().of(&Method::POST, "/poll"), Mode::On);
    }

    #[test]
    fn what_backends_disagree_about_is_always_on() {
        for path in [
            "/static/../admin",
            "/static/./a",
            "/static//a",
            "//static/a",
            "/static/%2e%2e/admin",
            "/static/%2E/a",
            "/static%2fa",
            "/static/a%5cb",
            "/static/a\\b",
            "/static;x/a",
            "/static/a%3bx",
            "/static/%00",
            "/static/%",
            "/static/%zz",
            "/static/%252e",
            "/static/%ff",
            "*",
            "static/a",
            "/static/a//",
            "/static/%0a",
        ] {
            assert_eq!(routes().of(&Method::GET, path), Mode::On, "{path}");
        }
    }
}
