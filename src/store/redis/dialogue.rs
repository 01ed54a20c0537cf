//! A connection of somebody's own, for questions one at a time.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use tokio::time::timeout;

use super::failure::{Failure, Step};
use super::target::Target;
use crate::store::link::Driver;

/// A connection for questions one at a time; it lives as long as it is kept.
pub(super) struct Dialogue {
    connection: MultiplexedConnection,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
    patience: Duration,
}

impl Dialogue {
    /// Opens a connection; that, and each answer, may take so long.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub(super) async fn with(target: &Target, patience: Duration) -> Result<Self, Failure> {
        let opened = timeout(patience, target.connect(patience)).await;
        let (connection, driver) = opened.unwrap_or(Err(Failure::Late(Step::Greet)))?;
        Ok(Self { connection, driver: Some(driver), patience })
    }

    /// The answer to these words, be it one that the server won't.
    ///
    /// # Errors
    /// That there is none.
    pub(super) async fn ask(&mut self, words: &[&str]) -> Result<Value, Failure> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let ended = || Failure::Lost("it has hung up".to_owned());
        let driver = self.driver.as_mut().ok_or_else(ended)?;
        let answer = async {
            let mut answer = Box::pin(self.connection.send_packed_command(&command));
            tokio::select! {
                biased;
                answer = &mut answer => (answer, false),
                () = driver => (answer.await, true),
            }
        };
        let (answer, over): (RedisResult<Value>, bool) =
            timeout(self.patience, answer).await.map_err(|_| Failure::Late(Step::Greet))?;
        if over {
            self.driver = None;
        }
        answer.map_err(|error| Failure::lost(&error))
    }
}
