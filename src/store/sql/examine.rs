//! A database tried out, before anybody's session depends on it.

mod explain;
mod mysql;
mod postgres;
mod sqlite;

use std::time::Duration;

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use sqlx::Connection as _;
use tokio::time::timeout;

use self::explain::Step;
use super::call::{Answer, Call};
use super::database::{Database, Lack, Move, Purpose, Shelved};
use super::table::SETTING as TABLE;
use super::{MySql, Postgres, Sqlite, illness, migrate, text};
use crate::store::engine::Swap;
use crate::store::{Config, Finding};
use crate::time::{Clock, Timestamp};

/// What opening a connection may take: what the pool gives it, and a bit for a slow name service.
const STEP: Duration = Duration::from_secs(2);
/// What all that is asked may take.
const TALK: Duration = Duration::from_secs(5);
/// The setting that says which database it is.
const URL: &str = "store.url";

/// What a database has to tell of itself besides.
trait Told: Database {
    /// What is to be said where connecting would make the database, which is not there yet: nothing is made of it.
    fn absent(&self) -> Option<Finding> {
        None
    }

    /// Our name there, for whoever grants rights.
    fn user(&self) -> String;

    /// What gives us the rights that the engine needs; `None` where rights are those of files.
    fn grant(&self) -> Option<String>;

    /// Columns of a type that can't hold what we put there, each in a sentence.
    async fn misfits(&self, connection: &mut Self::Connection) -> Result<Vec<String>, sqlx::Error>;

    /// May we make the table? `None` where only trying tells.
    async fn may_create(&self, connection: &mut Self::Connection) -> Result<Option<bool>, sqlx::Error>;

    /// What a crash of it loses, and what to do about it.
    async fn weaknesses(
        &self,
        connection: &mut Self::Connection,
    ) -> Result<Vec<(String, &'static str)>, sqlx::Error>;

    /// Why there is no connection, where that is a matter of this database alone.
    fn unreached(&self, error: &sqlx::Error) -> Option<Finding>;
}

/// Connects as the pool does, looks at the table, and has the database do all that the engine asks of it.
pub(in crate::store) async fn examine(config: &Config) -> Vec<Finding> {
    let create = config.create_table;
    let examined = match config.url.scheme() {
        "sqlite" => match Sqlite::new(config) {
            Ok(database) => Ok(of(database, create).await),
            Err(misfit) => Err(misfit),
        },
        "mysql" => match MySql::new(config) {
            Ok(database) => Ok(of(database, create).await),
            Err(misfit) => Err(misfit),
        },
        _ => match Postgres::new(config) {
            Ok(database) => Ok(of(database, create).await),
            Err(misfit) => Err(misfit),
        },
    };
    examined.unwrap_or_else(|(key, what)| {
        vec![Finding::problem(key, what, "see its comment in config/coatroom.toml")]
    })
}

async fn of<D: Told>(database: D, create: bool) -> Vec<Finding> {
    if let Some(absent) = database.absent() {
        return vec![absent];
    }
    let late = || Err(super::database::Failure::Driver(illness::late(database.place())));
    let opened = timeout(STEP, database.open(Purpose::Any)).await.unwrap_or_else(|_| late());
    let mut connection = match opened {
        Ok(connection) => connection,
        Err(failure) => return vec![explain::unopened(&database, &failure)],
    };
    let mut findings = Vec::new();
    let talk = timeout(TALK, talk(&database, &mut connection, create, &mut findings)).await;
    match talk {
        Ok(Ok(())) => {}
        Ok(Err((step, error))) => findings.push(explain::refused(&database, step, &error)),
        Err(_) => findings.push(explain::refused(&database, Step::Ask, &illness::late(database.place()))),
    }
    // Or SQLite would leave files beside its own.
    drop(timeout(STEP, connection.close()).await);
    findings
}

async fn talk<D: Told>(
    database: &D,
    connection: &mut D::Connection,
    create: bool,
    findings: &mut Vec<Finding>,
) -> Result<(), (Step, sqlx::Error)> {
    let at = |step| move |error| (step, error);
    let table = database.table();
    match migrate::lack(database, connection).await.map_err(at(Step::Read))? {
        Some(Lack::Table) => {
            let may = database.may_create(connection).await.map_err(at(Step::Ask))?;
            findings.push(explain::no_table(database, create, may));
            return Ok(());
        }
        None | Some(Lack::Column) => {
            if let Some(unfit) = migrate::unfit(database, connection).await.map_err(at(Step::Read))? {
                findings.push(Finding::problem(TABLE, unfit.what(table), unfit.remedy()));
                return Ok(());
            }
        }
    }
    for misfit in database.misfits(connection).await.map_err(at(Step::Ask))? {
        let remedy = "name another table, and run `coatroom migrate`";
        findings.push(Finding::problem(TABLE, format!("{table}: {misfit}"), remedy));
    }
    if findings.is_empty() {
        findings.extend(trial(database, connection).await?);
    }
    for (what, remedy) in database.weaknesses(connection).await.map_err(at(Step::Ask))? {
        findings.push(Finding::warning(URL, what, remedy));
    }
    Ok(())
}

/// Does what the engine does, with keys that nobody else has, and removes what that left.
async fn trial<D: Database>(
    database: &D,
    connection: &mut D::Connection,
) -> Result<Option<Finding>, (Step, sqlx::Error)> {
    let [key, other] = [key(), key()];
    let until = Clock::system().now().plus(Duration::from_secs(60));
    let new = |revision| Shelved { data: text::written(b"trial").into_owned(), revision, until };
    let again = Timestamp::from_millis(until.as_millis() + 1000);
    let mut steps = vec![
        (Step::Write, Call::Add { key: key.clone(), new: new(1) }),
        (Step::Read, Call::Get { key: key.clone() }),
        (Step::Write, Call::Replace { key: key.clone(), seen: 1, new: new(2) }),
        (Step::Write, Call::Touch { key: key.clone(), seen: 2, until: again }),
    ];
    if D::CYCLES {
        let step = Move { old: key.clone(), seen: 2, ended: new(3), new: other.clone(), fresh: new(4) };
        steps.push((Step::Write, Call::Cycle(Box::new(step))));
    }
    let last = if D::CYCLES { 3 } else { 2 };
    let mut failed = None;
    for (step, call) in steps {
        match call.on(database, connection).await {
            Ok(Answer::Added(true) | Answer::Found(Some(_)) | Answer::Swapped(Swap::Done)) => {}
            Ok(_) => {
                let what = format!("{}: a record that was written is not found again", database.place());
                failed = Some(Ok(Finding::problem(URL, what, "see whether it is one server that answers")));
                break;
            }
            Err(error) => {
                failed = Some(Err((step, error)));
                break;
            }
        }
    }
    // Whatever went wrong, what lies there is removed, whichever step it has come to.
    let seen = if failed.is_none() { last..=last } else { 1..=last };
    let mut removal = None;
    for (key, revisions) in [(&key, seen), (&other, 4..=4)] {
        for seen in revisions {
            if let Err(error) = (Call::Remove { key: key.clone(), seen }).on(database, connection).await {
                removal = removal.or(Some((Step::Write, error)));
            }
        }
    }
    match (failed, removal) {
        (Some(Ok(finding)), _) => Ok(Some(finding)),
        (Some(Err(failed)), _) | (None, Some(failed)) => Err(failed),
        (None, None) => Ok(None),
    }
}

/// A key of the length that sessions have, and that no token leads to.
fn key() -> String {
    let mut bits = [0; 20];
    // Without random numbers it is another one of these.
    let _ = rand::fill(&mut bits);
    HEXLOWER.encode(&bits)
}
