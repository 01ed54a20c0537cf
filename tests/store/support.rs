//! A store on an engine, with a clock that stands still, and browsers in front of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use coatroom::secret::Secret;
use coatroom::session::data::Map;
use coatroom::session::{
    Asked, Condition, Config, Directive, Found, Key, Limits, Live, Policy, Revision, Scope, Token, plan,
};
use coatroom::store::codec::Codec;
use coatroom::store::engine::{Cleared, Cycle, Engine, Stored, Swap, Worth};
use coatroom::store::keyed::{Counts, Keyed, Rules};
use coatroom::store::memory::Memory;
use coatroom::store::{self, Decide, Error, Failed, Outcome, Store, Unsealed, cookie};
use coatroom::time::{Clock, Length, Timestamp};
use data_encoding::BASE64;
use prometheus::IntCounter;
use serde_json::Value;

/// `cookie.age` of all tests: an hour.
pub(crate) const AGE: Duration = Duration::from_secs(3600);
/// The scope that all cookies are issued under.
pub(crate) const SCOPE: Scope = Scope(0xc0a7);

/// So many seconds.
pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A counter of nothing in particular.
pub(crate) fn counter() -> IntCounter {
    IntCounter::new("counter", "What a test counts.").unwrap()
}

/// A memory engine with room for everything.
pub(crate) fn memory() -> Memory {
    Memory::new(&store::Config::default(), counter())
}

/// The entries of a JSON object.
pub(crate) fn map(value: Value) -> Map {
    serde_json::from_value(value).unwrap()
}

/// `X-Session-Set`.
pub(crate) fn set(value: Value) -> Directive {
    Directive::Set(map(value))
}

/// `X-Session-Increment` of one entry by one.
pub(crate) fn increment(name: &str) -> Directive {
    Directive::Increment(vec![(name.to_owned(), 1)])
}

/// `X-Session-Delete` of one entry.
pub(crate) fn delete(name: &str) -> Directive {
    Directive::Delete(vec![name.to_owned()])
}

/// A response that asks this, to a client that showed a cookie.
pub(crate) fn ask(directives: impl IntoIterator<Item = Directive>) -> Asked {
    let mut asked = Asked { shown: true, ..Asked::default() };
    directives.into_iter().for_each(|directive| asked.changes.push(directive));
    asked
}

/// The same, under `X-Session-If-Version`.
pub(crate) fn only_if(version: Revision, directives: impl IntoIterator<Item = Directive>) -> Asked {
    let mut asked = ask(directives);
    asked.changes.condition = Some(Condition::Version(Some(version)));
    asked
}

/// A revision by its number.
pub(crate) fn revision(bits: u64) -> Revision {
    Revision::from_bits(bits).unwrap()
}

/// A key by its number.
pub(crate) fn key(n: u64) -> Key {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    Key::from_bytes(bytes)
}

/// What lies under a key with that number: no record, and good for an hour.
pub(crate) fn stored(n: u64) -> Stored {
    let until = Clock::system().now().plus(AGE);
    Stored { value: Bytes::from_static(b"1:..."), revision: revision(n), until }
}

/// The live session that was found.
pub(crate) fn live(found: Found) -> Live {
    match found {
        Found::Live(live) => *live,
        other => panic!("no live session: {other:?}"),
    }
}

/// One engine that several sidecars share, each of whose calls takes a few turns of the scheduler, so that tasks
/// meet in between.
pub(crate) struct Shared<E> {
    engine: Arc<E>,
    calls: Arc<AtomicU64>,
}

impl<E> Shared<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self { engine: Arc::new(engine), calls: Arc::default() }
    }

    async fn turns(&self) {
        for _ in 0..self.calls.fetch_add(1, Relaxed) % 3 {
            tokio::task::yield_now().await;
        }
    }
}

impl<E> Clone for Shared<E> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), calls: Arc::clone(&self.calls) }
    }
}

impl<E: Engine> Engine for Shared<E> {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, Error> {
        self.turns().await;
        let got = self.engine.get(key).await;
        self.turns().await;
        got
    }

    async fn add(&self, key: &Key, new: Stored, worth: Worth) -> Result<bool, Error> {
        self.turns().await;
        let added = self.engine.add(key, new, worth).await;
        self.turns().await;
        added
    }

    async fn replace(&self, key: &Key, seen: Revision, new: Stored, worth: Worth) -> Result<Swap, Error> {
        self.turns().await;
        let swap = self.engine.replace(key, seen, new, worth).await;
        self.turns().await;
        swap
    }

    async fn touch(&self, key: &Key, seen: Revision, until: Timestamp) -> Result<Swap, Error> {
        self.turns().await;
        let swap = self.engine.touch(key, seen, until).await;
        self.turns().await;
        swap
    }

    async fn remove(&self, key: &Key, seen: Revision) -> Result<Swap, Error> {
        self.turns().await;
        let swap = self.engine.remove(key, seen).await;
        self.turns().await;
        swap
    }

    fn cycle(&self, cycle: &Cycle) -> Option<impl Future<Output = Result<Swap, Error>> + Send> {
        let step = self.engine.cycle(cycle)?;
        Some(async {
            self.turns().await;
            let swap = step.await;
            self.turns().await;
            swap
        })
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

    async fn ping(&self) -> Result<(), Error> {
        self.engine.ping().await
    }
}

/// Makes another sidecar on the engine.
pub(crate) type Sidecar = Arc<dyn Fn(&Config, &Codec, Counts) -> Arc<dyn Store> + Send + Sync>;

/// A sidecar with its settings, its clock and its counters; clones are the same one.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) counts: Counts,
    pub(crate) codec: Codec,
    sidecar: Sidecar,
}

