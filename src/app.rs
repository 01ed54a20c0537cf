//! From a configuration to a running program: the only file that knows every other module.

mod clearing;
mod control;
mod copying;
pub mod reload;
mod signals;

use std::fmt;
use std::io;
use std::iter::once;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use arc_swap::ArcSwap;
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};
use tracing::{error, info};

pub use self::clearing::clear_expired;
use self::control::Control;
pub use self::copying::{Manner, Tally, copy};
use self::reload::{Hangups, Origin, Reloader};

use crate::config::Config;
use crate::drain::Drain;
use crate::manager::Manager;
use crate::proxy::backend::{Address, Terms};
use crate::proxy::body::Customs;
use crate::proxy::descriptors;
use crate::proxy::limits::{self, Rooms};
use crate::proxy::listen::{self, Parts};
use crate::proxy::page::Page;
use crate::proxy::patience::Patience;
use crate::proxy::routes::Routes;
use crate::proxy::{self, Rules};
use crate::secret::Secret;
use crate::session::{Cookies, Limits, Policy, Reason};
use crate::store::codec::Codec;
use crate::store::{self, Store, cookie, keyed};
use crate::telemetry::health::Health;
use crate::telemetry::logging::Limited;
use crate::telemetry::metrics::{CacheResult, CookieRefused, Metrics};
use crate::time::Clock;
use crate::wire::chunks;
use crate::wire::forwarded;
use crate::wire::jar::Jar;
use crate::wire::request::Injector;
use crate::wire::response::Reader;

/// Levels of objects and arrays that a session's data may have, the object of entries included.
const MAX_DEPTH: usize = 32;
/// More workers than this gain nothing before the backend does.
const MOST_WORKERS: usize = 4;

/// Why the program can't start.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

fn at(key: &'static str) -> impl Fn(String) -> Error {
    move |what| Error(format!("{key}: {what}"))
}

/// A running sidecar.
pub struct App {
    address: SocketAddr,
    telemetry: SocketAddr,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl App {
    /// Starts the workers and the telemetry listener; both accept connections when this returns.
    ///
    /// # Errors
    /// Names the setting that can't be obeyed, or the address that can't be listened on.
    pub fn start(config: &Config, clock: Clock) -> Result<Self, Error> {
        Self::start_from(config, clock, None)
    }

    /// The same; settings whose origin is known are read again when that changes, or at SIGHUP.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_from(config: &Config, clock: Clock, origin: Option<Origin>) -> Result<Self, Error> {
        let reasons: Vec<&'static str> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        let metrics = Arc::new(Metrics::new(&reasons, &store::Kind::ALL.map(store::Kind::label)));
        let (health, drain) = (Health::new(), Drain::default());
        let serving = health.latch("the listeners");
        let reachable = config.telemetry.ready_needs_store.then(|| health.latch(control::STORE));
        let store = open(config, &metrics)?;
        let rules = Arc::new(ArcSwap::from_pointee(rules(config, &store, &metrics)?));
        let parts = Parts {
            rules: rules.clone(),
            metrics: metrics.clone(),
            backend: Address::parse(&config.proxy.backend).map_err(at("proxy.backend"))?,
            clock: clock.clone(),
            drain: drain.clone(),
            guard: drain.guard(),
            rooms: Rooms::default(),
            limited: Arc::default(),
        };

        let telemetry = std::net::TcpListener::bind(config.telemetry.listen).map_err(|error| {
            Error(format!("telemetry.listen: can't listen on {}: {error}", config.telemetry.listen))
        })?;
        telemetry.set_nonblocking(true)?;
        let telemetry_address = telemetry.local_addr()?;
        let listeners = listen::bind(config.proxy.listen, workers(config.proxy.workers))
            .map_err(|error| Error(format!("proxy.listen: {error}")))?;
        let address = listeners[0].local_addr()?;
        descriptors::advise(&rules.load().limits);

        let mut threads = Vec::new();
        for (n, listener) in listeners.into_iter().enumerate() {
            let parts = parts.clone();
            threads.push(spawn(format!("worker-{n}"), move || serve(listener, parts))?);
        }
        drop(serving);
        let (stop, stopped) = oneshot::channel();
        let current = Arc::new(ArcSwap::from_pointee(config.clone()));
        let told = Arc::new(Notify::new());
        let (hangups, reloader) = match origin {
            None => (Hangups::unheard()?, None),
            Some(Origin { sources, print, log, hangups }) => {
                let reloader = Reloader {
                    sources,
                    good: print.clone(),
                    seen: print,
                    log,
                    started: config.clone(),
                    current: current.clone(),
                    rules,
                    store: store.clone(),
                    metrics: metrics.clone(),
                    clock: clock.clone(),
                    told: told.clone(),
                };
                (hangups, Some(reloader))
            }
        };
        let control = Control {
            health,
            drain,
            metrics: metrics.clone(),
            store,
            clock,
            config: current,
            reloader,
            told,
        };
        let run = move || control.run(telemetry, hangups, reachable, stopped);
        threads.push(spawn("control".to_owned(), run)?);
        Ok(Self { address, telemetry: telemetry_address, metrics, stop, threads })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where probes and Prometheus connect.
    pub const fn telemetry(&self) -> SocketAddr {
        self.telemetry
    }

    /// What is counted.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Finishes what is in flight, as after SIGTERM, and returns when it is over.
    pub fn stop(self) {
        drop(self.stop);
        wait(self.threads);
    }

    /// Serves until SIGTERM or SIGINT and finishes what is in flight.
    pub fn wait(self) {
        let Self { threads, stop, .. } = self;
        wait(threads);
        drop(stop);
    }
}

/// Serves with the system's clock until SIGTERM or SIGINT.
///
/// # Errors
/// As [`App::start`].
pub fn run(config: &Config, origin: Origin) -> Result<(), Error> {
    let app = App::start_from(config, Clock::system(), Some(origin))?;
    let metrics = app.metrics.clone();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        metrics.panics.inc();
        hook(info);
    }));
    let (address, telemetry) = (app.address, app.telemetry);
    let (store, backend) = (&config.store.url, &config.proxy.backend);
    let scheme = store.scheme();
    info!(%address, %telemetry, backend, store = scheme, version = env!("CARGO_PKG_VERSION"), "coatroom serves");
    app.wait();
    info!("coatroom has stopped");
    Ok(())
}

