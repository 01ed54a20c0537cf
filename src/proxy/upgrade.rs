//! Tunnels: after the backend's 101, bytes pass in both directions, and nobody looks at them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::backend::Connection;
use super::room::Seat;
use super::timer::{Alarm, Elapsed};
use crate::drain::Guard;
use crate::telemetry::metrics::{Metrics, Tunnel};

/// A client's end of a tunnel that the backend may agree to.
pub struct Asked {
    /// Its connection, once it has changed its protocol.
    pub client: OnUpgrade,
    /// Its place among the tunnels.
    pub place: Seat,
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
pub fn tunnel(
    asked: Asked,
    mut backend: Box<Connection>,
    metrics: &Arc<Metrics>,
    guard: Guard,
    limits: Limits,
) {
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
