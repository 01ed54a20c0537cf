//! What a MySQL or MariaDB tells of itself.

use sqlx::{MySqlConnection, Row as _};

use super::{Told, URL};
use crate::store::Finding;
use crate::store::sql::MySql;
use crate::store::sql::database::Database as _;
use crate::store::sql::mysql::number;
use crate::store::sql::target::Target;

impl Told for MySql {
    fn user(&self) -> String {
        format!("user {:?}", self.target.user)
    }

    fn grant(&self) -> Option<String> {
        let (table, Target { user, database, .. }) = (self.table(), &self.target);
        let schema = table.schema.as_ref().unwrap_or(database);
        let place = format!("`{schema}`.`{}`", table.name);
        Some(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {place} TO '{user}'@'…'"))
    }

    async fn misfits(&self, connection: &mut MySqlConnection) -> Result<Vec<String>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT column_name, data_type, CAST(COALESCE(character_maximum_length, 0) AS SIGNED), \
             COALESCE(character_set_name, ''), CAST(COALESCE(datetime_precision, 0) AS SIGNED), \
             is_nullable = 'NO' AND column_default IS NULL AND extra = '' \
             FROM information_schema.columns WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?",
        )
        .bind(self.table().schema.as_deref())
        .bind(&*self.table().name)
        .fetch_all(&mut *connection)
        .await?;
        let mut misfits = Vec::new();
        for row in rows {
            let text = |at: usize| row.try_get_unchecked::<String, _>(at);
            let number = |at: usize| row.try_get_unchecked::<i64, _>(at);
            let (name, kind, length, letters, precision) =
                (text(0)?, text(1)?, number(2)?, text(3)?, number(4)?);
            let wanted = match (&*name, &*kind) {
                ("session_key", "varchar" | "char") if length >= 40 => continue,
                ("session_data", "longtext") if letters == "utf8mb4" => continue,
                ("expire_date", "datetime") if precision == 6 => continue,
                ("revision", "bigint") => continue,
                ("session_key", _) => "varchar(40)",
                ("session_data", _) => "longtext in utf8mb4",
                ("expire_date", _) => "datetime(6)",
                ("revision", _) => "bigint",
                (_, _) if number(5)? == 0 => continue,
                _ => {
                    misfits.push(format!("has a column {name} that wants a value, and we have none for it"));
                    continue;
                }
            };
            let letters = if letters.is_empty() { String::new() } else { format!(" in {letters}") };
            misfits.push(format!("its column {name} is {kind}{letters}, not {wanted}"));
        }
        Ok(misfits)
    }

    async fn may_create(&self, _: &mut MySqlConnection) -> Result<Option<bool>, sqlx::Error> {
        Ok(None)
    }

    async fn weaknesses(
        &self,
        connection: &mut MySqlConnection,
    ) -> Result<Vec<(String, &'static str)>, sqlx::Error> {
        let settings = sqlx::query(
            "SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@log_bin AS SIGNED), \
             CAST(@@sync_binlog AS SIGNED), COALESCE((SELECT engine FROM information_schema.tables \
             WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?), '')",
        )
        .bind(self.table().schema.as_deref())
        .bind(&*self.table().name)
        .fetch_one(connection)
        .await?;
        let number = |at: usize| settings.try_get_unchecked::<i64, _>(at);
        let engine: String = settings.try_get_unchecked(3)?;
        let mut weaknesses = Vec::new();
        let flush = number(0)?;
        if flush != 1 {
            let what = format!(
                "innodb_flush_log_at_trx_commit is {flush} there: a crash may undo the last second, logins and logouts too"
            );
            weaknesses.push((what, "set it to 1 there"));
        }
        if number(1)? == 1 && number(2)? != 1 {
            let what =
                "sync_binlog is not 1 there: after a crash its replicas may have other sessions than it";
            weaknesses.push((what.to_owned(), "set it to 1 there"));
        }
        if !engine.eq_ignore_ascii_case("innodb") {
            let what =
                format!("the table's engine is {engine}, which loses what was acknowledged in a crash");
            weaknesses.push((what, "run ALTER TABLE … ENGINE = InnoDB there"));
        }
        Ok(weaknesses)
    }

    fn unreached(&self, error: &sqlx::Error) -> Option<Finding> {
        let Target { place, user, database, password_setting, .. } = &self.target;
        let error = error.as_database_error()?;
        Some(match number(error) {
            1045 | 1698 => Finding::problem(
                password_setting,
                format!(
                    "holds another password than user {user:?} of {place} has, or none, or there is no such user"
                ),
                "correct it, or the user in store.url",
            ),
            1130 => Finding::problem(
                URL,
                format!("{place} lets nobody in from this machine"),
                "make a user for this host there",
            ),
            3159 => Finding::problem(
                URL,
                format!("{place} lets nobody in without TLS (require_secure_transport)"),
                "add sslmode=verify-full",
            ),
            1049 => Finding::problem(
                URL,
                format!("{place} has no database {database:?}"),
                "correct the name, or run CREATE DATABASE there",
            ),
            1044 => Finding::problem(
                URL,
                format!("user {user:?} may not use database {database:?} of {place}"),
                format!("run {}", self.grant().unwrap_or_default()),
            ),
            _ => return None,
        })
    }
}
