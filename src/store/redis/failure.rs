//! Why there is no connection.

use std::io;

use super::answer::{self, Said};
use super::target::Misfit;
use crate::store::{Error, Kind};

/// Why there is no connection. Nothing of anybody's was sent.
pub(super) enum Failure {
    /// A file of the settings can't be used.
    File(Misfit),
    /// Nobody knows the host by its name.
    Name(io::Error),
    /// There is nobody, or nobody can get there.
    Away(io::Error),
    /// The server and we don't agree on TLS.
    Tls(io::Error),
    /// It hung up while we made ourselves known, or is no Redis.
    Lost(String),
    /// It doesn't want us: what it said, to which command.
    Refused(&'static str, Said),
    /// A step took too long.
    Late(Step),
}

/// A step on the way to a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Looking up the name, and connecting.
    Reach,
    /// TLS.
    Shake,
    /// Making ourselves known.
    Greet,
}

impl Failure {
    /// A connection that was lost, or an answer that is none.
    pub(super) fn lost(error: &redis::RedisError) -> Self {
        Self::Lost(answer::lost(error))
    }

    /// The same for whoever wanted to ask the server at `place`.
    pub(super) fn at(self, place: &dyn std::fmt::Display) -> Error {
        let what = match self {
            Self::Refused(_, said) => return said.into(),
            Self::File((key, what)) => format!("{key}: {what}"),
            Self::Name(error) | Self::Away(error) => error.to_string(),
            Self::Tls(error) => format!("TLS: {error}"),
            Self::Lost(what) => format!("it hung up at once: {what}"),
            Self::Late(Step::Reach) => "it could not be reached in time".to_owned(),
            Self::Late(Step::Shake) => "TLS did not come about in time".to_owned(),
            Self::Late(Step::Greet) => "it was reached, but did not answer in time".to_owned(),
        };
        Error::new(Kind::Unreachable, format!("{place}: {what}"))
    }
}