/// What a store has to know of the settings.
fn keyed_rules(config: &Config) -> Result<keyed::Rules, Error> {
    let session = &config.session;
    let codec = Codec::of(&config.store).map_err(at("store.encryption_keys"))?;
    if config.store.has_keys() {
        info!(keys = ?codec.keys(), unsealed = ?config.store.unsealed, "there are keys to seal records with");
    }
    Ok(keyed::Rules {
        realm: session.realm.clone(),
        cycle_on: session.cycle_on.clone(),
        grace: session.grace.0,
        ended_memory: session.ended_memory.0,
        commit_timeout: config.store.commit_timeout.0,
        keep_expired: session.keep_expired.0,
        cookies: cookies(config, &codec)?,
        codec,
    })
}

/// What a store that keeps sessions in cookies has to know of them.
fn cookies(config: &Config, codec: &Codec) -> Result<cookie::Terms, Error> {
    if !config.store.in_cookies() {
        return Ok(cookie::Terms::default());
    }
    // Settings that were read again may be good for the store that they name, and this is still the one of before.
    if codec.keys().is_empty() {
        return Err(at("store.encryption_keys")("is empty, and cookie: seals sessions with it".to_owned()));
    }
    let names = once(&config.cookie.name).chain(config.cookie.previous.iter().map(|old| &old.name));
    let room = jar(config)?.room(chunks::MOST) / 4 * 3;
    Ok(cookie::Terms { names: names.cloned().collect(), age: config.cookie.age.0, room })
}

/// Takes tokens out of cookies and puts them in, whatever tokens the store of the settings makes.
fn jar(config: &Config) -> Result<Jar, Error> {
    let jar = Jar::new(&config.cookie).map_err(at("cookie.keys"))?;
    Ok(if config.store.in_cookies() { jar.of_sealed() } else { jar })
}

/// Opens the store of the settings.
///
/// # Errors
/// As [`App::start`].
pub fn open(config: &Config, metrics: &Metrics) -> Result<Arc<dyn Store>, Error> {
    let counts = counts(metrics);
    store::open(&config.store, keyed_rules(config)?, &counts).map_err(|error| Error(error.to_string()))
}

