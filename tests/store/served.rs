//! An engine together with the server, or the folder, that it needs.

use coatroom::session::{Key, Revision};
use coatroom::store::engine::{Cleared, Cycle, Engine, Page, Stored, Swap, Worth};
use coatroom::store::memcached::Memcached;
use coatroom::store::redis::Redis;
use coatroom::store::{self, Error};
use coatroom::time::Timestamp;

use super::support::counter;
use crate::support::{Memcached as Cache, Redis as Server};

/// A Redis engine on a server of its own, which ends with it.
pub(crate) fn redis() -> Served<Redis> {
    Served::on(Server::start(), |_| {})
}

/// A memcached engine on so many servers of its own, which end with it.
pub(crate) fn memcached(servers: usize) -> Served<Memcached, Vec<Cache>> {
    let servers: Vec<_> = (0..servers).map(|_| Cache::start()).collect();
    let hosts: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
    let url = format!("memcache://{}", hosts.join(","));
    let config = store::Config { url: (&*url).into(), ..store::Config::default() };
    let engine = Memcached::new(&config, counter()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"));
    Served::by(servers, engine)
}

/// An engine, and the server that it asks.
pub(crate) struct Served<E, S = Server> {
    engine: E,
    pub(crate) server: S,
}

impl<E, S> Served<E, S> {
    /// An engine that keeps its server, or its folder, as long as it lives.
    pub(crate) const fn by(server: S, engine: E) -> Self {
        Self { engine, server }
    }
}

impl Served<Redis> {
    /// An engine on a server, with other settings than its URL alone.
    pub(crate) fn on(server: Server, change: impl FnOnce(&mut store::Config)) -> Self {
        let mut config = store::Config { url: (&*server.url()).into(), ..store::Config::default() };
        change(&mut config);
        let engine = Redis::new(&config, counter()).unwrap_or_else(|(key, what)| panic!("{key}: {what}"));
        Self::by(server, engine)
    }
}

impl<E: Engine, S: Send + Sync + 'static> Engine for Served<E, S> {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.engine.get(key).await
    }

    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        self.engine.add(key, new, worth).await
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        self.engine.replace(key, seen, new, worth).await
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.engine.touch(key, seen, until).await
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.engine.remove(key, seen).await
    }

    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        self.engine.cycle(cycle)
    }

    async fn confirm(&self, key: &Key, seen: Option<Revision>) -> Result<bool, Error> {
        self.engine.confirm(key, seen).await
    }

    async fn clear_expired(&self, now: Timestamp, batch: usize) -> Result<Cleared, Error> {
        self.engine.clear_expired(now, batch).await
    }

    fn clears_itself(&self) -> bool {
        self.engine.clears_itself()
    }

    async fn scan(&self, after: Option<&str>) -> Result<Page, Error> {
        self.engine.scan(after).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.engine.ping().await
    }
}
