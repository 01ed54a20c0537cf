//! Clearing expired sessions: from time to time while others are served, and once for `coatroom clear-expired`.

use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::sleep;
use tracing::{info, warn};

use super::control::Control;
use super::{Error, counts, keyed_rules};
use crate::config::Config;
use crate::session::Revision;
use crate::store::{self, Cleared};
use crate::telemetry::metrics::{Metrics, Operation};
use crate::time::{Clock, Stopwatch, millis};

/// How long whoever clears keeps others from it; it is renewed while there is more to do.
const LEASE: Duration = Duration::from_secs(60);
/// When it is renewed.
const RENEWED: Duration = Duration::from_secs(20);
/// When it is tried again after the store could not do it, unless a round is due before.
const AGAIN: Duration = Duration::from_secs(10);

impl Control {
    /// Clears expired sessions from time to time, for ever.
    pub(super) async fn clear(&self) {
        let mut lease = None;
        loop {
            let mut longest = Duration::MAX;
            if !self.store.clears_itself()
                && let Err(error) = self.round(&mut lease).await
            {
                self.metrics.store_error(Operation::ClearExpired, error.kind.label());
                warn!("expired sessions can't be cleared: {error}");
                longest = AGAIN;
            }
            self.pause(|config| config.store.clears_every().min(longest)).await;
        }
    }

    /// Clears until nothing is left that has ended, unless somebody else of the fleet does. The lease that it has then,
    /// be it done or not, is there for the next round to be its own again.
    async fn round(&self, lease: &mut Option<Revision>) -> Result<(), store::Error> {
        let (whole, mut cleared) = (Stopwatch::start(), Cleared::default());
        let done = self.batches(lease, &mut cleared).await;
        if cleared.removed > 0 {
            let Cleared { removed, sessions, .. } = cleared;
            let took_ms = millis(whole.elapsed());
            info!(sessions, removed, took_ms, "expired sessions were cleared");
        }
        done
    }

    /// The round itself, and what it removed, be it to its end or not.
    async fn batches(&self, lease: &mut Option<Revision>, cleared: &mut Cleared) -> Result<(), store::Error> {
        let mut held = None::<Stopwatch>;
        loop {
            let config = self.config.load_full();
            if held.as_ref().is_none_or(|held| held.elapsed() > RENEWED) {
                *lease = self.store.lease(*lease, self.clock.now(), LEASE).await?;
                if lease.is_none() {
                    return Ok(());
                }
                held = Some(Stopwatch::start());
            }
            let batch = config.store.batch();
            let ended_by = self.clock.now().minus(config.session.keep_expired.0);
            let watch = Stopwatch::start();
            let round = self.store.clear_expired(ended_by, batch).await;
            self.metrics.operation(Operation::ClearExpired, watch.elapsed());
            let round = round?;
            *cleared = cleared.and(round);
            if !round.more {
                // It has been done: others need not before it is time again.
                let rest = config.store.clears_every().mul_f64(0.75);
                *lease = self.store.lease(*lease, self.clock.now(), rest).await?;
                return Ok(());
            }
            sleep(config.store.clear_pause.0).await;
        }
    }
}

/// Clears all that ended longer ago than `older_than` in the store of the settings, be a sidecar clearing it at the
/// time or not; `told` is told again and again what has been removed so far. `None` from a store that needs no clearing.
///
/// # Errors
/// Names the setting that can't be obeyed, or says what the store said; what was removed stays so.
pub fn clear_expired(
    config: &Config,
    older_than: Duration,
    mut told: impl FnMut(Cleared),
) -> Result<Option<Cleared>, Error> {
    if config.store.url.scheme() == "memory" {
        return Err(Error(
            "store.url: memory: lies in the sidecar's own process, which clears it by itself".to_owned(),
        ));
    }
    let metrics = Metrics::new(&[], &store::Kind::ALL.map(store::Kind::label));
    // Of a store that is not there, for its name is another one, nothing is made.
    let store = store::open_existing(&config.store, keyed_rules(config)?, &counts(&metrics))
        .map_err(|error| Error(error.to_string()))?;
    if store.clears_itself() {
        return Ok(None);
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let cleared = runtime.block_on(async {
        let mut cleared = Cleared::default();
        loop {
            let batch = config.store.batch();
            let round = store.clear_expired(Clock::system().now().minus(older_than), batch).await?;
            cleared = cleared.and(round);
            told(cleared);
            if !round.more {
                return Ok(cleared);
            }
            sleep(config.store.clear_pause.0).await;
        }
    });
    let cleared = cleared.map_err(|error: store::Error| Error(format!("store.url: {error}")))?;
    Ok(Some(cleared))
}
