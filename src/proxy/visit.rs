//! One client's connection: its requests, their accounts, its end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, Parts, UpgradeableConnection};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::{debug, error, info, warn};

use super::body::Body;
use super::crowd::Guest;
use super::error::{Error, Kind, Side};
use super::finish::Finish;
use super::linger::linger;
use super::muted::{Muted, Stage, Turn};
use super::patience::{Patience, Patient};
use super::timer::Alarm;
use super::{Caller, Client, Rules, Waited, head, page, reply};
use crate::drain::Signal;
use crate::telemetry::metrics::{Limit, Raised};
use crate::time::Stopwatch;

/// What a connection that has brought no request yet may take to bring one when all are asked to close.
const LAST_CALL: Duration = Duration::from_millis(300);

/// A client's end of a connection.
type Socket = Muted<Patient<TokioIo<TcpStream>>>;

/// A client's connection, which finishes its request and closes when told to.
pub struct Served {
    connection: UpgradeableConnection<Socket, Visitor>,
    /// Rings when the client takes nothing of what is sent to it.
    stuck: Alarm,
    /// Whose turn it was when that was last looked at.
    stage: Stage,
    patience: Patience,
    /// It among the others, who may be in need of its place.
    guest: Arc<Guest>,
    closing: Closing,
    client: Arc<Client>,
    raised: Raised,
}

/// Why a connection ended, other than in good order.
pub enum Over {
    /// hyper says why.
    Broke(hyper::Error),
    /// The client took nothing of its response, or next to nothing.
    Stuck,
    /// The client sent nothing, or next to nothing.
    Late,
}

/// How far a connection is on its way to its end.
enum Closing {
    /// Nobody has asked it to close.
    Open(Signal),
    /// Its first request may still be under way.
    LastCall(Pin<Box<tokio::time::Sleep>>),
    /// It takes no further request.
    Asked,
}

impl Served {
    /// Serves `visitor` over `socket` until `signal` comes, or an alarm rings.
    pub fn new(
        http: &Builder,
        socket: Socket,
        stuck: Alarm,
        patience: Patience,
        visitor: Visitor,
        guest: Arc<Guest>,
        signal: Signal,
    ) -> Self {
        let client = visitor.0.clone();
        let raised = client.proxy.metrics.connection();
        let connection = http.serve_connection(socket, visitor).with_upgrades();
        Self {
            connection,
            stuck,
            // What nobody has looked at yet is another stage than that of a new connection.
            stage: Stage::Busy,
            patience,
            guest,
            closing: Closing::Open(signal),
            client,
            raised,
        }
    }

    /// Serves it to its end.
    pub async fn serve(mut self) {
        let ended = (&mut self).await;
        if let Some((stream, held)) = self.part(ended) {
            linger(stream).await;
            drop(held);
        }
    }

    /// Says what is still to be said. Where the client may be sending still it is to read that, or the response that it
    /// got: its socket is returned, and what is held for as long as there is one.
    fn part(self, ended: Result<(), Over>) -> Option<(TcpStream, impl Sized)> {
        let parts = self.connection.into_parts()?;
        let apology = match ended {
            Ok(()) if self.client.turns.owe() => None,
            Ok(()) => return None,
            Err(over) => Some(apology(&over, self.stage, &parts)?),
        };
        let (socket, seat) = parts.io.into_inner().into_parts();
        let stream = socket.into_inner();
        if let Some(text) = apology {
            // Whoever has not read a first answer gets no time for it.
            stream.try_write(text.as_bytes()).ok()?;
        }
        Some((stream, (seat, self.raised, parts.service)))
    }

    /// Sets the alarm for whoever's turn it is now. While a request is under way that is the exchange's affair.
    fn take_turns(&mut self) {
        let late = &self.client.alarm;
        let stage = self.client.turns.stage();
        // The last bytes of a response are the client's to take before it is its turn to speak.
        if stage != Stage::Busy && self.stuck.is_set() {
            late.stop();
            self.guest.is_busy();
            self.stage = Stage::Busy;
        } else if stage != self.stage {
            match stage {
                Stage::Busy => self.guest.is_busy(),
                Stage::Quiet(requests) => {
                    late.set(self.patience.idle);
                    self.guest.is_idle(if requests == 0 { LAST_CALL } else { Duration::ZERO });
                }
                Stage::Heard(_) => {
                    late.set(self.patience.header);
                    self.guest.is_busy();
                }
            }
            self.stage = stage;
        }
    }

