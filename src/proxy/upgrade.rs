//! Tunnels: after the backend's 101, bytes pass in both directions, and nobody looks at them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::backend::Connection;
use super::error::{Error, Kind};
use super::timer::{Alarm, Elapsed};
use crate::drain::Guard;
use crate::telemetry::metrics::{Metrics, Tunnel};

/// The tunnels of all workers.
#[derive(Default)]
pub struct Tunnels {
    /// Those that are open, and those that a backend is being asked for.
    taken: AtomicUsize,
}

/// A place among them for as long as it is held.
pub struct Place(Arc<Tunnels>);

impl Tunnels {
    /// Takes a place for one more, before the backend is asked: what it agrees to can be kept then.
    ///
    /// # Errors
    /// [`Kind::TooManyTunnels`] where `most` (`proxy.max_tunnels`) are taken.
    pub fn place(self: &Arc<Self>, most: usize) -> Result<Place, Error> {
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        match self.taken.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(Place(self.clone())),
            Err(_) => Err(Error::new(Kind::TooManyTunnels).because(format!("proxy.max_tunnels is {most}"))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

/// A client's end of a tunnel that the backend may agree to.
pub struct Asked {
    /// Its connection, once it has changed its protocol.
    pub client: OnUpgrade,
    /// Its place.
    pub place: Place,
}

/// What ends a tunnel that doesn't end by itself.
pub struct Limits {
    /// Rings after `idle`.
    pub alarm: Alarm,
    /// `proxy.tunnel_idle_timeout`.
    pub idle: Duration,
    /// The end of the drain.
    pub stop: CancellationToken,
}

/// Joins both sides once each has changed its protocol. Ends when either does, when no byte has passed either way for
/// as long as `limits` say, or with the drain.
pub fn tunnel(asked: Asked, mut backend: Connection, metrics: &Arc<Metrics>, guard: Guard, limits: Limits) {
    let (raised, metrics) = (metrics.tunnel(), metrics.clone());
    let Asked { client, place } = asked;
    let Limits { alarm, idle, stop } = limits;
    tokio::spawn(async move {
        let joined = async {
            let client = client.await.map_err(io::Error::other)?;
            let mut client = Watched { inner: TokioIo::new(client), alarm: alarm.clone(), idle };
            copy_bidirectional(&mut client, &mut backend).await
        };
        let end = match stop.run_until_cancelled(alarm.limit(idle, joined)).await {
            Some(Ok(Ok(_))) => Tunnel::Closed,
            Some(Ok(Err(error))) => {
                debug!("a tunnel broke: {error}");
                Tunnel::Broken
            }
            Some(Err(Elapsed)) => Tunnel::Idle,
            None => Tunnel::Cut,
        };
        metrics.tunnel_was(end);
        drop((raised, place, guard));
    });
}

/// The client's end, which moves the alarm with every byte: those of both directions pass it.
struct Watched {
    inner: TokioIo<Upgraded>,
    alarm: Alarm,
    idle: Duration,
}

impl Watched {
    fn note(&self, bytes: usize) {
        if bytes > 0 {
            self.alarm.set(self.idle);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        self.note(buffer.filled().len() - before);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.note(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_holder_is_gone() {
        let tunnels = Arc::new(Tunnels::default());
        let first = tunnels.place(2).unwrap();
        let second = tunnels.place(2).unwrap();
        assert_eq!(tunnels.place(2).err().unwrap().kind, Kind::TooManyTunnels);
        let third = tunnels.place(3).unwrap();
        drop((first, second));
        assert!(tunnels.place(1).is_err(), "a lower limit takes nobody's place away, and gives none");
        drop(third);
        assert!(tunnels.place(1).is_ok());
    }
}