impl Rig {
    /// A sidecar on an engine, with the default settings. Its clock stands where the system's stood, because
    /// engines that end sessions by themselves go by that one.
    pub(crate) fn over(engine: impl Engine) -> Self {
        Self::within(engine, secs(60))
    }

    /// The same, with that `store.commit_timeout`.
    pub(crate) fn within(engine: impl Engine, commit_timeout: Duration) -> Self {
        let engine = Shared::new(engine);
        Self::by_sidecars(Arc::new(move |config, codec, counts| {
            Arc::new(Keyed::new(engine.clone(), rules(config, codec, commit_timeout), counts))
        }))
    }

    /// Sidecars that are made so.
    pub(crate) fn by_sidecars(sidecar: Sidecar) -> Self {
        let config = Config::default();
        let counts = Counts { expiries: counter(), conflicts: counter(), old_seals: counter() };
        let codec = Codec::default();
        Self {
            store: sidecar(&config, &codec, counts.clone()),
            policy: Arc::new(policy(&config)),
            clock: Clock::stopped_at(Clock::system().now()),
            config,
            counts,
            codec,
            sidecar,
        }
    }

    /// The same sidecar, whose clock stands so many milliseconds from the system's.
    pub(crate) fn at_another_time(self, millis: i64) -> Self {
        let then = Timestamp::from_millis(Clock::system().now().as_millis() + millis);
        Self { clock: Clock::stopped_at(then), ..self }
    }

    /// The same sidecar, on another one's clock.
    pub(crate) fn by_the_clock_of(self, other: &Self) -> Self {
        self.by(other.clock.clone())
    }

    /// The same sidecar, on that clock.
    pub(crate) fn by(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Another sidecar on the same engine, with its own lanes and the same clock and counters.
    pub(crate) fn beside(&self) -> Self {
        Self { store: (self.sidecar)(&self.config, &self.codec, self.counts.clone()), ..self.clone() }
    }

    /// Another sidecar on the same engine, with other settings.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.config.clone();
        change(&mut config);
        Self {
            store: (self.sidecar)(&config, &self.codec, self.counts.clone()),
            policy: Arc::new(policy(&config)),
            config,
            ..self.clone()
        }
    }

    /// Another sidecar on the same engine, with these `store.encryption_keys`, each of 32 equal bytes.
    pub(crate) fn sealing(&self, keys: &[u8], unsealed: Unsealed) -> Self {
        let encryption_keys = keys.iter().map(|byte| Secret::new(BASE64.encode(&[*byte; 32]))).collect();
        let codec = Codec::of(&store::Config { encryption_keys, unsealed, ..store::Config::default() });
        Self { codec: codec.unwrap(), ..self.clone() }.beside()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Winds the clock forward.
    pub(crate) fn wait(&self, length: Duration) {
        self.clock.advance(length);
    }

    /// What the store says of a token.
    pub(crate) async fn load(&self, token: &Token) -> Found {
        self.store.load(token, self.now()).await.unwrap()
    }

    /// What the backend reads under a token; `None` is an empty session.
    pub(crate) async fn data(&self, token: &Token) -> Option<Value> {
        let found = self.load(token).await;
        found.reads().map(|live| Value::Object(live.record.data.map().clone()))
    }

    /// Decides as the contract's table does.
    pub(crate) fn decide(&self, asked: Asked) -> Decide {
        let (policy, now) = (Arc::clone(&self.policy), self.now());
        Arc::new(move |found| plan(found, &asked, &policy, now))
    }

    /// Commits a response.
    pub(crate) async fn commit(&self, found: Found, asked: Asked) -> Result<Outcome, Failed> {
        let now = self.now();
        self.store.commit(found, self.decide(asked), now).await
    }

    /// Carries a request: loads, and commits what its response asks.
    pub(crate) async fn request(
        &self,
        token: &Token,
        directives: impl IntoIterator<Item = Directive> + Send,
    ) -> Outcome {
        let asked = ask(directives);
        self.commit(self.load(token).await, asked).await.unwrap()
    }

    /// Begins a session with this data.
    pub(crate) async fn begin(&self, data: Value) -> Token {
        let asked = ask([set(data)]);
        self.commit(Found::No, asked).await.unwrap().minted.unwrap()
    }
}

/// What a store goes by.
pub(crate) fn rules(config: &Config, codec: &Codec, commit_timeout: Duration) -> Rules {
    Rules {
        realm: config.realm.clone(),
        cycle_on: config.cycle_on.clone(),
        grace: config.grace.0,
        ended_memory: config.ended_memory.0,
        commit_timeout,
        keep_expired: config.keep_expired.0,
        codec: codec.clone(),
        cookies: cookie::Terms { names: vec!["sessionid".to_owned()], age: AGE, room: 8192 },
    }
}

fn policy(config: &Config) -> Policy {
    let limits = Limits { max_bytes: 64 * 1024, max_keys: 256, max_depth: 32, budget: None, cookies: None };
    Policy::new(config, AGE, SCOPE, limits)
}

/// Lengths of settings.
pub(crate) const fn length(secs: u64) -> Length {
    Length::secs(secs)
}
