//! What a PostgreSQL tells of itself.

use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Told, URL};
use crate::store::Finding;
use crate::store::sql::Postgres;
use crate::store::sql::database::Database as _;
use crate::store::sql::target::Target;

impl Told for Postgres {
    fn user(&self) -> String {
        format!("user {:?}", self.target.user)
    }

    fn grant(&self) -> Option<String> {
        let (table, user) = (self.table().quoted('"'), &self.target.user);
        Some(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO \"{user}\""))
    }

    async fn misfits(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT attname::text, format_type(atttypid, NULL), \
             CASE WHEN atttypmod > 4 THEN atttypmod - 4 ELSE 40 END, attnotnull \
             FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        )
        .bind(self.table().quoted('"'))
        .fetch_all(connection)
        .await?;
        let mut misfits = Vec::new();
        for row in rows {
            let (name, kind, length): (String, String, i32) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let wanted = match (&*name, &*kind) {
                ("session_key", "character varying") if length >= 40 => continue,
                ("session_key" | "session_data", "text") | ("session_data", "character varying") => continue,
                ("expire_date", "timestamp with time zone") | ("revision", "bigint") => continue,
                ("session_key", _) => "varchar(40)",
                ("session_data", _) => "text",
                ("expire_date", _) => "timestamp with time zone",
                ("revision", _) => "bigint",
                (_, _) if !row.try_get::<bool, _>(3)? => continue,
                _ => {
                    misfits.push(format!("has a column {name} that wants a value, and we have none for it"));
                    continue;
                }
            };
            misfits.push(format!("its column {name} is {kind}, not {wanted}"));
        }
        Ok(misfits)
    }

    async fn may_create(&self, connection: &mut PgConnection) -> Result<Option<bool>, sqlx::Error> {
        let text = "SELECT has_schema_privilege(COALESCE($1, current_schema()), 'CREATE')";
        sqlx::query_scalar(text).bind(self.table().schema.as_deref()).fetch_one(connection).await
    }

    async fn weaknesses(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(String, &'static str)>, sqlx::Error> {
        let settings: Vec<String> = sqlx::query_scalar(
            "SELECT current_setting(name) FROM unnest(ARRAY['fsync', 'synchronous_commit']) AS name",
        )
        .fetch_all(&mut *connection)
        .await?;
        connection.ping().await?;
        let mut weaknesses = Vec::new();
        if settings.first().is_some_and(|fsync| fsync == "off") {
            let what = "fsync is off there: a crash of its machine may leave nothing that can be read";
            weaknesses.push((what.to_owned(), "set fsync = on there"));
        }
        if settings.get(1).is_some_and(|commit| commit == "off") {
            let what =
                "synchronous_commit is off there: a crash may undo the last second, logins and logouts too";
            weaknesses.push((what.to_owned(), "set synchronous_commit = on there"));
        }
        Ok(weaknesses)
    }

    fn unreached(&self, error: &sqlx::Error) -> Option<Finding> {
        let Target { place, user, database, password_setting, .. } = &self.target;
        let error = error.as_database_error()?;
        let code = error.code()?;
        Some(match &*code {
            "28P01" => Finding::problem(
                password_setting,
                format!(
                    "holds another password than user {user:?} of {place} has, or none, or there is no such user"
                ),
                "correct it, or the user in store.url",
            ),
            "28000" if error.message().contains("no encryption") => Finding::problem(
                URL,
                format!(
                    "{place} doesn't let user {user:?} in without TLS, or not at all (pg_hba.conf there)"
                ),
                "add sslmode=verify-full, or a line for us there",
            ),
            "28000" => Finding::problem(
                URL,
                format!("{place} doesn't let us in: {}", error.message()),
                "correct the user, or add a line for us to pg_hba.conf there",
            ),
            "3D000" => Finding::problem(
                URL,
                format!("{place} has no database {database:?}"),
                "correct the name, or run CREATE DATABASE there",
            ),
            "42501" => Finding::problem(
                URL,
                format!("user {user:?} may not connect to database {database:?} of {place}"),
                "run GRANT CONNECT ON DATABASE there",
            ),
            _ => return None,
        })
    }
}
