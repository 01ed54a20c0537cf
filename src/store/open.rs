//! From `store.url` to a store: which engine it names, and what is made of that.

use std::sync::Arc;

use super::boxed::Boxed;
use super::engine::Engine;
use super::moving::{Home, Moving};
use super::{
    Config, Copying, Counts, Error, Kind, Manner, Part, SCHEMES, Store, cached, cookie, file, keyed,
    memcached, memory, redis, sql,
};
use crate::time::Clock;

/// A setting, and what is wrong with it.
type Wrong = (&'static str, String);

/// What makes an engine of settings that are its own.
type Making = fn(&Config, &Counts) -> Result<Boxed, Wrong>;

/// Opens the store that `store.url` names, behind its cache if there is one, and together with the one that sessions
/// move to or from. Nothing is asked of it yet.
///
/// # Errors
/// Names the schemes that exist where the URL has another one, and says what is wrong with its settings.
pub fn open(config: &Config, rules: keyed::Rules, counts: &Counts) -> Result<Arc<dyn Store>, Error> {
    opened(config, rules, counts, engine).map_err(refused)
}

/// The same of a store that is there already: where it is not, nothing is made, and every call says so.
///
/// # Errors
/// As [`open`].
pub fn open_existing(config: &Config, rules: keyed::Rules, counts: &Counts) -> Result<Arc<dyn Store>, Error> {
    opened(config, rules, counts, existing).map_err(refused)
}

fn refused((key, what): Wrong) -> Error {
    Error::new(Kind::Refused, format!("{key}: {what}"))
}

fn opened(
    config: &Config,
    rules: keyed::Rules,
    counts: &Counts,
    engine: Making,
) -> Result<Arc<dyn Store>, Wrong> {
    if let Some(both) = between(config, counts, engine)? {
        return Ok(over(both, rules, counts));
    }
    match config.url.scheme() {
        cookie::SCHEME => {
            let cookies = counts.cookies.clone();
            let Some(of_list) = config.revocations() else {
                return Ok(Arc::new(cookie::Cookie::new(rules, cookies)));
            };
            let list = engine(&of_list, counts).map_err(|(key, what)| (Part::Revocations.key(key), what))?;
            Ok(Arc::new(cookie::Cookie::with_list(list, rules, cookies)))
        }
        // These are asked most often, and cost least: no box comes between.
        "memory" => Ok(over(memory::Memory::new(config, counts.evictions.clone()), rules, counts)),
        scheme if redis::SCHEMES.contains(&scheme) => {
            Ok(over(redis::Redis::new(config, counts.connections.clone())?, rules, counts))
        }
        _ => {
            let database = engine(config, counts)?;
            let Some(of_cache) = config.cache() else { return Ok(over(database, rules, counts)) };
            let cache = engine(&of_cache, counts).map_err(|(key, what)| (Part::Cache.key(key), what))?;
            let both = cached::Cached::new(database, cache, config, Clock::system(), counts.cache.clone());
            Ok(over(both, rules, counts))
        }
    }
}

/// The two stores that sessions move between, if there are two.
fn between(config: &Config, counts: &Counts, engine: Making) -> Result<Option<Moving<Boxed, Boxed>>, Wrong> {
    let Some((home, other)) = config.other() else { return Ok(None) };
    let here = engine(config, counts)?;
    let there = engine(&other, counts).map_err(|(key, what)| (home.other().key(key), what))?;
    let (old, new) = match home {
        Home::Old => (here, there),
        Home::New => (there, here),
    };
    Ok(Some(Moving::new(old, new, home, Clock::system(), counts.moved.clone())))
}

/// Are the two stores that sessions move between one, in whatever words they are named? `false` where they can't say,
/// or are still to be made, and where there is one alone.
pub(super) async fn are_one(config: &Config) -> bool {
    match between(config, &Counts::unseen(), existing) {
        Ok(Some(both)) => both.are_one().await == Ok(true),
        _ => false,
    }
}

/// Opens two stores to copy or move sessions from one to the other: each is `store.url` of its own settings, and is
/// called by what stands before them. Of the old one nothing is made, where it is not there.
///
/// # Errors
/// As [`open`]; names the store that can't be used.
pub fn copying(
    (old_name, from): (&str, &Config),
    (new_name, to): (&str, &Config),
    manner: Manner,
    counts: &Counts,
) -> Result<Copying, Error> {
    let of = |name, config, making: Making| {
        making(config, counts).map_err(|(key, what)| {
            let key = if key == "store.url" { name } else { key };
            Error::new(Kind::Refused, format!("{key}: {what}"))
        })
    };
    let (old, new) = (of(old_name, from, existing)?, of(new_name, to, engine)?);
    let between = Moving::new(old, new, Home::New, Clock::system(), counts.moved.clone());
    Ok(Copying::new(between, manner, from))
}

/// A store that keeps its records on an engine.
fn over(engine: impl Engine, rules: keyed::Rules, counts: &Counts) -> Arc<dyn Store> {
    let counts = keyed::Counts {
        expiries: counts.expiries.clone(),
        conflicts: counts.conflicts.clone(),
        old_seals: counts.old_seals.clone(),
    };
    Arc::new(keyed::Keyed::new(engine, rules, counts))
}

/// The engine that a URL names, which makes nothing: neither a folder nor a file nor a table.
fn existing(config: &Config, counts: &Counts) -> Result<Boxed, Wrong> {
    if config.url.scheme() == file::SCHEME {
        return Ok(Boxed::new(file::File::existing(config).map_err(|what| ("store.url", what))?));
    }
    engine(&Config { create_table: false, ..config.clone() }, counts)
}

/// The engine that a URL names, without a cache before it.
fn engine(config: &Config, counts: &Counts) -> Result<Boxed, Wrong> {
    let connections = || counts.connections.clone();
    Ok(match config.url.scheme() {
        "memory" => Boxed::new(memory::Memory::new(config, counts.evictions.clone())),
        scheme if redis::SCHEMES.contains(&scheme) => Boxed::new(redis::Redis::new(config, connections())?),
        "sqlite" => Boxed::new(sql::Sqlite::engine(config, &connections())?),
        "postgres" | "postgresql" => Boxed::new(sql::Postgres::engine(config, &connections())?),
        "mysql" => Boxed::new(sql::MySql::engine(config, &connections())?),
        file::SCHEME => Boxed::new(file::File::new(config).map_err(|what| ("store.url", what))?),
        memcached::SCHEME => Boxed::new(memcached::Memcached::new(config, connections())?),
        // The URL may hold a password.
        _ => return Err(("store.url", format!("there are {}", SCHEMES.join(", ")))),
    })
}
