//! `memcache://` — sessions on one memcached or several that any number of sidecars share.
//!
//! Durable: no, what a server keeps dies with it. Atomic: yes, each write names the CAS number of what it replaces.
//! Round trips: load 1, save 1 (2 where this worker has not seen the record on its connection), create 1, touch 2,
//! flush 1, cycle-key 2. An eviction, which nothing announces, logs somebody out. Needs memcached 1.6.12 or newer,
//! which speaks the meta protocol.
//!
//! A record lies under `store.key_prefix` and the 40 digits of its key: its revision (8 bytes), its end (6 bytes) and
//! the codec's bytes. The server forgets a session `store.expired_memory` after its end, so that an expired one is
//! found, and counted, if somebody still asks for it. It is told so as a date, because it takes a length of more than
//! 30 days for one. So it ends by *its* clock, which is that of its host when it was started, and steady from then on:
//! one that is ahead of ours by more than `store.expired_memory` ends sessions before their time. A date that is too
//! late for 32 bits is none: such a record stays until it is found to have ended, or evicted.
//!
//! No write is blind. memcached's own touch and its removal without a number are not used, because both happen whatever
//! lies there. What it does by itself where it can't store an item, is to remove the one that was to be replaced, be
//! it the one that was named or not; so what is too large is not sent at all. Where it is full that is a logout by
//! eviction like any other. No kind of loss brings anything back: tokens are only minted, and what is absent stays so.
//!
//! Each worker has a connection of its own to each server (`store/link.rs`), and remembers by which numbers it has seen
//! what (`numbers.rs`).

mod answer;
mod connection;
mod examine;
mod item;
mod numbers;
mod place;
mod ring;
mod server;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use thread_local::ThreadLocal;

use self::answer::Answer;
use self::connection::{Command, Connection, Lost};
pub(super) use self::examine::examine;
use self::place::{Place, There};
use self::server::Server;
pub use self::servers::Misfit;
use self::servers::Servers;
use super::engine::{Cleared, Engine, Stored, Swap, Worth};
use super::link::{Line, Link, silence};
use super::{Config, Error};
use crate::session::{Key, Revision};
use crate::time::Timestamp;

/// The scheme of `store.url` that is ours.
pub const SCHEME: &str = "memcache";

/// How often a write is sent whose number is no longer the one that lies there, or whose connection was gone.
const ROUNDS: usize = 8;
/// The memcached engine.
pub struct Memcached {
    servers: Servers,
    prefix: String,
    times: ArcSwap<Times>,
    links: ThreadLocal<Vec<Link<Server>>>,
    connections: IntCounter,
}

/// Lengths of time that follow the settings.
struct Times {
    /// `store.expired_memory`.
    expired_memory: Duration,
    /// What [`silence`] says.
    silence: Duration,
}

impl Times {
    fn of(config: &Config) -> Self {
        Self { expired_memory: config.expired_memory.0, silence: silence(config) }
    }
}

impl Memcached {
    /// An engine on the servers of the settings, which are not asked yet.
    ///
    /// # Errors
    /// The first setting that can't be obeyed, and why.
    pub fn new(config: &Config, connections: IntCounter) -> Result<Self, Misfit> {
        Ok(Self {
            servers: Servers::new(config)?,
            prefix: config.key_prefix.clone(),
            times: ArcSwap::from_pointee(Times::of(config)),
            links: ThreadLocal::new(),
            connections,
        })
    }

    /// Says whether nobody can listen in on the way to the servers of these settings.
    ///
    /// # Errors
    /// As [`Memcached::new`].
    pub fn is_private(config: &Config) -> Result<bool, Misfit> {
        Servers::new(config).map(|servers| servers.are_local())
    }

    /// Checks these settings.
    ///
    /// # Errors
    /// As [`Memcached::new`].
    pub fn check(config: &Config) -> Result<(), Misfit> {
        Servers::new(config).map(drop)
    }

    fn links(&self) -> &[Link<Server>] {
        let link = |server: &Arc<Server>| Link::new(Arc::clone(server), self.connections.clone());
        self.links.get_or(|| self.servers.all.iter().map(link).collect())
    }

