//! The door for visitors: a request goes to the backend with its session, and its response comes back without.
//!
//! [`Proxy::exchange`] is the spine. [`listen`] calls it, [`reply`] turns an error into a response, and nothing else
//! happens to a request.

pub mod backend;
pub mod body;
pub mod check;
mod config;
pub mod crowd;
pub mod descriptors;
pub mod error;
pub mod finish;
mod head;
pub mod heads;
mod hop;
pub mod ids;
mod keepalive;
pub mod limits;
mod linger;
pub mod listen;
pub mod muted;
pub mod nonce;
mod over;
pub mod page;
pub mod patience;
pub mod reply;
pub mod room;
pub mod routes;
pub mod timer;
pub mod upgrade;
pub mod visit;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::warn;

use self::backend::{Address, Backend, Owner, Terms};
use self::body::{Body, Upload};
pub use self::config::Config;
use self::error::{Error, Kind};
use self::finish::Begun;
use self::ids::Ids;
use self::limits::Limits;
use self::muted::Turns;
use self::nonce::{Nonce, Nonces};
use self::page::Page;
use self::patience::Patience;
use self::room::Room;
use self::routes::Routes;
use self::timer::Alarm;
use crate::drain::Drain;
use crate::manager::{Manager, Session, Tell, Told};
use crate::session::{Changes, Denied, Mode, Reason, Shown};
use crate::store::{self, Failed};
use crate::telemetry::logging::Limited;
use crate::telemetry::metrics::{Metrics, Side};
use crate::time::{Clock, Stopwatch, Timestamp};
use crate::wire::forwarded::{Origin, Peer};
use crate::wire::jar::Jar;
use crate::wire::lines::Lines;
use crate::wire::request::{Injector, Said, View};
use crate::wire::response::Reader;
use crate::wire::seen::{Seen, Sort};
use crate::wire::{OnRefused, caching};

/// The row of the decision table that was taken, for developers of backends.
const X_COATROOM_DECISION: HeaderName = HeaderName::from_static("x-coatroom-decision");

/// What all workers go by, and each request to its end by what was in force when it came.
pub struct Rules {
    /// Loads and commits sessions.
    pub manager: Arc<Manager>,
    /// Which requests have a session.
    pub routes: Routes,
    /// Takes tokens out of cookies and puts them in.
    pub jar: Jar,
    /// Writes sessions into requests.
    pub injector: Injector,
    /// Reads directives.
    pub reader: Reader,
    /// What goes for the backend's connections.
    pub terms: Terms,
    /// `proxy.tunnel_idle_timeout`, for tunnels that come about from now on.
    pub tunnel_idle_timeout: Duration,
    /// What clients may take whose connections come from now on.
    pub patience: Patience,
    /// How large and how many things may be.
    pub limits: Limits,
    /// Tells backends about clients.
    pub origin: Origin,
    /// `headers.prefix`, for messages.
    pub prefix: String,
    /// `headers.on_refused`.
    pub on_refused: OnRefused,
    /// `headers.explain`.
    pub explain: bool,
    /// `headers.vary`.
    pub vary: bool,
    /// `errors.page`.
    pub page: Option<Page>,
    /// `log.access`.
    pub access: bool,
    /// How often it is logged that a request is refused which the backend could have answered.
    pub limited: Limited,
}

/// Carries requests to the backend and their sessions through the store; one for each worker.
pub struct Proxy {
    rules: Arc<ArcSwap<Rules>>,
    backend: Backend,
    tunnels: Room,
    nonces: Nonces,
    metrics: Arc<Metrics>,
    clock: Clock,
    drain: Drain,
}

/// What is known of a request besides itself.
pub struct Caller {
    /// What was in force when it came.
    pub rules: Arc<Rules>,
    /// Whom the connection is with.
    pub client: Arc<Client>,
    /// The request's ID, ours or a trusted peer's.
    pub id: HeaderValue,
}

