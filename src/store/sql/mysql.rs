//! MySQL 8 and MariaDB 10.6 or newer.
//!
//! The driver asks for the rows that a statement *met* (`CLIENT_FOUND_ROWS`), not those that it changed, so a touch
//! that moves an end to where it was is done and not gone. Each connection is told to refuse what a column can't hold
//! (`STRICT_ALL_TABLES`), which some servers cut off in silence, and what its statements may take:
//! `max_statement_time` in MariaDB; in MySQL, whose `max_execution_time` is for reading alone, a write waits for a row
//! for a second (`innodb_lock_wait_timeout`). A cycle is two statements: a transaction around them would take four
//! round trips.

use prometheus::IntCounter;
use sqlx::error::DatabaseError;
use sqlx::mysql::{
    MySql as Driver, MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow,
    MySqlSslMode,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::database::{Bounds, Common, Database, Diagnosis, Failure, Lack, Move, Purpose, Row, Swept, Value};
use super::migrate::lack;
use super::table::{Manner, Statement, Table, statement};
use super::target::{Form, Place, Target};
use super::tls::Mode;
use super::{Misfit, Sql, text};
use crate::store::engine::{Cleared, Swap};
use crate::store::{Config, Kind};

/// What its statements look like.
const MANNER: Manner = Manner {
    mark: '`',
    question_marks: true,
    read_date: "CAST(expire_date AS CHAR)",
    // `INSERT IGNORE` would ignore more than that: a key that is taken is an error that is caught.
    unless_taken: "",
};
/// What its URLs look like.
const FORM: Form = Form {
    port: 3306,
    socket: "socket",
    socket_has_port: false,
    example: "mysql://user:password@host:port/database, or mysql://user@/database?socket=/path/of/the/socket",
};
/// ER_DUP_FIELDNAME, ER_DUP_KEYNAME: somebody else has just added it.
const THERE_ALREADY: [u16; 2] = [1060, 1061];

/// A server.
pub struct MySql {
    pub(super) target: Target,
    common: Common,
    doomed: Statement,
}

impl MySql {
    /// An engine on the server of the settings, which is not asked yet.
    ///
    /// # Errors
    /// The first setting that can't be obeyed, and why.
    pub fn engine(config: &Config, connections: &IntCounter) -> Result<Sql<Self>, Misfit> {
        Sql::over(Self::new(config)?, config, connections)
    }

    pub(super) fn new(config: &Config) -> Result<Self, Misfit> {
        let target = Target::new(config, &FORM)?;
        let common = Common::new(format!("MySQL at {}", target.place), config, &MANNER)?;
        let quoted = common.table.quoted(MANNER.mark);
        let doomed = format!(
            "SELECT session_key, LEFT(session_data, {}) FROM {quoted} WHERE expire_date <= $1 \
             ORDER BY expire_date LIMIT $2 FOR UPDATE SKIP LOCKED",
            text::BEGINNING
        );
        Ok(Self { target, common, doomed: statement(&doomed, MANNER.question_marks) })
    }

    /// How a connection is opened today.
    fn options(&self) -> Result<MySqlConnectOptions, Misfit> {
        let target = &self.target;
        let mut options = MySqlConnectOptions::new()
            .username(&target.user)
            .database(&target.database)
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .disable_statement_logging();
        let password = target.password()?;
        if !password.is_empty() {
            options = options.password(password.expose());
        }
        options = match &target.place {
            Place::Tcp { host, port } => options.host(host).port(*port),
            Place::Unix { path, .. } => options.socket(path),
        };
        let Some(tls) = &target.tls else { return Ok(options.ssl_mode(MySqlSslMode::Disabled)) };
        let files = tls.files()?;
        options = options.ssl_mode(match tls.mode {
            Mode::Off => MySqlSslMode::Disabled,
            Mode::Unverified => MySqlSslMode::Required,
            Mode::Full => MySqlSslMode::VerifyIdentity,
        });
        options = options.ssl_ca_from_pem(files.ca);
        if let Some((cert, key)) = files.ours {
            options = options.ssl_client_cert_from_pem(cert).ssl_client_key_from_pem(key);
        }
        Ok(options)
    }
}

type Query<'q> = sqlx::query::Query<'q, Driver, MySqlArguments>;

fn bound<'q>(statement: &Statement, values: &[Value<'q>]) -> Query<'q> {
    let mut query = sqlx::query(AssertSqlSafe(Statement::clone(statement)));
    for value in values {
        query = match *value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
            Value::Time(at) => query.bind(text::date(at)),
        };
    }
    query
}

