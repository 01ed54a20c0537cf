//! What is counted and measured, as Prometheus reads it.
//!
//! Every child of every label is resolved when the [`Metrics`] are made, so that counting is an atomic addition and
//! every series shows zero before its first event. No label has a value that a client could make up.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Encoder, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use super::book::Book;
pub use super::label::{
    BackendError, CacheResult, CookieRefused, CycleReason, Limit, Load, Operation, Reloaded, Save, Side,
    Tunnel,
};
use super::requests::Requests;

/// What a refusal's reason is called that [`Metrics::new`] was not told of.
const OTHER: &str = "other";

/// Seconds, 10 µs (memory) to 2.5 s (past `store.commit_timeout`).
const STORE_SECONDS: &[f64] =
    &[1e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Seconds, 0.5 ms to 60 s (`proxy.head_timeout`).
const REQUEST_SECONDS: &[f64] =
    &[5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds, 5 µs to 100 ms.
const OWN_SECONDS: &[f64] =
    &[5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1];

/// Counts what happens, in a registry of its own; two of them in one process don't meet.
pub struct Metrics {
    registry: Registry,
    loads: [IntCounter; Load::ALL.len()],
    saves: [IntCounter; Save::ALL.len()],
    cycles: [IntCounter; CycleReason::ALL.len()],
    refusals: Vec<(&'static str, IntCounter)>,
    stripped: [IntCounter; Side::ALL.len()],
    operations: [Histogram; Operation::ALL.len()],
    store_errors: [Vec<(&'static str, IntCounter)>; Operation::ALL.len()],
    reloads: [IntCounter; Reloaded::ALL.len()],
    reload_successful: IntGauge,
    reload_at: IntGauge,
    requests: Requests,
    request_duration: Histogram,
    own_duration: Histogram,
    in_flight: IntGauge,
    connections: IntGauge,
    connections_accepted: IntCounter,
    open_tunnels: IntGauge,
    tunnels: [IntCounter; Tunnel::ALL.len()],
    backend_errors: [IntCounter; BackendError::ALL.len()],
    limits: [IntCounter; Limit::ALL.len()],
    open_backend_connections: IntGauge,
    private_clients: IntGauge,
    /// Sessions created, those of a flush with data included.
    pub creates: IntCounter,
    /// Sessions ended by flush, or by an expiry in the past.
    pub flushes: IntCounter,
    /// Expired sessions removed from the store.
    pub expiries: IntCounter,
    /// Live sessions given up because the store was full.
    pub evictions: IntCounter,
    /// Sessions moved from one store to another.
    pub moved: IntCounter,
    /// Writes that found the record changed, and were decided and tried anew.
    pub conflicts: IntCounter,
    /// `Set-Cookie` lines of the backend that a browser would send back as ours, and that were dropped.
    pub cookies_dropped: IntCounter,
    /// Did the store answer when it was last asked whether it is there? 1 or 0.
    pub store_up: IntGauge,
    /// Records read that would be sealed otherwise today: by another key, or not at all.
    pub old_seals: IntCounter,
    /// Connections opened to the store's server.
    pub store_connections: IntCounter,
    cache: [IntCounter; CacheResult::ALL.len()],
    cookies_refused: [IntCounter; CookieRefused::ALL.len()],
    backend_connections: IntCounter,
    /// Informational responses of the backend (RFC 9110 §15.2) that were not passed on.
    pub interim_dropped: IntCounter,
    /// Panics caught; each was a lost request.
    pub panics: IntCounter,
}

impl Metrics {
    /// Registers everything; `refusal_reasons` are the labels that [`Metrics::refused`] will be given, `store_kinds`
    /// those of [`Metrics::store_error`].
    #[rustfmt::skip] // a table: one metric a line
    pub fn new(refusal_reasons: &[&'static str], store_kinds: &[&'static str]) -> Self {
        let book = Book::new();
        let mut reasons = refusal_reasons.to_vec();
        reasons.retain(|reason| *reason != OTHER);
        reasons.push(OTHER);
        let refusals = book.counter_family("coatroom_directives_refused_total", "Directives refused, by what was wrong with them.", &["reason"]);
        let refusals = reasons.iter().map(|reason| (*reason, refusals.with_label_values(&[reason]))).collect();
        let store_errors = book.counter_family("coatroom_store_errors_total", "Operations that the store could not do, by what was wrong.", &["operation", "kind"]);
        let kinds = |operation: Operation| store_kinds.iter().map(|kind| (*kind, store_errors.with_label_values(&[operation.label(), kind]))).collect();
        Self {
            loads: book.counters("coatroom_session_loads_total", "Requests by what was found for their session.", "result", Load::ALL.map(Load::label)),
            saves: book.counters("coatroom_session_saves_total", "Writes to existing sessions by what came of them.", "result", Save::ALL.map(Save::label)),
            cycles: book.counters("coatroom_session_cycles_total", "Sessions that got a new key, by who wanted it.", "reason", CycleReason::ALL.map(CycleReason::label)),
            creates: book.counter("coatroom_session_creates_total", "Sessions created."),
            flushes: book.counter("coatroom_session_flushes_total", "Sessions ended by flush or by an expiry in the past."),
            expiries: book.counter("coatroom_session_expiries_total", "Expired sessions removed from the store."),
            evictions: book.counter("coatroom_session_evictions_total", "Live sessions given up because the store was full."),
            moved: book.counter("coatroom_sessions_moved_total", "Sessions moved from store.previous to store.url."),
            conflicts: book.counter("coatroom_session_conflicts_total", "Writes that found the session changed and were tried again."),
            refusals,
            stripped: book.counters("coatroom_headers_stripped_total", "Headers removed because only the sidecar may send them, by whose they were.", "side", Side::ALL.map(Side::label)),
            cookies_dropped: book.counter("coatroom_cookies_dropped_total", "Set-Cookie lines of the backend dropped because they would be read as the session cookie."),
            operations: book.histograms("coatroom_store_operation_duration_seconds", "Time that the store took, failures included.", "operation", Operation::ALL.map(Operation::label), STORE_SECONDS),
            store_errors: Operation::ALL.map(kinds),
            store_up: book.gauge("coatroom_store_up", "Whether the store answered when it was last asked if it is there: 1 or 0."),
            old_seals: book.counter("coatroom_store_old_seals_total", "Records read that would be sealed otherwise today: by another key, or not at all."),
            store_connections: book.counter("coatroom_store_connections_total", "Connections opened to the store's server."),
            cache: book.counters("coatroom_store_cache_total", "What became of what the cache before the store was asked, and of saves behind it.", "result", CacheResult::ALL.map(CacheResult::label)),
            cookies_refused: book.counters("coatroom_store_cookies_refused_total", "Cookies that hold a session themselves and were not taken, by why.", "reason", CookieRefused::ALL.map(CookieRefused::label)),
            reloads: book.counters("coatroom_config_reloads_total", "Times that settings were read again, by what came of it.", "result", Reloaded::ALL.map(Reloaded::label)),
            reload_successful: { let gauge = book.gauge("coatroom_config_last_reload_successful", "Whether the settings that were read last are in force: 1 or 0."); gauge.set(1); gauge },
            reload_at: book.gauge("coatroom_config_last_reload_timestamp_seconds", "When settings were read again last, in seconds since 1970; 0 = never."),
            requests: Requests::new(book.counter_family("coatroom_http_requests_total", "Requests answered, by method and status.", &["method", "code"])),
            request_duration: book.histogram("coatroom_http_request_duration_seconds", "Time from a request's head to the head of its response.", REQUEST_SECONDS),
            own_duration: book.histogram("coatroom_http_own_duration_seconds", "The sidecar's own share of it: without the wait for the backend.", OWN_SECONDS),
            in_flight: book.gauge("coatroom_http_requests_in_flight", "Requests under way, to the end of their responses."),
            connections: book.gauge("coatroom_http_connections", "Connections of clients that are open."),
            connections_accepted: book.counter("coatroom_http_connections_total", "Connections of clients accepted."),
            open_tunnels: book.gauge("coatroom_tunnels", "Upgraded connections, such as WebSockets, that are open."),
            tunnels: book.counters("coatroom_tunnels_total", "Tunnels that are no more, and those that never came to be, by why.", "end", Tunnel::ALL.map(Tunnel::label)),
            backend_errors: book.counters("coatroom_backend_errors_total", "Exchanges that failed at the backend, by how.", "kind", BackendError::ALL.map(BackendError::label)),
            interim_dropped: book.counter("coatroom_interim_responses_dropped_total", "Informational responses (1xx) of the backend that were not passed on."),
            limits: book.counters("coatroom_limits_reached_total", "Times that somebody met a limit, by the setting's name.", "limit", Limit::ALL.map(Limit::label)),
            open_backend_connections: book.gauge("coatroom_backend_connections", "Connections to the backend that are open."),
            private_clients: book.gauge("coatroom_private_clients", "Clients that have a connection to the backend for themselves, to authenticate it (NTLM, Negotiate)."),
            backend_connections: book.counter("coatroom_backend_connections_total", "Connections opened to the backend."),
            panics: book.counter("coatroom_panics_total", "Panics caught; each is a bug and a lost request."),
            registry: book.close(),
        }
    }

    /// Counts one request's search for its session.
    pub fn load(&self, found: Load) {
        self.loads[found as usize].inc();
    }

    /// Counts one write to an existing session.
    pub fn save(&self, outcome: Save) {
        self.saves[outcome as usize].inc();
    }

    /// Counts one new key of a session.
    pub fn cycle(&self, reason: CycleReason) {
        self.cycles[reason as usize].inc();
    }

    /// Counts one refused directive; a reason that [`Metrics::new`] was not told of counts as `other`.
    pub fn refused(&self, reason: &'static str) {
        let known = self.refusals.iter().find(|(label, _)| *label == reason).or(self.refusals.last());
        if let Some((_, counter)) = known {
            counter.inc();
        }
    }

    /// Counts headers removed from one message; none of them costs nothing.
    pub fn stripped(&self, side: Side, headers: u64) {
        if headers > 0 {
            self.stripped[side as usize].inc_by(headers);
        }
    }

    /// Records what the store took, whether or not it could.
    pub fn operation(&self, operation: Operation, took: Duration) {
        self.operations[operation as usize].observe(took.as_secs_f64());
    }

    /// Counts one operation that the store could not do; a kind that [`Metrics::new`] was not told of is not counted.
    pub fn store_error(&self, operation: Operation, kind: &'static str) {
        let known = self.store_errors[operation as usize].iter().find(|(label, _)| *label == kind);
        if let Some((_, counter)) = known {
            counter.inc();
        }
    }

    /// The counter of what becomes of what a cache is asked.
    pub fn cache(&self, result: CacheResult) -> IntCounter {
        self.cache[result as usize].clone()
    }

    /// The counter of cookies that hold a session and are not taken for this reason.
    pub fn cookie_refused(&self, reason: CookieRefused) -> IntCounter {
        self.cookies_refused[reason as usize].clone()
    }

    /// Counts settings that were read again at an instant, in seconds since the epoch.
    pub fn reloaded(&self, outcome: Reloaded, at: i64) {
        self.reloads[outcome as usize].inc();
        self.reload_successful.set((outcome == Reloaded::Applied).into());
        self.reload_at.set(at);
    }

    /// Counts one answered request: `took` until the head of its response was ready, `waited` of it for the backend
    /// (zero where the backend wasn't asked).
    pub fn answered(&self, method: &Method, code: StatusCode, took: Duration, waited: Duration) {
        self.requests.count(method, code);
        self.request_duration.observe(took.as_secs_f64());
        self.own_duration.observe(took.saturating_sub(waited).as_secs_f64());
    }

    /// Counts one failure of the backend.
    pub fn backend_error(&self, kind: BackendError) {
        self.backend_errors[kind as usize].inc();
    }

    /// Counts one meeting with a limit.
    pub fn limit(&self, limit: Limit) {
        self.limits[limit as usize].inc();
    }

    /// Counts a connection to the backend as opened, and as open until the guard is dropped.
    pub fn backend_connection(&self) -> Raised {
        self.backend_connections.inc();
        Raised::new(&self.open_backend_connections)
    }

    /// Counts a client with a connection to the backend for itself until the guard is dropped.
    pub fn private_client(&self) -> Raised {
        Raised::new(&self.private_clients)
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn in_flight(&self) -> Raised {
        Raised::new(&self.in_flight)
    }

    /// Counts a client's connection as accepted, and as open until the guard is dropped.
    pub fn connection(&self) -> Raised {
        self.connections_accepted.inc();
        Raised::new(&self.connections)
    }

    /// Counts a tunnel as open until the guard is dropped.
    pub fn tunnel(&self) -> Raised {
        Raised::new(&self.open_tunnels)
    }

    /// Counts one tunnel that is no more.
    pub fn tunnel_was(&self, end: Tunnel) {
        self.tunnels[end as usize].inc();
    }

    /// Writes everything in Prometheus' text exposition format, version 0.0.4.
    ///
    /// # Errors
    /// When a metric can't be written; only a mistake of the program makes one.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(32 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Keeps a gauge one higher while it is held, however its holder ends.
#[must_use = "dropping it lowers the gauge again"]
pub struct Raised(IntGauge);

impl Raised {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }

    /// How high the gauge is. Of those who have raised it and then looked never more than `n` saw `n` or less.
    pub fn height(&self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(0)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}
