//! One connection to the backend, and what has come over it that nobody has taken yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::stream::{self, Stream};
use crate::proxy::room::Seat;
use crate::telemetry::metrics::Raised;

/// Bytes asked for at a time where a head or little is awaited.
const LITTLE: usize = 8 << 10;
/// Bytes asked for at a time where much is awaited. A client that takes nothing of a long response has two or three such
/// pieces kept for it: with 64 KiB, which are no cheaper to pass on, thousands of them hold up everybody else.
const MUCH: usize = 48 << 10;

/// A connection; it is used by one exchange at a time, in that exchange's own task. It is handed on in a box, several
/// times a request.
pub struct Connection {
    pub(super) stream: Stream,
    /// What has come.
    pub(super) inbox: BytesMut,
    /// When it came about, by its pool's clock.
    pub(super) born: u64,
    /// Free for another one when this one is gone, and the count of those that are open.
    _place: (Seat, Raised),
}

impl Connection {
    /// A connection that nothing has come over yet.
    pub fn new(stream: Stream, born: u64, place: (Seat, Raised)) -> Self {
        Self { stream, inbox: BytesMut::new(), born, _place: place }
    }

    /// May the next request go over it? Whatever comes between two exchanges is nobody's answer, and the connection
    /// goes with it.
    pub fn is_quiet(&self) -> bool {
        self.inbox.is_empty() && stream::is_quiet(&self.stream)
    }

    /// Waits until more has come; zero bytes are the end. `awaited` is what is left of a body, in bytes.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, awaited: u64) -> Poll<io::Result<usize>> {
        let room = if awaited > LITTLE as u64 { MUCH } else { LITTLE };
        if self.inbox.capacity() - self.inbox.len() < room / 4 {
            self.inbox.reserve(room);
        }
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbox)
    }
}

/// As a tunnel, what has come already goes first.
impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.inbox.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.inbox.len().min(buffer.remaining());
        buffer.put_slice(&self.inbox[..length]);
        self.inbox.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
