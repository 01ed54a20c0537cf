//! `store.url = "cookie:"`, and what it asks of other settings: one that would have no effect is a mistake.

use super::{Report, engine};
use crate::config::Config;
use crate::store::{self, Part, Unsealed};
use crate::wire::chunks;
use crate::wire::jar::Jar;

/// What all other lines of a request's head may well take, in bytes.
const BESIDES: usize = 4096;
/// Bytes of data that a session has to have room for, or there is no use in it.
const LEAST: usize = 100;

/// Checks them.
pub(super) fn check(config: &Config, report: &mut Report) {
    let Config { store, cookie, session, proxy, .. } = config;
    if store.url.expose() != "cookie:" {
        report.add("store.url", "cookie: has something behind it", "write cookie:");
    }
    if !store.has_keys() {
        let remedy = "let coatroom keys generate make one, and give it to each instance";
        report.add("store.encryption_keys", "is empty, and cookie: seals sessions with it", remedy);
    }
    if store.unsealed == Unsealed::Write {
        report.add("store.unsealed", "is \"write\", and a session in a cookie is always sealed", "remove it");
    }
    for (key, set) in
        [("cookie.keys", !cookie.keys.is_empty()), ("cookie.keys_file", !cookie.keys_file.is_empty())]
    {
        if set {
            report.add(key, "is set, and what cookie: seals needs no signature", "remove it");
        }
    }
    if session.subject {
        let what = "is true, and cookie: has nowhere to file a session under its user";
        report.add("session.subject", what, "set it to false, or choose another store");
    }
    for (n, old) in cookie.previous.iter().enumerate() {
        let names = [(&old.name, &cookie.name), (&cookie.name, &old.name)];
        let collides = |(one, other): (&String, &String)| {
            one.strip_prefix(&**other).is_some_and(|suffix| chunks::is_suffix(suffix.as_bytes()))
        };
        if names.into_iter().any(collides) {
            let what = "one of this name and cookie.name is the name of a chunk of the other";
            report.add(
                format!("cookie.previous[{n}].name"),
                what,
                "remove it, or choose another cookie.name",
            );
        }
    }
    if let Ok(jar) = Jar::new(cookie).map(Jar::of_sealed)
        && store::cookie::fits(jar.room(1)) < LEAST
    {
        let what = "leaves no room for a session: browsers keep 4,096 bytes of a cookie, attributes included";
        report.add("cookie.name", what, "make it, cookie.domain or cookie.path shorter");
    }
    let takes = store.cookie_chunks.min(chunks::MOST) * chunks::COOKIE + BESIDES;
    if proxy.max_head_bytes < takes {
        let what = format!(
            "{} is too little: store.cookie_chunks = {} takes up to {takes} with what comes beside",
            proxy.max_head_bytes, store.cookie_chunks
        );
        report.add("proxy.max_head_bytes", what, format!("set it to {takes} or more"));
    }
    match store.revocations() {
        Some(list) if list.in_cookies() => {
            let what = "is cookie:, which keeps nothing";
            report.add("store.revocations", what, "name a store that does, such as redis://host");
        }
        Some(list) => engine(&list, report, Part::Revocations),
        None => {}
    }
}
