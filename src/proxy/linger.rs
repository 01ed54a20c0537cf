//! Closing a connection whose client may still be sending, without taking our last response out of its hands.
//!
//! What comes to a socket that is closed is answered with a reset, and so is what had come and nobody has read; a reset
//! makes the client's system forget what the client has not read yet of the response (RFC 9112 §9.6).

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a client may take to stop sending, and to close its own side, once it has been told.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is read at once, at most, in bytes.
const PIECE: usize = 16 * 1024;

/// Says that nothing more will come, and reads what does, for no longer than [`PATIENCE`].
pub(super) async fn linger(mut stream: TcpStream) {
    let heard_out = async {
        stream.shutdown().await?;
        loop {
            stream.readable().await?;
            match drop_a_piece(&stream) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    };
    // Whatever its end was: it is over.
    drop(timeout(PATIENCE, heard_out).await);
}

/// Its buffer is no part of the connection's task, where every connection would have one.
fn drop_a_piece(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; PIECE])
}
