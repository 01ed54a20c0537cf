//! Bodies stream through, never collected; only their trailers are looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::backend::Lease;
use super::muted::Turn;
use super::timer::Alarm;
use crate::telemetry::metrics::{Metrics, Side};
use crate::wire::names::Guard;

/// What trailers must get past.
#[derive(Clone)]
pub struct Customs {
    /// The names that may not pass.
    pub guard: Arc<Guard>,
    /// Counts what did not pass.
    pub metrics: Arc<Metrics>,
}

impl Customs {
    fn inspect(&self, frame: Frame<Bytes>, side: Side) -> Frame<Bytes> {
        match frame.into_trailers() {
            Ok(mut trailers) => {
                self.metrics.stripped(side, self.guard.strip_trailers(&mut trailers) as u64);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }
}

/// A request's body on its way to the backend.
pub struct Upload {
    inner: Incoming,
    customs: Customs,
    progress: Arc<Progress>,
}

/// How a request's body fares, for the one who waits for the response.
pub struct Progress {
    alarm: Alarm,
    /// What the backend may take, counted from the last piece of the body.
    patience: Duration,
    broken: AtomicBool,
    waiting: AtomicBool,
}

impl Progress {
    /// A body that each piece of moves `alarm` to `patience` from then.
    pub fn new(alarm: Alarm, patience: Duration) -> Arc<Self> {
        Arc::new(Self { alarm, patience, broken: AtomicBool::new(false), waiting: AtomicBool::new(false) })
    }

    /// Is the client's next piece waited for, by a backend that would take it?
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Did the client break it off?
    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }
}

impl Upload {
    /// Lets a request's body pass.
    pub const fn new(inner: Incoming, customs: Customs, progress: Arc<Progress>) -> Self {
        Self { inner, customs, progress }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.progress.waiting.store(polled.is_pending(), Relaxed);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Err(_))) => self.progress.broken.store(true, Relaxed),
            Poll::Ready(_) => self.progress.alarm.set(self.progress.patience),
        }
        polled.map_ok(|frame| self.customs.inspect(frame, Side::Client))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body on its way to the client.
pub struct Body {
    source: Source,
    /// Its request is answered when hyper has done with this.
    _turn: Option<Turn>,
}

enum Source {
    /// Made by us, in one piece.
    Made(Option<Bytes>),
    Backend {
        inner: Incoming,
        customs: Customs,
        lease: Option<Lease>,
    },
}

impl Body {
    /// A body of our own.
    pub const fn made(bytes: Bytes) -> Self {
        Self::of(Source::Made(Some(bytes)))
    }

    /// No body.
    pub const fn empty() -> Self {
        Self::of(Source::Made(None))
    }

    /// The backend's body. At its end the backend's connection is free for the next request; if it is dropped
    /// before its end so is the connection.
    pub fn streamed(inner: Incoming, customs: Customs, lease: Lease) -> Self {
        let lease = if inner.is_end_stream() {
            lease.give_back();
            None
        } else {
            Some(lease)
        };
        Self::of(Source::Backend { inner, customs, lease })
    }

    const fn of(source: Source) -> Self {
        Self { source, _turn: None }
    }

    /// The same; when hyper has done with it its request is answered.
    pub fn ending(self, turn: Turn) -> Self {
        Self { _turn: Some(turn), ..self }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.source {
            Source::Made(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Backend { inner, customs, lease } => {
                let polled = Pin::new(&mut *inner).poll_frame(cx);
                let ended = match &polled {
                    Poll::Ready(None) => true,
                    // Nobody asks for what comes after trailers.
                    Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || inner.is_end_stream(),
                    Poll::Ready(Some(Err(_))) | Poll::Pending => false,
                };
                if ended && let Some(lease) = lease.take() {
                    lease.give_back();
                }
                polled.map_ok(|frame| customs.inspect(frame, Side::Backend))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Made(bytes) => bytes.is_none(),
            Source::Backend { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Made(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Backend { inner, .. } => inner.size_hint(),
        }
    }
}
