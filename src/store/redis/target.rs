//! Which server, as whom, and how: `store.url` and the settings beside it.
//!
//! ```text
//! redis://[user[:password]@]host[:port][/database]
//! rediss://…                                          the same over TLS
//! redis+unix://[user[:password]@]/path/to/socket[?db=database]
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use redis::aio::MultiplexedConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::failure::{Failure, Step};
use super::greeting::Greeting;
use super::tls::Tls;
use crate::secret::Secret;
use crate::store::Config;

/// Where Redis listens if nobody says otherwise.
const PORT: u16 = 6379;
/// After how long a silence the kernel asks whether the server is there still.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Why a setting can't be obeyed: the setting, and what is wrong with it and what to do.
pub type Misfit = (&'static str, String);

/// What drives a connection: it ends when the connection does.
pub(super) type Driver = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server, and how to get there.
pub(super) struct Target {
    /// Where it is.
    pub(super) place: Place,
    /// As whom we come; `None` = the server's default user.
    pub(super) user: Option<String>,
    /// The database that we mean.
    pub(super) database: u32,
    /// The setting that the password is in; the one that it could be in, where there is none.
    pub(super) password_setting: &'static str,
    password: Secret,
    password_file: String,
}

/// Where a server is.
pub(super) enum Place {
    /// On the network.
    Tcp {
        /// Its name, or its address without brackets.
        host: String,
        port: u16,
        /// `None` = in the clear.
        tls: Option<Tls>,
    },
    /// On this machine.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
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
        // A password may hold @, / and ?, a host may not.
        let (login, rest) = match rest.rfind('@') {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
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
        let password_setting = match (password.is_empty(), config.password_file.is_empty()) {
            (false, _) => "store.url",
            (true, false) => "store.password_file",
            (true, true) => "store.password",
        };
        let password = if password.is_empty() { config.password.clone() } else { Secret::new(password) };
        let user = Some(user).filter(|user| !user.is_empty());
        let password_file = config.password_file.clone();
        Ok(Self { place, user, database, password_setting, password, password_file })
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

    /// Reads the files of TLS as a connection would.
    ///
    /// # Errors
    /// The first one that can't be used, and why.
    pub(super) fn check(&self) -> Result<(), Misfit> {
        match &self.place {
            Place::Tcp { tls: Some(tls), .. } => tls.config().map(drop),
            _ => Ok(()),
        }
    }

    /// Has a password, or may have one in a file?
    pub(super) fn has_password(&self) -> bool {
        !self.password.is_empty() || !self.password_file.is_empty()
    }

    /// Opens a connection and makes ourselves known. `patience` is what each step of that may take.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub(super) async fn connect(
        &self,
        patience: Duration,
    ) -> Result<(MultiplexedConnection, Driver), Failure> {
        let password = Secret::of(&self.password, &self.password_file)
            .map_err(|what| Failure::File(("store.password_file", what)))?;
        let greeting = Greeting { user: self.user.as_deref(), password, database: self.database };
        let shake =
            async |tls: &Tls, host, stream| within(patience, Step::Shake, tls.connect(host, stream)).await;
        match &self.place {
            Place::Unix(path) => {
                let reach = async { UnixStream::connect(path).await.map_err(Failure::Away) };
                let stream = within(patience, Step::Reach, reach).await?;
                within(patience, Step::Greet, greeting.send(stream)).await
            }
            Place::Tcp { host, port, tls } => {
                let stream = within(patience, Step::Reach, reach(host, *port)).await?;
                match tls {
                    None => within(patience, Step::Greet, greeting.send(stream)).await,
                    Some(tls) => {
                        let stream = shake(tls, host, stream).await?;
                        within(patience, Step::Greet, greeting.send(stream)).await
                    }
                }
            }
        }
    }
}

/// A connection to a host, no word said.
///
/// # Errors
/// [`Failure::Name`] and [`Failure::Away`].
pub(super) async fn reach(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(Failure::Name)?.collect();
    let stream = TcpStream::connect(&addresses[..]).await.map_err(Failure::Away)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    let set = |stream: &TcpStream| -> io::Result<()> {
        stream.set_nodelay(true)?;
        SockRef::from(stream).set_tcp_keepalive(&keepalive)
    };
    set(&stream).map_err(Failure::Away)?;
    Ok(stream)
}

/// A step that may not take longer than that.
async fn within<T>(
    patience: Duration,
    step: Step,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(patience, work).await.unwrap_or(Err(Failure::Late(step)))
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
            ("redis://[::1]:7000", "[::1]:7000", None, "", 0),
            ("redis://:se%3Acret@cache", "cache:6379", None, "se:cret", 0),
            ("redis://app:s/e@c?t@cache/15", "cache:6379", Some("app"), "s/e@c?t", 15),
            ("rediss://app@cache", "cache:6379 tls", Some("app"), "", 0),
            ("redis+unix:///run/redis.sock", "/run/redis.sock", None, "", 0),
            ("redis+unix://app:x@/run/redis.sock?db=2", "/run/redis.sock", Some("app"), "x", 2),
        ] {
            let target = target(url).unwrap_or_else(|(key, what)| panic!("{url}: {key}: {what}"));
            let tls = matches!(&target.place, Place::Tcp { tls: Some(_), .. });
            let shown = format!("{}{}", target.place, if tls { " tls" } else { "" });
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
            "redis://cache/99999999999",
            "redis://cache#0",
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
