//! The servers tried out, before anybody's session depends on them.

mod trial;
mod unreached;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::server::{Facts, Failure, Server};
use super::servers::Servers;
use crate::store::{Config, Finding};
use crate::time::Clock;

/// What all that is asked of a server may take, besides connecting.
const TALK: Duration = Duration::from_secs(3);
/// The setting that says which servers they are.
const URL: &str = "store.url";
/// Bytes of a record that are not the session's data: times, revisions, what seals it.
const ENVELOPE: usize = 1024;
/// Seconds by which a server's clock may be wrong: it ticks once a second, and we may have waited.
const SKEW: i64 = 5;

/// Asks each server what it is, and has it do all that the engine asks of it. `largest` is what a session may hold:
/// bytes.
pub(in crate::store) async fn examine(config: &Config, largest: usize) -> Vec<Finding> {
    let servers = match Servers::new(config) {
        Ok(servers) => servers,
        Err((key, what)) => {
            return vec![Finding::problem(key, what, "see its comment in config/coatroom.toml")];
        }
    };
    // All at once: each may be away.
    let mut asking = JoinSet::new();
    for (n, server) in servers.all.iter().enumerate() {
        let server = Arc::clone(server);
        asking.spawn(async move { (n, ask(&server, largest).await) });
    }
    let mut answers = asking.join_all().await;
    answers.sort_unstable_by_key(|(n, _)| *n);
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for (_, answer) in answers {
        match answer {
            Ok(found) => warnings.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        problems.extend(trial::run(config).await);
    }
    if !problems.is_empty() {
        return problems;
    }
    warnings.push(Finding::note(
        URL,
        "memcached keeps nothing on disk: whoever has a session on a server is logged out when it ends or is restarted",
        "take Redis with appendfsync always, or a database, where that must not be",
    ));
    warnings
}

/// What can be said against a server that serves.
///
/// # Errors
/// Why it doesn't.
async fn ask(server: &Server, largest: usize) -> Result<Vec<Finding>, Finding> {
    let explain = |failure| unreached::explain(server, failure);
    let (mut stream, facts) = server.greet().await.map_err(explain)?;
    let looked =
        timeout(TALK, server.0.addresses()).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    let addresses = looked.map_err(|error| explain(Failure::Name(error)))?;
    if let Some(problem) = several(server, addresses.iter().map(SocketAddr::ip)) {
        return Err(problem);
    }
    let stats = timeout(TALK, stream.stats()).await.unwrap_or(Err(Failure::Silent)).map_err(explain)?;
    let now = Clock::system().now().as_secs();
    let found = [
        items(server, &facts, largest),
        room(server, &facts, &stats),
        disk(server, &stats),
        clock(server, &stats, now),
    ];
    Ok(found.into_iter().flatten().collect())
}

/// Does the name mean several servers? One that has an address of either family is one.
fn several(server: &Server, addresses: impl Iterator<Item = IpAddr>) -> Option<Finding> {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = addresses.partition(IpAddr::is_ipv4);
    let most = if old.len() > 1 { old } else { new };
    (most.len() > 1).then(|| {
        let shown: Vec<_> = most.iter().map(ToString::to_string).collect();
        let what = format!(
            "{server} is at {}: each worker would ask another one, and find there what was ended elsewhere",
            shown.join(" and ")
        );
        Finding::problem(URL, what, "name each server by a name of its own, with commas between them")
    })
}

/// Does it take the largest session?
fn items(server: &Server, facts: &Facts, largest: usize) -> Option<Finding> {
    let (takes, needed) = (facts.largest(), largest + ENVELOPE);
    (takes < needed).then(|| {
        Finding::warning(
            "session.max_bytes",
            format!("is {largest}, and {server} takes no items of more than {takes} bytes: sessions that large get 503"),
            format!("start it with -I {needed} or more, or lower session.max_bytes"),
        )
    })
}

/// What it does when it is full.
fn room(server: &Server, facts: &Facts, stats: &BTreeMap<String, String>) -> Option<Finding> {
    let evicted = stats.get("evictions").and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    let (what, remedy) = match facts.settings.get("evictions").map(String::as_str) {
        _ if evicted > 0 => (
            format!(
                "{server} has evicted {evicted} items since it was started: whose sessions they were is logged out"
            ),
            "give it more memory (-m)",
        ),
        Some("off") => (
            format!(
                "{server} has -M: when it is full, it refuses a change, and removes the session that was to be changed"
            ),
            "start it without -M, and with memory for all sessions (-m)",
        ),
        Some(_) => (
            format!("{server} logs people out when it is full, those first who came least lately"),
            "give it memory for all sessions (-m), and watch evictions in its stats",
        ),
        None => return None,
    };
    Some(Finding::warning(URL, what, remedy))
}

/// Does it keep items on a disk (extstore)?
fn disk(server: &Server, stats: &BTreeMap<String, String>) -> Option<Finding> {
    stats.contains_key("extstore_limit_maxbytes").then(|| {
        let what =
            format!("{server} moves items to a disk (extstore), under which no session was ever tried");
        Finding::warning(URL, what, "start it without ext_path")
    })
}

/// Sessions end by its clock too.
fn clock(server: &Server, stats: &BTreeMap<String, String>, now: i64) -> Option<Finding> {
    let ahead = stats.get("time")?.parse::<i64>().ok()? - now;
    let (which, what) = match ahead {
        ahead if ahead >= SKEW => {
            ("ahead of", "sessions end as much earlier there, but for store.expired_memory")
        }
        ahead if ahead <= -SKEW => ("behind", "what has ended stays there as much longer"),
        _ => return None,
    };
    Some(Finding::warning(
        URL,
        format!("the clock of {server} is {} s {which} ours: {what}", ahead.abs()),
        "set both clocks, and restart it: it reads its host's clock only when it starts",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::host::Host;

    fn server() -> Server {
        Server(Host { name: "cache".to_owned(), port: 11211 })
    }

    fn said(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_by_how_much() {
        for (time, expected) in [
            ("1000", None),
            ("996", None),
            ("1004", None),
            ("1120", Some("the clock of memcached cache:11211 is 120 s ahead of ours")),
            ("400", Some("the clock of memcached cache:11211 is 600 s behind ours")),
            ("noon", None),
        ] {
            let found = clock(&server(), &said(&[("time", time)]), 1000).map(|found| found.what);
            let found = found.as_deref().and_then(|what| what.rsplit_once(": ")).map(|(what, _)| what);
            assert_eq!(found, expected, "{time}");
        }
        assert_eq!(clock(&server(), &said(&[]), 1000), None);
    }

    #[test]
    fn a_name_of_several_servers_is_a_problem_and_one_of_both_families_is_none() {
        for (addresses, expected) in [
            (&["10.0.0.7"][..], None),
            (&["::1", "127.0.0.1"], None),
            (&["10.0.0.7", "10.0.0.7"], None),
            (&["10.0.0.7", "fd00::7", "10.0.0.8"], Some("10.0.0.7 and 10.0.0.8")),
            (&["fd00::8", "fd00::7", "10.0.0.7"], Some("fd00::7 and fd00::8")),
        ] {
            let found = several(&server(), addresses.iter().map(|address| address.parse().unwrap()));
            let found = found.map(|found| found.what);
            let expected = expected.map(|shown| format!("memcached cache:11211 is at {shown}: "));
            assert!(
                found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected)),
                "{found:?}"
            );
            assert_eq!(found.is_some(), expected.is_some(), "{addresses:?}");
        }
    }

    /// A proxy tells neither.
    #[test]
    fn what_a_server_does_not_tell_is_no_warning() {
        assert_eq!(room(&server(), &Facts::default(), &said(&[])), None);
        assert_eq!(items(&server(), &Facts::default(), 64 * 1024), None, "it is taken for 1 MiB");
    }
}
