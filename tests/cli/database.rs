//! `migrate`, and `check-config --connect` on databases: each thing that can be wrong has its own line, its setting,
//! its remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::{coatroom, file, path, stderr, stdout};
use crate::support::database::{DATABASE, ROOT, table};
use crate::support::{Authority, Brand, Database};

/// A password, which must never be seen.
const SECRET: &str = "hunter2-hunter2";
/// The variable of the setting that names the table.
const TABLE: &str = "COATROOM__STORE__TABLE";

/// What it says of a store: whether it is a good one, and the lines.
fn said(url: &str, settings: &[(&str, &str)]) -> (bool, Vec<String>) {
    let output = coatroom(&["check-config", "--connect", "--store", url], settings);
    let (text, lines) = (stdout(&output), stderr(&output));
    assert!(!text.contains(SECRET) && !lines.contains(SECRET), "{lines}");
    let good = match output.status.code() {
        Some(0) => true,
        Some(78) => false,
        code => panic!("{code:?}: {lines}"),
    };
    (good, lines.lines().map(str::to_owned).collect())
}

/// The one line about a store that won't do holds all of these.
fn problem(url: &str, settings: &[(&str, &str)], expected: &[&str]) {
    let (good, lines) = said(url, settings);
    assert!(!good && lines.len() == 1, "{url}: {lines:?}");
    for expected in expected {
        assert!(lines[0].contains(expected), "{url}: {:?} lacks {expected:?}", lines[0]);
    }
}

/// What `migrate` did.
fn migrate(url: &str, settings: &[(&str, &str)]) -> String {
    let output = coatroom(&["migrate", "--store", url], settings);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// Makes a table as Django does.
fn as_django(brand: Brand, table: &str) -> String {
    let (text, time) = match brand {
        Brand::Postgres => ("text", "timestamp with time zone"),
        Brand::MariaDb => ("longtext", "datetime(6)"),
    };
    format!(
        "CREATE TABLE {table} (session_key varchar(40) NOT NULL PRIMARY KEY, session_data {text} NOT NULL, \
         expire_date {time} NOT NULL)"
    )
}

fn both(test: impl Fn(Brand, &'static Database, String)) {
    for brand in [Brand::Postgres, Brand::MariaDb] {
        test(brand, Database::shared(brand), table());
    }
}

#[test]
fn a_table_is_made_once_and_one_of_djangos_gets_what_it_lacks() {
    both(|brand, server, table| {
        let (url, settings) = (server.url(), [(TABLE, &*table)]);
        let made = migrate(&url, &settings);
        assert!(made.starts_with(&format!("made the table {table}\n")), "{made}");
        let nothing = format!("{table} is as it must be: nothing was changed\n");
        assert_eq!(migrate(&url, &settings), nothing);

        let theirs = format!("{table}_of_django");
        server.ask(&as_django(brand, &theirs));
        server.ask(&format!("INSERT INTO {theirs} VALUES ('abc', 'eyJ9:1abc', '2026-11-23 10:00:00')"));
        let settings = [(TABLE, &*theirs)];
        problem(&url, &settings, &["store.table", "has no column revision", "run `coatroom migrate`"]);
        let added =
            format!("added the column revision to {theirs}\nadded an index on expire_date to {theirs}\n");
        assert_eq!(migrate(&url, &settings), added);
        let (good, lines) = said(&url, &settings);
        assert!(good, "{lines:?}");
        assert_eq!(server.ask(&format!("SELECT session_data FROM {theirs}")), ["eyJ9:1abc"], "it is kept");
        // As Django writes, who knows nothing of our column.
        let insert = "(session_key, session_data, expire_date) VALUES ('def', 'e30', '2026-11-23 10:00:00')";
        server.ask(&format!("INSERT INTO {theirs} {insert}"));
    });
}

#[test]
fn several_may_make_the_table_at_once() {
    both(|_, server, table| {
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| migrate(&server.url(), &[(TABLE, &table)]));
            }
        });
        let (good, lines) = said(&server.url(), &[(TABLE, &table)]);
        assert!(good, "{lines:?}");
    });
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/s.db", folder.path().display());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| migrate(&url, &[]));
        }
    });
    assert_eq!(said(&url, &[]), (true, vec![]));
    let mode = fs::metadata(folder.path().join("s.db")).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is nobody else's");
}

