//! One call of the engine's, and what it takes: statements, a second look where nothing was written, another try.

use super::database::{Bounds, Database, Move, Row, Shelved, Swept, Value};
use super::table::Statement;
use super::text;
use crate::store::engine::{Cleared, Swap};
use crate::time::Timestamp;

/// What is asked of a database. It owns all that it needs, since it goes on when its caller has left.
#[derive(Debug)]
pub(super) enum Call {
    Get {
        key: String,
    },
    Add {
        key: String,
        new: Shelved,
    },
    Replace {
        key: String,
        seen: i64,
        new: Shelved,
    },
    Touch {
        key: String,
        seen: i64,
        until: Timestamp,
    },
    Remove {
        key: String,
        seen: i64,
    },
    Cycle(Box<Move>),
    Clear(Bounds),
    /// Does what is left to be done after a write, beside the next one.
    Tidy,
    Scan {
        after: String,
    },
    Ping,
}

/// What it answers.
pub(super) enum Answer {
    Found(Option<Row>),
    Added(bool),
    Swapped(Swap),
    Cleared(Swept),
    Tidied,
    Listed(Vec<Row>),
    Pong,
}

impl Call {
    /// Does it change nothing? Then it may be sent twice, and by a connection for reading.
    pub(super) const fn only_reads(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::Scan { .. } | Self::Tidy | Self::Ping)
    }

    /// Does it, on a connection.
    pub(super) async fn on<D: Database>(
        &self,
        database: &D,
        connection: &mut D::Connection,
    ) -> Result<Answer, sqlx::Error> {
        use Value::{Number, Text, Time};
        let statements = database.statements();
        Ok(match self {
            Self::Get { key } => {
                let rows = D::rows(connection, &statements.get, &[Text(key)]).await?;
                Answer::Found(rows.into_iter().next())
            }
            Self::Add { key, new } => {
                let values = [Text(key), Text(&new.data), Time(new.until), Number(new.revision)];
                match D::execute(connection, &statements.add, &values).await {
                    Ok(added) => Answer::Added(added > 0),
                    Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Answer::Added(false),
                    Err(error) => return Err(error),
                }
            }
            Self::Replace { key, seen, new } => {
                let values =
                    [Text(&new.data), Time(new.until), Number(new.revision), Text(key), Number(*seen)];
                let met = D::execute(connection, &statements.replace, &values).await?;
                Answer::Swapped(swap(database, connection, met, key).await?)
            }
            Self::Touch { key, seen, until } => {
                let values = [Time(*until), Text(key), Number(*seen)];
                let met = D::execute(connection, &statements.touch, &values).await?;
                Answer::Swapped(swap(database, connection, met, key).await?)
            }
            Self::Remove { key, seen } => {
                let met = D::execute(connection, &statements.remove, &[Text(key), Number(*seen)]).await?;
                Answer::Swapped(swap(database, connection, met, key).await?)
            }
            Self::Cycle(step) => Answer::Swapped(database.cycle(connection, step).await?),
            Self::Clear(bounds) => Answer::Cleared(database.clear(connection, bounds).await?),
            Self::Tidy => {
                D::tidy(connection).await?;
                Answer::Tidied
            }
            Self::Scan { after } => {
                Answer::Listed(D::rows(connection, &statements.scan, &[Text(after)]).await?)
            }
            Self::Ping => {
                D::rows(connection, &statements.look, &[Text("")]).await?;
                Answer::Pong
            }
        })
    }
}

/// What a statement removed that returns the beginnings of the rows that it deletes.
pub(super) async fn cleared<D: Database>(
    connection: &mut D::Connection,
    statement: &Statement,
    values: &[Value<'_>],
) -> Result<Swept, sqlx::Error> {
    let gone = D::rows(connection, statement, values).await?;
    let sessions = gone.iter().filter(|row| text::is_session(&row.data)).count();
    let reached = gone.iter().filter_map(|row| row.until).max();
    Ok(Swept { cleared: Cleared { removed: gone.len(), sessions, more: false }, reached })
}

/// How a write went that met so many rows: where it met none, a second look tells why.
pub(super) async fn swap<D: Database>(
    database: &D,
    connection: &mut D::Connection,
    met: u64,
    key: &str,
) -> Result<Swap, sqlx::Error> {
    if met > 0 {
        return Ok(Swap::Done);
    }
    let there = D::rows(connection, &database.statements().look, &[Value::Text(key)]).await?;
    Ok(if there.is_empty() { Swap::Gone } else { Swap::Changed })
}
