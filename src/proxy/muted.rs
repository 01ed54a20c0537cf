//! A client's socket on which hyper can't answer by itself, and that hears what hyper is told.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::heads::Heads;
use crate::wire::seen::Seen;

/// What is read at once, at most, in bytes.
const PIECE: usize = 16 * 1024;

/// A connection's requests.
#[derive(Clone, Default)]
pub struct Turns(Arc<Counts>);

#[derive(Default)]
struct Counts {
    /// How many have come.
    taken: AtomicUsize,
    /// How many of them hyper has not got the whole answer to yet.
    open: AtomicUsize,
    /// How many of their bodies are not over yet.
    uploads: AtomicUsize,
    /// Has anything come of the next one?
    heard: AtomicBool,
    /// What has come of those that have not.
    heads: Mutex<Heads>,
}

/// Whose turn it is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A request is under way.
    Busy,
    /// So many requests are over, and nothing is heard of a next one.
    Quiet(usize),
    /// So many requests are over, and the next one has begun.
    Heard(usize),
}

impl Turns {
    /// One more, until what is returned is dropped.
    pub fn take(&self) -> Turn {
        self.0.taken.fetch_add(1, Relaxed);
        self.0.open.fetch_add(1, Relaxed);
        Turn(Some(self.clone()))
    }

    /// What is wrong with the head that hyper has just made this request of, where hyper itself doesn't mind.
    pub fn fault<B>(&self, request: &Request<B>, seen: Seen) -> Option<&'static str> {
        self.heads().take(request, seen)
    }

    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.0.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether the next one has begun already behind one that is over now.
    fn heed(&self) {
        self.0.heard.store(self.heads().have_begun(), Relaxed);
    }

    /// How many have come.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Relaxed)
    }

    /// Is the client still sending, as far as is known? What it has sent of a request that is not to be answered any more,
    /// or not sent of one that is answered.
    pub fn owe(&self) -> bool {
        self.heads().are_to_come()
    }

    /// The body of one, which may outlast its answer, until what is returned is dropped.
    pub fn upload(&self) -> Uploading {
        self.0.uploads.fetch_add(1, Relaxed);
        Uploading(self.clone())
    }

    /// Whose turn it is.
    pub fn stage(&self) -> Stage {
        match self.over() {
            Some(taken) if self.0.uploads.load(Relaxed) == 0 => {
                if self.0.heard.load(Relaxed) {
                    Stage::Heard(taken)
                } else {
                    Stage::Quiet(taken)
                }
            }
            _ => Stage::Busy,
        }
    }

    /// How many have come, if each has its whole answer.
    fn over(&self) -> Option<usize> {
        (self.0.open.load(Relaxed) == 0).then(|| self.taken())
    }
}

/// A request that hyper has not got the whole answer to yet.
pub struct Turn(Option<Turns>);

impl Turn {
    /// What follows this request on its connection is no request.
    pub fn never_ends(mut self) {
        if let Some(turns) = self.0.take() {
            turns.heads().end();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = &self.0 {
            turns.heed();
            turns.0.open.fetch_sub(1, Relaxed);
        }
    }
}

/// A request's body that is not over yet.
pub struct Uploading(Turns);

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.heed();
        self.0.0.uploads.fetch_sub(1, Relaxed);
    }
}

/// Keeps back what hyper answers by itself to a head that it can't parse: a status and no word of what is wrong, under
/// no request ID. Whoever serves the connection says it properly then.
///
/// hyper calls nobody in that case, but it writes nothing else once the answers to all requests have been written and
/// flushed. Where the rest of an earlier one is still under way hyper has its say.
pub struct Muted<T> {
    inner: T,
    turns: Turns,
    /// How many requests had come when the answers to all of them were last flushed.
    flushed: usize,
    said: Vec<u8>,
    /// What has been heard already and is to be read again.
    ahead: Bytes,
}

