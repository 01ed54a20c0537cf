//! Connections to the backend: a pool for each worker, the last one used first.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::body::{Body, Customs, Progress, Upload};
use super::check;
use super::error::{Error, Kind};
use super::finish::Begun;
use super::timer::{Alarm, Elapsed, Wheel};
use crate::telemetry::metrics::{BackendError, Metrics};

/// Where the backend listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `http://host:port`. The name is looked up anew for each connection.
    Tcp(String, u16),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    /// Reads `proxy.backend`.
    ///
    /// # Errors
    /// Says what an address looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let help = || format!("{text:?} is no backend: write http://host:port or unix:/path");
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(PathBuf::from(path))) } else { Err(help()) };
        }
        let authority = text.strip_prefix("http://").ok_or_else(help)?.trim_end_matches('/');
        let authority: http::uri::Authority = authority.parse().map_err(|_| help())?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(help());
        }
        let port = match &authority.as_str()[authority.host().len()..] {
            "" => 80,
            port => port[1..].parse().ok().filter(|port| *port > 0).ok_or_else(help)?,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self::Tcp(host.to_owned(), port))
    }

    /// Can nobody but this machine reach it?
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(host, _) => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// What stands in `Host` where a client of HTTP/1.0 sends none.
    pub fn host(&self) -> HeaderValue {
        let text = match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp(host, port) => format!("{host}:{port}"),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

/// What an exchange with the backend goes by.
#[derive(Clone)]
pub struct Terms {
    /// `proxy.connect_timeout`.
    pub connect_timeout: Duration,
    /// `proxy.head_timeout`.
    pub head_timeout: Duration,
    /// `proxy.backend_idle_timeout`.
    pub idle_timeout: Duration,
    /// What trailers must get past.
    pub customs: Customs,
}

/// The backend as one worker sees it.
pub struct Backend {
    address: Address,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
}

struct Pool {
    idle: Mutex<Vec<Idle>>,
    wheel: Wheel,
}

/// A connection, which ends with this: left alone, one whose backend doesn't read would wait for it for ever.
struct Connection {
    sender: SendRequest<Upload>,
    /// Reads and writes it.
    driver: AbortOnDropHandle<()>,
}

struct Idle {
    connection: Connection,
    /// By the wheel's clock, in milliseconds.
    since: u64,
}

/// A connection that is in use.
pub struct Lease {
    connection: Connection,
    /// `None` for one that must not be used again.
    pool: Option<Arc<Pool>>,
}

impl Lease {
    /// Makes the connection free for the next request.
    pub fn give_back(self) {
        if let Some(pool) = self.pool
            && !self.connection.sender.is_closed()
        {
            let since = pool.wheel.now();
            pool.idle().push(Idle { connection: self.connection, since });
        }
    }
}

impl Pool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last of those that are ready: one whose response came before it had taken all of its
    /// request is not, until it has.
    fn take(&self, idle_timeout: Duration) -> Option<Connection> {
        let mut idle = self.idle();
        let last = idle.iter().rposition(|kept| kept.connection.sender.is_ready())?;
        let kept = idle.remove(last);
        (kept.since >= self.oldest(idle_timeout)).then_some(kept.connection)
    }

    fn oldest(&self, idle_timeout: Duration) -> u64 {
        self.wheel.now().saturating_sub(u64::try_from(idle_timeout.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Backend {
    /// A backend without a connection yet.
    pub fn new(address: Address, wheel: Wheel, metrics: Arc<Metrics>) -> Self {
        Self { address, pool: Arc::new(Pool { idle: Mutex::default(), wheel }), metrics }
    }

    /// What stands in `Host` where a client sends none.
    pub fn host(&self) -> HeaderValue {
        self.address.host()
    }

    /// Closes connections that nobody has used for this long.
    pub fn close_idle(&self, idle_timeout: Duration) {
        let since = self.pool.oldest(idle_timeout);
        self.pool.idle().retain(|idle| idle.since >= since && !idle.connection.sender.is_closed());
    }

    /// Sends a request and waits for the head of the response; the body streams on behind it.
    ///
    /// A request that was not sent at all because a kept connection had just been closed is sent on another one,
    /// whatever its method; nothing else is ever sent twice (RFC 9110 §9.2.2).
    ///
    /// A request that asks for another protocol has a connection of its own. `begun` is told when there is a
    /// connection for the request to go over.
    ///
    /// # Errors
    /// [`Kind::Backend`], or [`Kind::Body`] and [`Kind::Timeout`] where the client broke its request off.
    pub async fn forward(
        &self,
        request: Request<Incoming>,
        terms: &Terms,
        alarm: &Alarm,
        asked: Option<&HeaderValue>,
        begun: &Begun,
    ) -> Result<Response<Body>, Error> {
        let alone = asked.is_some();
        let progress = Progress::new(alarm.clone(), terms.head_timeout);
        let mut request = request.map(|body| Upload::new(body, terms.customs.clone(), progress.clone()));
        loop {
            let (mut connection, fresh) = match (!alone).then(|| self.pool.take(terms.idle_timeout)).flatten()
            {
                Some(connection) => (connection, false),
                None => (self.connect(alone, terms.connect_timeout).await?, true),
            };
            begun.begin();
            let sent = alarm.limit(terms.head_timeout, connection.sender.try_send_request(request)).await;
            match sent.map_err(|Elapsed| self.late(&progress))? {
                Ok(response) => {
                    check::response(&response, asked)
                        .inspect_err(|_| self.metrics.backend_error(BackendError::Protocol))?;
                    // Chunks can't be sent to a backend that has said it speaks HTTP/1.0.
                    let kept = !alone && response.version() >= Version::HTTP_11;
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        drop(connection.driver.detach());
                        return Ok(response.map(|_| Body::empty()));
                    }
                    let lease = Lease { connection, pool: kept.then(|| self.pool.clone()) };
                    return Ok(response.map(|body| Body::streamed(body, terms.customs.clone(), lease)));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(self.blame(failed.into_error(), &progress)),
                },
            }
        }
    }

    /// Who is waited for? The backend, unless the rest of the request is still to come.
    fn late(&self, progress: &Progress) -> Error {
        if progress.is_waiting() {
            return Error::new(Kind::Timeout);
        }
        self.metrics.backend_error(BackendError::HeadTimeout);
        Error::new(Kind::Backend(BackendError::HeadTimeout))
    }

    fn blame(&self, error: hyper::Error, progress: &Progress) -> Error {
        if progress.is_broken() {
            return Error::new(Kind::Body).because(error);
        }
        let kind = if error.is_parse() { BackendError::Protocol } else { BackendError::Reset };
        self.metrics.backend_error(kind);
        Error::new(Kind::Backend(kind)).because(error)
    }

    async fn connect(&self, alone: bool, limit: Duration) -> Result<Connection, Error> {
        let refuse = |kind, source: std::io::Error| {
            self.metrics.backend_error(kind);
            Error::new(Kind::Backend(kind)).because(source)
        };
        let dialled = match timeout(limit, self.dial()).await {
            Ok(dialled) => dialled.map_err(|error| refuse(BackendError::Connect, error))?,
            Err(_) => return Err(refuse(BackendError::ConnectTimeout, std::io::ErrorKind::TimedOut.into())),
        };
        self.metrics.backend_connections.inc();
        let (sender, connection) = Builder::new()
            // They are removed then, so that nobody behind us reads another header (RFC 9112 §5.1).
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(dialled))
            .await
            .map_err(|error| refuse(BackendError::Connect, std::io::Error::other(error)))?;
        let broke = |error: hyper::Error| debug!("a connection to the backend broke: {error}");
        let driver = if alone {
            tokio::spawn(async move { connection.with_upgrades().await.unwrap_or_else(broke) })
        } else {
            tokio::spawn(async move { connection.await.unwrap_or_else(broke) })
        };
        Ok(Connection { sender, driver: AbortOnDropHandle::new(driver) })
    }

    async fn dial(&self) -> std::io::Result<Either<TcpStream, UnixStream>> {
        match &self.address {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((&**host, *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_or_a_path() {
        let tcp = |host: &str, port| Ok(Address::Tcp(host.to_owned(), port));
        assert_eq!(Address::parse("http://app"), tcp("app", 80));
        assert_eq!(Address::parse("http://127.0.0.1:8000/"), tcp("127.0.0.1", 8000));
        assert_eq!(Address::parse("http://[::1]"), tcp("::1", 80));
        assert_eq!(Address::parse("http://[::1]:8000"), tcp("::1", 8000));
        assert_eq!(Address::parse("unix:/run/app.sock"), Ok(Address::Unix("/run/app.sock".into())));
        for wrong in [
            "",
            "app",
            "app:80",
            "https://app",
            "http://",
            "http://:80",
            "http://app:",
            "http://app:0",
            "http://app:65536",
            "http://app:http",
            "http://app/path",
            "http://user@app",
            "http://app?x",
            "http://::1:80",
            "unix:",
            "unix:app.sock",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_that_is_an_ipv6_address_stands_in_brackets() {
        for (url, host) in [("http://[::1]:9", "[::1]:9"), ("http://app", "app:80"), ("unix:/x", "localhost")]
        {
            assert_eq!(Address::parse(url).unwrap().host(), host);
        }
    }
}
