//! The rules that a value of the right type can still break, alone or together with others.

mod cookie;
mod headers;
mod keys;
mod proxy;
mod routes;

use super::Config;
use super::problem::{Problem, suggest};
use crate::proxy::page::Page;
use crate::secret::{HIDDEN, Secret};
use crate::session::policy::Interval;
use crate::store::{self, SCHEMES, Unsealed, redis};
use crate::telemetry::logging;
use crate::time::Length;

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
    let touch_interval = match session.touch_interval {
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
        ("proxy.tunnel_idle_timeout", proxy.tunnel_idle_timeout),
        ("proxy.drain_delay", proxy.drain_delay),
        ("proxy.drain_timeout", proxy.drain_timeout),
        ("session.touch_interval", touch_interval),
        ("session.absolute_timeout", session.absolute_timeout),
        ("session.grace", session.grace),
        ("session.ended_memory", session.ended_memory),
        ("store.timeout", store.timeout),
        ("store.commit_timeout", store.commit_timeout),
        ("store.sweep_interval", store.sweep_interval),
        ("store.expired_memory", store.expired_memory),
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
    // Only the scheme is quoted: behind it there may be a password.
    match store.url.expose().split_once(':') {
        Some(("memory", "")) => {}
        Some(("memory", _)) => report.add("store.url", "memory: has something behind it", "write memory:"),
        Some((scheme, _)) if redis::SCHEMES.contains(&scheme) => redis(store, report),
        Some((scheme, _)) => {
            let scheme = format!("{scheme}:");
            report.add("store.url", format!("there is no store {scheme:?}"), suggest(&scheme, SCHEMES));
        }
        None => {
            let scheme = format!("{}:", store.url.expose());
            report.add("store.url", "has no scheme", suggest(&scheme, SCHEMES));
        }
    }
    keys::check("store.encryption_keys", &store.encryption_keys, &store.encryption_keys_file, report);
    if store.unsealed == Unsealed::Refuse && !store.has_keys() {
        let remedy = "set store.encryption_keys, or store.unsealed to \"read\"";
        report.add("store.unsealed", "is \"refuse\", and there is no key to seal with", remedy);
    }
    report.some_time("store.timeout", store.timeout);
    report.some_time("store.commit_timeout", store.commit_timeout);
    report.some_time("store.sweep_interval", store.sweep_interval);
    report.positive("store.max_sessions", store.max_sessions);
    report.positive("store.max_bytes", store.max_bytes);
}

fn redis(store: &store::Config, report: &mut Report) {
    if let Err((key, text)) = redis::Redis::check(store) {
        return report.0.push(Problem::of(key, &text, "see its comment in config/coatroom.toml"));
    }
    if store.url.to_string() == store.url.expose() && store.url.expose().contains(HIDDEN) {
        report.add(
            "store.url",
            format!("holds {HIDDEN}, which print-config writes"),
            "put the password there",
        );
    }
    report.not_hidden("store.password", &store.password);
    if !store.password_file.is_empty()
        && let Err(what) = Secret::of(&store.password, &store.password_file)
    {
        report.add("store.password_file", what, "name a file that can be read, and set no store.password");
    }
}

/// Is it a token (RFC 9110 §5.6.2)? Names of headers, cookies and methods are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
