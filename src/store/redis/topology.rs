//! Which server of a cluster serves which slots, and the task that keeps that up to date for all workers.
//!
//! `CLUSTER SLOTS` and not `CLUSTER SHARDS`, which servers before 7.0 don't know. One of the servers is asked twice a
//! second, and another one at once when a call has shown that what is known is not so: it met a server that is away, had
//! no answer, or was sent on. Servers learn of each other's failover by the cluster's own bus within milliseconds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Value, from_redis_value_ref};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::answer::Said;
use super::dialogue::Dialogue;
use super::failure::Failure;
use super::lookout::{Lookout, News, Teller};
use super::slot::SLOTS;
use super::target::{Place, Target};
use crate::store::link::jittered;
use crate::store::{Error, Kind};

/// What a connection to a server, and its answer, may take. Others are waiting to be asked.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often one is asked at least: with what the next one may keep us waiting for, a new master is known of within a
/// second where no call says that the old one is away.
const INTERVAL: Duration = Duration::from_millis(500);
/// The pause between one that is asked because of a doubt and the next.
const LEAST: Duration = Duration::from_millis(50);

/// The host and port of a server.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Who serves which slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Map {
    /// First and last slot, and who serves them.
    ranges: Vec<(u16, u16, Address)>,
}

impl Map {
    /// What `CLUSTER SLOTS` says; where a server doesn't know its own address, it is the one by which we asked it.
    pub(super) fn read(answer: &Value, asked: &Place) -> Option<Self> {
        let own = match asked {
            Place::Tcp { host, .. } => host,
            Place::Unix(_) => "",
        };
        let Value::Array(parts) = answer else { return None };
        let range = |part: &Value| {
            let Value::Array(part) = part else { return None };
            let [first, last, Value::Array(master), ..] = &part[..] else { return None };
            let first: u16 = from_redis_value_ref(first).ok()?;
            let last: u16 = from_redis_value_ref(last).ok()?;
            let host: Option<String> = from_redis_value_ref(master.first()?).ok()?;
            let port: u16 = from_redis_value_ref(master.get(1)?).ok()?;
            (first <= last && last < SLOTS).then_some((first, last, address(host.as_deref(), port, own)))
        };
        let mut ranges: Vec<_> = parts.iter().map(range).collect::<Option<_>>()?;
        ranges.sort();
        Some(Self { ranges })
    }

    /// Who serves a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, owner) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then_some(owner)
    }

    /// Does it say that nobody serves anything: that of a server that has left its cluster?
    const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// All who serve some slots.
    pub(super) fn servers(&self) -> Vec<Address> {
        let mut servers: Vec<_> = self.ranges.iter().map(|(.., owner)| owner.clone()).collect();
        servers.sort();
        servers.dedup();
        servers
    }

    /// Slots that nobody serves, first and last.
    pub(super) fn holes(&self) -> Vec<(u16, u16)> {
        let (mut holes, mut next) = (Vec::new(), 0);
        for (first, last, _) in &self.ranges {
            if next < *first {
                holes.push((next, first - 1));
            }
            next = last + 1;
        }
        if next < SLOTS {
            holes.push((next, SLOTS - 1));
        }
        holes
    }
}

/// A server's address as a server says it; its own host is the one by which that was asked.
pub(super) fn address(host: Option<&str>, port: u16, own: &str) -> Address {
    let host = host.filter(|host| !matches!(*host, "" | "?")).unwrap_or(own).to_owned();
    Address { host, port }
}

/// A cluster, as far as it is known.
pub(super) struct Cluster {
    /// Servers that the settings name.
    pub(super) seeds: Arc<[Target]>,
    lookout: Lookout<Map>,
}

impl Cluster {
    /// A cluster that nobody has asked yet.
    pub(super) fn new(seeds: Vec<Target>) -> Self {
        Self { seeds: seeds.into(), lookout: Lookout::new() }
    }

    /// Who serves what, as far as is known.
    ///
    /// # Errors
    /// What each server says instead.
    pub(super) async fn map(&self) -> Result<Arc<Map>, Error> {
        let seeds = Arc::clone(&self.seeds);
        let mut news = self.lookout.news(|tell, doubt| watch(seeds, tell, doubt));
        if let News::Found(map) = &*news.borrow() {
            return Ok(Arc::clone(map));
        }
        Lookout::found(&mut news).await
    }

    /// How to get to one of its servers.
    pub(super) fn target(&self, address: &Address) -> Target {
        self.seeds[0].at(&address.host, address.port)
    }

    /// A server was away, or not the one to ask: what is known is to be asked for again.
    pub(super) fn doubt(&self) {
        self.lookout.doubt();
    }
}

