//! Tunnels: after the backend's 101, bytes pass in both directions, and nobody looks at them.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::backend::Connection;
use crate::drain::Guard;
use crate::telemetry::metrics::Metrics;

/// Joins both sides once each has changed its protocol. Ends when either does, or with `stop`.
pub fn tunnel(
    client: OnUpgrade,
    mut backend: Connection,
    metrics: &Arc<Metrics>,
    guard: Guard,
    stop: CancellationToken,
) {
    let raised = metrics.tunnel();
    tokio::spawn(async move {
        let joined = async {
            let client = client.await.map_err(std::io::Error::other)?;
            copy_bidirectional(&mut TokioIo::new(client), &mut backend).await
        };
        if let Some(Err(error)) = stop.run_until_cancelled(joined).await {
            debug!("a tunnel broke: {error}");
        }
        drop((raised, guard));
    });
}
