//! PostgreSQL 12 or newer, or what speaks as it does.
//!
//! Each connection is told its `statement_timeout`, and to see what others have committed (`read committed`), be the
//! server's default another one. How durable a commit is stays the server's affair (`synchronous_commit`).

use prometheus::IntCounter;
use sqlx::encode::IsNull;
use sqlx::error::{BoxDynError, DatabaseError};
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnectOptions, PgConnection, PgRow, PgSslMode, PgTypeInfo, PgValueRef,
    Postgres as Driver,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Decode, Encode, Row as _, Type};

use super::call::{cleared, swap};
use super::database::{Bounds, Common, Database, Diagnosis, Failure, Lack, Move, Purpose, Row, Swept, Value};
use super::table::{Manner, Statement, statement};
use super::target::{Form, Place, Target};
use super::tls::Mode;
use super::{Misfit, Sql, text};
use crate::store::engine::Swap;
use crate::store::{Config, Kind};
use crate::time::Timestamp;

/// What its statements look like.
const MANNER: Manner = Manner {
    mark: '"',
    question_marks: false,
    read_date: "expire_date",
    unless_taken: " ON CONFLICT (session_key) DO NOTHING",
};
/// What its URLs look like.
const FORM: Form = Form {
    port: 5432,
    socket: "host",
    socket_has_port: true,
    example: "postgres://user:password@host:port/database, or postgres://user@/database?host=/folder/of/the/socket",
};

/// A server.
pub struct Postgres {
    pub(super) target: Target,
    common: Common,
    cycle: Statement,
    clear: Statement,
    /// The same from an instant on.
    clear_on: Statement,
}

impl Postgres {
    /// An engine on the server of the settings, which is not asked yet.
    ///
    /// # Errors
    /// The first setting that can't be obeyed, and why.
    pub fn engine(config: &Config, connections: &IntCounter) -> Result<Sql<Self>, Misfit> {
        Sql::over(Self::new(config)?, config, connections)
    }

    pub(super) fn new(config: &Config) -> Result<Self, Misfit> {
        let target = Target::new(config, &FORM)?;
        let common = Common::new(format!("PostgreSQL at {}", target.place), config, &MANNER)?;
        let quoted = common.table.quoted(MANNER.mark);
        // A key that is taken undoes all of it.
        let cycle = format!(
            "WITH ended AS (UPDATE {quoted} SET session_data = $1, expire_date = $2, revision = $3 \
             WHERE session_key = $4 AND revision = $5 RETURNING 1) \
             INSERT INTO {quoted} (session_key, session_data, expire_date, revision) \
             SELECT $6, $7, $8, $9 FROM ended"
        );
        // What somebody else is writing is left for the next time, and what was touched is looked at anew.
        let clear = |on: &str| {
            let text = format!(
                "WITH doomed AS (SELECT session_key FROM {quoted} WHERE expire_date <= $1{on} \
                 ORDER BY expire_date LIMIT $2 FOR UPDATE SKIP LOCKED) \
                 DELETE FROM {quoted} AS old USING doomed WHERE old.session_key = doomed.session_key \
                 RETURNING left(old.session_data, {}), old.revision, old.expire_date",
                text::BEGINNING
            );
            statement(&text, MANNER.question_marks)
        };
        Ok(Self {
            target,
            common,
            cycle: statement(&cycle, MANNER.question_marks),
            clear: clear(""),
            clear_on: clear(" AND expire_date >= $3"),
        })
    }

    /// How a connection is opened today.
    fn options(&self) -> Result<PgConnectOptions, Misfit> {
        let target = &self.target;
        let mut options = PgConnectOptions::new_without_pgpass()
            .application_name(env!("CARGO_PKG_NAME"))
            .username(&target.user)
            .database(&target.database)
            .disable_statement_logging();
        let password = target.password()?;
        if !password.is_empty() {
            options = options.password(password.expose());
        }
        options = match &target.place {
            Place::Tcp { host, port } => options.host(host).port(*port),
            Place::Unix { path, port } => options.socket(path).port(*port),
        };
        let Some(tls) = &target.tls else { return Ok(options.ssl_mode(PgSslMode::Disable)) };
        let files = tls.files()?;
        options = options.ssl_mode(match tls.mode {
            Mode::Off => PgSslMode::Disable,
            Mode::Unverified => PgSslMode::Require,
            Mode::Full => PgSslMode::VerifyFull,
        });
        options = options.ssl_root_cert_from_pem(files.ca);
        if let Some((cert, key)) = files.ours {
            options = options.ssl_client_cert_from_pem(cert).ssl_client_key_from_pem(key);
        }
        Ok(options)
    }
}

