//! A server, and how to get there. Which one it is is for `goal.rs` to say, or for those whom it names.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::failure::{Failure, Step};
use super::greeting::Greeting;
use super::tls::Tls;
use crate::secret::Secret;
use crate::store::host::{Host, Unreached};
use crate::store::link::Driver;

/// Why a setting can't be obeyed: the setting, and what is wrong with it and what to do.
pub type Misfit = (&'static str, String);

/// A server, and how to get there.
#[derive(Clone)]
pub(super) struct Target {
    /// Where it is.
    pub(super) place: Place,
    /// As whom we come; `None` = the server's default user.
    pub(super) user: Option<String>,
    /// The database that we mean.
    pub(super) database: u32,
    /// What we have to be allowed there besides what every server is asked for.
    pub(super) more: Vec<&'static str>,
    pub(super) password: Password,
}

/// A password, and the settings that it comes from.
#[derive(Clone)]
pub(super) struct Password {
    /// The setting that it is in; the one that it could be in, where there is none.
    pub(super) setting: &'static str,
    /// The setting that names a file with it.
    pub(super) file_setting: &'static str,
    pub(super) text: Secret,
    pub(super) file: String,
}

impl Password {
    /// Is there one, or may one be in a file?
    pub(super) fn is_set(&self) -> bool {
        !self.text.is_empty() || !self.file.is_empty()
    }
}

/// Where a server is.
#[derive(Clone)]
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
    /// The same at another place on the network.
    pub(super) fn at(&self, host: &str, port: u16) -> Self {
        let tls = match &self.place {
            Place::Tcp { tls, .. } => tls.clone(),
            Place::Unix(_) => None,
        };
        Self { place: Place::Tcp { host: host.to_owned(), port, tls }, ..self.clone() }
    }

    /// Is it at this place on the network?
    pub(super) fn is_at(&self, other_host: &str, other_port: u16) -> bool {
        matches!(&self.place, Place::Tcp { host, port, .. } if host == other_host && *port == other_port)
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

    /// Opens a connection and makes ourselves known. Password and certificates are read each time, so that what was
    /// renewed counts from the next connection on. `patience` is what each step of that may take.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub(super) async fn connect(
        &self,
        patience: Duration,
    ) -> Result<(MultiplexedConnection, Driver), Failure> {
        let Password { text, file, file_setting, .. } = &self.password;
        let password = Secret::of(text, file).map_err(|what| Failure::File((*file_setting, what)))?;
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
    let host = Host { name: host.to_owned(), port };
    host.reach().await.map_err(|unreached| match unreached {
        Unreached::Name(error) => Failure::Name(error),
        Unreached::Away(error) => Failure::Away(error),
    })
}

/// A step that may not take longer than that.
async fn within<T>(
    patience: Duration,
    step: Step,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(patience, work).await.unwrap_or(Err(Failure::Late(step)))
}
