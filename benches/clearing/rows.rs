//! Tables full of sessions that have ended, and a few that have not, made by the database itself.
//!
//! Keys are random, and so are the instants: what is cleared together lies nowhere together, neither in the table nor
//! in the index of its keys.

use std::fs::File;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::support::{Brand, Database};

/// One row in so many has not ended.
pub const LIVE: u64 = 100;
/// When sessions have ended: up to so many seconds ago, in no order.
const AGES: u32 = 864_000;
/// What each of them holds: a native record in shape, some 200 bytes.
const DATA: &str = "1:AAAAAAL.{\"uid\":\"7f3a\",\"name\":\"Ada Lovelace\",\"mail\":\"ada.lovelace@example.org\",\"roles\":\"admin,editor,auditor\",\"counter\":\"00000001\",\"pad\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}";

const COUNT: &str = "SELECT count(*) FROM django_session";

/// A store with such a table.
pub enum Shelf {
    /// A file in a folder that goes with it.
    Sqlite(tempfile::TempDir),
    /// A server that syncs what it commits, with memory as a small one has it.
    Postgres(Database),
}

impl Shelf {
    /// Makes one with so many rows.
    pub fn new(name: &str, rows: u64) -> Self {
        match name {
            "sqlite" => {
                let folder = tempfile::tempdir().expect("a folder");
                let file = file(folder.path());
                super::runtime().block_on(fill(&file, rows)).expect("SQLite makes the rows");
                // The first who commits would wait for all of them to reach the disk.
                File::open(&file).and_then(|file| file.sync_all()).expect("the disk takes the rows");
                Self::Sqlite(folder)
            }
            "postgres" => {
                let options = ["-c", "fsync=on", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"];
                let server = Database::start(Brand::Postgres, &options);
                for text in postgres(rows) {
                    server.ask(&text);
                }
                Self::Postgres(server)
            }
            other => panic!("{other} is not cleared by anybody here: sqlite or postgres"),
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", file(folder.path()).display()),
            Self::Postgres(server) => server.url(),
        }
    }

    /// How many rows there are now.
    pub fn count(&self) -> u64 {
        match self {
            Self::Sqlite(folder) => super::runtime().block_on(async {
                let mut connection = options(&file(folder.path())).connect().await.expect("it is there");
                let count: i64 =
                    sqlx::query_scalar(COUNT).fetch_one(&mut connection).await.expect("it counts");
                connection.close().await.expect("it is closed");
                count.unsigned_abs()
            }),
            Self::Postgres(server) => server.ask(COUNT)[0].parse().expect("a number"),
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("sessions.db")
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(file).disable_statement_logging()
}

/// Makes the table without a log: whoever is interrupted begins anew.
async fn fill(file: &Path, rows: u64) -> Result<(), sqlx::Error> {
    let options = options(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off)
        .pragma("cache_size", "-2000000");
    let mut connection: SqliteConnection = options.connect().await?;
    let now = "strftime('%s', 'now')";
    let texts = [
        "CREATE TABLE django_session (session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL, \
         expire_date datetime NOT NULL, revision bigint)"
            .to_owned(),
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             INSERT INTO django_session SELECT lower(hex(randomblob(20))), '{DATA}', \
             strftime('%Y-%m-%d %H:%M:%S', {now} + CASE WHEN i % {LIVE} = 0 THEN {AGES} \
             ELSE -1 - abs(random()) % {AGES} END, 'unixepoch') || '.000000', i FROM n"
        ),
        "CREATE INDEX django_session_expire_date ON django_session (expire_date)".to_owned(),
    ];
    for text in texts {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await?;
    }
    connection.close().await
}

/// What makes the table there.
fn postgres(rows: u64) -> [String; 4] {
    [
        "CREATE TABLE django_session (session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL, \
         expire_date timestamp with time zone NOT NULL, revision bigint)"
            .to_owned(),
        // Two numbers of MD5 are one of 40 digits, whatever else they are.
        format!(
            "INSERT INTO django_session SELECT md5(i::text) || left(md5((-i)::text), 8), '{DATA}', \
             now() + CASE WHEN i % {LIVE} = 0 THEN {AGES} ELSE -1 - floor(random() * {AGES}) END \
             * interval '1 s', i FROM generate_series(1, {rows}) AS i"
        ),
        "CREATE INDEX django_session_expire_date ON django_session (expire_date)".to_owned(),
        "VACUUM ANALYZE django_session".to_owned(),
    ]
}
