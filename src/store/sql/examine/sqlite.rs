//! What a file of SQLite's tells of itself.

use std::fs;
use std::io;
use std::path::Path;

use sqlx::SqliteConnection;

use super::{Told, URL};
use crate::store::Finding;
use crate::store::examine::trial;
use crate::store::sql::Sqlite;
use crate::store::sql::database::Database as _;
use crate::store::sql::sqlite::{code, make};

impl Told for Sqlite {
    fn absent(&self) -> Option<Finding> {
        // The sidecar may be another user, whose the file has to be.
        if !self.is_absent() || self.on_a_share().is_some() {
            return None;
        }
        let what = format!("there is no file {}", self.path.display());
        if !self.makes {
            let remedy = "run `coatroom migrate` as the sidecar's user, or set store.create_table";
            return Some(Finding::problem(URL, what, remedy));
        }
        match try_beside(&self.path) {
            Ok(()) => Some(Finding::note(URL, what, "it is made when the first connection is open")),
            Err(error) => self.unreached(&sqlx::Error::Io(error)),
        }
    }

    fn user(&self) -> String {
        "our user".to_owned()
    }

    fn grant(&self) -> Option<String> {
        None
    }

    /// SQLite keeps any value in any column; only a revision has to come back as a number.
    async fn misfits(&self, connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
        let text = "SELECT type FROM pragma_table_info($1) WHERE name = 'revision'";
        let kind: Option<String> =
            sqlx::query_scalar(text).bind(&*self.table().name).fetch_optional(connection).await?;
        let is_number = |kind: &String| kind.to_ascii_uppercase().contains("INT");
        let misfit = kind.filter(|kind| !is_number(kind));
        Ok(misfit.map(|kind| format!("its column revision is {kind}, not bigint")).into_iter().collect())
    }

    async fn may_create(&self, _: &mut SqliteConnection) -> Result<Option<bool>, sqlx::Error> {
        Ok(None)
    }

    async fn weaknesses(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<(String, &'static str)>, sqlx::Error> {
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
        let level: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await?;
        let mut weaknesses = Vec::new();
        if mode != "wal" {
            let what = format!("journal_mode is {mode}: readers and writers wait for each other");
            weaknesses.push((what, "see whether its file system can map files into memory"));
        }
        // FULL, EXTRA
        if level < 2 {
            let what = "synchronous is less than FULL: a power cut may undo the last changes".to_owned();
            weaknesses.push((what, "report this as a bug"));
        }
        Ok(weaknesses)
    }

    fn unreached(&self, error: &sqlx::Error) -> Option<Finding> {
        let path = self.path.display();
        let folder = self.path.parent().unwrap_or(&self.path).display();
        let (what, remedy) = match error {
            sqlx::Error::Io(error)
                if error.kind() == io::ErrorKind::NotFound
                    && !self.path.parent().is_some_and(Path::is_dir) =>
            {
                (format!("there is no folder {folder}"), "make it, and let our user write there")
            }
            sqlx::Error::Io(error) => {
                (format!("{path} can't be made ({error})"), "let our user write to its folder")
            }
            sqlx::Error::Database(error) => match code(&**error) & 0xff {
                14 => (
                    format!("{path} can't be opened ({})", error.message()),
                    "let our user read and write it and its folder",
                ),
                26 => (format!("{path} is no SQLite file"), "name another one"),
                8 => (format!("{path} or its folder is read-only"), "let our user write to both"),
                13 => (format!("the disk of {path} is full"), "make room there"),
                5 | 6 => (format!("{path} is locked by somebody"), "end who holds its lock, and try again"),
                _ => return None,
            },
            _ => return None,
        };
        Some(Finding::problem(URL, what, remedy))
    }
}

/// Can a file be made where this one would be? One of another name is, and removed.
fn try_beside(path: &Path) -> io::Result<()> {
    let beside = path.with_file_name(trial());
    make(&beside)?;
    fs::remove_file(&beside)
}
