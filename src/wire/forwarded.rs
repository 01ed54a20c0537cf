//! What belongs to one connection only, and what tells the backend where a request came from.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::Version;
use http::header::{
    CONNECTION, Entry, FORWARDED, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::names::{X_FORWARDED, remove};
use super::seen::{Seen, Sort};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Trailers that a message may announce; what it names besides does not pass.
const MOST_TRAILERS: usize = 128;

/// What belongs to one connection only (RFC 9110 §7.6.1), whether `Connection` names it or not.
static ONE_HOP: [HeaderName; 7] =
    [CONNECTION, UPGRADE, TE, KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, TRANSFER_ENCODING];

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

/// How often a request may have passed sidecars of one name. Applications behind them call each other, and hand on `Via`;
/// what comes more often goes round in circles.
const HOPS: usize = 8;

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

/// An address, or a network of them: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let alone = || text.parse().map(|address: IpAddr| IpNet::from(address));
        let parsed = text.parse().or_else(|_| alone());
        parsed.map(Self).map_err(|_| format!("{text:?} is no address"))
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
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
pub fn take_hop(headers: &mut HeaderMap, seen: Seen) -> Hop {
    let mut hop = Hop::default();
    if !seen.has(Sort::Hop) {
        return hop;
    }
    let lines: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    // Trailers that are not announced don't pass.
    if headers.contains_key(TRAILER) {
        let listed: HashSet<String> = lines.iter().flat_map(tokens).map(str::to_ascii_lowercase).collect();
        announce(headers, |name| !listed.contains(name.as_str()));
    }
    let mut upgrades = false;
    for name in lines.iter().flat_map(tokens) {
        upgrades |= name.eq_ignore_ascii_case("upgrade");
        let name = name.to_ascii_lowercase();
        let ours = ["upgrade", "te", "close", "keep-alive"].contains(&&*name);
        if !ours && !PROTECTED.contains(&&*name) && !name.starts_with(X_FORWARDED) {
            headers.remove(&*name);
        }
    }
    // A cleartext HTTP/2 connection would carry requests past us (RFC 9113 §3.1 has retired it).
    let passes =
        |protocol: &&HeaderValue| upgrades && !tokens(protocol).any(|name| name.eq_ignore_ascii_case("h2c"));
    hop.upgrade = headers.get(UPGRADE).filter(passes).cloned();
    hop.trailers =
        headers.get_all(TE).iter().flat_map(tokens).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    for name in &ONE_HOP {
        headers.remove(name);
    }
    hop
}

/// Asks the next hop for what this one was asked for.
pub fn ask_hop(lines: &mut Lines, hop: &Hop) {
    if hop.trailers {
        lines.joined(TE.as_str(), &["trailers"]);
    }
    if let Some(protocol) = &hop.upgrade {
        lines.add(UPGRADE.as_str(), protocol);
    }
    match (hop.trailers, &hop.upgrade) {
        (true, Some(_)) => lines.joined(CONNECTION.as_str(), &["te, upgrade"]),
        (true, None) => lines.joined(CONNECTION.as_str(), &["te"]),
        (false, Some(_)) => lines.joined(CONNECTION.as_str(), &["upgrade"]),
        (false, None) => {}
    }
}

/// Leaves of `Trailer` the names that may pass; nothing where none may.
pub fn announce(headers: &mut HeaderMap, may_pass: impl Fn(&HeaderName) -> bool) {
    let all = announced(headers);
    headers.remove(TRAILER);
    for name in all.into_iter().filter(may_pass) {
        headers.append(TRAILER, HeaderValue::from(name));
    }
}

/// The names that `Trailer` lists, each once; of more than 128 the first ones.
pub fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for name in headers.get_all(TRAILER).iter().flat_map(tokens) {
        if let Ok(name) = HeaderName::try_from(name)
            && !names.contains(&name)
        {
            names.push(name);
            if names.len() == MOST_TRAILERS {
                break;
            }
        }
    }
    names
}

/// The elements of a list, without the empty ones.
pub fn tokens(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let text = line.to_str().unwrap_or_default();
    text.split(',').map(|token| token.trim_matches([' ', '\t'])).filter(|token| !token.is_empty())
}

/// Whom a connection is with, and what backends are told of it: written once, said with each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    ip: String,
    /// `for=…`
    node: String,
    /// `X-Forwarded-For` and `X-Forwarded-Proto` as they are where nobody is before us, without and with TLS.
    alone: [String; 2],
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        let node = match ip {
            IpAddr::V4(ip) => format!("for={ip}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        let ip = ip.to_string();
        let alone = ["http", "https"]
            .map(|proto| format!("{X_FORWARDED_FOR}: {ip}\r\n{X_FORWARDED_PROTO}: {proto}\r\n"));
        Self { address, ip, node, alone }
    }
}

