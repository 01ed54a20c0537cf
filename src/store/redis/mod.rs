//! `redis://` — sessions on a Redis that any number of sidecars share: one server, the one that Sentinels name, or the
//! servers of a cluster.
//!
//! Durable: as the server is (`appendonly`, `appendfsync`); what it has acknowledged it may still lose in a crash if
//! its settings say so, and in a failover unless `store.wait_replicas` does. Atomic: yes, each write is one script.
//! Round trips: load 1, save 1, create 1, touch 1, flush 1, cycle-key 1 (2 in a cluster). An eviction (a
//! `maxmemory-policy` other than `noeviction`) logs somebody out. Needs Redis 6.2 or newer, or what speaks as it does.
//!
//! A record lies under `store.key_prefix` and the 20 bytes of its key, as one text: its revision (8 bytes), its end (6
//! bytes) and the codec's bytes. The server removes a session `store.expired_memory` after its end, so that an expired
//! one is found, and counted, if somebody still asks for it.
//!
//! Each worker has a connection of its own (`link.rs`, `store/link.rs`), to each server of a cluster (`cluster.rs`). Where the servers
//! are is found out for all workers at once (`sentinel.rs`, `topology.rs`). Writes that wait for replicas have
//! connections to themselves (`waiters.rs`).

mod answer;
mod call;
mod cluster;
mod dialogue;
mod examine;
mod failure;
mod goal;
mod greeting;
mod link;
mod lookout;
mod scan;
mod script;
mod sentinel;
mod slot;
mod source;
mod target;
mod tls;
mod topology;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prometheus::IntCounter;
use redis::{Cmd, Value};
use thread_local::ThreadLocal;

use self::call::{Call, Wait};
use self::cluster::Links;
pub(super) use self::examine::examine;
use self::goal::Goal;
use self::link::Link;
use self::script::Script;
use self::source::Source;
pub use self::target::Misfit;
use self::topology::Cluster;
use super::codec;
use super::engine::{Cleared, Cycle, Engine, Page, Stored, Swap, Worth};
use super::link::silence;
use super::{Config, Error, Kind};
use crate::session::{Key, Revision};
use crate::time::{Clock, Timestamp};

