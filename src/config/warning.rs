//! What is allowed, but seldom meant.

use super::Config;
use crate::proxy::backend::Address;
use crate::store::{Unsealed, redis};
use crate::wire::cookie::Secure;

/// One sentence each.
pub(super) fn all(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.store.url.scheme() == "memory" {
        let text =
            "store.url is memory: - sessions die with the process and are not shared with other instances";
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
    if config.store.url.scheme().starts_with("redis") && redis::Redis::is_private(&config.store) == Ok(false)
    {
        let seals = config.store.has_keys() && config.store.unsealed != Unsealed::Write;
        let what = if seals { "the password travels" } else { "sessions and the password travel" };
        warnings
            .push(format!("store.url is redis:// to another machine: {what} in the clear; write rediss://"));
    }
    if config.store.has_keys() && config.store.unsealed == Unsealed::Write {
        warnings.push(
            "store.unsealed is \"write\": records are not sealed, store.encryption_keys only open them"
                .to_owned(),
        );
    }
    warnings
}