impl Database for MySql {
    type Connection = MySqlConnection;

    const NAME: &'static str = "MySQL";
    const MARK: char = MANNER.mark;
    const ONE_WRITER: bool = false;
    const CYCLES: bool = false;

    fn common(&self) -> &Common {
        &self.common
    }

    async fn open(&self, _: Purpose) -> Result<MySqlConnection, Failure> {
        let mut connection = self.options()?.connect().await?;
        let millis = self.common.patience.as_millis().max(1);
        // Either server takes the other one's part for a comment.
        let text = format!(
            "SET SESSION autocommit = 1, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
             innodb_lock_wait_timeout = {} \
             /*M! , max_statement_time = {} */ /*!50708 , max_execution_time = {millis} */",
            self.common.patience.as_secs().max(1),
            self.common.patience.as_secs_f64().max(0.001),
        );
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await?;
        Ok(connection)
    }

    async fn execute<'a>(
        connection: &'a mut MySqlConnection,
        statement: &'a Statement,
        values: &'a [Value<'a>],
    ) -> Result<u64, sqlx::Error> {
        Ok(bound(statement, values).execute(connection).await?.rows_affected())
    }

    async fn rows<'a>(
        connection: &'a mut MySqlConnection,
        statement: &'a Statement,
        values: &'a [Value<'a>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = bound(statement, values).fetch_all(connection).await?;
        let row = |row: &MySqlRow| {
            let until: Option<String> = row.try_get_unchecked(2)?;
            Ok(Row {
                data: row.try_get_unchecked(0)?,
                revision: row.try_get_unchecked(1)?,
                until: until.and_then(|until| text::instant(&until)),
            })
        };
        rows.iter().map(row).collect()
    }

    async fn cycle<'a>(&'a self, _: &'a mut MySqlConnection, _: &'a Move) -> Result<Swap, sqlx::Error> {
        // Nobody asks for it.
        Ok(Swap::Changed)
    }

    /// MySQL tells nothing of what it deletes, so the rows are looked at and locked before.
    async fn clear<'a>(
        &'a self,
        connection: &'a mut MySqlConnection,
        bounds: &'a Bounds,
    ) -> Result<Swept, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        let cleared = self.doom(&mut transaction, bounds).await;
        if cleared.is_ok() {
            transaction.commit().await?;
        } else {
            // Else it would be undone, and its locks let go, by whoever has the connection next, be that in half an hour.
            transaction.rollback().await?;
        }
        Ok(Swept { cleared: cleared?, reached: None })
    }

    async fn is_unique<'a>(&'a self, connection: &'a mut MySqlConnection) -> Result<bool, sqlx::Error> {
        let Table { schema, name } = &self.common.table;
        let found = sqlx::query(
            "SELECT 1 FROM information_schema.statistics WHERE table_schema = COALESCE(?, DATABASE()) \
             AND table_name = ? AND non_unique = 0 \
             GROUP BY index_name HAVING GROUP_CONCAT(column_name) = 'session_key'",
        );
        let found = found.bind(schema.as_deref()).bind(&**name).fetch_all(connection).await?;
        Ok(!found.is_empty())
    }

    async fn migrate<'a>(&'a self, connection: &'a mut MySqlConnection) -> Result<Vec<String>, sqlx::Error> {
        let (table, quoted) = (&self.common.table, self.common.table.quoted(MANNER.mark));
        let mut done = Vec::new();
        // Each statement is on its own, for MySQL has no transactions of such; of several that run them at once the
        // later ones meet what is there already.
        match lack(self, connection).await? {
            Some(Lack::Table) => {
                let text = format!(
                    "CREATE TABLE IF NOT EXISTS {quoted} (session_key varchar(40) NOT NULL PRIMARY KEY, \
                     session_data longtext NOT NULL, expire_date datetime(6) NOT NULL, revision bigint, \
                     KEY `{}` (expire_date)) \
                     ENGINE = InnoDB CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin",
                    table.index()
                );
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await?;
                done.push(format!("made the table {table}"));
            }
            Some(Lack::Column) => {
                let text = format!("ALTER TABLE {quoted} ADD COLUMN revision bigint");
                if unless_there(sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await)? {
                    done.push(format!("added the column revision to {table}"));
                }
            }
            None => {}
        }
        let indexed = sqlx::query(
            "SELECT 1 FROM information_schema.statistics WHERE table_schema = COALESCE(?, DATABASE()) \
             AND table_name = ? AND column_name = 'expire_date' AND seq_in_index = 1",
        )
        .bind(table.schema.as_deref())
        .bind(&*table.name)
        .fetch_all(&mut *connection)
        .await?;
        if indexed.is_empty() {
            let text = format!("CREATE INDEX `{}` ON {quoted} (expire_date)", table.index());
            if unless_there(sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await)? {
                done.push(format!("added an index on expire_date to {table}"));
            }
        }
        Ok(done)
    }

    fn diagnose(error: &dyn DatabaseError) -> Diagnosis {
        match number(error) {
            // Access denied; a plugin or protocol of passwords that is not spoken.
            1045 | 1698 | 1251 | 1275 | 1820 | 1862 => Diagnosis::lost(Kind::NoAuth),
            // A host that may not come.
            1130 | 1129 => Diagnosis::lost(Kind::NoAuth),
            // A database that we may not use.
            1044 => Diagnosis::lost(Kind::NoPermission),
            1142 | 1143 | 1227 | 1370 => Diagnosis::of(Kind::NoPermission),
            // --read-only, a read-only transaction, innodb_read_only
            1290 | 1792 | 1836 => Diagnosis::of(Kind::ReadOnly),
            // The disk or the table is full, or there is no memory.
            1021 | 1026 | 1114 | 1037 | 1041 => Diagnosis::of(Kind::OutOfMemory),
            // Too many connections: all, of ours.
            1040 | 1203 | 1226 => Diagnosis::lost(Kind::Busy),
            // A lock that was not free, a deadlock.
            1205 | 1213 => Diagnosis::again(Kind::Busy),
            // It took too long, or somebody interrupted it.
            1969 | 3024 | 1317 | 1028 => Diagnosis::of(Kind::Busy),
            // There is no such database.
            1049 => Diagnosis::lost(Kind::Refused),
            // The server is stopped, or the connection ended there.
            1053 | 1077 | 1079 | 1152..=1161 | 1184 | 1927 | 2013 | 4031 => Diagnosis::lost(Kind::Broken),
            // The commit failed, or the log of it, and the server may come back with it or without.
            1180 | 1598 => Diagnosis::lost(Kind::Broken),
            // A table that is crashed.
            1034 | 1194 | 1195 => Diagnosis::of(Kind::Corrupt),
            _ => Diagnosis::of(Kind::Refused),
        }
    }

    fn lack(error: &dyn DatabaseError) -> Option<Lack> {
        match number(error) {
            1146 => Some(Lack::Table),
            1054 => Some(Lack::Column),
            _ => None,
        }
    }
}

