//! Messages that two readers could understand in two ways: they don't pass.
//!
//! What hyper refuses by itself (lengths that are none, chunks in HTTP/1.0, folded lines) isn't looked at again.

use http::header::{EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Response, Uri, Version, uri};
use http_body::Body;

use super::error::{Error, Kind};
use crate::telemetry::metrics::BackendError;
use crate::wire::forwarded::{Origin, tokens};
use crate::wire::seen::{Seen, Sort};

/// Refuses a request that must never reach a backend.
///
/// # Errors
/// Says what is wrong with it, in [`Kind::BadRequest`], [`Kind::Method`], [`Kind::Loop`] or [`Kind::Expectation`].
pub fn request<B>(request: &Request<B>, seen: Seen, origin: &Origin) -> Result<(), Error> {
    let bad = |what: &'static str| Err(Error::new(Kind::BadRequest).saying(what));
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        return Err(Error::new(Kind::Method));
    }
    if !is_target(request.method(), request.uri()) {
        return bad("the target is none that a server can be asked for");
    }
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() >= Version::HTTP_11 => return bad("the Host header is missing"),
        (Some(_), Some(_)) => return bad("there is more than one Host header"),
        (Some(host), None) if !is_host(host.as_bytes()) => return bad("the Host header names no host"),
        _ => {}
    }
    if seen.has(Sort::Coding) && !is_chunked(headers) {
        return bad("Transfer-Encoding is not chunked alone");
    }
    if seen.has(Sort::Via) && origin.loops(headers) {
        return Err(Error::new(Kind::Loop));
    }
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if seen.has(Sort::Expect) && !headers.get_all(EXPECT).iter().all(known) {
        return Err(Error::new(Kind::Expectation));
    }
    Ok(())
}

/// Refuses a body whose length is known to be more than is allowed.
///
/// # Errors
/// [`Kind::BodyTooLarge`].
pub fn length(body: &impl Body, most: u64) -> Result<(), Error> {
    if body.size_hint().lower() > most { Err(Error::new(Kind::BodyTooLarge)) } else { Ok(()) }
}

/// Refuses a 101 that changes to a protocol which was not `asked` for.
///
/// # Errors
/// [`Kind::Backend`]; the connection must not be used again.
pub fn switch<B>(response: &Response<B>, asked: Option<&HeaderValue>) -> Result<(), Error> {
    if asked.is_some_and(|asked| is_one_of(response.headers(), asked)) {
        return Ok(());
    }
    Err(Error::new(Kind::Backend(BackendError::Protocol)).because("a 101 that was not asked for"))
}

/// Only origin and absolute form; `*` is for OPTIONS, an authority for CONNECT (RFC 9112 §3.2).
fn is_target(method: &Method, uri: &Uri) -> bool {
    match (uri.scheme(), uri.authority()) {
        (None, None) => uri.path().starts_with('/') || (uri.path() == "*" && *method == Method::OPTIONS),
        (Some(scheme), Some(authority)) => {
            (*scheme == uri::Scheme::HTTP || *scheme == uri::Scheme::HTTPS)
                && is_host(authority.as_str().as_bytes())
        }
        _ => false,
    }
}

/// A name or an address, and perhaps a port; nobody's name and password.
fn is_host(host: &[u8]) -> bool {
    let colon = host.iter().rposition(|byte| *byte == b':').filter(|_| !host.ends_with(b"]"));
    let (name, port) = colon.map_or((host, None), |at| (&host[..at], Some(&host[at + 1..])));
    let is_port = |port: &[u8]| {
        port.is_empty()
            || (is_number(port) && str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok()))
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte);
    let is_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let named = match name.strip_prefix(b"[").map(|rest| rest.strip_suffix(b"]")) {
        Some(address) => address.is_some_and(|address| !address.is_empty() && address.iter().all(is_address)),
        None => !name.is_empty() && name.iter().all(is_name),
    };
    named && port.is_none_or(is_port)
}

/// Digits and nothing else.
pub(super) fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Chunked alone: another coding would lose its name on the way, for it belongs to one connection only.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    first && codings.next().is_none()
}

/// Does the response change to protocols that were asked for, and to no other?
fn is_one_of(headers: &HeaderMap, asked: &HeaderValue) -> bool {
    let was_asked = |name: &str| tokens(asked).any(|asked| asked.eq_ignore_ascii_case(name));
    let mut names = headers.get_all(UPGRADE).iter().flat_map(tokens).peekable();
    names.peek().is_some() && names.all(was_asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in ["a", "A.b-c_d:1", "127.0.0.1:65535", "[::1]", "[::ffff:1.2.3.4]:80", "a:", "%61"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in
            ["", ":80", "a:b", "a:65536", "a:+1", "a:1:2", "::1", "[]", "[::1", "[::1]x", "a@b", "a b", "a/b"]
        {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_protocol_that_was_asked_for_may_be_changed_to() {
        let asked = HeaderValue::from_static("websocket, Foo/2");
        for (answer, fits) in
            [("WebSocket", true), ("foo/2", true), ("foo", false), ("websocket, h2c", false), ("", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static(answer));
            assert_eq!(is_one_of(&headers, &asked), fits, "{answer:?}");
        }
    }
}
