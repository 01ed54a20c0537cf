//! Copying sessions from one store to another, for `coatroom copy`.

use tokio::runtime::Builder;

use super::{Error, counts};
use crate::config::Config;
use crate::store::{self, Url};
pub use crate::store::{Manner, Tally};
use crate::telemetry::metrics::Metrics;
use crate::time::Length;

/// What a call may take at least: nobody waits for a response.
const PATIENCE: Length = Length::secs(10);

/// What the two are called.
const FROM: &str = "--from";
const TO: &str = "--to";

/// Copies or moves all sessions, be sidecars serving them at the time or not; `told` is told again and again what has
/// become of them so far.
///
/// A store that is `store.url` has the password of that, another one `store.move_password`; everything else that the
/// settings say of a store holds for both.
///
/// # Errors
/// Names the one that can't be used, or says what a store said; what was done stays so.
pub fn copy(
    config: &Config,
    from: &str,
    to: &str,
    manner: Manner,
    told: impl FnMut(&Tally),
) -> Result<Tally, Error> {
    let (from, to) = (&Url::from(from), &Url::from(to));
    if manner == Manner::Move && !config.store.cache.is_empty() {
        let what = "store.cache: sidecars would read from it what has been moved; remove it everywhere first";
        return Err(Error(what.to_owned()));
    }
    let of = |url: &Url| {
        let mut store =
            if *url == config.store.url { config.store.clone() } else { config.store.alone(url.clone()) };
        store.timeout = store.timeout.max(PATIENCE);
        store.commit_timeout = store.commit_timeout.max(PATIENCE);
        store
    };
    for (flag, url) in [(FROM, from), (TO, to)] {
        if url.scheme() == "memory" {
            let what = "memory: lies in the sidecar's own process, which nobody else can look into";
            return Err(Error(format!("{flag}: {what}")));
        }
    }
    let metrics = Metrics::new(&[], &store::Kind::ALL.map(store::Kind::label));
    let copying = store::copying((FROM, &of(from)), (TO, &of(to)), manner, &counts(&metrics))
        .map_err(|error| Error(error.to_string()))?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let said = |error: store::Error| Error(error.to_string());
        // Whoever moves sessions onto themselves leaves none.
        copying.can_be_listed().await.map_err(|error| Error(format!("{FROM}: {error}")))?;
        if copying.are_one().await.map_err(said)? {
            return Err(Error("--from and --to are the same store".to_owned()));
        }
        copying.run(told).await.map_err(said)
    })
}
