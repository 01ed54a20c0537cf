//! SQLite: a file, for one machine and any number of sidecars on it.
//!
//! `journal_mode = WAL`, so that readers and the writer don't wait for each other, and `synchronous = FULL`: what was
//! acknowledged is on the disk (the default of WAL, `NORMAL`, may lose the last commits in a power cut). SQLite lets
//! one connection write at a time and has others poll for their turn, so a process has one that writes, whose callers
//! queue in order, and `store.max_connections` less one that read. Another process tries to get its turn for
//! `store.statement_timeout`, every few milliseconds. Each connection is a thread of the driver's.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use prometheus::IntCounter;
use sqlx::error::DatabaseError;
use sqlx::sqlite::{
    Sqlite as Driver, SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::call::{cleared, swap};
use super::database::{Bounds, Common, Database, Diagnosis, Failure, Lack, Move, Purpose, Row, Swept, Value};
use super::table::{Manner, Statement, statement};
use super::{Misfit, Sql, text};
use crate::store::engine::Swap;
use crate::store::file::remote_system;
use crate::store::{Config, Kind};

/// What its statements look like.
const MANNER: Manner = Manner {
    mark: '"',
    question_marks: false,
    read_date: "expire_date",
    unless_taken: " ON CONFLICT (session_key) DO NOTHING",
};
/// What a try to get the lock takes. SQLite's own pauses between two of them grow to 100 ms, with which a process that
/// writes seldom gets none beside one that writes all the time.
const POLL: Duration = Duration::from_millis(4);
/// What is said of a file that is not made.
const ABSENT: &str = "there is no such file: correct its name, or run `coatroom migrate`";
/// A log that was longer once is cut to this many bytes.
const LOG: u32 = 64 << 20;

/// A file.
pub struct Sqlite {
    pub(super) path: PathBuf,
    /// Is the file made where it is not there, as the table is?
    pub(super) makes: bool,
    common: Common,
    clear: Statement,
}

impl Sqlite {
    /// An engine on the file of the settings, which is not opened yet.
    ///
    /// # Errors
    /// The first setting that can't be obeyed, and why.
    pub fn engine(config: &Config, connections: &IntCounter) -> Result<Sql<Self>, Misfit> {
        Sql::over(Self::new(config)?, config, connections)
    }

    pub(super) fn new(config: &Config) -> Result<Self, Misfit> {
        let path = path(config.url.expose())?;
        let common = Common::new(format!("SQLite file {}", path.display()), config, &MANNER)?;
        if common.table.schema.is_some() {
            let what = "names a schema, and SQLite has none: write the table's name alone".to_owned();
            return Err((super::table::SETTING, what));
        }
        let quoted = common.table.quoted(MANNER.mark);
        let clear = statement(
            &format!(
                "DELETE FROM {quoted} WHERE session_key IN (SELECT session_key FROM {quoted} \
                 WHERE expire_date <= $1 ORDER BY expire_date LIMIT $2) \
                 RETURNING substr(session_data, 1, {}), revision, expire_date",
                text::BEGINNING
            ),
            MANNER.question_marks,
        );
        Ok(Self { path, makes: config.create_table, common, clear })
    }

    /// Sees to it that the file is there.
    fn touch(&self) -> io::Result<()> {
        if !self.makes {
            return if self.is_absent() {
                Err(io::Error::new(io::ErrorKind::NotFound, ABSENT))
            } else {
                Ok(())
            };
        }
        match make(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Is there nothing of its name?
    pub(super) fn is_absent(&self) -> bool {
        self.path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Why the file can't be on the disk that it is on, or would be made on.
    pub(super) fn on_a_share(&self) -> Option<String> {
        // What is not there yet is where its folder is.
        let there = [Some(&*self.path), self.path.parent()];
        let kind = there.into_iter().flatten().find_map(remote_system)?;
        Some(on_a_share(&self.path, kind))
    }
}

/// Makes a file for nobody but us: SQLite's own would be for everybody, and the files beside it get the rights that it
/// has.
pub(super) fn make(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// The file that a URL names.
fn path(url: &str) -> Result<PathBuf, Misfit> {
    const FORM: &str = "write sqlite:///path/to/file";
    let wrong = |what: &str| ("store.url", format!("{what}: {FORM}"));
    let rest = url.split_once("://").ok_or_else(|| wrong("has no // behind its scheme"))?.1;
    if rest.contains('?') {
        return Err(wrong("has a query"));
    }
    let path = percent_decode_str(rest).decode_utf8().map_err(|_| wrong("has a path that is no UTF-8"))?;
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(wrong("has no path of a file"));
    }
    Ok(PathBuf::from(&*path))
}

type Query<'q> = sqlx::query::Query<'q, Driver, SqliteArguments>;

fn bound<'q>(statement: &Statement, values: &[Value<'_>]) -> Query<'q> {
    let mut query = sqlx::query(AssertSqlSafe(Statement::clone(statement)));
    for value in values {
        query = match *value {
            Value::Text(text) => query.bind(text.to_owned()),
            Value::Number(number) => query.bind(number),
            Value::Time(at) => query.bind(text::date(at)),
        };
    }
    query
}

impl Database for Sqlite {
    type Connection = SqliteConnection;

    const NAME: &'static str = "SQLite";
    const MARK: char = MANNER.mark;
    const ONE_WRITER: bool = true;
    const CYCLES: bool = true;

    fn common(&self) -> &Common {
        &self.common
    }

    async fn open(&self, _: Purpose) -> Result<SqliteConnection, Failure> {
        if let Some(what) = self.on_a_share() {
            return Err(Failure::Setting(("store.url", what)));
        }
        self.touch().map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(self.common.patience)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", LOG.to_string())
            .thread_name(|n| format!("sqlite-{n}"))
            .disable_statement_logging();
        Ok(options.connect().await?)
    }

    async fn settle(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let text = format!("PRAGMA busy_timeout = {}", POLL.as_millis());
        sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
    }

    fn polls(&self) -> Option<Duration> {
        Some(self.common.patience)
    }

    async fn execute<'a>(
        connection: &'a mut SqliteConnection,
        statement: &'a Statement,
        values: &'a [Value<'a>],
    ) -> Result<u64, sqlx::Error> {
        Ok(bound(statement, values).execute(connection).await?.rows_affected())
    }

    async fn rows<'a>(
        connection: &'a mut SqliteConnection,
        statement: &'a Statement,
        values: &'a [Value<'a>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = bound(statement, values).fetch_all(connection).await?;
        let row = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Row {
                data: row.try_get_unchecked(0)?,
                revision: row.try_get_unchecked(1)?,
                until: text::instant(row.try_get_unchecked(2)?),
            })
        };
        rows.iter().map(row).collect()
    }

    /// SQLite has no statement that does both; a transaction takes one sync of the disk, where two statements take two.
    async fn cycle<'a>(
        &'a self,
        connection: &'a mut SqliteConnection,
        step: &'a Move,
    ) -> Result<Swap, sqlx::Error> {
        use Value::{Number, Text, Time};
        let Move { old, seen, ended, new, fresh } = step;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let values = [Text(&ended.data), Time(ended.until), Number(ended.revision), Text(old), Number(*seen)];
        let met = Self::execute(&mut transaction, &self.common.statements.replace, &values).await?;
        let swap = swap(self, &mut transaction, met, old).await?;
        if swap == Swap::Done {
            let values = [Text(new), Text(&fresh.data), Time(fresh.until), Number(fresh.revision)];
            if Self::execute(&mut transaction, &self.common.statements.add, &values).await? == 0 {
                transaction.rollback().await?;
                return Ok(Swap::Changed);
            }
        }
        transaction.commit().await?;
        Ok(swap)
    }

    async fn clear<'a>(
        &'a self,
        connection: &'a mut SqliteConnection,
        bounds: &'a Bounds,
    ) -> Result<Swept, sqlx::Error> {
        let values = [Value::Time(bounds.now), Value::Number(bounds.limit)];
        cleared::<Self>(connection, &self.clear, &values).await
    }

    /// Copies the log into the file. Whoever's commit makes the log long has to do so else, with all who write behind
    /// it; what another connection has copied, nobody has to.
    async fn tidy(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)").execute(connection).await.map(drop)
    }

    async fn is_unique<'a>(&'a self, connection: &'a mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let text = "SELECT EXISTS (SELECT 1 FROM pragma_index_list($1) AS list \
                    WHERE list.\"unique\" AND NOT list.partial AND (SELECT group_concat(info.name) \
                    FROM pragma_index_info(list.name) AS info) = 'session_key')";
        sqlx::query_scalar(text).bind(&*self.common.table.name).fetch_one(connection).await
    }

    async fn migrate<'a>(&'a self, connection: &'a mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
        let (table, quoted) = (&self.common.table, self.common.table.quoted(MANNER.mark));
        let mut done = Vec::new();
        // From here on nobody else does the same.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        match super::migrate::lack(self, &mut transaction).await? {
            Some(Lack::Table) => {
                let text = format!(
                    "CREATE TABLE {quoted} (\"session_key\" varchar(40) NOT NULL PRIMARY KEY, \
                     \"session_data\" text NOT NULL, \"expire_date\" datetime NOT NULL, \"revision\" bigint)"
                );
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await?;
                done.push(format!("made the table {table}"));
            }
            Some(Lack::Column) => {
                let text = format!("ALTER TABLE {quoted} ADD COLUMN \"revision\" bigint");
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await?;
                done.push(format!("added the column revision to {table}"));
            }
            None => {}
        }
        let indexed = "SELECT 1 FROM pragma_index_list($1) AS list, pragma_index_info(list.name) AS info \
                       WHERE info.seqno = 0 AND info.name = 'expire_date'";
        let indexed = sqlx::query(indexed).bind(&*table.name).fetch_all(&mut *transaction).await?;
        if indexed.is_empty() {
            let text = format!("CREATE INDEX \"{}\" ON {quoted} (\"expire_date\")", table.index());
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await?;
            done.push(format!("added an index on expire_date to {table}"));
        }
        transaction.commit().await?;
        Ok(done)
    }

    fn diagnose(error: &dyn DatabaseError) -> Diagnosis {
        // The low byte is the error, the rest says more of it.
        match code(error) & 0xff {
            // SQLITE_PERM, SQLITE_AUTH
            3 | 23 => Diagnosis::of(Kind::NoPermission),
            // SQLITE_BUSY, SQLITE_LOCKED
            5 | 6 => Diagnosis::again(Kind::Busy),
            // SQLITE_READONLY
            8 => Diagnosis::of(Kind::ReadOnly),
            // SQLITE_FULL
            13 => Diagnosis::of(Kind::OutOfMemory),
            // SQLITE_IOERR: what became of the file is not known.
            10 => Diagnosis::lost(Kind::Broken),
            // SQLITE_CANTOPEN
            14 => Diagnosis::lost(Kind::Unreachable),
            // SQLITE_CORRUPT, SQLITE_NOTADB: nothing can be said of any session.
            11 | 26 => Diagnosis::lost(Kind::Refused),
            _ => Diagnosis::of(Kind::Refused),
        }
    }

    fn lack(error: &dyn DatabaseError) -> Option<Lack> {
        let message = error.message();
        if message.starts_with("no such table") {
            Some(Lack::Table)
        } else if message.starts_with("no such column") {
            Some(Lack::Column)
        } else {
            None
        }
    }
}

/// SQLite's extended result code.
pub(super) fn code(error: &dyn DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// What is wrong with a folder of another machine.
pub(super) fn on_a_share(path: &Path, kind: &str) -> String {
    format!(
        "{} is on {kind}, where SQLite can't keep several processes apart: name a file on a disk of this machine",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file() {
        assert_eq!(path("sqlite:///var/lib/s%20.db"), Ok(PathBuf::from("/var/lib/s .db")));
        for url in [
            "sqlite:",
            "sqlite:/a",
            "sqlite://",
            "sqlite://a",
            "sqlite:///",
            "sqlite:///a/",
            "sqlite:///a?b=c",
        ] {
            assert_eq!(path(url).err().map(|(key, _)| key), Some("store.url"), "{url}");
        }
    }
}