impl MySql {
    /// Deletes rows that have ended, within a transaction.
    async fn doom(&self, connection: &mut MySqlConnection, bounds: &Bounds) -> Result<Cleared, sqlx::Error> {
        let doomed = bound(&self.doomed, &[Value::Time(bounds.now), Value::Number(bounds.limit)])
            .fetch_all(&mut *connection)
            .await?;
        let mut sessions = 0;
        let mut keys: Vec<String> = Vec::with_capacity(doomed.len());
        for row in &doomed {
            keys.push(row.try_get_unchecked(0)?);
            sessions += usize::from(text::is_session(&row.try_get_unchecked::<Vec<u8>, _>(1)?));
        }
        if !keys.is_empty() {
            let marks = vec!["?"; keys.len()].join(", ");
            let table = self.common.table.quoted(MANNER.mark);
            let text = format!("DELETE FROM {table} WHERE session_key IN ({marks})");
            // Its length is another one each time.
            let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
            for key in &keys {
                query = query.bind(key);
            }
            query.execute(&mut *connection).await?;
        }
        Ok(Cleared { removed: keys.len(), sessions, more: false })
    }
}

/// The server's number of an error.
pub(super) fn number(error: &dyn DatabaseError) -> u16 {
    error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number)
}

/// Was it made? `false` if somebody else had made it by then.
fn unless_there<T>(made: Result<T, sqlx::Error>) -> Result<bool, sqlx::Error> {
    match made {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if THERE_ALREADY.contains(&number(&*error)) => Ok(false),
        Err(error) => Err(error),
    }
}