    /// Is the connection to be closed now?
    ///
    /// Whoever has come a moment ago and has not been heard yet is given [`LAST_CALL`]: a client tries again when a
    /// connection closes that it had used before, but not when its first request gets no answer. Who is asked to go for
    /// another client's sake has had that time, and goes only while nothing has come of a next request.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Closing::Open(signal) = &mut self.closing
            && signal.poll(cx).is_ready()
        {
            self.closing = Closing::LastCall(Box::pin(tokio::time::sleep(LAST_CALL)));
        }
        match &mut self.closing {
            Closing::LastCall(over) => self.client.called.load(Relaxed) || over.as_mut().poll(cx).is_ready(),
            Closing::Open(_) => matches!(self.stage, Stage::Quiet(_)) && self.guest.is_asked(),
            Closing::Asked => false,
        }
    }
}

/// What a client is told whose head is not waited for any longer, or is none; nothing where it had its answer, or is gone.
fn apology(over: &Over, stage: Stage, parts: &Parts<Socket, Visitor>) -> Option<String> {
    let Client { proxy, ids, .. } = &*parts.service.0;
    let (rules, metrics) = (proxy.rules.load(), &proxy.metrics);
    let (limit, error) = match (over, parts.io.said()) {
        (Over::Broke(_), Some(StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)) => {
            let (error, limit) = head::excess(&parts.read_buf, &rules.limits);
            (Some(limit), Some(error))
        }
        // hyper says what it could not parse, and nothing of what stands there.
        (Over::Broke(why), Some(_)) => (None, Some(Error::new(Kind::BadRequest).saying(why.to_string()))),
        (Over::Broke(_), None) => (None, None),
        (Over::Stuck, _) => (Some(Limit::BodyTimeout), None),
        (Over::Late, _) if stage == Stage::Busy => (Some(Limit::BodyTimeout), None),
        (Over::Late, _) if parts.read_buf.is_empty() => (Some(Limit::IdleTimeout), None),
        (Over::Late, _) => (Some(Limit::HeaderTimeout), Some(Error::new(Kind::Timeout))),
    };
    limit.into_iter().for_each(|limit| metrics.limit(limit));
    let Some(error) = error else {
        debug!("a connection with a client ended: {over}");
        return None;
    };
    let (id, now) = (ids.next(), proxy.clock.now());
    note(&error, &id, &rules);
    Some(reply::text(&error, &id, now))
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broke(error) => write!(f, "{error}"),
            Self::Stuck => f.write_str("it took too little of its response"),
            Self::Late => f.write_str("it sent too little"),
        }
    }
}

impl Future for Served {
    type Output = Result<(), Over>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        // What has arrived is heard before the door is closed.
        let polled = Pin::new(&mut self.connection).poll(cx).map_err(Over::Broke);
        if polled.is_ready() {
            return polled;
        }
        self.take_turns();
        if self.stuck.is_set() && self.stuck.poll(cx).is_ready() {
            return Poll::Ready(Err(Over::Stuck));
        }
        // Also where it is not set: the body of a request sets it without this being looked at.
        if self.client.alarm.poll(cx).is_ready() {
            return Poll::Ready(Err(Over::Late));
        }
        if !self.is_over(cx) {
            return polled;
        }
        self.closing = Closing::Asked;
        Pin::new(&mut self.connection).graceful_shutdown();
        Pin::new(&mut self.connection).poll(cx).map_err(Over::Broke)
    }
}

/// A client, as the service that hyper calls.
pub struct Visitor(pub Arc<Client>);

