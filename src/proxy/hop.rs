//! From one connection to the next: what belongs to the client's and what to the backend's.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::Body;
use super::error::{Error, Kind};
use super::upgrade::{self, Asked, Limits};
use super::{Caller, Proxy, Rules, reply};
use crate::telemetry::metrics::Tunnel;
use crate::wire::forwarded::{self, Hop};
use crate::wire::lines::Lines;
use crate::wire::seen::{Seen, Sort};

/// Is this an `OPTIONS` that must not go further than to us? Else it may go one hop less (RFC 9110 §7.6.2).
pub(super) fn is_last<B>(request: &mut Request<B>) -> bool {
    if *request.method() != Method::OPTIONS {
        return false;
    }
    let Some(hops) =
        request.headers().get(MAX_FORWARDS).and_then(|hops| hops.to_str().ok()?.parse::<u32>().ok())
    else {
        return false;
    };
    if hops > 0 {
        request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(hops - 1));
    }
    hops == 0
}

/// Bytes that the head of most requests has room in.
const ROOM: usize = 2048;

/// A request's target in origin form, or `*`.
pub(super) fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

/// Lets go of what has been written: hyper, which looks whether its client is still there while the backend is waited
/// for, then reads into the memory that the head was in.
pub(super) fn forget<B>(request: &mut Request<B>) {
    request.headers_mut().clear();
    *request.uri_mut() = Uri::default();
}

/// Says which protocol the client's connection changes to, or may change to.
fn put_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

impl Proxy {
    /// Makes the request one to the backend: no more than its own target, and who sent it.
    pub(super) fn readdress<B>(&self, request: &mut Request<B>, seen: Seen, caller: &Caller) -> Hop {
        if let Some(authority) = request.uri().authority() {
            // The authority of an absolute target counts, not Host (RFC 9112 §3.2.2).
            let host = HeaderValue::try_from(authority.as_str());
            let target = request.uri().path_and_query().cloned();
            if let Ok(host) = host {
                request.headers_mut().insert(HOST, host);
            }
            *request.uri_mut() = match target {
                // An absolute target may have a query and no path.
                Some(target) if target.as_str().starts_with('?') => {
                    Uri::try_from(target.to_string()).unwrap_or_default()
                }
                target => target.map_or_else(Uri::default, Uri::from),
            };
        }
        let received = request.version();
        let headers = request.headers_mut();
        let mut hop = forwarded::take_hop(headers, seen);
        if received < Version::HTTP_11 {
            hop.upgrade = None;
        }
        if seen.has(Sort::Expect) {
            headers.remove(EXPECT);
        }
        if seen.has(Sort::Trailer) {
            forwarded::announce(headers, |name| caller.rules.passes(name));
        }
        hop
    }

    /// Writes the head of a request to the backend but for its end: what the client says, then what is said of it.
    pub(super) fn write(
        &self,
        request: &mut Request<()>,
        body: &Incoming,
        seen: Seen,
        caller: &Caller,
        hop: &Hop,
        tls: bool,
    ) -> Lines {
        let mut lines = Lines::request(request.method().as_str(), target(request.uri()), ROOM);
        let received = request.version();
        let chunked = body.size_hint().exact().is_none();
        let headers = request.headers_mut();
        if seen.has(Sort::RequestId) {
            headers.remove(reply::X_REQUEST_ID);
        }
        let (origin, peer) = (&caller.rules.origin, &caller.client.peer);
        let before = origin.hear(headers, seen, peer);
        lines.all(headers);
        let host = headers.get(HOST);
        let ours = host.is_none().then(|| self.backend.host());
        if let Some(host) = &ours {
            lines.add(HOST.as_str(), host);
        }
        origin.tell(&mut lines, &before, host.or(ours.as_ref()), peer, tls, received);
        lines.add(reply::X_REQUEST_ID.as_str(), &caller.id);
        forwarded::ask_hop(&mut lines, hop);
        if chunked {
            lines.joined(TRANSFER_ENCODING.as_str(), &["chunked"]);
        }
        lines
    }

    /// Takes the client's end of the tunnel that it asks for, if it does.
    pub(super) fn ask(
        &self,
        rules: &Rules,
        hop: &Hop,
        request: &mut Request<()>,
    ) -> Result<Option<Asked>, Error> {
        if hop.upgrade.is_none() {
            return Ok(None);
        }
        // Before the backend is asked: what it agrees to can be kept then.
        let most = rules.limits.tunnels;
        let Some(place) = self.tunnels.enter(most) else {
            self.metrics.tunnel_was(Tunnel::Refused);
            return Err(Error::new(Kind::TooManyTunnels).because(format!("proxy.max_tunnels is {most}")));
        };
        Ok(Some(Asked { client: hyper::upgrade::on(request), place }))
    }

    /// Joins client and backend after the backend's 101.
    pub(super) fn join(&self, caller: &Caller, asked: Asked, response: &mut Response<Body>, seen: Seen) {
        let Some(backend) = response.body_mut().take_switched() else { return };
        let protocol = response.headers().get(UPGRADE).cloned();
        caller.rules.part(response, seen);
        if let Some(protocol) = protocol {
            put_upgrade(response.headers_mut(), protocol);
        }
        let limits = Limits {
            // The caller's own may still be moved by the rest of its request's body.
            alarm: caller.client.alarm.another(),
            idle: caller.rules.tunnel_idle_timeout,
            stop: self.drain.cut(),
        };
        upgrade::tunnel(asked, backend, &self.metrics, self.drain.guard(), limits);
    }
}

impl Rules {
    fn passes(&self, trailer: &HeaderName) -> bool {
        let mut alone: HeaderMap = [(trailer.clone(), HeaderValue::from_static(""))].into_iter().collect();
        self.injector.guard().strip_trailers(&mut alone) == 0
    }

    /// Removes what belongs to the backend's connection.
    pub(super) fn part(&self, response: &mut Response<Body>, seen: Seen) {
        let status = response.status();
        let headers = response.headers_mut();
        let hop = forwarded::take_hop(headers, seen);
        if seen.has(Sort::Trailer) {
            forwarded::announce(headers, |name| self.passes(name));
        }
        match status {
            StatusCode::NO_CONTENT => drop(headers.remove(CONTENT_LENGTH)),
            // The client's connection can be changed just so.
            StatusCode::UPGRADE_REQUIRED => {
                if let Some(protocol) = hop.upgrade {
                    put_upgrade(headers, protocol);
                }
            }
            _ => {}
        }
    }
}
