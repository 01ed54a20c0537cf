//! Which headers a message has, of those that a proxy looks for: one look at all names spares most messages a look-up
//! for each name that might be there.

use http::header::HeaderMap;

use super::names::X_FORWARDED;

/// What a header is to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// It belongs to one connection only (RFC 9110 §7.6.1).
    Hop = 1,
    /// `Transfer-Encoding`, which is [`Sort::Hop`] too.
    Coding = 1 << 1,
    /// `Trailer`.
    Trailer = 1 << 2,
    /// `Expect`.
    Expect = 1 << 3,
    /// `Via`.
    Via = 1 << 4,
    /// It tells where a request came from: `Forwarded`, `X-Forwarded-*`.
    Origin = 1 << 5,
    /// `X-Request-Id`.
    RequestId = 1 << 6,
    /// `Cookie`.
    Cookie = 1 << 7,
    /// `Set-Cookie`.
    SetCookie = 1 << 8,
    /// `Authorization`.
    Authorization = 1 << 9,
    /// `Content-Length`.
    Length = 1 << 10,
}

/// The sorts of headers that a message had when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u16);

impl Seen {
    /// Looks at all names.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |seen, name| seen | sorts(name.as_str())))
    }

    /// Was one of this sort there?
    pub const fn has(self, sort: Sort) -> bool {
        self.0 & sort as u16 != 0
    }
}

/// The sorts of a name, which is in lower case.
fn sorts(name: &str) -> u16 {
    match name {
        "transfer-encoding" => Sort::Hop as u16 | Sort::Coding as u16,
        "connection" | "upgrade" | "te" | "keep-alive" | "proxy-connection" | "http2-settings" => {
            Sort::Hop as u16
        }
        "trailer" => Sort::Trailer as u16,
        "expect" => Sort::Expect as u16,
        "via" => Sort::Via as u16,
        "forwarded" => Sort::Origin as u16,
        "x-request-id" => Sort::RequestId as u16,
        "cookie" => Sort::Cookie as u16,
        "authorization" => Sort::Authorization as u16,
        "content-length" => Sort::Length as u16,
        "set-cookie" => Sort::SetCookie as u16,
        _ if name.starts_with(X_FORWARDED) => Sort::Origin as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn what_is_there_is_seen_and_nothing_else() {
        for (name, sort) in [
            ("Transfer-Encoding", Sort::Coding),
            ("Trailer", Sort::Trailer),
            ("Expect", Sort::Expect),
            ("Via", Sort::Via),
            ("Forwarded", Sort::Origin),
            ("X-Forwarded-For", Sort::Origin),
            ("X-Forwarded-Whatever", Sort::Origin),
            ("X-Request-Id", Sort::RequestId),
            ("Cookie", Sort::Cookie),
            ("Set-Cookie", Sort::SetCookie),
            ("Authorization", Sort::Authorization),
            ("Content-Length", Sort::Length),
        ] {
            let name = HeaderName::try_from(name).expect("a name");
            let mut headers: HeaderMap = [(name, HeaderValue::from_static("x"))].into_iter().collect();
            for other in ["accept", "cookie2", "x-forwarded", "x-requested-with", "host"] {
                headers.insert(other, HeaderValue::from_static("x"));
            }
            let others = Seen::of(&headers).0 & !(sort as u16 | Sort::Hop as u16);
            assert!(Seen::of(&headers).has(sort) && others == 0, "{sort:?}");
        }
    }
}
