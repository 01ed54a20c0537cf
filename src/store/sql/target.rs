//! Which server, as whom, and how: `store.url` and the settings beside it.
//!
//! ```text
//! postgres://user[:password]@host[:port]/database[?sslmode=…]
//! postgres://user[:password]@/database?host=/folder/of/the/socket[&port=…]
//! mysql://user[:password]@host[:port]/database[?ssl-mode=…]
//! mysql://user[:password]@/database?socket=/path/of/the/socket
//! ```

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::Misfit;
use super::tls::{Mode, Tls};
use crate::secret::Secret;
use crate::store::Config;

/// How the URLs of a database are written.
pub(super) struct Form {
    /// Where it listens if nobody says otherwise.
    pub(super) port: u16,
    /// The part of the query that names a Unix socket.
    pub(super) socket: &'static str,
    /// It names a folder, where sockets are named after ports: `port` may stand beside it.
    pub(super) socket_has_port: bool,
    /// What a URL looks like, for whoever wrote another one.
    pub(super) example: &'static str,
}

/// A server, and how to get there.
pub(super) struct Target {
    /// Where it is.
    pub(super) place: Place,
    /// As whom we come.
    pub(super) user: String,
    /// The database that we mean.
    pub(super) database: String,
    /// `None` = in the clear.
    pub(super) tls: Option<Tls>,
    /// The setting that the password is in; the one that it could be in, where there is none.
    pub(super) password_setting: &'static str,
    password: Secret,
    password_file: String,
}

/// Where a server is.
pub(super) enum Place {
    /// On the network: its name, or its address without brackets.
    Tcp { host: String, port: u16 },
    /// On this machine: the socket, or its folder and the port that it is named after.
    Unix { path: PathBuf, port: u16 },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl Place {
    /// Is the way there one that nobody can listen in on, be it in the clear?
    fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        }
    }
}

