//! `coatroom copy`.

use std::path::Path;

use super::{coatroom, stderr, stdout};
use crate::support::child::until;
use crate::support::database::table;
use crate::support::{Backend, Brand, Browser, Database, Redis, Sidecar};

const MANY: usize = 620;
/// Sessions that are begun later than those.
const LATER: usize = 100;

/// A Redis with sessions that say who they are, and their browsers; the last ten have logged out.
fn filled(backend: &Backend) -> (Redis, Vec<Browser>) {
    let redis = Redis::start();
    let sidecar = Sidecar::on(&redis, backend.address, |_| {});
    let mut browsers: Vec<_> = (0..MANY)
        .map(|n| {
            let mut browser = sidecar.browser();
            assert_eq!(browser.ask(&[("X-Session-Set", &format!("{{\"n\":{n}}}"))]).row(), "create");
            browser
        })
        .collect();
    for browser in &mut browsers[MANY - 10..] {
        let kept = browser.jar.clone();
        assert_eq!(browser.ask(&[("X-Session-Flush", "true")]).row(), "flush");
        browser.jar = kept;
    }
    (redis, browsers)
}

/// What each of them reads in another store.
fn read(url: &str, backend: &Backend, browsers: &mut [Browser]) {
    let sidecar = Sidecar::keeping(url, backend.address, |_| {});
    for (n, browser) in browsers.iter_mut().enumerate() {
        browser.go(sidecar.address());
        browser.get("/");
        let expected = if n < MANY - 10 { format!("{{\"n\":{n}}}") } else { "{}".to_owned() };
        assert_eq!(backend.last().data(), expected);
    }
}

fn copy(from: &str, to: &str, flags: &[&str]) -> String {
    let output = coatroom(&[&["copy", "--from", from, "--to", to], flags].concat(), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "no terminal, no progress");
    stdout(&output)
}

#[test]
fn all_that_live_are_copied_and_again_and_moved() {
    let backend = Backend::obedient();
    let (redis, mut browsers) = filled(&backend);
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/sessions.db", folder.path().display());
    let said = copy(&redis.url(), &url, &[]);
    let expected = "sessions copied: 610; there already: 0; expired, ended or moved by others: 10; not copied, for \
                    something else is there: 0; unreadable: 0; time: ";
    assert!(said.starts_with(expected), "{said}");
    read(&url, &backend, &mut browsers);
    let said = copy(&redis.url(), &url, &[]);
    assert!(said.starts_with("sessions copied: 0; there already: 610;"), "{said}");
    let said = copy(&redis.url(), &url, &["--move"]);
    assert!(said.starts_with("sessions moved: 610; there already: 0;"), "{said}");
    read(&url, &backend, &mut browsers);
    let left: Vec<Vec<u8>> = redis.ask(&["KEYS", "*"]);
    assert_eq!(left.len(), 10, "memories of ended sessions, which end by themselves");
}

/// Rows of the new store that are like this.
fn count(database: &Database, pattern: &str) -> usize {
    let asked = format!("SELECT count(*) FROM django_session WHERE session_data LIKE '{pattern}'");
    database.ask(&asked)[0].parse().expect("a number")
}

/// The new store is away from some moment on, and the old one goes on being used.
#[test]
fn it_goes_on_where_it_was_stopped() {
    let backend = Backend::obedient();
    let (redis, mut browsers) = filled(&backend);
    let odd: Vec<_> = (0..20).map(|n| format!("coat:no session at all {n:02}")).collect();
    odd.iter().for_each(|key| redis.ask(&["SET", key, "short"]));
    let database = Database::start(Brand::Postgres, &[]);
    // So that a page is written, and the next one is not.
    database.ask(
        "CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL, \
         expire_date timestamptz NOT NULL, revision bigint)",
    );
    database.ask(
        "CREATE FUNCTION enough() RETURNS trigger AS $$ BEGIN IF (SELECT count(*) FROM django_session) >= 560 THEN RAISE \
         EXCEPTION 'no more'; END IF; RETURN NEW; END $$ LANGUAGE plpgsql",
    );
    database
        .ask("CREATE TRIGGER enough BEFORE INSERT ON django_session FOR EACH ROW EXECUTE FUNCTION enough()");
    let url = database.url();
    let output = coatroom(&["copy", "--from", &redis.url(), "--to", &url], &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("no more") && said.ends_with("the same command goes on from there.\n"), "{said}");
    assert!(said.contains(" is too short to be a record"), "{said}");
    database.ask("DROP TRIGGER enough ON django_session");
    let before = count(&database, "1:%");
    // Some of them in a part that it has passed.
    let sidecar = Sidecar::on(&redis, backend.address, |_| {});
    (0..LATER)
        .for_each(|_| assert_eq!(sidecar.browser().ask(&[("X-Session-Set", "{\"n\":0}")]).row(), "create"));
    let output = coatroom(&["copy", "--from", &redis.url(), "--to", &url], &[]);
    assert_eq!(output.status.code(), Some(1), "it has seen what can't be read again");
    let all = MANY - 10 + LATER;
    let expected = format!(
        "went on where it had stopped, and through all once more; sessions copied: {}; there already: {before}; expired, \
         ended or moved by others: 10; not copied, for something else is there: 0; unreadable: 20; time: ",
        all - before
    );
    assert!(stdout(&output).starts_with(&expected), "{} but {expected}", stdout(&output));
    // What it remembered is gone.
    assert_eq!(count(&database, "%"), all);
    read(&url, &backend, &mut browsers);
}

