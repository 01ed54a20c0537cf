//! A sidecar in this process, with a clock that can be wound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coatroom::app::{self, App};
use coatroom::config::Config;
use coatroom::telemetry::metrics::Metrics;
use coatroom::time::{Clock, Length, Timestamp};

use super::Redis;
use super::child::until;
use super::client::{self, Browser};

/// A sidecar that stops, and finishes what is in flight, when it is dropped.
pub struct Sidecar {
    app: Option<App>,
    /// Its clock, which stands still unless a test winds it.
    pub clock: Clock,
}

/// When the tests' clocks begin.
pub const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

impl Sidecar {
    /// Starts one before `backend`.
    pub fn before(backend: SocketAddr) -> Self {
        Self::with(backend, |_| {})
    }

    /// Starts one before `backend`, with other settings than the defaults.
    pub fn with(backend: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        Self::at(&format!("http://{backend}"), change)
    }

    /// Starts one before the backend at a URL.
    pub fn at(backend: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::start(backend, NOW, change).expect("the sidecar starts")
    }

    /// Starts one before `backend`, with its sessions on a server that goes by the system's clock, as its own does
    /// then. It has patience with both: a machine that is busy makes no store ill.
    pub fn on(store: &Redis, backend: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        Self::keeping(&store.url(), backend, change)
    }

    /// The same on a store of that URL.
    pub fn keeping(url: &str, backend: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        let with_store = |config: &mut Config| {
            config.store.url = url.into();
            (config.store.timeout, config.store.commit_timeout) = (Length::secs(20), Length::secs(20));
            change(config);
        };
        let sidecar = Self::start(&format!("http://{backend}"), Clock::system().now(), with_store);
        sidecar.expect("the sidecar starts")
    }

    /// Why no sidecar starts with these settings.
    pub fn refusal(change: impl FnOnce(&mut Config)) -> String {
        Self::start("http://127.0.0.1:9", NOW, change).err().expect("it must not start").to_string()
    }

    fn start(backend: &str, now: Timestamp, change: impl FnOnce(&mut Config)) -> Result<Self, app::Error> {
        super::canary::listen();
        let mut config = Config::default();
        config.proxy.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.telemetry.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.proxy.backend = backend.to_owned();
        config.proxy.workers = 2;
        config.headers.explain = true;
        change(&mut config);
        let clock = Clock::stopped_at(now);
        let app = App::start(&config, clock.clone())?;
        Ok(Self { app: Some(app), clock })
    }

    fn app(&self) -> &App {
        self.app.as_ref().expect("it runs until it is dropped")
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.app().address()
    }

    /// Where probes connect.
    pub fn telemetry_address(&self) -> SocketAddr {
        self.app().telemetry()
    }

    /// A client with an empty cookie jar.
    pub fn browser(&self) -> Browser {
        Browser::new(self.address())
    }

    /// The telemetry listener's answer for a path.
    pub fn telemetry(&self, path: &str) -> client::Reply {
        client::send(
            self.app().telemetry(),
            format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"),
        )
    }

    /// Asks the telemetry listener, even while the sidecar is being stopped by another thread.
    pub fn probe(&self) -> impl Fn(&str) -> client::Reply + use<> {
        let address = self.app().telemetry();
        move |path| {
            client::send(address, format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"))
        }
    }

    /// The value of a metric as `/metrics` has it, 0 where it isn't there: `name{label="value"}`.
    pub fn metric(&self, series: &str) -> u64 {
        client::metric(self.app().telemetry(), series)
    }

    /// Waits until a metric has a value.
    pub fn until(&self, series: &str, value: u64) {
        until(|| (self.metric(series) == value).then_some(()));
    }

    /// How often the store was asked to load a session.
    pub fn loads(&self) -> u64 {
        self.metric("coatroom_store_operation_duration_seconds_count{operation=\"load\"}")
    }

    /// How often the store was asked to write.
    pub fn commits(&self) -> u64 {
        self.metric("coatroom_store_operation_duration_seconds_count{operation=\"commit\"}")
    }

    /// What is counted, for those who outlive the sidecar.
    pub fn counters(&self) -> Arc<Metrics> {
        self.app().metrics().clone()
    }

    /// Winds the clock forward.
    pub fn wind(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Stops it as SIGTERM would.
    pub fn stop(mut self) {
        self.app.take().into_iter().for_each(App::stop);
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.app.take().into_iter().for_each(App::stop);
    }
}
