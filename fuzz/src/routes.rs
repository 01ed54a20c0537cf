//! Routes: a slow reading of the contract's section 8 agrees.
//!
//! Lines of `path methods mode` (divided by spaces, methods by commas), an empty line, then `METHOD path` each.

use coatroom::proxy::routes::{Config, Routes};
use coatroom::session::Mode;
use http::Method;
use http::uri::PathAndQuery;

/// Checks what each request's mode is.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (routes, requests) = text.split_once("\n\n").unwrap_or((text, ""));
    let routes: Vec<Config> = routes.lines().filter_map(route).collect();
    let real = Routes::new(&routes);
    for line in requests.lines() {
        let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
        let Ok(method) = Method::from_bytes(method.as_bytes()) else { continue };
        let Ok(target) = PathAndQuery::try_from(target) else { continue };
        let (path, mode) = (target.path(), real.of(&method, target.path()));
        assert_eq!(mode, model(&routes, &method, path), "{method} {path}");
        // The query is never looked at, and a trailing slash is no segment.
        if !path.ends_with('/') {
            assert_eq!(real.of(&method, &format!("{path}/")), mode, "{path}/");
        }
    }
}

/// A route that the settings allow: it begins with a slash, and has no segment that backends disagree about.
fn route(line: &str) -> Option<Config> {
    let mut words = line.split(' ');
    let path = words.next().filter(|path| path.starts_with('/'))?.to_owned();
    let segments = path.trim_end_matches('/');
    let plain =
        segments.is_empty() || !segments[1..].split('/').any(|segment| ["", ".", ".."].contains(&segment));
    let methods = words.next().unwrap_or_default();
    let methods = methods.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let session = match words.next() {
        Some("off") => Mode::Off,
        Some("read") => Mode::Read,
        Some("no-touch") => Mode::NoTouch,
        _ => Mode::On,
    };
    plain.then_some(Config { path, methods, session })
}

fn model(routes: &[Config], method: &Method, path: &str) -> Mode {
    let Some(segments) = segments(path) else { return Mode::On };
    let mut best: Option<(usize, Mode)> = None;
    for route in routes {
        let own: Vec<&str> = route.path.split('/').filter(|segment| !segment.is_empty()).collect();
        let below =
            own.len() <= segments.len() && own.iter().zip(&segments).all(|(own, segment)| own == segment);
        let method_fits = route.methods.is_empty() || route.methods.contains(&method.to_string());
        if below && method_fits && best.is_none_or(|(length, _)| own.len() > length) {
            best = Some((own.len(), route.session));
        }
    }
    best.map_or(Mode::On, |(_, mode)| mode)
}

/// The decoded segments of a path that every backend reads alike.
fn segments(path: &str) -> Option<Vec<String>> {
    if path == "/" {
        return Some(Vec::new());
    }
    let inner = path.strip_prefix('/')?;
    let encoded = inner.contains('%');
    let mut all = Vec::new();
    for segment in inner.strip_suffix('/').unwrap_or(inner).split('/') {
        let decoded = decode(segment)?;
        let odd = decoded.is_empty()
            || decoded == "."
            || decoded == ".."
            || decoded.contains(['\\', ';', '/', '%'])
            || (encoded && decoded.contains(char::is_control));
        if odd {
            return None;
        }
        all.push(decoded);
    }
    Some(all)
}

fn decode(segment: &str) -> Option<String> {
    let mut bytes = segment.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}
