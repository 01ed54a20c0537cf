//! The first words on a connection: who we are, and which database we mean.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult, Value, cmd};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::Said;
use super::failure::Failure;
use crate::secret::Secret;
use crate::store::link::Driver;

/// Calls that may wait to be written to one connection; more wait for a place among them.
const PIPELINE: usize = 1024;

/// Who we are.
pub(super) struct Greeting<'a> {
    /// The ACL user; `None` = the default one.
    pub(super) user: Option<&'a str>,
    /// Empty = none.
    pub(super) password: Secret,
    /// The database.
    pub(super) database: u32,
}

impl Greeting<'_> {
    /// Makes ourselves known to whoever is behind a stream.
    ///
    /// The driver's own greeting is not used, because it keeps what the server says to itself.
    ///
    /// # Errors
    /// What the server says against us, or that it says nothing.
    pub(super) async fn send(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(MultiplexedConnection, Driver), Failure> {
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Each call has its request's budget; a clock of its own would only cost.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        let connected = MultiplexedConnection::new_with_config(&silent, stream, config).await;
        let (connection, driver) = connected.map_err(|error| Failure::lost(&error))?;
        let mut driver: Driver = Box::pin(driver);
        let mut words = Box::pin(self.words(connection.clone()));
        tokio::select! {
            biased;
            said = &mut words => said?,
            () = &mut driver => {
                // What it has said counts still; nothing more can be.
                words.await?;
                return Err(Failure::Lost("no reason was given".to_owned()));
            }
        }
        Ok((connection, driver))
    }

    async fn words(&self, mut to: MultiplexedConnection) -> Result<(), Failure> {
        // A user without a password is not the default user.
        if self.user.is_some() || !self.password.is_empty() {
            let mut auth = cmd("AUTH");
            auth.arg(self.user).arg(self.password.expose());
            accepted("AUTH", &answer(to.send_packed_command(&auth).await)?)?;
        } else {
            // Only to hear whether we are welcome: a server that is loading, say, will tell whoever asks for more.
            welcome(&answer(to.send_packed_command(&cmd("PING")).await)?)?;
        }
        if self.database != 0 {
            let mut select = cmd("SELECT");
            select.arg(self.database);
            accepted("SELECT", &answer(to.send_packed_command(&select).await)?)?;
        }
        let mut name = redis::pipe();
        for (what, value) in [("LIB-NAME", env!("CARGO_PKG_NAME")), ("LIB-VER", env!("CARGO_PKG_VERSION"))] {
            name.cmd("CLIENT").arg("SETINFO").arg(what).arg(value);
        }
        // For `CLIENT LIST`. Servers before version 7.2 know no such thing.
        match to.send_packed_commands(&name, 0, 2).await {
            Err(error) if error.is_io_error() => Err(Failure::lost(&error)),
            _ => Ok(()),
        }
    }
}

fn answer(answer: RedisResult<Value>) -> Result<Value, Failure> {
    answer.map_err(|error| Failure::lost(&error))
}

/// What is not OK is either an error or from somebody who is no Redis.
fn accepted(command: &'static str, answer: &Value) -> Result<(), Failure> {
    match (Said::of(answer), answer) {
        (Some(said), _) => Err(Failure::Refused(command, said)),
        (None, Value::Okay) => Ok(()),
        (None, _) => Err(Failure::Lost(format!("its answer to {command} is none of a Redis"))),
    }
}

/// These are all that a server says before it hangs up, or instead of everything else.
fn welcome(answer: &Value) -> Result<(), Failure> {
    let unwelcome = |said: &Said| {
        matches!(&*said.code, "NOAUTH" | "DENIED") || said.detail.contains("max number of clients")
    };
    match Said::of(answer).filter(unwelcome) {
        Some(said) => Err(Failure::Refused("PING", said)),
        None => Ok(()),
    }
}