/// `timestamp with time zone`: microseconds since the beginning of the year 2000.
struct Instant(Timestamp);

impl Instant {
    /// `timestamptz` of every server.
    const TYPE: PgTypeInfo = PgTypeInfo::with_oid(Oid(1184));
    /// The milliseconds from the epoch to PostgreSQL's own.
    const EPOCH: i64 = 946_684_800_000;
}

impl Type<Driver> for Instant {
    fn type_info() -> PgTypeInfo {
        Self::TYPE
    }
}

impl Encode<'_, Driver> for Instant {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // Either end is the server's own infinity.
        let micros = self.0.as_millis().saturating_sub(Self::EPOCH).saturating_mul(1000);
        Encode::<Driver>::encode_by_ref(&micros, buffer)
    }
}

impl Decode<'_, Driver> for Instant {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Driver>>::decode(value)?;
        Ok(Self(Timestamp::from_millis((micros.div_euclid(1000)).saturating_add(Self::EPOCH))))
    }
}

type Query<'q> = sqlx::query::Query<'q, Driver, PgArguments>;

fn bound<'q>(statement: &Statement, values: &[Value<'q>]) -> Query<'q> {
    let mut query = sqlx::query(AssertSqlSafe(Statement::clone(statement)));
    for value in values {
        query = match *value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
            Value::Time(at) => query.bind(Instant(at)),
        };
    }
    query
}

impl Database for Postgres {
    type Connection = PgConnection;

    const NAME: &'static str = "PostgreSQL";
    const MARK: char = MANNER.mark;
    const ONE_WRITER: bool = false;
    const CYCLES: bool = true;

    fn common(&self) -> &Common {
        &self.common
    }

    async fn open(&self, _: Purpose) -> Result<PgConnection, Failure> {
        let mut connection = self.options()?.connect().await?;
        let millis = self.common.patience.as_millis().max(1);
        let text = format!(
            "SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
             SET default_transaction_isolation = 'read committed'"
        );
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await?;
        Ok(connection)
    }