impl Target {
    /// Reads the settings. No file is read and no server asked.
    ///
    /// # Errors
    /// The first setting that can't be obeyed. What it holds is not quoted: a password may stand in it.
    pub(super) fn new(config: &Config, form: &Form) -> Result<Self, Misfit> {
        let url = |what: &str| ("store.url", format!("{what}: write {}", form.example));
        let (_, rest) =
            config.url.expose().split_once("://").ok_or_else(|| url("has no // behind its scheme"))?;
        // A password may hold @, / and ?, a host may not.
        let (login, rest) = match rest.rfind('@') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => ("", rest),
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (Some(user), Some(password)) = (decoded(user), decoded(password)) else {
            return Err(url("has a user or password that is no UTF-8"));
        };
        if user.is_empty() {
            return Err(url("names no user"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = decoded(database).filter(|name| !name.is_empty() && !name.contains(['/', '\0']));
        let database = database.ok_or_else(|| url("names no database"))?;
        let (mut socket, mut mode, mut port) = (None, None, None);
        for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).map(pair) {
            match name {
                "sslmode" | "ssl-mode" => {
                    mode = Some(Mode::parse(value).map_err(|what| ("store.url", what))?)
                }
                _ if name == form.socket => {
                    let path = decoded(value).filter(|path| path.starts_with('/'));
                    socket = Some(path.ok_or_else(|| url("has a socket without a path"))?);
                }
                "port" if form.socket_has_port => {
                    port = Some(value.parse().map_err(|_| url("has a port that is no number"))?);
                }
                _ => return Err(url("has a query that is not known")),
            }
        }
        let place = match socket {
            Some(path) if host.is_empty() => {
                Place::Unix { path: PathBuf::from(path), port: port.unwrap_or(form.port) }
            }
            Some(_) => return Err(url("names a host and a socket")),
            None if port.is_some() => return Err(url("has a port in its query, and no socket")),
            None => {
                let (host, port) =
                    tcp(host, form.port).ok_or_else(|| url("has no host and port that can be understood"))?;
                Place::Tcp { host, port }
            }
        };
        let mode = mode.unwrap_or(if place.is_local() { Mode::Off } else { Mode::Full });
        if matches!(place, Place::Unix { .. }) && mode != Mode::Off {
            return Err(("store.url", "asks for TLS on a Unix socket: remove sslmode".to_owned()));
        }
        let tls = Tls::new(config, mode)?;
        let beside = !config.password.is_empty() || !config.password_file.is_empty();
        if beside && !password.is_empty() {
            return Err(("store.password", "store.url has one too: remove one of them".to_owned()));
        }
        let password_setting = match (password.is_empty(), config.password_file.is_empty()) {
            (false, _) => "store.url",
            (true, false) => "store.password_file",
            (true, true) => "store.password",
        };
        let password = if password.is_empty() { config.password.clone() } else { Secret::new(password) };
        let password_file = config.password_file.clone();
        Ok(Self { place, user, database, tls, password_setting, password, password_file })
    }

    /// Why somebody could listen in on the way there, or pose as the server.
    pub(super) fn exposure(&self) -> Option<Exposure> {
        match &self.tls {
            _ if self.place.is_local() => None,
            None => Some(Exposure::Clear),
            Some(tls) if tls.mode == Mode::Unverified => Some(Exposure::Unverified),
            Some(_) => None,
        }
    }

    /// The password of today; empty = none.
    ///
    /// # Errors
    /// If its file can't be read.
    pub(super) fn password(&self) -> Result<Secret, Misfit> {
        Secret::of(&self.password, &self.password_file).map_err(|what| ("store.password_file", what))
    }
}

/// What could happen on the way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Everything is in the clear.
    Clear,
    /// It is encrypted, for whoever it may be.
    Unverified,
}

fn pair(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// `host`, `host:port`, `[::1]`, `[::1]:port`.
fn tcp(place: &str, port: u16) -> Option<(String, u16)> {
    let (host, behind) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(inside) => {
            let (host, behind) = inside?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, behind)
        }
        None => place.find(':').map_or((place, ""), |colon| place.split_at(colon)),
    };
    let port = match behind {
        "" => port,
        behind => behind.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    (!host.is_empty() && host.bytes().all(fits)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form =
        Form { port: 5432, socket: "host", socket_has_port: true, example: "postgres://user@host/database" };

    fn target(url: &str) -> Result<Target, Misfit> {
        Target::new(&Config { url: url.into(), ..Config::default() }, &FORM)
    }

    #[test]
    fn a_url_names_a_server_a_user_and_a_database() {
        for (url, place, user, password, database, mode) in [
            ("postgres://app@db/app", "db:5432", "app", "", "app", Some(Mode::Full)),
            ("postgres://app@127.0.0.1:6000/app", "127.0.0.1:6000", "app", "", "app", None),
            ("postgres://app:s%3A/e@c?t@[::1]/a%20b", "[::1]:5432", "app", "s:/e@c?t", "a b", None),
            ("postgres://app@db/app?sslmode=disable", "db:5432", "app", "", "app", None),
            ("postgres://app@db/app?sslmode=require", "db:5432", "app", "", "app", Some(Mode::Unverified)),
            (
                "postgres://app@localhost/app?ssl-mode=VERIFY_IDENTITY",
                "localhost:5432",
                "app",
                "",
                "app",
                Some(Mode::Full),
            ),
            ("postgres://app@/app?host=/run/postgresql", "/run/postgresql", "app", "", "app", None),
        ] {
            let target = target(url).unwrap_or_else(|(key, what)| panic!("{url}: {key}: {what}"));
            assert_eq!(
                (&*target.place.to_string(), &*target.user, &*target.database),
                (place, user, database)
            );
            assert_eq!(target.password.expose(), password, "{url}");
            assert_eq!(target.tls.map(|tls| tls.mode), mode, "{url}");
        }
    }

    #[test]
    fn a_url_that_can_be_misunderstood_is_refused_and_not_quoted() {
        for url in [
            "postgres:",
            "postgres:db",
            "postgres://db/app",
            "postgres://app@db",
            "postgres://app@db/",
            "postgres://app@db/a/b",
            "postgres://app@/app",
            "postgres://app@db:0/app",
            "postgres://app@d b/app",
            "postgres://app@db/app?sslmode=prefer",
            "postgres://app@db/app?sslmode=",
            "postgres://app@db/app?sslmode=verify-ca",
            "postgres://app@db/app?connect_timeout=1",
            "postgres://app@db/app?host=/run",
            "postgres://app@/app?host=run",
            "postgres://app@/app?host=/run&port=x",
            "postgres://app@db/app?port=5433",
            "postgres://app@/app?host=/run&sslmode=require",
            "postgres://:%ff@db/app",
        ] {
            let (key, what) = target(url).err().unwrap_or_else(|| panic!("{url} is none"));
            assert_eq!(key, "store.url", "{url}");
            assert!(!what.contains("@db:0") && !what.contains("%ff"), "{what}");
        }
    }

    #[test]
    fn a_password_is_given_once() {
        let url = "postgres://app:one@db/app".into();
        let both = Config { url, password: Secret::new("two"), ..Config::default() };
        assert_eq!(Target::new(&both, &FORM).err().map(|(key, _)| key), Some("store.password"));
    }

    #[test]
    fn what_somebody_could_do_on_the_way_is_known() {
        for (url, exposure) in [
            ("postgres://app@db/app", None),
            ("postgres://app@localhost/app", None),
            ("postgres://app@/app?host=/run", None),
            ("postgres://app@db/app?sslmode=disable", Some(Exposure::Clear)),
            ("postgres://app@db/app?sslmode=require", Some(Exposure::Unverified)),
        ] {
            assert_eq!(target(url).map(|target| target.exposure()), Ok(exposure), "{url}");
        }
    }
}