/// What a store counts.
fn counts(metrics: &Metrics) -> store::Counts {
    store::Counts {
        expiries: metrics.expiries.clone(),
        evictions: metrics.evictions.clone(),
        moved: metrics.moved.clone(),
        conflicts: metrics.conflicts.clone(),
        old_seals: metrics.old_seals.clone(),
        connections: metrics.store_connections.clone(),
        cache: store::cached::Counts {
            hits: metrics.cache(CacheResult::Hit),
            misses: metrics.cache(CacheResult::Miss),
            errors: metrics.cache(CacheResult::Error),
            waits: metrics.cache(CacheResult::Wait),
            unsettled: metrics.cache(CacheResult::Unsettled),
        },
        cookies: cookie::Counts {
            expired: metrics.cookie_refused(CookieRefused::Expired),
            forged: metrics.cookie_refused(CookieRefused::Forged),
            unknown_key: metrics.cookie_refused(CookieRefused::UnknownKey),
            unreadable: metrics.cookie_refused(CookieRefused::Unreadable),
            old_seals: metrics.old_seals.clone(),
        },
    }
}

/// Builds what requests go by out of the settings of every module.
///
/// # Errors
/// As [`App::start`].
pub fn rules(config: &Config, store: &Arc<dyn Store>, metrics: &Arc<Metrics>) -> Result<Rules, Error> {
    let Config { session, headers, cookie, .. } = config;
    let (jar, in_cookies) = (jar(config)?, config.store.in_cookies());
    let secret = Secret::of(&headers.secret, &headers.secret_file).map_err(at("headers.secret_file"))?;
    let mut limits = Limits {
        max_bytes: session.max_bytes,
        max_keys: session.max_keys,
        max_depth: MAX_DEPTH,
        budget: None,
        cookies: in_cookies.then(|| {
            let most = config.store.cookie_chunks;
            Cookies { most, bytes: cookie::fits(jar.room(most)) }
        }),
    };
    let lifetimes = Policy::new(session, cookie.age.0, jar.scope(), limits.clone()).lifetimes;
    let secret = secret.expose().as_bytes();
    let injector = Injector::new(headers, &session.cycle_on, lifetimes, secret).map_err(at("headers"))?;
    limits.budget = injector.budget();
    let policy = Arc::new(Policy::new(session, cookie.age.0, jar.scope(), limits));
    let manager = Manager::new(store.clone(), policy, jar.previous(), &config.store, metrics.clone());
    let proxy::Config { trusted, forwarded: told, via, .. } = &config.proxy;
    let patience = Patience {
        header: config.proxy.header_timeout.0,
        idle: config.proxy.idle_timeout.0,
        body: config.proxy.body_timeout.0,
        rate: config.proxy.min_body_rate,
    };
    let terms = Terms {
        connect_timeout: config.proxy.connect_timeout.0,
        head_timeout: config.proxy.head_timeout.0,
        idle_timeout: config.proxy.backend_idle_timeout.0,
        max_age: config.proxy.backend_max_age.0,
        customs: Customs { guard: Arc::new(injector.guard().clone()), metrics: metrics.clone() },
    };
    Ok(Rules {
        manager: Arc::new(manager),
        routes: Routes::new(&config.routes),
        reader: Reader::new(headers, session.subject).comparing(!in_cookies),
        origin: forwarded::Origin::new(trusted, *told, via).map_err(at("proxy.via"))?,
        jar,
        injector,
        terms,
        tunnel_idle_timeout: config.proxy.tunnel_idle_timeout.0,
        patience,
        limits: limits::Limits::of(&config.proxy),
        prefix: headers.prefix.clone(),
        on_refused: headers.on_refused,
        explain: headers.explain,
        vary: headers.vary,
        page: Page::read(&config.errors).map_err(at("errors.page"))?,
        access: config.log.access,
        limited: Limited::new(),
    })
}

/// How many workers there are where the setting says 0.
fn workers(setting: usize) -> usize {
    let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_WORKERS);
    if setting == 0 { cores() } else { setting }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(work)
}

fn wait(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            error!("a thread has panicked");
        }
    }
}

/// One worker's thread.
fn serve(listener: std::net::TcpListener, parts: Parts) {
    let served = Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(listen::work(listener, parts)));
    if let Err(error) = served {
        error!("a worker can't serve: {error}");
    }
}
