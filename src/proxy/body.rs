//! Bodies stream through, never collected; only their trailers are looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::backend::{Answer, Connection, Terms};
use super::muted::Turn;
use super::timer::Alarm;
use crate::telemetry::metrics::{Metrics, Side};
use crate::wire::forwarded::announced;
use crate::wire::names::{Guard, remove};

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
    alarm: Alarm,
    /// What the backend may take, counted from the last piece of the body.
    patience: Duration,
    waiting: bool,
    /// The trailers that may follow it: no other was announced.
    announced: Vec<HeaderName>,
}

impl Upload {
    /// Lets a request's body pass, each piece of which moves `alarm`; `None` where there is none.
    pub fn of(inner: Incoming, headers: &HeaderMap, terms: &Terms, alarm: &Alarm) -> Option<Self> {
        (!inner.is_end_stream()).then(|| Self {
            inner,
            customs: terms.customs.clone(),
            alarm: alarm.clone(),
            patience: terms.head_timeout,
            waiting: false,
            announced: announced(headers),
        })
    }

    /// Is the client's next piece waited for, by a backend that would take it?
    pub const fn is_waiting(&self) -> bool {
        self.waiting
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
        self.waiting = polled.is_pending();
        if matches!(&polled, Poll::Ready(None | Some(Ok(_)))) {
            self.alarm.set(self.patience);
        }
        polled.map_ok(|frame| match self.customs.inspect(frame, Side::Client).into_trailers() {
            Ok(mut trailers) => {
                remove(&mut trailers, |name| !self.announced.contains(name));
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })
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
    /// The backend's.
    Backend(Answer, Customs),
    /// None, for the connection speaks another protocol now.
    Switched(Option<Connection>),
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

    /// The backend's body, whose trailers pass `customs`.
    pub const fn streamed(answer: Answer, customs: Customs) -> Self {
        Self::of(Source::Backend(answer, customs))
    }

    /// No body, but a connection that speaks another protocol from here on.
    pub const fn switched(connection: Connection) -> Self {
        Self::of(Source::Switched(Some(connection)))
    }

    /// The connection that speaks another protocol.
    pub const fn take_switched(&mut self) -> Option<Connection> {
        match &mut self.source {
            Source::Switched(connection) => connection.take(),
            Source::Made(_) | Source::Backend(..) => None,
        }
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
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match &mut self.source {
            Source::Made(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Backend(answer, customs) => {
                let polled = Pin::new(answer).poll_frame(cx);
                polled.map_ok(|frame| customs.inspect(frame, Side::Backend))
            }
            Source::Switched(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Made(bytes) => bytes.is_none(),
            Source::Backend(answer, _) => answer.is_end_stream(),
            Source::Switched(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Made(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Backend(answer, _) => answer.size_hint(),
            Source::Switched(_) => SizeHint::with_exact(0),
        }
    }
}
