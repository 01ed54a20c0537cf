//! A worker's connections to the servers of a cluster, and the way of a call to the one that has its slot.
//!
//! This is our own routing over the link that leads to a single server too, and not that of redis-rs' cluster client:
//! that one counts redirections but not the time they take, retries writes whose answer was lost (which here is for
//! `write.rs` to find out, by what lies there), shares a connection between a `WAIT` and everybody else, and gives no
//! connection up that has fallen silent.
//!
//! Each call has one key, so a slot that is being moved costs a hop at most: what has left is asked for where it goes
//! (`ASK`), and once all has, the whole slot is (`MOVED`). That is why [`super::Redis`] doesn't cycle keys in one step
//! here: two keys lie in two slots as a rule, and where they share one (`store.key_prefix` with a hash tag), a script
//! over both would be put off (`TRYAGAIN`) for as long as that slot is on its way.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use redis::Value;
use tokio::time::sleep;

use super::answer::Said;
use super::call::Call;
use super::link::Link;
use super::source::Source;
use super::topology::{Address, Cluster, Map, address};
use super::{Times, slot};
use crate::store::{Error, Kind};

/// Servers that a call is sent on to at most. A failover or a slot on its way takes one or two.
const HOPS: usize = 8;
/// What a server takes that is to be asked again.
const AGAIN: Duration = Duration::from_millis(10);

/// A worker's connections to the servers of a cluster.
pub(super) struct Links {
    cluster: Arc<Cluster>,
    opened: IntCounter,
    times: Arc<ArcSwap<Times>>,
    open: Mutex<Open>,
}

/// Those that there are.
#[derive(Default)]
struct Open {
    links: HashMap<Address, Arc<Link>>,
    /// By which they were looked through last.
    map: Option<Arc<Map>>,
}

/// Where a server sends a call on to.
#[derive(Debug, PartialEq, Eq)]
enum Redirect {
    /// The slot has its place there.
    Moved(Address),
    /// The slot is on its way there, and this key has arrived.
    Ask(Address),
    /// Nowhere: some of it is on its way.
    TryAgain,
}

impl Redirect {
    /// What an answer says of it; `asked` is who gave it.
    fn of(answer: &Value, asked: &Address) -> Option<Self> {
        let said = Said::of(answer)?;
        let there = || {
            let (host, port) = said.detail.split_once(' ')?.1.rsplit_once(':')?;
            Some(address(Some(host), port.parse().ok()?, &asked.host))
        };
        match &*said.code {
            "MOVED" => there().map(Self::Moved),
            "ASK" => there().map(Self::Ask),
            "TRYAGAIN" => Some(Self::TryAgain),
            _ => None,
        }
    }
}

/// A call that is under way. If it ends without an answer, or its caller leaves before one, whom it went to may serve the
/// slot no longer: a server that only stands still refuses nothing.
struct Unanswered<'a>(&'a Cluster);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.doubt();
    }
}

impl Links {
    /// No connections so far.
    pub(super) fn new(cluster: Arc<Cluster>, opened: IntCounter, times: Arc<ArcSwap<Times>>) -> Self {
        Self { cluster, opened, times, open: Mutex::default() }
    }

    /// Sends a call to the server that has this key, and wherever that sends it on to.
    ///
    /// # Errors
    /// As [`Link::call`], and [`Kind::ClusterDown`] where nobody serves the slot, or nobody agrees on who does.
    pub(super) async fn call(&self, key: &[u8], call: &Call<'_>) -> Result<Value, Error> {
        let slot = slot::of(key);
        let mut at = self.owner(slot).await?;
        let mut asking = false;
        for _ in 0..HOPS {
            let unanswered = Unanswered(&self.cluster);
            let answer = match self.link(&at).call(&Call { asking, ..*call }).await {
                Ok(answer) => {
                    mem::forget(unanswered);
                    answer
                }
                Err(error) => {
                    drop(unanswered);
                    // Where nothing was sent, somebody else may have its slots by now.
                    match self.owner(slot).await {
                        Ok(owner) if error.kind == Kind::Unreachable && owner != at => {
                            (at, asking) = (owner, false);
                            continue;
                        }
                        _ => return Err(error),
                    }
                }
            };
            match Redirect::of(&answer, &at) {
                Some(Redirect::Moved(there)) => {
                    self.cluster.doubt();
                    if there == at {
                        // It has only just lost the slot, or got it.
                        sleep(AGAIN).await;
                    }
                    (at, asking) = (there, false);
                }
                Some(Redirect::Ask(there)) => (at, asking) = (there, true),
                Some(Redirect::TryAgain) => sleep(AGAIN).await,
                None => {
                    if Said::of(&answer).is_some_and(|said| is_doubtful(said.kind())) {
                        self.cluster.doubt();
                    }
                    return Ok(answer);
                }
            }
        }
        let what = format!("the servers of the cluster sent slot {slot} on {HOPS} times, to {at} at last");
        Err(Error::new(Kind::ClusterDown, what))
    }

