//! What a server says of itself: what it is, what a crash of it loses, what it does when it is full.

use std::collections::BTreeMap;

use redis::from_redis_value_ref;

use super::illness::{clustered, demoted, loading, old, replica};
use super::{Asked, Part, URL, rights};
use crate::store::Finding;
use crate::store::redis::answer::Said;
use crate::store::redis::target::{Place, Target};

/// Settings of the server that `INFO` doesn't tell.
const SETTINGS: [&str; 4] = ["appendfsync", "no-appendfsync-on-rewrite", "save", LEAST_REPLICAS];
/// The setting that refuses writes while there are fewer replicas.
const LEAST_REPLICAS: &str = "min-replicas-to-write";
/// The first version in which it refuses scripts too.
const REFUSES_SCRIPTS: (u64, u64) = (7, 0);
/// The oldest version that is known to do.
const OLDEST: (u64, u64) = (6, 2);
/// What makes an acknowledged change one that stays.
const DURABLE: &str = "set appendonly yes and appendfsync always there";

/// What a server says of itself; nothing where it doesn't allow us to ask.
#[derive(Default)]
pub(super) struct Server {
    info: BTreeMap<String, String>,
    settings: BTreeMap<String, String>,
    /// What we may not ask, and what the server said to that.
    unseen: Vec<(&'static str, String)>,
}

impl Server {
    /// Asks it.
    ///
    /// # Errors
    /// Says that the connection was lost.
    pub(super) async fn ask(asked: &mut Asked) -> Result<Self, String> {
        let mut server = Self::default();
        let answer = asked.ask(&[b"INFO"]).await?;
        match (Said::of(&answer), from_redis_value_ref::<String>(&answer)) {
            (None, Ok(info)) => server.info = read(&info),
            (said, _) => server.unseen.push(("INFO", reason(said))),
        }
        for name in SETTINGS {
            let answer = asked.ask(&[b"CONFIG", b"GET", name.as_bytes()]).await?;
            match (Said::of(&answer), from_redis_value_ref::<BTreeMap<String, String>>(&answer)) {
                (None, Ok(setting)) => server.settings.extend(setting),
                (said, _) => {
                    server.unseen.push(("CONFIG", reason(said)));
                    break;
                }
            }
        }
        Ok(server)
    }

    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Is it older than this version, as far as it says so?
    fn is_before(&self, version: (u64, u64)) -> bool {
        let mut numbers =
            self.info("redis_version").split('.').map_while(|number| number.parse::<u64>().ok());
        matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) < version)
    }

    /// Why it can keep no sessions, where it says so itself.
    pub(super) fn illness(&self, place: &Place, part: Part<'_>) -> Option<Finding> {
        if self.info("redis_mode") == "sentinel" {
            let what = format!("{place} is a Sentinel, which keeps nothing");
            return Some(Finding::problem(
                URL,
                what,
                "name the Redis that it watches, or write redis+sentinel://",
            ));
        }
        if self.is_before(OLDEST) {
            return Some(old(place, self.info("redis_version")));
        }
        if self.info("cluster_enabled") == "1" && !matches!(part, Part::Node(..)) {
            return Some(clustered(place));
        }
        if self.info("loading") == "1" {
            return Some(loading(place));
        }
        let master = || format!("{}:{}", self.info("master_host"), self.info("master_port"));
        match (self.info("role"), part) {
            ("slave", Part::Alone) => Some(replica(place, Some(master()))),
            ("slave", Part::Master | Part::Node(..)) => Some(demoted(place)),
            _ => None,
        }
    }

    /// What a crash of it loses.
    pub(super) fn durability(&self) -> Option<Finding> {
        let (what, remedy) = match (self.info("aof_enabled"), self.setting("appendfsync")) {
            ("0", _) => match self.setting("save") {
                Some("") => {
                    ("appendonly is no there, and so is save: a crash or restart ends all sessions", DURABLE)
                }
                _ => (
                    "appendonly is no there: a crash undoes all since the last snapshot, logins and logouts too",
                    DURABLE,
                ),
            },
            (_, Some("everysec")) => (
                "appendfsync is everysec there: a crash may undo the last two seconds, logins and logouts too",
                "set appendfsync always there",
            ),
            (_, Some("no")) => (
                "appendfsync is no there: a power loss undoes what the system had not written, often half a minute",
                "set appendfsync always there",
            ),
            _ if self.setting("no-appendfsync-on-rewrite") == Some("yes") => (
                "no-appendfsync-on-rewrite is yes there: a power loss during a rewrite undoes all since it began",
                "set it to no there",
            ),
            _ => return None,
        };
        Some(Finding::warning(URL, what, remedy))
    }

    /// What it takes although it is set not to.
    pub(super) fn laxity(&self) -> Option<Finding> {
        let least = self.setting(LEAST_REPLICAS).filter(|least| *least != "0")?;
        self.is_before(REFUSES_SCRIPTS).then(|| {
            let version = self.info("redis_version");
            let what = format!(
                "{LEAST_REPLICAS} is {least} there, but Redis {version} takes scripts, which most changes are, with fewer"
            );
            Finding::warning(URL, what, "use Redis 7.0 or newer, or set store.wait_replicas")
        })
    }

    /// What it does when it is full.
    pub(super) fn room(&self) -> Option<Finding> {
        let (what, remedy) = match (self.info("maxmemory"), self.info("maxmemory_policy")) {
            ("", _) => return None,
            ("0", _) => (
                "maxmemory is 0 there: when the machine has no memory left, the system ends the server"
                    .to_owned(),
                "set maxmemory there, and maxmemory-policy noeviction: writes are refused then, and nothing is lost",
            ),
            (_, "noeviction" | "") => return None,
            (_, policy) => (
                format!(
                    "maxmemory-policy is {policy} there: when it is full, it logs people out to make room"
                ),
                "set maxmemory-policy noeviction there: writes are refused then, and nobody is logged out",
            ),
        };
        Some(Finding::warning(URL, what, remedy))
    }

    /// What could not be looked at.
    pub(super) fn unseen(&self, target: &Target) -> Option<Finding> {
        let (_, reason) = self.unseen.first()?;
        let names: Vec<_> = self.unseen.iter().map(|(name, _)| *name).collect();
        let what = format!(
            "{} may not use {} ({reason}): what a crash loses, and what happens when it is full, could not be looked at",
            rights::user(target),
            names.join(" and "),
        );
        Some(Finding::note(URL, what, "see appendonly, appendfsync, maxmemory and maxmemory-policy there"))
    }
}

