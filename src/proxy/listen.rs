//! Connections with clients: one listener, one runtime and one pool of backend connections a worker.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::crowd::Crowd;
use super::descriptors;
use super::finish::Begun;
use super::ids::Ids;
use super::limits::Rooms;
use super::muted::{Muted, Turns};
use super::nonce::Nonces;
use super::patience::Patient;
use super::room::{Room, Seat};
use super::timer::{TICK, Wheel};
use super::visit::{Served, Visitor};
use super::{Address, Backend, Client, Proxy, Rules, keepalive};
use crate::drain::{Drain, Guard};
use crate::telemetry::logging::Limited;
use crate::telemetry::metrics::{Limit, Metrics};
use crate::time::Clock;

/// Connections that the kernel keeps for a listener until it accepts them.
const BACKLOG: i32 = 4096;
/// Bytes that the system keeps at most of a response before it sends them. It tells of room in a buffer, which may have
/// megabytes, when a third of it is free: a client that takes less than that within `proxy.body_timeout` would be taken
/// for one that takes nothing.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;
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
    /// The wall clock.
    pub clock: Clock,
    /// Tells when to stop.
    pub drain: Drain,
    /// Held for as long as connections are accepted.
    pub guard: Guard,
    /// What all workers share.
    pub rooms: Rooms,
    /// How often it is logged that connections can't be accepted.
    pub limited: Arc<Limited>,
}

/// Opens so many listeners that share an address with one another and with nobody else.
///
/// `SO_REUSEPORT` lets every process of the same user join, a second sidecar with the same settings too: each of them
/// would get some of the connections, and nobody would be told. So the first listener is one that shares with nobody,
/// until it listens; whoever comes later finds the address taken, for it begins like that too.
///
/// # Errors
/// As the system says; the message names the address.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let open = || {
        let first = socket(address)?;
        first.bind(&address.into())?;
        first.listen(BACKLOG)?;
        first.set_reuse_port(true)?;
        let first = std::net::TcpListener::from(first);
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..count {
            let other = socket(address)?;
            other.set_reuse_port(true)?;
            other.bind(&address.into())?;
            other.listen(BACKLOG)?;
            listeners.push(other.into());
        }
        Ok(listeners)
    };
    open().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
    })
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // What remains of connections of before is not in the way.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Those that are accepted have what follows from their listener.
    keepalive::ask(&SockRef::from(&socket))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(socket)
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
        backend: Backend::new(
            parts.backend,
            wheel.clone(),
            parts.rooms.backend.clone(),
            parts.metrics.clone(),
            parts.drain.clone(),
        ),
        tunnels: parts.rooms.tunnels.clone(),
        nonces: Nonces::default(),
        metrics: parts.metrics.clone(),
        clock: parts.clock,
        drain: parts.drain.clone(),
    });
    let housekeeper = proxy.clone();
    let mut call = parts.rooms.backend.call();
    let keeping = tokio::spawn(async move {
        let mut rounds = tokio::time::interval(HOUSEKEEPING);
        loop {
            tokio::select! {
                _ = rounds.tick() => {
                    housekeeper.backend.close_idle(&housekeeper.rules.load().terms);
                }
                _ = call.changed() => housekeeper.backend.make_room(),
            }
        }
    });
    let worker = Worker {
        proxy,
        wheel,
        metrics: parts.metrics,
        ids: Arc::new(Ids::default()),
        room: parts.rooms.clients,
        crowd: parts.rooms.crowd,
        limited: parts.limited,
    };
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
    metrics: Arc<Metrics>,
    ids: Arc<Ids>,
    room: Room,
    crowd: Crowd,
    limited: Arc<Limited>,
}