    /// Where a key lies.
    fn place(&self, key: &Key) -> Place<'_> {
        let name = format!("{}{key}", self.prefix);
        let n = self.servers.ring.server(name.as_bytes());
        self.at(n, name)
    }

    fn at(&self, n: usize, name: String) -> Place<'_> {
        let silence = self.times.load().silence;
        Place { n, name, server: &self.servers.all[n], link: &self.links()[n], silence }
    }

    /// The command that stores a record on this connection; `how` says where.
    fn put(
        &self,
        place: &Place<'_>,
        line: &Line<Connection>,
        new: &Stored,
        how: &str,
    ) -> Result<Command, Error> {
        item::put(place, line.connection.largest(), new, how, self.times.load().expired_memory)
    }

    /// Writes where `seen` is, by its number: the one that is known, or that a look tells.
    async fn swap(&self, key: &Key, seen: Revision, write: Write) -> Result<Swap, Error> {
        let (place, mut unsent) = (self.place(key), false);
        for _ in 0..ROUNDS {
            let line = place.link.line().await?;
            let known = line.connection.numbers().of(key, seen);
            // What is touched is written again, so it must be seen.
            let known = known.filter(|_| !matches!(write, Write::Touch(_)));
            let (line, cas, there) = match known {
                Some(cas) => (line, cas, None),
                None => match place.fetch(key).await? {
                    (_, None) => return Ok(Swap::Gone),
                    (line, Some(There { cas, stored })) if stored.revision == seen => {
                        (line, cas, Some(stored))
                    }
                    (_, Some(_)) => return Ok(Swap::Changed),
                },
            };
            let how = format!("C{cas}");
            let (command, then) = match (&write, there) {
                (Write::Remove, _) => (place.command("md", &how), None),
                (Write::Replace(new), _) => (self.put(&place, &line, new, &how)?, Some(new.revision)),
                (Write::Touch(until), Some(there)) => {
                    (self.put(&place, &line, &Stored { until: *until, ..there }, &how)?, Some(seen))
                }
                (Write::Touch(_), None) => return Err(place.odd(&line)),
            };
            let answer = match place.call(&line, command).await {
                // A number is good for its own connection only.
                Err(Lost::Unsent) => {
                    unsent = true;
                    continue;
                }
                answer => place.told(answer),
            };
            unsent = false;
            {
                let mut numbers = line.connection.numbers();
                match (&answer, then) {
                    (Ok(Answer::Done { cas }), Some(then)) => numbers.learn(key, then, *cas),
                    _ => numbers.forget(key),
                }
            }
            match answer? {
                Answer::Done { .. } => return Ok(Swap::Done),
                Answer::Missing => return Ok(Swap::Gone),
                // It has another number: it was replaced, or only touched.
                Answer::Changed => {}
                _ => return Err(place.odd(&line)),
            }
        }
        if unsent { Err(place.unsent()) } else { Ok(Swap::Changed) }
    }
}

/// What becomes of what was seen.
enum Write {
    Replace(Stored),
    Touch(Timestamp),
    Remove,
}

impl Engine for Memcached {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        let (_, there) = self.place(key).fetch(key).await?;
        Ok(there.map(|there| there.stored))
    }

    async fn add(&self, key: &Key, new: Stored, _: Worth) -> Result<bool, Error> {
        let place = self.place(key);
        for _ in 0..ROUNDS {
            let line = place.link.line().await?;
            let command = self.put(&place, &line, &new, "ME")?;
            let answer = match place.call(&line, command).await {
                Err(Lost::Unsent) => continue,
                answer => place.told(answer)?,
            };
            return match answer {
                Answer::Done { cas } => {
                    line.connection.numbers().learn(key, new.revision, cas);
                    Ok(true)
                }
                Answer::Taken => Ok(false),
                _ => Err(place.odd(&line)),
            };
        }
        Err(place.unsent())
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, _: Worth) -> Result<Swap, Error> {
        self.swap(key, seen, Write::Replace(new)).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.swap(key, seen, Write::Touch(until)).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.swap(key, seen, Write::Remove).await
    }

    /// memcached does that by itself.
    async fn clear_expired(&self, _: Timestamp, _: usize) -> Result<Cleared, Error> {
        Ok(Cleared::default())
    }

    fn clears_itself(&self) -> bool {
        true
    }

    /// All of them must be there.
    async fn ping(&self) -> Result<(), Error> {
        for n in 0..self.servers.all.len() {
            let place = self.at(n, String::new());
            let line = place.link.line().await?;
            let command = Command { line: "mn".to_owned(), value: None };
            match place.told(place.call(&line, command).await)? {
                Answer::Here => {}
                _ => return Err(place.odd(&line)),
            }
        }
        Ok(())
    }

    fn reload(&self, config: &Config) {
        self.times.store(Arc::new(Times::of(config)));
    }
}
