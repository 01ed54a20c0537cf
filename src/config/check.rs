//! The rules that a value of the right type can still break, alone or together with others.

mod cache;
mod cookie;
mod headers;
mod keys;
mod moving;
mod proxy;
mod routes;
mod sealed;

use super::Config;
use super::problem::{Problem, suggest};
use crate::proxy::page::Page;
use crate::secret::{HIDDEN, Secret};
use crate::session::policy::Interval;
use crate::store::{self, Part, SCHEMES, Unsealed, file, memcached, redis, sql};
use crate::telemetry::logging;
use crate::time::Length;
use crate::wire::chunks;

/// What was found so far.
#[derive(Default)]
struct Report(Vec<Problem>);

impl Report {
    fn add(&mut self, key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem::new(key, what, remedy));
    }

    fn positive(&mut self, key: &str, number: usize) {
        if number == 0 {
            self.add(key, "is 0", "set it to 1 or more");
        }
    }

    fn some_time(&mut self, key: &str, length: Length) {
        if length.0.is_zero() {
            self.add(key, "is 0: nothing could be done in no time", "set it to more than 0");
        }
    }

    /// The names in a list; an empty one is most likely a comma too many.
    fn named(&mut self, key: &str, names: &[String]) {
        for (n, _) in names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
            self.add(format!("{key}[{n}]"), "is empty", "name an entry of the session, or remove it");
        }
    }

    /// A secret that `print-config` wrote is none.
    fn not_hidden(&mut self, key: &str, secret: &Secret) -> bool {
        let hidden = secret.expose() == HIDDEN;
        if hidden {
            self.add(
                key,
                format!("is {HIDDEN}, which print-config writes for a secret"),
                "put the secret there",
            );
        }
        !hidden
    }
}

/// Checks everything.
pub(super) fn all(config: &Config) -> Vec<Problem> {
    let mut report = Report::default();
    proxy::check(config, &mut report);
    cookie::check(&config.cookie, &mut report);
    session(config, &mut report);
    headers::check(&config.headers, &mut report);
    if let Err(text) = Page::read(&config.errors) {
        report.0.push(Problem::of("errors.page", &text, "name another file"));
    }
    store(config, &mut report);
    routes::check(&config.routes, &mut report);
    lengths(config, &mut report);
    if let Err(text) = logging::check_level(&config.log.level) {
        report.0.push(Problem::of("log.level", &text, "write error, warn, info, debug, trace or off"));
    }
    report.0
}

/// More than this is a typing error, and no clock can add it up.
const LONGEST: Length = Length::secs(100 * 365 * 24 * 3600);

fn lengths(config: &Config, report: &mut Report) {
    let Config { proxy, session, store, .. } = config;
    let every = |interval| match interval {
        Interval::Every(length) => length,
        Interval::Auto => Length::secs(0),
    };
    for (key, length) in [
        ("proxy.connect_timeout", proxy.connect_timeout),
        ("proxy.head_timeout", proxy.head_timeout),
        ("proxy.header_timeout", proxy.header_timeout),
        ("proxy.idle_timeout", proxy.idle_timeout),
        ("proxy.body_timeout", proxy.body_timeout),
        ("proxy.backend_idle_timeout", proxy.backend_idle_timeout),
        ("proxy.backend_max_age", proxy.backend_max_age),
        ("proxy.tunnel_idle_timeout", proxy.tunnel_idle_timeout),
        ("proxy.drain_delay", proxy.drain_delay),
        ("proxy.drain_timeout", proxy.drain_timeout),
        ("session.touch_interval", every(session.touch_interval)),
        ("session.absolute_timeout", session.absolute_timeout),
        ("session.grace", session.grace),
        ("session.ended_memory", session.ended_memory),
        ("store.timeout", store.timeout),
        ("store.commit_timeout", store.commit_timeout),
        ("store.clear_interval", every(store.clear_interval)),
        ("store.clear_pause", store.clear_pause),
        ("session.keep_expired", session.keep_expired),
        ("store.cache_lease", store.cache_lease),
        ("store.expired_memory", store.expired_memory),
        ("store.statement_timeout", every(store.statement_timeout)),
        ("reload.interval", config.reload.interval),
    ] {
        if length > LONGEST {
            report.add(key, format!("{length} is longer than 100 years"), "make it shorter");
        }
    }
}

fn session(config: &Config, report: &mut Report) {
    let session = &config.session;
    report.positive("session.max_bytes", session.max_bytes);
    report.positive("session.max_keys", session.max_keys);
    report.named("session.cycle_on", &session.cycle_on);
    if session.realm.contains('\0') {
        report.add("session.realm", "has a zero byte, which ends a realm", "remove it");
    }
    if session.grace > session.ended_memory {
        let remedy = "make it at most session.ended_memory: what is forgotten can't be read";
        report.add(
            "session.grace",
            format!("{} is more than session.ended_memory, {}", session.grace, session.ended_memory),
            remedy,
        );
    }
}

