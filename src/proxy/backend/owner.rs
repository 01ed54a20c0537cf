//! Clients that authenticate a connection, not a request: what they have authenticated is nobody else's.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use super::Terms;
use super::connection::Connection;
use super::pool::Pool;
use crate::telemetry::metrics::Raised;

/// The schemes after which a backend takes whatever comes over a connection for its user's.
const SCHEMES: [&[u8]; 2] = [b"ntlm", b"negotiate"];

/// A client's connection that has a connection to the backend for itself, from its first word of NTLM or Negotiate on to
/// its end: the next request over the backend's is answered as the user's who has logged in, whoever sends it, so it may
/// not be another client's (RFC 4559 §6). nginx's `ntlm` and HAProxy's private connections are the same.
///
/// When this is dropped the backend's connection ends too.
pub struct Owner {
    number: u64,
    pool: Arc<Pool>,
    _raised: Raised,
}

impl Owner {
    /// One that has no connection yet.
    pub(super) fn new(pool: &Arc<Pool>, raised: Raised) -> Arc<Self> {
        Arc::new(Self { number: pool.number(), pool: pool.clone(), _raised: raised })
    }

    /// Its own connection, if the backend has not closed it.
    pub(super) fn take(&self, terms: &Terms) -> Option<Box<Connection>> {
        self.pool.take_own(self.number, terms)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.pool.forget(self.number);
    }
}

/// Where a connection goes when an exchange is over.
pub enum Home {
    /// To whoever comes next.
    Shared(Arc<Pool>),
    /// Back to its owner.
    Own(Arc<Owner>),
}

impl Home {
    pub(super) fn give_back(self, connection: Box<Connection>) {
        match self {
            Self::Shared(pool) => pool.give_back(connection),
            Self::Own(owner) => owner.pool.give_back_own(owner.number, connection),
        }
    }
}

/// Does a request authenticate the connection that it goes over?
pub(super) fn is_claimed(headers: &HeaderMap) -> bool {
    names_scheme(headers, &AUTHORIZATION)
}

/// Does a response ask for that?
pub(super) fn is_offered(response: &Response<()>) -> bool {
    response.status() == StatusCode::UNAUTHORIZED && names_scheme(response.headers(), &WWW_AUTHENTICATE)
}

/// What is taken for a scheme and is a parameter of one does no harm.
fn names_scheme(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().any(|line| {
        line.as_bytes().split(|byte| *byte == b',').any(|challenge| {
            let challenge = challenge.trim_ascii_start();
            let end = challenge.iter().position(u8::is_ascii_whitespace).unwrap_or(challenge.len());
            SCHEMES.iter().any(|scheme| challenge[..end].eq_ignore_ascii_case(scheme))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn schemes_are_found_wherever_they_stand() {
        for (line, found) in [
            ("NTLM", true),
            ("ntlm TlRMTVNTUAAB", true),
            ("Negotiate", true),
            ("NEGOTIATE YII=", true),
            ("Basic realm=\"a\", NTLM", true),
            ("Basic realm=\"a\",\tNegotiate", true),
            ("Basic TlRMTQ==", false),
            ("NTLMv9", false),
            ("Bearer NTLM", false),
            ("", false),
            (" , ", false),
        ] {
            let line = HeaderValue::from_static(line);
            let headers: HeaderMap = [(WWW_AUTHENTICATE, line.clone())].into_iter().collect();
            assert_eq!(names_scheme(&headers, &WWW_AUTHENTICATE), found, "{line:?}");
            assert!(!is_claimed(&headers));
            let mut response = Response::new(());
            *response.headers_mut() = headers;
            assert!(!is_offered(&response), "nobody is asked to log in");
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            assert_eq!(is_offered(&response), found, "{line:?}");
        }
        let two = [(AUTHORIZATION, "Basic eDp5"), (AUTHORIZATION, "NTLM TlRMTVNTUAAB")];
        assert!(is_claimed(
            &two.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect()
        ));
    }
}
