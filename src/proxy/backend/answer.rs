//! A response's body on its way from the backend, and the end of the exchange behind it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tracing::debug;

use super::connection::Connection;
use super::decoder::{Decoder, Piece};
use super::owner::Home;
use super::sending::{Broken, Sending};
use crate::drain::Guard;

/// The body, and with it the connection: at its end that is free for the next request; if this is dropped before its
/// end so is the connection.
pub struct Answer {
    /// A whole body, which came with its head.
    whole: Option<Bytes>,
    /// What remains of the exchange. None when the body is over.
    rest: Option<Box<Rest>>,
    exact: Option<u64>,
    /// Told when what has come before it is on its way.
    broken: Option<io::Error>,
}

struct Rest {
    connection: Box<Connection>,
    decoder: Decoder,
    /// What the backend has answered before it has taken it; it keeps a drain from ending.
    sending: Option<(Sending, Guard)>,
    /// `None` for a connection that must not be used again.
    home: Option<Home>,
    /// What the backend may take, when its response is over, to take more of the request.
    patience: Duration,
}

impl Answer {
    /// The body that follows a head.
    pub fn new(
        connection: Box<Connection>,
        decoder: Decoder,
        sending: Option<(Sending, Guard)>,
        home: Option<Home>,
        patience: Duration,
    ) -> Self {
        let exact = decoder.exact();
        let mut rest = Rest { connection, decoder, sending, home, patience };
        let whole = rest.whole();
        if rest.decoder.is_over() {
            rest.part();
            return Self { whole, rest: None, exact, broken: None };
        }
        Self { whole, rest: Some(Box::new(rest)), exact, broken: None }
    }
}

impl Rest {
    /// The body, if all of it has come already: then nobody need come back for it, and the connection is free at once.
    fn whole(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.decoder.exact()?).ok()?;
        if length == 0 || self.connection.inbox.len() < length {
            return None;
        }
        match self.decoder.take(&mut self.connection.inbox) {
            Ok(Piece::Data(data)) => Some(data),
            _ => None,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        if let Some((sending, _)) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(cx, &mut self.connection)
        {
            self.sending = None;
            match sent {
                Ok(()) => {}
                Err(Broken::Backend(_)) => self.home = None,
                // The backend will never have all of it, and the client has nothing more to say.
                Err(Broken::Client(cut)) => return Poll::Ready(Err(io::Error::other(cut))),
            }
        }
        loop {
            match self.decoder.take(&mut self.connection.inbox) {
                Ok(Piece::More) => {}
                piece => return Poll::Ready(piece.map_err(io::Error::other)),
            }
            let awaited = self.decoder.awaited();
            if ready!(self.connection.poll_fill(cx, awaited))? == 0 {
                let over = if self.decoder.may_end() {
                    Ok(Piece::Over)
                } else {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the backend broke its response off"))
                };
                return Poll::Ready(over);
            }
        }
    }

    /// The response is over: the connection is free, or busy with the rest of the request yet.
    fn part(mut self) {
        let Some(home) = self.home else { return };
        if !self.connection.inbox.is_empty() {
            debug!("the backend said more than its response: its connection is closed");
            return;
        }
        let Some((mut sending, guard)) = self.sending else { return home.give_back(self.connection) };
        tokio::spawn(async move {
            loop {
                let taken = sending.taken();
                let sent = std::future::poll_fn(|cx| sending.poll(cx, &mut self.connection));
                match tokio::time::timeout(self.patience, sent).await {
                    Ok(Ok(())) => break home.give_back(self.connection),
                    // Who is waited for is the client, which has a time of its own, or the backend goes on.
                    Err(_) if sending.waits_for_the_client() || sending.taken() > taken => {}
                    _ => {
                        break debug!("the backend does not take the rest of a request that it has answered");
                    }
                }
            }
            drop(guard);
        });
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(whole) = self.whole.take() {
            return Poll::Ready(Some(Ok(Frame::data(whole))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(self.broken.take().map(Err)) };
        let frame = match ready!(rest.poll_piece(cx)) {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::Over | Piece::More) => None,
            Err(error) => {
                debug!("a response broke: {error}");
                (self.rest, self.broken) = (None, Some(error));
                // hyper keeps back what it has written already when it hears of an error at once.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        if (rest.decoder.is_over() || frame.is_none())
            && let Some(rest) = self.rest.take()
        {
            rest.part();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_none() && self.rest.is_none() && self.broken.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
