//! `redis://` — sessions on a Redis that any number of sidecars share.
//!
//! Durable: as the server is (`appendonly`, `appendfsync`); what it has acknowledged it may still lose in a crash if
//! its settings say so. Atomic: yes, each write is one script. Round trips: load 1, save 1, create 1, touch 1, flush
//! 1, cycle-key 1. An eviction (a `maxmemory-policy` other than `noeviction`) logs somebody out. Needs Redis 6.2 or
//! newer, or what speaks as it does.
//!
//! A record lies under `store.key_prefix` and the 20 bytes of its key, as one text: its revision (8 bytes), its end (6
//! bytes) and the codec's bytes. The server removes a session `store.expired_memory` after its end, so that an expired
//! one is found, and counted, if somebody still asks for it.
//!
//! Each worker has a connection of its own (`link.rs`).

mod answer;
mod examine;
mod failure;
mod greeting;
mod link;
mod script;
mod target;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prometheus::IntCounter;
use redis::{Cmd, Value};
use thread_local::ThreadLocal;

pub(super) use self::examine::examine;
use self::link::Link;
use self::script::Script;
pub use self::target::Misfit;
use self::target::Target;
use super::codec;
use super::engine::{Cleared, Cycle, Engine, Stored, Swap, Worth};
use super::{Config, Error, Kind};
use crate::session::{Key, Revision};
use crate::time::{Clock, Timestamp};

/// The schemes of `store.url` that are ours.
pub const SCHEMES: [&str; 3] = ["redis", "rediss", "redis+unix"];

/// Bytes of a revision at the beginning of a value.
const REVISION: usize = 8;
/// Milliseconds that Redis can add to any instant of its own: a thousand years.
const LONGEST_TTL: u128 = 1000 * 365 * 24 * 3600 * 1000;
/// The longest silence that speaks against no connection; half of `store.timeout` where that is less.
const SILENCE: Duration = Duration::from_millis(100);
/// Where the codec's bytes begin: behind the revision and six bytes of the end.
const HEAD: usize = REVISION + 6;

/// The Redis engine.
pub struct Redis {
    target: Arc<Target>,
    prefix: Vec<u8>,
    times: Arc<ArcSwap<Times>>,
    links: ThreadLocal<Link>,
    connections: IntCounter,
}

/// Lengths of time that follow the settings.
struct Times {
    /// `store.expired_memory`.
    expired_memory: Duration,
    /// A call that was left without an answer for so long, on a connection that said nothing since, speaks against it.
    silence: Duration,
}

impl Times {
    fn of(config: &Config) -> Self {
        // Nobody waits longer than all of `store.timeout`.
        Self { expired_memory: config.expired_memory.0, silence: SILENCE.min(config.timeout.0 / 2) }
    }
}

impl Redis {
    /// An engine on the server of the settings, which is not asked yet.
    ///
    /// # Errors
    /// The first setting that can't be obeyed, and why.
    pub fn new(config: &Config, connections: IntCounter) -> Result<Self, Misfit> {
        Ok(Self {
            target: Arc::new(Target::new(config)?),
            prefix: config.key_prefix.clone().into_bytes(),
            times: Arc::new(ArcSwap::from_pointee(Times::of(config))),
            links: ThreadLocal::new(),
            connections,
        })
    }

    /// Says whether nobody can listen in on the way to the server of these settings.
    ///
    /// # Errors
    /// As [`Redis::new`].
    pub fn is_private(config: &Config) -> Result<bool, Misfit> {
        Target::new(config).map(|target| target.is_private())
    }

    /// Checks these settings, and the files of TLS that they name.
    ///
    /// # Errors
    /// As [`Redis::new`], and the first file that can't be used.
    pub fn check(config: &Config) -> Result<(), Misfit> {
        Target::new(config)?.check()
    }

    fn link(&self) -> &Link {
        self.links
            .get_or(|| Link::new(Arc::clone(&self.target), self.connections.clone(), Arc::clone(&self.times)))
    }

    async fn call(&self, command: &Cmd) -> Result<Value, Error> {
        answer::value(self.link().call(command).await?)
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
        let mut answer = self.link().call(&command("EVALSHA", &script.name)).await?;
        if answer::is_no_script(&answer) {
            answer = self.link().call(&command("EVAL", script.text)).await?;
        }
        match answer::value(answer)? {
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
        let mut get = redis::cmd("GET");
        get.arg(self.place(key));
        let answer = match self.call(&get).await {
            // Reading twice harms nobody, and the connection may have been lost for reasons of its own.
            Err(Error { kind: Kind::Broken, .. }) => self.call(&get).await?,
            answer => answer?,
        };
        match answer {
            Value::Nil => Ok(None),
            Value::BulkString(value) => read(value).map(Some).ok_or_else(|| {
                Error::new(Kind::Corrupt, format!("what Redis keeps for {key} is too short to be a record"))
            }),
            other => Err(odd(&other)),
        }
    }

    async fn add(&self, key: &Key, new: Stored, _: Worth) -> Result<bool, Error> {
        let (value, ttl) = self.kept(&new);
        let mut set = redis::cmd("SET");
        set.arg(self.place(key)).arg(value).arg("NX").arg("PX").arg(ttl);
        match self.call(&set).await? {
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

    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        Some(async {
            let ((ended, forgotten), (fresh, expired)) = (self.kept(&cycle.ended), self.kept(&cycle.fresh));
            let seen = cycle.seen.bits().to_be_bytes();
            let arguments = [&seen[..], &ended, forgotten.as_bytes(), &fresh, expired.as_bytes()];
            self.run(&script::CYCLE, &[&cycle.old, &cycle.new], &arguments).await
        })
    }

    /// Redis does that by itself.
    async fn clear_expired(&self, _: Timestamp, _: usize) -> Result<Cleared, Error> {
        Ok(Cleared::default())
    }

    async fn ping(&self) -> Result<(), Error> {
        self.call(&redis::cmd("PING")).await.map(drop)
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
