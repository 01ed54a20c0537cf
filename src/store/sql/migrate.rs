//! The table: looked at when the first connection is open, made where it is not there.

use tracing::info;

use super::database::{Database, Failure, Lack, Purpose};
use super::illness::{Illness, lacking};
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
    let config = &Config { statement_timeout: Interval::Every(PATIENCE), ..config.clone() };
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
    let done = database.migrate(&mut connection).await;
    let mut done = done.map_err(|error| Illness::of(&database, &error).error)?;
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
            for done in database.migrate(connection).await? {
                info!("{done}");
            }
            Ok(())
        }
        Some(lack) => Err(Failure::Setting((super::table::SETTING, lacking(database.table(), lack)))),
    }
}
