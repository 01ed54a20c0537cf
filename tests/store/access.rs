//! How the engine gets to a server, and as whom: TLS, a socket, an ACL user, a database, passwords that change.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use coatroom::store::engine::{Engine, Stored, Swap, Worth};
use coatroom::store::redis::Redis;
use coatroom::store::{Config, Error, Kind};
use tempfile::NamedTempFile;

use super::link::until_good;
use super::served::Served;
use super::support::{AGE, key, revision, stored};
use crate::support::{Authority, Redis as Server};

const KNOWN: Worth = Worth::Known;
const PASSWORD: &str = "hunter2-hunter2";

/// The line that grants what is needed.
fn grant() -> String {
    crate::docs::block("ACL SETUSER coatroom ")
}

/// An engine that speaks TLS with a server of a private authority, which wants to know it.
pub(crate) fn over_tls() -> Served<Redis> {
    let authority = Authority::new();
    let server = Server::tls(&authority, &authority.sign(&["localhost"]), &["--tls-auth-clients", "yes"]);
    let us = authority.sign(&["coatroom"]);
    let ca = authority.own.cert.clone();
    Served::on(server.keeping(authority), |config| {
        (config.tls_ca_file, config.tls_cert_file, config.tls_key_file) = (ca, us.cert, us.key);
    })
}

/// An engine that may do exactly what README grants it.
pub(crate) fn as_an_acl_user() -> Served<Redis> {
    let server = Server::start();
    let line = grant().replace("PASSWORD", PASSWORD);
    server.ask::<()>(&line.split(' ').collect::<Vec<_>>());
    let url = format!("redis://coatroom:{PASSWORD}@{}", server.address);
    Served::on(server, |config| config.url = (&*url).into())
}

/// Can it keep something, and find it again?
async fn serves(engine: &impl Engine) {
    assert_eq!(engine.add(&key(1), stored(1), KNOWN).await, Ok(true));
    assert_eq!(engine.replace(&key(1), revision(1), stored(2), KNOWN).await, Ok(Swap::Done));
    assert_eq!(engine.get(&key(1)).await.unwrap().map(|there| there.revision), Some(revision(2)));
}

/// What kind of error a read is.
async fn ill(engine: &impl Engine) -> Kind {
    refusal(engine).await.kind
}

async fn refusal(engine: &impl Engine) -> Error {
    engine.get(&key(1)).await.expect_err("it must fail")
}

/// Waits until a read is refused so: an attempt with what was known before may be under way.
async fn until_refused(engine: &impl Engine, expected: &str) {
    while !refusal(engine).await.detail.contains(expected) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_server_is_reached_over_tls_and_by_its_address_too() {
    serves(&over_tls()).await;
    let authority = Authority::new();
    let server = Server::tls(&authority, &authority.sign(&["127.0.0.1"]), &[]);
    let url = format!("rediss://{}", server.address);
    let change =
        |config: &mut Config| (config.url, config.tls_ca_file) = ((&*url).into(), authority.own.cert.clone());
    serves(&Served::on(server, change)).await;
}

#[tokio::test]
async fn nothing_is_said_to_a_server_whose_certificate_is_not_good() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for signed in [theirs.sign(&["localhost"]), ours.sign(&["other"])] {
        let server = Server::tls(&ours, &signed, &[]);
        let served = Served::on(server, |config| config.tls_ca_file = ours.own.cert.clone());
        let error = refusal(&served).await;
        assert_eq!(error.kind, Kind::Unreachable);
        assert!(error.detail.contains("TLS: invalid peer certificate: "), "{error}");
        let commands: String = served.server.ask(&["INFO", "commandstats"]);
        assert!(!commands.contains("cmdstat_get:"), "{commands}");
    }
}

/// A certificate that is renewed counts from the next connection on.
#[tokio::test]
async fn an_authority_that_is_named_later_is_believed_without_a_restart() {
    let (ours, file) = (Authority::new(), NamedTempFile::new().unwrap());
    fs::copy(&Authority::new().own.cert, file.path()).unwrap();
    let server = Server::tls(&ours, &ours.sign(&["localhost"]), &[]);
    let served = Served::on(server, |config| config.tls_ca_file = file.path().display().to_string());
    assert_eq!(ill(&served).await, Kind::Unreachable);
    fs::copy(&ours.own.cert, file.path()).unwrap();
    until_good(&served).await;
}

#[tokio::test]
async fn a_server_is_reached_by_its_socket() {
    let server = Server::start();
    let url = format!("redis+unix://{}?db=2", server.socket().display());
    let served = Served::on(server, |config| config.url = (&*url).into());
    serves(&served).await;
    assert!(served.server.ask::<String>(&["INFO", "keyspace"]).contains("db2:keys=1"));
}

#[tokio::test]
async fn a_database_and_a_prefix_are_kept_to() {
    let server = Server::start();
    let url = format!("{}/3", server.url());
    let served = Served::on(server, |config| {
        (config.url, config.key_prefix) = ((&*url).into(), "shop: *".to_owned());
    });
    serves(&served).await;
    assert_eq!(served.server.ask::<i64>(&["DBSIZE"]), 0);
    let mut third = served.server.connect();
    redis::cmd("SELECT").arg(3).exec(&mut third).unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut third).unwrap();
    assert_eq!(keys, [[b"shop: *", &key(1).as_bytes()[..]].concat()]);
}

