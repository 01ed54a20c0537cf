//! Which server, as whom, and how: `store.url` and the settings beside it.
//!
//! ```text
//! redis://[user[:password]@]host[:port][/database]
//! rediss://…                                          the same over TLS
//! redis+unix://[user[:password]@]/path/to/socket[?db=database]
//! ```

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::answer;
use super::tls::Tls;
use crate::secret::Secret;
use crate::store::{Config, Error, Kind};

/// Where Redis listens if nobody says otherwise.
const PORT: u16 = 6379;
/// Calls that may wait to be written to one connection; more wait for a place among them.
const PIPELINE: usize = 1024;
/// After how long a silence the kernel asks whether the server is there still.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Why a setting can't be obeyed: the setting, and what is wrong with it and what to do.
pub type Misfit = (&'static str, String);

/// What drives a connection: it ends when the connection does.
pub(super) type Driver = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server, and how to get there.
pub(super) struct Target {
    place: Place,
    user: Option<String>,
    password: Secret,
    password_file: String,
    database: i64,
}

enum Place {
    Tcp { host: String, port: u16, tls: Option<Tls> },
    Unix(PathBuf),
}

impl Target {
    /// Reads the settings. No file is read and no server asked: [`Target::connect`] does both, each time, so that
    /// a password or certificate that was renewed counts from the next connection on.
    ///
    /// # Errors
    /// The first setting that can't be obeyed. What it holds is not quoted: a password may stand in it.
    pub(super) fn new(config: &Config) -> Result<Self, Misfit> {
        const FORM: &str = "write redis://host:port/database, rediss://… or redis+unix:///path/to/socket";
        let url = |what: &str| ("store.url", format!("{what}: {FORM}"));
        let text = config.url.expose();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| url("has no // behind its scheme"))?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        // A password may hold @ and /, a host may not.
        let (login, rest) = match rest.rfind('@') {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (decoded(user), decoded(password)),
            None => (Some(String::new()), Some(String::new())),
        };
        let (Some(user), Some(password)) = (user, password) else {
            return Err(url("has a user or password that is no UTF-8"));
        };
        let unix = scheme == "redis+unix";
        let (place, path) = if unix { (rest, "") } else { rest.split_once('/').unwrap_or((rest, "")) };
        let database = match (unix, query) {
            (_, None) => path,
            (true, Some(query)) => {
                query.strip_prefix("db=").ok_or_else(|| url("has a query other than db="))?
            }
            (false, Some(_)) => return Err(url("has a query")),
        };
        let database = match database {
            "" => 0,
            number if number.bytes().all(|digit| digit.is_ascii_digit()) => {
                number.parse().map_err(|_| url("has a database that is no number"))?
            }
            _ => return Err(url("has a database that is no number")),
        };
        let tls = Tls::new(config, scheme == "rediss")?;
        let place = if unix {
            let path =
                decoded(place).filter(|path| path.starts_with('/')).ok_or_else(|| url("has no path"))?;
            Place::Unix(PathBuf::from(path))
        } else {
            let (host, port) =
                host(place).ok_or_else(|| url("has no host and port that can be understood"))?;
            Place::Tcp { host, port, tls }
        };
        let beside = !config.password.is_empty() || !config.password_file.is_empty();
        if beside && !password.is_empty() {
            let what = "store.url has one too: remove one of them".to_owned();
            return Err(("store.password", what));
        }
        let password = if password.is_empty() { config.password.clone() } else { Secret::new(password) };
        let user = Some(user).filter(|user| !user.is_empty());
        Ok(Self { place, user, password, password_file: config.password_file.clone(), database })
    }

    /// Is the way there one that nobody can listen in on: TLS, a Unix socket, loopback?
    pub(super) fn is_private(&self) -> bool {
        match &self.place {
            Place::Unix(_) | Place::Tcp { tls: Some(_), .. } => true,
            Place::Tcp { host, tls: None, .. } => {
                host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        }
    }

    /// Opens a connection and makes ourselves known.
    ///
    /// # Errors
    /// [`Kind::Unreachable`] where there is no connection, else what the server says.
    pub(super) async fn connect(&self) -> Result<(MultiplexedConnection, Driver), Error> {
        let password = Secret::of(&self.password, &self.password_file)
            .map_err(|what| Error::new(Kind::Unreachable, format!("store.password_file: {what}")))?;
        match &self.place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                self.greet(stream.map_err(|error| away(&path.display(), &error))?, &password).await
            }
            Place::Tcp { host, port, tls } => {
                let place = format!("{host}:{port}");
                let stream =
                    TcpStream::connect((&**host, *port)).await.map_err(|error| away(&place, &error))?;
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
                stream
                    .set_nodelay(true)
                    .and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive))
                    .map_err(|error| away(&place, &error))?;
                match tls {
                    None => self.greet(stream, &password).await,
                    Some(tls) => self.greet(tls.connect(host, stream).await?, &password).await,
                }
            }
        }
    }

    async fn greet(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        password: &Secret,
    ) -> Result<(MultiplexedConnection, Driver), Error> {
        let mut info = RedisConnectionInfo::default()
            .set_db(self.database)
            .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        if let Some(user) = &self.user {
            info = info.set_username(user);
        }
        if !password.is_empty() {
            info = info.set_password(password.expose());
        }
        // Each call has its request's budget; a clock of its own would only cost.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        let connected = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = connected.map_err(|error| answer::refused(&error))?;
        Ok((connection, Box::pin(driver)))
    }
}