/// Tells backends about clients.
#[derive(Clone, Debug)]
pub struct Origin {
    trusted: Vec<Network>,
    forwarded: Forwarded,
    /// Whole lines, for what came by HTTP/1.0 and by HTTP/1.1.
    via: Option<[String; 2]>,
    /// Our name in it.
    name: String,
}

impl Origin {
    /// Peers in `trusted` are believed; `name` is ours in `Via`, empty for none.
    ///
    /// # Errors
    /// If the name is none that `Via` can carry.
    pub fn new(trusted: &[Network], forwarded: Forwarded, name: &str) -> Result<Self, String> {
        HeaderValue::try_from(name).map_err(|_| format!("{name:?} can't stand in Via"))?;
        let lines = ["1.0", "1.1"].map(|version| format!("{VIA}: {version} {name}\r\n"));
        let via = (!name.is_empty()).then_some(lines);
        Ok(Self { trusted: trusted.to_vec(), forwarded, via, name: name.to_owned() })
    }

    /// Has a request with these headers come by here so often that it will never arrive (RFC 9110 §7.6)?
    pub fn loops(&self, headers: &HeaderMap) -> bool {
        let ours = |element: &str| element.split_ascii_whitespace().nth(1) == Some(&*self.name);
        self.via.is_some()
            && headers.get_all(VIA).iter().flat_map(tokens).filter(|element| ours(element)).count() >= HOPS
    }

    /// Is what this peer says about clients believed?
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.trusted.is_empty() && {
            let peer = peer.to_canonical();
            self.trusted.iter().any(|network| network.0.contains(&peer))
        }
    }

    /// Did the client come over TLS, to us or to the proxy before us that `peer` is?
    pub fn is_tls(&self, headers: &HeaderMap, peer: IpAddr, tls: bool) -> bool {
        // Lines are one list (RFC 9110 §5.3), and what the proxy before us added to it stands last.
        let says = || headers.get_all(X_FORWARDED_PROTO).iter().flat_map(tokens).last();
        tls || (self.trusts(peer) && says().is_some_and(|proto| proto.eq_ignore_ascii_case("https")))
    }

    /// Takes out of `headers` what [`Origin::tell`] replaces or continues: what a peer says that nobody trusts is gone.
    pub fn hear(&self, headers: &mut HeaderMap, seen: Seen, peer: &Peer) -> Before {
        if !seen.has(Sort::Origin) {
            return Before::default();
        }
        if self.trusts(peer.address.ip()) {
            return Before::take(headers, self.forwarded);
        }
        remove(headers, |name| *name == FORWARDED || name.as_str().starts_with(X_FORWARDED));
        Before::default()
    }

    /// Writes `Forwarded`, `X-Forwarded-*` and `Via`, behind what was said `before`.
    ///
    /// `received` is the version that the request came by, which is what `Via` tells (RFC 9110 §7.6.3).
    pub fn tell(
        &self,
        lines: &mut Lines,
        before: &Before,
        host: Option<&HeaderValue>,
        peer: &Peer,
        tls: bool,
        received: Version,
    ) {
        let proto = if tls { "https" } else { "http" };
        if matches!(self.forwarded, Forwarded::Both | Forwarded::XForwarded) {
            if before.addresses.is_empty() && !before.proto {
                lines.written(peer.alone[usize::from(tls)].as_bytes());
            } else {
                lines.list(X_FORWARDED_FOR.as_str(), &before.addresses, &[&peer.ip]);
                if !before.proto {
                    lines.joined(X_FORWARDED_PROTO.as_str(), &[proto]);
                }
            }
            if let Some(host) = host.filter(|_| !before.host) {
                lines.add(X_FORWARDED_HOST.as_str(), host);
            }
        }
        if matches!(self.forwarded, Forwarded::Both | Forwarded::Standard) {
            // A host that would need escaping is no host; the element then has none.
            let host = host.and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\']));
            let name = FORWARDED.as_str();
            match host {
                Some(host) => {
                    lines.list(name, &before.elements, &[&peer.node, ";host=\"", host, "\";proto=", proto]);
                }
                None => lines.list(name, &before.elements, &[&peer.node, ";proto=", proto]),
            }
        }
        if let Some(via) = &self.via {
            lines.written(via[usize::from(received >= Version::HTTP_11)].as_bytes());
        }
    }
}

/// What a trusted peer has said of the client.
#[derive(Debug, Default)]
pub struct Before {
    /// `X-Forwarded-For`, to be continued.
    addresses: Vec<HeaderValue>,
    /// `Forwarded`, to be continued.
    elements: Vec<HeaderValue>,
    /// Is there an `X-Forwarded-Proto`?
    proto: bool,
    /// Is there an `X-Forwarded-Host`?
    host: bool,
}