#[test]
fn what_cant_be_read_is_named_and_stays() {
    let redis = Redis::start();
    redis.ask::<()>(&["SET", "coat:01234567890123456789", "short"]);
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("file://{}/sessions", folder.path().display());
    let output = coatroom(&["copy", "--from", &redis.url(), "--to", &url], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("unreadable: 1;"), "{}", stdout(&output));
    let said = stderr(&output);
    assert!(said.contains("3031323334353637383930313233343536373839 is too short to be a record"), "{said}");
    assert!(redis.ask::<bool>(&["EXISTS", "coat:01234567890123456789"]));
}

#[test]
fn what_sidecars_keep_for_themselves_is_no_session() {
    let backend = Backend::obedient();
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let url = format!("file://{}/sessions", folder.path().display());
    let sidecar = Sidecar::keeping(&url, backend.address, |_| {});
    let lease = folder.path().join("sessions/63/636f6174726f6f6d20636c656172732068657265");
    until(|| lease.exists().then_some(()));
    assert_eq!(sidecar.browser().ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
    let said = copy(&url, &redis.url(), &["--move"]);
    let expected = "sessions moved: 1; there already: 0; expired, ended or moved by others: 0; not moved, for something else \
                    is there: 0; unreadable: 0; time: ";
    assert!(said.starts_with(expected), "{said}");
    assert!(lease.exists());
}

/// Nobody knows all the names of a store: it is asked.
#[test]
fn one_store_in_other_words_is_no_other_store() {
    let backend = Backend::obedient();
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let database = Database::shared(Brand::Postgres);
    let table = table();
    let path = folder.path().display();
    let by_name = database.url().replace("postgres://", "postgresql://").replace("127.0.0.1", "localhost");
    for (from, to) in [
        (format!("sqlite://{path}/s.db"), format!("sqlite://{path}//s.db")),
        (format!("file://{path}/sessions"), format!("file://{path}/sessions/")),
        (redis.url(), format!("{}/0", redis.url())),
        (redis.url(), format!("redis+unix://{}", redis.socket().display())),
        (database.url(), by_name),
    ] {
        let sidecar = Sidecar::keeping(&from, backend.address, |config| config.store.table = table.clone());
        let mut browser = sidecar.browser();
        assert_eq!(browser.ask(&[("X-Session-Set", "{\"a\":1}")]).row(), "create");
        for flags in [&[][..], &["--move"]] {
            let settings = [("COATROOM__STORE__TABLE", &*table)];
            let arguments = [&["copy", "--from", &from, "--to", &to], flags].concat();
            let output = coatroom(&arguments, &settings);
            assert_eq!(output.status.code(), Some(1), "{to}: {}", stdout(&output));
            assert_eq!(stderr(&output), "coatroom: --from and --to are the same store\n");
        }
        browser.get("/");
        assert_eq!(backend.last().data(), "{\"a\":1}", "{to}");
    }
    // Another part of the same server is.
    copy(&redis.url(), &format!("{}/1", redis.url()), &[]);
}

#[test]
fn stores_that_cant_be_copied_are_named() {
    let redis = Redis::start();
    let url = redis.url();
    for (from, to, expected) in [
        (&*url, &*url, "--from and --to are the same store"),
        (
            "memory:",
            &url,
            "--from: memory: lies in the sidecar's own process, which nobody else can look into",
        ),
        (&url, "reddis://a", "--to: there are memory:"),
        (&url, "file:", "--to: names no folder"),
        (&url, "file://u:hunter2@h/x", "--to: names no folder"),
        ("postgres://u@h/db?password=hunter2", &url, "--from: has a query that is not known"),
        ("redis://127.0.0.1:1", &url, "--from: 127.0.0.1:1: Connection refused"),
        ("memcache://127.0.0.1:1", &url, "--from: this store can't list what lies in it"),
    ] {
        let output = coatroom(&["copy", "--from", from, "--to", to], &[]);
        assert_eq!(output.status.code(), Some(1), "{from} {to}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
    }
    assert!(!Path::new("file:").exists());
    let settings = [
        ("COATROOM__STORE__URL", "file:///tmp/a"),
        ("COATROOM__STORE__CACHE", &url),
        ("COATROOM__STORE__COMMIT_TIMEOUT", "3"),
    ];
    let output = coatroom(&["copy", "--from", &url, "--to", "file:///tmp/a", "--move"], &settings);
    assert!(stderr(&output).starts_with("coatroom: store.cache: "), "{}", stderr(&output));
}