#[test]
fn a_sound_database_is_ok_and_nothing_is_left_there() {
    both(|_, server, table| {
        let settings = [(TABLE, &*table)];
        migrate(&server.url(), &settings);
        for url in [server.url(), server.url_by_socket()] {
            let (good, lines) = said(&url, &settings);
            // The tests' own servers don't sync.
            assert!(good && lines.iter().all(|line| line.contains("fsync is off")), "{lines:?}");
        }
        assert_eq!(server.ask(&format!("SELECT count(*) FROM {table}")), ["0"]);
    });
}

#[test]
fn a_table_that_is_not_there_or_is_somebody_elses_is_told() {
    both(|_, server, table| {
        let settings = [(TABLE, &*table), ("COATROOM__STORE__CREATE_TABLE", "false")];
        problem(&server.url(), &settings, &["store.table", "there is no table", "run `coatroom migrate`"]);
        let (good, lines) = said(&server.url(), &[(TABLE, &table)]);
        assert!(good && lines[0].starts_with("note: ") && lines[0].contains("is made when"), "{lines:?}");
        server.ask(&format!("CREATE TABLE {table} (session_key varchar(40), name varchar(9))"));
        let expected = ["has no column session_data, expire_date, revision", "name another table"];
        problem(&server.url(), &settings, &expected);
        server.ask(&format!("DROP TABLE {table}"));
        server.ask(&format!(
            "CREATE TABLE {table} (session_key varchar(20) UNIQUE, session_data text, expire_date date, revision integer)"
        ));
        let (good, lines) = said(&server.url(), &settings);
        assert!(!good, "{lines:?}");
        for column in ["session_key", "expire_date", "revision"] {
            assert!(lines.iter().any(|line| line.contains(&format!("column {column} is"))), "{lines:?}");
        }
    });
}

/// Each is left as it is, whoever would make a table of sessions of it.
#[test]
fn a_table_of_somebody_elses_is_not_migrated() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s.db");
    let file = format!("sqlite://{}", path.display());
    let in_file = |text: &str| {
        let script =
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
        let status = Command::new("python3").args(["-c", script]).arg(&path).arg(text).status();
        assert!(status.expect("python3 runs; tests/run installs it").success());
    };
    let refused = |url: &str, table: &str, what: &str| {
        let settings = [(TABLE, table)];
        let output = coatroom(&["migrate", "--store", url], &settings);
        let expected = format!(
            "coatroom: store.table: {table} has no {what}: name another table: this one is somebody else's\n"
        );
        assert_eq!((output.status.code(), stderr(&output)), (Some(1), expected));
        problem(url, &settings, &["store.table", &format!("has no {what}"), "name another table"]);
    };
    let columns =
        "session_key varchar(40) NOT NULL, session_data text NOT NULL, expire_date timestamp NOT NULL";
    let tables = [
        (
            "people",
            "id integer PRIMARY KEY, name varchar(9)",
            "column session_key, session_data, expire_date, revision",
        ),
        (
            "log",
            "id integer PRIMARY KEY, session_key varchar(40) UNIQUE",
            "column session_data, expire_date, revision",
        ),
        ("visits", columns, "unique index on session_key"),
        ("pairs", &format!("{columns}, UNIQUE (session_key, expire_date)"), "unique index on session_key"),
        ("ours", &format!("{columns}, revision bigint"), "unique index on session_key"),
    ];
    for (name, columns, what) in tables {
        in_file(&format!("CREATE TABLE {name} ({columns})"));
        refused(&file, name, what);
        both(|_, server, table| {
            let table = format!("{table}_{name}");
            server.ask(&format!("CREATE TABLE {table} ({columns})"));
            refused(&server.url(), &table, what);
            let names = server.ask(&format!(
                "SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"
            ));
            assert_eq!(
                names.iter().filter(|column| *column == "revision").count(),
                usize::from(name == "ours")
            );
        });
    }
}

