//! Which server a connection is to lead to, and whether it leads there still.

use std::fmt;
use std::sync::Arc;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
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
    Server(Arc<Server>),
    /// Whichever these call their master.
    Master(Arc<Sentinels>),
}

/// A server whose place is given. Each time that it is found to be not what it was, its target is another copy: so all
/// who have a connection know which are from before.
pub(super) struct Server(watch::Sender<Arc<Target>>);

impl Server {
    fn target(&self) -> Arc<Target> {
        Arc::clone(&self.0.borrow())
    }

    /// Whoever is reached by this copy is not what it was; nothing where that is known already.
    fn left(&self, known: &Arc<Target>) {
        self.0.send_if_modified(|target| {
            let is_news = Arc::ptr_eq(target, known);
            if is_news {
                *target = Arc::new(Target::clone(known));
            }
            is_news
        });
    }

    /// Returns when it is another copy than `known`.
    async fn moved(&self, known: Option<&Arc<Target>>) {
        let is_other = |target: &Arc<Target>| known.is_none_or(|known| !Arc::ptr_eq(known, target));
        // It has a sender for as long as it is there.
        let _ = self.0.subscribe().wait_for(is_other).await;
    }
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
            Self::Server(server) => server.target(),
            Self::Master(sentinels) => sentinels.master().await?,
        };
        let (connection, driver) = match self {
            Self::Server(_) => self.open_at(&target).await?,
            Self::Master(sentinels) => tokio::select! {
                opened = self.open_at(&target) => opened.inspect_err(|_| sentinels.doubt())?,
                // That is no doubt of what they say now.
                () = sentinels.moved(Some(&target)) => {
                    let what = format!("{} is the master no longer", target.place);
                    return Err(Error::new(Kind::Unreachable, what));
                }
            },
        };
        Ok((Connected { connection, target }, driver))
    }

    /// Without a connection: as it is known now.
    fn place(&self, connection: Option<&Connected>) -> Option<Arc<Target>> {
        match (connection, self) {
            (Some(connection), _) => Some(Arc::clone(&connection.target)),
            (None, Self::Server(server)) => Some(server.target()),
            (None, Self::Master(sentinels)) => sentinels.known(),
        }
    }

    /// Returns when others name another server, or another worker has found that it is not what it was.
    async fn moved(&self, known: &Option<Arc<Target>>) {
        match self {
            Self::Server(server) => server.moved(known.as_ref()).await,
            Self::Master(sentinels) => sentinels.moved(known.as_ref()).await,
        }
    }
}

impl Source {
    /// This server.
    pub(super) fn to(target: Arc<Target>) -> Self {
        Self::Server(Arc::new(Server(watch::Sender::new(target))))
    }

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

    /// The server that a connection leads to is not what it was: all who have one open another, or ask again where to.
    pub(super) fn left(&self, known: &Arc<Target>) {
        match self {
            Self::Server(server) => server.left(known),
            Self::Master(sentinels) => sentinels.doubt(),
        }
    }
}