/// What the requests of one connection share; one of them is under way at a time.
pub struct Client {
    /// Carries them.
    pub proxy: Arc<Proxy>,
    /// Names them.
    pub ids: Arc<Ids>,
    /// Who sends them.
    pub peer: Peer,
    /// Rings when whoever's turn it is has taken too long.
    pub alarm: Alarm,
    /// Which of them are not answered yet.
    pub turns: Turns,
    /// Tells when one has gone to the backend.
    pub begun: Begun,
    /// Set by the first one.
    pub called: AtomicBool,
    /// What it has of the backend for itself, once it has.
    pub owner: OnceLock<Arc<Owner>>,
}

/// How long the backend took of an exchange.
#[derive(Default)]
pub struct Waited(std::sync::atomic::AtomicU64);

impl Waited {
    /// The time that was spent waiting for the backend.
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn set(&self, length: Duration) {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Proxy {
    /// Carries one request to the backend and its session through the store.
    ///
    /// [`Client::begun`] is told when the request's head goes to the backend: from then on this must run to its end,
    /// client or no client.
    ///
    /// # Errors
    /// [`Error`], which [`reply::problem`] makes a response of.
    pub async fn exchange(
        &self,
        request: &mut Request<()>,
        seen: Seen,
        body: Incoming,
        caller: &Caller,
        waited: &Waited,
    ) -> Result<Response<Body>, Error> {
        check::request(request, seen, &caller.rules.origin)?;
        check::length(&body, caller.rules.limits.body_bytes)?;
        if hop::is_last(request) {
            return Ok(reply::options(&caller.id));
        }
        let (rules, now) = (&*caller.rules, self.clock.now());
        let mode = rules.routes.of(request.method(), request.uri().path());
        let tls = rules.origin.is_tls(request.headers(), caller.client.peer.address.ip(), false);
        let nonce = self.nonces.next();
        let stripped = rules.injector.guard().strip_request(request.headers_mut());
        self.metrics.stripped(Side::Client, stripped as u64);
        let hop = self.readdress(request, seen, caller);
        let tunnel = self.ask(rules, &hop, request)?;
        let session = {
            let shown =
                if seen.has(Sort::Cookie) { rules.jar.take(request.headers_mut()) } else { Shown::default() };
            rules.manager.load(mode, &shown, now).await.map_err(|problem| rules.failed(problem.into()))?
        };
        let mut head = self.write(request, &body, seen, caller, &hop, tls);
        let asked = (request.method().as_str(), hop::target(request.uri()));
        rules.inject(&mut head, &session, &nonce, asked, now)?;

        if seen.has(Sort::Authorization) {
            self.backend.claim(&caller.client, request.headers());
        }
        let upload = Upload::of(body, request.headers(), caller);
        hop::forget(request);
        let watch = Stopwatch::start();
        let (method, upgrade, spare) =
            (request.method().clone(), hop.upgrade.as_ref(), request.headers_mut());
        let forwarded = self.backend.forward(head.end(), &method, upload, caller, upgrade, spare).await;
        waited.set(watch.elapsed());
        let mut response = forwarded?;

        let seen = Seen::of(response.headers());
        let now = self.clock.now();
        let server_error = response.status().is_server_error();
        let told = match self.take(rules, &mut response, seen, &session, &nonce, now)? {
            Some(changes) => match rules.manager.commit(session, changes, server_error, now).await {
                Ok(told) => told,
                Err(why) => rules.pass(rules.failed(why), server_error).map(|()| Told::refused())?,
            },
            None => Told::refused(),
        };
        rules.tell(response.headers_mut(), &told, tls, now);
        match tunnel.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
            Some(asked) => self.join(caller, asked, &mut response, seen),
            None => rules.part(&mut response, seen),
        }
        Ok(response)
    }

    /// Takes the directives, and everything else that the client must not see, out of the response's head.
    ///
    /// `None` where they are refused and the response is let through as it is, with no word on its session.
    fn take(
        &self,
        rules: &Rules,
        response: &mut Response<Body>,
        seen: Seen,
        session: &Session,
        nonce: &Nonce,
        now: Timestamp,
    ) -> Result<Option<Changes>, Error> {
        let server_error = response.status().is_server_error();
        let dropped = if seen.has(Sort::SetCookie) { rules.jar.guard(response.headers_mut()) } else { 0 };
        if dropped > 0 {
            self.metrics.cookies_dropped.inc_by(dropped as u64);
            warn!(dropped, "the backend set a cookie that would be read as the session's: it was dropped");
        }
        if matches!(session.mode(), Mode::Off | Mode::Read) {
            let stripped = rules.injector.guard().strip_response(response.headers_mut());
            self.metrics.stripped(Side::Backend, stripped as u64);
            return Ok(Some(Changes::default()));
        }
        let taken = rules.reader.take(response.headers_mut(), nonce.as_bytes(), now);
        self.metrics.stripped(Side::Backend, taken.stripped as u64);
        match taken.changes {
            Ok(changes) => {
                let discarded = if server_error { changes.asked() - changes.endings().asked() } else { 0 };
                (0..discarded).for_each(|_| self.metrics.refused(Reason::ServerError.label()));
                Ok(Some(changes))
            }
            Err(refusal) => {
                self.metrics.refused(refusal.reason.label());
                rules.pass(rules.failed(Denied::Refused(refusal).into()), server_error)?;
                // That the backend has failed is a row of the table.
                Ok(server_error.then(Changes::default))
            }
        }
    }
}

impl Rules {
    fn inject(
        &self,
        head: &mut Lines,
        session: &Session,
        nonce: &Nonce,
        asked: (&str, &str),
        now: Timestamp,
    ) -> Result<(), Error> {
        if session.is_off() {
            return Ok(());
        }
        let view = match session.reads() {
            _ if session.is_unknown() => View::Unavailable,
            Some(live) => View::Active(live),
            None => View::Empty,
        };
        let said = Said { view, nonce: nonce.as_bytes(), method: asked.0, target: asked.1 };
        self.injector.inject(head, &said, now).map_err(|large| {
            let detail = format!("{} bytes; headers.budget is {}", large.takes, large.budget);
            Error::new(Kind::SessionTooLarge).saying(detail)
        })
    }

