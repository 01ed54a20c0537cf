//! Where a key lies, and what is said about it there.

use std::time::Duration;

use super::answer::Answer;
use super::connection::{Command, Connection, Lost};
use super::item;
use super::server::Server;
use crate::session::Key;
use crate::store::engine::Stored;
use crate::store::link::{Line, Link};
use crate::store::{Error, Kind};

/// Where a key lies.
pub(super) struct Place<'a> {
    /// The number of the server that has it.
    pub(super) n: usize,
    /// What memcached calls the key.
    pub(super) name: String,
    /// That server.
    pub(super) server: &'a Server,
    /// Our connection there.
    pub(super) link: &'a Link<Server>,
    /// How long a silence speaks against a connection.
    pub(super) silence: Duration,
}

/// What lies under a key, and its number.
pub(super) struct There {
    pub(super) cas: u64,
    pub(super) stored: Stored,
}

impl Place<'_> {
    /// A command for this key that stores nothing.
    pub(super) fn command(&self, code: &str, flags: &str) -> Command {
        Command { line: format!("{code} {} {flags}", self.name), value: None }
    }

    /// Sends a call on this connection and no other.
    pub(super) async fn call(&self, line: &Line<Connection>, command: Command) -> Result<Answer, Lost> {
        let waiting = line.health.call(self.silence);
        let answer = line.connection.call(command).await;
        waiting.answered();
        if matches!(answer, Err(Lost::Unsent)) {
            // Its keeper may not know yet.
            line.health.give_up();
        }
        answer
    }

    /// Reads what lies there, and says by which connection.
    pub(super) async fn fetch(&self, key: &Key) -> Result<(Line<Connection>, Option<There>), Error> {
        let mut again = true;
        loop {
            let line = self.link.line().await?;
            let answer = match self.call(&line, self.command("mg", "c v")).await {
                // Reading twice harms nobody, and the connection may have been lost for reasons of its own.
                Err(_) if again => {
                    again = false;
                    continue;
                }
                answer => self.told(answer)?,
            };
            let there = match answer {
                Answer::Missing => {
                    line.connection.numbers().forget(key);
                    None
                }
                // What has no number can be guarded by none.
                Answer::Value { cas: 0, .. } => return Err(self.odd(&line)),
                Answer::Value { cas, value } => {
                    let stored = item::read(&value).ok_or_else(|| self.corrupt(key))?;
                    line.connection.numbers().learn(key, stored.revision, cas);
                    Some(There { cas, stored })
                }
                _ => return Err(self.odd(&line)),
            };
            return Ok((line, there));
        }
    }

    /// An answer that is no error.
    pub(super) fn told(&self, answer: Result<Answer, Lost>) -> Result<Answer, Error> {
        match answer {
            Ok(Answer::Said(said)) => Err(said.at(self.server)),
            Ok(answer) => Ok(answer),
            Err(Lost::Unsent) => Err(self.unsent()),
            Err(Lost::Midway(why)) => {
                Err(Error::new(Kind::Broken, format!("the connection to {} was lost: {why}", self.server)))
            }
        }
    }

    pub(super) fn unsent(&self) -> Error {
        let what = format!("{}: the connection was lost before anything was sent", self.server);
        Error::new(Kind::Unreachable, what)
    }

    /// An answer that is none to this question: there will be no other one on this connection.
    pub(super) fn odd(&self, line: &Line<Connection>) -> Error {
        line.health.give_up();
        let what = "answered as no memcached with CAS should (coatroom check-config --connect may say more)";
        Error::new(Kind::Broken, format!("{} {what}", self.server))
    }

    fn corrupt(&self, key: &Key) -> Error {
        let what = format!("what {} keeps for {key} is too short to be a record", self.server);
        Error::new(Kind::Corrupt, what)
    }
}
