//! Listing what lies in a medium.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use coatroom::session::Key;
use coatroom::store::Kind;
use coatroom::store::engine::{Engine, Stored, Worth};
use coatroom::time::Clock;
use tokio::task::JoinSet;

use super::support::{AGE, key, revision};
use crate::support::{Puppet, Redis as Server};

/// Puts so many sessions there, and lists them page by page; what was listed before may be listed anew.
async fn lists(engine: impl Engine, many: u64) {
    let engine = std::sync::Arc::new(engine);
    assert!(listed(&*engine, None).await.0.is_empty());
    let until = Clock::system().now().plus(AGE);
    let mut adding = JoinSet::new();
    for n in 1..=many {
        let engine = std::sync::Arc::clone(&engine);
        adding.spawn(async move {
            let stored = Stored { value: Bytes::from_static(b"1:..."), revision: revision(n), until };
            loop {
                // All at once are more than a database has connections for.
                match engine.add(&key(n), stored.clone(), Worth::Known).await {
                    Ok(_) => break,
                    Err(error) => assert_ne!(error.kind, Kind::Refused, "{error}"),
                }
            }
        });
        if adding.len() > 8 {
            adding.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(added) = adding.join_next().await {
        added.unwrap();
    }
    let (all, cursors) = listed(&*engine, None).await;
    let expected: HashSet<Key> = (1..=many).map(key).collect();
    assert_eq!(all, expected);
    assert!(cursors.len() > 1, "it was one page");
    // Somebody else goes on in the middle.
    let (rest, _) = listed(&*engine, Some(cursors[cursors.len() / 2].clone())).await;
    assert!(rest.is_subset(&expected) && rest.len() < expected.len() && !rest.is_empty());
}

/// What is told from there on, and where it went on.
async fn listed(engine: &impl Engine, mut after: Option<String>) -> (HashSet<Key>, Vec<String>) {
    let (mut keys, mut cursors) = (HashSet::new(), Vec::new());
    loop {
        let page = engine.scan(after.as_deref()).await.unwrap();
        keys.extend(page.keys);
        match page.next {
            None => return (keys, cursors),
            Some(next) => {
                cursors.push(next.clone());
                after = Some(next);
            }
        }
    }
}

#[tokio::test]
async fn memory_is_listed() {
    lists(super::support::memory(), 1100).await;
}

#[tokio::test]
async fn files_are_listed() {
    lists(super::file::file(), 300).await;
}

#[tokio::test]
async fn a_table_of_sqlite_is_listed() {
    lists(super::sql::sqlite(), 1100).await;
}

#[tokio::test]
async fn a_table_of_postgresql_is_listed() {
    lists(super::sql::postgres(), 1100).await;
}

#[tokio::test]
async fn a_table_of_mariadb_is_listed() {
    lists(super::sql::mariadb(), 1100).await;
}

#[tokio::test]
async fn a_redis_is_listed_but_for_what_is_others() {
    let server = Server::start();
    server.ask::<()>(&["SET", "other", "1"]);
    server.ask::<()>(&["SET", "coat:too long to be a key of ours", "1"]);
    lists(super::redis::apart(&server.url(), |config| config.key_prefix = "coat:".to_owned()), 1100).await;
}

#[tokio::test]
async fn all_masters_of_a_cluster_are_listed() {
    lists(super::cluster::shared(), 3000).await;
}

/// Its cursors mean nothing to another process.
#[tokio::test]
async fn a_redis_that_was_restarted_is_listed_from_the_beginning() {
    let (server, other) = (Server::start(), Server::start());
    let fill = |server: &Server| {
        for n in 0..1000 {
            let name = format!("coat:{n:020}");
            server.ask::<()>(&["SET", &name, "1"]);
        }
    };
    [&server, &other].into_iter().for_each(fill);
    let engine =
        |server: &Server| super::redis::apart(&server.url(), |config| config.key_prefix = "coat:".to_owned());
    let (all, cursors) = listed(&engine(&server), None).await;
    assert_eq!(all.len(), 1000);
    let (again, _) = listed(&engine(&other), Some(cursors.last().unwrap().clone())).await;
    assert_eq!(again, all);
    let error = engine(&server).scan(Some("17")).await.unwrap_err();
    assert_eq!(error.detail, "\"17\" is no cursor of Redis: begin again");
}

/// The name of a server leads to another process in the middle of the last page.
#[tokio::test]
async fn a_redis_whose_last_page_came_from_another_process_is_listed_from_the_beginning() {
    let restarted = AtomicBool::new(false);
    let server = Puppet::new(move |words| match &*words[0] {
        "INFO" => {
            let id = if restarted.load(Relaxed) { "b" } else { "a" };
            Some(format!("$8\r\nrun_id:{id}"))
        }
        "SCAN" => {
            restarted.store(true, Relaxed);
            Some("*2\r\n$1\r\n0\r\n*0".to_owned())
        }
        _ => None,
    });
    let (_, cursors) =
        listed(&super::redis::apart(&format!("redis://{}", server.address), |_| {}), None).await;
    assert_eq!(cursors, ["b:0:0"]);
}

#[tokio::test]
async fn memcached_can_list_nothing() {
    let error = super::served::memcached(1).scan(None).await.unwrap_err();
    assert_eq!((error.kind, &*error.detail), (Kind::Refused, "this store can't list what lies in it"));
}