    async fn execute<'a>(
        connection: &'a mut PgConnection,
        statement: &'a Statement,
        values: &'a [Value<'a>],
    ) -> Result<u64, sqlx::Error> {
        Ok(bound(statement, values).execute(connection).await?.rows_affected())
    }

    async fn rows<'a>(
        connection: &'a mut PgConnection,
        statement: &'a Statement,
        values: &'a [Value<'a>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let rows = bound(statement, values).fetch_all(connection).await?;
        let row = |row: &PgRow| {
            let until: Option<Instant> = row.try_get_unchecked(2)?;
            let data: String = row.try_get_unchecked(0)?;
            Ok(Row {
                data: data.into_bytes(),
                revision: row.try_get_unchecked(1)?,
                until: until.map(|until| until.0),
            })
        };
        rows.iter().map(row).collect()
    }

    async fn cycle<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        step: &'a Move,
    ) -> Result<Swap, sqlx::Error> {
        use Value::{Number, Text, Time};
        let Move { old, seen, ended, new, fresh } = step;
        let values = [
            Text(&ended.data),
            Time(ended.until),
            Number(ended.revision),
            Text(old),
            Number(*seen),
            Text(new),
            Text(&fresh.data),
            Time(fresh.until),
            Number(fresh.revision),
        ];
        match Self::execute(connection, &self.cycle, &values).await {
            Ok(met) => swap(self, connection, met, old).await,
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(Swap::Changed),
            Err(error) => Err(error),
        }
    }

    async fn clear<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        bounds: &'a Bounds,
    ) -> Result<Swept, sqlx::Error> {
        let Bounds { now, from, limit } = *bounds;
        let (now, limit) = (Value::Time(now), Value::Number(limit));
        match from {
            None => cleared::<Self>(connection, &self.clear, &[now, limit]).await,
            Some(from) => cleared::<Self>(connection, &self.clear_on, &[now, limit, Value::Time(from)]).await,
        }
    }

    async fn is_unique<'a>(&'a self, connection: &'a mut PgConnection) -> Result<bool, sqlx::Error> {
        let text = "SELECT EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a \
                    ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
                    WHERE i.indrelid = to_regclass($1) AND a.attname = 'session_key' \
                    AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1 AND i.indpred IS NULL)";
        sqlx::query_scalar(text).bind(self.common.table.quoted(MANNER.mark)).fetch_one(connection).await
    }

    async fn migrate<'a>(&'a self, connection: &'a mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let (table, quoted) = (&self.common.table, self.common.table.quoted(MANNER.mark));
        let mut done = Vec::new();
        let mut transaction = connection.begin().await?;
        // Of several that do this at once each waits for its turn, and finds what the one before has done.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext($1))")
            .bind(format!("coatroom migrate {table}"))
            .execute(&mut *transaction)
            .await?;
        // A statement that fails would end the transaction, so the catalogue is asked.
        let columns: Vec<String> = sqlx::query_scalar(
            "SELECT attname::text FROM pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        )
        .bind(&quoted)
        .fetch_all(&mut *transaction)
        .await?;
        let mut texts = Vec::new();
        if columns.is_empty() {
            texts.push(format!(
                "CREATE TABLE {quoted} (session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL, \
                 expire_date timestamp with time zone NOT NULL, revision bigint)"
            ));
            done.push(format!("made the table {table}"));
        } else if !columns.iter().any(|column| column == "revision") {
            texts.push(format!("ALTER TABLE {quoted} ADD COLUMN revision bigint"));
            done.push(format!("added the column revision to {table}"));
        }
        let indexed: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a \
             ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
             WHERE i.indrelid = to_regclass($1) AND a.attname = 'expire_date')",
        )
        .bind(&quoted)
        .fetch_one(&mut *transaction)
        .await?;
        if !indexed {
            texts.push(format!("CREATE INDEX \"{}\" ON {quoted} (expire_date)", table.index()));
            done.push(format!("added an index on expire_date to {table}"));
        }
        for text in texts {
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(done)
    }

    fn diagnose(error: &dyn DatabaseError) -> Diagnosis {
        let code = error.code().unwrap_or_default();
        match &*code {
            "28P01" | "28000" => Diagnosis::lost(Kind::NoAuth),
            "42501" => Diagnosis::of(Kind::NoPermission),
            // read_only_sql_transaction
            "25006" => Diagnosis::of(Kind::ReadOnly),
            // disk_full, out_of_memory
            "53100" | "53200" => Diagnosis::of(Kind::OutOfMemory),
            // too_many_connections
            "53300" => Diagnosis::lost(Kind::Busy),
            // cannot_connect_now
            "57P03" => Diagnosis::lost(Kind::Loading),
            // serialization_failure, deadlock_detected
            "40001" | "40P01" => Diagnosis::again(Kind::Busy),
            // query_canceled by statement_timeout, lock_not_available
            "57014" | "55P03" => Diagnosis::of(Kind::Busy),
            // statement_completion_unknown
            "40003" => Diagnosis::of(Kind::Broken),
            // data_corrupted, index_corrupted
            "XX001" | "XX002" => Diagnosis::of(Kind::Corrupt),
            // invalid_catalog_name: there is no such database.
            "3D000" => Diagnosis::lost(Kind::Refused),
            // The server, or somebody there, ends the connection.
            code if code.starts_with("57P") || code.starts_with("08") => Diagnosis::lost(Kind::Broken),
            // A plan of before the table was changed.
            "0A000" => Diagnosis { kind: Kind::Refused, again: true, lost: true },
            _ => Diagnosis::of(Kind::Refused),
        }
    }

    fn lack(error: &dyn DatabaseError) -> Option<Lack> {
        match error.code().as_deref() {
            Some("42P01") => Some(Lack::Table),
            Some("42703") => Some(Lack::Column),
            _ => None,
        }
    }
}