fn away(place: &dyn std::fmt::Display, error: &std::io::Error) -> Error {
    Error::new(Kind::Unreachable, format!("{place}: {error}"))
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// `host`, `host:port`, `[::1]`, `[::1]:port`.
fn host(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(inside) => {
            let (host, port) = inside?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => place.find(':').map_or((place, ""), |colon| place.split_at(colon)),
    };
    let port = match port {
        "" => PORT,
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    (!host.is_empty() && host.bytes().all(fits)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, Misfit> {
        Target::new(&Config { url: url.into(), ..Config::default() })
    }

    #[test]
    fn a_url_names_a_server_a_user_and_a_database() {
        for (url, place, user, password, database) in [
            ("redis://cache", "cache:6379", None, "", 0),
            ("redis://cache/", "cache:6379", None, "", 0),
            ("redis://10.0.0.7:7000/3", "10.0.0.7:7000", None, "", 3),
            ("redis://[::1]:7000", "::1:7000", None, "", 0),
            ("redis://:se%3Acret@cache", "cache:6379", None, "se:cret", 0),
            ("redis://app:s/e@c@cache/15", "cache:6379", Some("app"), "s/e@c", 15),
            ("rediss://app@cache", "cache:6379 tls", Some("app"), "", 0),
            ("redis+unix:///run/redis.sock", "/run/redis.sock", None, "", 0),
            ("redis+unix://app:x@/run/redis.sock?db=2", "/run/redis.sock", Some("app"), "x", 2),
        ] {
            let target = target(url).unwrap_or_else(|(key, what)| panic!("{url}: {key}: {what}"));
            let shown = match &target.place {
                Place::Tcp { host, port, tls: None } => format!("{host}:{port}"),
                Place::Tcp { host, port, .. } => format!("{host}:{port} tls"),
                Place::Unix(path) => path.display().to_string(),
            };
            assert_eq!((&*shown, target.user.as_deref(), target.database), (place, user, database), "{url}");
            assert_eq!(target.password.expose(), password, "{url}");
        }
    }

    #[test]
    fn a_url_that_can_be_misunderstood_is_refused_and_not_quoted() {
        for url in [
            "redis:",
            "redis:cache",
            "redis://",
            "redis:///0",
            "redis://cache:",
            "redis://cache:0",
            "redis://cache:70000",
            "redis://cache:port",
            "redis://cache/first",
            "redis://cache/-1",
            "redis://cache/+1",
            "redis://cache/1/2",
            "redis://cache?db=1",
            "redis://[cache]",
            "redis://[::1",
            "redis://ca che",
            "redis://:%ff@cache",
            "redis+unix://run/redis.sock",
            "redis+unix:///run/redis.sock?database=1",
        ] {
            let (key, what) = target(url).err().unwrap_or_else(|| panic!("{url} is none"));
            assert_eq!(key, "store.url");
            assert!(!what.contains("cache"), "{what}");
        }
    }

    #[test]
    fn a_password_is_given_once() {
        let url = "redis://:one@cache".into();
        let both = Config { url, password: Secret::new("two"), ..Config::default() };
        assert_eq!(Target::new(&both).err().map(|(key, _)| key), Some("store.password"));
    }

    #[test]
    fn what_nobody_can_listen_in_on_is_private() {
        for (url, private) in [
            ("redis://localhost", true),
            ("redis://127.0.0.1", true),
            ("redis://[::1]", true),
            ("rediss://cache", true),
            ("redis+unix:///run/redis.sock", true),
            ("redis://cache", false),
            ("redis://10.0.0.7", false),
        ] {
            assert_eq!(target(url).is_ok_and(|target| target.is_private()), private, "{url}");
        }
    }
}
