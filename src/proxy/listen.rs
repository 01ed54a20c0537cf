//! Connections with clients: one listener, one runtime and one pool of backend connections a worker.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

use super::body::{Body, Customs};
use super::finish::{Begun, Finish};
use super::nonce::Nonces;
use super::timer::{Alarm, Wheel};
use super::{Address, Backend, Caller, Config, Proxy, Rules, Waited, reply};
use crate::drain::{Drain, Guard, Signal};
use crate::manager::Manager;
use crate::telemetry::logging::Limited;
use crate::telemetry::metrics::{Metrics, Raised};
use crate::time::{Clock, Stopwatch};
use crate::wire::forwarded::Peer;

/// Connections that the kernel keeps for a listener until it accepts them.
const BACKLOG: i32 = 4096;
/// How long a listener rests that can't accept, for want of file descriptors say.
const REST: Duration = Duration::from_millis(50);
/// How often idle backend connections are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What a worker is made of.
#[derive(Clone)]
pub struct Parts {
    /// What all workers share.
    pub rules: Arc<Rules>,
    /// Loads and commits sessions.
    pub manager: Arc<Manager>,
    /// What trailers must get past.
    pub customs: Customs,
    /// `[proxy]`.
    pub config: Config,
    /// Where the backend is.
    pub backend: Address,
    /// The wall clock.
    pub clock: Clock,
    /// Tells when to stop.
    pub drain: Drain,
    /// One event a request.
    pub access: bool,
}

/// Opens a listener that shares its address with others of this process.
///
/// # Errors
/// As the system says; the message names the address.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(std::net::TcpListener::from(socket))
    };
    open().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
    })
}

/// Serves a listener until it is drained.
///
/// # Errors
/// If the runtime can't take the listener over.
pub async fn work(listener: std::net::TcpListener, parts: Parts) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let wheel = Wheel::default();
    let turning = wheel.clone();
    let turner = tokio::spawn(async move { turning.turn().await });
    let metrics = parts.customs.metrics.clone();
    let proxy = Arc::new(Proxy {
        rules: parts.rules,
        manager: parts.manager,
        backend: Backend::new(parts.backend, &parts.config, wheel.clone(), parts.customs.clone()),
        nonces: Nonces::default(),
        customs: parts.customs,
        metrics: metrics.clone(),
        clock: parts.clock,
        drain: parts.drain.clone(),
    });
    let housekeeper = proxy.clone();
    let keeping = tokio::spawn(async move {
        let mut rounds = tokio::time::interval(HOUSEKEEPING);
        loop {
            rounds.tick().await;
            housekeeper.backend.close_idle();
        }
    });
    let mut http = Builder::new();
    http.timer(wheel.clone()).header_read_timeout(parts.config.client_timeout.0);
    let worker = Worker { proxy, wheel, http, metrics, access: parts.access, ids: Arc::new(Ids::new()) };
    worker.accept(&listener, &parts.drain).await;
    let cut = parts.drain.cut();
    tokio::select! {
        () = parts.drain.drained() => {}
        () = cut.cancelled() => tokio::time::sleep(REST).await,
    }
    turner.abort();
    keeping.abort();
    Ok(())
}

struct Worker {
    proxy: Arc<Proxy>,
    wheel: Wheel,
    http: Builder,
    metrics: Arc<Metrics>,
    access: bool,
    ids: Arc<Ids>,
}

impl Worker {
    async fn accept(&self, listener: &TcpListener, drain: &Drain) {
        let limited = Limited::new();
        while let Some(accepted) = drain.closing.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => self.welcome(stream, peer, drain),
                Err(error) => {
                    if let Some(suppressed) = limited.allow() {
                        warn!(suppressed, "can't accept connections: {error}");
                    }
                    tokio::time::sleep(REST).await;
                }
            }
        }
        // Closing a listener resets what is queued in it: whoever is in the queue is served.
        while let Poll::Ready(Ok((stream, peer))) =
            listener.poll_accept(&mut Context::from_waker(std::task::Waker::noop()))
        {
            self.welcome(stream, peer, drain);
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr, drain: &Drain) {
        if let Err(error) = SockRef::from(&stream).set_tcp_nodelay(true) {
            debug!("a client hung up at once: {error}");
            return;
        }
        let service = Visitor {
            proxy: self.proxy.clone(),
            alarm: self.wheel.alarm(),
            metrics: self.metrics.clone(),
            access: self.access,
            ids: self.ids.clone(),
            guard: drain.guard(),
            peer: Arc::new(peer.into()),
        };
        let connection = self.http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let served = Served { connection, signal: Some(drain.signal()), _raised: self.metrics.connection() };
        tokio::spawn(async move {
            if let Err(error) = served.await {
                debug!("a connection with a client broke: {error}");
            }
        });
    }
}

