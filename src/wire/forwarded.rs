//! What belongs to one connection only, and what tells the backend where a request came from.

use std::net::{IpAddr, SocketAddr};

use http::Version;
use http::header::{
    CONNECTION, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    VIA,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::names::{X_FORWARDED, remove};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What `Connection` can't remove, whoever names it: what frames and routes a message, and whom it comes from.
const PROTECTED: [&str; 12] = [
    "authorization",
    "cache-control",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "set-cookie",
    "transfer-encoding",
    "vary",
    "via",
    "x-request-id",
];

/// Which headers tell the backend about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarded {
    /// `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded`.
    Both,
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Standard,
    /// None.
    Off,
}

/// What a message wanted of this connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hop {
    /// The protocol to change to, where `Connection` says `upgrade` too.
    pub upgrade: Option<HeaderValue>,
    /// `TE: trailers`.
    pub trailers: bool,
}

/// Removes what belongs to one connection only (RFC 9110 §7.6.1), whatever a client names in `Connection`.
pub fn take_hop(headers: &mut HeaderMap) -> Hop {
    let mut hop = Hop::default();
    let mut upgrades = false;
    if headers.contains_key(CONNECTION) {
        let lines: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        headers.remove(CONNECTION);
        for name in lines.iter().flat_map(tokens) {
            upgrades |= name.eq_ignore_ascii_case("upgrade");
            let name = name.to_ascii_lowercase();
            let ours = ["upgrade", "te", "close", "keep-alive"].contains(&&*name);
            if !ours && !PROTECTED.contains(&&*name) && !name.starts_with(X_FORWARDED) {
                headers.remove(&*name);
            }
        }
    }
    let upgrade = headers.remove(UPGRADE);
    // A cleartext HTTP/2 connection would carry requests past us (RFC 9113 §3.1 has retired it).
    hop.upgrade =
        upgrade.filter(|protocol| upgrades && !tokens(protocol).any(|name| name.eq_ignore_ascii_case("h2c")));
    hop.trailers =
        headers.get_all(TE).iter().flat_map(tokens).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    headers.remove(TE);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(HTTP2_SETTINGS);
    headers.remove(TRANSFER_ENCODING);
    hop
}

/// Asks the next hop for what this one was asked for.
pub fn put_hop(headers: &mut HeaderMap, hop: &Hop) {
    if hop.trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(protocol) = &hop.upgrade {
        headers.insert(UPGRADE, protocol.clone());
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Leaves of `Trailer` the names that may pass; nothing where none may.
pub fn announce(headers: &mut HeaderMap, may_pass: impl Fn(&HeaderName) -> bool) {
    if !headers.contains_key(TRAILER) {
        return;
    }
    let all: Vec<HeaderName> = headers
        .get_all(TRAILER)
        .iter()
        .flat_map(tokens)
        .filter_map(|name| HeaderName::try_from(name).ok())
        .collect();
    headers.remove(TRAILER);
    for name in all.into_iter().filter(may_pass) {
        headers.append(TRAILER, HeaderValue::from(name));
    }
}

/// The elements of a list, without the empty ones.
pub fn tokens(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let text = line.to_str().unwrap_or_default();
    text.split(',').map(|token| token.trim_matches([' ', '\t'])).filter(|token| !token.is_empty())
}

/// Tells backends about clients.
#[derive(Clone, Debug)]
pub struct Origin {
    trusted: Vec<IpNet>,
    forwarded: Forwarded,
    /// For what came by HTTP/1.0 and by HTTP/1.1.
    via: Option<[HeaderValue; 2]>,
}

impl Origin {
    /// Peers in `trusted` are believed; `via` is our name, empty for none.
    ///
    /// # Errors
    /// If the name is none that `Via` can carry.
    pub fn new(trusted: &[IpNet], forwarded: Forwarded, via: &str) -> Result<Self, String> {
        let value = |version: &str| {
            HeaderValue::try_from(format!("{version} {via}"))
                .map_err(|_| format!("{via:?} can't stand in Via"))
        };
        let values = [value("1.0")?, value("1.1")?];
        let via = (!via.is_empty()).then_some(values);
        Ok(Self { trusted: trusted.to_vec(), forwarded, via })
    }

    /// Is what this peer says about clients believed?
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.trusted.is_empty() && {
            let peer = peer.to_canonical();
            self.trusted.iter().any(|network| network.contains(&peer))
        }
    }

    /// Did the client come over TLS, to us or to the proxy before us that `peer` is?
    pub fn is_tls(&self, headers: &HeaderMap, peer: IpAddr, tls: bool) -> bool {
        let says = || headers.get(X_FORWARDED_PROTO).and_then(|value| tokens(value).last());
        tls || (self.trusts(peer) && says().is_some_and(|proto| proto.eq_ignore_ascii_case("https")))
    }

    /// Writes `Forwarded`, `X-Forwarded-*` and `Via`; what a peer says that nobody trusts is replaced.
    ///
    /// `received` is the version that the request came by, which is what `Via` tells (RFC 9110 §7.6.3).
    pub fn tell(&self, headers: &mut HeaderMap, peer: SocketAddr, tls: bool, received: Version) {
        let trusted = self.trusts(peer.ip());
        if !trusted {
            remove(headers, |name| name == FORWARDED || name.as_str().starts_with(X_FORWARDED));
        }
        let proto = if tls { "https" } else { "http" };
        let host = headers.get(HOST).cloned();
        let ip = peer.ip().to_canonical();
        if matches!(self.forwarded, Forwarded::Both | Forwarded::XForwarded) {
            append(headers, X_FORWARDED_FOR, &ip.to_string());
            if !headers.contains_key(X_FORWARDED_PROTO) {
                headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
            }
            if let Some(host) = &host
                && !headers.contains_key(X_FORWARDED_HOST)
            {
                headers.insert(X_FORWARDED_HOST, host.clone());
            }
        }
        if matches!(self.forwarded, Forwarded::Both | Forwarded::Standard) {
            let node = match ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("\"[{ip}]\""),
            };
            // A host that would need escaping is no host; the element is then left out.
            let host =
                host.as_ref().and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\']));
            let host = host.map(|host| format!(";host=\"{host}\"")).unwrap_or_default();
            append(headers, FORWARDED, &format!("for={node}{host};proto={proto}"));
        }
        if let Some(via) = &self.via {
            headers.append(VIA, via[usize::from(received >= Version::HTTP_11)].clone());
        }
    }
}

