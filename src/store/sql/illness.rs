//! What went wrong between a database and us, and which illness that is.

use std::io;

use super::database::{Database, Diagnosis, Failure, Lack};
use super::table::Table;
use crate::store::{Error, Kind};

/// A call that failed.
pub(super) struct Illness {
    pub(super) error: Error,
    /// It may be tried again: nothing was done.
    pub(super) again: bool,
    /// The connection can't be used any longer.
    pub(super) lost: bool,
}

impl Illness {
    /// Of a call on an open connection.
    pub(super) fn of<D: Database>(database: &D, error: &sqlx::Error) -> Self {
        let Diagnosis { kind, again, lost } = diagnose::<D>(error);
        let what = said::<D>(database.table(), error);
        Self { error: Error::new(kind, format!("{}: {what}", database.place())), again, lost }
    }

    /// Of a connection that was not opened: nothing of anybody's was sent.
    pub(super) fn unopened<D: Database>(database: &D, failure: &Failure) -> Error {
        match failure {
            Failure::Setting((key, what)) => Error::new(Kind::Unreachable, format!("{key}: {what}")),
            Failure::Driver(error) => {
                let kind = match diagnose::<D>(error).kind {
                    Kind::Broken => Kind::Unreachable,
                    kind => kind,
                };
                let what = said::<D>(database.table(), error);
                Error::new(kind, format!("{}: {what}", database.place()))
            }
        }
    }
}

/// Nobody answered in time.
pub(super) fn late(place: &str) -> sqlx::Error {
    let what = format!("{place} did not answer in time");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, what))
}

fn diagnose<D: Database>(error: &sqlx::Error) -> Diagnosis {
    match error {
        sqlx::Error::Database(error) => D::diagnose(&**error),
        // A column of another type, and not a connection that is lost.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            Diagnosis::of(Kind::Corrupt)
        }
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => Diagnosis::lost(Kind::Unreachable),
        _ => Diagnosis::lost(Kind::Broken),
    }
}

/// The error in the words of who made it. What it quotes is never data.
fn said<D: Database>(table: &Table, error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            match D::lack(&**error) {
                Some(lack) => lacking(table, lack),
                None => format!("{} ({code})", unquoted(error.message())),
            }
        }
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => format!("TLS: {error}"),
        sqlx::Error::WorkerCrashed => "the thread of the connection has ended".to_owned(),
        other => other.to_string(),
    }
}

/// What is told of a table that won't do.
pub(super) fn lacking(table: &Table, lack: Lack) -> String {
    match lack {
        Lack::Table => format!("there is no table {table}: run `coatroom migrate`"),
        Lack::Column => {
            format!("the table {table} lacks a column: `coatroom check-config --connect` says which")
        }
    }
}

/// MySQL quotes what it can't store.
fn unquoted(message: &str) -> &str {
    const QUOTING: [&str; 4] =
        ["Incorrect string value", "Data too long", "Duplicate entry", "Incorrect datetime"];
    QUOTING.into_iter().find(|what| message.starts_with(what)).unwrap_or(message)
}