impl Before {
    fn take(headers: &mut HeaderMap, forwarded: Forwarded) -> Self {
        let mut take = |name: HeaderName, continued: bool| match headers.entry(name) {
            Entry::Occupied(lines) if continued => lines.remove_entry_mult().1.collect(),
            _ => Vec::new(),
        };
        Self {
            addresses: take(X_FORWARDED_FOR, matches!(forwarded, Forwarded::Both | Forwarded::XForwarded)),
            elements: take(FORWARDED, matches!(forwarded, Forwarded::Both | Forwarded::Standard)),
            proto: headers.contains_key(X_FORWARDED_PROTO),
            host: headers.contains_key(X_FORWARDED_HOST),
        }
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

    fn hop(map: &mut HeaderMap) -> Hop {
        let seen = Seen::of(map);
        take_hop(map, seen)
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
        let taken = hop(&mut map);
        assert_eq!(names(&map), ["content-length", "cookie", "host", "x-end", "x-forwarded-for"]);
        assert_eq!(taken, Hop { upgrade: None, trailers: true });
    }

    #[test]
    fn connection_removes_the_trailers_that_it_names() {
        let mut map = headers(&[("connection", "X-Hop"), ("trailer", "X-Sum, x-hop"), ("x-hop", "1")]);
        hop(&mut map);
        assert_eq!((names(&map), &map[TRAILER]), (vec!["trailer"], &HeaderValue::from_static("x-sum")));
    }

    #[test]
    fn who_has_been_here_too_often_goes_in_circles() {
        let origin = Origin::new(&[], Forwarded::Both, "coatroom").unwrap();
        let via = |times: usize, element: &str| headers(&[("via", &vec![element; times].join(", "))]);
        assert!(!origin.loops(&HeaderMap::new()) && !origin.loops(&via(7, "1.1 coatroom")));
        assert!(origin.loops(&via(8, "1.1 coatroom")) && origin.loops(&via(8, "HTTP/1.0\tcoatroom (again)")));
        assert!(!origin.loops(&via(90, "1.1 coatrooms")) && !origin.loops(&via(90, "coatroom")));
        let lines = [("via", "1.1 coatroom"); 8];
        assert!(origin.loops(&headers(&lines)));
        assert!(!Origin::new(&[], Forwarded::Both, "").unwrap().loops(&headers(&lines)));
    }

    #[test]
    fn each_hop_header_goes_although_it_is_the_only_one() {
        for name in &ONE_HOP {
            let mut map = headers(&[(name.as_str(), "x"), ("x-end", "2")]);
            hop(&mut map);
            assert_eq!(names(&map), ["x-end"], "{name}");
        }
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
            assert_eq!(hop(&mut map).upgrade.is_some(), passes, "{connection} {upgrade}");
            assert!(map.is_empty());
        }
    }

    fn tell(forwarded: Forwarded, peer: &str, lines: &[(&str, &str)]) -> HeaderMap {
        let origin = Origin::new(
            &["10.1.2.3".parse().unwrap(), "10.0.0.0/24".parse().unwrap()],
            forwarded,
            "coatroom",
        )
        .unwrap();
        let mut map = headers(lines);
        let peer = SocketAddr::new(peer.parse().unwrap(), 99).into();
        let seen = Seen::of(&map);
        let before = origin.hear(&mut map, seen, &peer);
        let mut lines = Lines::default();
        lines.all(&map);
        origin.tell(&mut lines, &before, map.get("host"), &peer, false, Version::HTTP_11);
        lines.read()
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
    fn trailers_are_announced_once_each_and_no_more_of_them_than_a_message_has_use_for() {
        let mut map = HeaderMap::new();
        let names: Vec<_> = (0..1000).map(|n| format!("x-{n}")).collect();
        map.append(TRAILER, HeaderValue::from_str(&names.join(", ")).unwrap());
        assert_eq!(announced(&map).len(), MOST_TRAILERS);
        map.insert(TRAILER, HeaderValue::from_str(&"a, B, b, A,".repeat(1000)).unwrap());
        map.insert(CONNECTION, HeaderValue::from_static("x, B"));
        let seen = Seen::of(&map);
        take_hop(&mut map, seen);
        assert_eq!(map.get_all(TRAILER).iter().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn only_trailers_that_may_pass_are_announced() {
        let mut map = headers(&[("trailer", "X-Sum, X-Session-Set"), ("trailer", "Host")]);
        announce(&mut map, |name| name == "x-sum");
        assert_eq!(map.get_all(TRAILER).iter().collect::<Vec<_>>(), ["x-sum"]);
    }
}