impl Worker {
    /// Accepts connections until it is time to close the listener, which is gone then.
    async fn accept(&self, listener: TcpListener, drain: &Drain) {
        while let Some(accepted) = drain.closing.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    let seat = self.seat(drain).await;
                    self.welcome(stream, peer, seat, drain);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if descriptors::are_gone(&error) {
                        self.metrics.limit(Limit::Descriptors);
                        self.crowd.make_room(self.wheel.now());
                    }
                    if let Some(suppressed) = self.limited.allow() {
                        warn!(suppressed, "can't accept connections: {error}");
                    }
                    drain.closing.run_until_cancelled(tokio::time::sleep(REST)).await;
                }
            }
        }
        if let Err(error) = self.empty(listener, drain) {
            warn!("connections that were waiting are lost: {error}");
        }
    }

    /// A place for one more client, for which the one that is idle for longest goes. While all are in use this listener
    /// accepts nobody else; the first one waits here and not in the queue, for a place that a listener without a client
    /// waited with would be taken from the others.
    ///
    /// None when it is time to close, for whoever has come is served.
    async fn seat(&self, drain: &Drain) -> Option<Seat> {
        let places = self.proxy.rules.load().limits.connections;
        if let Some(seat) = self.room.enter(places) {
            return Some(seat);
        }
        self.metrics.limit(Limit::Connections);
        if let Some(suppressed) = self.limited.allow() {
            warn!(
                suppressed,
                places, "there are proxy.max_connections clients: idle ones go, or the next ones wait"
            );
        }
        let mut seat = pin!(self.room.wait(places));
        let waits = async {
            loop {
                self.crowd.make_room(self.wheel.now());
                // By then another one may be idle.
                if let Ok(seat) = timeout(TICK, &mut seat).await {
                    return seat;
                }
            }
        };
        drain.closing.run_until_cancelled(waits).await
    }

    /// Closing a listener resets what is queued in it: whoever is in the queue is served.
    fn empty(&self, listener: TcpListener, drain: &Drain) -> io::Result<()> {
        // Not tokio's `accept`, which believes that there is nobody until it is told otherwise.
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    let seat = self.room.enter(usize::MAX);
                    self.welcome(TcpStream::from_std(stream)?, peer, seat, drain);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr, seat: Option<Seat>, drain: &Drain) {
        if let Err(error) = SockRef::from(&stream).set_tcp_nodelay(true) {
            debug!("a client hung up at once: {error}");
            return;
        }
        let client = Client {
            proxy: self.proxy.clone(),
            ids: self.ids.clone(),
            peer: peer.into(),
            alarm: self.wheel.alarm(),
            turns: Turns::default(),
            begun: Begun::new(drain.guard()),
            called: AtomicBool::new(false),
            owner: OnceLock::new(),
        };
        let (patience, limits) = {
            let rules = self.proxy.rules.load();
            (rules.patience, rules.limits)
        };
        let socket = Patient::new(TokioIo::new(stream), self.wheel.alarm(), &patience, seat);
        let (stuck, socket) = (socket.alarm(), Muted::new(socket, client.turns.clone()));
        let guest = self.crowd.join(client.alarm.clone());
        let visitor = Visitor(Arc::new(client));
        tokio::spawn(Served::new(&limits, socket, stuck, patience, visitor, guest, drain.signal()).serve());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn an_address_is_shared_with_nobody_else() {
        let listeners = bind(ANY, 4).expect("a free port");
        let address = listeners[0].local_addr().expect("its address");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
        for (address, count) in [(address, 1), (address, 4), (everywhere, 2)] {
            let error = bind(address, count).expect_err("it is taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains(&address.to_string()), "{error}");
        }
        drop(listeners);
        bind(address, 2).expect("it is free again");
    }

    #[test]
    fn a_client_that_vanishes_without_a_word_is_found_out() {
        let listeners = bind(ANY, 2).expect("a free port");
        let address = listeners[0].local_addr().expect("its address");
        let accepted = |listener: &std::net::TcpListener| listener.accept().ok();
        let clients: Vec<_> =
            (0..50).map(|_| TcpStream::connect(address).expect("somebody listens")).collect();
        let found: Vec<_> = listeners.iter().flat_map(|one| std::iter::from_fn(|| accepted(one))).collect();
        assert_eq!(found.len(), clients.len());
        assert!(found.iter().all(|(stream, _)| keepalive::is_asked(&SockRef::from(stream))));
    }

    #[test]
    fn each_listener_gets_some_of_the_connections() {
        let listeners = bind(ANY, 4).expect("a free port");
        let address = listeners[0].local_addr().expect("its address");
        let connect = |_| TcpStream::connect(address).expect("somebody listens");
        let clients: Vec<_> = (0..200).map(connect).collect();
        let accepted =
            |listener: &std::net::TcpListener| std::iter::from_fn(|| listener.accept().ok()).count();
        let shares: Vec<_> = listeners.iter().map(accepted).collect();
        assert!(
            shares.iter().all(|share| *share > 10) && shares.iter().sum::<usize>() == clients.len(),
            "{shares:?}"
        );
    }
}
