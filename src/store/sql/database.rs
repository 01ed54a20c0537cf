//! What a database must be able to do, and what it does in its own way.

use std::future::Future;
use std::time::Duration;

use sqlx::error::DatabaseError;

use super::table::{Manner, Statement, Statements, Table};
use super::{Misfit, statement_timeout};
use crate::store::engine::{Cleared, Swap};
use crate::store::{Config, Kind};
use crate::time::Timestamp;

/// A value that goes into a statement.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Time(Timestamp),
}

/// What a statement finds under a key: `session_data`, `revision`, `expire_date`.
pub struct Row {
    /// As it stands there.
    pub data: Vec<u8>,
    /// `None` in a row that is not ours.
    pub revision: Option<i64>,
    /// `None` if it is no instant.
    pub until: Option<Timestamp>,
}

/// What is to lie under a key.
#[derive(Clone, Debug)]
pub struct Shelved {
    pub data: String,
    pub revision: i64,
    pub until: Timestamp,
}

/// A session's move to another key.
#[derive(Clone, Debug)]
pub struct Move {
    pub old: String,
    pub seen: i64,
    pub ended: Shelved,
    pub new: String,
    pub fresh: Shelved,
}

/// Which rows are to be cleared.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Those that had ended by then,
    pub now: Timestamp,
    /// and not before that, as far as the database gains anything by it,
    pub from: Option<Timestamp>,
    /// at most.
    pub limit: i64,
}

/// What was cleared.
pub struct Swept {
    pub cleared: Cleared,
    /// The latest end of those, where it was looked at.
    pub reached: Option<Timestamp>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Everything.
    Any,
    /// Reading alone, beside one that writes.
    Reading,
}

/// What an error of a database means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub kind: Kind,
    /// What was tried was undone, and may well be done the next time: a deadlock, or a lock that was not free.
    pub again: bool,
    /// The connection ends with it.
    pub lost: bool,
}

impl Diagnosis {
    /// An answer that leaves the connection as it was.
    pub const fn of(kind: Kind) -> Self {
        Self { kind, again: false, lost: false }
    }

    /// What may be tried again.
    pub const fn again(kind: Kind) -> Self {
        Self { kind, again: true, lost: false }
    }

    /// The last word on a connection.
    pub const fn lost(kind: Kind) -> Self {
        Self { kind, again: false, lost: true }
    }
}

/// Why there is no connection.
pub enum Failure {
    /// A setting, or a file that it names, can't be used.
    Setting(Misfit),
    /// The database won't, or is not there.
    Driver(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Misfit> for Failure {
    fn from(misfit: Misfit) -> Self {
        Self::Setting(misfit)
    }
}

/// What there is of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// All of it.
    Table,
    /// One of its columns.
    Column,
}

/// What each database has.
pub struct Common {
    /// What it is and where, for whoever reads of it.
    pub place: String,
    pub table: Table,
    pub statements: Statements,
    /// What a statement may take.
    pub patience: Duration,
}

impl Common {
    /// From the settings, for statements in this manner.
    ///
    /// # Errors
    /// `store.table`, if it is no name of one.
    pub(super) fn new(place: String, config: &Config, manner: &Manner) -> Result<Self, Misfit> {
        let table = Table::new(&config.table)?;
        Ok(Self {
            place,
            statements: Statements::new(&table, manner),
            table,
            patience: statement_timeout(config),
        })
    }
}

/// A database.
pub trait Database: Send + Sync + 'static {
    /// A connection to it.
    type Connection: sqlx::Connection + Send;

    /// What it is called.
    const NAME: &'static str;
    /// The quotation mark around names.
    const MARK: char;
    /// Does one connection write and the others read? Else each does both.
    const ONE_WRITER: bool;
    /// Does [`Database::cycle`] do it?
    const CYCLES: bool;

    /// What it has as each other has.
    fn common(&self) -> &Common;

    /// Where it is.
    fn place(&self) -> &str {
        &self.common().place
    }

    /// The table.
    fn table(&self) -> &Table {
        &self.common().table
    }

    /// The statements.
    fn statements(&self) -> &Statements {
        &self.common().statements
    }

    /// Opens a connection, and sets what holds for all that is said on it. Settings' files are read each time, so that
    /// a password or certificate that was renewed counts from the next connection on.
    fn open(&self, purpose: Purpose) -> impl Future<Output = Result<Self::Connection, Failure>> + Send;

    /// Makes an open connection ready for calls.
    fn settle<'a>(_: &'a mut Self::Connection) -> impl Future<Output = Result<(), sqlx::Error>> + Send + 'a {
        std::future::ready(Ok(()))
    }

    /// How long a call asks again and again for a lock that others have, where the database has no queue for it.
    fn polls(&self) -> Option<Duration> {
        None
    }

    /// Runs a statement, and says how many rows it met.
    fn execute<'a>(
        connection: &'a mut Self::Connection,
        statement: &'a Statement,
        values: &'a [Value<'a>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send + 'a;

    /// Runs a statement that finds `session_data`, `revision` and `expire_date`.
    fn rows<'a>(
        connection: &'a mut Self::Connection,
        statement: &'a Statement,
        values: &'a [Value<'a>],
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send + 'a;

    /// Moves a session to another key: all of it, or nothing.
    fn cycle<'a>(
        &'a self,
        connection: &'a mut Self::Connection,
        step: &'a Move,
    ) -> impl Future<Output = Result<Swap, sqlx::Error>> + Send + 'a;

    /// Removes rows that have ended, and none that was touched meanwhile.
    fn clear<'a>(
        &'a self,
        connection: &'a mut Self::Connection,
        bounds: &'a Bounds,
    ) -> impl Future<Output = Result<Swept, sqlx::Error>> + Send + 'a;

    /// Does on a connection for reading what the one that writes would have to do after much was cleared.
    fn tidy<'a>(_: &'a mut Self::Connection) -> impl Future<Output = Result<(), sqlx::Error>> + Send + 'a {
        std::future::ready(Ok(()))
    }

    /// Is there an index that keeps each `session_key` from being there twice?
    fn is_unique<'a>(
        &'a self,
        connection: &'a mut Self::Connection,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send + 'a;

    /// Makes what is lacking of the table, whoever else does so at the same time, and says what it did, if anything.
    fn migrate<'a>(
        &'a self,
        connection: &'a mut Self::Connection,
    ) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send + 'a;

    /// What an error of it means.
    fn diagnose(error: &dyn DatabaseError) -> Diagnosis;

    /// Is it the error of a statement on a table that is not there, or has not our columns?
    fn lack(error: &dyn DatabaseError) -> Option<Lack>;
}
