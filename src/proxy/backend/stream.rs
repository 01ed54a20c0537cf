//! A socket to the backend.

use std::io;
use std::task::{Context, Waker};

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

use super::Address;
use crate::proxy::keepalive;

/// TCP, or a Unix socket.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// Connects; a name is looked up each time, and each of its addresses tried.
pub(super) async fn dial(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(host, port) => {
            let stream = TcpStream::connect((&**host, *port)).await?;
            stream.set_nodelay(true)?;
            keepalive::ask(&SockRef::from(&stream))?;
            Ok(Either::Left(stream))
        }
        Address::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
    }
}

/// Has nothing come, not even its end? It costs no system call unless something has.
pub(super) fn is_quiet(stream: &Stream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let ready = match stream {
        Either::Left(stream) => stream.poll_read_ready(&mut cx),
        Either::Right(stream) => stream.poll_read_ready(&mut cx),
    };
    ready.is_pending() || {
        let mut byte = [0];
        let read = match stream {
            Either::Left(stream) => stream.try_read(&mut byte),
            Either::Right(stream) => stream.try_read(&mut byte),
        };
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_backend_that_vanishes_without_a_word_is_found_out() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let stream = dial(&Address::Tcp("127.0.0.1".to_owned(), port)).await.expect("somebody listens");
        let Either::Left(stream) = stream else { panic!("it is no Unix socket") };
        assert!(keepalive::is_asked(&SockRef::from(&stream)));
    }
}