impl Service<Request<Incoming>> for Visitor {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Finish<Result<Response<Body>, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let client = &self.0;
        client.called.store(true, Relaxed);
        // Its head was in time.
        client.alarm.stop();
        let rules = client.proxy.rules.load_full();
        let id = self.id(&rules, &request);
        let exchange = Exchange {
            caller: Caller { rules, client: client.clone(), id },
            fault: client.turns.fault(&request),
            turn: client.turns.take(),
        };
        Finish::new(exchange.run(request), client.begun.anew())
    }
}

impl Visitor {
    /// The request's ID: a trusted peer's where it sent one that can be an ID, else ours.
    fn id(&self, rules: &Rules, request: &Request<Incoming>) -> HeaderValue {
        let theirs = request
            .headers()
            .get(reply::X_REQUEST_ID)
            .filter(|_| rules.origin.trusts(self.0.peer.address.ip()));
        let fits = |id: &&HeaderValue| {
            (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        theirs.filter(fits).cloned().unwrap_or_else(|| self.0.ids.next())
    }
}

/// Logs an error under the ID that its response has: the client's own only for those who look for it, an ill store's
/// at most once a second.
fn note(error: &Error, id: &HeaderValue, rules: &Rules) {
    let (status, problem, _) = error.problem();
    let (id, status) = (id.to_str().unwrap_or_default(), status.as_u16());
    match error.side {
        Side::Client => debug!(id, status, problem, "{error}"),
        Side::Backend | Side::Sidecar => warn!(id, status, problem, "{error}"),
        Side::Store => {
            let kind = error.store().map(|problem| problem.kind.label());
            match rules.manager.may_tell() {
                Some(suppressed) => error!(id, status, problem, kind, suppressed, "{error}"),
                None => debug!(id, status, problem, kind, "{error}"),
            }
        }
    }
}

/// One request on its way, with its accounts.
struct Exchange {
    caller: Caller,
    /// Why its head is ambiguous.
    fault: Option<&'static str>,
    turn: Turn,
}

impl Exchange {
    async fn run(self, request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
        let proxy = &self.caller.client.proxy;
        let metrics = &proxy.metrics;
        let (watch, waited, in_flight) = (Stopwatch::start(), Waited::default(), metrics.in_flight());
        let (parts, body) = request.into_parts();
        let mut request = Request::from_parts(parts, ());
        let (method, version) = (request.method().clone(), request.version());
        let path = self.caller.rules.access.then(|| request.uri().path().to_owned());
        let html = self.caller.rules.page.is_some() && page::is_wanted(request.headers());
        let result = match self.fault {
            Some(fault) => Err(Error::new(Kind::BadRequest).saying(fault)),
            None if in_flight.height() > self.caller.rules.limits.requests => {
                Err(Error::new(Kind::Overloaded))
            }
            None => proxy.exchange(&mut request, body, &self.caller, &waited).await,
        };
        if let Some(limit) = result.as_ref().err().and_then(Error::limit) {
            metrics.limit(limit);
        }
        let mut response = result.unwrap_or_else(|error| {
            note(&error, &self.caller.id, &self.caller.rules);
            reply::problem(&error, &self.caller.id, &self.caller.rules, html)
        });
        // A client of HTTP/1.0 is answered in kind, and its connection ends: behind other proxies its keep-alive is
        // not to be relied upon (RFC 9112 §9.3).
        *response.version_mut() = version;
        if proxy.drain.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().append(CONNECTION, HeaderValue::from_static("close"));
        }
        let took = watch.elapsed();
        metrics.answered(&method, response.status(), took, waited.get());
        if let Some(path) = path {
            self.log(&method, &path, &response, took, &waited);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.turn.never_ends();
            return Ok(response);
        }
        Ok(response.map(|body| body.ending(self.turn, in_flight)))
    }

    fn log(&self, method: &Method, path: &str, response: &Response<Body>, took: Duration, waited: &Waited) {
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        info!(
            target: "coatroom::access",
            id = self.caller.id.to_str().unwrap_or_default(),
            peer = %self.caller.client.peer.address.ip(),
            %method,
            path,
            status = response.status().as_u16(),
            micros = micros(took),
            backend_micros = micros(waited.get()),
            "answered"
        );
    }
}
