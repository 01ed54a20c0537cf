//! Bodies stream through, never collected; only their trailers are looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::backend::{Answer, Connection};
use super::muted::{Stage, Turn, Turns, Uploading};
use super::patience::Pace;
use super::timer::Alarm;
use super::{Caller, Rules};
use crate::telemetry::metrics::{Metrics, Raised, Side};
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
    /// How fast the client has to be.
    pace: Pace,
    waiting: bool,
    answered: bool,
    /// Bytes that have passed, and that may.
    passed: u64,
    limit: u64,
    /// The trailers that may follow it: no other was announced.
    announced: Vec<HeaderName>,
    /// Which of its connection's requests it belongs to.
    turn: usize,
    turns: Turns,
    /// Its connection is not the next request's before this is over.
    uploading: Option<Uploading>,
}

/// Why a request's body ended before it was whole.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The client broke it off.
    #[error("{0}")]
    Broken(hyper::Error),
    /// It is longer than `proxy.max_body_bytes`.
    #[error("it is longer than proxy.max_body_bytes")]
    TooLarge,
}

impl Upload {
    /// Lets a request's body pass; `None` where there is none.
    ///
    /// While the client is waited for the caller's alarm is set to what it may take, while the backend is, and has not
    /// answered yet, to what that may.
    pub fn of(inner: Incoming, headers: &HeaderMap, caller: &Caller) -> Option<Box<Self>> {
        let Rules { terms, patience, limits, .. } = &*caller.rules;
        let upload = |inner| Self {
            inner,
            customs: terms.customs.clone(),
            alarm: caller.client.alarm.clone(),
            patience: terms.head_timeout,
            pace: Pace::new(patience),
            waiting: false,
            answered: false,
            passed: 0,
            limit: limits.body_bytes,
            announced: announced(headers),
            turn: caller.client.turns.taken(),
            turns: caller.client.turns.clone(),
            uploading: Some(caller.client.turns.upload()),
        };
        // Most requests have none, and all have room for what is not boxed.
        (!inner.is_end_stream()).then(|| Box::new(upload(inner)))
    }

    /// Is the client's next piece waited for, by a backend that would take it?
    pub const fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The response has come. Where the client was waited for it still is.
    pub fn answered(&mut self) {
        self.answered = true;
        if self.waiting {
            self.pace.wait(&self.alarm);
        }
    }

    /// The alarm, while it is this request's: the next one may be under way when the last piece is taken.
    fn alarm(&self) -> Option<&Alarm> {
        (self.turns.taken() == self.turn).then_some(&self.alarm)
    }

    fn note(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, hyper::Error>>>) {
        self.waiting = polled.is_pending();
        let passed = match polled {
            Poll::Pending => return self.pace.wait(&self.alarm),
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            Poll::Ready(_) => 0,
        };
        self.passed = self.passed.saturating_add(passed as u64);
        let waited = self.pace.pass(&self.alarm, passed);
        match self.alarm() {
            Some(alarm) if !self.answered => alarm.set(self.patience),
            Some(alarm) if waited => alarm.stop(),
            _ => {}
        }
    }

    /// What may pass of a piece; none of one with which the body is too long.
    fn inspect(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Cut> {
        if self.passed > self.limit {
            return Err(Cut::TooLarge);
        }
        Ok(match self.customs.inspect(frame, Side::Client).into_trailers() {
            Ok(mut trailers) => {
                remove(&mut trailers, |name| !self.announced.contains(name));
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uploading = None;
        if self.waiting
            && self.answered
            && let Some(alarm) = self.alarm()
        {
            alarm.stop();
        }
        // Where the response is over too it is the client's turn, and nobody has seen that yet.
        if self.turns.stage() != Stage::Busy {
            self.alarm.nudge();
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.note(&polled);
        polled.map(|frame| Some(frame?.map_err(Cut::Broken).and_then(|frame| self.inspect(frame))))
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
    /// Its request is answered, and no longer under way, when hyper has done with this.
    _turn: Option<(Turn, Raised)>,
}

enum Source {
    /// Made by us, in one piece.
    Made(Option<Bytes>),
    /// The backend's.
    Backend(Answer, Customs),
    /// None, for the connection speaks another protocol now.
    Switched(Option<Box<Connection>>),
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
    pub const fn switched(connection: Box<Connection>) -> Self {
        Self::of(Source::Switched(Some(connection)))
    }

    /// The connection that speaks another protocol.
    pub const fn take_switched(&mut self) -> Option<Box<Connection>> {
        match &mut self.source {
            Source::Switched(connection) => connection.take(),
            Source::Made(_) | Source::Backend(..) => None,
        }
    }

    const fn of(source: Source) -> Self {
        Self { source, _turn: None }
    }

    /// The same; when hyper has done with it its request is answered.
    pub fn ending(self, turn: Turn, in_flight: Raised) -> Self {
        Self { _turn: Some((turn, in_flight)), ..self }
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