/// Adds an element to a list, in one line.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let lines: Vec<&str> = headers.get_all(&name).iter().filter_map(|line| line.to_str().ok()).collect();
    let list = if lines.is_empty() { element.to_owned() } else { format!("{}, {element}", lines.join(", ")) };
    if let Ok(value) = HeaderValue::try_from(list) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn connection_removes_what_it_names_but_not_what_frames_or_tells() {
        let mut map = headers(&[
            ("connection", "close, X-Hop, Host, content-length"),
            ("connection", "cookie, x-forwarded-for"),
            ("x-hop", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("cookie", "a=1"),
            ("x-forwarded-for", "1.2.3.4"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "x"),
            ("te", "gzip, trailers"),
            ("x-end", "2"),
        ]);
        let hop = take_hop(&mut map);
        assert_eq!(names(&map), ["content-length", "cookie", "host", "x-end", "x-forwarded-for"]);
        assert_eq!(hop, Hop { upgrade: None, trailers: true });
    }

    #[test]
    fn an_upgrade_needs_both_headers_and_is_never_h2c() {
        for (connection, upgrade, passes) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "websocket", true),
            ("keep-alive", "websocket", false),
            ("Upgrade", "h2c", false),
            ("Upgrade, HTTP2-Settings", "websocket, H2C", false),
        ] {
            let mut map = headers(&[("connection", connection), ("upgrade", upgrade)]);
            assert_eq!(take_hop(&mut map).upgrade.is_some(), passes, "{connection} {upgrade}");
            assert!(map.is_empty());
        }
    }

    fn tell(forwarded: Forwarded, peer: &str, lines: &[(&str, &str)]) -> HeaderMap {
        let origin = Origin::new(&["10.0.0.0/8".parse().unwrap()], forwarded, "coatroom").unwrap();
        let mut map = headers(lines);
        let peer = SocketAddr::new(peer.parse().unwrap(), 99);
        origin.tell(&mut map, peer, false, Version::HTTP_11);
        map
    }

    #[test]
    fn a_stranger_says_nothing_about_clients() {
        let lines = [
            ("host", "shop"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-anything", "1"),
            ("forwarded", "for=6.6.6.6"),
            ("via", "1.1 before"),
        ];
        let map = tell(Forwarded::Both, "192.0.2.1", &lines);
        assert_eq!(map["x-forwarded-for"], "192.0.2.1");
        assert_eq!(map["x-forwarded-proto"], "http");
        assert_eq!(map["x-forwarded-host"], "shop");
        assert_eq!(map["forwarded"], "for=192.0.2.1;host=\"shop\";proto=http");
        assert!(!map.contains_key("x-forwarded-anything"));
        assert_eq!(map.get_all(VIA).iter().collect::<Vec<_>>(), ["1.1 before", "1.1 coatroom"]);
        assert!(tell(Forwarded::Off, "192.0.2.1", &lines).get("x-forwarded-for").is_none());
    }

    #[test]
    fn a_trusted_peer_is_believed_and_appended_to() {
        let lines =
            [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"), ("forwarded", "for=6.6.6.6")];
        let map = tell(Forwarded::Both, "10.1.2.3", &lines);
        assert_eq!(map["x-forwarded-for"], "6.6.6.6, 10.1.2.3");
        assert_eq!(map["x-forwarded-proto"], "https");
        assert_eq!(map["forwarded"], "for=6.6.6.6, for=10.1.2.3;proto=http");
        let map = tell(Forwarded::Standard, "::1", &[]);
        assert_eq!(map["forwarded"], "for=\"[::1]\";proto=http");
        let mapped = tell(Forwarded::XForwarded, "::ffff:10.0.0.1", &lines);
        assert_eq!(mapped["x-forwarded-for"], "6.6.6.6, 10.0.0.1");
    }

    #[test]
    fn only_trailers_that_may_pass_are_announced() {
        let mut map = headers(&[("trailer", "X-Sum, X-Session-Set"), ("trailer", "Host")]);
        announce(&mut map, |name| name == "x-sum");
        assert_eq!(map.get_all(TRAILER).iter().collect::<Vec<_>>(), ["x-sum"]);
    }
}