    /// Lets a response pass whose directives are refused: where the backend failed anyway, or the settings are lenient.
    fn pass(&self, error: Error, server_error: bool) -> Result<(), Error> {
        let refused = matches!(error.kind, Kind::DirectiveRefused(_));
        if !refused || !(server_error || self.on_refused == OnRefused::Ignore) {
            return Err(error);
        }
        warn!("nothing was applied: {error}");
        Ok(())
    }

    fn failed(&self, why: Failed) -> Error {
        match why {
            Failed::Denied(Denied::Refused(refusal)) => {
                let detail = format!("{}{refusal}", self.prefix);
                Error::new(Kind::DirectiveRefused(refusal)).saying(detail)
            }
            Failed::Denied(Denied::Conflict) => Error::new(Kind::VersionConflict),
            Failed::Denied(Denied::Gone) => Error::new(Kind::SessionGone),
            Failed::Denied(Denied::Unavailable) => Error::new(Kind::StoreUnavailable),
            Failed::Store(problem) if problem.kind == store::Kind::OutcomeUnknown => {
                Error::new(Kind::OutcomeUnknown).because(problem)
            }
            Failed::Store(problem) => Error::new(Kind::StoreUnavailable).because(problem),
        }
    }

    /// Tells the client what became of its session.
    fn tell(&self, headers: &mut HeaderMap, told: &Told, tls: bool, now: Timestamp) {
        let jar = &self.jar;
        let Some(row) = told.row else { return };
        let cookie = match &told.cookie {
            Tell::Leave => None,
            Tell::Set(token, lifetime) => Some(jar.set(token, *lifetime, told.chunks, tls, now)),
            Tell::Remove => Some(jar.remove(told.chunks, tls)),
        };
        let stale = jar.remove_previous(&told.stale, told.chunks, tls);
        let mut private = false;
        for line in cookie.into_iter().flatten().chain(stale) {
            headers.append(SET_COOKIE, line);
            private = true;
        }
        if private {
            caching::keep_private(headers);
        }
        if self.vary {
            caching::vary(headers);
        }
        if self.explain {
            headers.insert(X_COATROOM_DECISION, HeaderValue::from_static(row.name()));
        }
    }
}
