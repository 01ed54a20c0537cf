//! How large a request's head may be, and one that is too large: in which way.
//!
//! hyper refuses a head that is longer than `proxy.max_head_bytes`, from its first byte to the empty line at its end, as
//! soon as so many bytes are there without that end, and one with more lines than `proxy.max_headers`. It doesn't say
//! which it was.

use hyper::server::conn::http1::Builder;

use super::error::{Error, Kind};
use super::limits::Limits;
use crate::telemetry::metrics::Limit;

/// Bytes that are kept at most of what a client sends or has not taken yet, where its head needs no more.
const BUFFER: usize = 64 * 1024;
/// Headers that hyper has room for if it is not told otherwise. For any other number it takes memory from the heap, two
/// pieces of 32 bytes a header for each request, which costs more than all that it does with a usual head.
const USUAL: usize = 100;

/// hyper's reader of heads of no more than the usual number of headers: whoever serves a connection goes on with the
/// [`patient_reader`] where a head may have more. That takes an answer of hyper's own that was kept back; of requests sent
/// one behind another, to a client that has not taken the answer to the first one, hyper says itself that the second one
/// has too many.
pub(super) fn reader(limits: &Limits) -> Builder {
    reader_of(limits, limits.headers.min(USUAL))
}

/// hyper's reader of heads of as many headers as they may have.
pub(super) fn patient_reader(limits: &Limits) -> Builder {
    reader_of(limits, limits.headers)
}

fn reader_of(limits: &Limits, headers: usize) -> Builder {
    let mut http = Builder::new();
    // Its timeout would count the time before a request as the request's.
    http.header_read_timeout(None);
    http.max_header_size(limits.head_bytes).max_buf_size(limits.head_bytes.max(BUFFER));
    if headers != USUAL {
        http.max_headers(headers);
    }
    http
}

/// Has the usual [`reader`] refused these bytes for headers that they may have?
pub(super) fn may_have_more(bytes: &[u8], limits: &Limits) -> bool {
    let usual = Limits { headers: USUAL, ..*limits };
    limits.headers > USUAL && matches!(excess(bytes, &usual).1, Limit::Headers)
}

/// What to say of a head that hyper calls too large, and the limit that it is beyond.
pub(super) fn excess(bytes: &[u8], limits: &Limits) -> (Error, Limit) {
    let (mut at, mut lines, mut target, mut whole) = (0, 0_usize, bytes.len(), false);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let empty = matches!(line, b"\r\n" | b"\n");
        if empty && lines > 0 {
            whole = true;
            break;
        }
        // Empty lines before a request are none of it (RFC 9112 §2.2).
        if !empty {
            lines += 1;
            if lines == 1 {
                target = at;
            }
        }
    }
    let headers = lines.saturating_sub(1);
    // What is not whole is refused at the bound, what is whole beyond it.
    let too_long = |length: usize, whole: bool| length > limits.head_bytes - usize::from(!whole);
    if too_long(target, headers > 0 || whole) {
        (Error::new(Kind::TargetTooLong), Limit::HeadBytes)
    } else if headers > limits.headers {
        (Error::new(Kind::HeadTooLarge), Limit::Headers)
    } else if too_long(at, whole) {
        (Error::new(Kind::HeadTooLarge), Limit::HeadBytes)
    } else {
        // A length that no number can hold is longer than whatever is allowed.
        (Error::new(Kind::BodyTooLarge), Limit::BodyBytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(head: &str) -> (u16, Limit) {
        let mut limits = Limits::of(&super::super::Config::default());
        (limits.head_bytes, limits.headers) = (64, 2);
        let (error, limit) = excess(head.as_bytes(), &limits);
        (error.problem().0.as_u16(), limit)
    }

    #[test]
    fn a_head_is_too_long_or_has_too_many_lines_or_its_target_is_too_long() {
        let long = "x".repeat(64);
        assert_eq!(told(&format!("GET /{long}")), (414, Limit::HeadBytes));
        assert_eq!(told(&format!("\r\nGET /{long} HTTP/1.1\r\n")), (414, Limit::HeadBytes));
        assert_eq!(told(&format!("GET / HTTP/1.1\r\nA: {long}")), (431, Limit::HeadBytes));
        assert_eq!(told(&format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n")), (431, Limit::HeadBytes));
        assert_eq!(told("GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\nC"), (431, Limit::Headers));
        assert_eq!(
            told(&format!("GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n{long}")),
            (431, Limit::Headers)
        );
        let huge = "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n";
        assert_eq!(told(&format!("{huge}{long}")), (413, Limit::BodyBytes));
    }
}