/// The least that it may be allowed is also the most: nothing of what it uses was left out or given too much.
#[tokio::test]
async fn an_acl_user_needs_each_of_the_rights_that_the_readme_names() {
    let line = grant();
    let rights: Vec<_> = line.split(' ').filter_map(|word| word.strip_prefix('+')).collect();
    assert_eq!(rights.len(), 10, "{line}");
    let served = as_an_acl_user();
    serves(&served).await;
    // The scripts are known there by now: what these two are for is a server that has forgotten them.
    let spare = ["eval", "script|load"];
    for right in rights {
        served.server.ask::<()>(&["ACL", "SETUSER", "coatroom", &format!("-{right}")]);
        let later = stored(2).until.plus(AGE);
        let answers = [
            served.ping().await.err(),
            served.get(&key(1)).await.err(),
            served.add(&key(2), stored(1), KNOWN).await.err(),
            served.replace(&key(1), revision(2), stored(2), KNOWN).await.err(),
            served.touch(&key(1), revision(2), later).await.err(),
            served.remove(&key(2), revision(1)).await.err(),
        ];
        let kinds: Vec<_> = answers.into_iter().flatten().map(|error| error.kind).collect();
        assert!(kinds.iter().all(|kind| *kind == Kind::NoPermission), "{right}: {kinds:?}");
        assert_eq!(kinds.is_empty(), spare.contains(&right), "{right}");
        served.server.ask::<()>(&["ACL", "SETUSER", "coatroom", &format!("+{right}")]);
    }
    assert_eq!(served.add(&key(3), stored(1), KNOWN).await, Ok(true));
}

#[tokio::test]
async fn an_acl_user_without_a_password_is_not_the_default_user() {
    let server = Server::start();
    server.ask::<()>(&["ACL", "SETUSER", "free", "on", "nopass", "~*", "+@all"]);
    server.ask::<()>(&["ACL", "SETUSER", "default", "-get"]);
    let url = format!("redis://free@{}", server.address);
    serves(&Served::on(server, |config| config.url = (&*url).into())).await;
}

/// An engine whose password stands in a file.
fn with_password_in(file: &NamedTempFile, options: &[&str]) -> Served<Redis> {
    let name = file.path().display().to_string();
    Served::on(Server::with(options), |config| config.password_file = name)
}

fn write(file: &NamedTempFile, password: &str) {
    fs::write(file.path(), format!("{password}\n")).unwrap();
}

#[tokio::test]
async fn a_password_that_was_changed_counts_from_the_next_connection_on() {
    let file = NamedTempFile::new().unwrap();
    write(&file, "first");
    let served = with_password_in(&file, &["--requirepass", "first"]);
    serves(&served).await;
    let mut admin = served.server.connect();
    let mut ask = |words: &[&str]| {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.exec(&mut admin).unwrap();
    };
    ask(&["AUTH", "first"]);
    ask(&["CONFIG", "SET", "requirepass", "second"]);
    write(&file, "second");
    assert!(served.get(&key(1)).await.is_ok(), "whoever is in stays in");
    ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    until_good(&served).await;
}

#[tokio::test]
async fn a_password_that_is_wrong_or_missing_is_put_right_without_a_restart() {
    let file = NamedTempFile::new().unwrap();
    let served = with_password_in(&file, &["--requirepass", "right"]);
    for (wrong, expected) in [("", "NOAUTH"), ("wrong", "WRONGPASS")] {
        write(&file, wrong);
        until_refused(&served, expected).await;
        assert_eq!(ill(&served).await, Kind::NoAuth);
    }
    fs::remove_file(file.path()).unwrap();
    until_refused(&served, "store.password_file: ").await;
    write(&file, "right");
    until_good(&served).await;
    serves(&served).await;

    let spare = NamedTempFile::new().unwrap();
    write(&spare, "too much");
    let served = with_password_in(&spare, &[]);
    assert_eq!(ill(&served).await, Kind::NoAuth, "it wants none");
    write(&spare, "");
    until_good(&served).await;
}

/// Whoever listens there may say anything, our password and a visitor's data among it.
#[tokio::test]
async fn what_a_server_quotes_of_us_is_in_no_error() {
    let server = Server::with(&["--rename-command", "AUTH", "", "--rename-command", "SET", ""]);
    let url = format!("redis://:{PASSWORD}@{}", server.address);
    let served = Served::on(server, |config| config.url = (&*url).into());
    assert_eq!(refusal(&served).await.detail, "Redis says ERR unknown command 'AUTH'");
    let Served { server, .. } = served;
    let served = Served::on(server, |_| {});
    let data = Stored { value: Bytes::from_static(b"visitor"), ..stored(1) };
    let error = served.add(&key(1), data, KNOWN).await.expect_err("it knows no SET");
    assert!(error.detail.starts_with("the connection to Redis was lost: what came can't be read"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_at_once() {
    let server = Server::start();
    let url = format!("{}/16", server.url());
    let error = refusal(&Served::on(server, |config| config.url = (&*url).into())).await;
    assert_eq!((error.kind, &*error.detail), (Kind::Refused, "Redis says ERR DB index is out of range"));
}
