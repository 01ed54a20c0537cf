//! What is counted of a cache.

use prometheus::IntCounter;

/// What became of what a cache was asked.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Readings that the cache answered.
    pub hits: IntCounter,
    /// Readings that went on to the database.
    pub misses: IntCounter,
    /// Calls that it did not answer.
    pub errors: IntCounter,
    /// Writes that waited until nothing older could be in it (`store.cache_on_error = "wait"`).
    pub waits: IntCounter,
    /// Writes that were acknowledged while something older may have been in it (`"fast"`).
    pub unsettled: IntCounter,
}
