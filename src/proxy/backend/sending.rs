//! A request on its way to the backend.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use super::connection::Connection;
use crate::proxy::body::{Cut, Upload};
use crate::wire::lines::Lines;

/// What is left of a request.
pub struct Sending {
    /// The head, and what frames the body behind it.
    outbox: Vec<u8>,
    /// How much of that is sent.
    sent: usize,
    /// A piece of the body that goes behind it.
    piece: Bytes,
    /// What is left of the end of a chunk, which goes behind the piece.
    tail: &'static [u8],
    body: Option<Box<Upload>>,
    framing: Framing,
    /// Has anything of the body been taken from the client?
    touched: bool,
    /// How many bytes have gone to the backend.
    taken: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    /// So many bytes are to come.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Why a request can't be sent to its end.
#[derive(Debug)]
pub enum Broken {
    /// The client broke its body off, or it is too long.
    Client(Cut),
    /// The backend takes nothing more.
    Backend(io::Error),
}

impl Sending {
    /// A request of which nothing is sent yet.
    pub fn new(head: Vec<u8>, body: Option<Box<Upload>>) -> Self {
        let length = body.as_ref().map_or(Some(0), |body| body.size_hint().exact());
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        Self {
            outbox: head,
            sent: 0,
            piece: Bytes::new(),
            tail: b"",
            body,
            framing,
            touched: false,
            taken: 0,
        }
    }

    /// May it be sent again, from its beginning? Not when anything of its body was taken.
    pub const fn begin_again(&mut self) -> bool {
        if !self.touched {
            self.sent = 0;
        }
        !self.touched
    }

    /// Has any byte of it gone to the backend?
    pub const fn has_begun(&self) -> bool {
        self.taken > 0
    }

    /// How many bytes of it have gone to the backend.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Is the client's next piece waited for, by a backend that would take it?
    pub fn waits_for_the_client(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.is_waiting())
    }

    /// The response has come before all was sent.
    pub fn answered(&mut self) {
        if let Some(body) = &mut self.body {
            body.answered();
        }
    }

    /// Sends as much as the client has and the backend takes; ready when all is sent.
    pub fn poll(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<Result<(), Broken>> {
        loop {
            // Before anything is written, so that a head and the first piece go together.
            let next = match &mut self.body {
                Some(body) if self.piece.is_empty() && self.tail.is_empty() => Pin::new(body).poll_frame(cx),
                _ => Poll::Pending,
            };
            match next {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(frame))) => {
                    self.touched = true;
                    self.put(frame);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Broken::Client(error))),
                Poll::Ready(None) => self.end(),
            }
            if self.sent == self.outbox.len() && self.piece.is_empty() && self.tail.is_empty() {
                return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            ready!(self.poll_write(cx, connection)).map_err(Broken::Backend)?;
        }
    }

    fn put(&mut self, frame: http_body::Frame<Bytes>) {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if let (Ok(trailers), Framing::Chunked) = (frame.into_trailers(), self.framing) {
                    self.outbox.extend_from_slice(b"0\r\n");
                    let mut lines = Lines::default();
                    lines.all(&trailers);
                    self.outbox.extend_from_slice(&lines.end());
                    self.body = None;
                }
                return;
            }
        };
        if data.is_empty() {
            return;
        }
        match &mut self.framing {
            // hyper has counted: there are never more.
            Framing::Length(left) => *left = left.saturating_sub(data.len() as u64),
            Framing::Chunked => {
                self.outbox.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.tail = b"\r\n";
            }
        }
        self.piece = data;
        if self.framing == Framing::Length(0) {
            self.body = None;
        }
    }

    fn end(&mut self) {
        self.body = None;
        if self.framing == Framing::Chunked {
            self.outbox.extend_from_slice(b"0\r\n\r\n");
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<io::Result<()>> {
        let stream = &mut connection.stream;
        let head = &self.outbox[self.sent..];
        let written = if self.piece.is_empty() && self.tail.is_empty() {
            Pin::new(stream).poll_write(cx, head)
        } else {
            let pieces = [IoSlice::new(head), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
            Pin::new(stream).poll_write_vectored(cx, &pieces)
        };
        let written = ready!(written)?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.taken += written as u64;
        let of_head = written.min(head.len());
        let of_piece = (written - of_head).min(self.piece.len());
        self.piece.advance(of_piece);
        self.tail = &self.tail[written - of_head - of_piece..];
        self.sent += of_head;
        // The head is kept for as long as it may have to be sent again.
        if self.sent == self.outbox.len() && self.touched {
            self.outbox.clear();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }
}
