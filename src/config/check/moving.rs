//! `store.next` and `store.previous`, and what they ask of other settings.

use super::{Report, engine};
use crate::store;

/// Checks the one that is set, if one is.
pub(super) fn check(store: &store::Config, report: &mut Report) {
    if !store.next.is_empty() && !store.previous.is_empty() {
        let remedy = "set store.next while the old store is written, or store.previous once the new one is";
        return report.add("store.next", "is set, and so is store.previous", remedy);
    }
    let Some((home, other)) = store.other() else { return };
    let part = home.other();
    let key = part.key("store.url");
    for (named, url) in [(key, &other.url), ("store.url", &store.url)] {
        if store::cookie::SCHEME == url.scheme() {
            return report.add(
                named,
                "is cookie:, and a browser's sessions move nowhere",
                "name another store",
            );
        }
        if url.scheme() == "memory" {
            return report.add(
                named,
                "is memory:, which nobody shares: nothing can move to or from there",
                "name another store",
            );
        }
    }
    if other.url == store.url {
        return report.add(key, "is what store.url is", "name the other store, or remove it");
    }
    if !store.cache.is_empty() {
        let remedy = "remove it until the move is done";
        report.add(
            "store.cache",
            format!("is set, and so is {key}: others would read what has left"),
            remedy,
        );
    }
    engine(&other, report, part);
}
