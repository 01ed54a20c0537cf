//! `check-config --connect` on clusters: what is wrong with them, and with each of their servers.

use super::connect::{SOUND, problem, said};
use crate::support::child::until;
use crate::support::{Cluster, Redis};

const STORE: &str = "store.url (--store): ";

#[test]
fn a_cluster_and_each_of_its_servers_are_tried_and_what_is_wrong_is_named() {
    let cluster = Cluster::with(&[SOUND, &["--cluster-node-timeout", "60000"]].concat());
    let url = cluster.url();
    let replicas = |n: &'static str| [("COATROOM__STORE__WAIT_REPLICAS", n)];
    assert_eq!(said(&url, &[]), (true, vec![]));
    assert_eq!(said(&url, &replicas("1")), (true, vec![]));
    for server in &cluster.servers {
        assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0, "nothing is left there");
    }
    let (good, lines) = said(&url, &replicas("2"));
    let reached = |line: &String| {
        line.contains("is 2, and what was written to ") && line.contains("has reached 1 replicas")
    };
    assert!(!good && lines.len() == 3 && lines.iter().all(reached), "{lines:?}");

    let (good, lines) = said(&url.replace("://", "://127.0.0.1:1,"), &[]);
    let away = format!("warning: {STORE}a server of the cluster can't be asked, 127.0.0.1:1: ");
    assert!(good && lines.len() == 1 && lines[0].starts_with(&away), "{lines:?}");

    let (good, lines) = said(&url, &[("COATROOM__STORE__KEY_PREFIX", "{coat}:")]);
    let expected = "warning: store.key_prefix (COATROOM__STORE__KEY_PREFIX): holds a hash tag, which puts all sessions \
                    into one slot, on one server: remove its braces";
    assert_eq!((good, lines), (true, vec![expected.to_owned()]));

    // Nobody may do more than a single server's user needs.
    let line = "ACL SETUSER app on nopass ~coat:* +get +set +getrange +setrange +pexpire +del +eval +evalsha \
                +script|load +ping";
    for server in &cluster.servers {
        server.ask::<()>(&line.split_whitespace().collect::<Vec<_>>());
    }
    let app = url.replace("://", "://app@");
    let line = problem(&app, &[]);
    assert!(line.contains("may not use cluster|slots: run ACL SETUSER app resetkeys ~coat:* "), "{line}");
    let (_, granted) = line.split_once(": run ").expect("a line");
    assert!(granted.ends_with(" +asking +cluster|slots"), "{granted}");
    for server in &cluster.servers {
        server.ask::<()>(&granted.split(' ').collect::<Vec<_>>());
    }
    let (good, lines) = said(&app, &[]);
    assert!(good && lines.iter().all(|line| line.starts_with("note: ")), "{lines:?}");

    let first = &cluster.servers[0];
    first.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let expected = format!(
        "{STORE}{} has no room left: raise maxmemory there, or remove what is not needed",
        first.place()
    );
    assert_eq!(problem(&url, &[]), expected);
    first.ask::<()>(&["CONFIG", "SET", "maxmemory", "256mb"]);

    first.ask::<()>(&["CLUSTER", "DELSLOTSRANGE", "7", "8"]);
    first.ask::<()>(&["CLUSTER", "DELSLOTS", "10"]);
    let (good, lines) = said(&format!("redis+cluster://{}", first.address), &[]);
    let expected =
        format!("{STORE}nobody serves slots 7-8, 10 of the cluster of {}: see redis-cli ", first.place());
    assert!(!good && lines[0].starts_with(&expected), "{lines:?}");
}

#[test]
fn a_server_that_is_in_no_cluster_or_alone_in_one_is_told_so() {
    let plain = Redis::with(SOUND);
    let url = |server: &Redis| format!("redis+cluster://{}", server.address);
    let line = problem(&url(&plain), &[]);
    assert_eq!(line, format!("{STORE}{} is part of no cluster: write redis://", plain.place()));
    let empty = Redis::with(&[SOUND, &["--cluster-enabled", "yes"]].concat());
    let line = problem(&url(&empty), &[]);
    let expected =
        format!("{STORE}nobody serves slots 0-16383 of the cluster of {}: see redis-cli ", empty.place());
    assert!(line.starts_with(&expected), "{line}");
    empty.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until(|| empty.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(()));
    assert_eq!(said(&url(&empty), &[]), (true, vec![]), "one is enough");
    let line = problem(&format!("{}/1", url(&empty)), &[]);
    assert!(line.contains("store.url (--store): has a database, and a cluster has only 0"), "{line}");

    let line = problem("redis+cluster://127.0.0.1:1,127.0.0.1:2", &[]);
    assert!(
        line.starts_with(&format!("{STORE}no server of the cluster can be asked (127.0.0.1:1: ")),
        "{line}"
    );
    assert!(line.ends_with("): start them, or correct the hosts"), "{line}");
}

#[test]
fn a_server_of_a_cluster_that_cannot_be_reached_is_named() {
    let mut cluster = Cluster::with(&[SOUND, &["--cluster-node-timeout", "60000"]].concat());
    cluster.servers[1].kill();
    let place = cluster.servers[1].place();
    let line = problem(&format!("redis+cluster://{}", cluster.servers[0].address), &[]);
    let expected = format!("{STORE}the cluster names a server that can't be reached from here, {place}: ");
    assert!(line.starts_with(&expected), "{line}");
    assert!(line.ends_with("or have it announce another address (cluster-announce-ip)"), "{line}");
}
