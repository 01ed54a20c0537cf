//! Keeps shared caches from mixing up visitors: `Vary`, `Cache-Control` and their kin.

use http::header::{CACHE_CONTROL, Entry, HeaderMap, HeaderName, HeaderValue, VARY};

use super::names::remove;

/// Adds `Vary: Cookie`, merged with what is there; `Vary: *` says more and stays (RFC 9110 §12.5.5).
pub fn vary(headers: &mut HeaderMap) {
    let mut lines = match headers.entry(VARY) {
        Entry::Occupied(lines) => lines,
        Entry::Vacant(place) => {
            place.insert(HeaderValue::from_static("Cookie"));
            return;
        }
    };
    let names =
        |line: &HeaderValue| list(line).any(|name| name == "*" || name.eq_ignore_ascii_case("cookie"));
    if lines.iter().any(names) {
        return;
    }
    let merged: Vec<String> =
        lines.iter().flat_map(list).map(str::to_owned).chain(["Cookie".to_owned()]).collect();
    if let Ok(value) = HeaderValue::try_from(merged.join(", ")) {
        lines.insert(value);
    }
}

/// Keeps a response that sets or removes the cookie out of shared caches (RFC 9111 §7.3, Django CVE-2026-35192).
///
/// `Cache-Control` gains `private` and loses `public` and `s-maxage`; the headers that speak to one kind of cache
/// only go unless they forbid storing.
pub fn keep_private(headers: &mut HeaderMap) {
    let lax = |name: &&HeaderName| is_targeted(name.as_str()) && !forbids(headers.get_all(*name).iter());
    let doomed: Vec<HeaderName> = headers.keys().filter(lax).cloned().collect();
    remove(headers, |name| doomed.contains(name));
    let mut kept: Vec<String> = Vec::new();
    for line in headers.get_all(CACHE_CONTROL) {
        for directive in directives(&String::from_utf8_lossy(line.as_bytes())) {
            let name = directive.split('=').next().unwrap_or(directive).trim();
            if !name.eq_ignore_ascii_case("public") && !name.eq_ignore_ascii_case("s-maxage") {
                kept.push(directive.to_owned());
            }
        }
    }
    let says = |what: &str| kept.iter().any(|directive| directive.eq_ignore_ascii_case(what));
    if !says("private") && !says("no-store") {
        kept.push("private".to_owned());
    }
    if let Ok(value) = HeaderValue::try_from(kept.join(", ")) {
        headers.insert(CACHE_CONTROL, value);
    }
}

/// Does this header speak to one kind of cache only (RFC 9213, Surrogate-Control, nginx)?
fn is_targeted(name: &str) -> bool {
    (name.ends_with("-cache-control")) || name == "surrogate-control" || name == "x-accel-expires"
}

fn forbids<'a>(mut lines: impl Iterator<Item = &'a HeaderValue>) -> bool {
    let never = ["no-store", "private", "0"];
    lines
        .all(|line| list(line).any(|directive| never.iter().any(|word| directive.eq_ignore_ascii_case(word))))
}

fn list(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let text = line.to_str().unwrap_or_default();
    text.split(',').map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty())
}

/// The members of a list whose strings may hold commas.
fn directives(text: &str) -> Vec<&str> {
    let (mut all, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                all.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(&text[from..]);
    all.into_iter().map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn vary_is_merged() {
        for (before, after) in [
            (&[][..], "Cookie"),
            (&[("vary", "Accept")][..], "Accept, Cookie"),
            (&[("vary", "Accept,  Origin")][..], "Accept, Origin, Cookie"),
            (&[("vary", "accept, cookie")][..], "accept, cookie"),
            (&[("vary", "*")][..], "*"),
        ] {
            let mut map = headers(before);
            vary(&mut map);
            assert_eq!(map.get_all(VARY).iter().collect::<Vec<_>>(), [after], "{before:?}");
        }
        let mut two: HeaderMap = headers(&[("vary", "Accept")]);
        two.append(VARY, HeaderValue::from_static("Origin"));
        vary(&mut two);
        assert_eq!(two.get_all(VARY).iter().collect::<Vec<_>>(), ["Accept, Origin, Cookie"]);
    }

    #[test]
    fn a_cookie_keeps_the_response_out_of_shared_caches() {
        for (before, after) in [
            ("", "private"),
            ("public, max-age=60", "max-age=60, private"),
            ("s-maxage=600, max-age=60", "max-age=60, private"),
            ("private, s-maxage=3", "private"),
            ("no-store", "no-store"),
            ("private=\"set-cookie, x\", PUBLIC", "private=\"set-cookie, x\", private"),
        ] {
            let mut map = headers(&[("cache-control", before)]);
            keep_private(&mut map);
            assert_eq!(map[CACHE_CONTROL], after, "{before}");
        }
    }

    #[test]
    fn headers_for_one_kind_of_cache_go_unless_they_forbid_storing() {
        let mut map = headers(&[
            ("cdn-cache-control", "max-age=60"),
            ("cloudflare-cdn-cache-control", "no-store"),
            ("surrogate-control", "max-age=60"),
            ("x-accel-expires", "60"),
        ]);
        keep_private(&mut map);
        let mut left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["cache-control", "cloudflare-cdn-cache-control"]);
        let mut zero = headers(&[("x-accel-expires", "0")]);
        keep_private(&mut zero);
        assert!(zero.contains_key("x-accel-expires"));
    }
}