/// The schemes of `store.url` that are ours.
pub const SCHEMES: [&str; 7] =
    ["redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];

/// Bytes of a revision at the beginning of a value.
const REVISION: usize = 8;
/// Milliseconds that Redis can add to any instant of its own: a thousand years.
const LONGEST_TTL: u128 = 1000 * 365 * 24 * 3600 * 1000;
/// The part of `store.commit_timeout` that one write waits for its replicas; there is time for a few then.
const PATIENCE: u32 = 5;
/// Where the codec's bytes begin: behind the revision and six bytes of the end.
const HEAD: usize = REVISION + 6;

/// The Redis engine.
pub struct Redis {
    lead: Lead,
    prefix: Vec<u8>,
    /// `store.wait_replicas`.
    replicas: usize,
    times: Arc<ArcSwap<Times>>,
    routes: ThreadLocal<Route>,
    connections: IntCounter,
}

/// Where all workers' ways lead.
enum Lead {
    /// To one server, which has all keys.
    One(Source),
    /// To several, each of which has a part of them.
    Several(Arc<Cluster>),
}

/// A worker's way to the servers.
enum Route {
    /// To one, which has all keys.
    One(Box<Link>),
    /// To several, each of which has a part of them.
    Several(Links),
}

/// Lengths of time that follow the settings.
struct Times {
    /// `store.expired_memory`.
    expired_memory: Duration,
    /// What [`silence`] says.
    silence: Duration,
    /// A write waits so long for its replicas.
    patience: Duration,
}

impl Times {
    fn of(config: &Config) -> Self {
        let patience = config.commit_timeout.0 / PATIENCE;
        Self { expired_memory: config.expired_memory.0, silence: silence(config), patience }
    }
}

impl Redis {
    /// An engine on the server of the settings, which is not asked yet.
    ///
    /// # Errors
    /// The first setting that can't be obeyed, and why.
    pub fn new(config: &Config, connections: IntCounter) -> Result<Self, Misfit> {
        let lead = match Goal::new(config)? {
            Goal::Server(target) => Lead::One(Source::to(target)),
            Goal::Sentinels(sentinels) => Lead::One(Source::Master(sentinels)),
            Goal::Cluster(cluster) => Lead::Several(cluster),
        };
        Ok(Self {
            lead,
            prefix: config.key_prefix.clone().into_bytes(),
            replicas: config.wait_replicas,
            times: Arc::new(ArcSwap::from_pointee(Times::of(config))),
            routes: ThreadLocal::new(),
            connections,
        })
    }

    /// Says whether nobody can listen in on the way to the servers of these settings.
    ///
    /// # Errors
    /// As [`Redis::new`].
    pub fn is_private(config: &Config) -> Result<bool, Misfit> {
        Goal::new(config).map(|goal| goal.is_private())
    }

    /// Checks these settings, and the files of TLS that they name.
    ///
    /// # Errors
    /// As [`Redis::new`], and the first file that can't be used.
    pub fn check(config: &Config) -> Result<(), Misfit> {
        Goal::new(config)?.check()
    }

    fn route(&self) -> &Route {
        self.routes.get_or(|| {
            let (opened, times) = (self.connections.clone(), Arc::clone(&self.times));
            match &self.lead {
                Lead::One(source) => Route::One(Box::new(Link::new(source.clone(), opened, times))),
                Lead::Several(cluster) => Route::Several(Links::new(Arc::clone(cluster), opened, times)),
            }
        })
    }

    /// Sends a command to where its first key lies.
    async fn send(&self, place: &[u8], command: &Cmd, wait: Option<Wait>) -> Result<Value, Error> {
        let call = Call { command, asking: false, wait };
        match self.route() {
            Route::One(link) => link.call(&call).await,
            // In a box, for every call would have room for it.
            Route::Several(links) => Box::pin(links.call(place, &call)).await,
        }
    }

    /// Sends what may write; once it is answered it is where `store.wait_replicas` wants it.
    async fn write(&self, place: &[u8], command: &Cmd) -> Result<Value, Error> {
        let wait = || Wait { replicas: self.replicas, patience: self.times.load().patience };
        self.send(place, command, (self.replicas > 0).then(wait)).await
    }

    /// Runs a script, whether or not the server knows it still.
    async fn run(&self, script: &Script, keys: &[&Key], arguments: &[&[u8]]) -> Result<Swap, Error> {
        let command = |how: &str, script: &str| {
            let mut command = redis::cmd(how);
            command.arg(script).arg(keys.len());
            for key in keys {
                command.arg(self.place(key));
            }
            for argument in arguments {
                command.arg(*argument);
            }
            command
        };
        let place = keys.first().map_or_else(Vec::new, |key| self.place(key));
        let mut answer = self.write(&place, &command("EVALSHA", &script.name)).await?;
        if answer::is_no_script(&answer) {
            answer = self.write(&place, &command("EVAL", script.text)).await?;
        }
        match answer::written(answer)? {
            Value::Int(0) => Ok(Swap::Gone),
            Value::Int(1) => Ok(Swap::Changed),
            Value::Int(2) => Ok(Swap::Done),
            other => Err(odd(&other)),
        }
    }

    /// What Redis calls a key.
    fn place(&self, key: &Key) -> Vec<u8> {
        [&self.prefix[..], key.as_bytes()].concat()
    }

    /// What Redis keeps of a value, and for how long: milliseconds, in digits.
    fn kept(&self, stored: &Stored) -> (Vec<u8>, String) {
        let head = [&stored.revision.bits().to_be_bytes()[..], &end(stored.until)].concat();
        ([&head[..], &stored.value].concat(), self.ttl(stored.until, codec::is_session(&stored.value)))
    }

    /// A length and not an instant, so that a server whose clock is ahead of ours ends nothing before its time. What
    /// has ended already is kept for a moment, since no length may be 0.
    fn ttl(&self, until: Timestamp, is_session: bool) -> String {
        let more = if is_session { self.times.load().expired_memory } else { Duration::ZERO };
        let ttl = until.since(Clock::system().now()) + more;
        ttl.as_millis().clamp(1, LONGEST_TTL).to_string()
    }
}

/// An end in six bytes, which last until the year 10889.
fn end(until: Timestamp) -> [u8; 6] {
    let [_, _, end @ ..] = u64::try_from(until.as_millis()).unwrap_or(0).to_be_bytes();
    end
}

fn odd(answer: &Value) -> Error {
    let kind = match answer {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        _ => "something else",
    };
    Error::new(Kind::Refused, format!("Redis answered {kind}, which no version of it should"))
}

fn read(value: Vec<u8>) -> Option<Stored> {
    let (revision, rest) = value.split_first_chunk::<REVISION>()?;
    let end = rest.first_chunk::<{ HEAD - REVISION }>()?;
    let revision = Revision::from_bits(u64::from_be_bytes(*revision))?;
    let millis = end.iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
    Some(Stored { revision, until: Timestamp::from_millis(millis), value: Bytes::from(value).slice(HEAD..) })
}

impl Engine for Redis {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let (mut get, place) = (redis::cmd("GET"), self.place(key));
        get.arg(&place);
        let answer = match self.send(&place, &get, None).await {
            // Reading twice harms nobody, and the connection may have been lost for reasons of its own.
            Err(Error { kind: Kind::Broken, .. }) => self.send(&place, &get, None).await?,
            answer => answer?,
        };
        match answer::value(answer)? {
            Value::Nil => Ok(None),
            Value::BulkString(value) => read(value).map(Some).ok_or_else(|| {
                Error::new(Kind::Corrupt, format!("what Redis keeps for {key} is too short to be a record"))
            }),
            other => Err(odd(&other)),
        }
    }

    async fn add(&self, key: &Key, new: Stored, _: Worth) -> Result<bool, Error> {
        let (value, ttl) = self.kept(&new);
        let (mut set, place) = (redis::cmd("SET"), self.place(key));
        set.arg(&place).arg(value).arg("NX").arg("PX").arg(ttl);
        match answer::written(self.write(&place, &set).await?)? {
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            other => Err(odd(&other)),
        }
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, _: Worth) -> Result<Swap, Error> {
        let (value, ttl) = self.kept(&new);
        let arguments = [&seen.bits().to_be_bytes()[..], &value, ttl.as_bytes()];
        self.run(&script::REPLACE, &[key], &arguments).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        // Only sessions are touched.
        let ttl = self.ttl(until, true);
        let arguments = [&seen.bits().to_be_bytes()[..], &end(until), ttl.as_bytes()];
        self.run(&script::TOUCH, &[key], &arguments).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.run(&script::REMOVE, &[key], &[&seen.bits().to_be_bytes()]).await
    }

    /// Not in a cluster, where two keys lie in two slots (`cluster.rs`).
    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        let together = matches!(self.lead, Lead::One(_));
        together.then_some(async {
            let ((ended, forgotten), (fresh, expired)) = (self.kept(&cycle.ended), self.kept(&cycle.fresh));
            let seen = cycle.seen.bits().to_be_bytes();
            let arguments = [&seen[..], &ended, forgotten.as_bytes(), &fresh, expired.as_bytes()];
            self.run(&script::CYCLE, &[&cycle.old, &cycle.new], &arguments).await
        })
    }

    async fn confirm(&self, key: &Key, seen: Option<Revision>) -> Result<bool, Error> {
        if self.replicas == 0 {
            return Ok(true);
        }
        let seen = seen.map_or(Vec::new(), |seen| seen.bits().to_be_bytes().to_vec());
        self.run(&script::CONFIRM, &[key], &[&seen]).await.map(|swap| swap == Swap::Done)
    }

    /// Redis does that by itself.
    async fn clear_expired(&self, _: Timestamp, _: usize) -> Result<Cleared, Error> {
        Ok(Cleared::default())
    }

    fn clears_itself(&self) -> bool {
        true
    }

    async fn scan(&self, after: Option<&str>) -> Result<Page, Error> {
        scan::scan(self.route(), &self.prefix, after).await
    }

    async fn ping(&self) -> Result<(), Error> {
        let ping = redis::cmd("PING");
        let call = Call { command: &ping, asking: false, wait: None };
        let answer = match self.route() {
            Route::One(link) => link.call(&call).await?,
            Route::Several(links) => Box::pin(links.any(&call)).await?,
        };
        answer::value(answer).map(drop)
    }

    fn reload(&self, config: &Config) {
        self.times.store(Arc::new(Times::of(config)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_a_short_one_is_none() {
        let redis = Redis::new(
            &Config { url: "redis://localhost".into(), ..Config::default() },
            IntCounter::new("connections", "Opened.").unwrap(),
        );
        let redis = redis.unwrap_or_else(|(key, what)| panic!("{key}: {what}"));
        for until in [Timestamp::from_millis(0), Timestamp::from_millis(1_700_000_000_123), Timestamp::MAX] {
            let revision = Revision::from_bits(u64::MAX - 1).unwrap();
            let stored = Stored { value: Bytes::from_static(b"1:..."), revision, until };
            let (value, ttl) = redis.kept(&stored);
            assert!(ttl.parse::<u128>().is_ok_and(|ttl| (1..=LONGEST_TTL).contains(&ttl)), "{ttl}");
            assert_eq!(read(value.clone()), Some(stored));
            assert_eq!(read(value[..HEAD - 1].to_vec()), None);
        }
    }
}
