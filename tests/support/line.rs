//! One end of a connection, to the byte: a client's to the sidecar, or a scripted backend's.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::backend::Seen;
use super::client::{self, PATIENCE, Reply, read_body, read_head, read_raw_head, read_reply};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In good order (FIN).
    Closed,
    /// Torn (RST).
    Reset,
}

/// One end of a connection. Reads fail a test that hangs.
pub struct Line {
    stream: TcpStream,
    /// Is the connection over when this is dropped?
    owned: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.owned {
            // Closing would do, but for a child process of another test that holds the socket until it runs.
            drop(self.stream.shutdown(Shutdown::Both));
        }
    }
}

impl Line {
    /// Connects.
    pub fn to(address: SocketAddr) -> Self {
        Self::over(client::connect(address))
    }

    const fn over(stream: TcpStream) -> Self {
        Self { stream, owned: true }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the other end takes it");
        self
    }

    /// Sends bytes to an end that may have closed; says whether it took them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads the head of a message: its first line and headers.
    pub fn head(&mut self) -> (String, Vec<(String, String)>) {
        read_head(&mut self.stream).expect("a message")
    }

    /// Reads the head of a message as it is.
    pub fn raw_head(&mut self) -> Vec<u8> {
        read_raw_head(&mut self.stream).expect("a message")
    }

    /// Reads a whole request.
    pub fn request(&mut self) -> Seen {
        let (first, headers) = self.head();
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (body, trailers) = read_body(&mut self.stream, &headers, false);
        Seen { method, target, headers, body, trailers }
    }

    /// Reads a response to anything but HEAD.
    pub fn reply(&mut self) -> Reply {
        read_reply(&mut self.stream, false)
    }

    /// Reads a response to HEAD.
    pub fn reply_to_head(&mut self) -> Reply {
        read_reply(&mut self.stream, true)
    }

    /// Sends a request and reads its response.
    pub fn ask(&mut self, request: &str) -> Reply {
        self.send(request).reply()
    }

    /// Reads so many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("that many bytes");
        bytes
    }

    /// Reads what comes until the connection ends.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return (bytes, End::Closed),
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return (bytes, End::Reset);
                }
                Err(error) => panic!("neither bytes nor an end: {error}; so far {bytes:?}"),
            }
        }
    }

    /// Waits for the end of the connection; anything else fails the test.
    pub fn ends(&mut self) -> End {
        let (bytes, end) = self.rest();
        assert!(bytes.is_empty(), "bytes before the end: {:?}", String::from_utf8_lossy(&bytes));
        end
    }

    /// Reads whatever has come by `within`, none if nothing has.
    pub fn peek(&mut self, within: Duration) -> Vec<u8> {
        self.stream.set_read_timeout(Some(within)).expect("a timeout");
        let mut piece = [0; 1024];
        let count = self.stream.read(&mut piece).unwrap_or_default();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        piece[..count].to_vec()
    }

    /// Sends nothing more, but reads on.
    pub fn finish(&mut self) -> &mut Self {
        // One that the other end has torn is finished too.
        drop(self.stream.shutdown(Shutdown::Write));
        self
    }

    /// The same end once more, for another thread.
    pub fn twin(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a socket"), owned: false }
    }

    /// Tears the connection (RST).
    pub fn tear(mut self) {
        self.owned = false;
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// The socket itself.
    pub const fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// A backend whose connections the test plays itself, one after the other.
pub struct Stage {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Stage {
    /// On a free port of 127.0.0.1.
    pub fn new() -> Self {
        Self::on("127.0.0.1:0")
    }

    /// On an address.
    pub fn on(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("a socket");
        let address = listener.local_addr().expect("its address");
        Self { listener, address }
    }

    /// An address where nobody listens, for as long as the socket is there.
    pub fn nobody() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("a free port");
        let address = socket.local_addr().expect("its address").as_socket().expect("of IP");
        (socket, address)
    }

    /// The next connection.
    pub fn accept(&self) -> Line {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Line::over(stream)
    }

    /// Is nobody waiting to be accepted?
    pub fn is_quiet(&self) -> bool {
        self.listener.set_nonblocking(true).expect("a socket");
        let accepted = self.listener.accept();
        self.listener.set_nonblocking(false).expect("a socket");
        accepted.is_err()
    }
}
