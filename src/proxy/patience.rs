//! A client's socket that knows when nobody takes what is written to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};

use super::timer::Alarm;

/// Sets an alarm while a write waits for the other end, and stops it as soon as that takes anything.
///
/// A client that reads nothing would otherwise keep its connection, and the backend's behind it, for ever. Whoever
/// reads slowly is not meant: whenever the socket takes more it has the whole time again.
pub struct Patient<T> {
    inner: T,
    alarm: Alarm,
    patience: Duration,
    waits: bool,
}

impl<T> Patient<T> {
    /// Sets `alarm` to `patience` from when a write begins to wait.
    pub const fn new(inner: T, alarm: Alarm, patience: Duration) -> Self {
        Self { inner, alarm, patience, waits: false }
    }

    /// The alarm that it sets.
    pub fn alarm(&self) -> Alarm {
        self.alarm.clone()
    }

    /// The socket.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn note<R>(&mut self, polled: Poll<R>) -> Poll<R> {
        if polled.is_pending() != self.waits {
            self.waits = !self.waits;
            if self.waits { self.alarm.set(self.patience) } else { self.alarm.stop() }
        }
        polled
    }
}

impl<T: Read + Unpin> Read for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: Write + Unpin> Write for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