    /// Asks any of the servers that serve.
    ///
    /// # Errors
    /// What the last of them said instead.
    pub(super) async fn any(&self, call: &Call<'_>) -> Result<Value, Error> {
        let servers = self.map().await?.servers();
        let mut last = Err(Error::new(Kind::ClusterDown, "no server of the cluster serves a slot"));
        for server in &servers {
            last = self.link(server).call(call).await;
            if last.is_ok() {
                break;
            }
            self.cluster.doubt();
        }
        last
    }

    /// Those that serve, in the order of their addresses.
    ///
    /// # Errors
    /// Where nobody says which those are.
    pub(super) async fn servers(&self) -> Result<Vec<Address>, Error> {
        Ok(self.map().await?.servers())
    }

    /// Asks this one, wherever it would send the call on to.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub(super) async fn ask(&self, server: &Address, call: &Call<'_>) -> Result<Value, Error> {
        self.link(server).call(call).await
    }

    async fn owner(&self, slot: u16) -> Result<Address, Error> {
        let map = self.map().await?;
        map.owner(slot).cloned().ok_or_else(|| {
            self.cluster.doubt();
            Error::new(Kind::ClusterDown, format!("no server of the cluster serves slot {slot}"))
        })
    }

    /// Who serves what. Connections to those who serve nothing any longer are let go.
    async fn map(&self) -> Result<Arc<Map>, Error> {
        let map = self.cluster.map().await?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.map.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &map)) {
            let servers = map.servers();
            open.links.retain(|address, _| servers.contains(address));
            open.map = Some(Arc::clone(&map));
        }
        drop(open);
        Ok(map)
    }

    fn link(&self, address: &Address) -> Arc<Link> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let link = open.links.entry(address.clone()).or_insert_with(|| {
            let source = Source::to(Arc::new(self.cluster.target(address)));
            Arc::new(Link::new(source, self.opened.clone(), Arc::clone(&self.times)))
        });
        Arc::clone(link)
    }
}

/// Does a server that says so know of something that we don't?
const fn is_doubtful(kind: Kind) -> bool {
    matches!(kind, Kind::ClusterDown | Kind::ReadOnly | Kind::Loading)
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    #[test]
    fn a_server_sends_a_call_on() {
        let to = |host: &str, port| Address { host: host.to_owned(), port };
        let asked = to("seed", 1);
        for (line, expected) in [
            ("-MOVED 3999 127.0.0.1:6381", Some(Redirect::Moved(to("127.0.0.1", 6381)))),
            ("-MOVED 3999 ::1:6381", Some(Redirect::Moved(to("::1", 6381)))),
            ("-MOVED 3999 cache-1.example:6381", Some(Redirect::Moved(to("cache-1.example", 6381)))),
            ("-MOVED 3999 :6381", Some(Redirect::Moved(to("seed", 6381)))),
            ("-ASK 3999 127.0.0.1:6381", Some(Redirect::Ask(to("127.0.0.1", 6381)))),
            ("-TRYAGAIN Multiple keys request during rehashing of slot", Some(Redirect::TryAgain)),
            ("-MOVED nowhere", None),
            ("-CLUSTERDOWN The cluster is down", None),
            ("+OK", None),
        ] {
            let answer = parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap();
            assert_eq!(Redirect::of(&answer, &asked), expected, "{line}");
        }
    }
}
