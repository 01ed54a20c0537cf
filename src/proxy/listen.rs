//! Connections with clients: one listener, one runtime and one pool of backend connections a worker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::finish::Begun;
use super::ids::Ids;
use super::muted::{Muted, Turns};
use super::nonce::Nonces;
use super::patience::Patient;
use super::timer::Wheel;
use super::upgrade::Tunnels;
use super::visit::{Served, Visitor};
use super::{Address, Backend, Proxy, Rules};
use crate::drain::{Drain, Guard};
use crate::telemetry::logging::Limited;
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// Connections that the kernel keeps for a listener until it accepts them.
const BACKLOG: i32 = 4096;
/// How long a listener rests that can't accept, for want of file descriptors say.
const REST: Duration = Duration::from_millis(50);
/// How often idle backend connections are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What a worker is made of.
#[derive(Clone)]
pub struct Parts {
    /// What is in force.
    pub rules: Arc<ArcSwap<Rules>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the backend is.
    pub backend: Address,
    /// The tunnels that are open.
    pub tunnels: Arc<Tunnels>,
    /// The wall clock.
    pub clock: Clock,
    /// Tells when to stop.
    pub drain: Drain,
    /// Held for as long as connections are accepted.
    pub guard: Guard,
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
    let proxy = Arc::new(Proxy {
        rules: parts.rules,
        backend: Backend::new(parts.backend, wheel.clone(), parts.metrics.clone()),
        tunnels: parts.tunnels,
        nonces: Nonces::default(),
        metrics: parts.metrics.clone(),
        clock: parts.clock,
        drain: parts.drain.clone(),
    });
    let housekeeper = proxy.clone();
    let keeping = tokio::spawn(async move {
        let mut rounds = tokio::time::interval(HOUSEKEEPING);
        loop {
            rounds.tick().await;
            housekeeper.backend.close_idle(housekeeper.rules.load().terms.idle_timeout);
        }
    });
    let mut http = Builder::new();
    http.timer(wheel.clone());
    let worker = Worker { proxy, wheel, http, metrics: parts.metrics, ids: Arc::new(Ids::default()) };
    worker.accept(listener, &parts.drain).await;
    drop(parts.guard);
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
    ids: Arc<Ids>,
}

impl Worker {
    /// Accepts connections until it is time to close the listener, which is gone then.
    async fn accept(&self, listener: TcpListener, drain: &Drain) {
        let limited = Limited::new();
        while let Some(accepted) = drain.closing.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => self.welcome(stream, peer, drain),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(suppressed) = limited.allow() {
                        warn!(suppressed, "can't accept connections: {error}");
                    }
                    tokio::time::sleep(REST).await;
                }
            }
        }
        if let Err(error) = self.empty(listener, drain) {
            warn!("connections that were waiting are lost: {error}");
        }
    }

    /// Closing a listener resets what is queued in it: whoever is in the queue is served.
    fn empty(&self, listener: TcpListener, drain: &Drain) -> io::Result<()> {
        // Not tokio's `accept`, which believes that there is nobody until it is told otherwise.
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    self.welcome(TcpStream::from_std(stream)?, peer, drain);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr, drain: &Drain) {
        if let Err(error) = SockRef::from(&stream).set_tcp_nodelay(true) {
            debug!("a client hung up at once: {error}");
            return;
        }
        let visitor = Visitor {
            proxy: self.proxy.clone(),
            alarm: self.wheel.alarm(),
            metrics: self.metrics.clone(),
            ids: self.ids.clone(),
            guard: drain.guard(),
            peer: Arc::new(peer.into()),
            called: Arc::default(),
            begun: Begun::default(),
            turns: Turns::default(),
        };
        let patience = self.proxy.rules.load().client_timeout;
        let mut http = self.http.clone();
        http.header_read_timeout(patience);
        let socket = Patient::new(TokioIo::new(stream), self.wheel.alarm(), patience);
        let (stuck, socket) = (socket.alarm(), Muted::new(socket, visitor.turns.clone()));
        tokio::spawn(Served::new(&http, socket, stuck, visitor, drain.signal()).serve());
    }
}
