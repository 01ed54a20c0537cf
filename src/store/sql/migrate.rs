//! The table: looked at when the first connection is open, made where it is not there.

use sqlx::Connection as _;
use tracing::info;

use super::database::{Database, Failure, Lack, Purpose};
use super::illness::{Illness, lacking};
use super::table::{COLUMNS, SETTING, Table, statement};
use super::{MySql, Postgres, Sqlite};
use crate::session::policy::Interval;
use crate::store::{Config, Error, Kind};
use crate::time::Length;

/// What a statement of [`migrate`] may take: an index over ten million rows is a matter of a minute.
const PATIENCE: Length = Length::secs(600);

/// Makes the table of the settings, or what it lacks, and says what was done. It may be run at any time, by several
/// at once, and changes nothing where nothing is lacking.
///
/// # Errors
/// Why it could not be done; nothing is half done that another run would not complete.
pub async fn migrate(config: &Config) -> Result<Vec<String>, Error> {
    let config =
        &Config { statement_timeout: Interval::Every(PATIENCE), create_table: true, ..config.clone() };
    let misfit = |(key, what)| Error::new(Kind::Refused, format!("{key}: {what}"));
    match config.url.scheme() {
        "sqlite" => on(Sqlite::new(config).map_err(misfit)?).await,
        "postgres" | "postgresql" => on(Postgres::new(config).map_err(misfit)?).await,
        "mysql" => on(MySql::new(config).map_err(misfit)?).await,
        _ => Err(Error::new(Kind::Refused, "store.url: is no SQL store, and others have no table")),
    }
}

async fn on<D: Database>(database: D) -> Result<Vec<String>, Error> {
    let opened = database.open(Purpose::Any).await;
    let mut connection = opened.map_err(|failure| Illness::unopened(&database, &failure))?;
    let done = complete(&database, &mut connection).await;
    // Or SQLite would leave files beside its own.
    drop(connection.close().await);
    let mut done = done.map_err(|failure| Illness::unopened(&database, &failure))?;
    if done.is_empty() {
        done.push(format!("{} is as it must be: nothing was changed", database.table()));
    }
    Ok(done)
}

/// What the table lacks.
pub(super) async fn lack<D: Database>(
    database: &D,
    connection: &mut D::Connection,
) -> Result<Option<Lack>, sqlx::Error> {
    match D::execute(connection, &database.statements().probe, &[]).await {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(error)) => match D::lack(&*error) {
            Some(lack) => Ok(Some(lack)),
            None => Err(sqlx::Error::Database(error)),
        },
        Err(error) => Err(error),
    }
}

/// Sees to it that the table is there. A table of Django's is not changed without being asked: `coatroom migrate` is.
pub(super) async fn prepare<D: Database>(
    database: &D,
    connection: &mut D::Connection,
    create: bool,
) -> Result<(), Failure> {
    match lack(database, connection).await? {
        None => Ok(()),
        Some(Lack::Table) if create => {
            for done in complete(database, connection).await? {
                info!("{done}");
            }
            Ok(())
        }
        Some(Lack::Table) => Err(Failure::Setting((SETTING, lacking(database.table(), Lack::Table)))),
        Some(Lack::Column) => match unfit(database, connection).await? {
            None => Ok(()),
            Some(unfit) => Err(unfit.failure(database.table())),
        },
    }
}

/// Makes what is lacking, unless the table that is there is somebody else's: then nothing of it is changed.
async fn complete<D: Database>(database: &D, connection: &mut D::Connection) -> Result<Vec<String>, Failure> {
    if lack(database, connection).await? != Some(Lack::Table)
        && let Some(unfit @ Unfit::Foreign(_)) = unfit(database, connection).await?
    {
        return Err(unfit.failure(database.table()));
    }
    Ok(database.migrate(connection).await?)
}

/// Why a table that is there won't do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is as Django makes it, and lacks our column.
    Djangos,
    /// It is nobody's that has sessions: what it lacks.
    Foreign(String),
}

impl Unfit {
    /// What is wrong with it.
    pub(super) fn what(&self, table: &Table) -> String {
        match self {
            Self::Djangos => format!("{table} has no column revision"),
            Self::Foreign(lacking) => format!("{table} has no {lacking}"),
        }
    }

    /// What to do about it.
    pub(super) const fn remedy(&self) -> &'static str {
        match self {
            Self::Djangos => "run `coatroom migrate`, which adds it",
            Self::Foreign(_) => "name another table: this one is somebody else's",
        }
    }

    fn failure(&self, table: &Table) -> Failure {
        Failure::Setting((SETTING, format!("{}: {}", self.what(table), self.remedy())))
    }
}

/// Looks whether a table that is there is one of sessions, be it ours or Django's.
pub(super) async fn unfit<D: Database>(
    database: &D,
    connection: &mut D::Connection,
) -> Result<Option<Unfit>, sqlx::Error> {
    let mut lacking = Vec::new();
    for column in COLUMNS {
        let table = database.table().quoted(D::MARK);
        let there = statement(&format!("SELECT {column} FROM {table} LIMIT 0"), false);
        match D::execute(connection, &there, &[]).await {
            Ok(_) => {}
            Err(sqlx::Error::Database(error)) if D::lack(&*error) == Some(Lack::Column) => {
                lacking.push(column);
            }
            Err(error) => return Err(error),
        }
    }
    let foreign = |lacking| Ok(Some(Unfit::Foreign(lacking)));
    match &lacking[..] {
        [] | ["revision"] if !database.is_unique(connection).await? => {
            foreign("unique index on session_key".to_owned())
        }
        [] => Ok(None),
        ["revision"] => Ok(Some(Unfit::Djangos)),
        _ => foreign(format!("column {}", lacking.join(", "))),
    }
}
