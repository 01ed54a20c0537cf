//! A server's host and port, as they stand in a URL, and the way there.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

/// After how long a silence the kernel asks whether the server is there still.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A server on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Its name, or its address without brackets.
    pub(super) name: String,
    pub(super) port: u16,
}

/// Why nobody was reached.
pub(super) enum Unreached {
    /// Nobody knows the host by its name.
    Name(io::Error),
    /// There is nobody, or nobody can get there.
    Away(io::Error),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

impl Host {
    /// Reads `host`, `host:port`, `[::1]`, `[::1]:port`; `None` if it can be misunderstood.
    pub(super) fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(inside) => {
                let (name, port) = inside?;
                name.parse::<Ipv6Addr>().ok()?;
                (name, port)
            }
            None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
        };
        let port = match port {
            "" => default_port,
            port => port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        (!name.is_empty() && name.bytes().all(fits)).then(|| Self { name: name.to_owned(), port })
    }

    /// Does what is sent there stay on this machine?
    pub(super) fn is_loopback(&self) -> bool {
        self.name == "localhost" || self.name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    /// Where it is, by all that its name means.
    ///
    /// # Errors
    /// If nobody knows the name.
    pub(super) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((&*self.name, self.port)).await?.collect())
    }

    /// A connection, no word said.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn reach(&self) -> Result<TcpStream, Unreached> {
        let addresses = self.addresses().await.map_err(Unreached::Name)?;
        let stream = TcpStream::connect(&addresses[..]).await.map_err(Unreached::Away)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
        let set = |stream: &TcpStream| -> io::Result<()> {
            stream.set_nodelay(true)?;
            SockRef::from(stream).set_tcp_keepalive(&keepalive)
        };
        set(&stream).map_err(Unreached::Away)?;
        Ok(stream)
    }
}