impl<T> Muted<T> {
    /// Listens to what is written while no request waits for an answer.
    pub const fn new(inner: T, turns: Turns) -> Self {
        Self { inner, turns, flushed: 0, said: Vec::new(), ahead: Bytes::new() }
    }

    /// The same for another reader, who begins with what the first one has not understood; what that said is forgotten.
    pub fn again(self, unread: Bytes) -> Self {
        Self { said: Vec::new(), ahead: unread, ..self }
    }

    /// The socket.
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// The status of the answer that was kept back.
    pub fn said(&self) -> Option<StatusCode> {
        let code = self.said.split(|byte| *byte == b' ').nth(1)?;
        StatusCode::from_bytes(code).ok()
    }

    /// Keeps back a piece of an answer of hyper's own.
    fn hushes(&mut self, piece: &[u8]) -> bool {
        let uncalled = self.turns.over() == Some(self.flushed);
        if uncalled {
            self.said.extend_from_slice(piece);
        }
        uncalled
    }
}

impl<T: Read + Unpin> Read for Muted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let Self { inner, turns, .. } = &mut *self;
        let mut heads = turns.heads();
        if !heads.listens() {
            return Pin::new(inner).poll_read(cx, buffer);
        }
        // What stands in hyper's own buffer can't be looked at.
        let mut space = [const { MaybeUninit::<u8>::uninit() }; PIECE];
        let most = buffer.remaining().min(PIECE);
        let mut piece = ReadBuf::uninit(&mut space[..most]);
        ready!(Pin::new(inner).poll_read(cx, piece.unfilled()))?;
        heads.hear(piece.filled()).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
        buffer.put_slice(piece.filled());
        turns.0.heard.store(true, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for Muted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.hushes(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if pieces.iter().filter(|piece| self.hushes(piece)).count() > 0 {
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        // Only what is written whole is flushed.
        self.flushed = self.turns.over().unwrap_or(self.flushed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // There is something to be said yet.
        if !self.said.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::rt::TokioIo;

    const CURT: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n";

    /// A socket that has taken so many bytes.
    struct Bench(Muted<TokioIo<Vec<u8>>>, Turns);

    impl Bench {
        fn new() -> Self {
            let turns = Turns::default();
            Self(Muted::new(TokioIo::new(Vec::new()), turns.clone()), turns)
        }

        fn write(&mut self, bytes: &[u8]) {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let half = bytes.len() / 2;
            assert!(Pin::new(&mut self.0).poll_write(&mut cx, &bytes[..half]).is_ready());
            let rest = [IoSlice::new(&bytes[half..]), IoSlice::new(b"")];
            assert!(Pin::new(&mut self.0).poll_write_vectored(&mut cx, &rest).is_ready());
        }

        fn flush(&mut self) {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut self.0).poll_flush(&mut cx).is_ready());
        }

        fn taken(&self) -> usize {
            self.0.inner.inner().len()
        }
    }

    #[test]
    fn what_nobody_has_asked_for_is_kept_back() {
        let mut bench = Bench::new();
        bench.write(CURT);
        assert_eq!((bench.taken(), bench.0.said()), (0, Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
    }

    #[test]
    fn a_response_passes_whatever_it_says() {
        let mut bench = Bench::new();
        let turn = bench.1.take();
        bench.flush();
        bench.write(CURT);
        bench.flush();
        bench.write(CURT);
        drop(turn);
        bench.write(CURT);
        bench.flush();
        // A short one is complete before any of it is written.
        drop(bench.1.take());
        bench.write(CURT);
        assert_eq!((bench.taken(), bench.0.said()), (4 * CURT.len(), None));
        bench.flush();
        bench.write(CURT);
        assert_eq!(bench.taken(), 4 * CURT.len());
        assert!(bench.0.said().is_some());
    }

    #[test]
    fn nothing_is_kept_back_of_a_tunnel() {
        let mut bench = Bench::new();
        bench.1.take().never_ends();
        bench.flush();
        bench.write(CURT);
        assert_eq!((bench.taken(), bench.0.said()), (CURT.len(), None));
    }
}