/// Why a server doesn't say who serves what.
pub(super) enum Mute {
    /// There is no connection, or no answer that can be read.
    Away(Failure),
    /// It won't.
    Refused(Said),
}

impl Mute {
    fn at(self, place: &Place) -> String {
        match self {
            Self::Away(failure) => failure.at(place).detail,
            Self::Refused(said) => format!("{place}: {} {}", said.code, said.detail),
        }
    }
}

/// Asks a server who serves what.
///
/// # Errors
/// Why it doesn't say.
pub(super) async fn ask(server: &Target, dialogue: &mut Dialogue) -> Result<Map, Mute> {
    let answer = dialogue.ask(&["CLUSTER", "SLOTS"]).await.map_err(Mute::Away)?;
    match (Said::of(&answer), Map::read(&answer, &server.place)) {
        (Some(said), _) => Err(Mute::Refused(said)),
        (None, Some(map)) => Ok(map),
        (None, None) => Err(Mute::Away(Failure::Lost("its answer is none of a cluster".to_owned()))),
    }
}

/// Asks one server after another for ever.
async fn watch(seeds: Arc<[Target]>, tell: Teller<Map>, doubt: Arc<Notify>) {
    let mut known: Vec<Target> = Vec::new();
    let mut away = false;
    loop {
        let mut failures = Vec::new();
        let mut found = false;
        for server in known.clone().iter().chain(seeds.iter()) {
            let followed = follow(server, &tell, &doubt, &mut known).await;
            match followed {
                Ok(()) => found = true,
                Err(mute) => failures.push(mute.at(&server.place)),
            }
        }
        if found {
            away = false;
            continue;
        }
        let what = format!("no server says who is in the cluster: {}", failures.join("; "));
        if !away {
            warn!("{what}; go on asking");
        }
        away = true;
        known.clear();
        tell.not(Error::new(Kind::Unreachable, what));
        sleep(jittered(INTERVAL / 2)).await;
    }
}

/// Goes by what one server says, until somebody doubts it.
async fn follow(
    server: &Target,
    tell: &Teller<Map>,
    doubt: &Notify,
    known: &mut Vec<Target>,
) -> Result<(), Mute> {
    let mut dialogue = Dialogue::with(server, PATIENCE).await.map_err(Mute::Away)?;
    loop {
        let map = ask(server, &mut dialogue).await?;
        if map.is_empty() && tell.known().is_some_and(|known| !known.is_empty()) {
            return Err(Mute::Away(Failure::Lost("it is in no cluster any longer".to_owned())));
        }
        *known = map.servers().iter().map(|address| server.at(&address.host, address.port)).collect();
        if tell.found(map, PartialEq::eq) {
            info!(servers = known.len(), "the cluster's servers are known");
        }
        sleep(jittered(LEAST)).await;
        if timeout(jittered(INTERVAL), doubt.notified()).await.is_ok() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u16, u16, Option<&str>)]) -> Option<Map> {
        let range = |(first, last, host): &(u16, u16, Option<&str>)| {
            let host = host.map_or(Value::Nil, |host| Value::BulkString(host.as_bytes().to_vec()));
            let master = Value::Array(vec![host, Value::Int(7000), Value::BulkString(b"id".to_vec())]);
            Value::Array(vec![Value::Int((*first).into()), Value::Int((*last).into()), master])
        };
        let asked = Place::Tcp { host: "seed".to_owned(), port: 1, tls: None };
        Map::read(&Value::Array(ranges.iter().map(range).collect()), &asked)
    }

    #[test]
    fn a_slot_is_served_by_whoever_says_so() {
        let map = map(&[(5461, 10_922, Some("b")), (0, 5460, Some("a")), (10_923, 16_383, None)]).unwrap();
        for (slot, host) in
            [(0, "a"), (5460, "a"), (5461, "b"), (10_922, "b"), (10_923, "seed"), (16_383, "seed")]
        {
            assert_eq!(map.owner(slot).map(|owner| &*owner.host), Some(host), "{slot}");
        }
        assert_eq!((map.servers().len(), map.holes()), (3, vec![]));
    }

    #[test]
    fn a_slot_that_nobody_serves_is_in_a_hole() {
        let some = map(&[(1, 9, Some("a")), (11, 16_000, Some("a"))]).unwrap();
        assert_eq!(some.holes(), [(0, 0), (10, 10), (16_001, 16_383)]);
        assert_eq!([0, 10, 16_001].map(|slot| some.owner(slot)), [None; 3]);
        assert_eq!(map(&[]).unwrap().holes(), [(0, 16_383)]);
        assert_eq!(map(&[(9, 1, Some("a"))]), None, "no such range");
        assert_eq!(map(&[(0, 16_384, Some("a"))]), None);
    }
}
