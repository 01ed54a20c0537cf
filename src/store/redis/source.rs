//! Which server a connection is to lead to, and whether it leads there still.

use std::fmt;
use std::future::pending;
use std::sync::Arc;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use super::failure::{Failure, Step};
use super::script;
use super::sentinel::{Sentinels, is_master};
use super::target::Target;
use crate::store::link::{ATTEMPT, Driver, Open};
use crate::store::{Error, Kind};

/// Which server a connection is to lead to.
#[derive(Clone)]
pub(super) enum Source {
    /// This one.
    Server(Arc<Target>),
    /// Whichever these call their master.
    Master(Arc<Sentinels>),
}

/// A connection, and where it leads.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    pub(super) target: Arc<Target>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis")
    }
}

impl Open for Source {
    type Connection = Connected;
    type Place = Option<Arc<Target>>;

    /// Opens a connection, makes sure that it leads to a master where others have said so, and sees to it that its
    /// server knows our scripts.
    ///
    /// # Errors
    /// Why there is none.
    async fn open(&self) -> Result<(Connected, Driver), Error> {
        let target = match self {
            Self::Server(target) => Arc::clone(target),
            Self::Master(sentinels) => sentinels.master().await?,
        };
        let place = Some(Arc::clone(&target));
        let (connection, driver) = tokio::select! {
            opened = self.open_at(&target) => opened.inspect_err(|_| self.doubt())?,
            // That is no doubt of what they say now.
            () = self.moved(&place) => {
                let what = format!("{} is the master no longer", target.place);
                return Err(Error::new(Kind::Unreachable, what));
            }
        };
        Ok((Connected { connection, target }, driver))
    }

    /// Without a connection: the server that others have named last, where they are asked.
    fn place(&self, connection: Option<&Connected>) -> Option<Arc<Target>> {
        match (connection, self) {
            (Some(connection), _) => Some(Arc::clone(&connection.target)),
            (None, Self::Server(_)) => None,
            (None, Self::Master(sentinels)) => sentinels.known(),
        }
    }

    /// Returns when others name another server.
    async fn moved(&self, known: &Option<Arc<Target>>) {
        match self {
            Self::Server(_) => pending().await,
            Self::Master(sentinels) => sentinels.moved(known.as_ref()).await,
        }
    }
}

impl Source {
    async fn open_at(&self, target: &Target) -> Result<(MultiplexedConnection, Driver), Error> {
        let failed = |failure: Failure| failure.at(&target.place);
        let connected = timeout(ATTEMPT, target.connect(ATTEMPT)).await;
        let (mut connection, mut driver) =
            connected.unwrap_or(Err(Failure::Late(Step::Greet))).map_err(failed)?;
        let watched = matches!(self, Self::Master(_));
        let mut first = redis::pipe();
        for script in script::ALL {
            first.cmd("SCRIPT").arg("LOAD").arg(script.text);
        }
        if watched {
            first.cmd("ROLE");
        }
        let answers = first.len();
        let told = timeout(ATTEMPT, connection.send_packed_commands(&first, 0, answers));
        let told = tokio::select! {
            biased;
            told = told => told,
            () = &mut driver => return Err(failed(Failure::Lost("no reason was given".to_owned()))),
        };
        // A server that refuses the scripts refuses their calls too, and says why then.
        if watched {
            let late = |_| failed(Failure::Late(Step::Greet));
            let answers = told.map_err(late)?.map_err(|error| failed(Failure::lost(&error)))?;
            let role = answers.last().unwrap_or(&Value::Nil);
            is_master(&target.place, role)?;
        }
        Ok((connection, driver))
    }

    /// A connection did not come about, or its server is not what it was.
    pub(super) fn doubt(&self) {
        if let Self::Master(sentinels) = self {
            sentinels.doubt();
        }
    }
}