fn reason(said: Option<Said>) -> String {
    said.map_or_else(
        || "its answer can't be read".to_owned(),
        |said| format!("{} {}", said.code, said.detail),
    )
}

/// The lines of `INFO`: `name:value`.
fn read(info: &str) -> BTreeMap<String, String> {
    let pair =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim_end().to_owned()));
    info.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::store::Weight;

    /// Begins as that of Redis 6.0 does; what is asked for is added.
    fn server(more: &str) -> Server {
        Server {
            info: read(&format!("# Server\r\nredis_mode:standalone\r\n{more}\r\n")),
            ..Server::default()
        }
    }

    #[test]
    fn a_server_that_can_keep_no_sessions_says_so_itself() {
        for (info, expected) in [
            ("redis_version:7.2.4", None),
            ("redis_version:6.2.0", None),
            ("redis_version:10.0", None),
            ("redis_version:unstable", None),
            ("redis_version:6.0.16", Some("/s is a Redis 6.0.16")),
            ("redis_version:5.0.14", Some("/s is a Redis 5.0.14")),
            ("redis_mode:sentinel", Some("/s is a Sentinel, which keeps nothing")),
            ("cluster_enabled:1", Some("/s is part of a cluster")),
            ("loading:1", Some("/s is reading its data from disk still")),
            ("role:master\r\nloading:0\r\ncluster_enabled:0", None),
        ] {
            let found = server(info).illness(&Place::Unix(PathBuf::from("/s")), Part::Alone);
            assert_eq!(found.as_ref().map(|found| &*found.what), expected, "{info}");
            assert!(found.is_none_or(|found| found.weight == Weight::Problem));
        }
    }

    #[test]
    fn a_server_that_holds_no_script_back_for_want_of_replicas_is_named() {
        for (version, least, warned) in [
            ("6.2.14", Some("1"), true),
            ("6.2.14", Some("0"), false),
            ("6.2.14", None, false),
            ("7.0.0", Some("1"), false),
            ("unstable", Some("1"), false),
        ] {
            let mut server = server(&format!("redis_version:{version}"));
            server.settings.extend(least.map(|least| (LEAST_REPLICAS.to_owned(), least.to_owned())));
            assert_eq!(server.laxity().is_some(), warned, "{version} {least:?}");
        }
    }

    /// Some that speak as Redis does tell less.
    #[test]
    fn what_a_server_does_not_tell_is_no_warning() {
        let server = server("redis_version:7.0.0");
        assert_eq!((server.durability(), server.room()), (None, None));
    }
}
