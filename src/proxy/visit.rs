//! One client's connection: its requests, their accounts, its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1::{Parts, UpgradeableConnection};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::{debug, error, info, warn};

use super::body::Body;
use super::crowd::Guest;
use super::error::{Error, Kind, Side};
use super::finish::Finish;
use super::limits::Limits;
use super::linger::linger;
use super::muted::{Muted, Stage, Turn};
use super::over::{Over, part};
use super::patience::{Patience, Patient};
use super::timer::Alarm;
use super::{Caller, Client, Rules, Waited, head, page, reply};
use crate::drain::Signal;
use crate::telemetry::metrics::Raised;
use crate::time::Stopwatch;
use crate::wire::seen::{Seen, Sort};

/// What a connection that has brought no request yet may take to bring one when all are asked to close.
pub const LAST_CALL: Duration = Duration::from_millis(300);

/// A client's end of a connection.
pub(super) type Socket = Muted<Patient<TokioIo<TcpStream>>>;

/// A client's connection, which finishes its request and closes when told to.
pub struct Served {
    connection: UpgradeableConnection<Socket, Visitor>,
    /// Has it room for as many headers as a head may have?
    roomy: bool,
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
        limits: &Limits,
        socket: Socket,
        stuck: Alarm,
        patience: Patience,
        visitor: Visitor,
        guest: Arc<Guest>,
        signal: Signal,
    ) -> Self {
        let client = visitor.0.clone();
        let raised = client.proxy.metrics.connection();
        let connection = head::reader(limits).serve_connection(socket, visitor).with_upgrades();
        Self {
            connection,
            roomy: false,
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
    #[allow(clippy::manual_async_fn, reason = "an async fn has room for all that it is given twice")]
    pub fn serve(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let (parts, ended) = loop {
                let ended = (&mut self).await;
                // It may be a tunnel now.
                let Some(parts) = self.connection.into_parts() else { return };
                if self.roomy || !is_cramped(&ended, &parts) {
                    break (parts, ended);
                }
                self.connection = anew(parts, &self.closing);
                self.roomy = true;
            };
            if let Some((stream, held)) = part(parts, ended, self.stage, self.raised) {
                // In a box, for every connection would have room for it.
                Box::pin(linger(stream)).await;
                drop(held);
            }
        }
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

/// Was a head not understood that has more headers than is usual, and no more than it may have?
fn is_cramped(ended: &Result<(), Over>, parts: &Parts<Socket, Visitor>) -> bool {
    let too_large = parts.io.said() == Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    matches!(ended, Err(Over::Broke(_)))
        && too_large
        && head::may_have_more(&parts.read_buf, &parts.service.0.proxy.rules.load().limits)
}

/// The same connection with room for as many headers as there may be, from the head that was not understood on.
fn anew(parts: Parts<Socket, Visitor>, closing: &Closing) -> UpgradeableConnection<Socket, Visitor> {
    let reader = head::patient_reader(&parts.service.0.proxy.rules.load().limits);
    let socket = parts.io.again(parts.read_buf);
    let mut connection = reader.serve_connection(socket, parts.service).with_upgrades();
    if let Closing::Asked = closing {
        Pin::new(&mut connection).graceful_shutdown();
    }
    connection
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
    type Future = Finish<Answered>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let client = &self.0;
        client.called.store(true, Relaxed);
        // Its head was in time.
        client.alarm.stop();
        let rules = client.proxy.rules.load_full();
        let seen = Seen::of(request.headers());
        let id = self.id(&rules, &request, seen);
        let exchange = Exchange {
            caller: Caller { rules, client: client.clone(), id },
            seen,
            fault: client.turns.fault(&request, seen),
            turn: client.turns.take(),
        };
        Finish::new(exchange.run(request), client.begun.anew())
    }
}

impl Visitor {
    /// The request's ID: a trusted peer's where it sent one that can be an ID, else ours.
    fn id(&self, rules: &Rules, request: &Request<Incoming>, seen: Seen) -> HeaderValue {
        let heeded = seen.has(Sort::RequestId) && rules.origin.trusts(self.0.peer.address.ip());
        let theirs = if heeded { request.headers().get(reply::X_REQUEST_ID) } else { None };
        let fits = |id: &&HeaderValue| {
            (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        theirs.filter(fits).cloned().unwrap_or_else(|| self.0.ids.next())
    }
}

/// Logs an error under the ID that its response has: the client's own only for those who look for it, an ill store's
/// and ours, which come with each request, at most once a second.
pub(super) fn note(error: &Error, id: &HeaderValue, rules: &Rules) {
    let (status, problem, _) = error.problem();
    let (id, status) = (id.to_str().unwrap_or_default(), status.as_u16());
    match error.side {
        Side::Client => debug!(id, status, problem, "{error}"),
        Side::Backend => warn!(id, status, problem, "{error}"),
        Side::Sidecar => match rules.limited.allow() {
            Some(suppressed) => warn!(id, status, problem, suppressed, "{error}"),
            None => debug!(id, status, problem, "{error}"),
        },
        Side::Store => {
            let kind = error.store().map(|problem| problem.kind.label());
            match rules.manager.may_tell() {
                Some(suppressed) => error!(id, status, problem, kind, suppressed, "{error}"),
                None => debug!(id, status, problem, kind, "{error}"),
            }
        }
    }
}

/// What hyper is given for a request.
type Answered = Result<Response<Body>, std::convert::Infallible>;

/// One request on its way, with its accounts.
struct Exchange {
    caller: Caller,
    /// What its head has.
    seen: Seen,
    /// Why its head is ambiguous.
    fault: Option<&'static str>,
    turn: Turn,
}

impl Exchange {
    /// Not an async fn, which has room for all that it is given twice.
    fn run(self, request: Request<Incoming>) -> impl Future<Output = Answered> + Send {
        let (parts, body) = request.into_parts();
        let mut request = Request::from_parts(parts, ());
        async move {
            let proxy = &self.caller.client.proxy;
            let metrics = &proxy.metrics;
            let (watch, waited, in_flight) = (Stopwatch::start(), Waited::default(), metrics.in_flight());
            let version = request.version();
            let path = self.caller.rules.access.then(|| request.uri().path().to_owned());
            let html = self.caller.rules.page.is_some() && page::is_wanted(request.headers());
            let result = match self.fault {
                Some(fault) => Err(Error::new(Kind::BadRequest).saying(fault)),
                None if in_flight.height() > self.caller.rules.limits.requests => {
                    Err(Error::new(Kind::Overloaded))
                }
                None => proxy.exchange(&mut request, self.seen, body, &self.caller, &waited).await,
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
            metrics.answered(request.method(), response.status(), took, waited.get());
            if let Some(path) = path {
                self.log(request.method(), &path, &response, took, &waited);
            }
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                self.turn.never_ends();
                return Ok(response);
            }
            Ok(response.map(|body| body.ending(self.turn, in_flight)))
        }
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
