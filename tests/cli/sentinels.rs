//! `check-config --connect` on Sentinels: what is wrong with them, and with the master that they name.

use super::connect::{SOUND, problem, said};
use crate::support::{Redis, Watched};

const STORE: &str = "store.url (--store): ";

#[test]
fn sentinels_and_their_master_are_tried_and_what_is_wrong_is_named() {
    let watched = Watched::with(SOUND, "");
    let url = watched.url();
    let replicas = |n: &'static str| [("COATROOM__STORE__WAIT_REPLICAS", n)];
    assert_eq!(said(&url, &[]), (true, vec![]));
    assert_eq!(said(&url, &replicas("2")), (true, vec![]));
    let master = &watched.servers[0];
    assert_eq!(master.ask::<Vec<String>>(&["KEYS", "*"]), [] as [&str; 0]);

    let line = problem(&url, &replicas("3"));
    let expected = format!(
        "store.wait_replicas (COATROOM__STORE__WAIT_REPLICAS): is 3, and what was written to {} has reached 2 \
         replicas in half a second: see where they are (INFO replication there), or make it smaller",
        master.place()
    );
    assert_eq!(line, expected);

    let first = watched.sentinels[0].address;
    let line = problem(&url.replace("/main", "/cache"), &[]);
    let expected = format!(
        "{STORE}Sentinel {first} knows no master \"cache\"; it watches main: correct the name behind the hosts"
    );
    assert_eq!(line, expected);

    let (good, lines) = said(&url.replace("://", "://127.0.0.1:1,"), &[]);
    assert!(good && lines.len() == 1, "{lines:?}");
    let expected = format!("warning: {STORE}a Sentinel can't be asked, 127.0.0.1:1: ");
    assert!(lines[0].starts_with(&expected), "{lines:?}");

    let line = problem(&format!("redis+sentinel://{}/main", master.address), &[]);
    let expected = format!(
        "{STORE}{} is no Sentinel: name Sentinels (their port is 26379 as a rule), or write redis://",
        master.place()
    );
    assert_eq!(line, expected);
    let line = problem(&format!("redis://{first}"), &[]);
    let expected =
        "is a Sentinel, which keeps nothing: name the Redis that it watches, or write redis+sentinel://";
    assert_eq!(line, format!("{STORE}{first} {expected}"));

    let database = problem(&format!("{url}/16"), &[]);
    assert!(database.contains("has no database 16: "), "{database}");

    let line = "ACL SETUSER app on nopass ~coat:* +get +set +getrange +setrange +pexpire +del +eval +evalsha \
                +script|load +ping";
    master.ask::<()>(&line.split_whitespace().collect::<Vec<_>>());
    let (good, lines) = said(&url.replace("://", "://app@"), &replicas("1"));
    assert!(!good && lines[0].contains("may not use role, wait: run ACL SETUSER app "), "{lines:?}");
    let (_, granted) = lines[0].split_once(": run ").expect("a line");
    master.ask::<()>(&granted.split(' ').collect::<Vec<_>>());
    let (good, lines) = said(&url.replace("://", "://app@"), &replicas("1"));
    assert!(good && lines.len() == 1 && lines[0].starts_with("note: "), "{lines:?}");
}

#[test]
fn sentinels_that_are_all_away_are_one_line() {
    let line = problem("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main", &[]);
    assert!(line.starts_with(&format!("{STORE}no Sentinel can be asked (127.0.0.1:1: ")), "{line}");
    assert!(line.ends_with("): start them, or correct the hosts (their port is 26379 as a rule)"), "{line}");
}

#[test]
fn a_master_that_is_away_or_none_is_told_as_the_sentinels_name_it() {
    // Nobody else agrees that the master is gone, so it stays the one that they name.
    let alone = Redis::with(SOUND);
    let sentinel = crate::support::sentinel::Sentinel::start(alone.address, "");
    let url = format!("redis+sentinel://{}/main", sentinel.address);
    assert_eq!(said(&url, &[]), (true, vec![]));
    alone.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    let line = problem(&url, &[]);
    let expected = format!(
        "{STORE}{}, which others name as the master, is a replica: wait until the failover is over, and try again",
        alone.place()
    );
    assert_eq!(line, expected);
    let place = alone.place();
    drop(alone);
    let line = problem(&url, &[]);
    let expected = format!("{STORE}the Sentinels name a master that can't be reached from here, {place}: ");
    assert!(line.starts_with(&expected), "{line}");
    assert!(line.ends_with("or have it announce another address (replica-announce-ip)"), "{line}");
}

#[test]
fn a_sentinel_wants_a_password_of_its_own() {
    let alone = Redis::with(SOUND);
    let sentinel = crate::support::sentinel::Sentinel::start(alone.address, "requirepass hunter2-hunter2");
    let url = format!("redis+sentinel://{}/main", sentinel.address);
    let place = sentinel.address;
    let line = problem(&url, &[]);
    let expected = format!(
        "store.sentinel_password (default): is not set, and {place} wants one: set it, or store.sentinel_password_file"
    );
    assert_eq!(line, expected);
    let password = |text| [("COATROOM__STORE__SENTINEL_PASSWORD", text)];
    let line = problem(&url, &password("other"));
    let expected =
        "store.sentinel_password (COATROOM__STORE__SENTINEL_PASSWORD): holds another password than Sentinel";
    assert_eq!(line, format!("{expected} {place} has: correct it"));
    assert_eq!(said(&url, &password("hunter2-hunter2")), (true, vec![]));
    let line = problem(&alone.url(), &password("x"));
    assert!(line.ends_with("store.url has no Sentinels: remove this"), "{line}");
}
