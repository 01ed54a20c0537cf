//! Heads of responses, and how the body behind them ends: decided once.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::decoder::Decoder;
use crate::proxy::check::is_number;
use crate::wire::forwarded::tokens;

/// The longest head, in bytes: what 64 KiB of session data need as directives, with room to spare.
const MOST: usize = 384 << 10;
/// The most headers of a response.
const HEADERS: usize = 128;

/// What a response's head says.
#[derive(Debug)]
pub struct Head {
    /// Status, version and headers.
    pub response: Response<()>,
    /// How its body ends.
    pub decoder: Decoder,
    /// Will the backend take another request over this connection?
    pub kept: bool,
}

/// Takes a response's head out of what has come; `None` if there is more to come of it. Its headers are put into
/// `spare`, which is empty and has room.
///
/// A head that two readers could understand in two ways is none (RFC 9112 §6.3): two lengths, a length beside an
/// encoding, an encoding other than `chunked` or in HTTP/1.0, folded lines. A space before a colon is removed, so that
/// nobody behind us reads another header (§5.1).
///
/// # Errors
/// Says what is wrong with it; the connection must not be used again.
pub fn take(
    inbox: &mut BytesMut,
    method: &Method,
    spare: &mut HeaderMap,
) -> Result<Option<Head>, &'static str> {
    if inbox.is_empty() {
        return Ok(None);
    }
    let mut lines = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    let length = match config.parse_response_with_uninit_headers(&mut parsed, inbox, &mut lines) {
        Ok(Status::Complete(length)) if length <= MOST => length,
        Ok(Status::Partial) if inbox.len() < MOST => return Ok(None),
        Ok(_) => return Err("its head is longer than 384 KiB"),
        Err(httparse::Error::TooManyHeaders) => return Err("it has more than 128 headers"),
        Err(_) => return Err("it does not begin as a response does"),
    };
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| "it has no status")?;
    let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let start = inbox.as_ptr() as usize;
    let place = |part: &[u8]| (part.as_ptr() as usize - start, part.len());
    let mut places = Vec::with_capacity(parsed.headers.len());
    places.extend(parsed.headers.iter().map(|line| (place(line.name.as_bytes()), place(line.value))));
    let bytes = inbox.split_to(length).freeze();
    let mut framing = Framing::default();
    let mut headers = std::mem::take(spare);
    headers.reserve(places.len() + 1);
    for ((name, name_length), (value, value_length)) in places {
        let name =
            HeaderName::from_bytes(&bytes[name..name + name_length]).map_err(|_| "a header has no name")?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(value..value + value_length))
            .map_err(|_| "a header has a value that is none")?;
        framing.note(&name, &value)?;
        headers.append(name, value);
    }
    let (decoder, kept) = framing.settle(method, status, version)?;
    let mut response = Response::new(());
    (*response.status_mut(), *response.version_mut(), *response.headers_mut()) = (status, version, headers);
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    Ok(Some(Head { response, decoder, kept }))
}

/// What a head says of its body and of the connection.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
}

impl Framing {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), &'static str> {
        if *name == CONTENT_LENGTH {
            let length = number(value.as_bytes()).ok_or("its length is none")?;
            if self.length.replace(length).is_some() {
                return Err("it has two lengths");
            }
        } else if *name == TRANSFER_ENCODING {
            // Another coding would lose its name on the way, for it belongs to one connection only.
            if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err("its transfer encoding is not chunked alone");
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            self.close |= tokens(value).any(|token| token.eq_ignore_ascii_case("close"));
        }
        Ok(())
    }

    /// RFC 9112 §6.3, in its order.
    fn settle(
        &self,
        method: &Method,
        status: StatusCode,
        version: Version,
    ) -> Result<(Decoder, bool), &'static str> {
        if self.chunked && self.length.is_some() {
            return Err("it has a length and a transfer encoding");
        }
        if self.chunked && version < Version::HTTP_11 {
            return Err("it has a transfer encoding in HTTP/1.0");
        }
        // Chunks can't be sent to a backend that has said it speaks HTTP/1.0: its connection is not kept.
        let kept = version >= Version::HTTP_11 && !self.close;
        let empty = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match self.length {
            _ if empty => (Decoder::length(0), kept),
            _ if self.chunked => (Decoder::chunked(), kept),
            Some(length) => (Decoder::length(length), kept),
            None => (Decoder::end(), false),
        })
    }
}

fn number(text: &[u8]) -> Option<u64> {
    is_number(text).then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Reads trailers that are complete: up to and with the empty line.
pub(super) fn trailers(bytes: &Bytes) -> Result<HeaderMap, &'static str> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS];
    let Ok(Status::Complete((used, lines))) = httparse::parse_headers(bytes, &mut lines) else {
        return Err("its trailers are none");
    };
    if used != bytes.len() {
        return Err("its trailers end in two places");
    }
    let mut trailers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| "a trailer has no name")?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value));
        trailers.append(name, value.map_err(|_| "a trailer has a value that is none")?);
    }
    Ok(trailers)
}
