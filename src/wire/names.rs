//! Header names: which are ours, and which spellings a backend could mistake for ours.
//!
//! CGI and its heirs fold names: `X-Session-Data`, `x_session_data` and `X.Session.Data` all become
//! `HTTP_X_SESSION_DATA`. A name is therefore judged by its folded form: lower-case, and every byte that is neither
//! letter nor digit read as `-` (oauth2-proxy CVE-2025-64484, Django CVE-2015-0219 and CVE-2026-3902).

use http::header::{HeaderMap, HeaderName};

/// Headers that the sidecar sets or replaces itself, besides those that begin with `x-forwarded-`.
const GUARDED: [&str; 8] = [
    "forwarded",
    "via",
    "x-request-id",
    "host",
    "content-length",
    "transfer-encoding",
    "cookie",
    "connection",
];

/// The beginning of the headers that tell a backend about its client.
pub const X_FORWARDED: &str = "x-forwarded-";

/// A name as CGI would mangle it.
pub fn fold(name: &str) -> String {
    name.bytes().map(|b| char::from(folded(b))).collect()
}

const fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Which names may not pass.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The folded prefix of our headers.
    prefix: String,
    /// `headers.also_strip`, folded.
    also: Vec<String>,
}

impl Guard {
    /// Guards the names that begin with `prefix`, and those of `also`.
    pub fn new(prefix: &str, also: &[String]) -> Self {
        Self { prefix: fold(prefix), also: also.iter().map(|name| fold(name)).collect() }
    }

    /// Could a backend, or we, read this name as one of our headers?
    pub fn is_ours(&self, name: &str) -> bool {
        let prefix = self.prefix.as_bytes();
        name.len() >= prefix.len() && name.bytes().zip(prefix).all(|(byte, ours)| folded(byte) == *ours)
    }

    /// Must a client's header of this name go?
    pub fn is_spoofed(&self, name: &str) -> bool {
        self.is_ours(name) || is_disguised(name) || (!self.also.is_empty() && self.also.contains(&fold(name)))
    }

    /// Removes what a client may not say; returns how many headers that were.
    pub fn strip_request(&self, headers: &mut HeaderMap) -> usize {
        remove(headers, |name| self.is_spoofed(name.as_str()))
    }

    /// Removes what a client may not see; returns how many headers that were.
    pub fn strip_response(&self, headers: &mut HeaderMap) -> usize {
        remove(headers, |name| self.is_ours(name.as_str()))
    }

    /// Removes what a trailer may not say in either direction (RFC 9110 §6.5.1): our names, and what frames,
    /// routes, authenticates or sets cookies.
    pub fn strip_trailers(&self, trailers: &mut HeaderMap) -> usize {
        const NEVER: [&str; 16] = [
            "authorization",
            "cache-control",
            "content-encoding",
            "content-range",
            "content-type",
            "expect",
            "keep-alive",
            "max-forwards",
            "proxy-authorization",
            "proxy-connection",
            "range",
            "set-cookie",
            "te",
            "trailer",
            "upgrade",
            "www-authenticate",
        ];
        remove(trailers, |name| {
            let name = fold(name.as_str());
            self.is_spoofed(&name)
                || GUARDED.contains(&&*name)
                || NEVER.contains(&&*name)
                || name.starts_with(X_FORWARDED)
        })
    }
}

/// Is this another spelling of a header that the sidecar sets or replaces?
fn is_disguised(name: &str) -> bool {
    // Names arrive in lower case, so what has only letters, digits and `-` is spelled as itself.
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return false;
    }
    let name = fold(name);
    GUARDED.contains(&&*name) || name.starts_with(X_FORWARDED)
}

/// Removes headers by name; returns how many values went.
pub fn remove(headers: &mut HeaderMap, doomed: impl Fn(&HeaderName) -> bool) -> usize {
    let names: Vec<HeaderName> = headers.keys().filter(|name| doomed(name)).cloned().collect();
    let before = headers.len();
    for name in names {
        headers.remove(name);
    }
    before - headers.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn guard() -> Guard {
        Guard::new("X-Session-", &["X-User".to_owned()])
    }

    #[test]
    fn every_spelling_of_ours_is_ours() {
        for name in ["x-session-data", "x_session_data", "x-session.data", "x.session!data", "x-session-"] {
            assert!(guard().is_spoofed(name), "{name}");
        }
        for name in ["x-sessio-data", "x-sessions", "session-data", "x-session", "user_agent", "x_custom"] {
            assert!(!guard().is_spoofed(name), "{name}");
        }
    }

    #[test]
    fn a_disguise_goes_and_the_thing_itself_stays() {
        for name in [
            "content_length",
            "transfer.encoding",
            "x_forwarded_for",
            "x-forwarded_foo",
            "x_request_id",
            "x_user",
        ] {
            assert!(guard().is_spoofed(name), "{name}");
        }
        for name in ["content-length", "host", "x-forwarded-for", "cookie", "via", "x_users"] {
            assert!(!guard().is_spoofed(name), "{name}");
        }
    }

    #[test]
    fn trailers_carry_nothing_that_frames_routes_or_authenticates() {
        let mut trailers = HeaderMap::new();
        for name in [
            "x-session-set",
            "content_length",
            "host",
            "set-cookie",
            "authorization",
            "x-checksum",
            "x-forwarded-for",
        ] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        assert_eq!(guard().strip_trailers(&mut trailers), 6);
        assert!(trailers.contains_key("x-checksum"));
    }

    proptest! {
        /// Whatever CGI would call `HTTP_X_SESSION_…` does not pass, and nothing else goes.
        #[test]
        fn folding_agrees_with_cgi(name in "[Xx][-_.!~][Ss][Ee][Ss][Ss][Ii][Oo][Nn][-_.!~][a-zA-Z_]{0,8}|[a-z_-]{1,20}") {
            let name = HeaderName::try_from(name).expect("a token");
            let cgi: String = name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            let mut headers = HeaderMap::new();
            headers.append(name.clone(), HeaderValue::from_static("1"));
            headers.append(name, HeaderValue::from_static("2"));
            let stripped = guard().strip_request(&mut headers);
            if cgi.starts_with("X_SESSION_") {
                prop_assert_eq!((stripped, headers.len()), (2, 0));
            } else if cgi != "X_USER" && !is_disguised(&cgi.to_lowercase()) {
                prop_assert_eq!(stripped, 0);
            }
        }
    }
}
