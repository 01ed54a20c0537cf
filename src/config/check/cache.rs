//! `store.cache`, and what it asks of other settings.

use std::time::Duration;

use super::{Report, server};
use crate::config::problem::suggest;
use crate::store::{self, CacheOnError, Part, SCHEMES, file, redis, sql};
use crate::time::Length;

/// The longest that a save needs besides waiting until a cache that does not answer has nothing old.
const BESIDES: Duration = Duration::from_millis(500);

/// Checks it, if there is one.
pub(super) fn check(store: &store::Config, report: &mut Report) {
    let Some(of_cache) = store.cache() else { return };
    report.some_time("store.cache_lease", store.cache_lease);
    let scheme = store.url.scheme();
    if scheme != file::SCHEME && !sql::SCHEMES.contains(&scheme) {
        let what = "stands before a database or files only, and store.url is neither";
        return report.add("store.cache", what, "remove it: that store is as fast");
    }
    let scheme = of_cache.url.scheme();
    if redis::SCHEMES.contains(&scheme) {
        server(&of_cache, redis::Redis::check(&of_cache), report, Part::Cache);
    } else if of_cache.url.expose() != "memory:" {
        let fits = |written: &&str| {
            let scheme = written.trim_end_matches(':');
            scheme == "memory" || redis::SCHEMES.contains(&scheme)
        };
        let remedy = suggest(&format!("{scheme}:"), SCHEMES.into_iter().filter(fits));
        report.add("store.cache", "is neither a Redis nor memory:", remedy);
    }
    let least = store.cache_lease.0 + BESIDES;
    if store.cache_on_error == CacheOnError::Wait && store.commit_timeout.0 < least {
        let what = format!(
            "{} is too short: a save waits for store.cache_lease ({}) while the cache does not answer",
            store.commit_timeout, store.cache_lease
        );
        let remedy = format!("set it to {} or more, or store.cache_on_error to \"fast\"", Length(least));
        report.add("store.commit_timeout", what, remedy);
    }
}