/// A client's connection, which finishes its request and closes when told to.
struct Served {
    connection: UpgradeableConnection<TokioIo<TcpStream>, Visitor>,
    signal: Option<Signal>,
    _raised: Raised,
}

impl Future for Served {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if let Some(signal) = self.signal.as_mut()
            && signal.poll(cx).is_ready()
        {
            self.signal = None;
            Pin::new(&mut self.connection).graceful_shutdown();
        }
        Pin::new(&mut self.connection).poll(cx)
    }
}

/// Request IDs: the worker's random beginning and a number.
struct Ids {
    start: u64,
    next: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        let mut bits = [0; 8];
        // IDs only have to differ; the time will do where there is no randomness.
        let start = match aws_lc_rs::rand::fill(&mut bits) {
            Ok(()) => u64::from_ne_bytes(bits),
            Err(_) => Clock::system().now().as_millis().unsigned_abs(),
        };
        Self { start, next: AtomicU64::new(0) }
    }

    fn next(&self) -> HeaderValue {
        let id = format!("{:016x}{:08x}", self.start, self.next.fetch_add(1, Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// One client's connection, as the service that hyper calls.
struct Visitor {
    proxy: Arc<Proxy>,
    alarm: Alarm,
    metrics: Arc<Metrics>,
    access: bool,
    ids: Arc<Ids>,
    guard: Guard,
    peer: Arc<Peer>,
}

impl Service<Request<Incoming>> for Visitor {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let begun = Begun::default();
        let id = self.id(&request);
        let exchange = Exchange {
            proxy: self.proxy.clone(),
            caller: Caller { peer: self.peer.clone(), id, alarm: self.alarm.clone() },
            metrics: self.metrics.clone(),
            access: self.access,
        };
        Box::pin(Finish::new(exchange.run(request, begun.clone()), begun, self.guard.clone()))
    }
}

impl Visitor {
    /// The request's ID: a trusted peer's where it sent one that can be an ID, else ours.
    fn id(&self, request: &Request<Incoming>) -> HeaderValue {
        let theirs = request
            .headers()
            .get(reply::X_REQUEST_ID)
            .filter(|_| self.proxy.rules.origin.trusts(self.peer.address.ip()));
        let fits = |id: &&HeaderValue| {
            (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        theirs.filter(fits).cloned().unwrap_or_else(|| self.ids.next())
    }
}

/// One request on its way, with its accounts.
struct Exchange {
    proxy: Arc<Proxy>,
    caller: Caller,
    metrics: Arc<Metrics>,
    access: bool,
}

impl Exchange {
    async fn run(
        self,
        request: Request<Incoming>,
        begun: Begun,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let (watch, waited, in_flight) = (Stopwatch::start(), Waited::default(), self.metrics.in_flight());
        let method = request.method().clone();
        let path = self.access.then(|| request.uri().path().to_owned());
        let result = self.proxy.exchange(request, &self.caller, &begun, &waited).await;
        let response = result.unwrap_or_else(|error| {
            let id = self.caller.id.to_str().unwrap_or_default();
            let (status, slug, _) = error.problem();
            if error.side == super::error::Side::Client {
                debug!(id, status = status.as_u16(), problem = slug, "{error}");
            } else {
                warn!(id, status = status.as_u16(), problem = slug, "{error}");
            }
            reply::problem(&error, &self.caller.id, self.proxy.rules.vary)
        });
        let took = watch.elapsed();
        self.metrics.answered(&method, response.status(), took, waited.get());
        if let Some(path) = path {
            self.log(&method, &path, &response, took, &waited);
        }
        drop(in_flight);
        Ok(response)
    }

    fn log(&self, method: &Method, path: &str, response: &Response<Body>, took: Duration, waited: &Waited) {
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        info!(
            target: "coatroom::access",
            id = self.caller.id.to_str().unwrap_or_default(),
            peer = %self.caller.peer.address.ip(),
            %method,
            path,
            status = response.status().as_u16(),
            micros = micros(took),
            backend_micros = micros(waited.get()),
            "answered"
        );
    }
}