fn store(config: &Config, report: &mut Report) {
    let store = &config.store;
    if store.in_cookies() {
        sealed::check(config, report);
    } else {
        engine(store, report, Part::Url);
    }
    if let (false, Some(_)) = (store.in_cookies(), store.revocations()) {
        report.add("store.revocations", "is set, and store.url is not cookie:", "remove it");
    }
    if !(1..=chunks::MOST).contains(&store.cookie_chunks) {
        let what = format!("{} cookies are none that a session could take", store.cookie_chunks);
        report.add("store.cookie_chunks", what, format!("set it to 1 to {}", chunks::MOST));
    }
    cache::check(store, report);
    moving::check(store, report);
    let waits = |(part, of): &(Part, store::Config)| {
        *part != Part::Cache && redis::SCHEMES.contains(&of.url.scheme())
    };
    if store.wait_replicas > 0 && !store.parts().iter().any(waits) {
        report.add("store.wait_replicas", "is set, and nothing that keeps sessions is a Redis", "remove it");
    }
    keys::check("store.encryption_keys", &store.encryption_keys, &store.encryption_keys_file, report);
    if store.unsealed == Unsealed::Refuse && !store.has_keys() {
        let remedy = "set store.encryption_keys, or store.unsealed to \"read\"";
        report.add("store.unsealed", "is \"refuse\", and there is no key to seal with", remedy);
    }
    report.some_time("store.timeout", store.timeout);
    report.some_time("store.commit_timeout", store.commit_timeout);
    if let Interval::Every(length) = store.clear_interval {
        report.some_time("store.clear_interval", length);
    }
    report.positive("store.clear_batch", store.clear_batch);
    report.positive("store.max_sessions", store.max_sessions);
    report.positive("store.max_bytes", store.max_bytes);
    report.positive("store.max_connections", store.max_connections);
    if store.max_connections > sql::MOST_CONNECTIONS {
        let what = format!("{} connections are more than any server takes", store.max_connections);
        report.add("store.max_connections", what, format!("set it to {} or less", sql::MOST_CONNECTIONS));
    }
    if let Interval::Every(length) = store.statement_timeout {
        report.some_time("store.statement_timeout", length);
    }
}

/// The engine that `store.url` names, of settings that are those of a part.
fn engine(store: &store::Config, report: &mut Report, part: Part) {
    let url = part.key("store.url");
    let see = "see its comment in config/coatroom.toml";
    // Only the scheme is quoted: behind it there may be a password.
    match store.url.expose().split_once(':') {
        Some(("memory", "")) => {}
        Some(("memory", _)) => report.add(url, "memory: has something behind it", "write memory:"),
        Some((file::SCHEME, _)) => {
            if let Err(what) = file::File::check(store) {
                report.add(url, what, see);
            }
        }
        Some((scheme, _)) if redis::SCHEMES.contains(&scheme) => {
            server(store, redis::Redis::check(store), report, part);
        }
        Some((scheme, _)) if sql::SCHEMES.contains(&scheme) => {
            server(store, sql::check(store), report, part);
        }
        Some((memcached::SCHEME, _)) => {
            if let Err((key, text)) = memcached::Memcached::check(store) {
                report.0.push(Problem::of(part.key(key), &text, see));
            }
        }
        Some((scheme, _)) => {
            let scheme = format!("{scheme}:");
            report.add(url, format!("there is no store {scheme:?}"), suggest(&scheme, SCHEMES));
        }
        None => {
            let scheme = format!("{}:", store.url.expose());
            report.add(url, "has no scheme", suggest(&scheme, SCHEMES));
        }
    }
}

/// What a store that may want a password asks of the settings: `checked` are those that are its own.
fn server(
    store: &store::Config,
    checked: Result<(), (&'static str, String)>,
    report: &mut Report,
    part: Part,
) {
    if let Err((key, text)) = checked {
        return report.0.push(Problem::of(part.key(key), &text, "see its comment in config/coatroom.toml"));
    }
    if store.url.to_string() == store.url.expose() && store.url.expose().contains(HIDDEN) {
        report.add(
            part.key("store.url"),
            format!("holds {HIDDEN}, which print-config writes"),
            "put the password there",
        );
    }
    let both = [
        ("store.password", &store.password, "store.password_file", &store.password_file),
        (
            "store.sentinel_password",
            &store.sentinel_password,
            "store.sentinel_password_file",
            &store.sentinel_password_file,
        ),
    ];
    for (here, password, elsewhere, file) in both {
        report.not_hidden(part.key(here), password);
        if !file.is_empty()
            && let Err(what) = Secret::of(password, file)
        {
            let remedy = format!("name a file that can be read, and set no {}", part.key(here));
            report.add(part.key(elsewhere), what, remedy);
        }
    }
}

/// Is it a token (RFC 9110 §5.6.2)? Names of headers, cookies and methods are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