#[test]
fn who_may_not_is_told_what_to_grant() {
    both(|brand, server, table| {
        migrate(&server.url(), &[(TABLE, &table)]);
        let user = format!("reader_{table}");
        match brand {
            Brand::Postgres => server.ask(&format!("CREATE USER {user}")),
            Brand::MariaDb => server.ask(&format!("CREATE USER {user}@'%'")),
        };
        let grantee = if brand == Brand::Postgres { user.clone() } else { format!("{user}@'%'") };
        server.ask(&format!("GRANT SELECT ON {table} TO {grantee}"));
        let grant = "run GRANT SELECT, INSERT, UPDATE, DELETE ON ";
        let expected = ["store.table", &*user, "may not write to", grant];
        problem(&server.url_for(&user), &[(TABLE, &table)], &expected);
        server.ask(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {grantee}"));
        let (good, lines) = said(&server.url_for(&user), &[(TABLE, &table)]);
        assert!(good, "{lines:?}");
    });
}

#[test]
fn where_nobody_is_is_told() {
    for scheme in ["postgres", "mysql"] {
        let url = format!("{scheme}://{ROOT}@127.0.0.1:1/{DATABASE}");
        problem(&url, &[], &["store.url (--store)", "127.0.0.1:1: nobody listens there"]);
        // No name server is asked for such a name.
        let url = format!("{scheme}://{ROOT}@{}.invalid/{DATABASE}", "x".repeat(64));
        problem(&url, &[], &["store.url", "nobody knows the host"]);
    }
    problem("postgres://a@/b?host=/nowhere", &[], &["there is no socket"]);
    both(|_, server, _| {
        let url = server.url().replace(&format!("/{DATABASE}"), "/another");
        problem(&url, &[], &["store.url", "has no database \"another\"", "CREATE DATABASE"]);
        // The other one's.
        let other = if server.url().starts_with("mysql") { Brand::Postgres } else { Brand::MariaDb };
        let place = Database::shared(other).address.to_string();
        let (good, lines) = said(&server.url_at(ROOT, &place), &[]);
        assert!(!good && lines.len() == 1, "{lines:?}");
    });
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let server = Database::shared(Brand::MariaDb);
    let user = format!("u_{}", table());
    server.ask(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'right'"));
    let url = server.url_for(&format!("{user}:{SECRET}"));
    problem(&url, &[], &["store.url", "holds another password than user", &user]);
    let url = server.url_for(&user);
    let secret = file(SECRET);
    problem(&url, &[("COATROOM__STORE__PASSWORD_FILE", path(&secret))], &["store.password_file"]);
    problem(&url, &[], &["store.password (", "or none"]);
}

#[test]
fn a_server_without_tls_is_told() {
    both(|_, server, _| {
        let url = format!("{}?sslmode=verify-full", server.url());
        let expected = ["speaks no TLS, and this is a URL with it", "sslmode=disable"];
        problem(&url, &[], &expected);
    });
}

#[test]
fn tls_is_verified_and_told_where_it_does_not_come_about() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let signed = authority.sign(&["localhost"]);
    for brand in [Brand::Postgres, Brand::MariaDb] {
        let server = Database::with_tls(brand, &signed);
        let place = format!("localhost:{}", server.address.port());
        let url = |mode: &str, place: &str| format!("{}?sslmode={mode}", server.url_at(ROOT, place));
        let table = table();
        let with =
            |ca: &'_ str, url: &str| said(url, &[("COATROOM__STORE__TLS_CA_FILE", ca), (TABLE, &table)]);
        migrate(
            &url("verify-full", &place),
            &[("COATROOM__STORE__TLS_CA_FILE", &authority.own.cert), (TABLE, &table)],
        );
        for mode in ["verify-full", "VERIFY_IDENTITY"] {
            let (good, lines) = with(&authority.own.cert, &url(mode, &place));
            assert!(good, "{mode}: {lines:?}");
        }
        let (good, lines) = with(&stranger.own.cert, &url("verify-full", &place));
        assert!(
            !good && lines[0].contains("store.tls_ca_file") && lines[0].contains("nobody whom we believe"),
            "{lines:?}"
        );
        let numeric = server.address.to_string();
        let (good, lines) = with(&authority.own.cert, &url("verify-full", &numeric));
        assert!(!good && lines[0].contains("is for another name"), "{lines:?}");
    }
}

#[test]
fn what_a_server_may_lose_is_a_warning() {
    let server = Database::start(Brand::MariaDb, &["--innodb-flush-log-at-trx-commit=2"]);
    migrate(&server.url(), &[]);
    let (good, lines) = said(&server.url(), &[]);
    assert!(good && lines.len() == 1, "{lines:?}");
    assert!(lines[0].starts_with("warning: store.url"), "{lines:?}");
    assert!(lines[0].contains("innodb_flush_log_at_trx_commit is 2"), "{lines:?}");
    let server = Database::start(Brand::Postgres, &["-c", "synchronous_commit=off"]);
    migrate(&server.url(), &[]);
    let (good, lines) = said(&server.url(), &[]);
    assert!(good && lines.len() == 2, "{lines:?}");
    assert!(lines[1].contains("synchronous_commit is off there"), "{lines:?}");
}

#[test]
fn a_server_that_takes_no_writes_is_told() {
    let server = Database::start(Brand::Postgres, &[]);
    migrate(&server.url(), &[]);
    server.ask(&format!("ALTER DATABASE {DATABASE} SET default_transaction_read_only = on"));
    let (good, lines) = said(&server.url(), &[]);
    assert!(!good, "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("takes no writes") && line.contains("name the primary")),
        "{lines:?}"
    );
}

#[test]
fn a_file_that_cannot_be_used_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |name: &str| format!("sqlite://{}/{name}", folder.path().display());
    problem(&of("no/s.db"), &[], &["store.url", "there is no folder", "make it"]);
    fs::write(folder.path().join("text"), "x".repeat(10_000)).expect("a file");
    problem(&of("text"), &[], &["is no SQLite file", "name another one"]);
    fs::create_dir(folder.path().join("folder")).expect("a folder");
    problem(&of("folder"), &[], &["can't be"]);
    problem(&of("s.db"), &[(TABLE, "app.sessions")], &["store.table", "names a schema"]);
    problem(&of("s.db"), &[("COATROOM__STORE__CREATE_TABLE", "false")], &["run `coatroom migrate`"]);
    let (good, lines) = said(&of("s.db"), &[]);
    assert!(good && lines.len() == 1 && lines[0].starts_with("note: store.url"), "{lines:?}");
    assert!(lines[0].contains("/s.db: it is made when"), "{lines:?}");
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 2, "whoever looks makes nothing that another user would find");
    migrate(&of("s.db"), &[]);
    assert_eq!(said(&of("s.db"), &[]), (true, vec![]));
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        left + 1,
        "and nothing beside the file"
    );
    let mut holder = Command::new("python3")
        .args(["-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); print(flush=True); sys.stdin.read()"])
        .arg(folder.path().join("s.db"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3 runs; tests/run installs it");
    let mut line = String::new();
    let out = holder.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("a line");
    problem(&of("s.db"), &[], &["store.url", "locked"]);
    drop(holder.stdin.take());
    drop(holder.wait());
}

#[test]
fn a_store_without_a_table_has_nothing_to_migrate() {
    let output = coatroom(&["migrate"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "coatroom: store.url: is no SQL store, and others have no table\n");
}
