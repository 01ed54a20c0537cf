//! What is allowed, but seldom meant.

use super::Config;
use crate::proxy::backend::Address;
use crate::store::sql::{self, Exposure};
use crate::store::{self, Part, Unsealed, memcached, redis};
use crate::wire::cookie::Secure;

/// One sentence each.
pub(super) fn all(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.store.url.scheme() == "memory" {
        let text =
            "store.url is memory: - sessions die with the process and are not shared with other instances";
        warnings.push(text.to_owned());
    }
    if config.store.in_cookies() {
        in_cookies(&config.store, &mut warnings);
    }
    if config.store.cache.scheme() == "memory" {
        let text = "store.cache is memory: - for one instance alone: others that share store.url would read what is up to \
                    store.cache_lease old";
        warnings.push(text.to_owned());
    }
    let signed = !config.headers.secret.is_empty() || !config.headers.secret_file.is_empty();
    let local = Address::parse(&config.proxy.backend).is_ok_and(|address| address.is_local());
    if !local && !signed {
        warnings.push(
            "proxy.backend is neither a loopback address nor a Unix socket, and headers.secret_file is not set: \
             whoever can reach the backend can make up a session"
                .to_owned(),
        );
    }
    if config.cookie.secure == Secure::Never && !config.proxy.listen.ip().is_loopback() {
        warnings.push(
            "cookie.secure is false, and proxy.listen is not a loopback address: \
             a browser would send the session over plain HTTP too"
                .to_owned(),
        );
    }
    let seals = config.store.has_keys() && config.store.unsealed != Unsealed::Write;
    for (part, of_part) in config.store.parts() {
        exposed(part, &of_part, seals, &mut warnings);
    }
    if config.store.has_keys() && config.store.unsealed == Unsealed::Write {
        warnings.push(
            "store.unsealed is \"write\": records are not sealed, store.encryption_keys only open them"
                .to_owned(),
        );
    }
    warnings
}

/// What others on the network can read, or who can pose as the server of a part.
fn exposed(part: Part, asked: &store::Config, seals: bool, warnings: &mut Vec<String>) {
    let key = part.key("store.url");
    let what = if seals { "the password travels" } else { "sessions and the password travel" };
    if asked.url.scheme().starts_with("redis") && redis::Redis::is_private(asked) == Ok(false) {
        warnings.push(format!("{key} is redis:// to another machine: {what} in the clear; write rediss://"));
    }
    if sql::SCHEMES.contains(&asked.url.scheme()) {
        match sql::exposure(asked) {
            Ok(Some(Exposure::Clear)) => warnings.push(format!(
                "{key} has sslmode=disable and names another machine: {what} in the clear; write verify-full"
            )),
            Ok(Some(Exposure::Unverified)) => warnings.push(format!(
                "{key} has sslmode=require: whoever is between can pose as the server; write verify-full"
            )),
            Ok(None) | Err(_) => {}
        }
    }
    if asked.url.scheme() == memcached::SCHEME
        && !seals
        && memcached::Memcached::is_private(asked) == Ok(false)
    {
        warnings.push(format!(
            "{key} is memcache:// to another machine: sessions travel in the clear; set store.encryption_keys"
        ));
    }
}

/// What sessions in cookies are not.
fn in_cookies(store: &store::Config, warnings: &mut Vec<String>) {
    let text = match store.revocations().as_ref().map(|list| list.url.scheme()) {
        None => {
            "store.url is cookie: and store.revocations is not set - a logout ends a session in its own browser alone: \
             whoever has a copy of the cookie goes on until it expires"
        }
        Some("memory") => {
            "store.revocations is memory: - what has ended is forgotten with the process, and other instances don't know \
             of it"
        }
        Some(memcached::SCHEME) => {
            "store.revocations is memcache:// - a session that was ended is there again if the server evicts that, or is \
             restarted"
        }
        Some(_) => return,
    };
    warnings.push(text.to_owned());
}
