//! One of the servers: how a connection to it is opened, and what it says of itself then.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{Said, take_line};
use super::connection::Connection;
use crate::store::host::{Host, Unreached};
use crate::store::link::{ATTEMPT, Driver, Open};
use crate::store::{Error, Kind};

/// Bytes of an item at most where nobody says otherwise.
const LARGEST: usize = 1024 * 1024;
/// The oldest version that is known to do.
const OLDEST: [u32; 3] = [1, 6, 12];
/// The first words on a connection. Each setting that we go by is asked of each connection: a server that was started
/// again may have others.
const GREETING: &[u8] = b"version\r\nmn\r\nstats settings\r\n";

/// A server.
pub(super) struct Server(pub(super) Host);

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memcached {}", self.0)
    }
}

/// Why there is no connection. Nothing of anybody's was sent.
pub(super) enum Failure {
    /// Nobody knows the host by its name.
    Name(io::Error),
    /// There is nobody, or nobody can get there.
    Away(io::Error),
    /// It could not be reached in time.
    Late,
    /// It was reached, and did not answer in time.
    Silent,
    /// It hung up while it was greeted: why.
    Lost(String),
    /// It doesn't want us.
    Refused(Said),
    /// What it answers is none of a memcached's answers.
    Stranger,
    /// It is older than what we speak: its version.
    Old(String),
    /// It gives out no CAS numbers (`-C`).
    NoCas,
}

impl Failure {
    /// The same for whoever wanted to ask the server.
    fn at(self, server: &Server) -> Error {
        let what = match self {
            Self::Refused(said) => return Error { kind: refusal(&said), ..said.at(server) },
            Self::Name(error) | Self::Away(error) => error.to_string(),
            Self::Late => "it could not be reached in time".to_owned(),
            Self::Silent => "it was reached, but did not answer in time".to_owned(),
            Self::Lost(what) => format!("it hung up at once: {what}"),
            Self::Stranger => "what came can't be read".to_owned(),
            Self::Old(version) => {
                return Error::new(
                    Kind::Refused,
                    format!("{server} is version {version}: take 1.6.12 or newer"),
                );
            }
            Self::NoCas => {
                let what = "gives out no CAS numbers (-C): no change could be guarded";
                return Error::new(Kind::Refused, format!("{server} {what}"));
            }
        };
        Error::new(Kind::Unreachable, format!("{}: {what}", server.0))
    }
}

/// Whatever it says instead of a greeting, nothing was done.
fn refusal(said: &Said) -> Kind {
    Some(said.kind()).filter(|kind| kind.nothing_happened()).unwrap_or(Kind::Refused)
}

/// What a server says of itself.
#[derive(Default)]
pub(super) struct Facts {
    /// How it was started; empty where it doesn't say.
    pub(super) settings: BTreeMap<String, String>,
}

impl Facts {
    /// Bytes of an item at most.
    pub(super) fn largest(&self) -> usize {
        self.settings.get("item_size_max").and_then(|bytes| bytes.parse().ok()).unwrap_or(LARGEST)
    }
}

impl Server {
    /// Connects and hears what the server is.
    ///
    /// # Errors
    /// Why that can't be.
    pub(super) async fn greet(&self) -> Result<(Stream, Facts), Failure> {
        let stream = timeout(ATTEMPT, self.0.reach()).await.map_err(|_| Failure::Late)?;
        let stream = stream.map_err(|unreached| match unreached {
            Unreached::Name(error) => Failure::Name(error),
            Unreached::Away(error) => Failure::Away(error),
        })?;
        let mut stream = Stream { stream, buffer: BytesMut::new() };
        let facts = timeout(ATTEMPT, stream.greet()).await.unwrap_or(Err(Failure::Silent))?;
        Ok((stream, facts))
    }
}

/// Is it older than what we speak? Whoever builds one may write more behind each number (`1.6.21-5-gabc`).
fn is_old(version: &str) -> bool {
    let number = |part: &str| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    };
    let numbers: Vec<u32> = version.split('.').map_while(number).collect();
    !numbers.is_empty() && numbers[..] < OLDEST[..]
}

impl Open for Server {
    type Connection = Connection;
    type Place = ();

    async fn open(&self) -> Result<(Connection, Driver), Error> {
        let (stream, facts) = self.greet().await.map_err(|failure| failure.at(self))?;
        Ok(Connection::over(stream.stream, facts.largest()))
    }

    fn place(&self, _: Option<&Connection>) {}
}

/// A connection for questions one at a time.
pub(super) struct Stream {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Stream {
    async fn greet(&mut self) -> Result<Facts, Failure> {
        // Whoever doesn't want us says so before it listens, and may be gone by the time that we speak.
        let sent = self.stream.write_all(GREETING).await;
        let line = self.line().await?;
        sent.map_err(|error| Failure::Lost(error.to_string()))?;
        let version = line.strip_prefix("VERSION ").ok_or(Failure::Stranger)?.to_owned();
        if is_old(&version) {
            return Err(Failure::Old(version));
        }
        if self.line().await? != "MN" {
            return Err(Failure::Stranger);
        }
        let settings = self.statistics().await?;
        if settings.get("cas_enabled").is_some_and(|enabled| enabled == "no") {
            return Err(Failure::NoCas);
        }
        Ok(Facts { settings })
    }

    /// Asks for what `stats` says.
    ///
    /// # Errors
    /// If the connection was lost.
    pub(super) async fn stats(&mut self) -> Result<BTreeMap<String, String>, Failure> {
        self.stream.write_all(b"stats\r\n").await.map_err(|error| Failure::Lost(error.to_string()))?;
        self.statistics().await
    }

    /// Reads lines of `STAT name value` up to `END`. Who has none of them, a proxy say, answers with an error.
    async fn statistics(&mut self) -> Result<BTreeMap<String, String>, Failure> {
        let mut all = BTreeMap::new();
        loop {
            let line = match self.line().await {
                Err(Failure::Refused(_)) => return Ok(all),
                line => line?,
            };
            match line.split_once(' ') {
                None if line == "END" => return Ok(all),
                Some(("STAT", rest)) => {
                    let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                    all.insert(name.to_owned(), value.to_owned());
                }
                _ => return Err(Failure::Stranger),
            }
        }
    }

    /// The next line, if it is no error.
    async fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(line) = take_line(&mut self.buffer).map_err(|_| Failure::Stranger)? {
                let text = String::from_utf8_lossy(&line).into_owned();
                return Said::of(&line).map_or(Ok(text), |said| Err(Failure::Refused(said)));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Failure::Lost("no reason was given".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(Failure::Lost(error.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_whatever_its_builder_wrote_behind_it() {
        for (version, old) in [
            ("1.6.12", false),
            ("1.6.21-5-gabc", false),
            ("1.6.18_x", false),
            ("1.10.0", false),
            ("2", false),
            ("unknown", false),
            ("1.6.9", true),
            ("1.6.9-13-gabc", true),
            ("1.6.x", true),
            ("1.5.22", true),
        ] {
            assert_eq!(is_old(version), old, "{version}");
        }
    }
}
