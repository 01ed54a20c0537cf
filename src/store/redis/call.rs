//! A command, what goes before and behind it on the same connection, and what its answers say.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tokio::time::timeout;

use super::answer::Said;
use crate::store::{Error, Kind};

/// A command, and how it is to be sent.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) command: &'a Cmd,
    /// It goes to a server that its slot is on the way to, and is to be answered there.
    pub(super) asking: bool,
    /// Replicas that what it writes has to reach.
    pub(super) wait: Option<Wait>,
}

/// Replicas that a write has to reach.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    /// So many, more than 0.
    pub(super) replicas: usize,
    /// Within this time; what is on the way, there and back, may take as long again.
    pub(super) patience: Duration,
}

impl Call<'_> {
    /// Sends it in one piece, so that nobody else's command comes in between, and returns the answer, be it one that
    /// the server won't; a write that too few replicas have is none, nor is one that was to wait and got no answer at all.
    ///
    /// `WAIT` speaks of what the same connection wrote before, and of nothing else. Where nothing was written its
    /// answer says nothing.
    pub(super) async fn send(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Result<Value, Error>> {
        if !self.asking && self.wait.is_none() {
            return connection.send_packed_command(self.command).await.map(Ok);
        }
        let mut pipe = redis::pipe();
        if self.asking {
            pipe.cmd("ASKING");
        }
        pipe.add_command(self.command.clone());
        if let Some(wait) = self.wait {
            let patience = wait.patience.as_millis().max(1).to_string();
            pipe.cmd("WAIT").arg(wait.replicas).arg(patience);
        }
        // The answer to ASKING says nothing that the next one doesn't.
        let before = usize::from(self.asking);
        let wanted = pipe.len() - before;
        let answers = connection.send_packed_commands(&pipe, before, wanted);
        let answers = match self.wait {
            Some(wait) => match timeout(wait.patience * 2, answers).await {
                Ok(answers) => answers?,
                Err(_) => {
                    return Ok(Err(Error::new(Kind::Broken, "Redis answers neither a write nor its WAIT")));
                }
            },
            None => answers.await?,
        };
        let mut answers = answers.into_iter();
        let (answer, waited) = (answers.next().unwrap_or(Value::Nil), answers.next().unwrap_or(Value::Nil));
        Ok(match self.wait {
            Some(wait) if is_written(&answer) => wait.reached(&waited).map(|()| answer),
            _ => Ok(answer),
        })
    }
}

impl Wait {
    /// Did it reach them?
    fn reached(self, waited: &Value) -> Result<(), Error> {
        let what = match (waited, Said::of(waited)) {
            (Value::Int(reached), _) if usize::try_from(*reached).is_ok_and(|n| n >= self.replicas) => {
                return Ok(());
            }
            (Value::Int(reached), _) => {
                format!("{reached} of {} replicas (store.wait_replicas) have it", self.replicas)
            }
            // It was written all the same.
            (_, Some(said)) => format!("Redis won't wait for replicas: {} {}", said.code, said.detail),
            _ => "Redis says nothing of its replicas".to_owned(),
        };
        Err(Error::new(Kind::Unreplicated, what))
    }
}

/// Was something written: a script's `2`, a `SET`'s `OK`?
const fn is_written(answer: &Value) -> bool {
    matches!(answer, Value::Okay | Value::Int(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_counts_when_all_replicas_that_it_is_to_reach_have_it() {
        let wait = Wait { replicas: 2, patience: Duration::from_millis(1) };
        for (waited, reached) in
            [(Value::Int(0), false), (Value::Int(1), false), (Value::Int(2), true), (Value::Int(3), true)]
        {
            assert_eq!(wait.reached(&waited).is_ok(), reached, "{waited:?}");
        }
        assert_eq!(wait.reached(&Value::Nil).map_err(|error| error.kind), Err(Kind::Unreplicated));
    }
}
