//! What makes the kernel ask whether the other side of a silent connection is there still (RFC 1122, section 4.2.3.6): a
//! client whose machine or network has gone says nothing, and would keep its place for as long as a response or a tunnel
//! is allowed to be silent.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// After how long a silence it is asked.
const SILENCE: Duration = Duration::from_secs(60);
/// How long it has for an answer before it is asked again.
const INTERVAL: Duration = Duration::from_secs(15);
/// How often it is asked before the connection is given up: two minutes after its last sign of life.
const TRIES: u32 = 4;

/// Has it asked on this socket, or on all that this listener accepts.
///
/// # Errors
/// As the system says.
pub(super) fn ask(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(INTERVAL).with_retries(TRIES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Is it asked on this one?
#[cfg(test)]
pub(super) fn is_asked(socket: &SockRef<'_>) -> bool {
    let all = || -> io::Result<_> {
        let times = (socket.tcp_keepalive_time()?, socket.tcp_keepalive_interval()?);
        Ok((socket.keepalive()?, times, socket.tcp_keepalive_retries()?))
    };
    all().expect("a socket of TCP") == (true, (SILENCE, INTERVAL), TRIES)
}
